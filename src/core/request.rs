//! A request that has been understood: parse, don't validate.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    invalid::InvalidField,
    metadata,
    name::{NamespaceName, RequestKey, SecretKey, SecretName, SecretType, SourceName, Target, Uid},
    selector::Selector,
};
use crate::api::{DeletionPolicy, SecretsDistribution, names};

/// The most mappings a request may have. The schema says the same.
pub(super) const MAX_MAPPINGS: usize = 64;

/// The longest annotation that can name a trace; a longer one is not worth its memory.
const MAX_TRACEPARENT: usize = 64;

/// A `SecretsDistribution` whose every field has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Where the request is.
    pub key: RequestKey,
    /// Its UID: what owns the Secrets written for it.
    pub uid: Uid,
    /// The generation that was read.
    pub generation: i64,
    /// When it was created: of two requests for one target the older wins.
    pub created: Timestamp,
    /// Name of the Secret to write.
    pub secret_name: SecretName,
    /// Type of the Secret to write.
    pub secret_type: SecretType,
    /// What goes into it; keys are unique, never empty.
    pub mappings: Vec<Mapping>,
    /// Namespaces it names as destinations; its own if it names none.
    pub destinations: BTreeSet<NamespaceName>,
    /// More destinations by label.
    pub selector: Option<Selector>,
    /// Labels for the Secret.
    pub labels: BTreeMap<String, String>,
    /// Annotations for the Secret.
    pub annotations: BTreeMap<String, String>,
    /// What happens to the Secret when the request is deleted.
    pub deletion_policy: DeletionPolicy,
    /// Whether the request wants to take over an unowned Secret.
    pub adopt: bool,
    /// Whether the request is suspended.
    pub suspend: bool,
    /// The trace of whoever asks, as its annotation names it: nobody has looked at it.
    pub traceparent: Option<String>,
    /// Whether the request is being deleted (a finalizer of somebody else holds it).
    pub deleting: bool,
}

/// One key of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Where the content comes from.
    pub from: SourceName,
    /// The key it goes to.
    pub to: SecretKey,
}

impl Request {
    /// Whether it keeps a Secret that it does not want any more, as long as that is granted: a suspended request changes
    /// nothing, and one that is being deleted, and held, writes nothing and waits for its end.
    pub fn keeps_what_it_left(&self) -> bool {
        self.suspend || self.deleting
    }

    /// Checks everything again that the schema checks: an object may have been stored before the schema was.
    pub fn parse(object: &SecretsDistribution) -> Result<Self, InvalidField> {
        let spec = &object.spec;
        let key = request_key(&object.namespace().unwrap_or_default(), &object.name_any())?;
        let secret_name = match &spec.name {
            Some(name) => SecretName::parse(name).map_err(|e| InvalidField::new("spec.name", e))?,
            None => key.name.clone(),
        };
        let secret_type = SecretType::parse(spec.type_.as_deref().unwrap_or(names::OPAQUE))
            .map_err(|e| InvalidField::new("spec.type", e))?;
        let selector = spec
            .namespace_selector
            .as_ref()
            .map(Selector::parse)
            .transpose()
            .map_err(|e| InvalidField::new("spec.namespaceSelector", e))?;
        Ok(Self {
            uid: Uid::admitted(&object.uid().unwrap_or_default()),
            generation: object.metadata.generation.unwrap_or_default(),
            created: object.creation_timestamp().map(|t| t.0).unwrap_or(Timestamp::UNIX_EPOCH),
            secret_name,
            secret_type,
            mappings: mappings(object)?,
            destinations: destinations(object, &key)?,
            selector,
            labels: metadata::labels(&spec.metadata)?,
            annotations: metadata::annotations(&spec.metadata)?,
            deletion_policy: spec.deletion_policy,
            adopt: spec.adopt,
            suspend: spec.suspend,
            traceparent: object
                .annotations()
                .get(names::TRACEPARENT)
                .filter(|text| text.len() <= MAX_TRACEPARENT)
                .cloned(),
            deleting: object.metadata.deletion_timestamp.is_some(),
            key,
        })
    }

    /// The Secret this request writes in `namespace`.
    pub fn target(&self, namespace: &NamespaceName) -> Target {
        Target { namespace: namespace.clone(), name: self.secret_name.clone() }
    }
}

/// Namespace and name of a request, as far as they can be understood.
pub fn request_key(namespace: &str, name: &str) -> Result<RequestKey, InvalidField> {
    Ok(RequestKey {
        namespace: NamespaceName::parse(namespace).map_err(|e| InvalidField::new("metadata.namespace", e))?,
        name: SecretName::parse(name).map_err(|e| InvalidField::new("metadata.name", e))?,
    })
}

fn mappings(object: &SecretsDistribution) -> Result<Vec<Mapping>, InvalidField> {
    let entries = &object.spec.secrets;
    if entries.is_empty() || entries.len() > MAX_MAPPINGS {
        return Err(InvalidField::new(
            "spec.secrets",
            format!("must have 1 to {MAX_MAPPINGS} entries, has {}", entries.len()),
        ));
    }
    let mut seen = BTreeSet::new();
    let mut mappings = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let from =
            SourceName::parse(&entry.from).map_err(|e| InvalidField::new(format!("spec.secrets[{i}].from"), e))?;
        let to = SecretKey::parse(&entry.to).map_err(|e| InvalidField::new(format!("spec.secrets[{i}].to"), e))?;
        if !seen.insert(to.clone()) {
            return Err(InvalidField::new(
                format!("spec.secrets[{i}].to"),
                format!("duplicate key {to}: each key may be written once"),
            ));
        }
        mappings.push(Mapping { from, to });
    }
    Ok(mappings)
}

fn destinations(object: &SecretsDistribution, key: &RequestKey) -> Result<BTreeSet<NamespaceName>, InvalidField> {
    if object.spec.namespaces.is_empty() {
        return Ok(BTreeSet::from([key.namespace.clone()]));
    }
    let parse = |(i, name): (usize, &String)| {
        NamespaceName::parse(name).map_err(|e| InvalidField::new(format!("spec.namespaces[{i}]"), e))
    };
    object.spec.namespaces.iter().enumerate().map(parse).collect()
}
