//! The mounted folder: whatever lies in it, and whatever is done to it while it is read, nothing that lies outside is
//! ever read, and a read and a look at the folder tell of the same sources.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, ftruncate, mkdirat, mknodat, openat, openat2, renameat,
        symlinkat, unlinkat,
    },
    io,
};
use secrets_distributor::{
    core::name::SourceName,
    source::{Contents, Folder, MAX_BYTES, MountError, SourceError},
};
use tempfile::{TempDir, tempdir};

/// What may lie in the folder, and is looked for there.
const PLACES: [&str; 20] = [
    "a",
    "b",
    "c",
    "a/a",
    "a/b",
    "b/a",
    "a/a/a",
    "a/a/a/a",
    "a/a/a/a/a",
    "..data",
    "..1",
    "..2",
    "..1/a",
    "..1/b",
    "..1/a/a",
    "..2/a",
    "a/..data",
    "a/..1",
    "a/..1/a",
    "a/.hidden",
];

/// Where a symlink may lead, besides to one of the places: up, out, and in circles.
const WAYS: [&str; 12] = [
    ".",
    "..",
    "../..",
    "../outside",
    "../outside/a",
    "../../outside/a",
    "..data/a",
    "..data/../../outside/a",
    "/etc/passwd",
    "/proc/self/root/etc/passwd",
    "/proc/self/cwd",
    "/",
];

/// How much of an input is one layout. All of them are made before one is read: what was just made is not believed yet.
const LAYOUT: usize = 64;
const LAYOUTS: usize = 8;

/// For each layout: how many of its steps are taken while it is read, then the steps, of three bytes each.
pub fn check(bytes: &[u8]) {
    let layouts: Vec<_> = bytes.chunks(LAYOUT).take(LAYOUTS).map(Layout::make).collect();
    layouts.iter().for_each(Layout::check);
}

/// A folder, beside what must never be read.
struct Layout<'a> {
    base: TempDir,
    /// What is done to it while it is read.
    late: Vec<&'a [u8]>,
}

impl<'a> Layout<'a> {
    fn make(bytes: &'a [u8]) -> Self {
        let base = tempdir().unwrap();
        fs::create_dir(base.path().join("outside")).unwrap();
        fs::create_dir(base.path().join("mount")).unwrap();
        for outside in ["a", "outside/a", "outside/b"] {
            fs::write(base.path().join(outside), "outside").unwrap();
        }
        let (late, steps) = bytes.split_first().map_or((0, bytes), |(late, steps)| (usize::from(late % 4), steps));
        let mut steps: Vec<_> = steps.chunks_exact(3).collect();
        let late = steps.split_off(steps.len().saturating_sub(late));
        let layout = Self { base, late };
        steps.into_iter().for_each(|step| layout.take(step));
        layout
    }

    fn mount(&self) -> PathBuf {
        self.base.path().join("mount")
    }

    /// Takes a step, if it can be taken.
    fn take(&self, step: &[u8]) {
        let _ = self.step(step[0], PLACES[usize::from(step[1]) % PLACES.len()], usize::from(step[2]));
    }

    fn step(&self, kind: u8, place: &str, detail: usize) -> io::Result<()> {
        let (folder, name) = beneath(&self.mount(), place)?;
        match kind % 8 {
            0 | 1 => file(&folder, name, detail),
            2 => mkdirat(folder, name, Mode::RWXU),
            3 | 4 => {
                let ways: Vec<_> = WAYS.iter().chain(&PLACES).collect();
                let outside = self.base.path().join("outside/a");
                match ways.get(detail % (ways.len() + 1)) {
                    Some(way) => symlinkat(**way, folder, name),
                    None => symlinkat(outside, folder, name),
                }
            }
            5 => {
                let kind = if detail.is_multiple_of(2) { FileType::Fifo } else { FileType::Socket };
                mknodat(folder, name, kind, Mode::RUSR, 0)
            }
            6 => unlinkat(&folder, name, AtFlags::empty()).or_else(|_| unlinkat(folder, name, AtFlags::REMOVEDIR)),
            _ => {
                let (other, to) = beneath(&self.mount(), PLACES[detail % PLACES.len()])?;
                renameat(folder, name, other, to)
            }
        }
    }

    fn check(&self) {
        let folder = Folder::new(self.mount());
        let names: BTreeSet<_> = PLACES.iter().filter_map(|place| SourceName::parse(place).ok()).collect();
        thread::scope(|scope| {
            let taking = scope.spawn(|| self.late.iter().for_each(|step| self.take(step)));
            assert_inside(&names, folder.read(&names));
            taking.join().unwrap();
        });
        // By now nothing is done to it any more.
        let read = folder.read(&names);
        assert_inside(&names, read.clone());
        assert_seen(&folder, read);
    }
}

/// The folder of a place, opened so that no symlink leads out of it, and the name in it.
fn beneath<'p>(mount: &Path, place: &'p str) -> io::Result<(OwnedFd, &'p str)> {
    let (parent, name) = place.rsplit_once('/').unwrap_or((".", place));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mount = openat2(CWD, mount, flags, Mode::empty(), ResolveFlags::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok((openat2(mount, parent, flags, Mode::empty(), resolve)?, name))
}

/// A file; a few are empty, or larger than what is read.
fn file(folder: &OwnedFd, name: &str, detail: usize) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
    match detail % 8 {
        0 => Ok(()),
        1 => ftruncate(file, MAX_BYTES + 1),
        2 => io::write(&file, b"inside").and_then(|_| ftruncate(file, MAX_BYTES)),
        _ => io::write(&file, b"inside").map(drop),
    }
}

fn assert_inside(names: &BTreeSet<SourceName>, read: Result<Contents, MountError>) {
    let Ok(contents) = read else { return };
    assert!(contents.keys().eq(names), "{contents:?}");
    let found = contents.values().flatten();
    assert!(found.clone().all(|content| content.expose().starts_with(b"inside")), "{contents:?}");
    assert!(found.map(|content| content.len() as u64).sum::<u64>() <= MAX_BYTES, "{contents:?}");
}

/// What is read is seen, and what is seen is there.
fn assert_seen(folder: &Folder, read: Result<Contents, MountError>) {
    let (contents, snapshot) = match (read, folder.snapshot()) {
        (Ok(contents), Ok(snapshot)) => (contents, snapshot),
        (Ok(contents), Err(error)) => return assert!(contents.values().all(Result::is_err), "{contents:?}, {error}"),
        (Err(error), Ok(snapshot)) => panic!("{error}, {snapshot:?}"),
        (Err(one), Err(other)) => return assert_eq!(one, other),
    };
    let seen: BTreeSet<_> = snapshot.sources().collect();
    for (name, found) in &contents {
        let is_there = !matches!(found, Err(SourceError::Missing | SourceError::NotMounted));
        // A folder is no source, and in one that cannot be entered nothing is seen.
        let may_differ = matches!(found, Err(SourceError::Unreadable(_)));
        assert!(may_differ || is_there == seen.contains(name), "{name}: {found:?}, {snapshot:?}");
    }
}
