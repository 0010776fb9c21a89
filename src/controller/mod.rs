//! The shell around the core: it watches, carries out what was decided, and reports.

mod apply;
pub mod cause;
mod clock;
mod done;
mod events;
mod freshness;
mod gauges;
mod lanes;
mod looks;
mod namespaces;
mod parse;
mod policies;
mod queue;
mod reconcile;
mod recorder;
mod report;
mod secret_api;
mod secret_body;
mod tell;
#[cfg(test)]
mod tests;
mod traced;
mod watch;
mod watched;

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use governor::clock::MonotonicClock;
use jiff::Timestamp;
use kube::Client;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use self::{
    cause::{Cause, CauseKind},
    done::Attempt,
    freshness::Freshness,
    looks::Looks,
    namespaces::Namespaces,
    policies::PolicyReports,
    queue::{Priority, Queue, Turn},
    report::Reports,
    secret_api::SecretApi,
    tell::{Progress, Untold},
};
use crate::{
    access::SecretsAccess,
    admin::Gates,
    core::{index::World, name::RequestKey, policy::Rate, render::Seal},
    lease::{Leadership, MAX_DURATION, Term},
    limits::Limits,
    settings::Settings,
    source::{Extent, Folder, Reader},
    telemetry::Metrics,
};

/// For how long a replica that does not lead keeps what is to be done: as long as the one that leads can be gone
/// unnoticed.
const LEFT_UNDONE: Duration = MAX_DURATION;

/// Everything a reconcile needs.
pub struct Context {
    world: RwLock<World>,
    queue: Queue<End>,
    workers: usize,
    sources: Reader,
    /// What the folder held when it was last usable.
    extent: Mutex<Extent>,
    seal: Seal,
    secrets: SecretApi,
    reports: Reports,
    policy_reports: PolicyReports,
    freshness: Freshness,
    limits: Limits,
    default_rate: Rate,
    access: SecretsAccess,
    namespaces: Namespaces,
    looks: Looks,
    gates: Gates,
    leadership: Leadership,
    client: Client,
    service_account: String,
    metrics: Metrics,
}

/// Runs the controller until `shutdown`; what is in hand then is finished. `client` writes only while `leadership`
/// lasts; what is watched is watched by a standby as well.
pub async fn run(
    client: Client,
    settings: Settings,
    gates: Gates,
    leadership: Leadership,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let context = Arc::new(Context::new(client, &settings, gates, leadership, metrics));
    gauges::register(&context);
    let mut tasks = JoinSet::new();
    watch::spawn(&context, &settings, &mut tasks, &shutdown);
    tasks.spawn(watch::until(shutdown.clone(), take_over(context.clone())));
    for _ in 0..settings.workers {
        tasks.spawn(work(context.clone(), shutdown.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            // A panic that reached a task: what it said is dropped, since it may hold content. Nobody else does its
            // work: without a watch revocations would go unnoticed. So the process ends, and another takes over.
            tracing::error!(panic = error.is_panic(), "a task of the controller ended");
            return;
        }
    }
}

/// One worker: one turn after the other. What is put off when it has to end is told before it does.
async fn work(context: Arc<Context>, shutdown: CancellationToken) {
    loop {
        let turn = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            next = context.next() => next,
        };
        context.take(turn).await;
    }
    while let Some(turn) = context.queue.next_end() {
        context.take(turn).await;
    }
}

/// The work for one key, from its beginning to its end.
struct Work {
    key: RequestKey,
    cause: Cause,
    span: Span,
}

/// The end of work for one key.
type End = (Work, Box<Untold>);

/// A reconcile that panicked. What it said is dropped: it may hold content.
#[derive(Debug, PartialEq, Eq)]
struct Panicked;

/// Runs one piece of work in a task of its own, so that a panic in it harms nothing else.
async fn attempt<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Panicked> {
    tokio::spawn(work).await.map_err(|_| Panicked)
}

/// Looks at every request when this replica begins to lead: what the one before it had in hand is not known.
async fn take_over(context: Arc<Context>) {
    loop {
        let term = lead(&context).await;
        // Now, so that the budgets fill from here on: a worker that is faster begins them itself.
        context.limits.begin(term.number());
        context.world_mut().secrets.forget_expiries();
        context.policy_reports.counts_changed();
        let every = context.world().every_key();
        context.queue.add(every, Priority::Retry, &Cause::new(CauseKind::Start));
        context.leadership.over(term).await;
    }
}

/// Waits until this replica leads. Until then the work that it sees is another one's; what is kept is as much as one
/// that ends may leave undone, so that the cause of that is told.
async fn lead(context: &Context) -> Term {
    loop {
        tokio::select! {
            biased;
            term = context.leadership.gained() => return term,
            () = sleep(LEFT_UNDONE) => context.queue.forget_older_than(LEFT_UNDONE),
        }
    }
}

/// When a key comes back by itself.
#[derive(Clone, Copy, Debug, Default)]
struct Next {
    at: Option<Timestamp>,
    after: Option<Duration>,
    /// Somebody else is in the way, who may have gone by then.
    recheck: Option<Duration>,
    /// Its turn at the rate limit.
    turn: Option<Duration>,
    failed: bool,
    /// This replica does not lead any more: nothing is to be said about the work, which another one does.
    abandoned: bool,
}

impl Context {
    fn new(client: Client, settings: &Settings, gates: Gates, leadership: Leadership, metrics: Metrics) -> Self {
        Self {
            world: RwLock::new(World::new(settings.namespace.clone())),
            queue: Queue::new(settings.workers),
            workers: settings.workers,
            sources: Reader::new(Folder::new(settings.secrets_path.clone()), settings.workers),
            extent: Mutex::default(),
            seal: Seal { key: settings.digest_key.clone(), managed_by: settings.managed_by.clone() },
            secrets: SecretApi::new(
                client.clone(),
                settings.api_timeout,
                settings.secrets_access,
                settings.enforcement,
            ),
            reports: Reports::new(client.clone(), settings.api_timeout, settings.trace_url.clone()),
            policy_reports: PolicyReports::new(client.clone(), settings.api_timeout),
            limits: Limits::new(MonotonicClock),
            default_rate: settings.rate_limit,
            freshness: Freshness::new(client.clone(), settings.api_timeout),
            access: settings.secrets_access,
            namespaces: Namespaces::default(),
            looks: Looks::new(settings.resync_interval),
            gates,
            leadership,
            client,
            service_account: format!("{}:{}", settings.namespace, settings.service_account),
            metrics,
        }
    }

    /// The next turn; none while another replica leads.
    async fn next(&self) -> Turn<End> {
        loop {
            let term = self.leadership.gained().await;
            tokio::select! {
                biased;
                () = self.leadership.over(term) => {}
                next = self.queue.next() => return next,
            }
        }
    }

    async fn take(self: &Arc<Self>, turn: Turn<End>) {
        match turn {
            Turn::Work(key, cause) => self.begin(key, cause).await,
            Turn::End(_, (work, untold)) => self.finish(work, untold).await,
        }
    }

    async fn begin(self: &Arc<Self>, key: RequestKey, cause: Cause) {
        let span = traced::begin(&key, &cause);
        let (this, at, why) = (self.clone(), key.clone(), cause.clone());
        let work = Work { key, cause, span };
        match attempt(async move { this.attempt(&at, &why).await }.instrument(work.span.clone())).await {
            Ok(Progress::Over(attempt)) => self.conclude(work, &attempt),
            Ok(Progress::Untold(untold)) => {
                let (key, cause) = (work.key.clone(), work.cause.clone());
                self.queue.put_off(&key, &cause, (work, untold));
            }
            Err(Panicked) => self.recover(work).await,
        }
    }

    /// The whole of it, but for the end if that is put off.
    async fn attempt(&self, key: &RequestKey, cause: &Cause) -> Progress {
        let mut untold = match self.reconcile(key, cause).await {
            Progress::Untold(untold) => untold,
            over => return over,
        };
        match self.queue.is_behind().then(|| untold.put_off()).flatten() {
            None => Progress::Over(self.tell(key, *untold).await),
            Some(next) => {
                self.schedule(key, next, cause.clone());
                Progress::Untold(untold)
            }
        }
    }

    async fn finish(self: &Arc<Self>, work: Work, untold: Box<Untold>) {
        let (this, key) = (self.clone(), work.key.clone());
        match attempt(async move { this.tell(&key, *untold).await }.instrument(work.span.clone())).await {
            Ok(attempt) => self.conclude(work, &attempt),
            Err(Panicked) => self.recover(work).await,
        }
    }

    fn conclude(&self, Work { key, cause, span }: Work, attempt: &Attempt) {
        traced::conclude(&span, &key, attempt);
        self.schedule(&key, attempt.next, cause);
        self.queue.done(&key);
    }

    async fn recover(&self, Work { key, cause, span }: Work) {
        tracing::error!(request = %key, "reconcile panicked; retried with backoff");
        traced::conclude(&span, &key, &Attempt::failed(Next::default(), "panic"));
        self.queue.add_failed(key.clone(), cause);
        self.report_panic(&key).instrument(span).await;
        self.queue.done(&key);
    }

    /// What the attempt has left to do comes back for the same cause.
    fn schedule(&self, key: &RequestKey, next: Next, cause: Cause) {
        match next.failed {
            true => self.queue.add_failed(key.clone(), cause.clone()),
            false => self.queue.succeeded(key),
        }
        let until = next.at.map(|at| until(at, Timestamp::now()));
        // A little late rather than a little early: at the instant itself the answer has just changed.
        let until = until.map(|wait| wait + Duration::from_millis(5));
        let then = |kind, wait| Cause::since(kind, Instant::now() + wait);
        if let Some(wait) = until {
            self.queue.add_after(key.clone(), wait, Priority::Revocation, then(CauseKind::Time, wait));
        }
        if let Some(wait) = next.turn {
            self.queue.add_after(key.clone(), wait, Priority::Change, cause.clone().again());
        }
        if let Some(wait) = next.recheck {
            self.queue.add_after(key.clone(), wait, Priority::Retry, then(CauseKind::Recheck, wait));
        }
        if let Some(wait) = next.after {
            self.queue.add_after(key.clone(), wait, Priority::Retry, cause.again());
        }
    }

    /// The world. Never held across an await.
    fn world(&self) -> RwLockReadGuard<'_, World> {
        self.world.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn world_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.world.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it is until an instant. One that came while the attempt ran is due at once.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

impl Next {
    /// Nothing is left to do but what an instant brings.
    fn is_about_time_only(&self) -> bool {
        let Self { at: _, after, recheck, turn, failed, abandoned } = self;
        after.or(*recheck).or(*turn).is_none() && !failed && !abandoned
    }

    fn merge(&mut self, other: Next) {
        let soonest = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        self.at = self.at.into_iter().chain(other.at).min();
        self.after = soonest(self.after, other.after);
        self.recheck = soonest(self.recheck, other.recheck);
        self.turn = soonest(self.turn, other.turn);
        self.failed |= other.failed;
        self.abandoned |= other.abandoned;
    }
}
