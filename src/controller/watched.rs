//! An object as a watch or an answer shows it, without what nobody reads of it.
//!
//! Each status that is written comes back twice, as the answer and through the watch. To build its `managedFields` as
//! trees, and to throw them away, was a part of the third of its processor time that the operator does without since.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::{Resource, api::DynamicObject, core::ApiResource};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A request or a policy, whatever its spec looks like.
#[derive(Clone, Debug)]
pub struct Watched(pub DynamicObject);

#[derive(Deserialize)]
struct Wire {
    metadata: Metadata,
    spec: Option<Value>,
    status: Option<Value>,
}

/// All metadata that an object of these kinds can have, but for `managedFields`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl<'de> Deserialize<'de> for Watched {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, spec, status } = Wire::deserialize(deserializer)?;
        let fields = [("spec", spec), ("status", status)];
        let data: Map<_, _> = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Ok(Self(DynamicObject { types: None, metadata: metadata.into(), data: Value::Object(data) }))
    }
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            annotations: read.annotations,
            creation_timestamp: read.creation_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            deletion_timestamp: read.deletion_timestamp,
            finalizers: read.finalizers,
            generate_name: read.generate_name,
            generation: read.generation,
            labels: read.labels,
            managed_fields: None,
            name: read.name,
            namespace: read.namespace,
            owner_references: read.owner_references,
            resource_version: read.resource_version,
            self_link: None,
            uid: read.uid,
        }
    }
}

impl Resource for Watched {
    type DynamicType = ApiResource;
    type Scope = <DynamicObject as Resource>::Scope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(resource)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(resource)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(resource)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(resource)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_the_object_without_its_managed_fields() {
        let mut object = json!({
            "metadata": {
                "annotations": { "a": "b" }, "creationTimestamp": "2026-01-01T00:00:00Z",
                "deletionGracePeriodSeconds": 0, "deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["f/g"],
                "generateName": "n", "generation": 3, "labels": { "l": "m" }, "name": "name", "namespace": "namespace",
                "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u" }],
                "resourceVersion": "7", "uid": "uid",
            },
            "spec": { "secrets": [] }, "status": { "observedGeneration": 2 },
        });
        let expected: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        object["apiVersion"] = json!("xlscsde.nhs.uk/v1");
        object["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "fieldsV1": { "f:spec": {} } }]);
        let Watched(read) = serde_json::from_value(object).unwrap();
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_not_there_stays_so() {
        let object = json!({ "metadata": { "name": "name" } });
        let Watched(read) = serde_json::from_value(object).unwrap();
        assert_eq!(read.data, json!({}), "that a spec is missing is told");
    }
}
