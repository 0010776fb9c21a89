//! The status of policies: whether each is in force, and what it is about, in numbers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, api::DynamicObject, core::ApiResource};
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Context,
    freshness::Versions,
    parse::version_of,
    report::{patch_status, status_patch},
};
use crate::{
    api::{
        DistributionPolicy, DistributionPolicyStatus, Enforcement,
        conditions::{ConditionType, Reason},
    },
    core::{
        index::{Compiled, World},
        name::PolicyName,
        outcome::Verdict,
    },
};

/// How long changes are gathered after a policy itself has changed.
const SOON: Duration = Duration::from_millis(200);

/// How long changes are gathered that only move the counts: a thousand new requests are one write.
const LATER: Duration = Duration::from_secs(5);

/// Writes the statuses of policies, and knows what it wrote last.
pub struct PolicyReports {
    client: Client,
    timeout: Duration,
    known: Mutex<HashMap<PolicyName, Known>>,
    /// The newest resource version that the watch has shown.
    shown: AtomicU64,
    due: Mutex<Option<Instant>>,
    changed: Notify,
}

#[derive(Clone, Debug, Default)]
struct Known {
    uid: String,
    version: u64,
    generation: i64,
    status: DistributionPolicyStatus,
}

impl PolicyReports {
    /// Nothing is known yet.
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self {
            client,
            timeout,
            known: Mutex::default(),
            shown: AtomicU64::new(0),
            due: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// A watch has shown a policy.
    pub fn seen(&self, name: &PolicyName, meta: &ObjectMeta, status: Option<Value>) {
        let version = version_of(meta);
        self.shown.fetch_max(version, Ordering::AcqRel);
        let uid = meta.uid.clone().unwrap_or_default();
        let mut known = self.known();
        if known.get(name).is_some_and(|known| known.uid == uid && known.version > version) {
            return; // Older than our own last write.
        }
        let status = status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default();
        known.insert(name.clone(), Known { uid, version, generation: meta.generation.unwrap_or_default(), status });
        drop(known);
        self.wake_in(SOON);
    }

    /// Our own write. What the watch has shown meanwhile holds: a policy that is gone stays gone, and a newer
    /// generation stays the newer one.
    fn wrote(&self, name: &PolicyName, uid: &str, version: u64, status: DistributionPolicyStatus) {
        let mut known = self.known();
        if let Some(known) = known.get_mut(name).filter(|known| known.uid == uid && known.version < version) {
            (known.version, known.status) = (version, status);
        }
    }

    /// The policy is gone.
    pub fn forget(&self, name: &PolicyName) {
        self.known().remove(name);
    }

    /// A watch has shown that the policy is gone.
    pub fn seen_gone(&self, name: &PolicyName, meta: &ObjectMeta) {
        self.forget(name);
        self.shown.fetch_max(version_of(meta), Ordering::AcqRel);
    }

    /// Whether the watch has shown what was read, or more than that.
    pub fn has_seen(&self, versions: &Versions) -> bool {
        if self.shown.load(Ordering::Acquire) >= versions.revision {
            return true;
        }
        let known = self.known();
        let is_current = |(name, (uid, generation)): (&PolicyName, &(String, i64))| {
            known.get(name).is_some_and(|known| known.uid == *uid && known.generation >= *generation)
        };
        known.len() == versions.generations.len() && versions.generations.iter().all(is_current)
    }

    /// Requests or namespaces have changed.
    pub fn counts_changed(&self) {
        self.wake_in(LATER);
    }

    fn wake_in(&self, wait: Duration) {
        let at = Instant::now() + wait;
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = Some(due.map_or(at, |due| due.min(at)));
        drop(due);
        self.changed.notify_one();
    }

    /// Waits until something is due.
    async fn next(&self) {
        loop {
            let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
            match due {
                Some(due) if due <= Instant::now() => break,
                Some(due) => tokio::select! { () = sleep_until(due) => {}, () = self.changed.notified() => {} },
                None => self.changed.notified().await,
            }
        }
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PolicyName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the statuses of all policies true.
pub async fn report(context: Arc<Context>) {
    loop {
        context.policy_reports.next().await;
        context.leadership.gained().await;
        let now = Timestamp::now();
        if !context.world().is_ready() {
            sleep(SOON).await;
            context.policy_reports.wake_in(SOON);
            continue;
        }
        let names: Vec<_> = context.policy_reports.known().keys().cloned().collect();
        for name in names {
            if context.report_policy(&name, now).await.is_none() {
                context.policy_reports.wake_in(LATER);
            }
        }
        let changes = context.world().next_policy_change(now);
        if let Some(at) = changes {
            context.policy_reports.wake_in(at.duration_since(now).unsigned_abs() + SOON);
        }
    }
}

impl Context {
    /// One policy. `None`: the status could not be written.
    async fn report_policy(&self, name: &PolicyName, now: Timestamp) -> Option<()> {
        let reports = &self.policy_reports;
        let Some(known) = reports.known().get(name).cloned() else { return Some(()) };
        let status = status(&self.world(), name, &known, now)?;
        let Some(patch) = status_patch(&known.status, &status) else { return Some(()) };
        let resource = ApiResource::erase::<DistributionPolicy>(&());
        let api = Api::<DynamicObject>::all_with(reports.client.clone(), &resource);
        let written = patch_status(&api, name.as_str(), (&known.uid, known.version), patch, reports.timeout).await;
        let written = written.inspect_err(|failure| tracing::warn!(policy = %name, "status not written: {failure}"));
        let version = written.ok()?;
        reports.wrote(name, &known.uid, version, status);
        Some(())
    }
}

fn status(world: &World, name: &PolicyName, known: &Known, now: Timestamp) -> Option<DistributionPolicyStatus> {
    let compiled = world.policies.policy(name)?;
    let footprint = compiled.as_ref().map(|policy| world.footprint(policy, now)).unwrap_or_default();
    let count = |number: usize| Some(i32::try_from(number).unwrap_or(i32::MAX));
    let verdict = verdict(compiled);
    let accepted = verdict.condition(ConditionType::Accepted, known.generation, &known.status.conditions, now);
    Some(DistributionPolicyStatus {
        observed_generation: Some(known.generation),
        conditions: vec![accepted],
        matched_namespaces: count(footprint.namespaces),
        granted: count(footprint.granted),
        denied: count(footprint.denied),
    })
}

/// Whether a policy is accepted.
pub fn verdict(compiled: &Compiled) -> Verdict {
    let accepted = |reason, message: &str| Verdict { status: "True", reason, message: message.into() };
    match compiled {
        Err(problem) => Verdict {
            status: "False",
            reason: Reason::InvalidPolicy,
            message: format!("{problem}. The policy grants and denies nothing until this is corrected"),
        },
        Ok(policy) if policy.enforcement == Enforcement::Audit => {
            accepted(Reason::AuditOnly, "granted and denied count what the policy would do; it does nothing")
        }
        Ok(policy) if policy.is_on_mutable_labels() => accepted(
            Reason::SelectorOnMutableLabel,
            "in force; it selects namespaces by labels that tenants may be able to set: prefer names, or a selector on kubernetes.io/metadata.name",
        ),
        Ok(_) => accepted(Reason::InForce, "the policy is in force"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports() -> PolicyReports {
        let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        PolicyReports::new(Client::try_from(config).unwrap(), Duration::from_secs(1))
    }

    fn shown(reports: &PolicyReports, uid: &str, version: &str, generation: i64) {
        let meta = ObjectMeta {
            uid: Some(uid.into()),
            resource_version: Some(version.into()),
            generation: Some(generation),
            ..Default::default()
        };
        reports.seen(&name(), &meta, None);
    }

    fn name() -> PolicyName {
        PolicyName::admitted("p")
    }

    /// Read at a revision that the watch has not shown anything of.
    fn versions(uid: &str, generation: i64) -> Versions {
        Versions { revision: u64::MAX, generations: HashMap::from([(name(), (uid.to_string(), generation))]) }
    }

    #[tokio::test]
    async fn a_watch_that_shows_more_than_was_read_has_seen_that_too() {
        let reports = reports();
        shown(&reports, "a", "5", 1);
        let read = Versions { revision: 7, ..versions("a", 2) };
        assert!(!reports.has_seen(&read), "it lags behind");
        let meta = ObjectMeta { resource_version: Some("8".into()), ..Default::default() };
        reports.seen_gone(&name(), &meta);
        assert!(reports.has_seen(&read), "generation 2 came and went");
        reports.wrote(&name(), "a", 11, DistributionPolicyStatus::default());
        assert!(!reports.has_seen(&Versions { revision: 10, ..read }), "an own write shows nothing of others");
    }

    /// Else nothing would be written any more: the policies would never look confirmed again.
    #[tokio::test]
    async fn a_status_that_arrives_late_brings_no_policy_back() {
        let reports = reports();
        shown(&reports, "a", "1", 1);
        reports.forget(&name());
        reports.wrote(&name(), "a", 2, DistributionPolicyStatus::default());
        assert!(reports.has_seen(&Versions { revision: u64::MAX, generations: HashMap::new() }));

        shown(&reports, "b", "3", 1);
        reports.wrote(&name(), "a", 4, DistributionPolicyStatus::default());
        assert!(reports.has_seen(&versions("b", 1)));
    }

    #[tokio::test]
    async fn a_status_that_arrives_late_hides_no_newer_generation() {
        let reports = reports();
        for (written, then) in [("3", 2), ("2", 3)] {
            shown(&reports, "a", "1", 1);
            shown(&reports, "a", written, 2);
            reports.wrote(&name(), "a", then, DistributionPolicyStatus::default());
            assert!(reports.has_seen(&versions("a", 2)));
            reports.forget(&name());
        }
    }
}
