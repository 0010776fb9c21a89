//! What is the case, read from what the controller keeps anyway: what is gone has no series any more.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, Weak},
    time::SystemTime,
};

use super::{Context, policies};
use crate::api::conditions::Reason;
use crate::telemetry::metrics::{
    Readings, States,
    table::{
        CERTIFICATE_NOT_AFTER, LEADER, POLICIES, QUEUE_DELAYED, QUEUE_DEPTH, QUEUE_OLDEST_AGE, RATE_LIMIT_TOKENS,
        READY, REQUESTS, SECRETS, SECRETS_REVOCATION_PENDING, SOURCE_LAST_CHANGE, SOURCES, THROTTLED, THROTTLINGS,
        WORKERS, WORKERS_BUSY,
    },
};

/// Registers what is read at each scrape, for as long as the controller runs.
pub fn register(context: &Arc<Context>) {
    context.metrics.observe(Gauges(Arc::downgrade(context)));
}

struct Gauges(Weak<Context>);

impl States for Gauges {
    fn read(&self, readings: &mut Readings<'_>) {
        let Some(context) = self.0.upgrade() else { return };
        context.read_readiness(readings);
        context.read_work(readings);
        context.read_sources(readings);
        context.read_requests(readings);
        context.read_policies(readings);
        context.read_secrets(readings);
        context.read_limits(readings);
    }
}

impl Context {
    fn leads(&self) -> bool {
        self.leadership.check().is_ok()
    }

    fn read_readiness(&self, readings: &mut Readings<'_>) {
        readings.set(&LEADER, f64::from(self.leads()));
        for (name, gate) in self.gates.states() {
            readings.label(&READY, &[name], f64::from(gate.is_open()));
        }
    }

    fn read_work(&self, readings: &mut Readings<'_>) {
        let load = self.queue.load();
        for (priority, count) in load.due {
            readings.label(&QUEUE_DEPTH, &[priority.as_str()], count as f64);
        }
        readings.set(&QUEUE_OLDEST_AGE, load.oldest.unwrap_or_default().as_secs_f64());
        readings.set(&QUEUE_DELAYED, load.later as f64);
        readings.set(&WORKERS, self.workers as f64);
        readings.set(&WORKERS_BUSY, load.running as f64);
    }

    fn read_sources(&self, readings: &mut Readings<'_>) {
        let extent = *self.extent.lock().unwrap_or_else(PoisonError::into_inner);
        readings.set(&SOURCES, extent.sources as f64);
        if let Some(since) = extent.newest.and_then(|newest| newest.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            readings.set(&SOURCE_LAST_CHANGE, since.as_secs_f64());
        }
    }

    fn read_requests(&self, readings: &mut Readings<'_>) {
        for ((namespace, reason), count) in self.reports.tally() {
            let reason = reason.map(|reason| reason.as_str()).unwrap_or_default();
            readings.add(&REQUESTS, &namespace, &[reason], count as f64);
        }
    }

    fn read_policies(&self, readings: &mut Readings<'_>) {
        let mut tally: BTreeMap<Reason, usize> = BTreeMap::new();
        for (_, compiled) in self.world().policies.policies() {
            *tally.entry(policies::verdict(compiled).reason).or_default() += 1;
        }
        for (reason, count) in tally {
            readings.label(&POLICIES, &[reason.as_str()], count as f64);
        }
    }

    fn read_secrets(&self, readings: &mut Readings<'_>) {
        let (world, leads) = (self.world(), self.leads());
        for (namespace, census) in world.secrets.census() {
            readings.add(&SECRETS, namespace, &[], census.written as f64);
            readings.add(&SECRETS_REVOCATION_PENDING, namespace, &[], census.revocation_pending as f64);
            // Another replica may have written another certificate since this one led.
            if let Some(not_after) = census.not_after.filter(|_| leads) {
                readings.least(&CERTIFICATE_NOT_AFTER, namespace, not_after.as_second() as f64);
            }
        }
    }

    fn read_limits(&self, readings: &mut Readings<'_>) {
        let leads = self.leads();
        for (namespace, usage) in self.limits.usage() {
            if leads {
                readings.add(&RATE_LIMIT_TOKENS, &namespace, &[], usage.tokens.into());
            }
            readings.add(&THROTTLINGS, &namespace, &[], usage.throttled.times as f64);
            readings.add(&THROTTLED, &namespace, &[], usage.throttled.lasted.as_secs_f64());
        }
        let gone = self.limits.gone();
        if gone.times > 0 {
            readings.add_gone(&THROTTLINGS, gone.times as f64);
            readings.add_gone(&THROTTLED, gone.lasted.as_secs_f64());
        }
    }
}
