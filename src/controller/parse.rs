//! A request as a watch shows it: what it asks, and the status that it has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{ResourceExt, api::DynamicObject};

use super::report::Known;
use crate::core::{index::Stored, name::RequestKey, object};

/// A request, as far as it can be understood, and its status. None: its name is none that it could be known by.
pub fn request(mut object: DynamicObject) -> Option<(RequestKey, Stored, Known)> {
    let uid = object.uid().unwrap_or_default();
    let version = version_of(&object.metadata);
    let status = object.data.as_object_mut().and_then(|data| data.remove("status"));
    let status = status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default();
    let (key, stored) = object::request(&object)?;
    Some((key, stored, Known { uid, version, status }))
}

/// The resource version: a number that grows with every change; 0 if there is none.
pub fn version_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
