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
    /// Every Secret is as it shall be, and the status does not say so yet.
    Status,
}

impl Priority {
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Revocation, Self::Rotation, Self::Change, Self::Retry, Self::Status];

    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Rotation => "rotation",
            Self::Change => "change",
            Self::Retry => "retry",
            Self::Status => "status",
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

/// How many keys may have an end that is put off. Each holds some KiB, most of it spans; behind more than these nothing is won by waiting.
const MOST_PUT_OFF: usize = 1024;

/// Keys that are due, and keys that will be; and `T`, the end of the work for a key, where it is put off.
#[derive(Debug)]
pub struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

/// What a worker is to do next. Call [`Queue::done`] or [`Queue::put_off`] with the key afterwards.
#[derive(Debug, PartialEq)]
pub enum Turn<T> {
    /// The work for a key, and why there is some.
    Work(RequestKey, Cause),
    /// The end of the work for a key, which was put off.
    End(RequestKey, T),
}

#[derive(Debug)]
struct State<T> {
    due: Lanes,
    /// What is left to do for keys whose end is put off. They are due, and they count as running: nothing else is done
    /// for them until their end is.
    put_off: HashMap<RequestKey, T>,
    /// Since when each key is due.
    since: HashMap<RequestKey, Instant>,
    /// Keys being worked on; and how urgent they are, and why, if they came in again meanwhile.
    running: HashMap<RequestKey, Option<(Priority, Cause)>>,
    later: BTreeSet<(Instant, RequestKey, Priority)>,
    /// The one instant for which a key waits; a nearer one replaces it.
    waiting: HashMap<RequestKey, (Instant, Priority, Cause)>,
    failures: HashMap<RequestKey, u32>,
}

impl<T> Queue<T> {
    /// An empty queue for `workers` workers, of which one namespace never holds all.
    pub fn new(workers: usize) -> Self {
        let due = Lanes::new(workers.saturating_sub(1 + workers / 8));
        let (put_off, since, running, later, waiting, failures) = Default::default();
        let state = State { due, put_off, since, running, later, waiting, failures };
        Self { state: Mutex::new(state), changed: Notify::new() }
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

    /// Waits for a key that is due.
    pub async fn next(&self) -> Turn<T> {
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

    /// Whether there is work that should not wait for the end of other work.
    pub fn is_behind(&self) -> bool {
        let state = self.lock();
        state.due.len() > state.put_off.len() && state.put_off.len() < MOST_PUT_OFF
    }

    /// The work for a key is over but for its end, which waits behind all other work of its namespace. What comes in
    /// for the key meanwhile makes its end as urgent as itself.
    pub fn put_off(&self, key: &RequestKey, cause: &Cause, end: T) {
        let mut state = self.lock();
        state.due.finished(&key.namespace);
        let again = state.running.get(key).and_then(Option::as_ref);
        let priority = again.map_or(Priority::Status, |(priority, _)| *priority);
        state.put_off.insert(key.clone(), end);
        state.make_due(key.clone(), priority, cause.clone());
        drop(state);
        self.changed.notify_one();
    }

    /// An end that is put off, when all other work is left undone.
    pub fn next_end(&self) -> Option<Turn<T>> {
        let mut state = self.lock();
        let key = state.put_off.keys().next().cloned()?;
        let end = state.put_off.remove(&key)?;
        Some(Turn::End(key, end))
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

    /// Drops what has been due for longer than `age`, and all that was to come back: nobody takes anything while another
    /// replica leads, and whoever leads next looks at every key anyway.
    pub fn forget_older_than(&self, age: Duration) {
        let mut state = self.lock();
        let State { due, put_off, since, later, waiting, failures, .. } = &mut *state;
        since.retain(|key, since| since.elapsed() <= age || put_off.contains_key(key));
        due.retain(|key| since.contains_key(key));
        later.clear();
        waiting.clear();
        failures.clear();
    }

    /// How much there is to do now.
    pub fn load(&self) -> Load {
        let state = self.lock();
        Load {
            due: state.due.depth(),
            oldest: state.since.values().min().map(Instant::elapsed),
            later: state.later.len(),
            running: state.running.len() - state.put_off.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn add(&mut self, key: RequestKey, priority: Priority, cause: Cause) {
        if self.put_off.contains_key(&key) {
            self.make_due(key.clone(), priority, cause.clone());
        }
        match self.running.get_mut(&key) {
            None => self.make_due(key, priority, cause),
            Some(Some((known, why))) => {
                *known = priority.min(*known);
                why.merge(cause);
            }
            Some(again) => *again = Some((priority, cause)),
        }
    }

    fn make_due(&mut self, key: RequestKey, priority: Priority, cause: Cause) {
        self.since.entry(key.clone()).or_insert_with(Instant::now);
        self.due.add(key, priority, cause);
    }

    fn promote(&mut self, now: Instant) {
        while self.later.first().is_some_and(|(due, ..)| *due <= now) {
            let Some((_, key, _)) = self.later.pop_first() else { return };
            if let Some((_, priority, cause)) = self.waiting.remove(&key) {
                self.add(key, priority, cause);
            }
        }
    }

    fn take(&mut self) -> Option<Turn<T>> {
        let (key, cause) = self.due.take()?;
        self.since.remove(&key);
        Some(match self.put_off.remove(&key) {
            Some(end) => Turn::End(key, end),
            None => {
                self.running.insert(key.clone(), None);
                Turn::Work(key, cause)
            }
        })
    }
}

/// A number in 0..1 that differs from call to call, to spread retries; it needs to be neither fair nor secret.
pub fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(0u8);
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
