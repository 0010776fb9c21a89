//! What a candidate does next, given what it knows of the Lease: pure, with every instant passed in.
//!
//! Why two never lead at a time: a leader counts its time from *before* the request that renewed the Lease was
//! sent, and stops a margin before that time is up. Another counts from *after* it saw the last change, by its own
//! monotonic clock, and takes the Lease only once its whole duration has passed and only the version that it saw.
//! The times in the Lease are for people.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use tokio::time::Instant;

use crate::api::names;

/// No holder can have promised more; what says so was written by somebody else.
pub const MAX_DURATION: Duration = Duration::from_secs(300);

/// With this duration and no holder a Lease says that its last holder has stopped: what client-go writes as well.
const RELEASED_SECONDS: i32 = 1;

/// Who a process is among the replicas.
#[derive(Clone, Debug)]
pub struct Identity {
    holder: String,
    /// The start of `holder` that a process has in common with the one whose place it took after a crash.
    replica: Option<String>,
}

impl Identity {
    /// `replica` is a name that no two running processes have; `unique` differs from process to process.
    pub fn new(replica: Option<&str>, host: &str, unique: &str) -> Self {
        let holder = format!("{}_{unique}", replica.unwrap_or(host));
        Self { holder, replica: replica.map(|replica| format!("{replica}_")) }
    }

    /// What stands in the Lease.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    fn is_predecessor(&self, holder: &str) -> bool {
        holder != self.holder && self.replica.as_ref().is_some_and(|replica| holder.starts_with(replica))
    }
}

/// The spans of an election.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A Lease that has not changed for so long may be taken.
    pub duration: Duration,
    /// How much sooner its holder stops: for requests that are on their way, and for clocks that do not run alike.
    pub margin: Duration,
    /// How often it is renewed.
    pub renew: Duration,
    /// How often others look at it, and how soon what failed is tried again.
    pub poll: Duration,
    /// How long one call may take.
    pub patience: Duration,
}

impl From<Duration> for Pace {
    /// A failover takes the duration, one poll and one call.
    fn from(duration: Duration) -> Self {
        let poll = (duration / 12).min(Duration::from_secs(1));
        Self { duration, margin: duration / 6, renew: duration / 4, poll, patience: duration / 4 }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Nothing, until then.
    Rest(Instant),
    /// Read the Lease.
    Look,
    /// Create it without a holder; only if there is none.
    Create(Lease),
    /// Take it, or renew it; only the version that was seen.
    Replace(Lease),
}

/// One candidate, which may be the leader.
#[derive(Clone, Debug)]
pub struct Elector {
    identity: Identity,
    pace: Pace,
    seen: Option<Seen>,
    /// What was seen is outdated.
    stale: bool,
    next_look: Instant,
    next_write: Instant,
    /// When the Lease was taken, as it stands in it: tells what we wrote from what somebody else wrote under our
    /// name. There is one as soon as it is tried.
    term: Option<MicroTime>,
    leads_until: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Seen {
    lease: Option<Lease>,
    /// When it was first seen so.
    since: Instant,
    /// It has not changed since this process looked for the first time.
    first: bool,
}

impl Elector {
    /// Knows nothing yet.
    pub fn new(identity: Identity, pace: Pace, now: Instant) -> Self {
        let (seen, stale, term, leads_until) = Default::default();
        Self { identity, pace, seen, stale, next_look: now, next_write: now, term, leads_until }
    }

    /// Until when this one leads, if nothing else happens.
    pub fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// Whether the Lease was ever read.
    pub fn has_seen(&self) -> bool {
        self.seen.is_some()
    }

    /// What to do now. `wall` is written into the Lease, for people.
    pub fn next(&mut self, now: Instant, wall: Timestamp) -> Move {
        let Some(seen) = self.seen.as_ref().filter(|_| !self.stale) else { return self.look(now) };
        let leads = self.leads_until.is_some_and(|until| now < until);
        let due = if leads { self.next_write } else { self.next_write.max(self.free_at(seen)) };
        match (now < due, self.look(now)) {
            (true, _) if leads => Move::Rest(due),
            (true, Move::Rest(until)) => Move::Rest(until.min(due)),
            (true, look) => look,
            (false, _) => self.claim(wall),
        }
    }

    fn look(&self, now: Instant) -> Move {
        if now < self.next_look { Move::Rest(self.next_look) } else { Move::Look }
    }

    /// From when on the Lease may be taken, if it does not change until then; or made, if there is none.
    fn free_at(&self, seen: &Seen) -> Instant {
        let Some(lease) = &seen.lease else { return seen.since };
        let spec = lease.spec.clone().unwrap_or_default();
        let free = match holder(lease) {
            Some(holder) => self.is_ours(lease) || seen.first && self.identity.is_predecessor(holder),
            None if spec == LeaseSpec::default() => seen.first,
            None => is_released(lease),
        };
        if free { seen.since } else { seen.since + promised(&spec).max(self.pace.duration) }
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        let acquired = lease.spec.as_ref().and_then(|spec| spec.acquire_time.as_ref());
        holder(lease) == Some(self.identity.holder()) && acquired.is_some() && acquired == self.term.as_ref()
    }

    /// Takes the Lease, or renews it. Where there is none, makes one without a holder: a request to create is bound
    /// to no version, and if it came late it would take what another one has taken meanwhile and somebody deleted.
    fn claim(&mut self, wall: Timestamp) -> Move {
        let now = micro_time(wall);
        let seconds = Some(whole_seconds(self.pace.duration));
        let Some(lease) = self.seen.as_ref().and_then(|seen| seen.lease.clone()) else {
            let metadata = ObjectMeta { name: Some(names::LEASE.into()), ..ObjectMeta::default() };
            let spec = LeaseSpec { lease_duration_seconds: seconds, ..LeaseSpec::default() };
            return Move::Create(Lease { metadata, spec: Some(spec) });
        };
        let transition = i32::from(!self.is_ours(&lease));
        let spec = lease.spec.unwrap_or_default();
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.holder.clone()),
            lease_duration_seconds: seconds,
            acquire_time: Some(self.term.get_or_insert_with(|| now.clone()).clone()),
            renew_time: Some(now),
            lease_transitions: Some(spec.lease_transitions.unwrap_or_default().saturating_add(transition)),
            ..spec
        };
        Move::Replace(Lease { spec: Some(spec), ..lease })
    }

    /// The Lease was read, or created; `now` is after the answer.
    pub fn saw(&mut self, lease: Option<Lease>, now: Instant) {
        self.stale = false;
        self.next_look = now + self.pace.poll;
        if self.seen.as_ref().is_some_and(|seen| version(seen.lease.as_ref()) == version(lease.as_ref())) {
            return;
        }
        if let Some(lease) = lease.as_ref().filter(|lease| !self.is_ours(lease)) {
            self.term = None;
            // One that has no holder, though nobody released it, is no reason to stop: it is taken again, and
            // whoever else sees it waits first.
            if holder(lease).is_some() || is_released(lease) {
                self.leads_until = None;
            }
        }
        let first = self.seen.is_none();
        self.seen = Some(Seen { lease, since: now, first });
    }

    /// The Lease was taken or renewed by this one; the request was sent at `sent`, and the answer came at `now`.
    pub fn wrote(&mut self, lease: Lease, sent: Instant, now: Instant) {
        self.stale = false;
        self.seen = Some(Seen { lease: Some(lease), since: now, first: false });
        self.next_write = sent + self.pace.renew;
        self.leads_until = Some(sent + self.pace.duration.saturating_sub(self.pace.margin));
    }

    /// The API server refused a write, since the Lease is not what it was.
    pub fn conflicted(&mut self, now: Instant) {
        self.stale = true;
        self.next_look = now;
        self.next_write = now + self.pace.poll;
    }

    /// A call failed, and whether it had an effect is not known. A write is tried again as it was: if it did have
    /// an effect, that is a conflict.
    pub fn failed(&mut self, now: Instant) {
        self.next_look = now + self.pace.poll;
        self.next_write = now + self.pace.poll;
    }

    /// Stops leading. The Lease without a holder, if it is ours to release.
    pub fn release(&mut self, wall: Timestamp) -> Option<Lease> {
        self.leads_until = None;
        let lease = self.seen.as_ref()?.lease.as_ref().filter(|lease| self.is_ours(lease))?;
        let spec = LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(RELEASED_SECONDS),
            renew_time: Some(micro_time(wall)),
            ..lease.spec.clone().unwrap_or_default()
        };
        Some(Lease { metadata: lease.metadata.clone(), spec: Some(spec) })
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Its last holder has said that it writes no more.
fn is_released(lease: &Lease) -> bool {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    holder(lease).is_none() && seconds == Some(RELEASED_SECONDS)
}

fn version(lease: Option<&Lease>) -> Option<(Option<&str>, Option<&str>)> {
    lease.map(|lease| (lease.metadata.uid.as_deref(), lease.metadata.resource_version.as_deref()))
}

fn promised(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    Duration::from_secs(seconds).min(MAX_DURATION)
}

/// Never less than what is meant.
fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// As precise as the API server keeps it, so that it compares equal when it comes back.
fn micro_time(wall: Timestamp) -> MicroTime {
    MicroTime(Timestamp::from_microsecond(wall.as_microsecond()).unwrap_or(wall))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(12);

    fn process(unique: &str, start: Instant) -> Elector {
        Elector::new(Identity::new(Some("pod"), "host", unique), DURATION.into(), start)
    }

    /// As the API server answers.
    fn stored(mut lease: Lease, version: u8) -> Option<Lease> {
        lease.metadata.resource_version = Some(version.to_string());
        Some(lease)
    }

    fn claim(elector: &mut Elector, now: Instant) -> Lease {
        match elector.next(now, Timestamp::UNIX_EPOCH) {
            Move::Replace(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_is_believed_only_while_its_holder_gives_no_sign_of_life() {
        let start = Instant::now();
        let (mut one, mut other, mut third) = (process("1", start), process("2", start), process("3", start));
        one.saw(stored(Lease::default(), 1), start);
        let first = stored(claim(&mut one, start), 2);
        third.saw(first.clone(), start);
        other.saw(first, start);
        let second = stored(claim(&mut other, start), 3);
        one.saw(second.clone(), start);
        assert!(matches!(one.next(start, Timestamp::UNIX_EPOCH), Move::Rest(_)), "the two would go on in turns");
        third.saw(second, start);
        assert!(matches!(third.next(start, Timestamp::UNIX_EPOCH), Move::Rest(_)), "it has changed");
    }

    #[test]
    fn the_lease_says_for_people_who_holds_it_and_since_when() {
        let start = Instant::now();
        let mut one = process("1", start);
        one.saw(stored(Lease::default(), 1), start);
        let taken = claim(&mut one, start);
        one.wrote(taken.clone(), start, start);
        let spec = taken.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("pod_1"));
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(12), Some(1)));
        let later = Timestamp::UNIX_EPOCH + Duration::from_secs(3);
        let Move::Replace(renewed) = one.next(start + Duration::from_secs(3), later) else { panic!("it is due") };
        let renewed = renewed.spec.unwrap();
        assert_eq!((renewed.acquire_time, renewed.lease_transitions), (spec.acquire_time, Some(1)));
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
        let released = one.release(later).unwrap().spec.unwrap();
        assert_eq!((released.holder_identity, released.lease_duration_seconds), (None, Some(1)));
        assert_eq!(one.leads_until(), None);
    }
}
