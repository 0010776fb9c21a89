//! Everything that happened, and the checks on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrets_distributor::api::{SecretsDistribution, names};

use crate::is_ready;
use crate::site::condition;

/// A version of an object.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The store's revision of it.
    pub revision: u64,
    /// When the observer saw it.
    pub at: SystemTime,
    /// It was deleted then.
    pub deleted: bool,
    /// The object.
    pub object: Object,
}

/// What is recorded.
#[derive(Clone, Debug)]
pub enum Object {
    /// A Secret.
    Secret(Box<Secret>),
    /// A `SecretsDistribution`.
    Request(Box<SecretsDistribution>),
}

/// The versions, in the order of their revisions.
#[derive(Clone, Debug)]
pub struct History(Vec<Seen>);

/// Namespace and name.
type Key = (String, String);

impl Seen {
    fn key(&self) -> Key {
        let meta = match &self.object {
            Object::Secret(secret) => &secret.metadata,
            Object::Request(request) => &request.metadata,
        };
        (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }

    pub(super) fn name(&self) -> String {
        self.key().1
    }

    /// It is a request whose status says this of Ready: True, False or Unknown.
    pub fn says_ready(&self, what: &str) -> bool {
        let Object::Request(request) = &self.object else { return false };
        let ready = request.status.as_ref().and_then(|status| condition(status, "Ready"));
        ready.is_some_and(|ready| ready.status == what)
    }
}

impl History {
    pub(super) fn new(seen: Vec<Seen>) -> Self {
        Self(seen)
    }

    /// How many versions there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything but the first versions.
    pub fn since(&self, first: usize) -> impl Iterator<Item = &Seen> {
        self.0.iter().skip(first)
    }

    /// Every version of every Secret that was not a deletion.
    pub fn secrets(&self) -> impl Iterator<Item = (&Seen, &Secret)> {
        self.0.iter().filter(|seen| !seen.deleted).filter_map(|seen| match &seen.object {
            Object::Secret(secret) => Some((seen, secret.as_ref())),
            Object::Request(_) => None,
        })
    }

    /// S1: every version of a Secret that the operator wrote holds only what was granted then, as `granted` tells. What is
    /// marked as revoked has the bytes that it had: a grace period may begin long after the grant's end.
    pub fn only_granted(&self, granted: impl Fn(&Seen, &Secret) -> bool) -> Result<()> {
        let mut before: BTreeMap<Key, &Secret> = BTreeMap::new();
        for (seen, secret) in self.secrets().filter(|(_, secret)| is_ours(secret)) {
            let marked = before.insert(seen.key(), secret).is_some_and(|before| is_marked(secret, before));
            ensure!(marked || granted(seen, secret), "S1: not granted: {}", version(seen));
        }
        Ok(())
    }

    /// S2: the Secrets for which `bystander` holds have one version and were not deleted. Answers how many.
    pub fn bystanders_untouched(&self, bystander: impl Fn(&Secret) -> bool) -> Result<usize> {
        let mut found = BTreeSet::new();
        for seen in &self.0 {
            let Object::Secret(secret) = &seen.object else { continue };
            if bystander(secret) {
                ensure!(found.insert(seen.key()) && !seen.deleted, "S2: touched: {}", version(seen));
            }
        }
        Ok(found.len())
    }

    /// The Secrets for which `kept` holds were not deleted, and have the same UID, type and content in all their versions.
    /// Answers how many versions each had.
    pub fn content_untouched(&self, kept: impl Fn(&Secret) -> bool) -> Result<BTreeMap<String, usize>> {
        let mut first: BTreeMap<Key, (&Secret, usize)> = BTreeMap::new();
        for seen in &self.0 {
            let Object::Secret(secret) = &seen.object else { continue };
            if kept(secret) {
                let (before, versions) = first.entry(seen.key()).or_insert((secret.as_ref(), 0));
                let same = before.metadata.uid == secret.metadata.uid
                    && before.type_ == secret.type_
                    && before.data == secret.data;
                ensure!(same && !seen.deleted, "not as it was, or gone: {}", version(seen));
                *versions += 1;
            }
        }
        let named =
            first.into_iter().map(|((namespace, name), (_, versions))| (format!("{namespace}/{name}"), versions));
        Ok(named.collect())
    }

    /// S3: in every version of every Secret the values that carry a stamp (`stamp:rest`) carry the same one.
    /// Answers how many versions carried one.
    pub fn no_torn_pair(&self) -> Result<usize> {
        let mut stamped = 0;
        for (seen, secret) in self.secrets() {
            let stamps: BTreeSet<_> = secret.data.iter().flatten().filter_map(|(_, value)| stamp(&value.0)).collect();
            ensure!(stamps.len() < 2, "S3: torn: {} has {stamps:?}", version(seen));
            stamped += stamps.len();
        }
        Ok(stamped)
    }

    /// S6: whenever a status says Ready of its request's current generation, each Secret that it calls written is
    /// there, and the request's own. Answers how many such statuses there were. Of requests whose Secrets somebody else
    /// deletes it need not be so: what their status says may have changed when it arrives.
    pub fn ready_means_written(&self, is_meant: impl Fn(&SecretsDistribution) -> bool) -> Result<usize> {
        let mut secrets: BTreeMap<Key, &Secret> = BTreeMap::new();
        let mut checked = 0;
        for seen in &self.0 {
            match &seen.object {
                Object::Secret(_) if seen.deleted => drop(secrets.remove(&seen.key())),
                Object::Secret(secret) => drop(secrets.insert(seen.key(), secret)),
                Object::Request(request) if !seen.deleted && news_of_ready(request) && is_meant(request) => {
                    checked += 1;
                    for key in written(request) {
                        let there = secrets.get(&key).is_some_and(|secret| is_for(secret, request));
                        ensure!(there, "S6: {} says Ready without Secret {}/{}", version(seen), key.0, key.1);
                    }
                }
                Object::Request(_) => {}
            }
        }
        Ok(checked)
    }
}

fn version(seen: &Seen) -> String {
    let (namespace, name) = seen.key();
    format!("{namespace}/{name} at revision {}", seen.revision)
}

fn is_ours(secret: &Secret) -> bool {
    secret.labels().contains_key(names::OWNER_UID)
}

/// It is marked as revoked, and has the content that it had.
fn is_marked(secret: &Secret, before: &Secret) -> bool {
    secret.annotations().contains_key(names::REVOKED_AT)
        && secret.metadata.uid == before.metadata.uid
        && secret.data == before.data
}

fn is_for(secret: &Secret, request: &SecretsDistribution) -> bool {
    secret.labels().get(names::OWNER_UID) == request.metadata.uid.as_ref()
}

fn stamp(value: &[u8]) -> Option<&str> {
    let (stamp, _) = std::str::from_utf8(value).ok()?.split_once(':')?;
    stamp.starts_with("gen-").then_some(stamp)
}

/// The status was just written, and says Ready of the current generation.
fn news_of_ready(request: &SecretsDistribution) -> bool {
    let Some(status) = &request.status else { return false };
    is_ready(status)
        && status.observed_generation == request.metadata.generation
        && request.metadata.deletion_timestamp.is_none()
}

/// The Secrets that a status calls written.
fn written(request: &SecretsDistribution) -> Vec<Key> {
    let targets = request.status.iter().flat_map(|status| &status.targets);
    targets.map(|target| (target.namespace.clone(), target.name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(revision: u64, name: &str, data: Value) -> Seen {
        let object = json!({
            "metadata": { "namespace": "a", "name": name, "labels": { names::OWNER_UID: "u" } },
            "stringData": {}, "data": data,
        });
        let object = Object::Secret(Box::new(serde_json::from_value(object).unwrap()));
        Seen { revision, at: SystemTime::now(), deleted: false, object }
    }

    fn changed(mut seen: Seen, change: fn(&mut Secret)) -> Seen {
        if let Object::Secret(secret) = &mut seen.object {
            change(secret);
        }
        seen
    }

    #[test]
    fn a_torn_pair_is_found() {
        // gen-1:a, gen-1:b and gen-2:b
        let pair = secret(1, "x", json!({ "a": "Z2VuLTE6YQ==", "b": "Z2VuLTE6Yg==" }));
        assert_eq!(History::new(vec![pair.clone()]).no_torn_pair().unwrap(), 1);
        let torn = secret(2, "x", json!({ "a": "Z2VuLTE6YQ==", "b": "Z2VuLTI6Yg==" }));
        let error = History::new(vec![pair, torn]).no_torn_pair().unwrap_err().to_string();
        assert!(error.contains("a/x at revision 2"), "{error}");
    }

    #[test]
    fn what_is_written_without_a_grant_is_found_and_what_is_marked_as_revoked_is_not_written() {
        let marked = |revision, value: &str| {
            changed(secret(revision, "x", json!({ "k": value })), |secret| {
                secret.annotations_mut().insert(names::REVOKED_AT.into(), "2026-01-01T00:00:00Z".into());
            })
        };
        let granted = |seen: &Seen, _: &Secret| seen.revision == 1;
        let check = |second| History::new(vec![secret(1, "x", json!({ "k": "YQ==" })), second]).only_granted(granted);
        check(marked(2, "YQ==")).unwrap();
        for second in [marked(2, "Yg=="), secret(2, "x", json!({ "k": "YQ==" }))] {
            let error = check(second).unwrap_err().to_string();
            assert!(error.contains("a/x at revision 2"), "{error}");
        }
        assert!(History::new(vec![marked(2, "YQ==")]).only_granted(granted).is_err());
    }

    #[test]
    fn a_touched_bystander_is_found() {
        let (one, two) = (secret(1, "x", json!({})), secret(2, "x", json!({})));
        assert_eq!(History::new(vec![one.clone()]).bystanders_untouched(|_| true).unwrap(), 1);
        assert!(History::new(vec![one.clone(), two]).bystanders_untouched(|_| true).is_err());
        let deleted = Seen { deleted: true, revision: 2, ..one.clone() };
        assert!(History::new(vec![one, deleted]).bystanders_untouched(|_| true).is_err());
    }

    #[test]
    fn other_content_another_identity_and_an_absence_are_found() {
        let one = secret(1, "x", json!({ "k": "YQ==" }));
        let relabelled = secret(2, "x", json!({ "k": "YQ==" }));
        let versions = History::new(vec![one.clone(), relabelled]).content_untouched(|_| true).unwrap();
        assert_eq!(versions, BTreeMap::from([("a/x".to_owned(), 2)]));
        let edited = secret(2, "x", json!({ "k": "Yg==" }));
        let deleted = Seen { deleted: true, revision: 2, ..one.clone() };
        let with = |change: fn(&mut Secret)| changed(secret(2, "x", json!({ "k": "YQ==" })), change);
        let retyped = with(|secret| secret.type_ = Some("kubernetes.io/tls".into()));
        let another = with(|secret| secret.metadata.uid = Some("another".into()));
        for second in [edited, deleted, retyped, another] {
            let error = History::new(vec![one.clone(), second]).content_untouched(|_| true).unwrap_err().to_string();
            assert!(error.contains("a/x at revision 2"), "{error}");
        }
    }

    #[test]
    fn a_status_that_claims_too_much_is_found() {
        let request = json!({
            "apiVersion": "xlscsde.nhs.uk/v1", "kind": "SecretsDistribution",
            "metadata": { "namespace": "a", "name": "x", "uid": "u", "generation": 1 },
            "spec": { "secrets": [{ "from": "f", "to": "t" }] },
            "status": {
                "observedGeneration": 1, "secretName": "x",
                "conditions": [{ "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                                 "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "targets": [{ "namespace": "a", "name": "x", "state": "Synced" }],
            },
        });
        let object = Object::Request(Box::new(serde_json::from_value(request).unwrap()));
        let ready = |revision| Seen { revision, at: SystemTime::now(), deleted: false, object: object.clone() };
        let written = secret(1, "x", json!({}));
        assert_eq!(History::new(vec![written.clone(), ready(2)]).ready_means_written(|_| true).unwrap(), 1);
        assert!(History::new(vec![ready(2)]).ready_means_written(|_| true).is_err());
        let gone = Seen { deleted: true, revision: 2, ..written.clone() };
        assert!(History::new(vec![written, gone, ready(3)]).ready_means_written(|_| true).is_err());
        let other = Seen { revision: 1, ..secret(1, "y", json!({})) };
        assert!(History::new(vec![other, ready(2)]).ready_means_written(|_| true).is_err());
    }
}
