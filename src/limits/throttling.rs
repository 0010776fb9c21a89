//! How often, and for how long, somebody waits for a token.

use std::time::Duration;

use governor::clock::{Clock, Reference};

use super::LATE;

/// How often somebody began to wait for a token, and for how long somebody did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttled {
    /// How often it began.
    pub times: u64,
    /// For how long, all times together.
    pub lasted: Duration,
}

/// When somebody waited, and wait, for a token.
pub(super) struct Throttling<C: Clock> {
    times: u64,
    past: Duration,
    /// Since when, and when the last turn is of those who wait.
    current: Option<(C::Instant, C::Instant)>,
}

impl<C: Clock> Default for Throttling<C> {
    fn default() -> Self {
        Self { times: 0, past: Duration::ZERO, current: None }
    }
}

impl<C: Clock> Throttling<C> {
    /// Somebody waits until its turn. Whoever came late to it and waits anew has waited all the time.
    pub fn goes_on(&mut self, now: C::Instant, turn: C::Instant) {
        match &mut self.current {
            Some((_, end)) if Duration::from(now.duration_since(*end)) < LATE => *end = turn.max(*end),
            _ => {
                self.past = self.until(now).lasted;
                self.times += 1;
                self.current = Some((now, turn));
            }
        }
    }

    /// How somebody waited until now.
    pub fn until(&self, now: C::Instant) -> Throttled {
        let current = self.current.map(|(start, end)| Duration::from(now.min(end).duration_since(start)));
        Throttled { times: self.times, lasted: self.past + current.unwrap_or_default() }
    }
}
