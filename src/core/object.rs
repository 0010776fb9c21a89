//! From what the API server stores to what the core knows. An object may be older than the schema: one that
//! cannot be understood becomes one that says which field is wrong.

use std::sync::Arc;

use kube::{ResourceExt, core::DynamicObject};
use serde::de::DeserializeOwned;

use super::{
    index::Stored,
    invalid::InvalidField,
    name::{RequestKey, Uid},
    policy::Policy,
    request::{Request, request_key},
};
use crate::api::{DistributionPolicy, SecretsDistribution};

/// A request, as far as it can be understood. None: its name is none that it could be known by.
pub fn request(object: &DynamicObject) -> Option<(RequestKey, Stored)> {
    let key = key_of(object)?;
    let generation = object.metadata.generation.unwrap_or_default();
    let stored = match typed::<SecretsDistribution>(object).and_then(|object| Request::parse(&object)) {
        Ok(request) => Stored::Valid(Arc::new(request)),
        Err(problem) => Stored::Invalid { uid: Uid::admitted(&object.uid().unwrap_or_default()), generation, problem },
    };
    Some((key, stored))
}

/// What a request is known by.
pub fn key_of(object: &DynamicObject) -> Option<RequestKey> {
    request_key(&object.namespace().unwrap_or_default(), &object.name_any()).ok()
}

/// A policy, compiled.
pub fn policy(object: &DynamicObject) -> Result<Policy, InvalidField> {
    Policy::parse(&typed::<DistributionPolicy>(object)?)
}

/// The object as its kind has it.
pub fn typed<K: DeserializeOwned>(object: &DynamicObject) -> Result<K, InvalidField> {
    let value = serde_json::to_value(object).unwrap_or_default();
    serde_path_to_error::deserialize(value)
        .map_err(|error| problem(&error.path().to_string(), &error.inner().to_string()))
}

/// The field, and what the parser expects there. Its own words are not told: they repeat what was found.
fn problem(path: &str, told: &str) -> InvalidField {
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or_default().to_string();
    match (told.strip_prefix("missing field "), told.rsplit_once(", expected ")) {
        (Some(field), _) if path == "." => InvalidField::new(quoted(field), "is missing"),
        (Some(field), _) => InvalidField::new(format!("{path}.{}", quoted(field)), "is missing"),
        (None, Some((_, expected))) => InvalidField::new(path, format!("must be {}", plain(expected))),
        (None, None) => InvalidField::new(path, "has a form that it must not have"),
    }
}

/// In words that are not Rust's.
fn plain(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(fields: Value) -> String {
        let mut object = json!({ "apiVersion": "xlscsde.nhs.uk/v1", "kind": "x", "metadata": { "name": "x" } });
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        policy(&serde_json::from_value(object).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn the_field_is_named_and_its_value_is_not() {
        let namespaces = json!({ "names": ["a"] });
        assert_eq!(told(json!({})), "spec: is missing");
        assert_eq!(told(json!({ "spec": "Shh" })), "spec: must be an object");
        assert_eq!(told(json!({ "spec": { "namespaces": namespaces } })), "spec.rules: is missing");
        let rules = told(json!({ "spec": { "namespaces": namespaces, "rules": "Shh, expected Shh" } }));
        assert_eq!(rules, "spec.rules: must be a list");
        let rules = json!([{ "effect": "Shh", "sources": ["A"] }]);
        let effect = told(json!({ "spec": { "namespaces": namespaces, "rules": rules } }));
        assert_eq!(effect, "spec.rules[0].effect: must be `Allow` or `Deny`");
        let rules = json!([{ "effect": "Allow", "sources": ["A"] }]);
        let time = told(json!({ "spec": { "namespaces": namespaces, "rules": rules, "notAfter": "Shh" } }));
        assert!(time.starts_with("spec.notAfter: ") && !time.contains("Shh"), "{time}");
    }
}
