//! Writes events. kube's own recorder tells a reason that comes again with the words of the first time, and cannot
//! tell anything of an object with a long name.

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
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::timeout;

use super::events::Note;
use crate::{
    api::names,
    core::name::{RequestKey, Target, Uid},
    error::ApiFailure,
    telemetry::traces::{TraceUrl, current_trace},
};

/// For how long the same again is counted up instead of told anew.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// How many may have been told before any is forgotten.
const LOOKED_THROUGH_FROM: usize = 256;

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// The longest note.
const MAX_NOTE: usize = 1000;

/// Writes events, and knows what it told of late.
pub struct Recorder {
    client: Client,
    timeout: Duration,
    trace_url: Option<TraceUrl>,
    told: Mutex<Recently>,
}

/// What was told: of which object (its UID), the reason, the text.
type Told = (String, String, String);

/// What was told of late, and some of what was told before that.
#[derive(Debug, Default)]
struct Recently {
    tallies: HashMap<Told, Tally>,
    /// How many there are when what is not recent is dropped: looked for each time, it would cost the more the more is
    /// told.
    most: usize,
}

#[derive(Clone, Debug)]
struct Tally {
    event: String,
    count: i32,
    last: Timestamp,
}

impl Recorder {
    /// Nothing has been told yet.
    pub fn new(client: Client, timeout: Duration, trace_url: Option<TraceUrl>) -> Self {
        Self { client, timeout, trace_url, told: Mutex::default() }
    }

    /// Tells it of an object, or counts it up.
    pub async fn tell(&self, note: &Note, about: &ObjectReference) -> Result<(), ApiFailure> {
        let now = Timestamp::now();
        let told = (about.uid.clone().unwrap_or_default(), note.reason.clone(), note.text.clone());
        let tally = match self.recent(&told, now) {
            None => Tally { event: event_name(about, now), count: 1, last: now },
            Some(tally) => Tally { count: tally.count.saturating_add(1), last: now, ..tally },
        };
        let written = timeout(self.timeout, self.write(note, about, &tally)).await;
        let written = written.unwrap_or(Err(ApiFailure::Unreachable));
        let mut recently = self.recently();
        match &written {
            Ok(()) => recently.keep(told, tally),
            // For instance because somebody has deleted the event: the next one is a new one.
            Err(_) => drop(recently.tallies.remove(&told)),
        }
        written
    }

    fn recent(&self, told: &Told, now: Timestamp) -> Option<Tally> {
        self.recently().tallies.get(told).filter(|tally| tally.is_recent(now)).cloned()
    }

    async fn write(&self, note: &Note, about: &ObjectReference, tally: &Tally) -> Result<(), ApiFailure> {
        let events = Api::<Event>::namespaced(self.client.clone(), about.namespace.as_deref().unwrap_or_default());
        let written = match tally.count {
            1 => {
                let event = event(note, about, tally, self.trace_url.as_ref());
                events.create(&PostParams::default(), &event).await
            }
            count => {
                let series = json!({ "series": { "count": count, "lastObservedTime": MicroTime(tally.last) } });
                events.patch(&tally.event, &PatchParams::default(), &Patch::Merge(series)).await
            }
        };
        Ok(written.map(drop)?)
    }

    fn recently(&self) -> MutexGuard<'_, Recently> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recently {
    fn keep(&mut self, told: Told, tally: Tally) {
        if self.tallies.len() >= self.most {
            let now = tally.last;
            self.tallies.retain(|_, tally| tally.is_recent(now));
            self.most = (2 * self.tallies.len()).max(LOOKED_THROUGH_FROM);
        }
        self.tallies.insert(told, tally);
    }
}

impl Tally {
    fn is_recent(&self, now: Timestamp) -> bool {
        now.duration_since(self.last) < RECENT
    }
}

/// What an event about a request is about.
pub fn request(key: &RequestKey, uid: &Uid) -> ObjectReference {
    let version = format!("{}/v1", crate::api::names::GROUP);
    reference(&version, "SecretsDistribution", (key.namespace.as_str(), key.name.as_str()), uid)
}

/// What an event about a Secret is about.
pub fn secret(target: &Target, uid: &Uid) -> ObjectReference {
    reference("v1", "Secret", (target.namespace.as_str(), target.name.as_str()), uid)
}

fn reference(api_version: &str, kind: &str, (namespace, name): (&str, &str), uid: &Uid) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.into()),
        kind: Some(kind.into()),
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        uid: Some(uid.to_string()),
        ..Default::default()
    }
}

/// Like everybody's: the object's name, as far as there is room, and the time.
fn event_name(about: &ObjectReference, now: Timestamp) -> String {
    let time = format!(".{:x}", now.as_nanosecond());
    let name = about.name.as_deref().unwrap_or_default();
    // Names of objects are ASCII: every byte is a character.
    let room = name.len().min(MAX_NAME - time.len());
    format!("{}{time}", name.get(..room).unwrap_or_default().trim_end_matches(['.', '-']))
}

fn event(note: &Note, about: &ObjectReference, tally: &Tally, trace_url: Option<&TraceUrl>) -> Event {
    let trace = current_trace().map(|trace| trace.to_string());
    let link = trace.as_deref().and_then(|trace| Some(format!("; see {}", trace_url?.of(trace))));
    let link = link.unwrap_or_default();
    // The API server allows 1024 bytes; every message is ASCII.
    let text: String = note.text.chars().take(MAX_NOTE - link.len()).collect();
    Event {
        metadata: ObjectMeta {
            namespace: about.namespace.clone(),
            name: Some(tally.event.clone()),
            annotations: trace.map(|trace| [(names::TRACE_ID.to_string(), trace)].into()),
            ..Default::default()
        },
        event_time: Some(MicroTime(tally.last)),
        type_: Some(note.severity.into()),
        reason: Some(note.reason.clone()),
        action: Some(note.action.into()),
        note: Some(text + &link),
        regarding: Some(about.clone()),
        reporting_controller: Some(names::FIELD_MANAGER.into()),
        reporting_instance: Some(names::FIELD_MANAGER.into()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::name::SecretName;

    #[test]
    fn what_was_told_of_late_is_known_however_much_was_told_and_what_is_old_does_not_stay() {
        let (now, told) = (Timestamp::now(), |i: usize| (format!("uid-{i}"), String::new(), String::new()));
        let tally = |last| Tally { event: String::new(), count: 1, last };
        let mut recently = Recently::default();
        let old = now.checked_sub(RECENT).unwrap();
        (0..10_000).for_each(|i| recently.keep(told(i), tally(old)));
        (10_000..20_000).for_each(|i| recently.keep(told(i), tally(now)));
        let known = |range: std::ops::Range<usize>| range.filter(|i| recently.tallies.contains_key(&told(*i))).count();
        assert_eq!((known(0..10_000), known(10_000..20_000)), (0, 10_000));
    }

    #[test]
    fn the_name_of_an_event_fits_and_is_one() {
        let now = Timestamp::now();
        for name in ["r".to_string(), "n".repeat(253), format!("{}.{}", "n".repeat(235), "n".repeat(17))] {
            let about = ObjectReference { name: Some(name.clone()), ..Default::default() };
            let event = event_name(&about, now);
            assert!(SecretName::parse(&event).is_ok(), "{event}");
            assert!(event.starts_with(&name[..name.len().min(230)]));
        }
    }
}
