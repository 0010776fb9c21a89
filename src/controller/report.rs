//! The one writer of a request's status, and of its events.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, Request},
    core::ApiResource,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    events::{Note, news},
    parse::version_of,
    recorder::{self, Recorder},
    secret_api::METADATA_ONLY,
    watched::Watched,
};
use crate::{
    api::{
        SecretsDistribution, SecretsDistributionStatus, TargetState, TargetStatus,
        conditions::{ConditionType, Reason},
        names,
    },
    core::{
        index::LastSeen,
        name::{NamespaceName, RequestKey, SecretName, Target, Uid},
    },
    error::ApiFailure,
    telemetry::traces::{TraceUrl, current_trace},
};

/// Writes status and events, and knows what it wrote last.
pub struct Reports {
    client: Client,
    timeout: Duration,
    recorder: Recorder,
    known: Mutex<HashMap<RequestKey, Known>>,
}

/// The status of an object as it was last seen or written.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// UID of the object.
    pub uid: String,
    /// Resource version of that state, a number that grows.
    pub version: u64,
    /// The status.
    pub status: SecretsDistributionStatus,
}

impl Reports {
    /// Nothing is known yet.
    pub fn new(client: Client, timeout: Duration, trace_url: Option<TraceUrl>) -> Self {
        let recorder = Recorder::new(client.clone(), timeout, trace_url);
        Self { client, timeout, recorder, known: Mutex::default() }
    }

    /// A watch has shown the status. One that is older than the own last write is no news.
    /// Answers whether somebody else has changed it.
    pub fn seen(&self, key: &RequestKey, seen: Known) -> bool {
        let mut all = self.known();
        let Some(known) = all.get(key).filter(|known| known.uid == seen.uid) else {
            all.insert(key.clone(), seen);
            return false;
        };
        if known.version > seen.version {
            return false;
        }
        let changed = known.version < seen.version && !says_the_same(&known.status, &seen.status);
        all.insert(key.clone(), seen);
        changed
    }

    /// Our own write. What the watch has shown meanwhile holds: an object that is gone, or another of its name.
    fn wrote(&self, key: &RequestKey, written: Known) {
        let mut all = self.known();
        let is_older = |known: &&mut Known| known.uid == written.uid && known.version < written.version;
        if let Some(known) = all.get_mut(key).filter(is_older) {
            *known = written;
        }
    }

    /// The object is gone.
    pub fn forget(&self, key: &RequestKey) {
        self.known().remove(key);
    }

    /// The status as it was last seen or written.
    pub fn previous(&self, key: &RequestKey) -> SecretsDistributionStatus {
        self.known().get(key).map(|known| known.status.clone()).unwrap_or_default()
    }

    /// The Secrets that the statuses name.
    pub fn told_targets(&self) -> Vec<Target> {
        let parse = |told: &TargetStatus| {
            let (namespace, name) = (NamespaceName::parse(&told.namespace), SecretName::parse(&told.name));
            namespace.ok().zip(name.ok()).map(|(namespace, name)| Target { namespace, name })
        };
        self.known().values().flat_map(|known| &known.status.targets).filter_map(parse).collect()
    }

    /// What the status of a request says of a Secret, if it was written.
    pub fn last_seen(&self, key: &RequestKey, target: &Target) -> Option<LastSeen> {
        let all = self.known();
        let Known { uid, status, .. } = all.get(key)?;
        let Target { namespace, name } = target;
        let is_same = |told: &&TargetStatus| told.namespace == namespace.as_str() && told.name == name.as_str();
        let told = status.targets.iter().find(is_same)?;
        let written = told.last_written.as_ref()?.0;
        let is_retained = told.state == TargetState::Retained;
        Some(LastSeen { key: key.clone(), uid: Uid::admitted(uid), written: Some(written), is_retained })
    }

    /// How many requests of each namespace have which reason in their condition Ready, as far as they have a status.
    pub fn tally(&self) -> BTreeMap<(NamespaceName, Option<Reason>), usize> {
        let mut tally = BTreeMap::new();
        for (key, known) in self.known().iter() {
            *tally.entry((key.namespace.clone(), readiness(&known.status))).or_default() += 1;
        }
        tally
    }

    /// Writes the status, if there is one and it says anything new, and then the events: those of what was done
    /// also if the status could not be written. Answers whether anything was written. `changed`: the attempt has
    /// changed a Secret.
    pub async fn report(
        &self,
        key: &RequestKey,
        uid: &Uid,
        status: Option<SecretsDistributionStatus>,
        mut notes: Vec<Note>,
        changed: bool,
    ) -> Result<bool, ApiFailure> {
        let written = match status {
            Some(status) => self.write(key, uid, status, changed).await,
            None => Ok(None),
        };
        let told = written.map(|news| {
            let told = news.is_some() || !notes.is_empty();
            notes.extend(news.into_iter().flatten());
            told
        });
        self.tell(key, uid, notes).await;
        told
    }

    /// Writes the status, unless it says nothing new. Answers with what it says for the first time.
    async fn write(
        &self,
        key: &RequestKey,
        uid: &Uid,
        mut status: SecretsDistributionStatus,
        changed: bool,
    ) -> Result<Option<Vec<Note>>, ApiFailure> {
        let previous = self.previous(key);
        // That somebody has looked is no news: another trace alone is, if its attempt has changed a Secret.
        status.trace_id.clone_from(&previous.trace_id);
        if !changed && status_patch(&previous, &status).is_none() {
            return Ok(None);
        }
        status.trace_id = current_trace().map(|trace| trace.to_string());
        let Some(patch) = status_patch(&previous, &status) else { return Ok(None) };
        let resource = ApiResource::erase::<SecretsDistribution>(&());
        let api = Api::namespaced_with(self.client.clone(), key.namespace.as_str(), &resource);
        // The watch may show it before the answer is here: then it is not somebody else's.
        let expected = self.expect(key, &status);
        let written =
            patch_status(&api, key.name.as_str(), (uid.as_str(), expected.unwrap_or_default()), patch, self.timeout)
                .await;
        let version = written.inspect_err(|_| self.take_back(key, expected, &previous))?;
        let reasons: Vec<_> = status.conditions.iter().map(|condition| condition.reason.as_str()).collect();
        tracing::debug!(request = %key, ?reasons, "status written");
        let news = news(&previous, &status);
        self.wrote(key, Known { uid: uid.to_string(), version, status });
        Ok(Some(news))
    }

    /// A write begins. Answers with the version that it is about.
    fn expect(&self, key: &RequestKey, status: &SecretsDistributionStatus) -> Option<u64> {
        let mut all = self.known();
        let known = all.get_mut(key)?;
        known.status = status.clone();
        Some(known.version)
    }

    /// It failed, or only its answer was lost. What the watch has shown since then holds: it may be the write itself,
    /// and to think that it did not come about would leave it standing for good.
    fn take_back(&self, key: &RequestKey, expected: Option<u64>, previous: &SecretsDistributionStatus) {
        if let Some(known) = self.known().get_mut(key).filter(|known| Some(known.version) == expected) {
            known.status = previous.clone();
        }
    }

    async fn tell(&self, key: &RequestKey, uid: &Uid, notes: Vec<Note>) {
        for note in notes {
            tracing::info!(request = %key, reason = note.reason, "{}", note.text);
            self.publish(&note, &recorder::request(key, uid)).await;
            if let Some((target, uid)) = &note.secret {
                self.publish(&note, &recorder::secret(target, uid)).await;
            }
        }
    }

    /// An event that cannot be written is not worth a retry of the work it tells of. In a namespace that is being
    /// deleted nothing new can be, and nobody would read it: that is how it shall be.
    async fn publish(&self, note: &Note, about: &ObjectReference) {
        let (about_name, reason) = (about.name.as_deref(), note.reason.as_str());
        match self.recorder.tell(note, about).await {
            Ok(()) => {}
            Err(failure @ ApiFailure::Terminating) => {
                tracing::debug!(about = about_name, reason, "event not written: {failure}");
            }
            Err(failure) => tracing::warn!(about = about_name, reason, "event not written: {failure}"),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RequestKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason of the condition Ready: none that is not ours, whoever wrote it.
fn readiness(status: &SecretsDistributionStatus) -> Option<Reason> {
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str())?;
    Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason).copied()
}

/// Whether both read the same in the API server, where times are whole seconds.
fn says_the_same(a: &SecretsDistributionStatus, b: &SecretsDistributionStatus) -> bool {
    serde_json::to_value(a).ok() == serde_json::to_value(b).ok()
}

/// Writes a status, of the object with that UID only, and of that version: a write of a leader from before that
/// arrives late must not undo what the present one wrote. That an edit comes between costs one try more, which the
/// edit brings about in any case. Answers with the version that was written; 0 if the answer tells none.
pub async fn patch_status(
    api: &Api<DynamicObject>,
    name: &str,
    (uid, version): (&str, u64),
    status: Value,
    timeout: Duration,
) -> Result<u64, ApiFailure> {
    let patch = Patch::Merge(json!({ "metadata": precondition(uid, version), "status": status }));
    let params = PatchParams { field_manager: Some(names::FIELD_MANAGER.into()), ..Default::default() };
    let request = Request::new(api.resource_url()).patch_subresource("status", name, &params, &patch);
    let mut request = request.map_err(|_| ApiFailure::Garbled)?;
    request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
    match tokio::time::timeout(timeout, api.clone().into_client().request::<Watched>(request)).await {
        Ok(answer) => Ok(version_of(&answer?.0.metadata)),
        Err(_) => Err(ApiFailure::Unreachable),
    }
}

/// What the object must be. Without a version, where none is known.
fn precondition(uid: &str, version: u64) -> Value {
    match version {
        0 => json!({ "uid": uid }),
        version => json!({ "uid": uid, "resourceVersion": version.to_string() }),
    }
}

/// The merge patch from one status to another: nothing if they are the same, null for what is gone. They are compared
/// as the API server keeps them, with whole seconds: a finer time of our own is no news.
pub fn status_patch<S: Serialize>(previous: &S, status: &S) -> Option<Value> {
    let (Ok(Value::Object(before)), Ok(Value::Object(mut patch))) =
        (serde_json::to_value(previous), serde_json::to_value(status))
    else {
        return None; // Both are structs of plain data: they serialize to objects.
    };
    if before == patch {
        return None;
    }
    for key in before.into_iter().map(|(key, _)| key) {
        patch.entry(key).or_insert(Value::Null);
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn reports() -> (Reports, RequestKey) {
        let key = RequestKey { namespace: NamespaceName::parse("ns").unwrap(), name: SecretName::parse("r").unwrap() };
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        (Reports::new(Client::try_from(config).unwrap(), Duration::from_secs(1), None), key)
    }

    fn status(name: &str) -> SecretsDistributionStatus {
        SecretsDistributionStatus {
            secret_name: Some(name.into()),
            last_sync_time: Some(Time(jiff::Timestamp::now())),
            ..Default::default()
        }
    }

    fn seen(version: u64, status: SecretsDistributionStatus) -> Known {
        Known { uid: "u".into(), version, status }
    }

    #[tokio::test]
    async fn a_status_of_somebody_else_is_told_from_the_own_and_from_an_older_one() {
        let read = |status: &SecretsDistributionStatus| {
            serde_json::from_value::<SecretsDistributionStatus>(serde_json::to_value(status).unwrap()).unwrap()
        };
        let (reports, key) = reports();
        let (first, own, foreign) = (status("first"), status("own"), status("foreign"));
        assert!(!reports.seen(&key, seen(1, first.clone())), "nothing was known");
        reports.expect(&key, &own);
        assert!(!reports.seen(&key, seen(3, read(&own))), "the watch was faster than the answer");
        assert!(!reports.seen(&key, seen(3, own.clone())), "the answer");
        assert!(!reports.seen(&key, seen(2, first)), "an older one");
        assert!(reports.seen(&key, seen(4, foreign.clone())), "somebody else's");
        assert_eq!(reports.previous(&key), foreign);
    }

    #[tokio::test]
    async fn a_write_whose_answer_is_lost_is_what_the_watch_shows_of_it() {
        let (reports, key) = reports();
        let (first, own) = (status("first"), status("own"));
        reports.seen(&key, seen(1, first.clone()));
        let expected = reports.expect(&key, &own);
        reports.take_back(&key, expected, &first);
        assert_eq!(reports.previous(&key), first, "nothing shows that it came about");
        let expected = reports.expect(&key, &own);
        reports.seen(&key, seen(2, own.clone()));
        reports.take_back(&key, expected, &first);
        assert_eq!(reports.previous(&key), own, "it came about before its answer was lost");
    }

    /// What is logged when the API server refuses an event with this status.
    async fn logged_of_an_event_refused_by(status: Value) -> String {
        let answer =
            http::Response::builder().status(403).body(kube::client::Body::from(status.to_string().into_bytes()));
        let answer = Mutex::new(answer.ok());
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            std::future::ready(answer.lock().unwrap().take().ok_or(std::io::Error::other("asked twice")))
        });
        let reports = Reports::new(Client::new(service, "ns"), Duration::from_secs(1), None);
        let log = tempfile::NamedTempFile::new().unwrap();
        let writer = std::sync::Arc::new(log.reopen().unwrap());
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(writer);
        let _default = tracing::subscriber::set_default(subscriber.finish());
        let target = Target { namespace: NamespaceName::parse("ns").unwrap(), name: SecretName::parse("r").unwrap() };
        reports.publish(&Note::pruned(&target), &recorder::secret(&target, &Uid::admitted("u"))).await;
        std::fs::read_to_string(log.path()).unwrap()
    }

    #[tokio::test]
    async fn that_a_namespace_is_being_deleted_is_no_warning() {
        let cause = json!({ "reason": "NamespaceTerminating", "message": "namespace ns is being terminated" });
        let status =
            |details: Value| json!({ "kind": "Status", "code": 403, "reason": "Forbidden", "details": details });
        let terminating = logged_of_an_event_refused_by(status(json!({ "causes": [cause] }))).await;
        assert!(terminating.contains("DEBUG") && !terminating.contains("WARN"), "{terminating}");
        let forbidden = logged_of_an_event_refused_by(status(Value::Null)).await;
        assert!(forbidden.contains("WARN"), "{forbidden}");
    }

    #[test]
    fn a_status_is_of_one_version_of_one_object() {
        assert_eq!(precondition("u", 7), json!({ "uid": "u", "resourceVersion": "7" }));
        assert_eq!(precondition("u", 0), json!({ "uid": "u" }), "no version is known: 0 would never match");
    }

    #[test]
    fn the_same_status_is_not_written_and_what_is_gone_is_removed() {
        let before = SecretsDistributionStatus { secret_name: Some("a".into()), ..Default::default() };
        let after = SecretsDistributionStatus { observed_generation: Some(2), ..Default::default() };
        assert_eq!(status_patch(&before, &before.clone()), None);
        let at = |nanosecond| Some(Time(jiff::Timestamp::new(1, nanosecond).unwrap()));
        let finer = |nanosecond| SecretsDistributionStatus { last_sync_time: at(nanosecond), ..before.clone() };
        assert_eq!(status_patch(&finer(0), &finer(999)), None, "the same second");
        assert_eq!(status_patch(&before, &after), Some(json!({ "observedGeneration": 2, "secretName": null })));
    }
}
