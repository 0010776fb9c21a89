//! Objects as people and the API server write them: whoever reads one of them reads the same, also when it was written
//! and read once more; and what was understood is what can be carried out.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use secrets_distributor::{
    api::{DistributionPolicy, SecretsDistribution},
    core::{
        index::Stored,
        invalid::InvalidField,
        lint,
        manifest::{self, Object},
        object,
        observed::Observed,
        policy::Policy,
        request::Request,
    },
};
use serde_json::Value;

use super::model::now;

/// YAML or JSON, of one or more documents.
pub fn check(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    let _ = lint::check(&[lint::File { name: "file", text }], now());
    for namespace in manifest::namespaces(text).into_iter().flatten() {
        assert!(namespace.labels.values().any(|label| *label == *namespace.name.as_str()), "{namespace:?}");
    }
    for document in manifest::objects(text).into_iter().flatten() {
        match manifest::object_of(document.value.clone()) {
            Ok(Object::Policy(object)) => policy(&object, document.value),
            Ok(Object::Request(object)) => request(&object, document.value),
            Err(_) => watched(document.value),
        }
    }
}

fn policy(object: &DistributionPolicy, value: Value) {
    let compiled = Policy::parse(object);
    compiled.as_ref().err().into_iter().for_each(can_be_told);
    let written = serde_json::to_value(object).unwrap();
    let Ok(Object::Policy(again)) = manifest::object_of(written.clone()) else { panic!("not read again: {written}") };
    assert_eq!(*again, *object);
    for value in [value, written] {
        // It has a spec that is understood, so the watch shows the same.
        let watched = object::policy(&serde_json::from_value(value).unwrap());
        assert_eq!(watched, compiled);
    }
}

fn request(object: &SecretsDistribution, value: Value) {
    let understood = Request::parse(object);
    understood.as_ref().err().into_iter().for_each(can_be_told);
    let written = serde_json::to_value(object).unwrap();
    let Ok(Object::Request(again)) = manifest::object_of(written.clone()) else { panic!("not read again: {written}") };
    assert_eq!(*again, *object);
    for value in [value, written] {
        match (object::request(&serde_json::from_value(value).unwrap()), &understood) {
            (Some((key, Stored::Valid(watched))), Ok(read)) => {
                assert_eq!(*watched, *read);
                assert_eq!(key, read.key);
                can_be_carried_out(read);
            }
            (Some((_, Stored::Invalid { problem, .. })), Err(error)) => assert_eq!(problem, *error),
            (None, Err(error)) => assert!(error.field.starts_with("metadata."), "{error}"),
            (watched, read) => panic!("{watched:?}, but {read:?}"),
        }
    }
}

fn can_be_carried_out(request: &Request) {
    let keys: BTreeSet<_> = request.mappings.iter().map(|mapping| &mapping.to).collect();
    assert!((1..=64).contains(&keys.len()) && keys.len() == request.mappings.len(), "{request:?}");
    assert!(!request.destinations.is_empty(), "{request:?}");
    let names = request.labels.keys().chain(request.annotations.keys());
    let reserved = names.filter(|name| name.starts_with("xlscsde.nhs.uk/") || **name == "app.kubernetes.io/managed-by");
    assert_eq!(reserved.count(), 0, "{request:?}");
}

/// In a status and in a log.
fn can_be_told(error: &InvalidField) {
    assert!(!error.problem.is_empty() && !error.to_string().contains(char::is_control), "{error:?}");
}

/// What the API server has stored may be anything; a Secret is told by its metadata.
fn watched(value: Value) {
    let Ok(object) = serde_json::from_value::<DynamicObject>(value) else { return };
    object::policy(&object).err().iter().for_each(can_be_told);
    if let Some((_, Stored::Invalid { problem, .. })) = object::request(&object) {
        can_be_told(&problem);
    }
    let observed = Observed::parse(object.metadata);
    assert!(observed.supersedes(&observed));
}
