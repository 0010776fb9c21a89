//! What one read returns was there at one instant.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use tempfile::tempdir;

use super::*;
use crate::source::{
    beneath::{Fault, SETTLE},
    read::Pass,
};

/// Takes a pass, lets `interfere` do its work, and says whether the pass was believed.
fn is_believed(root: &Path, wanted: [&str; 2], interfere: impl FnOnce()) -> bool {
    let wanted = names(wanted);
    let pass = Pass::take(root, &wanted).unwrap();
    interfere();
    pass.is_confirmed().unwrap()
}

#[test]
fn a_generation_replaced_during_a_read_voids_it() {
    let root = tempdir().unwrap();
    let mount = root.path().join("kv");
    for root in [root.path(), &mount] {
        let wanted = if root == mount { ["crt", "key"] } else { ["kv/crt", "kv/key"] };
        swap_in(&mount, &[("crt", "1"), ("key", "1")]);
        assert!(is_believed(root, wanted, || ()));
        assert!(!is_believed(root, wanted, || swap_in(&mount, &[("crt", "1"), ("key", "1")])));
    }
}

#[test]
fn a_source_removed_or_added_during_a_read_voids_it() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("crt", "1"), ("key", "1")]);
    assert!(!is_believed(root.path(), ["crt", "key"], || swap_in(root.path(), &[("crt", "1")])));
    assert!(!is_believed(root.path(), ["key", "none"], || swap_in(root.path(), &[("crt", "1"), ("key", "1")])));
    assert_eq!(read(root.path(), ["crt", "none"]).unwrap()["none"], Err(SourceError::Missing));
}

#[test]
fn a_plain_file_changed_during_a_read_voids_it() {
    let root = tempdir().unwrap();
    let path = |name| root.path().join(name);
    let wanted = ["crt", "key"];
    write(&path("crt"), "1");
    write(&path("key"), "1");
    thread::sleep(SETTLE);
    assert!(is_believed(root.path(), wanted, || ()));
    assert!(!is_believed(root.path(), wanted, || write(&path("crt"), "2")));
    // Until it was left alone for a while, nothing is believed at all.
    assert_eq!(Pass::take(root.path(), &names(wanted)).err(), Some(Fault::Moved));
    thread::sleep(SETTLE);
    assert!(!is_believed(root.path(), wanted, || fs::remove_file(path("key")).unwrap()));
    assert!(!is_believed(root.path(), wanted, || write(&path("key"), "3")));
}

#[test]
fn a_remounted_folder_voids_a_read() {
    let base = tempdir().unwrap();
    let root = base.path().join("mnt");
    swap_in(&root, &[("crt", "1"), ("key", "1")]);
    assert!(!is_believed(&root, ["crt", "key"], || {
        fs::rename(&root, base.path().join("old")).unwrap();
        swap_in(&root, &[("crt", "1"), ("key", "1")]);
    }));
}

/// A writer replaces pairs as fast as it can, while readers read them.
fn torn_pairs(mounts: &[(&str, &str)]) -> (u64, u64) {
    const SWAPS: u64 = 3000;
    let root = tempdir().unwrap();
    let wanted: Vec<BTreeSet<_>> =
        mounts.iter().map(|(_, prefix)| ["crt", "key"].map(|file| name(&format!("{prefix}{file}"))).into()).collect();
    let swap_all = |generation: u64| {
        for (mount, _) in mounts {
            let content = format!("generation {generation}");
            swap_in(&root.path().join(mount), &[("crt", &content), ("key", &content)]);
        }
    };
    swap_all(0);
    let done = AtomicBool::new(false);
    let folder = Folder::new(root.path().to_owned());
    let reader = || {
        let (mut whole, mut torn) = (0, 0);
        while !done.load(Ordering::Relaxed) || whole == 0 {
            for pair in &wanted {
                match folder.read(pair) {
                    Ok(contents) => {
                        let pair: Vec<_> = contents.into_values().collect();
                        // An error would be a reader told that a source is missing, which none ever is.
                        if pair[0].is_ok() && pair[0] == pair[1] { whole += 1 } else { torn += 1 }
                    }
                    // The writer was faster each time: said so, and no harm done.
                    Err(error) => assert_eq!(error, MountError::Unstable),
                }
            }
        }
        (whole, torn)
    };
    thread::scope(|scope| {
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        (1..=SWAPS).for_each(swap_all);
        done.store(true, Ordering::Relaxed);
        let counts = readers.map(|reader| reader.join().unwrap());
        (counts[0].0 + counts[1].0, counts[0].1 + counts[1].1)
    })
}

#[test]
fn no_pair_is_ever_torn() {
    let (whole, torn) = torn_pairs(&[("", "")]);

    assert_eq!(torn, 0, "of {whole}");
}

#[test]
fn no_pair_is_ever_torn_in_mounts_in_sub_folders() {
    let (whole, torn) = torn_pairs(&[("kv/prod", "kv/prod/"), ("other", "other/")]);

    assert_eq!(torn, 0, "of {whole}");
}

#[test]
fn a_snapshot_never_misses_a_source_while_generations_are_replaced() {
    let root = tempdir().unwrap();
    let swap = || swap_in(&root.path().join("kv"), &[("crt", "1"), ("key", "1")]);
    swap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..1000).for_each(|_| swap());
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            match Folder::new(root.path().to_owned()).snapshot() {
                Ok(snapshot) => assert_eq!(snapshot.sources().count(), 2),
                Err(error) => assert_eq!(error, MountError::Unstable),
            }
        }
    });
}
