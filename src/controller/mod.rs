//! The shell around the core: it watches, carries out what was decided, and reports.

mod apply;
mod events;
mod namespaces;
mod policies;
mod queue;
mod report;
mod secret_api;
mod secret_body;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    apply::Written, events::Note, namespaces::Namespaces, policies::PolicyReports, queue::Queue, report::Reports,
    secret_api::SecretApi,
};
use crate::{
    admin::Gates,
    api::conditions::Reason,
    core::{
        bytes::SecretBytes,
        decide::Permit,
        index::{SecretState, World},
        name::{RequestKey, SourceName, Target},
        outcome::{self, End, Outcome},
        plan::{Aim, Obstacle, Plan, Subject, TargetPlan},
        render::{Seal, render},
        settle::Revoking,
    },
    error::ApiFailure,
    settings::Settings,
    source::{Contents, Folder, MountError, SourceError},
};

/// Destinations of one request that are written at a time.
const TARGETS_IN_FLIGHT: usize = 16;

/// How soon a foreign Secret is looked at again: it may have gone without a word, since only Secrets with
/// our label are watched.
const CONFLICT_RETRY: Duration = Duration::from_secs(10);

/// How soon a write is tried again that a quota or an admission policy refused.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// Everything a reconcile needs.
pub struct Context {
    world: RwLock<World>,
    queue: Queue,
    folder: Folder,
    seal: Seal,
    secrets: SecretApi,
    reports: Reports,
    policy_reports: PolicyReports,
    namespaces: Namespaces,
    gates: Gates,
    client: Client,
    service_account: String,
}

/// Runs the controller until `shutdown`; what is in hand then is finished.
pub async fn run(client: Client, settings: Settings, gates: Gates, shutdown: CancellationToken) {
    let context = Arc::new(Context::new(client, &settings, gates));
    let mut tasks = JoinSet::new();
    watch::spawn(&context, &settings, &mut tasks, &shutdown);
    for _ in 0..settings.workers {
        tasks.spawn(work(context.clone(), shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // A panic that reached a task: what it said is dropped, since it may hold content.
            tracing::error!(panic = error.is_panic(), "a task of the controller ended");
        }
    }
}

/// One worker: one key after the other.
async fn work(context: Arc<Context>, shutdown: CancellationToken) {
    loop {
        let key = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            key = context.queue.next() => key,
        };
        let (this, at) = (context.clone(), key.clone());
        // In a task of its own, so that a panic harms this key alone.
        match tokio::spawn(async move { this.reconcile(&at).await }).await {
            Ok(next) => context.schedule(&key, next),
            Err(_) => {
                tracing::error!(request = %key, "reconcile panicked; retried with backoff");
                context.queue.add_failed(key.clone());
            }
        }
        context.queue.done(&key);
    }
}

/// When a key comes back by itself.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    at: Option<Timestamp>,
    after: Option<Duration>,
    failed: bool,
}

impl Context {
    fn new(client: Client, settings: &Settings, gates: Gates) -> Self {
        Self {
            world: RwLock::new(World::new(settings.namespace.clone())),
            queue: Queue::default(),
            folder: Folder::new(settings.secrets_path.clone()),
            seal: Seal { key: settings.digest_key.clone(), managed_by: settings.managed_by.clone() },
            secrets: SecretApi::new(client.clone(), settings.api_timeout),
            reports: Reports::new(client.clone(), settings.api_timeout),
            policy_reports: PolicyReports::new(client.clone(), settings.api_timeout),
            namespaces: Namespaces::default(),
            gates,
            client,
            service_account: format!("{}:{}", settings.namespace, settings.service_account),
        }
    }

    /// Plan, read, write, clear, report: the whole flow for one key.
    async fn reconcile(&self, key: &RequestKey) -> Next {
        let now = Timestamp::now();
        let Some(plan) = self.world().plan(key, now) else { return Next::default() };
        let mut next = Next { at: plan.wake_at, ..Next::default() };
        let contents = self.read(&plan).await;
        let done = self.carry_out(&plan, &contents, now).await;
        let cleared = self.clear_all(&plan, now).await;
        done.iter().for_each(|done| next.merge(done.next));
        next.failed |= cleared.failed;
        let notes = done.iter().flat_map(|done| done.note.clone()).chain(cleared.notes).collect();
        next.failed |= self.report(key, &plan, done, notes, now).await.is_err();
        next
    }

    /// One generation of every source that is granted; nothing is opened for what is not.
    async fn read(&self, plan: &Plan) -> Result<Contents, MountError> {
        let permits = plan.targets.iter().filter_map(TargetPlan::permit);
        let sources: BTreeSet<_> = permits.flat_map(Permit::sources).collect();
        if sources.is_empty() {
            return Ok(Contents::new());
        }
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || folder.read(&sources)).await;
        read.unwrap_or(Err(MountError::Unstable))
    }

    /// Sees to every destination, some at a time.
    async fn carry_out(&self, plan: &Plan, contents: &Result<Contents, MountError>, now: Timestamp) -> Vec<Done> {
        let jobs = plan.targets.iter().map(|target| self.see_to(target, contents, now));
        stream::iter(jobs).buffered(TARGETS_IN_FLIGHT).filter_map(async |done| done).collect().await
    }

    /// One destination. `None`: nothing can be said about it yet.
    async fn see_to(&self, plan: &TargetPlan, contents: &Result<Contents, MountError>, now: Timestamp) -> Option<Done> {
        let target = &plan.target;
        Some(match &plan.aim {
            Aim::Wait(Obstacle::NotListed | Obstacle::RequestDeleting) => return None,
            Aim::Wait(obstacle) => {
                let (reason, message) = self.describe(obstacle, target);
                self.held(target, reason, message)
            }
            Aim::Withdraw(denial, standing) => {
                let Some((observed, revoking)) = standing else {
                    return Some(Done::of(target, End::Denied(denial.clone())));
                };
                let end = match revoking {
                    Revoking::Delete => End::Denied(denial.clone()),
                    Revoking::Retain => End::Retained(denial.clone()),
                    Revoking::Mark { until } | Revoking::Wait { until } => End::Revoking(denial.clone(), *until),
                };
                match self.withdraw(target, observed, *revoking, now).await {
                    Ok(note) => Done { note, ..Done::of(target, end) },
                    Err(failure) => self.failed(target, &failure),
                }
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
        let written = match &state {
            SecretState::Present(observed) => observed.written,
            _ => None,
        };
        let last = |done: Done| Done { written, ..done };
        let contents = match contents {
            Err(error) => {
                let message = format!("{error}; Secrets stay as they are");
                return last(self.held(&target, Reason::SourcesNotReady, message));
            }
            Ok(contents) => match usable(permit, contents) {
                Err((reason, message)) => return last(self.held(&target, reason, message)),
                Ok(contents) => contents,
            },
        };
        let rendered = match render(permit.clone(), &contents, &self.seal) {
            Err(misfit) => return last(self.held(&target, Reason::InvalidForType, misfit.to_string())),
            Ok(rendered) => rendered,
        };
        match self.write(&rendered, state).await {
            Written::Done(observed, note) => {
                Done { note, written: observed.written, ..Done::of(&target, End::Synced) }
            }
            Written::Conflict(message) => {
                let next = Next { after: Some(CONFLICT_RETRY), ..Next::default() };
                Done { next, ..self.held(&target, Reason::TargetConflict, message) }
            }
            Written::Failed(failure) => last(self.failed(&target, &failure)),
        }
    }

    async fn clear_all(&self, plan: &Plan, now: Timestamp) -> Cleared {
        let mut cleared = Cleared::default();
        for leftover in &plan.leftovers {
            match self.clear(leftover, now).await {
                Ok(note) => cleared.notes.extend(note),
                Err(failure) => {
                    tracing::warn!(secret = %leftover.target, "cannot be deleted: {failure}");
                    self.judge_failure(&leftover.target, &failure);
                    cleared.failed = true;
                }
            }
        }
        cleared
    }

    /// Writes the status of what was done, unless something could not be looked at yet.
    async fn report(
        &self,
        key: &RequestKey,
        plan: &Plan,
        done: Vec<Done>,
        notes: Vec<Note>,
        now: Timestamp,
    ) -> Result<(), ApiFailure> {
        let previous = self.reports.previous(key);
        let (uid, status) = match &plan.subject {
            Subject::Gone => return Ok(()),
            Subject::Invalid { uid, generation, problem } => {
                (uid.clone(), outcome::invalid(*generation, &problem.to_string(), &previous, now))
            }
            Subject::Live(_) if done.len() < plan.targets.len() => return Ok(()),
            Subject::Live(request) => {
                let outcomes: Vec<_> = done.into_iter().map(Done::into_outcome).collect();
                (request.uid.clone(), outcome::status(request, &outcomes, &previous, now))
            }
        };
        match self.reports.report(key, &uid, status, notes).await {
            Err(ApiFailure::NotFound) => Ok(()),
            other => other.inspect_err(|failure| tracing::warn!(request = %key, "status not written: {failure}")),
        }
    }

    fn schedule(&self, key: &RequestKey, next: Next) {
        match next.failed {
            true => self.queue.add_failed(key.clone()),
            false => self.queue.succeeded(key),
        }
        let until = next.at.map(|at| at.duration_since(Timestamp::now()).unsigned_abs());
        // A little late rather than a little early: at the instant itself the answer has just changed.
        let until = until.map(|wait| wait + Duration::from_millis(5));
        for wait in until.into_iter().chain(next.after) {
            self.queue.add_after(key.clone(), wait);
        }
    }

    fn describe(&self, obstacle: &Obstacle, target: &Target) -> (Reason, String) {
        let namespace = &target.namespace;
        match obstacle {
            Obstacle::NamespaceNotFound => {
                (Reason::NamespaceNotFound, format!("namespace {namespace} does not exist; create it, or correct spec.namespaces"))
            }
            Obstacle::NamespaceTerminating => {
                (Reason::NamespaceTerminating, format!("namespace {namespace} is being deleted"))
            }
            Obstacle::NotDelegated => (Reason::NotDelegated, self.delegation_advice(target)),
            Obstacle::Senior(key) => (
                Reason::TargetConflict,
                format!("Secret {target} is written by the older request {key}; choose another spec.name or delete one of the two"),
            ),
            Obstacle::Suspended | Obstacle::RequestDeleting | Obstacle::NotListed => {
                (Reason::Suspended, "spec.suspend is true: nothing is written".into())
            }
        }
    }

    fn held(&self, target: &Target, reason: Reason, message: String) -> Done {
        Done::of(target, End::Held(reason, message))
    }

    fn failed(&self, target: &Target, failure: &ApiFailure) -> Done {
        let (reason, message) = self.judge_failure(target, failure);
        let next = match (reason, failure) {
            (Reason::NotDelegated | Reason::NamespaceTerminating, _) => Next::default(),
            (Reason::WriteRefused, _) => Next { after: Some(REFUSED_RETRY), ..Next::default() },
            (_, ApiFailure::Busy(wait)) => Next { after: Some(*wait), ..Next::default() },
            _ => Next { failed: true, ..Next::default() },
        };
        Done { next, ..self.held(target, reason, message) }
    }

    /// The world. Never held across an await.
    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn world_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one destination.
struct Done {
    target: Target,
    end: End,
    granted_by: Vec<crate::core::name::PolicyName>,
    written: Option<Timestamp>,
    note: Option<Note>,
    next: Next,
}

impl Done {
    fn of(target: &Target, end: End) -> Self {
        let (granted_by, written, note, next) = (Vec::new(), None, None, Next::default());
        Self { target: target.clone(), end, granted_by, written, note, next }
    }

    fn into_outcome(self) -> Outcome {
        Outcome { target: self.target, granted_by: self.granted_by, end: self.end, written: self.written }
    }
}

#[derive(Default)]
struct Cleared {
    notes: Vec<Note>,
    failed: bool,
}

impl Next {
    fn merge(&mut self, other: Next) {
        let soonest = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        self.at = self.at.into_iter().chain(other.at).min();
        self.after = soonest(self.after, other.after);
        self.failed |= other.failed;
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
