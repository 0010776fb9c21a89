//! The Secrets of each namespace, as far as it has delegated them: one metadata watch per namespace, or looks.

use std::{
    collections::{BTreeSet, HashMap},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::sleep,
};

use super::{
    Context,
    cause::{Cause, CauseKind},
    looks::look_until_refused,
    queue::Priority,
};
use crate::{
    access::SecretsAccess,
    api::names,
    core::{
        backoff,
        index::{Delegation, World},
        name::{NamespaceName, RequestKey, SecretName, Target},
        observed::Observed,
    },
};

/// How soon a namespace that some request wants to write into is asked again for its delegation: the status
/// heals within 5 s of the RoleBinding.
const WANTED_RETRY: Duration = Duration::from_secs(3);

/// The same for a namespace that nobody wants to write into, while a Secret may have been left behind there.
const LEFT_RETRY: Duration = Duration::from_secs(600);

/// The same where none is known of: only an operator before this one can have left some. A cluster has thousands of such
/// namespaces, and at rest nothing shall be asked of the API server.
const UNWANTED_RETRY: Duration = Duration::from_secs(6 * 3600);

/// How many namespaces may be at their first questions at a time.
const TURNS: usize = 16;

/// How many of them may be such that nobody waits for. A cluster has thousands of those, and each answer takes its time.
const UNAWAITED_TURNS: usize = 8;

/// The namespaces that are followed.
pub struct Namespaces {
    watches: Mutex<HashMap<NamespaceName, Watch>>,
    turns: Arc<Semaphore>,
    unawaited: Arc<Semaphore>,
}

struct Watch {
    followed: Arc<Followed>,
    task: AbortHandle,
}

/// A namespace that is followed.
pub struct Followed {
    pub name: NamespaceName,
    /// Something suggests that its delegation is not what it was.
    pub recheck: Notify,
    /// It is in no hurry, since nobody wants to write there: what is known of it, if anything, may be outdated.
    asleep: AtomicBool,
}

/// While it lasts others have to wait for theirs.
pub struct Turn {
    _all: Option<OwnedSemaphorePermit>,
    _unawaited: Option<OwnedSemaphorePermit>,
}

impl Default for Namespaces {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { watches: Mutex::default(), turns: semaphore(TURNS), unawaited: semaphore(UNAWAITED_TURNS) }
    }
}

impl Namespaces {
    /// Begins to watch a namespace, unless it is watched.
    pub fn add(&self, context: &Arc<Context>, namespace: &NamespaceName) {
        self.watches().entry(namespace.clone()).or_insert_with(|| {
            let (name, recheck, asleep) = (namespace.clone(), Notify::new(), AtomicBool::new(false));
            let followed = Arc::new(Followed { name, recheck, asleep });
            let task = tokio::spawn(follow(context.clone(), followed.clone())).abort_handle();
            Watch { followed, task }
        });
    }

    /// The namespace is gone.
    pub fn remove(&self, namespace: &NamespaceName) {
        if let Some(watch) = self.watches().remove(namespace) {
            watch.task.abort();
        }
    }

    /// Ends every watch.
    pub fn clear(&self) {
        self.watches().drain().for_each(|(_, watch)| watch.task.abort());
    }

    /// Something suggests that the delegation of the namespace is not what it was.
    pub fn recheck(&self, namespace: &NamespaceName) {
        if let Some(watch) = self.watches().get(namespace) {
            watch.followed.recheck.notify_one();
        }
    }

    /// Somebody wants to write into the namespace now. Answers whether what is known of it may be outdated: it
    /// is asked again at once.
    pub fn wake(&self, namespace: &NamespaceName) -> bool {
        let watches = self.watches();
        let Some(watch) = watches.get(namespace) else { return false };
        let slept = watch.followed.asleep.swap(false, Ordering::AcqRel);
        if slept {
            watch.followed.recheck.notify_one();
        }
        slept
    }

    /// Waits until the namespace may be asked what the operator may see and do there. One that somebody waits for never
    /// waits behind all those that nobody does.
    pub async fn turn(&self, context: &Context, followed: &Followed) -> Turn {
        let awaited = {
            // Together, so that whoever begins to wait for it now either is seen here or wakes it.
            let world = context.world();
            let awaited = world.is_awaited(&followed.name);
            followed.asleep.store(!awaited, Ordering::Release);
            awaited
        };
        let unawaited = match awaited {
            true => None,
            false => tokio::select! {
                permit = self.unawaited.clone().acquire_owned() => permit.ok(),
                () = followed.recheck.notified() => None,
            },
        };
        let turn = Turn { _all: self.turns.clone().acquire_owned().await.ok(), _unawaited: unawaited };
        followed.asleep.store(false, Ordering::Release);
        // What was asked for until now is answered by what follows.
        let _ = followed.recheck.notified().now_or_never();
        turn
    }

    fn watches(&self) -> MutexGuard<'_, HashMap<NamespaceName, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// A request came, or changed, or wants other namespaces: of those nothing is said that may be outdated.
    pub(super) fn wake_destinations(&self, key: &RequestKey) {
        let undelegated = self.world().undelegated_destinations(key);
        undelegated.iter().for_each(|namespace| self.wake(namespace));
    }

    /// Where a request has left a Secret, as its status tells, the Secret waits to be seen to.
    pub(super) fn expect_told(&self) {
        let told = self.reports.told_targets();
        let namespaces: BTreeSet<_> = told.iter().map(|target| target.namespace.clone()).collect();
        let mut world = self.world_mut();
        world.expect_secrets(told);
        let of = |delegation| {
            let world = &world;
            namespaces.iter().filter(move |name| world.secrets.delegation(name) == delegation).collect::<Vec<_>>()
        };
        let (unlisted, refused) = (of(Delegation::Unknown), of(Delegation::Refused));
        refused.into_iter().for_each(|namespace| self.hint_told(&mut world, namespace));
        drop(world);
        unlisted.into_iter().for_each(|namespace| self.wake(namespace));
    }

    /// What was written in a namespace for those that want it there, as far as their statuses say so, may be there.
    fn hint_told(&self, world: &mut World, namespace: &NamespaceName) {
        let claims = world.requests.claims_in(namespace).map(|request| (&request.key, request.target(namespace)));
        let told = claims.filter_map(|(key, target)| Some((self.reports.last_seen(key, &target)?, target)));
        let told: Vec<_> = told.collect();
        told.into_iter().for_each(|(last_seen, target)| world.secrets.hint(target, Some(last_seen)));
    }

    /// The API server refuses.
    fn refused(&self, world: &mut World, namespace: &NamespaceName) -> BTreeSet<RequestKey> {
        self.hint_told(world, namespace);
        world.set_delegation(namespace, Delegation::Refused)
    }

    pub(super) fn wake_if_wanted(&self, namespace: &NamespaceName) {
        let wanted = self.world().is_wanted(namespace);
        if wanted {
            self.wake(namespace);
        }
    }

    fn wake(&self, namespace: &NamespaceName) {
        // Locked first, so that what the list then finds comes after this.
        let mut world = self.world_mut();
        if self.namespaces.wake(namespace) {
            world.set_delegation(namespace, Delegation::Unknown);
        }
    }
}

/// Follows one namespace for as long as it exists.
async fn follow(context: Arc<Context>, followed: Arc<Followed>) {
    let namespace = &followed.name;
    loop {
        match context.access {
            SecretsAccess::Watch => watch_until_refused(&context, &followed).await,
            SecretsAccess::WriteOnly => look_until_refused(&context, &followed).await,
        }
        let (wanted, awaited) = {
            // Together, so that whoever begins to want it now either is seen here or wakes it.
            let mut world = context.world_mut();
            let wanted = world.is_wanted(namespace);
            followed.asleep.store(!wanted, Ordering::Release);
            let touched = context.refused(&mut world, namespace);
            context.queue.add(touched, Priority::Change, &Cause::new(CauseKind::Delegation));
            (wanted, world.is_awaited(namespace))
        };
        let patience = if awaited { LEFT_RETRY } else { UNWANTED_RETRY };
        match wanted {
            // Not sooner: where the list is allowed and the write is not, asking at once would go in circles.
            true => sleep(WANTED_RETRY).await,
            false => tokio::select! { () = sleep(patience) => {}, () = followed.recheck.notified() => {} },
        }
    }
}

/// Watches until the API server refuses, or until a write was refused.
async fn watch_until_refused(context: &Context, followed: &Followed) {
    let namespace = &followed.name;
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(context.client.clone(), namespace.as_str());
    let mut stream = pin!(watcher(api, watcher::Config::default().labels(names::OWNER_UID)));
    let mut turn = Some(context.namespaces.turn(context, followed).await);
    let mut listed = Listed::default();
    let (mut granted, mut failures) = (false, 0);
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = followed.recheck.notified(), if granted => return,
        };
        match event {
            Some(Ok(event)) => {
                failures = 0;
                granted |= matches!(event, Event::InitDone);
                take_in(context, namespace, event, &mut listed);
            }
            Some(Err(error)) if is_refusal(&error) => return,
            Some(Err(error)) => {
                failures += 1;
                context.metrics.watch_restarted("secrets");
                tracing::warn!(%namespace, failures, "watch of Secrets interrupted: {}", describe(&error));
                sleep(backoff::delay(failures, 0.5)).await;
            }
            None => return,
        }
        if granted {
            turn.take();
        }
    }
}

/// What a list that is not complete yet has shown.
#[derive(Default)]
struct Listed {
    targets: BTreeSet<Target>,
    newest: u64,
}

fn take_in(context: &Context, namespace: &NamespaceName, event: Event<PartialObjectMeta<Secret>>, listed: &mut Listed) {
    let mut cause = Cause::new(CauseKind::Secret);
    let touched = match event {
        Event::Init => {
            *listed = Listed::default();
            return;
        }
        Event::InitApply(secret) => {
            let Some((target, observed)) = parse(namespace, secret) else { return };
            listed.newest = listed.newest.max(observed.version());
            listed.targets.insert(target.clone());
            context.world_mut().apply_secret(&target, observed)
        }
        Event::Apply(secret) => {
            let Some((target, observed)) = parse(namespace, secret) else { return };
            let mut world = context.world_mut();
            world.secrets.shown(namespace, observed.version());
            world.apply_secret(&target, observed)
        }
        Event::Delete(secret) => {
            let Some((target, last)) = parse(namespace, secret) else { return };
            let mut world = context.world_mut();
            world.secrets.shown(namespace, last.version());
            world.delete_secret(&target)
        }
        Event::InitDone => {
            let mut world = context.world_mut();
            let Listed { targets, newest } = std::mem::take(listed);
            let known = world.secrets.targets_in(namespace);
            let gone: Vec<_> = known.into_iter().filter(|target| !targets.contains(target)).collect();
            let mut touched: BTreeSet<_> = gone.iter().flat_map(|target| world.delete_secret(target)).collect();
            world.secrets.shown(namespace, newest);
            touched.extend(world.set_delegation(namespace, Delegation::Granted));
            cause.kind = CauseKind::Delegation;
            touched
        }
    };
    context.queue.add(touched, Priority::Change, &cause);
}

fn parse(namespace: &NamespaceName, secret: PartialObjectMeta<Secret>) -> Option<(Target, Observed)> {
    let name = SecretName::parse(secret.metadata.name.as_deref()?).ok()?;
    Some((Target { namespace: namespace.clone(), name }, Observed::parse(secret.metadata)))
}

fn is_refusal(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 403
}

/// The kind of the failure; the text of the API server's answer is left out.
pub fn describe(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(_) => "the list failed",
        watcher::Error::WatchStartFailed(_) => "the watch could not be started",
        watcher::Error::WatchError(_) => "the API server ended the watch",
        watcher::Error::WatchFailed(_) => "the connection failed",
        watcher::Error::NoResourceVersion => "an answer had no resource version",
    }
}
