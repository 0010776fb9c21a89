//! What to do about a Secret, given what stands there: every way of being foreign is refused here.

use std::fmt;

use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};

use super::{
    decide::Permit,
    name::{RequestKey, Uid},
    observed::Observed,
    policy::Revocation,
    render::{Rendered, Seal},
};
use crate::api::names;

/// What stands at the target, as seen from a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Written for this request.
    Ours,
    /// Written for another live request that has lost the name to this one, or for an earlier request of the
    /// same namespace and name: who makes a request again goes on where it ended.
    Inherited,
    /// Made by the first operator.
    Original,
    /// Nobody's, or left behind by a request that is gone; request and policy allow the takeover, and so does the
    /// Secret itself if the operator has not written it.
    Adopted,
    /// Not ours to touch.
    Foreign(Foreign),
}

/// Why a Secret is not ours to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// It is being deleted, and something holds it.
    Deleting,
    /// Another object owns it.
    Owned,
    /// It was distributed for a request that does not exist any more.
    LeftBehind,
    /// It has our label and not the record that goes with it: a copy, or a forgery.
    Unrecorded,
    /// Nobody owns it; it is not offered, the request does not ask for adoption, or no policy allows it.
    Unowned,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ADOPT: &str = "set spec.adopt: true if a policy allows adoption";
        let offer = format_args!("annotate it with {}={} and {ADOPT}", names::ADOPTION, names::ALLOWED);
        match self {
            Self::Deleting => {
                f.write_str("is being deleted, and a finalizer holds it; it will be written once it is gone")
            }
            Self::Owned => f.write_str(
                "belongs to another object (see its ownerReferences); choose another spec.name or delete it",
            ),
            Self::LeftBehind => {
                write!(f, "was left behind by a request that does not exist any more; delete it, or {ADOPT}")
            }
            Self::Unrecorded => write!(
                f,
                "carries this operator's label, but no record that it was written here; delete it, choose another \
                 spec.name, or {offer}"
            ),
            Self::Unowned => write!(
                f,
                "exists already and was not written by this operator; delete it, choose another spec.name, or {offer}"
            ),
        }
    }
}

/// Judges who owns what stands at the target of a permit. `is_live` tells whether a request with that key and
/// UID exists; that it has lost the name is known, since this permit's request is the senior one.
pub fn ownership(
    observed: &Observed,
    permit: &Permit,
    seal: &Seal,
    is_live: impl Fn(&RequestKey, &Uid) -> bool,
) -> Ownership {
    let (request, target) = (permit.request(), permit.target());
    if observed.deleting {
        return Ownership::Foreign(Foreign::Deleting);
    }
    if observed.belongs_to(&request.uid, &request.key, &target) {
        return Ownership::Ours;
    }
    let recorded = observed.recorded_request(&target).zip(observed.owner());
    if recorded.as_ref().is_some_and(|(key, uid)| *key == request.key || is_live(key, uid)) {
        return Ownership::Inherited;
    }
    if !observed.owners.is_empty() {
        return Ownership::Foreign(Foreign::Owned);
    }
    if observed.owner().is_none()
        && observed.annotations.get(names::MANAGED_BY_ANNOTATION) == Some(seal.managed_by.as_str())
    {
        return Ownership::Original;
    }
    let (why, offered) = match (recorded, observed.owner()) {
        (Some(_), _) => (Foreign::LeftBehind, true),
        (None, Some(_)) => (Foreign::Unrecorded, observed.is_offered()),
        (None, None) => (Foreign::Unowned, observed.is_offered()),
    };
    if offered && permit.allows_adoption() { Ownership::Adopted } else { Ownership::Foreign(why) }
}

/// What to do at the target of a rendered Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is as it shall be.
    Keep,
    /// Change it. It is ours, or becomes so.
    Change(Ownership),
    /// Leave it alone.
    Refuse(Foreign),
}

/// Settles what to do with a Secret that exists.
pub fn settle(
    rendered: &Rendered,
    observed: &Observed,
    seal: &Seal,
    is_live: impl Fn(&RequestKey, &Uid) -> bool,
) -> Step {
    match ownership(observed, rendered.permit(), seal, is_live) {
        Ownership::Foreign(why) => Step::Refuse(why),
        Ownership::Ours if rendered.is_in(observed) => Step::Keep,
        ownership => Step::Change(ownership),
    }
}

/// What to do with a Secret whose grant is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoking {
    /// Delete it now.
    Delete,
    /// Write down since when the grant is gone: a grace period begins.
    Mark {
        /// When it ends.
        until: Timestamp,
    },
    /// The grace period runs.
    Wait {
        /// When it ends.
        until: Timestamp,
    },
    /// Leave it, and write it no more.
    Retain,
}

/// What the stamp that was put on the Secret at its last write says. Without a stamp that can be read the
/// strict answer holds.
pub fn revoke(observed: &Observed, now: Timestamp) -> Revoking {
    let grace = match stamp(observed) {
        Revocation::Retain => return Revoking::Retain,
        Revocation::Delete(grace) if grace.is_zero() => return Revoking::Delete,
        Revocation::Delete(grace) => grace,
    };
    let marked = observed.annotations.get(names::REVOKED_AT).and_then(|text| text.parse::<Timestamp>().ok());
    // A mark in the future would prolong the grace: it is not ours.
    match marked.filter(|since| *since <= now) {
        None => Revoking::Mark { until: after(whole_second(now), grace) },
        Some(since) if after(since, grace) <= now => Revoking::Delete,
        Some(since) => Revoking::Wait { until: after(since, grace) },
    }
}

/// The second of an instant: a mark and a status hold whole seconds, and must tell the same after a restart.
pub fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn after(start: Timestamp, span: SignedDuration) -> Timestamp {
    start.checked_add(span).map_or(Timestamp::MAX, in_whole_seconds)
}

/// Rounded up to the second, as the API server keeps it: else each look at a status would find another time in it.
pub(super) fn in_whole_seconds(time: Timestamp) -> Timestamp {
    let up = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    time.round(up).unwrap_or(Timestamp::MAX)
}

/// Whether it stays when its grant goes.
pub fn is_retained(observed: &Observed) -> bool {
    stamp(observed) == Revocation::Retain
}

fn stamp(observed: &Observed) -> Revocation {
    let stamp = observed.annotations.get(names::REVOCATION).unwrap_or_default();
    if stamp == "Retain" {
        return Revocation::Retain;
    }
    let seconds = stamp.strip_prefix("Delete after ").and_then(|rest| rest.strip_suffix('s')?.parse::<u32>().ok());
    Revocation::Delete(SignedDuration::from_secs(seconds.unwrap_or(0).into()))
}
