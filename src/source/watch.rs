//! Watching the folder: which sources changed, and whether it is usable.

use std::{
    collections::BTreeSet,
    future::Future,
    panic,
    pin::pin,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    Folder, PATIENCE,
    beneath::SETTLE,
    error::MountError,
    inotify::{Hints, Watches},
    snapshot::{self, Snapshot},
};
use crate::core::name::SourceName;

/// Changes come in bursts: how long after the first hint the folder is looked at.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// How often a look is repeated while the folder does not settle.
const LOOKS: u32 = 10;

/// What happened to the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These sources are not what they were: changed, added or removed.
    Sources(BTreeSet<SourceName>),
    /// The folder has become usable or unusable; the first message says which it is. When it has
    /// become usable again, the sources that differ from when it last was follow at once.
    Mount(Result<(), MountError>),
    /// What the usable folder holds, in numbers; told when they differ, and after what makes them differ.
    Extent(Extent),
}

/// What the folder holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many sources.
    pub sources: usize,
    /// When the newest of them came, by the clock of the file system.
    pub newest: Option<SystemTime>,
}

/// A change, and since when it could have been known.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// What happened.
    pub change: Change,
    /// When the kernel told of it; without its hint, when the folder was looked at.
    pub since: Instant,
}

/// Watches the folder until `shutdown`, or until nobody listens. `poll` is how often it is looked at
/// without any hint: hints of the kernel can get lost, a remounted folder gives none.
pub async fn watch(folder: Folder, poll: Duration, changes: mpsc::Sender<Noticed>, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = shutdown => {}
        () = run(folder, poll, changes, Watches::new()) => {}
    }
}

pub(super) async fn run(folder: Folder, poll: Duration, changes: mpsc::Sender<Noticed>, mut watches: Watches) {
    let hints = watches.hints();
    let mut observer = Observer::default();
    let mut since = Instant::now();
    let tell = async |told: Vec<Change>, since| {
        for change in told {
            // Nobody listens any more: that is seen below.
            let _ = changes.send(Noticed { change, since }).await;
        }
    };
    loop {
        let looking = look_until_settled(&folder, watches, &hints);
        let seen;
        (seen, watches) =
            beyond(PATIENCE, looking, async || tell(observer.observe(Err(MountError::Silent)), since).await).await;
        tell(observer.observe(seen), since).await;
        tokio::select! {
            () = changes.closed() => return,
            () = hints.next() => {
                since = Instant::now();
                sleep(DEBOUNCE).await;
            }
            () = sleep(poll) => since = Instant::now(),
        }
    }
}

/// Waits for the work, however long it takes; if that is longer than `patience`, the word is passed once.
async fn beyond<T>(patience: Duration, work: impl Future<Output = T>, pass: impl AsyncFnOnce()) -> T {
    let mut work = pin!(work);
    if let Ok(done) = timeout(patience, &mut work).await {
        return done;
    }
    pass().await;
    work.await
}

/// Looks until every folder seen was watched before the look began, so that nothing after it can be
/// missed, and nothing in it has changed too recently to be told from a further change.
async fn look_until_settled(
    folder: &Folder,
    mut watches: Watches,
    hints: &Hints,
) -> (Result<Snapshot, MountError>, Watches) {
    for _ in 1..LOOKS {
        hints.drain();
        let (seen, unwatched);
        (seen, unwatched, watches) = look(folder, watches).await;
        match &seen {
            _ if unwatched => {}
            Ok(snapshot) if !snapshot.settled => sleep(SETTLE).await,
            _ => return (seen.and_then(Snapshot::if_mounted), watches),
        }
    }
    let (seen, _, watches) = look(folder, watches).await;
    (seen.and_then(Snapshot::if_mounted), watches)
}

/// One look, and watches on all it has seen; says whether a folder was not watched before.
async fn look(folder: &Folder, mut watches: Watches) -> (Result<Snapshot, MountError>, bool, Watches) {
    let folder = folder.clone();
    let blocking = spawn_blocking(move || {
        let seen = snapshot::scan(folder.path());
        let unwatched = watches.follow(folder.path(), seen.as_ref().unwrap_or(&Snapshot::default()));
        (seen, unwatched, watches)
    });
    match blocking.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(looked) => looked,
        Err(Ok(cause)) => panic::resume_unwind(cause),
        // The runtime is shutting down: there is nothing left to watch for.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Turns what is seen, one look after another, into changes.
#[derive(Debug, Default)]
struct Observer {
    mount: Option<Result<(), MountError>>,
    /// The last snapshot of a usable folder.
    good: Snapshot,
}

impl Observer {
    fn observe(&mut self, seen: Result<Snapshot, MountError>) -> Vec<Change> {
        let state = seen.as_ref().map(drop).map_err(|error| *error);
        let mut changes = Vec::new();
        let first = self.mount.is_none();
        if self.mount != Some(state) {
            self.mount = Some(state);
            changes.push(Change::Mount(state));
        }
        if let Ok(snapshot) = seen {
            let changed = snapshot.changed_since(&self.good);
            let (before, extent) = (self.good.extent(), snapshot.extent());
            self.good = snapshot;
            // The very first snapshot is what everything starts from, not a change.
            if !first && !changed.is_empty() {
                changes.push(Change::Sources(changed));
            }
            if extent != before {
                changes.push(Change::Extent(extent));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::{names, swap_in};

    /// A snapshot of real files, one per name and content.
    fn snapshot(files: &[(&str, &str)]) -> Snapshot {
        let mount = tempfile::tempdir().unwrap();
        swap_in(mount.path(), files);
        snapshot::scan(mount.path()).unwrap()
    }

    /// What is observed, but for the numbers.
    fn observed(observer: &mut Observer, seen: Result<Snapshot, MountError>) -> Vec<Change> {
        let changes = observer.observe(seen).into_iter();
        changes.filter(|change| !matches!(change, Change::Extent(_))).collect()
    }

    #[test]
    fn the_extent_is_told_when_it_differs() {
        let mut observer = Observer::default();
        let seen = snapshot(&[("a", "1"), ("b", "1")]);
        let extent = seen.extent();
        assert_eq!(extent.sources, 2);
        let age = extent.newest.and_then(|newest| newest.elapsed().ok()).expect("a time in the past");
        assert!(age < Duration::from_secs(600), "{age:?}");
        assert_eq!(observer.observe(Ok(seen.clone())), [Change::Mount(Ok(())), Change::Extent(extent)]);
        assert_eq!(observer.observe(Ok(seen)), []);
        observer.observe(Err(MountError::Empty));
        let after = snapshot(&[("a", "1")]);
        let (extent, changes) = (after.extent(), observer.observe(Ok(after)));
        assert_eq!(changes.last(), Some(&Change::Extent(extent)));
    }

    #[test]
    fn the_first_snapshot_is_no_change_and_a_state_is_told_once() {
        let mut observer = Observer::default();
        let seen = snapshot(&[("a", "1"), ("b", "1")]);
        assert_eq!(observed(&mut observer, Ok(seen.clone())), [Change::Mount(Ok(()))]);
        assert_eq!(observed(&mut observer, Ok(seen)), []);
    }

    #[test]
    fn an_unusable_folder_changes_no_source_and_what_differs_afterwards_is_told() {
        let mut observer = Observer::default();
        let before = snapshot(&[("a", "1")]);
        let after = before.clone().with(snapshot(&[("b", "1")]));
        observed(&mut observer, Ok(before));
        for error in [MountError::Empty, MountError::Missing] {
            assert_eq!(observed(&mut observer, Err(error)), [Change::Mount(Err(error))]);
            assert_eq!(observed(&mut observer, Err(error)), []);
        }
        let back = [Change::Mount(Ok(())), Change::Sources(names(["b"]))];
        assert_eq!(observed(&mut observer, Ok(after)), back);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_once_and_waited_for() {
        for (takes, expected) in [(4, 0), (60, 1)] {
            let mut told = 0;
            let work = async {
                sleep(Duration::from_secs(takes)).await;
                "done"
            };
            assert_eq!(beyond(PATIENCE, work, async || told += 1).await, "done");
            assert_eq!(told, expected, "after {takes} s");
        }
    }

    #[test]
    fn a_folder_that_was_unusable_from_the_start_tells_all_its_sources() {
        let mut observer = Observer::default();
        assert_eq!(observed(&mut observer, Err(MountError::Missing)), [Change::Mount(Err(MountError::Missing))]);
        let told = [Change::Mount(Ok(())), Change::Sources(names(["a", "b"]))];
        assert_eq!(observed(&mut observer, Ok(snapshot(&[("a", "1"), ("b", "1")]))), told);
    }
}
