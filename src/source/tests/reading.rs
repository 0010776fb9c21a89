//! Layouts, content and limits.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    thread,
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    thread::{CapabilitySet, capabilities, set_capabilities},
};
use tempfile::tempdir;

use super::{super::*, *};
use crate::source::{Refusal, beneath::SETTLE};

/// Runs `test` without the power of root to ignore permissions, so that it tells the same to every user.
fn without_override(test: impl FnOnce() + Send) {
    let drop_and_test = || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).unwrap();
        test();
    };
    // Capabilities belong to the thread, so that they are gone with it.
    thread::scope(|scope| scope.spawn(drop_and_test).join().unwrap());
}

#[test]
fn every_layout_is_read_by_the_same_names() {
    let root = tempdir().unwrap();
    write(&root.path().join("plain"), "1");
    write(&root.path().join("sub/plain"), "2");
    swap_in(&root.path().join("kv/prod"), &[("db.password", "3"), ("cert/0", "4")]);
    write(&root.path().join("a/b/c/d"), "5");
    let read = read(root.path(), ["plain", "sub/plain", "kv/prod/db.password", "kv/prod/cert/0", "a/b/c/d"]).unwrap();
    let found: Vec<_> = read.into_iter().map(|(name, content)| (name.to_string(), content.unwrap())).collect();
    let expected =
        [("a/b/c/d", "5"), ("kv/prod/cert/0", "4"), ("kv/prod/db.password", "3"), ("plain", "1"), ("sub/plain", "2")];
    assert_eq!(found, expected.map(|(name, content)| (name.to_owned(), bytes(content))));
}

#[test]
fn a_mount_at_the_root_may_have_another_mounted_inside_it() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("name/0", "outer")]);
    swap_in(&root.path().join("kv"), &[("pw", "inner")]);
    assert_eq!(read_one(root.path(), "name/0"), Ok(bytes("outer")));
    assert_eq!(read_one(root.path(), "kv/pw"), Ok(bytes("inner")));
    let snapshot = Folder::new(root.path().to_owned()).snapshot().unwrap();
    assert_eq!(snapshot.sources().cloned().collect::<BTreeSet<_>>(), names(["kv/pw", "name/0"]));
}

#[test]
fn a_source_beside_data_is_not_in_the_generation() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("pw", "1")]);
    write(&root.path().join("stray"), "not of this generation");
    symlink("stray", root.path().join("link")).unwrap();
    for missing in ["stray", "link", "pw/deeper", "none", "none/at/all"] {
        assert_eq!(read_one(root.path(), missing), Err(SourceError::Missing), "{missing}");
    }
}

#[test]
fn content_is_kept_byte_for_byte() {
    let root = tempdir().unwrap();
    let contents: [&[u8]; 5] = [b"a\r\nb\r\n", b"trailing\n", b"\xff\xfe\x00\x80", b"\0", " \u{fc} ".as_bytes()];
    for content in contents {
        swap_in(root.path(), &[("s", content)]);
        assert_eq!(read_one(root.path(), "s"), Ok(bytes(content)));
        write(&root.path().join("plain/s"), content);
        assert_eq!(read_one(root.path(), "plain/s"), Ok(bytes(content)));
    }
}

#[test]
fn too_large_is_refused_alone_and_together() {
    let root = tempdir().unwrap();
    let full = vec![7; usize::try_from(MAX_BYTES).unwrap()];
    swap_in(root.path(), &[("full", full.clone()), ("large", vec![7; 2 << 20]), ("one", vec![7])]);
    assert_eq!(read_one(root.path(), "full"), Ok(bytes(&full)));
    assert_eq!(read_one(root.path(), "large"), Err(SourceError::TooLarge { bytes: 2 << 20 }));
    let both = read(root.path(), ["full", "one"]).unwrap();
    assert_eq!(both["full"], Ok(bytes(&full)));
    assert_eq!(both["one"], Err(SourceError::TooLargeTogether));
}

#[test]
fn an_empty_source_is_refused_and_leaves_the_others() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("empty", ""), ("full", "1")]);
    let both = read(root.path(), ["empty", "full"]).unwrap();
    assert_eq!(both["empty"], Err(SourceError::Empty));
    assert_eq!(both["full"], Ok(bytes("1")));
}

#[test]
fn only_regular_files_are_opened() {
    let root = tempdir().unwrap();
    write(&root.path().join("dir/file"), "1");
    mkfifoat(CWD, root.path().join("fifo"), Mode::RWXU).unwrap();
    let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
    for (name, refusal) in [("dir", Refusal::Directory), ("fifo", Refusal::Fifo), ("socket", Refusal::Socket)] {
        assert_eq!(read_one(root.path(), name), Err(SourceError::Unreadable(refusal)), "{name}");
    }
    // Every system has these devices, whereas making one takes root.
    for device in ["zero", "null"] {
        let read = read_one(Path::new("/dev"), device);
        assert_eq!(read, Err(SourceError::Unreadable(Refusal::Device)), "{device}");
    }
}

#[test]
fn a_fifo_in_a_generation_is_refused_as_well() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("pw", "1")]);
    mkfifoat(CWD, root.path().join("..data/fifo"), Mode::RWXU).unwrap();
    assert_eq!(read_one(root.path(), "fifo"), Err(SourceError::Unreadable(Refusal::Fifo)));
}

#[test]
fn what_may_not_be_read_is_not_missing() {
    let root = tempdir().unwrap();
    let nobody = Permissions::from_mode(0o000);
    write(&root.path().join("plain"), "1");
    write(&root.path().join("shut/inner"), "1");
    swap_in(&root.path().join("kv"), &[("pw", "1"), ("open", "2")]);
    write(&root.path().join("unlisted/inner"), "3");
    fs::set_permissions(root.path().join("unlisted"), Permissions::from_mode(0o100)).unwrap();
    for path in ["plain", "kv/..data/pw", "shut"] {
        fs::set_permissions(root.path().join(path), nobody.clone()).unwrap();
    }
    without_override(|| {
        for name in ["plain", "kv/pw", "shut/inner"] {
            assert_eq!(read_one(root.path(), name), Err(SourceError::Unreadable(Refusal::Permission)), "{name}");
        }
        assert_eq!(read_one(root.path(), "kv/open"), Ok(bytes("2")));
        assert_eq!(read_one(root.path(), "unlisted/inner"), Ok(bytes("3")));
        assert_eq!(read_one(root.path(), "unlisted/none"), Err(SourceError::Missing));
        // One folder that cannot be read does not hide the rest.
        let snapshot = Folder::new(root.path().to_owned()).snapshot().unwrap();
        assert_eq!(snapshot.sources().cloned().collect::<BTreeSet<_>>(), names(["kv/open", "kv/pw", "plain"]));
        fs::set_permissions(root.path(), nobody.clone()).unwrap();
        let denied = MountError::Unreadable(Refusal::Permission);
        assert_eq!(read(root.path(), ["plain"]), Err(denied));
        assert_eq!(Folder::new(root.path().to_owned()).snapshot().map(drop), Err(denied));
    });
    for path in ["", "shut", "unlisted"] {
        fs::set_permissions(root.path().join(path), Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_mount_without_a_source_is_not_a_mount_whose_sources_were_deleted() {
    let root = tempdir().unwrap();
    let folder = Folder::new(root.path().join("mnt"));
    let outcome = |folder: &Folder| (folder.read(&names(["pw"])).unwrap_err(), folder.snapshot().unwrap_err());
    assert_eq!(outcome(&folder), (MountError::Missing, MountError::Missing));
    fs::write(folder.path(), "a file").unwrap();
    let not_a_folder = MountError::Unreadable(Refusal::NotADirectory);
    assert_eq!(outcome(&folder), (not_a_folder, not_a_folder));
    fs::remove_file(folder.path()).unwrap();
    fs::create_dir(folder.path()).unwrap();
    assert_eq!(outcome(&folder), (MountError::Empty, MountError::Empty));
    // Neither folders, nor symlinks that lead nowhere, nor a generation not yet in place are sources.
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    write(&folder.path().join("..2026_01_01/pw"), "1");
    symlink("..data/pw", folder.path().join("pw")).unwrap();
    assert_eq!(outcome(&folder), (MountError::Empty, MountError::Empty));
    write(&folder.path().join("a/b/c"), "1");
    assert_eq!(folder.read(&names(["pw"])).unwrap()["pw"], Err(SourceError::Missing));
    assert_eq!(folder.snapshot().unwrap().sources().count(), 1);
}

#[test]
fn one_emptied_mount_among_others_is_told_from_a_missing_source() {
    let root = tempdir().unwrap();
    write(&root.path().join("well/a"), "1");
    fs::create_dir_all(root.path().join("emptied/kv")).unwrap();
    assert_eq!(read_one(root.path(), "emptied/kv/a"), Err(SourceError::NotMounted));
    assert_eq!(read_one(root.path(), "well/b"), Err(SourceError::Missing));
}

#[test]
fn a_mount_whose_generation_is_gone_harms_only_itself() {
    let root = tempdir().unwrap();
    write(&root.path().join("well/a"), "1");
    fs::create_dir(root.path().join("broken")).unwrap();
    symlink("..2026_gone", root.path().join("broken/..data")).unwrap();
    write(&root.path().join("broken/pw"), "not of a generation");
    assert_eq!(read_one(root.path(), "broken/pw"), Err(SourceError::Unreadable(Refusal::NoGeneration)));
    assert_eq!(read_one(root.path(), "well/a"), Ok(bytes("1")));
    let broken = read(&root.path().join("broken"), ["pw"]).unwrap_err();
    assert_eq!(broken, MountError::Unreadable(Refusal::NoGeneration));
}

#[test]
fn a_plain_file_is_believed_once_it_was_left_alone() {
    let root = tempdir().unwrap();
    let path = root.path().join("pw");
    write(&path, "1");
    assert_eq!(read_one(root.path(), "pw"), Ok(bytes("1")));
    let meta = fs::metadata(&path).unwrap();
    let changed = Duration::new(meta.ctime().try_into().unwrap(), meta.ctime_nsec().try_into().unwrap());
    assert!(SystemTime::now() >= SystemTime::UNIX_EPOCH + changed + SETTLE);
}

#[test]
fn errors_say_what_to_do_and_nothing_of_the_content() {
    let text = SourceError::TooLarge { bytes: 5 }.to_string();
    assert_eq!(text, "has 5 bytes: at most 1048576 can be distributed");
    let text = SourceError::Unreadable(Refusal::Io(rustix::io::Errno::IO)).to_string();
    assert!(text.starts_with("cannot be read: the file system failed: "), "{text}");
}
