//! The Secrets of a namespace where the operator may write them and not read: no list, no watch.
//!
//! Where a Secret of ours can be expected is known: a request claims it, the operator has written it, or a status
//! names it. There it is looked at: once before anything is decided about the namespace, then once in each interval.
//! What is found is judged by the Secret's own record; that a status names a place is a hint where to look and no more.
//!
//! A look is a PATCH, which passes for the leader only. A standby knows of no Secret, and looks when it takes over.

use std::{future::pending, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::{
    sync::{Semaphore, SetOnce, watch},
    time::sleep,
};

use super::{
    Context,
    cause::{Cause, CauseKind},
    namespaces::Followed,
    queue::{Priority, jitter},
};
use crate::{
    core::{
        backoff,
        index::Delegation,
        name::{NamespaceName, Target},
        observed::Observed,
    },
    error::ApiFailure,
    lease::{Leadership, Term},
    rbac,
};

/// Looks in flight at a time, of all namespaces.
const IN_FLIGHT: usize = 16;

/// When and how often to look.
pub struct Looks {
    interval: Duration,
    in_flight: Semaphore,
    /// All that says where to look has been read.
    read: SetOnce<()>,
    /// The last term of which it is known where to look.
    term: watch::Sender<Option<Term>>,
}

/// The API server refuses: the namespace has not delegated its Secrets.
struct Refused;

impl Looks {
    /// Each Secret is looked at once in `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, in_flight: Semaphore::new(IN_FLIGHT), read: SetOnce::new(), term: watch::Sender::new(None) }
    }

    /// Policies, namespaces and requests have been read.
    pub fn may_begin(&self) {
        let _ = self.read.set(()); // It may be said more than once.
    }

    /// Waits until this replica leads and knows where to look.
    async fn term(&self, leadership: &Leadership) -> Term {
        let mut terms = self.term.subscribe();
        let lasts = |term: &Option<Term>| term.is_some_and(|term| leadership.check_term(term).is_ok());
        let term = terms.wait_for(lasts).await.ok().and_then(|term| *term);
        match term {
            Some(term) => term,
            None => pending().await, // Cannot be: the sender is in `self`.
        }
    }
}

/// Prepares each term in which this replica leads.
pub async fn keep_terms(context: Arc<Context>) {
    let looks = &context.looks;
    looks.read.wait().await;
    loop {
        let term = context.leadership.gained().await;
        context.world_mut().secrets.doubt_hints();
        context.expect_told();
        looks.term.send_replace(Some(term));
        context.leadership.over(term).await;
    }
}

/// Looks, whenever this replica leads, until the API server refuses, or until a write was refused. What was known in
/// one term may be outdated in the next.
pub async fn look_until_refused(context: &Context, followed: &Followed) {
    loop {
        let term = context.looks.term(&context.leadership).await;
        tokio::select! {
            biased;
            () = context.leadership.over(term) => drop(context.world_mut().set_delegation(&followed.name, Delegation::Unknown)),
            _ = look_for_a_term(context, followed) => return,
        }
    }
}

async fn look_for_a_term(context: &Context, followed: &Followed) -> Result<(), Refused> {
    let namespace = &followed.name;
    let turn = context.namespaces.turn(context, followed).await;
    require_delegation(context, namespace).await?;
    let places = context.world().places_in(namespace);
    let looks: Vec<_> = places.iter().map(|target| look(context, target).boxed()).collect();
    stream::iter(looks).buffer_unordered(IN_FLIGHT).try_collect::<()>().await?;
    // Now what is not known is not there.
    let touched = context.world_mut().set_delegation(namespace, Delegation::Granted);
    context.queue.add(touched, Priority::Change, &Cause::new(CauseKind::Delegation));
    drop(turn);
    tokio::select! {
        () = followed.recheck.notified() => Err(Refused),
        refused = look_again_and_again(context, namespace) => refused,
    }
}

/// Asks what the operator may do in the namespace: without a list that could be refused, nothing else tells.
async fn require_delegation(context: &Context, namespace: &NamespaceName) -> Result<(), Refused> {
    for verb in rbac::TENANT_WRITES {
        if !answer(context, namespace, || context.secrets.may(namespace, verb)).await? {
            return Err(Refused);
        }
    }
    Ok(())
}

/// Looks at each Secret once in each interval. Neither those of one namespace nor those of all come together.
async fn look_again_and_again(context: &Context, namespace: &NamespaceName) -> Result<(), Refused> {
    let interval = context.looks.interval;
    sleep(interval.mul_f64(jitter())).await;
    loop {
        let places = context.world().places_in(namespace);
        let share = interval / u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
        // At most an interval in all.
        let pause = || sleep(share.mul_f64(0.75 + 0.25 * jitter()));
        for target in &places {
            look(context, target).await?;
            pause().await;
        }
        if places.is_empty() {
            pause().await;
        }
    }
}

/// Looks until there is an answer, and takes in what it tells.
async fn look(context: &Context, target: &Target) -> Result<(), Refused> {
    let look = || async {
        match context.secrets.look(target).await {
            // Admission keeps the operator from what is not its own, or the object is one that no change can pass.
            Err(ApiFailure::Refused | ApiFailure::Invalid(_)) => Ok(None),
            other => other,
        }
    };
    let found = answer(context, &target.namespace, look).await?;
    context.take_in(target, found);
    Ok(())
}

/// Asks until there is an answer.
async fn answer<T, Asked>(context: &Context, namespace: &NamespaceName, ask: impl Fn() -> Asked) -> Result<T, Refused>
where
    Asked: Future<Output = Result<T, ApiFailure>>,
{
    let mut failures = 0;
    loop {
        let asked = {
            let _turn = context.looks.in_flight.acquire().await;
            ask().await
        };
        let failure = match asked {
            Ok(answer) => return Ok(answer),
            Err(ApiFailure::NotAllowed) => return Err(Refused),
            Err(failure) => failure,
        };
        failures += 1;
        if failure != ApiFailure::NotLeader {
            tracing::warn!(%namespace, failures, "Secrets cannot be looked at: {failure}");
        }
        match failure {
            ApiFailure::Busy(wait) => sleep(wait).await,
            _ => sleep(backoff::delay(failures, jitter())).await,
        }
    }
}

impl Context {
    fn take_in(&self, target: &Target, found: Option<Observed>) {
        let touched = self.world_mut().looked_at(target, found);
        self.queue.add(touched, Priority::Change, &Cause::new(CauseKind::Secret));
    }

    /// A write has met something else than what is known. Where no watch tells what, looks.
    pub(super) async fn look_after<T>(&self, target: &Target, outcome: Result<T, ApiFailure>) -> Result<T, ApiFailure> {
        let outdated = matches!(outcome, Err(ApiFailure::Conflict | ApiFailure::NotFound));
        if outdated
            && !self.secrets.are_watched()
            && let Ok(found) = self.secrets.look(target).await
        {
            self.take_in(target, found);
        }
        outcome
    }
}
