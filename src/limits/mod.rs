//! How fast Secrets are written into each namespace: governor's token buckets, and who is next where one is empty.
//!
//! Generic over the clock. A bucket begins empty at the start of the process, so that a restart does not refill
//! a tenant's budget; it fills with the time that has passed since.

mod throttling;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, MonotonicClock, Reference},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

pub use self::throttling::Throttled;
use self::throttling::Throttling;
use crate::core::{
    name::{NamespaceName, RequestKey},
    policy::Rate,
};

/// How long after its turn a request may come before others go on without it.
const LATE: Duration = Duration::from_secs(10);

/// What a token is for: of those that wait, the more urgent go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// A Secret that is there is outdated: a source was rotated, or somebody edited it.
    Change,
    /// A new Secret.
    Create,
}

/// How a namespace stands with its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Writes that may come at once now.
    pub tokens: u32,
    /// How it was throttled.
    pub throttled: Throttled,
}

/// The buckets of all namespaces.
pub struct Limits<C: Clock = MonotonicClock> {
    clock: C,
    state: Mutex<State<C>>,
}

struct State<C: Clock> {
    /// The term of leadership that `start` is the start of.
    term: u64,
    start: C::Instant,
    buckets: HashMap<NamespaceName, Bucket<C>>,
    /// What the buckets have counted of namespaces that are gone.
    gone: Throttled,
}

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

struct Bucket<C: Clock> {
    rate: Rate,
    limiter: Limiter<C>,
    /// Who waits, in the order of their turns: when each turn is.
    turns: BTreeMap<(Urgency, u64), (RequestKey, C::Instant)>,
    next_turn: u64,
    throttling: Throttling<C>,
}

impl<C: Clock + Clone> Limits<C> {
    /// Every bucket is empty now.
    pub fn new(clock: C) -> Self {
        let state = State { term: 0, start: clock.now(), buckets: HashMap::new(), gone: Throttled::default() };
        Self { clock, state: Mutex::new(state) }
    }

    /// A term of leadership begins, and every bucket is empty: another replica wrote until now, and what it used of
    /// the budgets is not known.
    pub fn begin(&self, term: u64) {
        drop(self.state(term));
    }

    /// Takes a token for a write into `namespace`; or answers how long it is until this request's turn. Whoever
    /// waits keeps its turn: those who come later queue up behind it. The first token of a `term` begins it, if nobody
    /// has: no budget of an earlier one is used in it.
    pub fn take(
        &self,
        term: u64,
        namespace: &NamespaceName,
        key: &RequestKey,
        urgency: Urgency,
        rate: Rate,
    ) -> Result<(), Duration> {
        let mut state = self.state(term);
        let now = self.clock.now();
        let since_start = Duration::from(now.duration_since(state.start));
        let bucket = state.buckets.entry(namespace.clone()).or_insert_with(|| self.bucket(rate, since_start));
        if bucket.rate != rate {
            // Another policy: the tokens of the old bucket are gone, those who wait keep their order.
            (bucket.rate, bucket.limiter) = (rate, self.limiter(rate, Duration::ZERO));
        }
        bucket.take(key, urgency, now)
    }

    /// How each namespace stands that was written to.
    pub fn usage(&self) -> BTreeMap<NamespaceName, Usage> {
        let mut state = self.lock();
        let now = self.clock.now();
        let usage = |bucket: &mut Bucket<C>| Usage {
            tokens: self.tokens(bucket, now),
            throttled: bucket.throttling.until(now),
        };
        state.buckets.iter_mut().map(|(namespace, bucket)| (namespace.clone(), usage(bucket))).collect()
    }

    /// A namespace is gone, and its bucket goes; what was counted stays in [`Self::gone`].
    pub fn forget(&self, namespace: &NamespaceName) {
        let mut state = self.lock();
        if let Some(bucket) = state.buckets.remove(namespace) {
            let Throttled { times, lasted } = bucket.throttling.until(self.clock.now());
            state.gone.times += times;
            state.gone.lasted += lasted;
        }
    }

    /// What was counted in namespaces that are gone.
    pub fn gone(&self) -> Throttled {
        self.lock().gone
    }

    /// governor tells only how long it is until there are so many tokens: it is asked for all that there can be.
    fn tokens(&self, bucket: &mut Bucket<C>, now: C::Instant) -> u32 {
        let Rate { burst, interval, .. } = bucket.rate;
        match bucket.limiter.check_n(burst) {
            Ok(Ok(())) => {
                // All of them were there, and are taken now: back to a full bucket.
                bucket.limiter = self.limiter(bucket.rate, Duration::MAX);
                burst.get()
            }
            Ok(Err(not_until)) => {
                let missing = not_until.wait_time_from(now).as_nanos().div_ceil(interval.as_nanos().max(1));
                burst.get().saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
            }
            Err(_) => 0, // Cannot be: a bucket holds a burst.
        }
    }

    /// A bucket that was empty `ago`.
    fn bucket(&self, rate: Rate, ago: Duration) -> Bucket<C> {
        let throttling = Throttling::default();
        Bucket { rate, limiter: self.limiter(rate, ago), turns: BTreeMap::new(), next_turn: 0, throttling }
    }

    fn limiter(&self, rate: Rate, ago: Duration) -> Limiter<C> {
        let quota = Quota::with_period(rate.interval).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let limiter = RateLimiter::direct_with_clock(quota.allow_burst(rate.burst), self.clock.clone());
        let filled = ago.as_nanos() / rate.interval.as_nanos().max(1);
        let missing = u128::from(rate.burst.get()).saturating_sub(filled);
        if let Some(missing) = u32::try_from(missing).ok().and_then(NonZeroU32::new) {
            // A burst can always be taken from a bucket that holds one.
            let _ = limiter.check_n(missing);
        }
        limiter
    }

    fn state(&self, term: u64) -> MutexGuard<'_, State<C>> {
        let mut state = self.lock();
        if state.term < term {
            *state = State { term, start: self.clock.now(), buckets: HashMap::new(), gone: Throttled::default() };
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Clock> Bucket<C> {
    fn take(&mut self, key: &RequestKey, urgency: Urgency, now: C::Instant) -> Result<(), Duration> {
        // A request that does not come any more must not hold up the others.
        self.turns.retain(|_, (waiting, turn)| waiting == key || Duration::from(now.duration_since(*turn)) < LATE);
        let own = self.turns.iter().find(|(_, (waiting, _))| waiting == key).map(|(turn, _)| *turn);
        let own = own.unwrap_or_else(|| {
            self.next_turn += 1;
            (urgency, self.next_turn)
        });
        let before = self.turns.range(..own).count();
        let until_first = match before {
            0 => match self.limiter.check() {
                Ok(()) => {
                    self.turns.remove(&own);
                    return Ok(());
                }
                Err(not_until) => not_until.wait_time_from(now),
            },
            _ => self.turns.values().next().map_or(Duration::ZERO, |(_, turn)| turn.duration_since(now).into()),
        };
        let wait = until_first + self.rate.interval * u32::try_from(before).unwrap_or(u32::MAX);
        let turn = now + wait.into();
        self.turns.insert(own, (key.clone(), turn));
        self.throttling.goes_on(now, turn);
        Err(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::name::SecretName;
    use governor::clock::FakeRelativeClock;

    fn namespace(name: &str) -> NamespaceName {
        NamespaceName::parse(name).unwrap()
    }

    fn key(name: &str) -> RequestKey {
        RequestKey { namespace: namespace("ns"), name: SecretName::parse(name).unwrap() }
    }

    /// Empty buckets, at the start of the first term.
    fn limits(clock: &FakeRelativeClock) -> Limits<FakeRelativeClock> {
        let limits = Limits::new(clock.clone());
        limits.begin(1);
        limits
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn rate() -> Rate {
        Rate::new(60, MINUTE, 20).unwrap()
    }

    #[test]
    fn five_hundred_requests_follow_the_curve_and_each_is_woken_once() {
        let clock = FakeRelativeClock::default();
        let limits = limits(&clock);
        clock.advance(MINUTE);
        let mut due: BTreeMap<u64, Vec<usize>> = BTreeMap::from([(0, (0..500).collect())]);
        let (mut written, mut tries, mut elapsed) = (0u64, 0, 0);
        while let Some((at, requests)) = due.pop_first() {
            clock.advance(Duration::from_millis(at - elapsed));
            elapsed = at;
            for request in requests {
                tries += 1;
                match limits.take(1, &namespace("a"), &key(&format!("r{request}")), Urgency::Create, rate()) {
                    Ok(()) => written += 1,
                    Err(wait) => due.entry(at + wait.as_millis() as u64).or_default().push(request),
                }
                assert!(written <= 20 + elapsed / 1000, "{written} writes after {elapsed} ms");
            }
        }
        assert_eq!((written, elapsed), (500, 480_000), "at exactly the granted pace");
        assert_eq!(tries, 500 + 480, "each that waited came back exactly once");
    }

    #[test]
    fn a_restart_does_not_refill_a_budget() {
        let clock = FakeRelativeClock::default();
        for _ in 0..10 {
            let limits = limits(&clock);
            assert!(limits.take(1, &namespace("a"), &key("r"), Urgency::Create, rate()).is_err());
            clock.advance(Duration::from_millis(999));
            assert!(limits.take(1, &namespace("a"), &key("r"), Urgency::Create, rate()).is_err());
        }
        let limits = limits(&clock);
        clock.advance(Duration::from_secs(5));
        let taken = (0..20)
            .filter(|i| limits.take(1, &namespace("b"), &key(&format!("r{i}")), Urgency::Create, rate()).is_ok());
        assert_eq!(taken.count(), 5, "a namespace that is first seen later has what came since the start");
    }

    #[test]
    fn a_new_term_uses_nothing_of_the_budget_of_an_earlier_one_whoever_begins_it() {
        for first in [true, false] {
            let clock = FakeRelativeClock::default();
            let limits = limits(&clock);
            clock.advance(MINUTE);
            let take = |term, i| limits.take(term, &namespace("a"), &key(&format!("r{i}")), Urgency::Create, rate());
            assert_eq!(take(1, 0), Ok(()));
            if first {
                limits.begin(2);
            }
            assert!(take(2, 1).is_err(), "a worker was faster than the take-over");
            clock.advance(Duration::from_secs(5));
            limits.begin(2);
            limits.begin(1);
            assert_eq!((1..20).filter(|i| take(2, *i).is_ok()).count(), 5, "what came since its start");
        }
    }

    #[test]
    fn namespaces_do_not_share_and_a_changed_limit_holds_at_once() {
        let clock = FakeRelativeClock::default();
        let limits = limits(&clock);
        clock.advance(MINUTE);
        (0..20).for_each(|i| {
            assert_eq!(limits.take(1, &namespace("a"), &key(&format!("r{i}")), Urgency::Create, rate()), Ok(()))
        });
        assert!(limits.take(1, &namespace("a"), &key("x"), Urgency::Create, rate()).is_err());
        assert_eq!(limits.take(1, &namespace("b"), &key("x"), Urgency::Create, rate()), Ok(()));
        let slower = Rate::new(1, MINUTE, 1).unwrap();
        let wait = limits.take(1, &namespace("b"), &key("y"), Urgency::Create, slower).unwrap_err();
        assert!(wait > Duration::from_secs(59), "{wait:?}");
    }

    #[test]
    fn a_request_that_never_comes_back_does_not_hold_up_the_others() {
        let clock = FakeRelativeClock::default();
        let limits = limits(&clock);
        let (a, slow) = (namespace("a"), Rate::new(60, MINUTE, 1).unwrap());
        assert!(limits.take(1, &a, &key("deleted"), Urgency::Create, slow).is_err());
        let wait = limits.take(1, &a, &key("next"), Urgency::Create, slow).unwrap_err();
        clock.advance(wait);
        assert!(limits.take(1, &a, &key("next"), Urgency::Create, slow).is_err(), "the first one may still come");
        clock.advance(LATE);
        assert_eq!(limits.take(1, &a, &key("next"), Urgency::Create, slow), Ok(()));
    }

    #[test]
    fn the_usage_tells_what_is_left_and_for_how_long_somebody_waited() {
        let clock = FakeRelativeClock::default();
        let limits = limits(&clock);
        let (a, second) = (namespace("a"), Duration::from_secs(1));
        let take = |name: &str| limits.take(1, &a, &key(name), Urgency::Create, rate());
        let usage = |tokens, times, lasted| {
            let throttled = Throttled { times, lasted: second * lasted };
            BTreeMap::from([(a.clone(), Usage { tokens, throttled })])
        };
        assert_eq!(limits.usage(), BTreeMap::new());
        clock.advance(second * 5);
        take("x").unwrap();
        for _ in 0..2 {
            assert_eq!(limits.usage(), usage(4, 0, 0), "looking costs nothing");
        }
        clock.advance(MINUTE);
        for _ in 0..2 {
            assert_eq!(limits.usage(), usage(20, 0, 0), "not even of a full bucket");
        }
        (0..20).for_each(|i| take(&format!("r{i}")).unwrap());
        assert_eq!(limits.usage(), usage(0, 0, 0));

        take("first").unwrap_err();
        take("second").unwrap_err();
        assert_eq!(limits.usage(), usage(0, 1, 0));
        clock.advance(second);
        take("first").unwrap();
        take("third").unwrap_err();
        assert_eq!(limits.usage(), usage(0, 1, 1), "second waits all the time");
        clock.advance(second * 2);
        take("second").unwrap();
        take("third").unwrap();
        clock.advance(MINUTE);
        assert_eq!(limits.usage(), usage(20, 1, 3), "nobody waits any more");

        (0..20).for_each(|i| take(&format!("r{i}")).unwrap());
        take("again").unwrap_err();
        clock.advance(MINUTE);
        assert_eq!(limits.usage(), usage(20, 2, 4), "it never came, and its turn was a second later");

        limits.forget(&a);
        limits.forget(&a);
        let counted = Throttled { times: 2, lasted: second * 4 };
        assert_eq!((limits.usage(), limits.gone()), (BTreeMap::new(), counted), "a sum must not shrink");
    }

    #[test]
    fn what_is_outdated_goes_before_what_is_new() {
        let clock = FakeRelativeClock::default();
        let limits = limits(&clock);
        let (a, slow) = (namespace("a"), Rate::new(60, MINUTE, 1).unwrap());
        let new = limits.take(1, &a, &key("new"), Urgency::Create, slow).unwrap_err();
        let outdated = limits.take(1, &a, &key("outdated"), Urgency::Change, slow).unwrap_err();
        assert_eq!(outdated, new, "it takes the turn of the new one");
        clock.advance(new);
        assert!(limits.take(1, &a, &key("new"), Urgency::Create, slow).is_err());
        assert_eq!(limits.take(1, &a, &key("outdated"), Urgency::Change, slow), Ok(()));
    }
}
