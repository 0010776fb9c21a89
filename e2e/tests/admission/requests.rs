//! `SecretsDistribution`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Case, check};

const PATH: &str = "/apis/xlscsde.nhs.uk/v1/namespaces/default/secretsdistributions";

const SOURCE: &str = "must be a source name: 1 to 4 segments joined by '/'";
const KEY: &str = "must be a key of a Secret";
const NAME: &str = "must be a Secret name";
const TYPE: &str = "must be a Secret type such as Opaque or kubernetes.io/tls";
const RESERVED: &str = "this type is reserved: a cluster component would turn it into a live credential";
const EMPTY_SELECTOR: &str = "an empty selector would mean every namespace";
const OPERATOR_VALUES: &str = "In and NotIn need values, Exists and DoesNotExist must have none";
const LABEL_VALUE: &str = "must be a label value";
const QUALIFIED: &str = "each key must be a name of at most 63 letters";
const RESERVED_LABEL: &str = "labels under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved";
const RESERVED_ANNOTATION: &str = "annotations under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved";

fn request(spec: Value) -> Value {
    json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": "SecretsDistribution",
        "metadata": { "name": "x", "namespace": "default" },
        "spec": spec,
    })
}

/// A good request with these fields on top of it; null removes one.
fn with(fields: Value) -> Value {
    let mut spec = json!({ "secrets": [{ "from": "A", "to": "a" }] });
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    request(spec)
}

fn from(name: &str) -> Value {
    with(json!({ "secrets": [{ "from": name, "to": "a" }] }))
}

fn to(key: &str) -> Value {
    with(json!({ "secrets": [{ "from": "A", "to": key }] }))
}

fn mappings(count: usize) -> Value {
    with(json!({ "secrets": (0..count).map(|i| json!({ "from": "A", "to": format!("k{i}") })).collect::<Vec<_>>() }))
}

fn refused(what: impl std::fmt::Debug, object: Value, field: &'static str, expected: &'static str) -> Case {
    Case { what: format!("{what:?}"), object, refusal: Some((field, expected)) }
}

fn accepted(what: impl std::fmt::Debug, object: Value) -> Case {
    Case { what: format!("{what:?}"), object, refusal: None }
}

#[tokio::test]
async fn a_source_cannot_leave_the_mount() -> Result<()> {
    let traversal = "../../var/run/secrets/kubernetes.io/serviceaccount/token";
    let machinery = ["..data", "..data/pw", "x/..2026_01_01/pw", ".hidden", "kv/.hidden"];
    let paths = [traversal, "..", ".", "../x", "a/../b", "a/./b", "/etc/passwd", "a//b", "a/", "/", "", "a/b/c/d/e"];
    let characters = ["a\0b", "a\nb", "a\n", "a\u{1b}[31m", "ключ", "a b", "*", "~", "a\\b", "a:b", "%2e%2e"];
    let bad = machinery.into_iter().chain(paths).chain(characters);
    let mut cases: Vec<_> = bad.map(|name| refused(name, from(name), "spec.secrets[0].from", SOURCE)).collect();
    let too_long = "may not be more than 255 bytes";
    cases.push(refused("256 characters", from(&"a".repeat(256)), "spec.secrets[0].from", too_long));
    cases.push(accepted("255 characters", from(&"a".repeat(255))));
    for good in ["WildcardCertificate", "kv/prod/db.password", "name/0", "a/b/c/d", "A_b-c.d", "0"] {
        cases.push(accepted(good, from(good)));
    }
    check(PATH, cases).await
}

#[tokio::test]
async fn a_key_is_one_that_a_secret_can_have() -> Result<()> {
    let mut cases: Vec<_> =
        ["", "a/b", "ä", "a\0", "a b", "a\n"].map(|key| refused(key, to(key), "spec.secrets[0].to", KEY)).into();
    for key in [".", "..", "..data", "..."] {
        cases.push(refused(key, to(key), "spec.secrets[0].to", "must not be '.' nor start with '..'"));
    }
    let too_long = "may not be more than 253 bytes";
    cases.push(refused("254 characters", to(&"k".repeat(254)), "spec.secrets[0].to", too_long));
    cases.push(accepted("253 characters", to(&"k".repeat(253))));
    for good in ["tls.crt", ".dockerconfigjson", "_", "A-b_c.d"] {
        cases.push(accepted(good, to(good)));
    }
    check(PATH, cases).await
}

#[tokio::test]
async fn mappings_are_1_to_64_and_each_key_is_written_once() -> Result<()> {
    let twice = with(json!({ "secrets": [{ "from": "A", "to": "a" }, { "from": "B", "to": "a" }] }));
    let text = with(json!({ "secrets": "A" }));
    check(
        PATH,
        vec![
            refused(
                "no spec",
                json!({ "apiVersion": "xlscsde.nhs.uk/v1", "kind": "SecretsDistribution",
                "metadata": { "name": "x" } }),
                "spec",
                "Required value",
            ),
            refused("no secrets", request(json!({})), "spec.secrets", "Required value"),
            refused("none", mappings(0), "spec.secrets", "should have at least 1 items"),
            refused("65", mappings(65), "spec.secrets", "must have at most 64 items"),
            accepted("64", mappings(64)),
            refused("a key twice", twice, "spec.secrets[1]", "Duplicate value: {\"to\":\"a\"}"),
            refused("no from", with(json!({ "secrets": [{ "to": "a" }] })), "spec.secrets[0].from", "Required value"),
            refused("no to", with(json!({ "secrets": [{ "from": "A" }] })), "spec.secrets[0].to", "Required value"),
            refused("a text", text, "spec.secrets", "must be of type array"),
        ],
    )
    .await
}

#[tokio::test]
async fn the_secret_has_a_name_and_a_type_that_may_be_written() -> Result<()> {
    let mut cases = Vec::new();
    for name in ["Bad_Name", "-a", "a-", "a.", "a..b", "ñ", "", "a/b", "a\n"] {
        cases.push(refused(name, with(json!({ "name": name })), "spec.name", NAME));
    }
    let long = |count: usize| with(json!({ "name": "n".repeat(count) }));
    cases.push(refused("254 characters", long(254), "spec.name", "may not be more than 253 bytes"));
    cases.push(accepted("253 characters", long(253)));
    cases.push(accepted("a name with dots", with(json!({ "name": "dev.example.org-tls" }))));
    cases.push(accepted("no name", with(json!({ "name": null }))));
    for reserved in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"] {
        cases.push(refused(reserved, with(json!({ "type": reserved })), "spec.type", RESERVED));
    }
    for kind in ["we ird\0type", "", "*", "kubernetes.io/*", "/a", "a/"] {
        cases.push(refused(kind, with(json!({ "type": kind })), "spec.type", TYPE));
    }
    for kind in ["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "example.org/own"] {
        cases.push(accepted(kind, with(json!({ "type": kind }))));
    }
    check(PATH, cases).await
}

#[tokio::test]
async fn destinations_are_namespaces_and_never_all_of_them_by_accident() -> Result<()> {
    let namespaces = |names: Value| with(json!({ "namespaces": names }));
    let selector = |selector: Value| with(json!({ "namespaceSelector": selector }));
    let expression = |expression: Value| selector(json!({ "matchExpressions": [expression] }));
    let first = "spec.namespaceSelector.matchExpressions[0]";
    let mut cases = Vec::new();
    for name in ["Bad", "a.b", "team-*", "", "-a", "a\n"] {
        cases.push(refused(name, namespaces(json!([name])), "spec.namespaces[0]", "must be the name of a namespace"));
    }
    let many = |count: usize| namespaces((0..count).map(|i| json!(format!("n{i}"))).collect());
    cases.extend([
        refused("twice", namespaces(json!(["a", "a"])), "spec.namespaces[1]", "Duplicate value"),
        refused("64 characters", namespaces(json!(["a".repeat(64)])), "spec.namespaces[0]", "more than 63 bytes"),
        accepted("63 characters", namespaces(json!(["a".repeat(63)]))),
        refused("257", many(257), "spec.namespaces", "must have at most 256 items"),
        accepted("256", many(256)),
        refused("{}", selector(json!({})), "spec.namespaceSelector", EMPTY_SELECTOR),
        refused("no labels", selector(json!({ "matchLabels": {} })), "spec.namespaceSelector", EMPTY_SELECTOR),
        refused("nothing", selector(json!({ "matchExpressions": [] })), "spec.namespaceSelector", EMPTY_SELECTOR),
        refused("Is", expression(json!({ "key": "a", "operator": "Is" })), first, "supported values: \"In\", \"NotIn\""),
        refused("In nothing", expression(json!({ "key": "a", "operator": "In" })), first, OPERATOR_VALUES),
        refused("In []", expression(json!({ "key": "a", "operator": "In", "values": [] })), first, OPERATOR_VALUES),
        refused(
            "Exists x",
            expression(json!({ "key": "a", "operator": "Exists", "values": ["x"] })),
            first,
            OPERATOR_VALUES,
        ),
        refused("no key", expression(json!({ "operator": "Exists" })), first, "Required value"),
        refused("value", selector(json!({ "matchLabels": { "a": "b c" } })), "matchLabels[a]", LABEL_VALUE),
        accepted(
            "a selector",
            selector(json!({
                "matchLabels": { "a": "b" },
                "matchExpressions": [{ "key": "a", "operator": "In", "values": ["x"] }, { "key": "b", "operator": "Exists" }],
            })),
        ),
    ]);
    check(PATH, cases).await
}

#[tokio::test]
async fn labels_and_annotations_cannot_be_those_that_somebody_acts_on() -> Result<()> {
    let labels = |key: &str, value: &str| with(json!({ "metadata": { "labels": { key: value } } }));
    let annotations = |key: &str, value: &str| with(json!({ "metadata": { "annotations": { key: value } } }));
    let long = "x".repeat(64);
    let mut cases = Vec::new();
    for key in ["app.kubernetes.io/managed-by", "xlscsde.nhs.uk/owner-uid", "node.kubernetes.io/x", "k8s.io/x"] {
        cases.push(refused(key, labels(key, "x"), "spec.metadata.labels", RESERVED_LABEL));
    }
    let (longest, longer) = (format!("{}/x", "p".repeat(253)), format!("{}/x", "p".repeat(254)));
    for key in ["a b", "", "a/b/c", "Upper.example/x", &long, &longer] {
        cases.push(refused(key, labels(key, "x"), "spec.metadata.labels", QUALIFIED));
        cases.push(refused(key, annotations(key, "x"), "spec.metadata.annotations", QUALIFIED));
    }
    for value in ["b c", "-", "a\n"] {
        cases.push(refused(value, labels("ok", value), "spec.metadata.labels[ok]", LABEL_VALUE));
    }
    for key in [
        "kubernetes.io/service-account.name",
        "xlscsde.nhs.uk/owner-uid",
        "xlscsde.nhs.uk/managedBy",
        "kubectl.kubernetes.io/last-applied-configuration",
        "app.kubernetes.io/name",
    ] {
        cases.push(refused(key, annotations(key, "x"), "spec.metadata.annotations", RESERVED_ANNOTATION));
    }
    let many = |count: usize| (0..count).map(|i| (format!("k{i}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    cases.extend([
        refused("value", labels("ok", &long), "spec.metadata.labels.ok", "more than 63 bytes"),
        refused("value", annotations("x", &"y".repeat(4097)), "spec.metadata.annotations.x", "more than 4096 bytes"),
        accepted("4096 characters", annotations("x", &"y".repeat(4096))),
        refused("33", with(json!({ "metadata": { "labels": many(33) } })), "spec.metadata.labels", "at most 32"),
        accepted("32", with(json!({ "metadata": { "labels": many(32) } }))),
        accepted("the longest prefix", labels(&longest, "x")),
        accepted("for everybody", labels("app.kubernetes.io/name", "x")),
        accepted("a sub-domain of ours", labels("workspaces.xlscsde.nhs.uk/a", "")),
        accepted("another controller's", annotations("reloader.stakater.com/match", "true")),
    ]);
    check(PATH, cases).await
}

#[tokio::test]
async fn nothing_is_silently_ignored() -> Result<()> {
    let deep = with(json!({ "secrets": [{ "from": "A", "to": "a", "optional": true }] }));
    check(
        PATH,
        vec![
            refused("unknown", with(json!({ "foo": 1 })), "unknown field", "spec.foo"),
            refused("of a policy", with(json!({ "rateLimit": {} })), "unknown field", "spec.rateLimit"),
            refused("deep", deep, "unknown field", "spec.secrets[0].optional"),
            refused("Keep", with(json!({ "deletionPolicy": "Keep" })), "spec.deletionPolicy", "\"Delete\", \"Retain\""),
            refused("text", with(json!({ "suspend": "yes" })), "spec.suspend", "must be of type boolean"),
            accepted("all of it", with(json!({ "deletionPolicy": "Retain", "adopt": true, "suspend": true }))),
        ],
    )
    .await
}
