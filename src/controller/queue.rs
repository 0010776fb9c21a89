//! The work queue: every key is in it at most once, is never worked on twice at a time, and can be due later.
//! It is fair: namespaces take turns, however much each has to do.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{cause::Cause, lanes::Lanes};
use crate::core::{backoff, name::RequestKey};

/// Why there is work to do: the more urgent goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// A grant is gone. It goes before all other work, of all namespaces.
    Revocation,
    /// A source has changed.
    Rotation,
    /// A request, a policy, a namespace or a Secret has changed.
    Change,
    /// Something is tried again, or looked at again.
    Retry,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Revocation, Self::Rotation, Self::Change, Self::Retry];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Rotation => "rotation",
            Self::Change => "change",
            Self::Retry => "retry",
        }
    }
}

/// What there is to do, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Keys that are due, by priority.
    pub due: BTreeMap<Priority, usize>,
    /// For how long the oldest of them has been due.
    pub oldest: Option<Duration>,
    /// Keys that will be due.
    pub later: usize,
    /// Keys that are worked on.
    pub running: usize,
}

/// Keys that are due, and keys that will be.
#[derive(Debug)]
pub struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    due: Lanes,
    /// Since when each key is due.
    since: HashMap<RequestKey, Instant>,
    /// Keys being worked on; and how urgent they are, and why, if they came in again meanwhile.
    running: HashMap<RequestKey, Option<(Priority, Cause)>>,
    later: BTreeSet<(Instant, RequestKey, Priority)>,
    /// The one instant for which a key waits; a nearer one replaces it.
    waiting: HashMap<RequestKey, (Instant, Priority, Cause)>,
    failures: HashMap<RequestKey, u32>,
}

impl Queue {
    /// An empty queue for `workers` workers, of which one namespace never holds all.
    pub fn new(workers: usize) -> Self {
        let due = Lanes::new(workers.saturating_sub(1 + workers / 8));
        let (since, running, later, waiting, failures) = Default::default();
        Self { state: Mutex::new(State { due, since, running, later, waiting, failures }), changed: Notify::new() }
    }

    /// Adds keys that are due now.
    pub fn add(&self, keys: impl IntoIterator<Item = RequestKey>, priority: Priority, cause: &Cause) {
        let mut state = self.lock();
        keys.into_iter().for_each(|key| state.add(key, priority, cause.clone()));
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key that is due after `delay`; if it is due sooner already, only its cause is added.
    pub fn add_after(&self, key: RequestKey, delay: Duration, priority: Priority, mut cause: Cause) {
        let due = Instant::now() + delay;
        let mut state = self.lock();
        if let Some((_, _, why)) = state.waiting.get_mut(&key).filter(|(known, ..)| *known <= due) {
            why.merge(cause);
            return;
        }
        if let Some((known, priority, why)) = state.waiting.remove(&key) {
            state.later.remove(&(known, key.clone(), priority));
            cause.merge(why);
        }
        state.waiting.insert(key.clone(), (due, priority, cause));
        state.later.insert((due, key, priority));
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key whose work failed: due after a delay that doubles with every failure in a row.
    pub fn add_failed(&self, key: RequestKey, cause: Cause) {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        self.add_after(key, backoff::delay(failures, jitter()), Priority::Retry, cause.again());
    }

    /// The work for a key did not fail: its next failure starts with the shortest delay.
    pub fn succeeded(&self, key: &RequestKey) {
        self.lock().failures.remove(key);
    }

    /// Waits for a key that is due, and answers why it is. Call [`Queue::done`] with it afterwards.
    pub async fn next(&self) -> (RequestKey, Cause) {
        loop {
            let changed = self.changed.notified();
            let wake_at = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(taken) = state.take() {
                    // Whoever waits beside us: there may be more.
                    self.changed.notify_one();
                    return taken;
                }
                state.later.first().map(|(due, ..)| *due)
            };
            match wake_at {
                Some(due) => tokio::select! { () = changed => {}, () = sleep_until(due) => {} },
                None => changed.await,
            }
        }
    }

    /// The work for a key is over. If the key came in again meanwhile, it is due again.
    pub fn done(&self, key: &RequestKey) {
        let mut state = self.lock();
        state.due.finished(&key.namespace);
        if let Some(Some((priority, cause))) = state.running.remove(key) {
            state.add(key.clone(), priority, cause);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// How much there is to do now.
    pub fn load(&self) -> Load {
        let state = self.lock();
        Load {
            due: state.due.depth(),
            oldest: state.since.values().min().map(Instant::elapsed),
            later: state.later.len(),
            running: state.running.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: RequestKey, priority: Priority, cause: Cause) {
        match self.running.get_mut(&key) {
            None => {
                self.since.entry(key.clone()).or_insert_with(Instant::now);
                self.due.add(key, priority, cause);
            }
            Some(Some((known, why))) => {
                *known = priority.min(*known);
                why.merge(cause);
            }
            Some(again) => *again = Some((priority, cause)),
        }
    }

    fn promote(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, key, _)) = self.later.pop_first() else { return };
            if let Some((_, priority, cause)) = self.waiting.remove(&key) {
                self.add(key, priority, cause);
            }
        }
    }

    fn take(&mut self) -> Option<(RequestKey, Cause)> {
        let (key, cause) = self.due.take()?;
        self.since.remove(&key);
        self.running.insert(key.clone(), None);
        Some((key, cause))
    }
}

/// A number in 0..1 that differs from call to call, to spread retries; it needs to be neither fair nor secret.
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(0u8);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::cause::CauseKind, *};
    use crate::core::name::{NamespaceName, SecretName};

    fn key(name: &str) -> RequestKey {
        RequestKey { namespace: NamespaceName::parse("ns").unwrap(), name: SecretName::parse(name).unwrap() }
    }

    fn cause() -> Cause {
        Cause::new(CauseKind::Request)
    }

    async fn next_now(queue: &Queue) -> Option<RequestKey> {
        tokio::time::timeout(Duration::from_millis(1), queue.next()).await.ok().map(|(key, _)| key)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_never_worked_on_twice_at_a_time() {
        let queue = Queue::new(16);
        queue.add([key("a"), key("a"), key("b")], Priority::Change, &cause());
        assert_eq!(next_now(&queue).await, Some(key("a")));
        queue.add([key("a")], Priority::Change, &cause());
        assert_eq!(next_now(&queue).await, Some(key("b")));
        assert_eq!(next_now(&queue).await, None, "a is being worked on");
        queue.done(&key("a"));
        assert_eq!(next_now(&queue).await, Some(key("a")), "a came in again meanwhile");
        queue.done(&key("a"));
        assert_eq!(next_now(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_key_is_due_at_the_nearest_of_its_instants() {
        let queue = Queue::new(16);
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(60), Priority::Retry, cause());
        queue.add_after(key("a"), Duration::from_secs(5), Priority::Retry, cause());
        queue.add_after(key("a"), Duration::from_secs(90), Priority::Retry, cause());
        assert_eq!(queue.next().await.0, key("a"));
        assert_eq!(start.elapsed().as_secs(), 5);
        queue.done(&key("a"));
        assert_eq!(next_now(&queue).await, None, "one instant, one turn");
    }

    #[tokio::test(start_paused = true)]
    async fn the_load_is_what_is_due_what_will_be_and_what_is_worked_on() {
        let queue = Queue::new(16);
        let load = |due: [usize; 4], oldest, later, running| Load {
            due: Priority::ALL.into_iter().zip(due).collect(),
            oldest,
            later,
            running,
        };
        assert_eq!(queue.load(), load([0; 4], None, 0, 0));
        queue.add([key("a"), key("b")], Priority::Change, &cause());
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.add([key("c")], Priority::Revocation, &cause());
        queue.add([key("b")], Priority::Rotation, &cause());
        queue.add_after(key("d"), Duration::from_secs(60), Priority::Retry, cause());
        assert_eq!(queue.load(), load([1, 1, 1, 0], Some(Duration::from_secs(3)), 1, 0));
        assert_eq!((queue.next().await.0, queue.next().await.0), (key("c"), key("b")));
        queue.add([key("b")], Priority::Change, &cause());
        assert_eq!(
            queue.load(),
            load([0, 0, 1, 0], Some(Duration::from_secs(3)), 1, 2),
            "b comes back when it is done"
        );
        queue.next().await;
        queue.done(&key("b"));
        assert_eq!(queue.load(), load([0, 0, 1, 0], Some(Duration::ZERO), 1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_wait_longer_and_a_success_ends_the_row() {
        let queue = Queue::new(16);
        let mut waits = Vec::new();
        for round in 0..6 {
            if round == 5 {
                queue.succeeded(&key("a"));
            }
            let start = Instant::now();
            queue.add_failed(key("a"), cause());
            queue.next().await;
            queue.done(&key("a"));
            waits.push(start.elapsed());
        }
        assert!(waits[4] > waits[0] * 4, "{waits:?}");
        assert!(waits[5] < waits[4], "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_to_a_key_that_waits_or_is_worked_on_is_one_cause() {
        let queue = Queue::new(16);
        let rotation = Cause::new(CauseKind::Rotation);
        queue.add([key("a")], Priority::Rotation, &rotation);
        queue.add([key("a")], Priority::Change, &Cause::new(CauseKind::Policy));
        assert_eq!(queue.next().await, (key("a"), rotation.clone()));

        queue.add([key("a")], Priority::Rotation, &rotation);
        queue.add([key("a")], Priority::Change, &Cause::new(CauseKind::Policy));
        queue.done(&key("a"));
        assert_eq!(queue.next().await, (key("a"), rotation.clone()));
        queue.done(&key("a"));

        queue.add_failed(key("a"), rotation.clone());
        queue.add_after(key("a"), Duration::ZERO, Priority::Change, Cause::new(CauseKind::Policy));
        queue.add_after(key("a"), Duration::from_secs(3600), Priority::Change, Cause::new(CauseKind::Time));
        assert_eq!(queue.next().await, (key("a"), rotation.again()), "the second attempt at the same");
    }
}
