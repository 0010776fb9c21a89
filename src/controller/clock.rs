//! The wall clock beside the one that only runs on.
//!
//! A grant ends at an instant, and who waits for an instant waits for a time. That time is another one once somebody has
//! set the clock, or the machine was suspended, while which the clock that runs on may stand. So the two are compared
//! every few seconds: no grant outlives its end by more than that, whatever becomes of the clock.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use super::{
    Context,
    cause::{Cause, CauseKind},
    queue::Priority,
};

/// How often the clocks are compared: by so much may a grant outlive its end.
const EVERY: Duration = Duration::from_secs(5);

/// Clocks that are this close go alike: one that is put right slowly is off by no more.
const ALIKE: SignedDuration = SignedDuration::from_secs(1);

/// Looks at every request and every policy again whenever the clock was set.
pub async fn follow(context: Arc<Context>) {
    let mut clocks = Clocks { wall: Timestamp::now(), running: Instant::now() };
    loop {
        sleep(EVERY).await;
        let Some(by) = clocks.set_by(Timestamp::now(), Instant::now()) else { continue };
        tracing::warn!(seconds = by.as_secs_f64(), "the clock was set: every request is looked at again");
        let every = context.world().every_key();
        context.queue.add(every, Priority::Revocation, &Cause::new(CauseKind::Time));
        context.policy_reports.counts_changed();
    }
}

/// Both clocks at one moment.
struct Clocks {
    wall: Timestamp,
    running: Instant,
}

impl Clocks {
    /// By how much the wall clock was set since that moment, if it was; from then on that counts as where it stands.
    fn set_by(&mut self, wall: Timestamp, running: Instant) -> Option<SignedDuration> {
        let ran = SignedDuration::try_from(running.duration_since(self.running)).unwrap_or(SignedDuration::MAX);
        let by = wall.duration_since(self.wall).saturating_sub(ran);
        if by.abs() <= ALIKE {
            return None;
        }
        *self = Self { wall, running };
        Some(by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::UNIX_EPOCH;
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_is_set_is_noticed_once_forward_and_back() {
        let start = Instant::now();
        let mut clocks = Clocks { wall: START, running: start };
        let second = Duration::from_secs(1);
        assert_eq!(clocks.set_by(START + HOUR, start + HOUR), None, "both went on");
        let ahead = START + HOUR * 3;
        assert_eq!(clocks.set_by(ahead, start + HOUR), Some(SignedDuration::from_hours(2)));
        assert_eq!(clocks.set_by(ahead + second, start + HOUR + second), None, "told once");
        let back = Some(SignedDuration::from_hours(-3));
        assert_eq!(clocks.set_by(START + second, start + HOUR + second), back);
    }

    #[test]
    fn small_steps_in_one_direction_add_up() {
        let start = Instant::now();
        let mut clocks = Clocks { wall: START, running: start };
        let mut steps = (1..=100).map(|step| HOUR * step);
        let noticed = steps.position(|ran| {
            let gained = ran / 10_000;
            clocks.set_by(START + ran + gained, start + ran).is_some()
        });
        assert_eq!(noticed, Some(2), "0.36 s an hour: more than a second after three");
    }
}
