//! Each bad field of a request is refused with its name, also when the schema was not there to refuse it.

use serde_json::{Value, json};

use super::{namespace, object};
use crate::{
    api::{DeletionPolicy, names},
    core::{
        invalid::InvalidField,
        name::SecretName,
        request::{MAX_MAPPINGS, Request},
    },
};

fn parse(more: Value) -> Result<Request, InvalidField> {
    Request::parse(&object(more))
}

#[track_caller]
fn assert_refused(more: Value, field: &str, problem: &str) {
    let error = parse(more.clone()).expect_err(&more.to_string());
    assert_eq!(error.field, field, "{more}");
    assert!(error.problem.contains(problem), "{more}: {error}");
}

fn mapping(from: &str, to: &str) -> Value {
    json!({ "from": from, "to": to })
}

fn metadata(kind: &str, key: &str, value: &str) -> Value {
    json!({ "metadata": { kind: { key: value } } })
}

#[test]
fn what_is_omitted_has_its_default() {
    let request = parse(json!({})).unwrap();
    assert_eq!(request.secret_name, SecretName::parse("db").unwrap());
    assert_eq!(request.secret_type.as_str(), names::OPAQUE);
    assert_eq!(request.destinations, [namespace("team-a")].into());
    assert_eq!((request.deletion_policy, request.adopt, request.suspend), (DeletionPolicy::Delete, false, false));
    assert_eq!((request.uid.as_str(), request.generation, request.created.as_second()), ("uid-db", 3, 500));
}

#[test]
fn the_namespaces_it_names_are_all_its_destinations() {
    let request = parse(json!({ "namespaces": ["b", "c", "b"] })).unwrap();
    assert_eq!(request.destinations, [namespace("b"), namespace("c")].into(), "its own is not among them");
}

#[test]
fn a_bad_field_is_refused_by_its_name() {
    let secrets = |mappings: &[Value]| json!({ "secrets": mappings });
    assert_refused(json!({ "name": "Not_A_Name" }), "spec.name", "must be a Secret name");
    assert_refused(json!({ "type": "we ird" }), "spec.type", "must be a Secret type");
    assert_refused(secrets(&[]), "spec.secrets", "1 to 64 entries, has 0");
    let many: Vec<_> = (0..=MAX_MAPPINGS).map(|i| mapping("cert", &format!("k{i}"))).collect();
    assert_refused(secrets(&many), "spec.secrets", "1 to 64 entries, has 65");
    assert!(parse(secrets(&many[1..])).is_ok());
    let good = mapping("cert", "a");
    assert_refused(secrets(&[good.clone(), mapping("../etc", "b")]), "spec.secrets[1].from", "must be a source name");
    assert_refused(secrets(&[good.clone(), mapping("cert", "..b")]), "spec.secrets[1].to", "must be a Secret key");
    assert_refused(secrets(&[good.clone(), good]), "spec.secrets[1].to", "duplicate key a");
    assert_refused(json!({ "namespaces": ["ok", "Not"] }), "spec.namespaces[1]", "must be a namespace name");
    assert_refused(json!({ "namespaceSelector": {} }), "spec.namespaceSelector", "empty selector");
}

#[test]
fn the_name_of_the_object_becomes_that_of_the_secret_and_is_checked() {
    let mut bad = object(json!({}));
    bad.metadata.name = Some("Not_A_Name".into());
    assert_eq!(Request::parse(&bad).unwrap_err().field, "metadata.name");
    bad.metadata.namespace = None;
    assert_eq!(Request::parse(&bad).unwrap_err().field, "metadata.namespace");
}

#[test]
fn a_refusal_does_not_repeat_the_value() {
    let evil = "\u{1b}[2Jevil";
    for more in [
        json!({ "name": evil }),
        json!({ "type": evil }),
        json!({ "secrets": [mapping(evil, "a")] }),
        json!({ "secrets": [mapping("a", evil)] }),
        json!({ "namespaces": [evil] }),
        metadata("labels", evil, "x"),
        metadata("labels", "team", evil),
        metadata("annotations", evil, "x"),
    ] {
        let told = parse(more).unwrap_err().to_string();
        assert!(!told.contains("evil") && !told.contains('\u{1b}'), "{told}");
    }
}

#[test]
fn labels_and_annotations_have_the_keys_that_kubernetes_accepts() {
    let long = "k".repeat(64);
    let bad = ["", "-a", "a-", "a b", "a/b/c", "/a", "a/", "Example.com/a", "-x.io/a", "ä", &long];
    for kind in ["labels", "annotations"] {
        for key in bad {
            assert_refused(metadata(kind, key, "x"), &format!("spec.metadata.{kind}"), "each key must be a name");
        }
        for key in ["a", "A_b-c.d", "example.com/a", "x-y.io/A", &long[1..], "7"] {
            assert!(parse(metadata(kind, key, "x")).is_ok(), "{kind} {key}");
        }
        let many: serde_json::Map<_, _> = (0..33).map(|i| (format!("k{i}"), json!("x"))).collect();
        assert_refused(json!({ "metadata": { kind: many } }), &format!("spec.metadata.{kind}"), "at most 32 entries");
    }
}

#[test]
fn keys_that_a_controller_acts_on_are_reserved() {
    let reserved = [
        names::OWNER_UID,
        names::REQUEST,
        "xlscsde.nhs.uk/anything",
        "kubernetes.io/service-account.name",
        "node.kubernetes.io/x",
        "k8s.io/x",
        "rbac.authorization.k8s.io/aggregate-to-admin",
    ];
    for key in reserved.into_iter().chain([names::MANAGED_BY_LABEL]) {
        for kind in ["labels", "annotations"] {
            assert_refused(metadata(kind, key, "x"), &format!("spec.metadata.{kind}"), "are reserved");
        }
    }
    for key in ["kubernetes.io", "notkubernetes.io/x", "myk8s.io/x", "example.com/k8s.io", "team.xlscsde.nhs.uk/x"] {
        for kind in ["labels", "annotations"] {
            assert!(parse(metadata(kind, key, "x")).is_ok(), "{kind} {key}");
        }
    }
    assert!(parse(metadata("labels", "app.kubernetes.io/part-of", "shop")).is_ok(), "recommended to everybody");
    assert_refused(metadata("annotations", "app.kubernetes.io/part-of", "x"), "spec.metadata.annotations", "reserved");
}

#[test]
fn the_values_have_their_bounds() {
    let long = "v".repeat(64);
    for value in ["-a", "a-", "a b", "a/b", "ä", &long] {
        assert_refused(metadata("labels", "team", value), "spec.metadata.labels[team]", "must be a label value");
    }
    for value in ["", "a", "A_b-c.d", &long[1..]] {
        assert!(parse(metadata("labels", "team", value)).is_ok(), "{value}");
    }
    let essay = "ä".repeat(4097);
    assert_refused(metadata("annotations", "note", &essay), "spec.metadata.annotations[note]", "at most 4096");
    assert!(parse(metadata("annotations", "note", &essay["ä".len()..])).is_ok());
}

#[test]
fn a_trace_that_a_request_names_is_kept_unless_it_is_too_long_for_one() {
    let named = |length| {
        let mut object = object(json!({}));
        let text = "a".repeat(length);
        object.metadata.annotations = Some([(names::TRACEPARENT.to_string(), text)].into());
        Request::parse(&object).unwrap().traceparent.map(|text| text.len())
    };
    assert_eq!([55, 64, 65].map(named), [Some(55), Some(64), None]);
}
