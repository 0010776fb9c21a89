//! The flow for one request: plan, read, write, clear, report.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::{FutureExt, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument, Span};

use super::{
    Context, Next,
    apply::{Written, outranked},
    cause::Cause,
    done::{Attempt, Cleared, Done, ended_by},
    tell::Progress,
    traced,
};
use crate::{
    api::conditions::Reason,
    core::{
        bytes::SecretBytes,
        decide::{Denial, Permit},
        explain::RuleRef,
        index::{Origin, SecretState},
        name::{RequestKey, SourceName, Target},
        outcome::End,
        plan::{Aim, Obstacle, Plan, Stay, Subject, TargetPlan},
        render::render,
        settle::Revoking,
    },
    error::ApiFailure,
    source::{Contents, MountError, SourceError},
    telemetry::{
        metrics::Decided,
        traces::{
            Traced, current_trace,
            names::{APPLY, BYTES, DECIDE, Ended, KEYS, READ, RENDER, TARGETS},
        },
    },
};

/// Destinations of one request that are written at a time.
const TARGETS_IN_FLIGHT: usize = 16;

/// How soon a foreign Secret is looked at again: it may have gone without a word, since only Secrets with
/// our label are watched.
const CONFLICT_RETRY: Duration = Duration::from_secs(10);

/// How soon a write is planned anew whose policies have changed since it was planned.
const OUTDATED_RETRY: Duration = Duration::from_millis(200);

impl Context {
    /// Plan, read, write, clear: all that is done for one key. What there is to tell of it is told by
    /// [`Context::tell`], at once or later.
    pub(super) async fn reconcile(&self, key: &RequestKey, cause: &Cause) -> Progress {
        let now = Timestamp::now();
        let Some(plan) = self.plan(key, now) else { return Progress::Over(Attempt::idle(Next::default())) };
        let Ok(term) = self.leadership.check() else { return Progress::Over(Attempt::abandoned()) };
        let mut next = Next { at: plan.wake_at, ..Next::default() };
        let contents = self.read(&plan).await;
        let done = self.carry_out(&plan, &contents, now).await;
        let cleared = self.clear_all(&plan, now).await;
        done.iter().for_each(|done| next.merge(done.next));
        // Whoever watches the folder may not have seen that, and brings the request back only for what was seen.
        next.failed |= matches!(&contents, Err(MountError::Unstable | MountError::Silent));
        if next.abandoned {
            return Progress::Over(Attempt::abandoned());
        }
        self.count_attempts(key, &plan, &done, cause);
        next.failed |= cleared.failure.is_some();
        Progress::Untold(Box::new(self.to_tell(term, plan, done, cleared, next)))
    }

    /// Plans, and counts what was decided.
    fn plan(&self, key: &RequestKey, now: Timestamp) -> Option<Plan> {
        let span = DECIDE.start();
        let (plan, took) = {
            let world = self.world();
            let begun = Instant::now();
            (world.plan(key, now), begun.elapsed())
        };
        let Some(plan) = plan else {
            self.metrics.decided(&key.namespace, Decided::Unready);
            return None;
        };
        self.metrics.decision_took(took);
        plan.targets.iter().for_each(|plan| self.metrics.decided(&plan.target.namespace, decided(&plan.aim)));
        span.set(TARGETS, traced::count(plan.targets.len()));
        if let Subject::Live(request) = &plan.subject {
            traced::link_pipeline(&Span::current(), request);
        }
        Some(plan)
    }

    fn count_attempts(&self, key: &RequestKey, plan: &Plan, done: &[Done], cause: &Cause) {
        if let Subject::Invalid { .. } = plan.subject {
            self.metrics.attempted(&key.namespace, Reason::InvalidRequest);
        }
        let ended = done.iter().filter(|done| !done.put_off);
        ended.for_each(|done| self.metrics.attempted(&done.target.namespace, done.end.reason()));
        for at in done.iter().filter(|done| done.end == End::Synced).filter_map(|done| done.changed) {
            let trace = current_trace().map(|trace| trace.to_string());
            self.metrics.propagated(cause.kind.as_str(), at.saturating_duration_since(cause.since), trace);
        }
    }

    /// One generation of every source that is granted; nothing is opened for what is not.
    async fn read(&self, plan: &Plan) -> Result<Contents, MountError> {
        let permits = plan.targets.iter().filter_map(TargetPlan::permit);
        let sources: BTreeSet<_> = permits.flat_map(Permit::sources).collect();
        if sources.is_empty() {
            return Ok(Contents::new());
        }
        let span = READ.start();
        let read = self.sources.read(sources).await;
        traced::read(&span, &read);
        read
    }

    /// Sees to every destination, some at a time.
    async fn carry_out(&self, plan: &Plan, contents: &Result<Contents, MountError>, now: Timestamp) -> Vec<Done> {
        let jobs: Vec<_> = plan.targets.iter().map(|target| self.see_to_it(target, contents, now).boxed()).collect();
        let done: Vec<_> = stream::iter(jobs).buffered(TARGETS_IN_FLIGHT).collect().await;
        done.into_iter().flatten().collect()
    }

    async fn see_to_it(
        &self,
        plan: &TargetPlan,
        contents: &Result<Contents, MountError>,
        now: Timestamp,
    ) -> Option<Done> {
        let span = traced::target(&plan.target);
        let done = self.see_to(plan, contents, now).instrument(span.clone()).await?;
        traced::done(&span, &done, || plan.permit().map(|permit| self.granting_rules(permit, now)).unwrap_or_default());
        Some(done)
    }

    fn granting_rules(&self, permit: &Permit, now: Timestamp) -> Vec<RuleRef> {
        let explained = self.world().explain(permit.request(), &permit.target().namespace, now);
        explained.mappings.into_iter().flat_map(|mapping| mapping.granted_by).collect()
    }

    /// One destination. `None`: nothing can be said about it yet.
    async fn see_to(&self, plan: &TargetPlan, contents: &Result<Contents, MountError>, now: Timestamp) -> Option<Done> {
        let target = &plan.target;
        Some(match &plan.aim {
            Aim::Wait(Obstacle::NotListed | Obstacle::RequestDeleting) => return None,
            Aim::Wait(obstacle) => {
                let (reason, message) = self.describe(obstacle, target);
                Done::held(target, reason, message)
            }
            Aim::Withdraw(denial, None) => Done::of(target, End::Denied(denial.clone())),
            Aim::Stay(denial, stay) => Done::of(target, self.stays(target, denial, *stay)),
            Aim::Withdraw(denial, Some((observed, revoking))) => {
                let end = end_of(denial, *revoking);
                let withdraw = self.withdraw(target, observed, *revoking, now).instrument(APPLY.start());
                let done = match withdraw.await {
                    Ok(note) => {
                        let changed = (*revoking == Revoking::Delete).then(Instant::now);
                        Done { note, changed, ..Done::of(target, end) }
                    }
                    Err(failure) => self.not_revoked(target, &failure, *revoking, denial),
                };
                Done { shown: plan.origin == Origin::Named, ..done }
            }
            Aim::Write(permit, state) => {
                let done = self.fulfil(permit, state.clone(), contents).await;
                Done { granted_by: permit.leading_policies(), ..done }
            }
        })
    }

    /// Render and write what is granted.
    async fn fulfil(&self, permit: &Permit, state: SecretState, contents: &Result<Contents, MountError>) -> Done {
        let target = permit.target();
        let contents = match contents {
            Err(error) => {
                let message = format!("{error}; Secrets stay as they are");
                return Done::held(&target, Reason::SourcesNotReady, message);
            }
            Ok(contents) => match usable(permit, contents) {
                Err((reason, message)) => return Done::held(&target, reason, message),
                Ok(contents) => contents,
            },
        };
        let span = RENDER.start();
        span.set(KEYS, traced::count(permit.request().mappings.len()));
        span.set(BYTES, traced::count(contents.values().map(|content| content.len()).sum()));
        let rendered = match span.in_scope(|| render(permit.clone(), &contents, &self.seal)) {
            Err(misfit) => return Done::held(&target, Reason::InvalidForType, misfit.to_string()),
            Ok(rendered) => rendered,
        };
        drop(span);
        match self.write(&rendered, state).instrument(APPLY.start()).await {
            Written::Unchanged => {
                self.note_expiry(&target, rendered.not_after());
                Done::of(&target, End::Synced)
            }
            Written::Done(note) => {
                self.note_expiry(&target, rendered.not_after());
                Done { note, changed: Some(Instant::now()), ..Done::of(&target, End::Synced) }
            }
            Written::Conflict(message) => {
                let next = Next { recheck: Some(CONFLICT_RETRY), ..Next::default() };
                Done { next, ..Done::held(&target, Reason::TargetConflict, message) }
            }
            Written::Throttled(wait) => {
                let until =
                    SignedDuration::try_from(wait).ok().and_then(|wait| Timestamp::now().checked_add(wait).ok());
                let next = Next { turn: Some(wait), ..Next::default() };
                Done { next, ..Done::of(&target, End::Throttled(until.unwrap_or(Timestamp::MAX))) }
            }
            Written::Failed(failure) => self.failed(&target, &failure, "written"),
        }
    }

    fn note_expiry(&self, target: &Target, expiry: Option<Timestamp>) {
        let is_known = self.world().secrets.expiry(target) == expiry;
        if !is_known {
            self.world_mut().secrets.set_expiry(target, expiry);
        }
    }

    async fn clear_all(&self, plan: &Plan, now: Timestamp) -> Cleared {
        let mut cleared = Cleared::default();
        for leftover in &plan.leftovers {
            let span = traced::target(&leftover.target);
            match self.clear(leftover, now).instrument(APPLY.start_in(&span)).await {
                Ok(note) => {
                    traced::ended_as(&span, ended_by(leftover), None);
                    cleared.notes.extend(note);
                }
                Err(ApiFailure::NotEnforced(would)) => {
                    traced::ended_as(&span, Ended::Held, None);
                    tracing::info!(secret = %leftover.target, "not enforced: it would be {would}");
                }
                Err(failure) => {
                    traced::ended_as(&span, Ended::Failed, Some(failure.kind()));
                    tracing::warn!(secret = %leftover.target, "cannot be deleted: {failure}");
                    let (reason, _) = self.judge_failure(&leftover.target, &failure, "deleted");
                    if failure != ApiFailure::NotLeader {
                        self.metrics.attempted(&leftover.target.namespace, reason);
                    }
                    cleared.failure = Some(failure.kind());
                }
            }
        }
        cleared
    }

    /// What is told of a Secret that is not granted any more and stays.
    fn stays(&self, target: &Target, denial: &Denial, stay: Stay) -> End {
        let (why, message) = match stay {
            Stay::Retained => return End::Retained(denial.clone()),
            Stay::NotDelegated => {
                let advice = self.delegation_advice(target);
                let message = format!("what is not granted any more may still be there, and is not deleted: {advice}");
                (Reason::NotDelegated, message)
            }
            Stay::Finalizer => {
                let message = format!(
                    "Secret {target} is not granted any more and is being deleted, but a finalizer holds it: see its \
                     metadata.finalizers"
                );
                (Reason::RevocationBlocked, message)
            }
        };
        // In Audit nothing would be done about it either.
        let why = if self.secrets.enforce("deleted").is_err() { Reason::NotEnforced } else { why };
        End::Stuck(denial.clone(), why, message)
    }

    fn describe(&self, obstacle: &Obstacle, target: &Target) -> (Reason, String) {
        let namespace = &target.namespace;
        match obstacle {
            Obstacle::NamespaceNotFound => (
                Reason::NamespaceNotFound,
                format!("namespace {namespace} does not exist; create it, or correct spec.namespaces"),
            ),
            Obstacle::NamespaceTerminating => {
                (Reason::NamespaceTerminating, format!("namespace {namespace} is being deleted"))
            }
            Obstacle::NotDelegated => (Reason::NotDelegated, self.delegation_advice(target)),
            Obstacle::Senior(key) => (Reason::TargetConflict, outranked(target, key)),
            Obstacle::Suspended | Obstacle::RequestDeleting | Obstacle::NotListed => {
                (Reason::Suspended, "spec.suspend is true: nothing is written".into())
            }
        }
    }

    fn not_revoked(&self, target: &Target, failure: &ApiFailure, revoking: Revoking, denial: &Denial) -> Done {
        let deed = if matches!(revoking, Revoking::Mark { .. }) { "marked" } else { "deleted" };
        let done = self.failed(target, failure, deed);
        if *failure == ApiFailure::NotAllowed {
            // The same as while nobody may look: where a list is allowed and this is not, the two take turns.
            return Done { end: self.stays(target, denial, Stay::NotDelegated), ..done };
        }
        let done = done.while_revoking(denial);
        if done.failure.is_some() && !done.put_off && !done.next.abandoned {
            tracing::warn!(secret = %target, "cannot be {deed}: {failure}");
        }
        done
    }

    fn failed(&self, target: &Target, failure: &ApiFailure, deed: &str) -> Done {
        let (reason, message) = self.judge_failure(target, failure, deed);
        let next = match (reason, failure) {
            (_, ApiFailure::NotLeader) => Next { abandoned: true, ..Next::default() },
            (Reason::NotDelegated | Reason::NamespaceTerminating | Reason::NotEnforced, _) => Next::default(),
            (_, ApiFailure::Outdated | ApiFailure::Held) => Next { after: Some(OUTDATED_RETRY), ..Next::default() },
            (_, ApiFailure::Busy(wait)) => Next { after: Some(*wait), ..Next::default() },
            _ => Next { failed: true, ..Next::default() },
        };
        // What was planned for is not there any more: it is planned anew before anything is said.
        let put_off = matches!(failure, ApiFailure::Outdated | ApiFailure::Conflict | ApiFailure::Held);
        let kind = (reason != Reason::NotEnforced).then(|| failure.kind());
        Done { next, put_off, failure: kind, ..Done::held(target, reason, message) }
    }
}

fn end_of(denial: &Denial, revoking: Revoking) -> End {
    match revoking {
        Revoking::Delete => End::Denied(denial.clone()),
        Revoking::Retain => End::Retained(denial.clone()),
        Revoking::Mark { until } | Revoking::Wait { until } => End::Revoking(denial.clone(), until),
    }
}

fn decided(aim: &Aim) -> Decided {
    match aim {
        Aim::Wait(Obstacle::NotListed) => Decided::Unready,
        Aim::Write(..) | Aim::Wait(_) => Decided::Permitted,
        Aim::Withdraw(..) | Aim::Stay(..) => Decided::Denied,
    }
}

/// The content of every source of the permit, or why there is none.
fn usable(permit: &Permit, contents: &Contents) -> Result<BTreeMap<SourceName, SecretBytes>, (Reason, String)> {
    let mut usable = BTreeMap::new();
    for source in permit.sources() {
        match contents.get(&source) {
            Some(Ok(content)) => drop(usable.insert(source, content.clone())),
            Some(Err(error)) => return Err((reason_of(error), format!("source {source} {error}"))),
            None => return Err((Reason::SourceMissing, format!("source {source} was not read"))),
        }
    }
    Ok(usable)
}

fn reason_of(error: &SourceError) -> Reason {
    match error {
        SourceError::Missing => Reason::SourceMissing,
        SourceError::NotMounted => Reason::SourcesNotReady,
        SourceError::Unreadable(_) | SourceError::Empty => Reason::SourceUnreadable,
        SourceError::TooLarge { .. } | SourceError::TooLargeTogether => Reason::SourceTooLarge,
    }
}
