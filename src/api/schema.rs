//! Schemas that several fields share: what the API server refuses itself, and what it answers.
//!
//! The rules are CEL and not `pattern`, because the failure of a pattern shows a person nothing but the
//! regular expression, and hides the message of every CEL rule beside it. Each rule has an upper bound on
//! what it reads (`maxLength`, `maxItems`): without it the API server refuses the CRD as too expensive.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A rule and the message of its failure.
type Rule = (&'static str, &'static str);

fn validations(rules: &[Rule]) -> Value {
    rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})).collect()
}

fn text(max_length: u32, rules: &[Rule]) -> Schema {
    json_schema!({"type": "string", "maxLength": max_length, "x-kubernetes-validations": validations(rules)})
}

fn list(min_items: u32, max_items: u32, items: Schema) -> Schema {
    json_schema!({"type": "array", "minItems": min_items, "maxItems": max_items, "items": items})
}

/// Key of a label or annotation.
const QUALIFIED_NAME: Rule = (
    r"self.all(key, key.size() <= 317 && key.matches(r'^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[0-9A-Za-z]([\w.-]{0,61}[0-9A-Za-z])?$'))",
    "each key must be a name of at most 63 letters, digits, '-', '_' and '.', with or without a DNS prefix, such as example.com/name",
);

const LABEL_VALUE: Rule = (
    "self.matches(r'^([0-9A-Za-z]([\\w.-]*[0-9A-Za-z])?)?$')",
    "must be a label value: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
);

const SECRET_TYPE: Rule = (
    "self.matches('^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$')",
    "must be a Secret type such as Opaque or kubernetes.io/tls, literally: letters, digits, '.', '_', '/' and '-'",
);

/// [`super::names::RESERVED_TYPES`]; a test compares them.
pub(super) const UNRESERVED: Rule = (
    "!(self in ['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token', 'helm.sh/release.v1'])",
    "this type is reserved: a cluster component would turn it into a live credential; use Opaque or another data type",
);

pub(super) fn secret_name(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        &[(
            "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
            "must be a Secret name: lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit",
        )],
    )
}

pub(super) fn secret_type(_: &mut SchemaGenerator) -> Schema {
    text(253, &[SECRET_TYPE, UNRESERVED])
}

pub(super) fn secret_types(generator: &mut SchemaGenerator) -> Schema {
    list(0, 64, secret_type(generator))
}

pub(super) fn source_name(_: &mut SchemaGenerator) -> Schema {
    text(
        255,
        &[(
            "self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,3}$')",
            "must be a source name: 1 to 4 segments joined by '/', each starting with a letter or digit, then letters, digits, '.', '_' or '-'; it cannot leave the mount",
        )],
    )
}

pub(super) fn secret_key(_: &mut SchemaGenerator) -> Schema {
    text(
        253,
        &[
            (
                "self.matches('^[-._A-Za-z0-9]+$')",
                "must be a key of a Secret: 1 to 253 letters, digits, '-', '.' and '_'",
            ),
            (
                "self != '.' && !self.startsWith('..')",
                "must not be '.' nor start with '..': the kubelet keeps these names for itself when it mounts a Secret",
            ),
        ],
    )
}

pub(super) fn namespaces(_: &mut SchemaGenerator) -> Schema {
    let name = text(
        63,
        &[(
            "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "must be the name of a namespace: lower-case letters, digits and '-', starting and ending with a letter or digit; for a pattern of names use namespaceSelector",
        )],
    );
    list(0, 256, name)
}

pub(super) fn namespace_globs(_: &mut SchemaGenerator) -> Schema {
    let glob = text(
        63,
        &[(
            "self.matches('^[a-z0-9*?-]+$')",
            "must be a namespace name or a glob over them: lower-case letters, digits and '-', '*' for any run of characters, '?' for one",
        )],
    );
    list(0, 256, glob)
}

pub(super) fn source_globs(_: &mut SchemaGenerator) -> Schema {
    let glob = text(
        255,
        &[(
            "self.matches(r'^([0-9A-Za-z*?][\\w.*?-]*(/|$)){1,4}$') && !self.endsWith('/')",
            "must be a source name or a glob over them: 1 to 4 segments joined by '/', of letters, digits, '.', '_' and '-', '*' for any run of characters within a segment, '?' for one",
        )],
    );
    list(1, 128, glob)
}

pub(super) fn key_globs(_: &mut SchemaGenerator) -> Schema {
    let glob = text(
        253,
        &[(
            "self.matches('^[-._A-Za-z0-9*?]+$')",
            "must be a key of a Secret or a glob over them: letters, digits, '-', '.' and '_', '*' for any run of characters, '?' for one",
        )],
    );
    list(0, 256, glob)
}

pub(super) fn secret_name_globs(_: &mut SchemaGenerator) -> Schema {
    let glob = text(
        253,
        &[(
            "self.matches('^[a-z0-9.*?-]+$')",
            "must be a Secret name or a glob over them: lower-case letters, digits, '-' and '.', '*' for any run of characters, '?' for one",
        )],
    );
    list(0, 256, glob)
}

const DURATION: (&str, &str) = (
    "self.matches('^([0-9]{1,6}(s|m|h)){1,3}$')",
    "must be a duration of whole seconds, minutes or hours, such as 30s, 5m or 1h30m",
);

pub(super) fn grace_period(_: &mut SchemaGenerator) -> Schema {
    const BOUND: &str = "!self.matches('^([0-9]{1,6}(s|m|h)){1,3}$') || duration(self) <= duration('720h')";
    text(21, &[DURATION, (BOUND, "must be at most 720h (30 days); to keep the Secret for good use action: Retain")])
}

pub(super) fn rate_period(_: &mut SchemaGenerator) -> Schema {
    const BOUND: &str = "!self.matches('^([0-9]{1,6}(s|m|h)){1,3}$') || (duration(self) > duration('0s') && duration(self) <= duration('24h'))";
    text(21, &[DURATION, (BOUND, "must be above 0s and at most 24h")])
}

pub(super) fn label_value(_: &mut SchemaGenerator) -> Schema {
    text(63, &[LABEL_VALUE])
}

/// Rules of the labels for a Secret. The recommended labels under `app.kubernetes.io/` are for everybody.
pub(super) fn label_keys() -> Value {
    validations(&[
        QUALIFIED_NAME,
        (
            r"self.all(key, !key.matches(r'^(xlscsde[.]nhs[.]uk|([^/]*[.])?(kubernetes|k8s)[.]io)/') || (key.startsWith('app.kubernetes.io/') && key != 'app.kubernetes.io/managed-by'))",
            "labels under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved, and app.kubernetes.io/managed-by is the operator's own: choose another key",
        ),
    ])
}

/// Rules of the annotations for a Secret: controllers of the cluster act on those of Kubernetes.
pub(super) fn annotation_keys() -> Value {
    validations(&[
        QUALIFIED_NAME,
        (
            r"self.all(key, !key.matches(r'^(xlscsde[.]nhs[.]uk|([^/]*[.])?(kubernetes|k8s)[.]io)/'))",
            "annotations under xlscsde.nhs.uk/, kubernetes.io/ and k8s.io/ are reserved: choose another key",
        ),
    ])
}

/// A label selector that is not empty, and that the API server itself could evaluate.
pub(super) fn selector(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = LabelSelector::json_schema(generator);
    let mut add = |pointer: &str, key: &str, value: Value| {
        if let Some(object) = schema.pointer_mut(pointer).and_then(|at| at.as_object_mut()) {
            object.insert(key.into(), value);
        }
    };
    add(
        "",
        "x-kubernetes-validations",
        json!([{
            "rule": "(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)",
            "message": "an empty selector would mean every namespace: give at least one matchLabels or matchExpressions entry",
        }]),
    );
    add("/properties/matchLabels", "maxProperties", json!(32));
    add("/properties/matchLabels", "additionalProperties", text(63, &[LABEL_VALUE]).into());
    add("/properties/matchExpressions", "maxItems", json!(16));
    add(
        "/properties/matchExpressions/items",
        "x-kubernetes-validations",
        json!([{
            "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
            "message": "In and NotIn need values, Exists and DoesNotExist must have none",
        }]),
    );
    let requirement = "/properties/matchExpressions/items/properties";
    add(&format!("{requirement}/key"), "maxLength", json!(317));
    add(&format!("{requirement}/operator"), "enum", json!(["In", "NotIn", "Exists", "DoesNotExist"]));
    add(&format!("{requirement}/values"), "maxItems", json!(32));
    add(&format!("{requirement}/values"), "items", text(63, &[LABEL_VALUE]).into());
    schema
}
