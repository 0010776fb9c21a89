//! Nothing outside the folder is ever opened.

use std::{fs, os::unix::fs::symlink, sync::LazyLock};

use proptest::prelude::*;
use tempfile::{TempDir, tempdir};

use super::*;
use crate::source::Refusal;

#[test]
fn in_a_plain_folder_a_symlink_may_lead_down_but_neither_up_nor_out() {
    let root = tempdir().unwrap();
    write(&root.path().join(".worktrees/7/pw"), "1");
    write(&root.path().join("private/pw"), "2");
    write(&root.path().join("public/own"), "3");
    symlink(".worktrees/7", root.path().join("current")).unwrap();
    symlink("own", root.path().join("public/alias")).unwrap();
    assert_eq!(read_one(root.path(), "current/pw"), Ok(bytes("1")));
    assert_eq!(read_one(root.path(), "public/alias"), Ok(bytes("3")));
    let absolute = root.path().join("public/own").into_os_string().into_string().unwrap();
    let leaving = ["/etc/passwd", "../private/pw", "../public/own", &absolute, "/proc/self/root/etc/passwd"];
    for to in leaving {
        let link = root.path().join("public/link");
        symlink(to, &link).unwrap();
        let read = read_one(root.path(), "public/link");
        assert_eq!(read, Err(SourceError::Unreadable(Refusal::LinkLeaves)), "{to}");
        fs::remove_file(link).unwrap();
    }
}

#[test]
fn symlinks_in_a_circle_are_refused() {
    let root = tempdir().unwrap();
    write(&root.path().join("well"), "1");
    symlink("b", root.path().join("a")).unwrap();
    symlink("a", root.path().join("b")).unwrap();
    symlink(".", root.path().join("here")).unwrap();
    assert_eq!(read_one(root.path(), "a"), Err(SourceError::Unreadable(Refusal::LinkLoop)));
    assert_eq!(read_one(root.path(), "a/x"), Err(SourceError::Unreadable(Refusal::LinkLoop)));
    // A folder in itself ends with the longest name.
    let snapshot = Folder::new(root.path().to_owned()).snapshot().unwrap();
    assert!(snapshot.sources().any(|name| name.as_str() == "here/here/here/well"));
}

#[test]
fn in_a_generation_no_symlink_is_followed() {
    let root = tempdir().unwrap();
    swap_in(root.path(), &[("pw", "1")]);
    for (name, to) in [("out", "/etc/passwd"), ("inside", "pw"), ("up", "../../x"), ("folder", ".")] {
        symlink(to, root.path().join("..data").join(name)).unwrap();
        assert_eq!(read_one(root.path(), name), Err(SourceError::Unreadable(Refusal::Link)), "{name}");
    }
    assert_eq!(read_one(root.path(), "folder/pw"), Err(SourceError::Unreadable(Refusal::Link)));
}

#[test]
fn data_that_leads_out_makes_the_mount_unusable() {
    let outside = tempdir().unwrap();
    write(&outside.path().join("pw"), "outside");
    for to in [outside.path().to_owned(), "../outside".into()] {
        let root = tempdir().unwrap();
        let mount = root.path().join("mount");
        write(&root.path().join("outside/pw"), "outside");
        fs::create_dir(&mount).unwrap();
        symlink(to, mount.join("..data")).unwrap();
        let refused = Err(MountError::Unreadable(Refusal::LinkLeaves));
        assert_eq!(read(&mount, ["pw"]).map(drop), refused);
        assert_eq!(Folder::new(mount).snapshot().map(drop), refused);
    }
}

const SENTINEL: &str = "outside of the folder";

/// A plain folder and a mount, full of ways out, beside what must never be read.
static HOSTILE: LazyLock<TempDir> = LazyLock::new(|| {
    let base = tempdir().unwrap();
    let outside = base.path().join("outside");
    write(&outside.join("pw"), SENTINEL);
    write(&base.path().join("pw"), SENTINEL);
    for layout in ["plain", "mount"] {
        let root = base.path().join(layout);
        if layout == "mount" {
            swap_in(&root, &[("pw", "inside"), ("a/pw", "inside")]);
        }
        for at in ["", "a", "..data"].map(|at| root.join(at)).iter().filter(|at| layout == "plain" || at.exists()) {
            fs::create_dir_all(at).unwrap();
            let ways_out =
                [("up", ".."), ("upup", "../.."), ("out", "../../outside"), ("abs", outside.to_str().unwrap())];
            for (link, to) in ways_out {
                symlink(to, at.join(link)).unwrap();
            }
        }
        if layout == "plain" {
            fs::remove_dir_all(root.join("..data")).unwrap();
            write(&root.join("pw"), "inside");
        }
    }
    // Nothing may be too young to be read.
    std::thread::sleep(crate::source::beneath::SETTLE);
    base
});

fn any_name() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        prop::sample::select(vec![
            "..", ".", "", "a", "pw", "up", "upup", "out", "abs", "outside", "..data", "etc", "passwd", "\0", "%2e%2e",
            "~",
        ])
        .prop_map(str::to_owned),
        "[A-Za-z0-9._-]{1,12}",
        any::<String>(),
    ];
    prop::collection::vec(segment, 1..6).prop_map(|segments| segments.join("/"))
}

/// In which layout the name opens something outside.
fn escapes(text: &str) -> Option<&'static str> {
    let name = SourceName::parse(text).ok()?;
    ["plain", "mount"].into_iter().find(|layout| {
        let folder = Folder::new(HOSTILE.path().join(layout));
        let content = folder.read(&[name.clone()].into()).unwrap().remove(&name).unwrap();
        content.is_ok_and(|content| content != bytes("inside"))
    })
}

#[test]
fn no_way_along_the_links_opens_anything_outside() {
    let segments = ["a", "pw", "up", "upup", "out", "abs", "outside"];
    let mut ways: Vec<String> = vec![String::new()];
    for _ in 0..4 {
        ways = ways.iter().flat_map(|way| segments.map(|segment| format!("{way}/{segment}"))).collect();
        for way in &ways {
            assert_eq!(escapes(&way[1..]), None, "{way}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_name_opens_anything_outside(text in any_name()) {
        prop_assert_eq!(escapes(&text), None, "{}", text);
    }
}
