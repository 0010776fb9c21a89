//! Never to overwrite what is not ours: one test for each way of being foreign, and for each of not being so.

use serde_json::{Value, json};

use super::{namespace, permit_under, policy, rendered, rendered_of, request, seal, with};
use crate::{
    api::names,
    core::{
        name::{RequestKey, SecretName, Uid},
        observed::Observed,
        render::Rendered,
        request::Request,
        settle::{Foreign, Ownership, Step, settle},
    },
};

/// The only other request that lives: a younger one that wants the same Secret.
fn junior() -> (RequestKey, Uid) {
    let key = RequestKey { namespace: namespace("team-b"), name: SecretName::parse("younger").unwrap() };
    (key, Uid::admitted("uid-younger"))
}

fn step(rendered: &Rendered, secret: Value) -> Step {
    let observed = Observed::parse(serde_json::from_value(secret).unwrap());
    let (junior_key, junior_uid) = junior();
    let own = rendered.permit().request();
    settle(rendered, &observed, &seal(), |key, uid| {
        (key, uid) == (&junior_key, &junior_uid) || (key, uid) == (&own.key, &own.uid)
    })
}

fn adopting(rule: bool) -> Rendered {
    let policy = policy(json!({ "adopt": rule }));
    rendered_of(permit_under([policy], &request(json!({ "adopt": true })), "team-a"), "x")
}

fn ours() -> Rendered {
    rendered(&request(json!({})), "team-a")
}

fn labelled(uid: &str) -> Value {
    json!({ "uid": "s", "labels": { names::OWNER_UID: uid } })
}

fn recorded(uid: &str, request: &str, target: &str) -> Value {
    with(labelled(uid), json!({ "annotations": { names::REQUEST: request, names::TARGET: target } }))
}

fn owned_by(uid: &str) -> Value {
    json!([{ "apiVersion": "v1", "kind": "K", "name": "n", "uid": uid }])
}

/// What the API server shows of a Secret after it was written.
fn as_written(rendered: &Rendered) -> Value {
    let fields = |keys: Vec<&str>| keys.into_iter().map(|key| (format!("f:{key}"), json!({}))).collect::<Value>();
    let ours = json!({
        "f:data": fields(rendered.data().keys().map(|key| key.as_str()).collect()),
        "f:metadata": {
            "f:labels": fields(rendered.labels().keys().map(String::as_str).collect()),
            "f:annotations": fields(rendered.annotations().keys().map(String::as_str).collect()),
        },
    });
    json!({
        "uid": "s", "labels": rendered.labels(), "annotations": rendered.annotations(),
        "ownerReferences": rendered.owner().into_iter().collect::<Vec<_>>(),
        "managedFields": [{ "manager": names::FIELD_MANAGER, "fieldsV1": ours }],
    })
}

fn refused(why: Foreign) -> Step {
    Step::Refuse(why)
}

#[test]
fn no_labels() {
    assert_eq!(step(&ours(), json!({ "uid": "s" })), refused(Foreign::Unowned));
}

#[test]
fn a_label_only() {
    assert_eq!(step(&ours(), labelled("uid-of-nobody")), refused(Foreign::Unrecorded));
    assert_eq!(step(&ours(), labelled("uid-db")), refused(Foreign::Unrecorded), "the label alone is copied easily");
}

#[test]
fn a_forged_record_of_a_dead_request() {
    let forged = recorded("uid-of-the-dead", "team-b/dead", "team-a/db");
    assert_eq!(step(&ours(), forged), refused(Foreign::LeftBehind));
}

#[test]
fn the_uid_of_another_live_request_without_its_record() {
    assert_eq!(step(&ours(), labelled("uid-younger")), refused(Foreign::Unrecorded));
    let another_uid = recorded("uid-of-nobody", "team-b/younger", "team-a/db");
    assert_eq!(step(&ours(), another_uid), refused(Foreign::LeftBehind));
}

#[test]
fn a_record_that_was_copied_with_its_secret() {
    for place in ["team-a/original", "team-b/db"] {
        assert_eq!(step(&ours(), recorded("uid-db", "team-a/db", place)), refused(Foreign::Unrecorded), "{place}");
        assert_eq!(step(&ours(), recorded("uid-younger", "team-b/younger", place)), refused(Foreign::Unrecorded));
    }
}

#[test]
fn the_owner_reference_of_another_object() {
    assert_eq!(step(&ours(), json!({ "ownerReferences": owned_by("helm") })), refused(Foreign::Owned));
    // Neither the first operator's mark nor an adoption takes from an owner.
    for (mark, value) in [(names::MANAGED_BY_ANNOTATION, "first-operator"), (names::ADOPTION, names::ALLOWED)] {
        let marked = json!({ "annotations": { mark: value } });
        let owned = with(marked, json!({ "ownerReferences": owned_by("helm") }));
        assert_eq!(step(&adopting(true), owned), refused(Foreign::Owned), "{mark}");
    }
}

#[test]
fn being_deleted_even_if_it_is_ours() {
    let deleting = with(as_written(&ours()), json!({ "deletionTimestamp": "2026-01-15T12:00:00Z" }));
    assert_eq!(step(&ours(), deleting), refused(Foreign::Deleting));
}

#[test]
fn the_mark_of_the_first_operator() {
    let marked = |by: &str| json!({ "annotations": { names::MANAGED_BY_ANNOTATION: by } });
    assert_eq!(step(&ours(), marked("first-operator")), Step::Change(Ownership::Original));
    assert_eq!(step(&ours(), marked("another-operator")), refused(Foreign::Unowned));
    let ours_of_a_dead_request = with(labelled("uid-of-the-dead"), marked("first-operator"));
    assert_eq!(step(&ours(), ours_of_a_dead_request), refused(Foreign::Unrecorded), "ours carry the mark, too");
}

/// One that the operator has written itself is nobody's to offer.
#[test]
fn an_adoption_needs_the_secret_the_request_and_the_policy() {
    let offering = |how: &str| json!({ "annotations": { names::ADOPTION: how } });
    for (stranger, why) in [(json!({ "uid": "s" }), Foreign::Unowned), (labelled("uid-of-nobody"), Foreign::Unrecorded)]
    {
        for how in ["", "true", "Allowed"] {
            let stranger = with(stranger.clone(), offering(how));
            assert_eq!(step(&adopting(true), stranger), refused(why), "not offered: {how:?}");
        }
    }
    let strangers = [
        (with(json!({ "uid": "s" }), offering(names::ALLOWED)), Foreign::Unowned),
        (with(labelled("uid-of-nobody"), offering(names::ALLOWED)), Foreign::Unrecorded),
        (recorded("uid-of-the-dead", "team-b/dead", "team-a/db"), Foreign::LeftBehind),
    ];
    let granted_but_not_asked =
        rendered_of(permit_under([policy(json!({ "adopt": true }))], &request(json!({})), "team-a"), "x");
    for (stranger, why) in strangers {
        assert_eq!(step(&adopting(false), stranger.clone()), refused(why), "asked for, not granted");
        assert_eq!(step(&granted_but_not_asked, stranger.clone()), refused(why), "granted, not asked for");
        assert_eq!(step(&adopting(true), stranger), Step::Change(Ownership::Adopted));
    }
}

#[test]
fn written_for_a_younger_request_that_lives() {
    let theirs = recorded("uid-younger", "team-b/younger", "team-a/db");
    assert_eq!(step(&ours(), theirs.clone()), Step::Change(Ownership::Inherited));
    let referenced = with(theirs, json!({ "ownerReferences": owned_by("uid-younger") }));
    assert_eq!(step(&ours(), referenced), Step::Change(Ownership::Inherited));
}

#[test]
fn written_for_an_earlier_request_of_the_same_name() {
    let theirs = recorded("uid-of-before", "team-a/db", "team-a/db");
    assert_eq!(step(&ours(), theirs), Step::Change(Ownership::Inherited));
}

#[test]
fn what_is_as_it_shall_be_is_kept() {
    for destination in ["team-a", "team-b"] {
        let rendered = rendered(&request(json!({ "namespaces": ["team-a", "team-b"] })), destination);
        assert_eq!(step(&rendered, as_written(&rendered)), Step::Keep, "{destination}");
    }
}

/// Each difference, and nothing else, makes a write.
#[test]
fn what_was_changed_by_others_is_put_right() {
    let asked: Request = request(json!({ "metadata": { "labels": { "team": "a" }, "annotations": { "note": "n" } } }));
    let rendered = rendered(&asked, "team-a");
    let written = as_written(&rendered);
    let changed = |pointer: &str, value: Value| {
        let mut secret = written.clone();
        *secret.pointer_mut(pointer).unwrap() = value;
        secret
    };
    let digest = format!("/annotations/{}", names::DIGEST.replace('/', "~1"));
    for (what, secret) in [
        ("a label", changed("/labels/team", json!("b"))),
        ("an annotation", changed("/annotations/note", json!("m"))),
        ("the digest", changed(&digest, json!("0"))),
        ("the owner", changed("/ownerReferences", json!([]))),
        ("a key that somebody took over", changed("/managedFields/0/fieldsV1/f:data", json!({}))),
        (
            "a key of an earlier version",
            changed("/managedFields/0/fieldsV1/f:data", json!({ "f:password": {}, "f:old": {} })),
        ),
    ] {
        assert_eq!(step(&rendered, secret), Step::Change(Ownership::Ours), "{what}");
    }
    let mut extra = written.clone();
    extra["managedFields"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "manager": "kubectl", "fieldsV1": { "f:data": { "f:extra": {} } } }));
    assert_eq!(step(&rendered, extra), Step::Change(Ownership::Ours), "a key that somebody added");
    let mut stale = written.clone();
    stale["labels"]["old"] = json!("x");
    assert_eq!(step(&rendered, stale.clone()), Step::Keep, "a label of somebody else is theirs");
    stale["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]["f:old"] = json!({});
    assert_eq!(step(&rendered, stale), Step::Change(Ownership::Ours), "a label of ours that is not wanted any more");
}

#[test]
fn each_way_of_being_foreign_says_what_to_do() {
    let says = |foreign: Foreign, words: &[&str]| {
        let text = foreign.to_string();
        words.iter().for_each(|word| assert!(text.contains(word), "{foreign:?} does not say {word:?}: {text}"));
    };
    let offer = format!("{}={}", names::ADOPTION, names::ALLOWED);
    says(Foreign::Deleting, &["a finalizer holds it"]);
    says(Foreign::Owned, &["ownerReferences", "delete it"]);
    says(Foreign::LeftBehind, &["delete it", "spec.adopt: true"]);
    says(Foreign::Unrecorded, &["delete it", "another spec.name", &offer]);
    says(Foreign::Unowned, &["delete it", "another spec.name", &offer, "spec.adopt: true"]);
}

#[test]
fn an_annotation_that_was_written_and_is_not_meant_any_more_goes() {
    let rendered = ours();
    let mut secret = as_written(&rendered);
    secret["annotations"][names::REVOKED_AT] = json!("2026-01-15T12:00:00Z");
    assert_eq!(step(&rendered, secret.clone()), Step::Keep, "it is somebody else's");
    let held = &mut secret["managedFields"][0]["fieldsV1"]["f:metadata"]["f:annotations"];
    held[format!("f:{}", names::REVOKED_AT)] = json!({});
    assert_eq!(step(&rendered, secret), Step::Change(Ownership::Ours));
}
