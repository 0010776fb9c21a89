//! Every test that `docs/security.md` names exists: a defence that nothing shows is none.

use std::{collections::BTreeSet, fs, path::Path};

use super::{read, readme::spans, root};

const FILE: &str = "docs/security.md";

/// The name of everything that is run as a test.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_in(&fs::read_to_string(path).unwrap()));
        }
    }
}

/// Those in a source: functions below an attribute of a test, or within `proptest!`.
fn tests_in(text: &str) -> Vec<String> {
    let after_attribute = text.split("test]").skip(1).chain(text.split("test(").skip(1));
    let name = |rest: &str| {
        let (before, after) = rest.split_once("fn ")?;
        let is_next = before.lines().all(|line| {
            let line = line.trim();
            line.is_empty()
                || line.starts_with("#[")
                || line.starts_with("//")
                || line.ends_with(")]")
                || line == "async"
        });
        is_next.then(|| after.split(['(', '<']).next().unwrap_or_default().to_owned())
    };
    after_attribute.filter_map(name).collect()
}

fn is_test(word: &str) -> bool {
    word.matches('_').count() > 1 && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

#[test]
fn each_test_that_it_names_exists() {
    let mut known = BTreeSet::new();
    ["src", "tests", "e2e"].iter().for_each(|folder| tests(&root().join(folder), &mut known));
    let text = read(FILE);
    let named: Vec<_> = spans(&text).into_iter().filter(|span| is_test(span)).collect();
    assert!(named.len() > 60, "{named:?}");
    let unknown: Vec<_> = named.iter().filter(|name| !known.contains(*name)).collect();
    assert!(unknown.is_empty(), "{FILE} names tests that do not exist: {unknown:#?}");
}

#[test]
fn each_row_and_each_must_names_a_test() {
    let text = read(FILE);
    let (_, shown) = text.split_once("## Musts").unwrap();
    let musts = shown.split("## ").next().unwrap();
    assert_eq!(musts.matches("MUST").count(), musts.matches("\n   `").count() + musts.matches("\n    `").count());
    let rows = shown.lines().filter(|line| line.starts_with("| ") && !line.contains("Shown by"));
    let bare: Vec<_> = rows.filter(|row| !spans(row).iter().any(|span| is_test(span))).collect();
    assert!(bare.is_empty(), "rows without a test: {bare:#?}");
}

#[test]
fn what_is_no_test_is_found() {
    let text = "#[test]\nfn one_that_is() {}\nfn one_that_is_not() {}\n#[tokio::test(start_paused = true)]\nasync fn a_third_one() {}";
    assert_eq!(tests_in(text), ["one_that_is", "a_third_one"]);
}
