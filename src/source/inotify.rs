//! Hints from the kernel that something in a folder may have changed.
//!
//! Only hints: what changed is found by looking. A lost hint costs time until the next poll, never
//! correctness, so every failure here is survivable.

use std::{collections::BTreeSet, future, io, os::fd::OwnedFd, path::Path, sync::Arc};

use rustix::{
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::snapshot::Snapshot;

/// What is worth a look. Neither OPEN nor ACCESS nor CLOSE_NOWRITE: one's own reads must not wake.
const MASK: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The folders being watched: always folders, since a watched file is lost when it is replaced.
#[derive(Debug)]
pub(super) struct Watches {
    queue: Option<Arc<OwnedFd>>,
    watched: BTreeSet<i32>,
    warned: bool,
}

impl Watches {
    /// None yet. Where the kernel does not offer any, polling remains.
    pub fn new() -> Self {
        let mut watches = Self::none();
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(queue) => watches.queue = Some(Arc::new(queue)),
            Err(errno) => watches.warn(errno),
        }
        watches
    }

    /// Polling only.
    pub fn none() -> Self {
        Self { queue: None, watched: BTreeSet::new(), warned: false }
    }

    /// The end on which hints arrive.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types whose file descriptor may change; this one's cannot"
    )]
    pub fn hints(&mut self) -> Hints {
        let queue = self.queue.clone().map(AsyncFd::new).transpose();
        Hints(queue.unwrap_or_else(|error| {
            self.warn(Errno::from_io_error(&error).unwrap_or(Errno::IO));
            None
        }))
    }

    /// Watches the root and the folders of the snapshot, and nothing else. Says whether one is new:
    /// what happened in it before is not known. A folder that was replaced is a new one.
    pub fn follow(&mut self, root: &Path, seen: &Snapshot) -> bool {
        let Some(queue) = self.queue.clone() else { return false };
        let mut watched = BTreeSet::new();
        let paths = seen.folders.iter().map(|name| root.join(name.as_str()));
        for path in std::iter::once(root.to_owned()).chain(paths) {
            match inotify::add_watch(&queue, &path, MASK) {
                // The kernel answers with the same number for a folder that is watched already.
                Ok(watch) => drop(watched.insert(watch)),
                // It is gone again, which the next look will show.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => self.warn(errno),
            }
        }
        for gone in self.watched.difference(&watched) {
            // Fails if the kernel has dropped it already, together with the folder.
            let _ = inotify::remove_watch(&queue, *gone);
        }
        let news = !watched.is_subset(&self.watched);
        self.watched = watched;
        news
    }

    fn warn(&mut self, errno: Errno) {
        if !self.warned {
            self.warned = true;
            warn!(error = %errno, "cannot watch the mounted folder (see fs.inotify in sysctl): changes are found by polling only");
        }
    }
}

/// Where hints arrive.
#[derive(Debug)]
pub(super) struct Hints(Option<AsyncFd<Arc<OwnedFd>>>);

impl Hints {
    /// Waits for a hint and takes it; forever if there can be none.
    pub async fn next(&self) {
        if let Some(queue) = &self.0 {
            while let Ok(mut ready) = queue.readable().await {
                if let Ok(Ok(())) = ready.try_io(|queue| drain(queue.get_ref())) {
                    return;
                }
            }
        }
        future::pending().await
    }

    /// Takes all hints that have arrived; says whether there was one.
    pub fn drain(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| drain(queue.get_ref()).is_ok())
    }
}

/// Empties the queue; "would block" if it was empty.
fn drain(queue: &OwnedFd) -> io::Result<()> {
    let mut events = [0; 4096];
    rustix::io::read(queue, &mut events)?;
    while rustix::io::read(queue, &mut events).is_ok() {}
    Ok(())
}
