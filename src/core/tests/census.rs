//! The Secrets that were written, in numbers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;

use super::namespace;
use crate::{
    api::names,
    core::{
        index::{Census, Delegation, SecretIndex},
        name::{SecretName, Target},
        observed::Observed,
    },
};

fn target(place: &str, name: &str) -> Target {
    Target { namespace: namespace(place), name: SecretName::parse(name).unwrap() }
}

/// The version `version` of the Secret at `at`, with the record that it was written as `recorded`.
fn secret(at: &Target, recorded: &str, version: u32, marked: bool) -> Observed {
    let mut annotations = json!({ names::TARGET: recorded, names::REQUEST: "team/r" });
    if marked {
        annotations[names::REVOKED_AT] = json!("2026-01-15T12:00:00Z");
    }
    let meta = json!({
        "uid": format!("uid of {at}"),
        "resourceVersion": version.to_string(),
        "annotations": annotations,
    });
    Observed::parse(serde_json::from_value(meta).unwrap())
}

fn index() -> SecretIndex {
    let mut index = SecretIndex::default();
    for (name, marked) in [("early", false), ("late", true), ("plain", false)] {
        let at = target("a", name);
        index.apply(&at, secret(&at, &at.to_string(), 1, marked));
    }
    let copy = target("a", "copy");
    index.apply(&copy, secret(&copy, "a/early", 1, true));
    let elsewhere = target("b", "early");
    index.apply(&elsewhere, secret(&elsewhere, "b/early", 1, false));
    index.set_expiry(&target("a", "early"), Some(second(10)));
    index.set_expiry(&target("a", "late"), Some(second(20)));
    index
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn census(index: &SecretIndex, place: &str) -> Option<Census> {
    let all: BTreeMap<_, _> = index.census();
    all.get(&namespace(place)).copied()
}

#[test]
fn what_was_written_is_counted_by_namespace_and_a_copy_is_not() {
    let index = index();
    let a = Census { written: 3, revocation_pending: 1, not_after: Some(second(10)) };
    assert_eq!(census(&index, "a"), Some(a));
    assert_eq!(census(&index, "b"), Some(Census { written: 1, revocation_pending: 0, not_after: None }));
    assert_eq!(census(&index, "c"), None);
}

#[test]
fn an_expiry_lasts_as_long_as_the_secret() {
    let at = target("a", "early");
    let mut index = index();
    index.apply(&at, secret(&at, "a/early", 2, true));
    assert_eq!(index.expiry(&at), Some(second(10)), "another version of it");
    let remade = Observed { uid: secret(&target("b", "x"), "", 1, false).uid, ..secret(&at, "a/early", 3, false) };
    index.apply(&at, remade);
    assert_eq!(index.expiry(&at), None, "another Secret of its name");
    index.set_expiry(&at, Some(second(30)));
    index.delete(&at);
    assert_eq!(index.expiry(&at), None);
    assert_eq!(census(&index, "a").unwrap().not_after, Some(second(20)));
    index.set_delegation(&namespace("a"), Delegation::Refused);
    assert_eq!((census(&index, "a"), index.expiry(&target("a", "late"))), (None, None));
}

#[test]
fn once_somebody_else_has_written_no_expiry_is_known() {
    let mut index = index();
    index.forget_expiries();
    assert_eq!(index.expiry(&target("a", "early")), None);
    assert_eq!(census(&index, "a"), Some(Census { written: 3, revocation_pending: 1, not_after: None }));
}
