//! Events: what a person should notice. A routine success has none.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    api::{SecretsDistribution, SecretsDistributionStatus, conditions::ConditionType, names},
    core::name::{RequestKey, Target, Uid},
    error::ApiFailure,
};

/// For how long the same again is counted up instead of told anew.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// Something to notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Normal or Warning: the event's `type`.
    pub severity: &'static str,
    /// Short name of what happened: the event's `reason`.
    pub reason: String,
    /// What the operator was doing: the event's `action`.
    pub action: &'static str,
    /// For people.
    pub text: String,
}

impl Note {
    fn normal(reason: &str, action: &'static str, text: String) -> Self {
        Self { severity: "Normal", reason: reason.into(), action, text }
    }

    /// A Secret was taken over.
    pub fn adopted(target: &Target) -> Self {
        Self::normal("Adopted", "Write", format!("Secret {target} existed already and belongs to this request now"))
    }

    /// A Secret that is not wanted any more was deleted.
    pub fn pruned(target: &Target) -> Self {
        Self::normal("Pruned", "Delete", format!("Secret {target} is not part of this request any more: deleted"))
    }

    /// A grace period has begun.
    pub fn revoking(target: &Target, until: Timestamp) -> Self {
        let text = format!("the grant of Secret {target} is gone: it is deleted at {until} unless the grant returns");
        Self { severity: "Warning", reason: "RevocationPending".into(), action: "Revoke", text }
    }

    /// A Secret was deleted because its grant is gone.
    pub fn revoked(target: &Target) -> Self {
        let text = format!("the grant of Secret {target} is gone: deleted");
        Self { severity: "Warning", reason: "Revoked".into(), action: "Revoke", text }
    }
}

/// What the new status says for the first time: a refusal, or what is in the way of the Secret. The same reason
/// again is not news.
pub fn news(previous: &SecretsDistributionStatus, status: &SecretsDistributionStatus) -> Vec<Note> {
    let reason_of = |status: &SecretsDistributionStatus, kind: ConditionType| {
        let found = status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
        found.map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    };
    let mut notes = Vec::new();
    for (kind, action) in [(ConditionType::Permitted, "Decide"), (ConditionType::Synced, "Write")] {
        let Some((now, reason, message)) = reason_of(status, kind) else { continue };
        let known = reason_of(previous, kind).is_some_and(|(_, before, _)| before == reason);
        let told_elsewhere = ["NotPermitted", "RevocationPending", "Suspended"].contains(&reason.as_str());
        if now == "False" && !known && !told_elsewhere {
            notes.push(Note { severity: "Warning", reason, action, text: message });
        }
    }
    notes
}

/// Writes events. kube's own recorder tells a reason that comes again with the words of the first time, and
/// cannot tell anything of an object with a long name.
pub struct Recorder {
    client: Client,
    timeout: Duration,
    told: Mutex<HashMap<Told, Tally>>,
}

/// What was told: of which object, the reason, the text.
type Told = (Uid, String, String);

#[derive(Clone, Debug)]
struct Tally {
    event: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    /// Nothing has been told yet.
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { client, timeout, told: Mutex::default() }
    }

    /// Tells it, or counts it up.
    pub async fn tell(&self, key: &RequestKey, uid: &Uid, note: &Note) -> Result<(), ApiFailure> {
        let now = Timestamp::now();
        let told = (uid.clone(), note.reason.clone(), note.text.clone());
        let known = {
            let mut all = self.told();
            all.retain(|_, tally| now.duration_since(tally.last) < RECENT);
            all.get(&told).cloned()
        };
        let tally = match known {
            None => Tally { event: event_name(key, now), count: 1, last: now },
            Some(tally) => Tally { count: tally.count.saturating_add(1), last: now, ..tally },
        };
        let events = Api::<Event>::namespaced(self.client.clone(), key.namespace.as_str());
        let written = async {
            match tally.count {
                1 => events.create(&PostParams::default(), &event(key, uid, note, &tally)).await,
                count => {
                    let series = json!({ "series": { "count": count, "lastObservedTime": MicroTime(now) } });
                    events.patch(&tally.event, &PatchParams::default(), &Patch::Merge(series)).await
                }
            }
        };
        let written = timeout(self.timeout, written).await.map_err(|_| ApiFailure::Unreachable)?;
        match written {
            Ok(_) => drop(self.told().insert(told, tally)),
            // For instance because somebody has deleted the event: the next one is a new one.
            Err(_) => drop(self.told().remove(&told)),
        }
        Ok(written.map(drop)?)
    }

    fn told(&self) -> MutexGuard<'_, HashMap<Told, Tally>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Like everybody's: the object's name, as far as there is room, and the time.
fn event_name(key: &RequestKey, now: Timestamp) -> String {
    let time = format!(".{:x}", now.as_nanosecond());
    let name = key.name.as_str();
    let room = name.len().min(MAX_NAME - time.len());
    format!("{}{time}", name[..room].trim_end_matches(['.', '-']))
}

fn event(key: &RequestKey, uid: &Uid, note: &Note, tally: &Tally) -> Event {
    let about = ObjectReference {
        api_version: Some(SecretsDistribution::api_version(&()).into_owned()),
        kind: Some(SecretsDistribution::kind(&()).into_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(uid.to_string()),
        ..Default::default()
    };
    Event {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            name: Some(tally.event.clone()),
            ..Default::default()
        },
        event_time: Some(MicroTime(tally.last)),
        type_: Some(note.severity.into()),
        reason: Some(note.reason.clone()),
        action: Some(note.action.into()),
        // The API server allows 1024 bytes; every message is ASCII.
        note: Some(note.text.chars().take(1000).collect()),
        regarding: Some(about),
        reporting_controller: Some(names::FIELD_MANAGER.into()),
        reporting_instance: Some(names::FIELD_MANAGER.into()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::name::{NamespaceName, SecretName};

    #[test]
    fn the_name_of_an_event_fits_and_is_one() {
        let now = Timestamp::now();
        for name in ["r".to_string(), "n".repeat(253), format!("{}.{}", "n".repeat(235), "n".repeat(17))] {
            let key =
                RequestKey { namespace: NamespaceName::parse("ns").unwrap(), name: SecretName::parse(&name).unwrap() };
            let event = event_name(&key, now);
            assert!(SecretName::parse(&event).is_ok(), "{event}");
            assert!(event.starts_with(&name[..1.max(name.len().min(230))]));
        }
    }
}
