//! A Secret as its metadata shows it: who owns it, what was written, and whether it still stands. Its
//! content is never read.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::{Map, Value};

use super::{
    marks::Marks,
    name::{NamespaceName, RequestKey, SecretName, Target, Uid},
};
use crate::api::{SecretsDistribution, names};

/// `kubectl apply` keeps a copy of the object, content included, in this annotation: it is dropped unread.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What the metadata of a Secret says.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// UID of the Secret.
    pub uid: Uid,
    /// The version that was seen: every write is guarded by it.
    pub resource_version: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its labels.
    pub labels: Marks,
    /// Its annotations, but for a copy of the object itself.
    pub annotations: Marks,
    /// Its owner references.
    pub owners: Vec<OwnerReference>,
    /// Keys of the content that the operator wrote and nobody has changed since.
    pub held_keys: Box<[Box<str>]>,
    /// Keys of the content that others have written.
    pub foreign_keys: Box<[Box<str>]>,
    /// When the operator wrote it last.
    pub written: Option<Timestamp>,
}

/// The keys of a Secret's content, labels and annotations that some managers hold.
#[derive(Default)]
struct Fields<'a> {
    data: BTreeSet<&'a str>,
    labels: BTreeSet<&'a str>,
    annotations: BTreeSet<&'a str>,
}

impl Observed {
    /// Reads the metadata. Missing parts are as good as empty: they make the Secret a stranger's.
    pub fn parse(meta: ObjectMeta) -> Self {
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.remove(LAST_APPLIED);
        let entries = meta.managed_fields.unwrap_or_default();
        let (ours, foreign): (Vec<_>, Vec<_>) =
            entries.iter().partition(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
        let mut held = Fields::default();
        ours.iter().for_each(|entry| held.add(entry));
        let mut others = Fields::default();
        foreign.iter().for_each(|entry| others.add(entry));
        Self {
            uid: Uid::admitted(&meta.uid.unwrap_or_default()),
            resource_version: meta.resource_version.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            labels: Marks::new(meta.labels.unwrap_or_default(), &held.labels),
            annotations: Marks::new(annotations, &held.annotations),
            owners: meta.owner_references.unwrap_or_default(),
            held_keys: held.data.into_iter().map(Into::into).collect(),
            foreign_keys: others.data.into_iter().map(Into::into).collect(),
            written: ours.iter().filter_map(|entry| entry.time.as_ref()).map(|time| time.0).max(),
        }
    }

    /// The version as a number: those of one resource are ordered, also of different objects.
    pub fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }

    /// Whether it is newer than, or the same as, another look at the same Secret. A Secret that was deleted and made
    /// again is always newer.
    pub fn supersedes(&self, other: &Self) -> bool {
        self.uid != other.uid || self.version() >= other.version()
    }

    /// UID of the request it was written for, as its label says.
    pub fn owner(&self) -> Option<Uid> {
        self.labels.get(names::OWNER_UID).map(Uid::admitted)
    }

    /// The request it was written for, if its record says so and names this very Secret: a copy of a
    /// distributed Secret under another name or in another namespace has no valid record.
    pub fn recorded_request(&self, at: &Target) -> Option<RequestKey> {
        if self.annotations.get(names::TARGET)? != at.to_string() {
            return None;
        }
        let (namespace, name) = self.annotations.get(names::REQUEST)?.split_once('/')?;
        Some(RequestKey { namespace: NamespaceName::parse(namespace).ok()?, name: SecretName::parse(name).ok()? })
    }

    /// The request that its owner reference names, which is in its own namespace.
    pub fn referenced_request(&self, at: &Target) -> Option<(RequestKey, Uid)> {
        let owner = self.owners.iter().find(|owner| owner.kind == SecretsDistribution::kind(&()))?;
        let key = RequestKey { namespace: at.namespace.clone(), name: SecretName::parse(&owner.name).ok()? };
        Some((key, Uid::admitted(&owner.uid)))
    }

    /// Whether its people offer it to a request.
    pub fn is_offered(&self) -> bool {
        self.annotations.get(names::ADOPTION) == Some(names::ALLOWED)
    }

    /// Whether it belongs to the request with this UID: by owner reference, or by label and record.
    pub fn belongs_to(&self, uid: &Uid, key: &RequestKey, at: &Target) -> bool {
        let referenced = at.namespace == key.namespace && self.owners.iter().any(|owner| owner.uid == uid.as_str());
        let recorded = || self.owner().as_ref() == Some(uid) && self.recorded_request(at).as_ref() == Some(key);
        referenced || recorded()
    }
}

impl<'a> Fields<'a> {
    fn add(&mut self, entry: &'a ManagedFieldsEntry) {
        let Some(Value::Object(fields)) = entry.fields_v1.as_ref().map(|fields| &fields.0) else { return };
        let metadata = fields.get("f:metadata").and_then(Value::as_object);
        let within = |key: &str| metadata.and_then(|metadata| metadata.get(key)).and_then(Value::as_object);
        self.data.extend(keys(fields.get("f:data").and_then(Value::as_object)));
        self.labels.extend(keys(within("f:labels")));
        self.annotations.extend(keys(within("f:annotations")));
    }
}

fn keys(fields: Option<&Map<String, Value>>) -> impl Iterator<Item = &str> {
    fields.into_iter().flat_map(Map::keys).filter_map(|key| key.strip_prefix("f:"))
}
