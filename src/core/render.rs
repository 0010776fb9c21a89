//! From a permit and the content of its sources to the Secret as it shall be.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use sha2::Sha256;

use super::{
    bytes::SecretBytes,
    content::{self, Misfit},
    decide::Permit,
    name::{SecretKey, SourceName, Target},
    observed::Observed,
    policy::Revocation,
};
use crate::api::{DeletionPolicy, SecretsDistribution, names};

/// What the operator puts on every Secret, of its own.
#[derive(Clone, Debug)]
pub struct Seal {
    /// Key of the digest: without it a digest of a guessable secret would tell the secret.
    pub key: SecretBytes,
    /// Value of the annotation by which the first operator knew its Secrets.
    pub managed_by: String,
}

/// A Secret as it shall be. Only [`render`] can make one, of a [`Permit`]: every byte that reaches a Secret
/// has passed here.
#[derive(Clone, Debug)]
pub struct Rendered {
    permit: Permit,
    data: BTreeMap<SecretKey, SecretBytes>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    owner: Option<OwnerReference>,
    not_after: Option<Timestamp>,
}

/// Renders. `contents` must hold every source of the permit.
pub fn render(permit: Permit, contents: &BTreeMap<SourceName, SecretBytes>, seal: &Seal) -> Result<Rendered, Misfit> {
    let request = permit.request().clone();
    let mappings = request.mappings.iter();
    let data: BTreeMap<_, _> = mappings.filter_map(|m| Some((m.to.clone(), contents.get(&m.from)?.clone()))).collect();
    let not_after = content::check(&request.secret_type, &data)?;
    let target = permit.target();
    let mut labels = request.labels.clone();
    labels.insert(names::OWNER_UID.into(), request.uid.to_string());
    labels.insert(names::MANAGED_BY_LABEL.into(), names::FIELD_MANAGER.into());
    let mut annotations = request.annotations.clone();
    annotations.extend(
        [
            (names::MANAGED_BY_ANNOTATION, seal.managed_by.clone()),
            (names::REQUEST, request.key.to_string()),
            (names::TARGET, target.to_string()),
            (names::DIGEST, digest(&permit, &data, seal)),
            (names::POLICIES, policies(&permit)),
            (names::REVOCATION, permit.revocation().to_string()),
            (names::DELETION_POLICY, deletion_policy(request.deletion_policy).into()),
        ]
        .map(|(key, value)| (key.to_string(), value)),
    );
    let owner = owner(&permit, &target);
    Ok(Rendered { permit, data, labels, annotations, owner, not_after })
}

impl Rendered {
    /// The permit it was made of.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Its content. Whoever exposes it answers for where it goes.
    pub fn data(&self) -> &BTreeMap<SecretKey, SecretBytes> {
        &self.data
    }

    /// Its type.
    pub fn secret_type(&self) -> &str {
        self.permit.request().secret_type.as_str()
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// Its annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The owner reference, if the Secret shall go with its request: in the same namespace, and not retained.
    pub fn owner(&self) -> Option<&OwnerReference> {
        self.owner.as_ref()
    }

    /// When its content ends to be valid, if that is known of it.
    pub fn not_after(&self) -> Option<Timestamp> {
        self.not_after
    }

    /// Whether the operator holds all of the content, as its field manager shows.
    pub fn is_held(&self, observed: &Observed) -> bool {
        let held = &observed.held_keys;
        held.len() == self.data.len() && held.iter().all(|key| self.data.contains_key(key.as_ref()))
    }

    /// Whether the Secret already is as it shall be, as far as its metadata shows. The digest says what was
    /// written; the field manager says that nobody has changed it since.
    pub fn is_in(&self, observed: &Observed) -> bool {
        let is_foreign = |key: &str| !self.data.contains_key(key);
        let uid = self.permit.request().uid.as_str();
        let owner = observed.owners.iter().find(|owner| owner.uid == uid);
        observed.labels.include(&self.labels)
            && observed.annotations.include(&self.annotations)
            && owner == self.owner.as_ref()
            && self.is_held(observed)
            && !observed.foreign_keys.iter().any(|key| is_foreign(key))
            && self.stale_labels(observed).next().is_none()
            && self.stale_annotations(observed).next().is_none()
    }

    /// Labels that were written for an earlier version of the request.
    pub fn stale_labels<'a>(&'a self, observed: &'a Observed) -> impl Iterator<Item = &'a str> {
        observed.labels.held().filter(|key| !self.labels.contains_key(*key))
    }

    /// Annotations that were written for an earlier version of the request, the mark of a revocation among them.
    pub fn stale_annotations<'a>(&'a self, observed: &'a Observed) -> impl Iterator<Item = &'a str> {
        observed.annotations.held().filter(|key| !self.annotations.contains_key(*key))
    }
}

fn owner(permit: &Permit, target: &Target) -> Option<OwnerReference> {
    let request = permit.request();
    let goes_along = target.namespace == request.key.namespace && request.deletion_policy == DeletionPolicy::Delete;
    goes_along.then(|| OwnerReference {
        api_version: SecretsDistribution::api_version(&()).into_owned(),
        kind: SecretsDistribution::kind(&()).into_owned(),
        name: request.key.name.to_string(),
        uid: request.uid.to_string(),
        controller: Some(true),
        block_owner_deletion: None,
    })
}

/// HMAC-SHA-256 over the type and the content, each part preceded by its length so that no two contents
/// read the same. The request's UID makes equal contents of two requests look different.
fn digest(permit: &Permit, data: &BTreeMap<SecretKey, SecretBytes>, seal: &Seal) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(seal.key.expose()) else {
        return String::new(); // HMAC takes keys of any length: this cannot happen.
    };
    let request = permit.request();
    let fixed = [request.uid.as_str().as_bytes(), request.secret_type.as_str().as_bytes()];
    let content = data.iter().flat_map(|(key, value)| [key.as_str().as_bytes(), value.expose()]);
    for part in fixed.into_iter().chain(content) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The policies that grant the Secret, comma separated; cut so that no number of policies outgrows an annotation.
fn policies(permit: &Permit) -> String {
    const MOST: usize = 20;
    let mut names: Vec<_> = permit.granted().iter().flatten().map(|name| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(MOST);
    names.join(",")
}

fn deletion_policy(policy: DeletionPolicy) -> &'static str {
    match policy {
        DeletionPolicy::Delete => "Delete",
        DeletionPolicy::Retain => "Retain",
    }
}

impl std::fmt::Display for Revocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Delete(grace) => write!(f, "Delete after {}s", grace.as_secs()),
            Self::Retain => f.write_str("Retain"),
        }
    }
}
