//! Watching real folders. Nothing here waits for a fixed time, except to give up.

use std::{fs, os::unix::fs::symlink, path::PathBuf, time::Duration};

use tempfile::tempdir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::source::{
    Change, Noticed,
    inotify::Watches,
    snapshot,
    watch::{run, watch},
};

/// So long that what is seen was seen by a hint.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(20);

struct Watcher {
    changes: mpsc::Receiver<Noticed>,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Watcher {
    fn start(root: &Path, poll: Duration) -> Self {
        let (sender, changes) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let task = tokio::spawn(watch(Folder::new(root.to_owned()), poll, sender, stop.clone().cancelled_owned()));
        Self { changes, task, stop }
    }

    fn polling_only(root: &Path) -> Self {
        let (sender, changes) = mpsc::channel(8);
        let task = tokio::spawn(run(Folder::new(root.to_owned()), SOON, sender, Watches::none()));
        Self { changes, task, stop: CancellationToken::new() }
    }

    async fn next(&mut self) -> Change {
        loop {
            let noticed = timeout(Duration::from_secs(60), self.changes.recv()).await;
            match noticed.expect("no change in a minute").unwrap().change {
                Change::Extent(_) => {}
                change => return change,
            }
        }
    }

    /// Waits until all of these sources have been told, be it together or one after another. Nothing else may be.
    async fn until<const N: usize>(&mut self, sources: [&str; N]) {
        let mut expected = names(sources);
        while !expected.is_empty() {
            match self.next().await {
                Change::Sources(told) => {
                    assert!(told.is_subset(&names(sources)), "{told:?}");
                    expected = &expected - &told;
                }
                other => panic!("{other:?} while waiting for {expected:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_swapped_generation_tells_its_sources_and_no_others() {
    let root = tempdir().unwrap();
    write(&root.path().join("plain"), "1");
    swap_in(&root.path().join("kv/prod"), &[("crt", "1"), ("old", "1")]);
    let mut watcher = Watcher::start(root.path(), NEVER);
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    swap_in(&root.path().join("kv/prod"), &[("crt", "2"), ("new", "2")]);
    watcher.until(["kv/prod/crt", "kv/prod/old", "kv/prod/new"]).await;
    // And again: it is still being watched.
    swap_in(&root.path().join("kv/prod"), &[("crt", "3"), ("new", "3")]);
    watcher.until(["kv/prod/crt", "kv/prod/new"]).await;
}

#[tokio::test]
async fn a_mount_at_the_root_is_watched() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("crt", "1")]);
    let mut watcher = Watcher::start(root.path(), NEVER);
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    for generation in ["2", "3", "4"] {
        swap_in(root.path(), &[("crt", generation)]);
        watcher.until(["crt"]).await;
    }
}

#[tokio::test]
async fn edits_in_plain_folders_are_told_also_in_new_ones() {
    let root = tempdir().unwrap();
    write(&root.path().join("a"), "1");
    write(&root.path().join("b"), "1");
    let mut watcher = Watcher::start(root.path(), NEVER);
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    write(&root.path().join("a"), "2");
    watcher.until(["a"]).await;
    write(&root.path().join("new/deep/c"), "1");
    watcher.until(["new/deep/c"]).await;
    write(&root.path().join("new/deep/c"), "2");
    watcher.until(["new/deep/c"]).await;
    fs::remove_dir_all(root.path().join("new")).unwrap();
    watcher.until(["new/deep/c"]).await;
    fs::remove_file(root.path().join("b")).unwrap();
    watcher.until(["b"]).await;
}

#[tokio::test]
async fn an_emptied_mount_is_told_as_such_and_never_as_deleted_sources() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("a", "1"), ("b", "1")]);
    let mut watcher = Watcher::start(root.path(), NEVER);
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    // At once, by a rename: removing one by one would truly delete one source before the other.
    fs::rename(root.path().join("..data"), root.path().join("..gone")).unwrap();
    assert_eq!(watcher.next().await, Change::Mount(Err(MountError::Empty)));
    fs::rename(root.path().join("..gone"), root.path().join("..data")).unwrap();
    // Nothing has changed, so nothing is told but that the mount is back.
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    swap_in(root.path(), &[("a", "2"), ("b", "1")]);
    watcher.until(["a", "b"]).await;
}

#[tokio::test]
async fn a_root_that_comes_late_goes_and_comes_back_is_found_by_polling_and_then_watched() {
    let base = tempdir().unwrap();
    let root: PathBuf = base.path().join("mnt");
    let mut watcher = Watcher::start(&root, SOON);
    assert_eq!(watcher.next().await, Change::Mount(Err(MountError::Missing)));
    for generation in ["1", "2"] {
        // Prepared beside it and put there at once.
        let prepared = base.path().join(generation);
        swap_in(&prepared, &[("a", generation)]);
        fs::rename(prepared, &root).unwrap();
        assert_eq!(watcher.next().await, Change::Mount(Ok(())));
        watcher.until(["a"]).await;
        fs::rename(&root, base.path().join(format!("old{generation}"))).unwrap();
        assert_eq!(watcher.next().await, Change::Mount(Err(MountError::Missing)));
    }
}

#[tokio::test]
async fn a_folder_replaced_under_the_same_name_is_watched_again() {
    let root = tempdir().unwrap();
    write(&root.path().join("stays"), "1");
    write(&root.path().join("kv/a"), "1");
    let mut watcher = Watcher::start(root.path(), NEVER);
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    fs::rename(root.path().join("kv"), root.path().join(".old")).unwrap();
    watcher.until(["kv/a"]).await;
    write(&root.path().join("kv/a"), "2");
    watcher.until(["kv/a"]).await;
    write(&root.path().join("kv/a"), "3");
    watcher.until(["kv/a"]).await;
}

#[tokio::test]
async fn without_inotify_polling_finds_every_change() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("a", "1")]);
    let mut watcher = Watcher::polling_only(root.path());
    assert_eq!(watcher.next().await, Change::Mount(Ok(())));
    swap_in(root.path(), &[("a", "2")]);
    watcher.until(["a"]).await;
}

#[tokio::test]
async fn it_stops_when_asked_and_when_nobody_listens() {
    let root = tempdir().unwrap();
    write(&root.path().join("a"), "1");
    let mut watcher = Watcher::start(root.path(), NEVER);
    watcher.next().await;
    watcher.stop.cancel();
    timeout(Duration::from_secs(60), watcher.task).await.expect("still watching").unwrap();

    let mut watcher = Watcher::start(root.path(), NEVER);
    watcher.next().await;
    drop(watcher.changes);
    timeout(Duration::from_secs(60), watcher.task).await.expect("still watching").unwrap();
}

#[tokio::test]
async fn own_reads_give_no_hint_but_a_write_does() {
    let root = tempdir().unwrap();
    write(&root.path().join("plain"), "1");
    symlink("plain", root.path().join("link")).unwrap();
    swap_in(&root.path().join("kv"), &[("a", "1")]);
    let mut watches = Watches::new();
    let hints = watches.hints();
    let seen = snapshot::scan(root.path()).unwrap();
    assert!(watches.follow(root.path(), &seen), "all are new");
    assert!(!watches.follow(root.path(), &seen), "none is new");
    read(root.path(), ["plain", "link", "kv/a", "none"]).unwrap();
    snapshot::scan(root.path()).unwrap();
    // The kernel queues events before the call that causes them returns, so there is nothing to wait for.
    assert!(!hints.drain());
    write(&root.path().join("plain"), "2");
    assert!(hints.drain());
    swap_in(&root.path().join("kv"), &[("a", "2")]);
    assert!(hints.drain());
}
