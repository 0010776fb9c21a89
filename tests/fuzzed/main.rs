//! What others write, as bytes: names, globs, objects, folders, and the policies that decide. `make fuzz` lets libFuzzer
//! look for bytes that break what must hold of them; here are those that it found worth keeping, in `fuzz/corpus`, the
//! same with small changes, and random ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod targets;

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::Index};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus of {target}");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Inputs of the corpus, with some bytes replaced, removed or added; and any bytes.
fn inputs(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let more = prop_oneof![vec(any::<u8>(), 0..8), "[ -~\n]{0,8}".prop_map(String::into_bytes)];
    let edits = vec((any::<Index>(), 0usize..8, more), 0..4);
    let edited = (prop::sample::select(corpus(target)), edits).prop_map(|(mut input, edits)| {
        for (at, removed, more) in edits {
            let at = at.index(input.len() + 1);
            input.splice(at..input.len().min(at + removed), more);
        }
        input
    });
    prop_oneof![3 => edited, 1 => vec(any::<u8>(), 0..512)]
}

fn fuzz(target: &str, slowness: u32, check: fn(&[u8])) {
    corpus(target).iter().for_each(|input| check(input));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: (ProptestConfig::default().cases / slowness).max(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&inputs(target), |input| {
        check(&input);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{target}: {error}"));
}

#[test]
fn names_are_those_of_the_schema_and_lead_nowhere_else() {
    fuzz("names", 1, targets::names::check);
}

#[test]
fn globs_match_and_cover_what_the_definition_says() {
    fuzz("globs", 1, targets::globs::check);
}

#[test]
fn objects_are_read_the_same_by_whoever_reads_them() {
    fuzz("objects", 1, targets::objects::check);
}

#[test]
fn policies_decide_as_the_documentation_says() {
    fuzz("decisions", 1, targets::decisions::check);
}

// Each input makes folders, and waits until their files count as left alone.
#[test]
fn nothing_outside_a_folder_is_read_whatever_lies_in_it() {
    fuzz("folders", 64, targets::folders::check);
}

#[test]
fn each_target_is_one_of_cargo_fuzz() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for entry in fs::read_dir(root.join("fuzz/corpus")).unwrap() {
        let target = entry.unwrap().file_name().into_string().unwrap();
        let source = fs::read_to_string(root.join("fuzz/fuzz_targets").join(format!("{target}.rs"))).unwrap();
        assert!(source.contains(&format!("targets::{target}::check(")), "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
}
