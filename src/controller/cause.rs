//! Why a request is looked at, and since when there has been a reason to.

use std::time::Instant;

use opentelemetry::trace::SpanContext;

use crate::api::closed_set;

/// The most links of one cause: what touches one request faster than it is worked on is told in part.
const MAX_LINKS: usize = 8;

closed_set! {
    /// What has happened.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    CauseKind {
        /// The request came, changed or went, or an older one that is in its way.
        Request = "request",
        /// A policy came, changed or went.
        Policy = "policy",
        /// A namespace came, changed or went.
        Namespace = "namespace",
        /// A source that it uses was rotated.
        Rotation = "rotation",
        /// The mounted folder has become usable or unusable.
        Mount = "mount",
        /// A Secret was edited or deleted by somebody, or shows what the operator wrote itself.
        Secret = "secret",
        /// A namespace was delegated to the operator, or is not any more.
        Delegation = "delegation",
        /// An instant has come: a policy begins or ends, a grace period is over. Or the clock was set.
        Time = "time",
        /// A Secret of somebody else, in the way of this one, is looked at again.
        Recheck = "recheck",
        /// This replica has read the cluster, or has begun to lead.
        Start = "start",
    }
}

/// Why there is work for a key. What happens while the key waits is merged into one.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// What has happened; of several things, the first.
    pub kind: CauseKind,
    /// When it happened: when the operator first heard of it, or the instant that was waited for.
    pub since: Instant,
    /// Which attempt this is, counted from 1: others are retries, and turns at a rate limit.
    pub attempt: u32,
    /// Spans of other traces that led to it, the oldest first.
    pub links: Vec<SpanContext>,
}

impl Cause {
    /// It happens now.
    pub fn new(kind: CauseKind) -> Self {
        Self::since(kind, Instant::now())
    }

    /// It happened, or will happen, at that instant.
    pub fn since(kind: CauseKind, since: Instant) -> Self {
        Self { kind, since, attempt: 1, links: Vec::new() }
    }

    /// The same again: the work for it is not done.
    pub fn again(self) -> Self {
        Self { attempt: self.attempt.saturating_add(1), ..self }
    }

    /// Takes in another cause of the same work.
    pub fn merge(&mut self, other: Self) {
        let (first, second) = if other.since < self.since { (&other, &*self) } else { (&*self, &other) };
        let mut links = first.links.clone();
        links.extend(second.links.iter().filter(|link| !first.links.contains(link)).cloned());
        links.truncate(MAX_LINKS);
        *self = Self { kind: first.kind, since: first.since, attempt: first.attempt.max(second.attempt), links };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
    use std::time::Duration;

    fn span(number: u8) -> SpanContext {
        let (trace, id) = (TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]));
        SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default())
    }

    #[test]
    fn the_first_of_several_things_tells_kind_and_time() {
        let now = Instant::now();
        let rotation = Cause::since(CauseKind::Rotation, now).again();
        let policy = Cause::since(CauseKind::Policy, now + Duration::from_secs(1));
        for (mut one, other) in [(rotation.clone(), policy.clone()), (policy, rotation)] {
            one.merge(other);
            assert_eq!((one.kind, one.since, one.attempt), (CauseKind::Rotation, now, 2));
        }
    }

    #[test]
    fn links_are_kept_once_the_oldest_first_and_not_without_end() {
        let mut cause = Cause::new(CauseKind::Rotation);
        for number in (1..100).flat_map(|number| [number, number]) {
            cause.merge(Cause { links: vec![span(number)], ..Cause::new(CauseKind::Rotation) });
        }
        assert_eq!(cause.links, (1..=8).map(span).collect::<Vec<_>>());
    }
}
