//! Rules: which calls, and what happens to them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::call::Call;

type Condition = Arc<dyn Fn(&Call) -> bool + Send + Sync>;

/// Which calls a rule is about: those that meet every condition.
#[derive(Clone, Default)]
pub struct Which {
    conditions: Vec<Condition>,
    first: usize,
    most: Option<usize>,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the rule only tells that it came ([`Rule::hit`]), once the API server has answered.
    Pass,
    /// It is answered with this status and never forwarded.
    Respond(u16),
    /// It is answered with this status and a `Retry-After` of that many seconds, and never forwarded.
    RespondRetryAfter(u16, u32),
    /// It is forwarded later.
    Delay(Duration),
    /// It is forwarded when the rule is lifted; a client that gives up before takes it back.
    Hold,
    /// It is forwarded when the rule is lifted, even if the client has given up: it arrives late.
    Late,
    /// The connection is closed; it is never forwarded.
    Drop,
    /// It is forwarded, and the connection is closed instead of a reply.
    DropReply,
    /// It is forwarded, and its reply is held until the rule is lifted.
    HoldReply,
    /// The reply's body ends after that many bytes as if it were complete.
    Truncate(usize),
    /// The connection is closed after that many bytes of the reply's body.
    Cut(usize),
    /// The reply's body is turned into nonsense that still contains most of it.
    Garble,
    /// Of a watch: it begins, and its events are held until the rule is lifted.
    HoldEvents,
    /// Of a watch: its only event is that its resource version is too old, as the API server tells it.
    Expire,
}

impl Action {
    /// Every fault that a call may meet, with the name by which a case of the sweep calls it.
    pub fn faults() -> Vec<(&'static str, Self)> {
        vec![
            ("409", Self::Respond(409)),
            ("410", Self::Respond(410)),
            ("429", Self::Respond(429)),
            ("500", Self::Respond(500)),
            ("503", Self::Respond(503)),
            ("504", Self::Respond(504)),
            ("truncate", Self::Truncate(0)),
            ("truncate-200", Self::Truncate(200)),
            ("garble", Self::Garble),
            ("cut", Self::Cut(0)),
            ("cut-200", Self::Cut(200)),
            ("drop", Self::Drop),
            ("drop-reply", Self::DropReply),
            ("hold", Self::Hold),
            ("hold-reply", Self::HoldReply),
            ("delay", Self::Delay(Duration::from_secs(1))),
        ]
    }
}

impl Which {
    /// Every call.
    pub fn calls() -> Self {
        Self::default()
    }

    /// Every call that would change something.
    pub fn writes() -> Self {
        Self::calls().when(Call::is_write)
    }

    /// Those that meet one more condition.
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Those with one of the verbs.
    #[must_use]
    pub fn verbs(self, verbs: &'static [&'static str]) -> Self {
        self.when(move |call| verbs.contains(&call.verb.as_str()))
    }

    /// Those about a resource (plural), subresources included.
    #[must_use]
    pub fn resource(self, resource: &str) -> Self {
        let resource = resource.to_owned();
        self.when(move |call| call.resource == resource)
    }

    /// Those about a subresource; the empty one is the object itself.
    #[must_use]
    pub fn subresource(self, subresource: &str) -> Self {
        let subresource = subresource.to_owned();
        self.when(move |call| call.subresource == subresource)
    }

    /// Those in a namespace.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        let namespace = namespace.to_owned();
        self.when(move |call| call.namespace == namespace)
    }

    /// Those about an object of that name.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let name = name.to_owned();
        self.when(move |call| call.name == name)
    }

    /// Of those, only the n-th, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.first = n.saturating_sub(1);
        self.times(1)
    }

    /// Of those, only so many.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.most = Some(times);
        self
    }

    /// Whether the call meets every condition; its number is not looked at.
    pub fn includes(&self, call: &Call) -> bool {
        self.conditions.iter().all(|condition| condition(call))
    }
}

impl fmt::Debug for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { conditions, first, most } = self;
        write!(f, "{} conditions, from {first}, most {most:?}", conditions.len())
    }
}

/// A rule at work. It stays when this is dropped, until it is lifted.
#[derive(Clone, Debug)]
pub struct Rule(Arc<State>);

#[derive(Debug)]
struct State {
    which: Which,
    action: Action,
    matched: AtomicUsize,
    hits: watch::Sender<Vec<Call>>,
    lifted: watch::Sender<bool>,
}

impl Rule {
    pub(super) fn new(which: Which, action: Action) -> Self {
        let (hits, lifted) = (watch::Sender::new(Vec::new()), watch::Sender::new(false));
        Self(Arc::new(State { which, action, matched: AtomicUsize::new(0), hits, lifted }))
    }

    /// Takes the call if it is one of those; each call that meets the conditions counts.
    pub(super) fn takes(&self, call: &Call) -> bool {
        let State { which, matched, .. } = &*self.0;
        if self.is_lifted() || !which.includes(call) {
            return false;
        }
        let number = matched.fetch_add(1, Ordering::Relaxed);
        number >= which.first && which.most.is_none_or(|most| number < which.first + most)
    }

    pub(super) fn action(&self) -> Action {
        self.0.action.clone()
    }

    pub(super) fn happened(&self, call: &Call) {
        self.0.hits.send_modify(|hits| hits.push(call.clone()));
    }

    /// Resolves when the rule is lifted.
    pub(super) async fn until_lifted(&self) {
        // The sender lives in `self`: it cannot fail.
        let _ = self.0.lifted.subscribe().wait_for(|lifted| *lifted).await;
    }

    /// Ends the rule: what it holds goes on, and what comes is none of its business.
    pub fn lift(&self) {
        self.0.lifted.send_replace(true);
    }

    /// It is lifted.
    pub fn is_lifted(&self) -> bool {
        *self.0.lifted.borrow()
    }

    /// The calls to which the action has happened so far. One that is held counts from the moment it is held.
    pub fn hits(&self) -> Vec<Call> {
        self.0.hits.borrow().clone()
    }

    /// Waits until it has happened to some call, and answers with the first.
    pub async fn hit(&self, within: Duration) -> Result<Call> {
        self.hit_times(1, within).await
    }

    /// Waits until it has happened to some call, and answers with the first; none if it is lifted before.
    pub async fn hit_unless_lifted(&self) -> Option<Call> {
        let mut hits = self.0.hits.subscribe();
        tokio::select! {
            biased;
            hit = hits.wait_for(|hits| !hits.is_empty()) => hit.ok()?.first().cloned(),
            () = self.until_lifted() => None,
        }
    }

    /// Waits until it has happened to so many calls, and answers with the last of them.
    pub async fn hit_times(&self, times: usize, within: Duration) -> Result<Call> {
        let mut hits = self.0.hits.subscribe();
        let enough = tokio::time::timeout(within, hits.wait_for(|hits| hits.len() >= times)).await;
        let enough = enough.with_context(|| format!("{:?}: not {times} calls within {within:?}", self.0.action))??;
        enough.get(times.saturating_sub(1)).cloned().context("no call was asked for")
    }
}
