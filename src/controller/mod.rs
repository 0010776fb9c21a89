//! The shell around the core: it watches, carries out what was decided, and reports.

mod apply;
mod events;
mod lanes;
mod namespaces;
mod parse;
mod policies;
mod queue;
mod reconcile;
mod report;
mod secret_api;
mod secret_body;
mod watch;

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{
    namespaces::Namespaces,
    policies::PolicyReports,
    queue::{Priority, Queue},
    report::Reports,
    secret_api::SecretApi,
};
use crate::{
    admin::Gates,
    core::{index::World, name::RequestKey, render::Seal},
    settings::Settings,
    source::Folder,
};

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
            queue: Queue::new(settings.workers),
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

    fn schedule(&self, key: &RequestKey, next: Next) {
        match next.failed {
            true => self.queue.add_failed(key.clone()),
            false => self.queue.succeeded(key),
        }
        let until = next.at.map(|at| at.duration_since(Timestamp::now()).unsigned_abs());
        // A little late rather than a little early: at the instant itself the answer has just changed.
        let until = until.map(|wait| wait + Duration::from_millis(5));
        if let Some(wait) = until {
            self.queue.add_after(key.clone(), wait, Priority::Revocation);
        }
        if let Some(wait) = next.after {
            self.queue.add_after(key.clone(), wait, Priority::Retry);
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

impl Next {
    fn merge(&mut self, other: Next) {
        let soonest = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        self.at = self.at.into_iter().chain(other.at).min();
        self.after = soonest(self.after, other.after);
        self.failed |= other.failed;
    }
}
