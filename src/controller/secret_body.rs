//! What is sent to the API server: the one place where content leaves the redacting type.

use std::collections::BTreeMap;

use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::{Serialize, Serializer};

use crate::{
    api::names,
    core::{
        bytes::SecretBytes,
        marks::Marks,
        name::{SecretKey, Target},
        observed::Observed,
        render::Rendered,
    },
};

/// A Secret as a whole, for a create or an apply.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Whole<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    r#type: &'a str,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owner_references: Vec<&'a OwnerReference>,
}

impl<'a> Whole<'a> {
    /// The Secret; with `observed`, of no other version than that.
    pub fn of(rendered: &'a Rendered, target: &'a Target, observed: Option<&'a Observed>) -> Self {
        Self {
            api_version: "v1",
            kind: "Secret",
            metadata: Metadata {
                name: target.name.as_str(),
                namespace: target.namespace.as_str(),
                uid: observed.map(|observed| observed.uid.as_str()),
                resource_version: observed.map(|observed| observed.resource_version.as_str()),
                labels: rendered.labels(),
                annotations: rendered.annotations(),
                owner_references: rendered.owner().into_iter().collect(),
            },
            r#type: rendered.secret_type(),
            data: Data(rendered.data()),
        }
    }
}

/// Content, encoded while it is written out: no text of it is kept.
struct Data<'a>(&'a BTreeMap<SecretKey, SecretBytes>);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Value<'a>(&'a SecretBytes);
        impl Serialize for Value<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&Base64Display::new(self.0.expose(), &STANDARD))
            }
        }
        serializer.collect_map(self.0.iter().map(|(key, value)| (key.as_str(), Value(value))))
    }
}

/// One operation of a JSON patch.
#[derive(Serialize)]
pub struct Operation<'a> {
    op: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Text(&'a str),
    Nothing {},
    Owners(Vec<&'a OwnerReference>),
    Data(Data<'a>),
}

/// The changes that make the observed Secret what it shall be, bound to its UID and version. The content is
/// replaced as a whole; labels and annotations that are none of ours stay.
pub fn changes<'a>(rendered: &'a Rendered, observed: &'a Observed) -> Vec<Operation<'a>> {
    let mut operations = vec![
        Operation::new("test", "/metadata/uid".into(), Value::Text(observed.uid.as_str())),
        Operation::new("replace", "/metadata/resourceVersion".into(), Value::Text(&observed.resource_version)),
    ];
    let stale = rendered.stale_labels(observed);
    operations.extend(map_changes("/metadata/labels", rendered.labels(), &observed.labels, stale));
    let stale = rendered.stale_annotations(observed);
    operations.extend(map_changes("/metadata/annotations", rendered.annotations(), &observed.annotations, stale));
    operations.extend(owner_changes(rendered, observed));
    operations.push(Operation::new("add", "/type".into(), Value::Text(rendered.secret_type())));
    operations.push(Operation::new("add", "/data".into(), Value::Data(Data(rendered.data()))));
    operations
}

impl<'a> Operation<'a> {
    fn new(op: &'static str, path: String, value: Value<'a>) -> Self {
        Self { op, path, value: Some(value) }
    }
}

fn map_changes<'a>(
    path: &'static str,
    wanted: &'a BTreeMap<String, String>,
    observed: &Marks,
    stale: impl Iterator<Item = &'a str>,
) -> Vec<Operation<'a>> {
    let at = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    // A member of a map that does not exist cannot be added.
    let parent = observed.is_empty().then(|| Operation::new("add", path.into(), Value::Nothing {}));
    let different = wanted.iter().filter(|(key, value)| observed.get(key) != Some(value.as_str()));
    let added = different.map(|(key, value)| Operation::new("add", at(key), Value::Text(value)));
    let removed = stale.map(|key| Operation { op: "remove", path: at(key), value: None });
    parent.into_iter().chain(added).chain(removed).collect()
}

/// Owner references of others stay, those of requests go, ours comes.
fn owner_changes<'a>(rendered: &'a Rendered, observed: &'a Observed) -> Option<Operation<'a>> {
    let of_request = |owner: &OwnerReference| owner.api_version.starts_with(names::GROUP);
    let others = observed.owners.iter().filter(|owner| !of_request(owner));
    let wanted: Vec<_> = others.chain(rendered.owner()).collect();
    if wanted.iter().copied().eq(observed.owners.iter()) {
        return None;
    }
    Some(match wanted.is_empty() {
        true => Operation { op: "remove", path: "/metadata/ownerReferences".into(), value: None },
        false => Operation::new("add", "/metadata/ownerReferences".into(), Value::Owners(wanted)),
    })
}
