//! What is watched in the whole cluster, and the folder: every change goes into the world, and the requests it
//! touches into the queue.

use std::{
    collections::BTreeSet,
    fmt::Debug,
    future::Future,
    pin::pin,
    sync::{Arc, PoisonError},
};

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::{
    Api, Resource, ResourceExt,
    api::PartialObjectMeta,
    core::ApiResource,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    cause::{Cause, CauseKind},
    clock, looks,
    namespaces::describe,
    parse, policies,
    queue::Priority,
    traced::{self, Changed},
    watched::Watched,
};
use crate::{
    access::SecretsAccess,
    api::{DistributionPolicy, SecretsDistribution},
    core::{
        backoff,
        index::Gate,
        name::{NamespaceName, PolicyName, RequestKey},
        object,
        policy::Namespace,
    },
    rbac::RESTORE,
    settings::Settings,
    source::{self, Change, Noticed},
};

/// Starts every watch. Each ends with `shutdown`.
pub fn spawn(context: &Arc<Context>, settings: &Settings, tasks: &mut JoinSet<()>, shutdown: &CancellationToken) {
    let client = &context.client;
    let requests = Api::<Watched>::all_with(client.clone(), &ApiResource::erase::<SecretsDistribution>(&()));
    let policies = Api::<Watched>::all_with(client.clone(), &ApiResource::erase::<DistributionPolicy>(&()));
    let namespaces = Api::<PartialObjectMeta<KubeNamespace>>::all(client.clone());
    let following = [
        follow(context.clone(), Gate::Requests, requests, Requests::default()).boxed(),
        follow(context.clone(), Gate::Policies, policies, Policies::default()).boxed(),
        follow(context.clone(), Gate::Namespaces, namespaces, Namespaces::default()).boxed(),
    ];
    for follow in following {
        tasks.spawn(until(shutdown.clone(), follow));
    }

    tasks.spawn(until(shutdown.clone(), policies::report(context.clone())));
    tasks.spawn(until(shutdown.clone(), clock::follow(context.clone())));
    let (sender, changes) = mpsc::channel(64);
    let stop = shutdown.clone().cancelled_owned();
    tasks.spawn(source::watch(context.sources.folder().clone(), settings.poll_interval, sender, stop));
    tasks.spawn(follow_sources(context.clone(), changes));

    if settings.secrets_access == SecretsAccess::WriteOnly {
        tasks.spawn(until(shutdown.clone(), looks::keep_terms(context.clone())));
    }
    let (context, shutdown) = (context.clone(), shutdown.clone());
    tasks.spawn(async move {
        shutdown.cancelled().await;
        context.namespaces.clear();
    });
}

/// The work, unless `shutdown` comes first.
pub async fn until(shutdown: CancellationToken, work: impl Future<Output = ()> + Send) {
    tokio::select! { () = shutdown.cancelled() => {}, () = work => {} }
}

/// How one kind of object goes into the world. Each step answers with the requests it touches.
trait Intake<K> {
    fn begin(&mut self);
    fn apply(&mut self, context: &Arc<Context>, object: K) -> BTreeSet<RequestKey>;
    fn delete(&mut self, context: &Arc<Context>, object: K) -> BTreeSet<RequestKey>;
    /// The list is complete: what was known and not listed is gone.
    fn complete(&mut self, context: &Arc<Context>) -> BTreeSet<RequestKey>;
}

/// Feeds the world from a watch. It never ends: an interrupted watch is resumed, and until then what was read
/// last holds.
async fn follow<K>(context: Arc<Context>, gate: Gate, api: Api<K>, mut intake: impl Intake<K> + Send)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let watch = || watcher(api.clone(), watcher::Config::default());
    let mut stream = pin!(watch());
    let mut failures = 0;
    while let Some(event) = stream.next().await {
        let mut cause = Cause::new(kind_of(gate));
        // Until all has been read, what is shown was there before.
        let changed = context.world().is_ready().then(|| event.as_ref().ok().and_then(changed)).flatten();
        let touched = match event {
            Err(error) => {
                failures += 1;
                context.metrics.watch_restarted(resource(gate));
                complain(&context, gate, &error, failures);
                sleep(backoff::delay(failures, 0.5)).await;
                if is_lost(&error) {
                    stream.set(watch());
                }
                continue;
            }
            Ok(Event::Init) => {
                intake.begin();
                continue;
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => intake.apply(&context, object),
            Ok(Event::Delete(object)) => intake.delete(&context, object),
            Ok(Event::InitDone) => {
                let mut touched = intake.complete(&context);
                let all = context.world_mut().open(gate);
                if !all.is_empty() {
                    cause.kind = CauseKind::Start;
                }
                touched.extend(all);
                if context.world().is_ready() {
                    context.looks.may_begin();
                }
                context.gates.open(gate.as_str());
                touched
            }
        };
        failures = 0;
        if let Some(changed) = changed.filter(|_| !touched.is_empty()) {
            cause = traced::change(&changed, touched.len(), cause);
        }
        context.enqueue(touched, &cause);
    }
}

/// The object that an event is about.
fn changed<K: Resource>(event: &Event<K>) -> Option<Changed> {
    let (object, change) = match event {
        Event::InitApply(object) | Event::Apply(object) => (object, "applied"),
        Event::Delete(object) => (object, "deleted"),
        Event::Init | Event::InitDone => return None,
    };
    Some(Changed { name: object.name_any(), generation: object.meta().generation, change })
}

fn kind_of(gate: Gate) -> CauseKind {
    match gate {
        Gate::Requests => CauseKind::Request,
        Gate::Policies => CauseKind::Policy,
        Gate::Namespaces => CauseKind::Namespace,
    }
}

/// What is watched, as the API server names it.
fn resource(gate: Gate) -> &'static str {
    match gate {
        Gate::Requests => "secretsdistributions",
        Gate::Policies => "distributionpolicies",
        Gate::Namespaces => "namespaces",
    }
}

/// Whether the watch cannot be resumed where it was: the kind or the right is gone, and what comes back may be
/// another. To list anew is what tells, and what shows in the end that all is well again.
fn is_lost(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else { return false };
    [401, 403, 404, 410].contains(&status.code)
}

/// Tells that a watch was interrupted; if nothing could be listed yet, the gate tells why.
fn complain(context: &Context, gate: Gate, error: &watcher::Error, failures: u32) {
    tracing::warn!(what = gate.as_str(), failures, "watch interrupted: {}", describe(error));
    let watcher::Error::InitialListFailed(error) = error else { return };
    let kind = match gate {
        Gate::Requests => "SecretsDistribution objects",
        Gate::Policies => "DistributionPolicy objects",
        Gate::Namespaces => "namespaces",
    };
    let code = if let kube::Error::Api(status) = error { status.code } else { 0 };
    let advice = match code {
        0 => "the API server cannot be reached: check its address and certificate in the kubeconfig, and the network"
            .into(),
        401 => "the API server does not accept the operator's credentials: check its ServiceAccount token".into(),
        403 => format!("the operator may not list {kind}: {RESTORE}"),
        404 => format!("the API server does not know {kind}: kubectl apply -f crds/"),
        code => format!("the API server answered {code} when {kind} were listed"),
    };
    context.gates.close(gate.as_str(), advice);
}

/// What a list has shown that is not complete yet; nothing is noted beside a list, so that no name is kept for good.
type Listed<T> = Option<BTreeSet<T>>;

fn note<T: Clone + Ord>(listed: &mut Listed<T>, name: &T) {
    if let Some(listed) = listed {
        listed.insert(name.clone());
    }
}

/// `SecretsDistribution` objects.
#[derive(Default)]
struct Requests {
    listed: Listed<RequestKey>,
}

impl Intake<Watched> for Requests {
    fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    fn apply(&mut self, context: &Arc<Context>, Watched(object): Watched) -> BTreeSet<RequestKey> {
        let Some((key, stored, known)) = parse::request(object) else { return BTreeSet::new() };
        note(&mut self.listed, &key);
        let status_changed = context.reports.seen(&key, known);
        let mut touched = context.world_mut().apply_request(key.clone(), stored);
        if !touched.is_empty() {
            context.policy_reports.counts_changed();
            context.wake_destinations(&key);
        }
        if status_changed {
            touched.insert(key);
        }
        touched
    }

    fn delete(&mut self, context: &Arc<Context>, Watched(object): Watched) -> BTreeSet<RequestKey> {
        match object::key_of(&object) {
            Some(key) => forget_request(context, &key),
            None => BTreeSet::new(),
        }
    }

    fn complete(&mut self, context: &Arc<Context>) -> BTreeSet<RequestKey> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<_> = context.world().requests.keys().filter(|key| !listed.contains(key)).cloned().collect();
        context.expect_told();
        gone.iter().flat_map(|key| forget_request(context, key)).collect()
    }
}

fn forget_request(context: &Context, key: &RequestKey) -> BTreeSet<RequestKey> {
    context.reports.forget(key);
    context.policy_reports.counts_changed();
    context.world_mut().delete_request(key)
}

/// `DistributionPolicy` objects.
#[derive(Default)]
struct Policies {
    listed: Listed<PolicyName>,
}

impl Intake<Watched> for Policies {
    fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    fn apply(&mut self, context: &Arc<Context>, Watched(mut object): Watched) -> BTreeSet<RequestKey> {
        let name = PolicyName::admitted(&object.name_any());
        note(&mut self.listed, &name);
        let status = object.data.as_object_mut().and_then(|data| data.remove("status"));
        let compiled = object::policy(&object).map(Arc::new);
        let touched = context.world_mut().apply_policy(name.clone(), compiled);
        // After the world: what was seen is what writes are decided by.
        context.policy_reports.seen(&name, &object.metadata, status);
        touched
    }

    fn delete(&mut self, context: &Arc<Context>, Watched(object): Watched) -> BTreeSet<RequestKey> {
        let name = PolicyName::admitted(&object.name_any());
        let touched = context.world_mut().delete_policy(&name);
        context.policy_reports.seen_gone(&name, &object.metadata);
        touched
    }

    fn complete(&mut self, context: &Arc<Context>) -> BTreeSet<RequestKey> {
        let known = context.world().policies.policies().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let listed = self.listed.take().unwrap_or_default();
        let gone = known.into_iter().filter(|name| !listed.contains(name));
        gone.flat_map(|name| forget_policy(context, &name)).collect()
    }
}

fn forget_policy(context: &Context, name: &PolicyName) -> BTreeSet<RequestKey> {
    let touched = context.world_mut().delete_policy(name);
    context.policy_reports.forget(name);
    touched
}

/// Namespaces: their labels, and whether they are being deleted.
#[derive(Default)]
struct Namespaces {
    listed: Listed<NamespaceName>,
}

impl Intake<PartialObjectMeta<KubeNamespace>> for Namespaces {
    fn begin(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    fn apply(&mut self, context: &Arc<Context>, object: PartialObjectMeta<KubeNamespace>) -> BTreeSet<RequestKey> {
        let Ok(name) = NamespaceName::parse(&object.name_any()) else { return BTreeSet::new() };
        note(&mut self.listed, &name);
        context.metrics.namespace_exists(&name);
        let terminating = object.metadata.deletion_timestamp.is_some();
        let labels = object.metadata.labels.unwrap_or_default();
        let touched = context.world_mut().apply_namespace(Namespace { name: name.clone(), labels, terminating });
        context.namespaces.add(context, &name);
        // Its labels may have made it a destination.
        context.wake_if_wanted(&name);
        context.policy_reports.counts_changed();
        touched.iter().for_each(|key| context.wake_destinations(key));
        touched
    }

    fn delete(&mut self, context: &Arc<Context>, object: PartialObjectMeta<KubeNamespace>) -> BTreeSet<RequestKey> {
        match NamespaceName::parse(&object.name_any()) {
            Ok(name) => forget_namespace(context, &name),
            Err(_) => BTreeSet::new(),
        }
    }

    fn complete(&mut self, context: &Arc<Context>) -> BTreeSet<RequestKey> {
        let known = context.world().policies.namespaces().map(|namespace| namespace.name.clone()).collect::<Vec<_>>();
        let listed = self.listed.take().unwrap_or_default();
        let gone = known.into_iter().filter(|name| !listed.contains(name));
        gone.flat_map(|name| forget_namespace(context, &name)).collect()
    }
}

fn forget_namespace(context: &Context, name: &NamespaceName) -> BTreeSet<RequestKey> {
    context.namespaces.remove(name);
    context.policy_reports.counts_changed();
    context.metrics.namespace_gone(name);
    context.limits.forget(name);
    context.world_mut().delete_namespace(name)
}

async fn follow_sources(context: Arc<Context>, mut changes: mpsc::Receiver<Noticed>) {
    while let Some(Noticed { change, since }) = changes.recv().await {
        match change {
            Change::Sources(sources) => {
                tracing::info!(sources = sources.len(), "sources changed");
                context.metrics.sources_changed();
                let touched = context.world().using(&sources);
                let cause = traced::rotation(&sources, touched.len(), since);
                context.queue.add(touched, Priority::Rotation, &cause);
            }
            Change::Extent(extent) => {
                *context.extent.lock().unwrap_or_else(PoisonError::into_inner) = extent;
            }
            Change::Mount(state) => {
                match &state {
                    Ok(()) => context.gates.open("sources"),
                    Err(error) => context.gates.close("sources", error.to_string()),
                }
                let every: Vec<_> = context.world().requests.keys().cloned().collect();
                context.queue.add(every, Priority::Retry, &Cause::since(CauseKind::Mount, since));
            }
        }
    }
}

impl Context {
    /// Queues requests that a change in the cluster touches; those that it revokes go first.
    fn enqueue(&self, touched: BTreeSet<RequestKey>, cause: &Cause) {
        let now = Timestamp::now();
        let (revoked, changed): (Vec<_>, Vec<_>) = {
            let world = self.world();
            touched.into_iter().partition(|key| world.plan(key, now).is_some_and(|plan| plan.revokes()))
        };
        self.queue.add(revoked, Priority::Revocation, cause);
        self.queue.add(changed, Priority::Change, cause);
    }
}
