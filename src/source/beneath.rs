//! Opening things beneath a folder, and nothing else.
//!
//! Every open goes through [`openat2`] with `RESOLVE_BENEATH`, one segment at a time, relative to a
//! folder that is already open: no string can leave it.

use std::{
    fs::File,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat2, readlinkat},
    io::Errno,
};

use super::error::{MountError, Refusal};

/// The name that leads to the current generation of a mount.
const DATA: &str = "..data";

/// How long a file of a plain folder must have been left alone before its content is believed. It is
/// well above the granularity of file times, so that no later write can hide behind equal times.
pub(super) const SETTLE: Duration = Duration::from_millis(100);

/// How many replaced generations in a row are chased before the caller takes a pause.
const SWAPS: u32 = 16;

/// Why something was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not there.
    Absent,
    /// It changed while it was looked at: look again.
    Moved,
    /// It is there but not to be read.
    Refused(Refusal),
    /// There is no `openat2`.
    Unsupported,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::Absent,
            // EAGAIN: a rename somewhere raced with the kernel's check; ESTALE: a network file
            // system lost track of a file that was replaced.
            Errno::AGAIN | Errno::INTR | Errno::STALE => Self::Moved,
            Errno::XDEV => Self::Refused(Refusal::LinkLeaves),
            Errno::LOOP => Self::Refused(Refusal::LinkLoop),
            Errno::ACCESS | Errno::PERM => Self::Refused(Refusal::Permission),
            Errno::NOSYS => Self::Unsupported,
            other => Self::Refused(Refusal::Io(other)),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).unwrap_or(Errno::IO).into()
    }
}

impl From<Fault> for MountError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Absent => Self::Missing,
            Fault::Moved => Self::Unstable,
            Fault::Refused(refusal) => Self::Unreadable(refusal),
            Fault::Unsupported => Self::Unsupported,
        }
    }
}

/// Calls `attempt` again while what it looks at is changing, with growing pauses: `rounds` of 20
/// take about 1.5 seconds.
pub(super) fn until_still<T>(rounds: u32, mut attempt: impl FnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    for round in 1..rounds {
        match attempt() {
            Err(Fault::Moved) => std::thread::sleep(Duration::from_millis(100.min(1 << round.min(7)))),
            settled => return settled,
        }
    }
    attempt()
}

/// What tells one state of a file from another without looking at its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The folder it was found in. While that is held open, no other folder can have this identity.
    folder: (u64, u64),
    file: (u64, u64),
    pub size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    pub kind: Kind,
}

/// What kind of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// Never opened, for this reason.
    Other(Refusal),
}

impl From<std::fs::FileType> for Kind {
    fn from(kind: std::fs::FileType) -> Self {
        match kind {
            _ if kind.is_file() => Self::File,
            _ if kind.is_dir() => Self::Folder,
            _ if kind.is_fifo() => Self::Other(Refusal::Fifo),
            _ if kind.is_socket() => Self::Other(Refusal::Socket),
            _ if kind.is_symlink() => Self::Other(Refusal::Link),
            _ => Self::Other(Refusal::Device),
        }
    }
}

/// Where an entry was found.
enum Where {
    Inside,
    Beside,
}

/// An open folder, standing for one state of it: if it keeps generations, for its current one.
#[derive(Debug)]
pub(super) struct Dir {
    handle: File,
    identity: (u64, u64),
    /// Inside a generation: its files are not changed in place, and there are no symlinks to follow.
    frozen: bool,
    /// The folder around `handle`, if that is a generation.
    around: Option<File>,
}

impl Dir {
    /// Opens the mounted folder. It is the operator's own setting, so its path may be anything.
    pub fn root(path: &Path) -> Result<Self, Fault> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::empty()) {
            Ok(folder) => Self::current(folder.into()),
            Err(Errno::NOTDIR) => Err(Fault::Refused(Refusal::NotADirectory)),
            // For opening a path EPERM has no other cause: some seccomp profiles answer so instead of ENOSYS.
            Err(Errno::PERM) => Err(Fault::Unsupported),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The folder itself if it is plain, else its current generation.
    fn current(folder: File) -> Result<Self, Fault> {
        let mut seen = None;
        for _ in 0..SWAPS {
            match open(&folder, DATA, OFlags::PATH | OFlags::DIRECTORY, false) {
                Ok(generation) => return Self::new(generation, true, Some(folder)),
                Err(Fault::Absent) => {}
                Err(fault) => return Err(fault),
            }
            // A generation that was replaced and removed in between leaves another link behind.
            match readlinkat(&folder, DATA, Vec::new()) {
                Ok(link) if seen.as_ref() == Some(&link) => return Err(Fault::Refused(Refusal::NoGeneration)),
                Ok(link) => seen = Some(link),
                Err(Errno::NOENT) => return Self::new(folder, false, None),
                Err(Errno::INVAL) => return Err(Fault::Refused(Refusal::NoGeneration)),
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Fault::Moved)
    }

    fn new(handle: File, frozen: bool, around: Option<File>) -> Result<Self, Fault> {
        let identity = identity(&handle.metadata()?);
        Ok(Self { handle, identity, frozen, around })
    }

    /// Whether this is still the state a reader would be led to.
    pub fn is_current(&self) -> bool {
        let Some(around) = &self.around else { return true };
        open(around, DATA, OFlags::PATH | OFlags::DIRECTORY, false)
            .and_then(|generation| Ok(identity(&generation.metadata()?) == self.identity))
            .unwrap_or(false)
    }

    /// Opens the folder `segment` in this one.
    pub fn enter(&self, segment: &str) -> Result<Self, Fault> {
        match self.look_up(segment, OFlags::PATH | OFlags::DIRECTORY)? {
            (folder, Where::Inside) if self.frozen => Self::new(folder, true, None),
            (folder, _) => Self::current(folder),
        }
    }

    /// What `segment` is. Nothing is opened for reading, so no permission on it is needed.
    pub fn stat(&self, segment: &str) -> Result<Stamp, Fault> {
        let (entry, _) = self.look_up(segment, OFlags::PATH)?;
        Ok(self.stamp(&entry.metadata()?))
    }

    /// Opens an entry, or a folder of that name beside the generation: a volume mounted in this mount.
    fn look_up(&self, segment: &str, flags: OFlags) -> Result<(File, Where), Fault> {
        match (open(&self.handle, segment, flags, self.frozen), &self.around) {
            (Ok(entry), _) => Ok((entry, Where::Inside)),
            (Err(Fault::Absent), Some(around)) => Ok((open_real_folder(around, segment)?, Where::Beside)),
            (Err(fault), _) => Err(fault),
        }
    }

    /// Opens the regular file `segment` for reading, if it is still the one `expected`.
    pub fn open(&self, segment: &str, expected: &Stamp) -> Result<File, Fault> {
        // NONBLOCK: should it have become a FIFO in between, this returns instead of waiting for a writer.
        let file = open(&self.handle, segment, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, self.frozen)?;
        if self.stamp(&file.metadata()?) == *expected { Ok(file) } else { Err(Fault::Moved) }
    }

    /// Whether the file has been left alone long enough to be believed.
    pub fn is_settled(&self, stamp: &Stamp, now: SystemTime) -> bool {
        self.frozen || stamp.is_settled(now)
    }

    /// The names in this folder, and of folders mounted beside this generation. Names that are not
    /// UTF-8 are left out: no source has one.
    pub fn entries(&self, limit: usize) -> Result<Vec<String>, Fault> {
        let mut names = list(&self.handle, limit)?;
        if let Some(around) = &self.around {
            names.extend(list(around, limit)?.into_iter().filter(|name| open_real_folder(around, name).is_ok()));
        }
        if names.len() > limit {
            return Err(Fault::Refused(Refusal::TooManyEntries));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn stamp(&self, meta: &std::fs::Metadata) -> Stamp {
        Stamp {
            folder: self.identity,
            file: identity(meta),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            kind: meta.file_type().into(),
        }
    }
}

impl Stamp {
    /// A time in the future comes from a file server's clock; waiting for it would never end.
    fn is_settled(&self, now: SystemTime) -> bool {
        let age = self.changed().and_then(|changed| now.duration_since(changed).ok());
        age.is_none_or(|age| age >= SETTLE)
    }

    /// When it became what it is.
    pub fn changed(&self) -> Option<SystemTime> {
        let since = Duration::new(u64::try_from(self.changed.0).ok()?, u32::try_from(self.changed.1).ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

fn identity(meta: &std::fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// Opens `segment` beneath `folder`, without symlinks if `frozen`.
fn open(folder: &File, segment: &str, flags: OFlags, frozen: bool) -> Result<File, Fault> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let resolve = if frozen { beneath | ResolveFlags::NO_SYMLINKS } else { beneath };
    match openat2(folder, segment, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) if frozen => Err(Fault::Refused(Refusal::Link)),
        Err(errno) => Err(errno.into()),
    }
}

/// The symlinks beside `..data` count as absent: they only repeat what is in the generation.
fn open_real_folder(around: &File, segment: &str) -> Result<File, Fault> {
    open(around, segment, OFlags::PATH | OFlags::DIRECTORY, true).map_err(|fault| match fault {
        Fault::Refused(Refusal::Link) => Fault::Absent,
        fault => fault,
    })
}

fn list(folder: &File, limit: usize) -> Result<Vec<String>, Fault> {
    let readable = open(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY, true)?;
    let mut names = Vec::new();
    // One more than the limit is enough to know that it is exceeded.
    for entry in rustix::fs::Dir::new(readable)?.take(limit.saturating_add(1)) {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_openat2_nothing_is_read() {
        assert_eq!(MountError::from(Fault::from(Errno::NOSYS)), MountError::Unsupported);
    }

    #[test]
    fn a_file_settles_with_time_but_a_clock_ahead_does_not_block_it() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(1000) + Duration::from_millis(seconds);
        let stamp =
            Stamp { folder: (0, 0), file: (0, 0), size: 1, modified: (0, 0), changed: (1000, 0), kind: Kind::File };
        assert!(!stamp.is_settled(at(0)) && !stamp.is_settled(at(99)));
        assert!(stamp.is_settled(at(100)));
        assert!(stamp.is_settled(SystemTime::UNIX_EPOCH));
    }
}
