//! Reading the metadata of a Secret, as the API server shows it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{namespace, request};
use crate::{
    api::names,
    core::{
        name::{SecretName, Target, Uid},
        observed::Observed,
    },
};

/// As `kubectl get secret -o json --show-managed-fields` shows it, after the operator has written two keys and a
/// person has edited one of them and added another.
fn managed() -> Value {
    json!({
        "name": "db", "namespace": "team-a", "uid": "1c2d", "resourceVersion": "4711",
        "labels": { "app.kubernetes.io/part-of": "x", "team": "a" },
        "annotations": { "example.com/note": "n", "example.com/mark": "m", "example.com/theirs": "t" },
        "managedFields": [
            {
                "manager": names::FIELD_MANAGER, "operation": "Apply", "apiVersion": "v1",
                "time": "2026-01-15T12:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {
                    "f:data": { "f:tls.crt": {}, "f:.dockerconfigjson": {} },
                    "f:metadata": {
                        "f:annotations": { ".": {}, "f:example.com/note": {} },
                        "f:labels": { "f:app.kubernetes.io/part-of": {} },
                        "f:ownerReferences": { "k:{\"uid\":\"uid-db\"}": {} }
                    },
                    "f:type": {}
                }
            },
            {
                "manager": names::FIELD_MANAGER, "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-15T12:05:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:metadata": { "f:annotations": { "f:example.com/mark": {} } } }
            },
            {
                "manager": "kubectl-edit", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-15T13:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:data": { "f:tls.key": {}, "f:extra": {} }, "f:metadata": { "f:labels": { "f:team": {} } } }
            }
        ]
    })
}

fn parse(value: Value) -> Observed {
    Observed::parse(serde_json::from_value::<ObjectMeta>(value).unwrap())
}

fn target(place: &str, name: &str) -> Target {
    Target { namespace: namespace(place), name: SecretName::parse(name).unwrap() }
}

#[test]
fn the_managed_fields_tell_what_is_ours_and_what_others_wrote() {
    let observed = parse(managed());
    assert_eq!(*observed.held_keys, [".dockerconfigjson", "tls.crt"].map(Into::into));
    assert_eq!(observed.labels.held().collect::<Vec<_>>(), ["app.kubernetes.io/part-of"]);
    let annotations: Vec<_> = observed.annotations.held().collect();
    assert_eq!(annotations, ["example.com/mark", "example.com/note"], "of every entry of ours");
    assert_eq!(*observed.foreign_keys, ["extra", "tls.key"].map(Into::into));
    assert_eq!(observed.written, Some("2026-01-15T12:05:00Z".parse().unwrap()), "our last write, not theirs");
}

#[test]
fn fields_that_cannot_be_read_are_nobodys() {
    for entry in [
        json!({ "manager": names::FIELD_MANAGER }),
        json!({ "manager": names::FIELD_MANAGER, "fieldsV1": null }),
        json!({ "manager": names::FIELD_MANAGER, "fieldsV1": { "f:data": "?", "f:metadata": [] } }),
        json!({ "fieldsV1": { "f:metadata": {} } }),
    ] {
        let observed = parse(json!({ "managedFields": [entry], "labels": { "a": "b" }, "annotations": { "c": "d" } }));
        assert!(observed.held_keys.is_empty() && observed.foreign_keys.is_empty());
        assert_eq!(observed.labels.held().chain(observed.annotations.held()).next(), None);
    }
}

#[test]
fn a_copy_of_the_content_in_an_annotation_is_dropped() {
    let copied = "kubectl.kubernetes.io/last-applied-configuration";
    let observed = parse(json!({ "annotations": { copied: super::CANARY, "example.com/note": "kept" } }));
    assert_eq!(observed.annotations.keys().collect::<Vec<_>>(), ["example.com/note"]);
    assert!(!format!("{observed:?}").contains(super::CANARY));
}

#[test]
fn the_newer_look_wins_and_a_new_secret_always() {
    let seen = |uid: &str, version: &str| parse(json!({ "uid": uid, "resourceVersion": version }));
    assert!(seen("a", "10").supersedes(&seen("a", "9")), "versions are numbers, not texts");
    assert!(seen("a", "9").supersedes(&seen("a", "9")));
    assert!(!seen("a", "9").supersedes(&seen("a", "10")));
    assert!(seen("b", "9").supersedes(&seen("a", "10")));
}

#[test]
fn a_record_counts_for_the_very_secret_it_names() {
    let recorded =
        |request: &str, at: &str| parse(json!({ "annotations": { names::REQUEST: request, names::TARGET: at } }));
    let key = request(json!({})).key;
    let here = target("team-a", "db");
    assert_eq!(recorded("team-a/db", "team-a/db").recorded_request(&here), Some(key));
    for (request, at) in [
        ("team-a/db", "team-a/copy"),
        ("team-a/db", "team-b/db"),
        ("team-a", "team-a/db"),
        ("Team_A/db", "team-a/db"),
        ("team-a/a/b", "team-a/db"),
        ("", "team-a/db"),
    ] {
        assert_eq!(recorded(request, at).recorded_request(&here), None, "{request} at {at}");
    }
    assert_eq!(parse(json!({})).recorded_request(&here), None);
}

#[test]
fn an_owner_reference_counts_in_the_namespace_of_the_request_only() {
    let key = request(json!({})).key;
    let reference = json!({ "apiVersion": "v1", "kind": "K", "name": "n", "uid": "uid-db" });
    let owned = parse(json!({ "ownerReferences": [reference] }));
    let uid = Uid::admitted("uid-db");
    assert!(owned.belongs_to(&uid, &key, &target("team-a", "db")));
    assert!(!owned.belongs_to(&uid, &key, &target("team-b", "db")));
    assert!(!owned.belongs_to(&Uid::admitted("another"), &key, &target("team-a", "db")));
}
