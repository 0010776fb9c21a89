//! The bounds of a schema: how many entries a list may have, how long a text, how large a number. Forms are checked by
//! the parsers, which say more.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{DistributionPolicy, SecretsDistribution},
    core::invalid::InvalidField,
};

static OF_POLICIES: LazyLock<Value> = LazyLock::new(schema_of_spec::<DistributionPolicy>);
static OF_REQUESTS: LazyLock<Value> = LazyLock::new(schema_of_spec::<SecretsDistribution>);

fn schema_of_spec<K: CustomResourceExt>() -> Value {
    let versions = K::crd().spec.versions;
    let schema = versions.first().and_then(|version| serde_json::to_value(&version.schema).ok()).unwrap_or_default();
    schema.pointer("/openAPIV3Schema/properties/spec").cloned().unwrap_or_default()
}

/// The fields of a policy that exceed a bound of its schema.
pub(super) fn of_policy(policy: &DistributionPolicy) -> Vec<InvalidField> {
    exceeded(&OF_POLICIES, &policy.spec)
}

/// The fields of a request that exceed a bound of its schema.
pub(super) fn of_request(request: &SecretsDistribution) -> Vec<InvalidField> {
    exceeded(&OF_REQUESTS, &request.spec)
}

fn exceeded(schema: &Value, spec: &impl Serialize) -> Vec<InvalidField> {
    let mut problems = Vec::new();
    walk(schema, &serde_json::to_value(spec).unwrap_or_default(), "spec", &mut problems);
    problems
}

fn walk(schema: &Value, value: &Value, field: &str, problems: &mut Vec<InvalidField>) {
    if let Some(problem) = problem(schema, value) {
        problems.push(InvalidField::new(field, problem));
    }
    match value {
        Value::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            items.iter().enumerate().for_each(|(i, item)| walk(schema, item, &format!("{field}[{i}]"), problems));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                let schema = known.or(schema.get("additionalProperties")).unwrap_or(&Value::Null);
                walk(schema, value, &format!("{field}.{name}"), problems);
            }
        }
        _ => {}
    }
}

fn problem(schema: &Value, value: &Value) -> Option<String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let above = |name: &str, size: usize| bound(name).filter(|most| size as f64 > *most);
    let below = |name: &str, size: usize| bound(name).filter(|least| (size as f64) < *least);
    match value {
        Value::Array(items) => above("maxItems", items.len())
            .map(|most| format!("must have at most {most} entries, has {}", items.len()))
            .or(below("minItems", items.len()).map(|least| format!("must have at least {least} entries"))),
        Value::Object(fields) => above("maxProperties", fields.len())
            .map(|most| format!("must have at most {most} entries, has {}", fields.len())),
        Value::String(text) => {
            let size = text.chars().count();
            above("maxLength", size).map(|most| format!("must have at most {most} characters, has {size}"))
        }
        Value::Number(number) => {
            let number = number.as_f64()?;
            let least =
                bound("minimum").filter(|least| number < *least).map(|least| format!("must be at least {least}"));
            least.or(bound("maximum").filter(|most| number > *most).map(|most| format!("must be at most {most}")))
        }
        Value::Null | Value::Bool(_) => None,
    }
}
