//! What became of one destination, and of the attempt as a whole.

use std::time::Instant;

use super::{Next, events::Note};
use crate::{
    api::conditions::Reason,
    core::{
        decide::Denial,
        name::{PolicyName, Target},
        outcome::End,
        plan::{Fate, Leftover, Plan, Subject},
        settle::Revoking,
    },
    error::ApiFailure,
    telemetry::traces::names::Ended,
};

/// What became of one destination.
pub struct Done {
    pub target: Target,
    pub end: End,
    pub granted_by: Vec<PolicyName>,
    /// Whether the tenant learns of it: not of a namespace that is only selected and not granted.
    pub shown: bool,
    /// It is planned anew at once, and nothing is worth saying until then.
    pub put_off: bool,
    /// When the Secret was created, changed or deleted, if it was.
    pub changed: Option<Instant>,
    /// The kind of the failure, if there was one.
    pub failure: Option<&'static str>,
    pub note: Option<Note>,
    pub next: Next,
}

impl Done {
    pub fn of(target: &Target, end: End) -> Self {
        let (granted_by, note, next, failure, changed) = Default::default();
        let (shown, put_off) = (true, false);
        Self { target: target.clone(), end, granted_by, shown, put_off, changed, failure, note, next }
    }

    pub fn held(target: &Target, reason: Reason, message: String) -> Self {
        Self::of(target, End::Held(reason, message))
    }

    /// What was in the way of a revocation does not make the request permitted.
    pub fn while_revoking(self, denial: &Denial) -> Self {
        match self.end {
            End::Held(reason, message) => {
                let message = format!("the grant is gone, and what was written stays: {message}");
                Self { end: End::Stuck(denial.clone(), reason, message), ..self }
            }
            _ => self,
        }
    }

    /// The same in one word, and why.
    pub fn ended(&self) -> (Ended, Option<Reason>) {
        let reason = self.end.reason();
        let is_failure = !self.put_off && matches!(reason, Reason::ApiError | Reason::WriteRefused);
        let ended = match &self.end {
            End::Synced if self.changed.is_some() => Ended::Written,
            End::Synced => Ended::Unchanged,
            End::Held(..) | End::Stuck(..) if is_failure => Ended::Failed,
            End::Held(..) | End::Stuck(..) => Ended::Held,
            End::Throttled(_) => Ended::Throttled,
            End::Denied(_) if self.changed.is_some() => Ended::Deleted,
            End::Denied(_) => Ended::Denied,
            End::Revoking(..) => Ended::Revoking,
            End::Retained(_) => Ended::Retained,
        };
        (ended, Some(reason).filter(|_| self.end != End::Synced))
    }
}

/// What became of the Secrets that are not wanted any more.
#[derive(Default)]
pub struct Cleared {
    pub notes: Vec<Note>,
    pub failure: Option<&'static str>,
}

/// What came of an attempt.
pub struct Attempt {
    /// When the key comes back.
    pub next: Next,
    /// In one word; of several things the first of [`Ended`].
    pub ended: Ended,
    /// Why.
    pub reason: Option<Reason>,
    /// The kind of the failure, if there was one.
    pub failure: Option<&'static str>,
}

impl Attempt {
    /// There was nothing to do, or nothing is known yet.
    pub fn idle(next: Next) -> Self {
        Self { next, ended: Ended::Unchanged, reason: None, failure: None }
    }

    /// It came to nothing.
    pub fn failed(next: Next, failure: &'static str) -> Self {
        Self { next, ended: Ended::Failed, reason: None, failure: Some(failure) }
    }

    /// Another replica leads: nothing is to be said about the work.
    pub fn abandoned() -> Self {
        Self::failed(Next { failed: true, ..Next::default() }, ApiFailure::NotLeader.kind())
    }

    /// From what became of its parts. `told`: the status or an event was written.
    pub fn of(next: Next, done: &[(Ended, Option<Reason>)], failure: Option<&'static str>, told: bool) -> Self {
        let (ended, reason) = done.iter().min().copied().unwrap_or((Ended::Unchanged, None));
        let changed = |(ended, _): &(Ended, _)| matches!(ended, Ended::Written | Ended::Deleted);
        let ended = match ended {
            _ if failure.is_some() => Ended::Failed,
            _ if !told && !done.iter().any(changed) => Ended::Unchanged,
            Ended::Unchanged => Ended::Reported,
            ended => ended,
        };
        Self { next, ended, reason, failure }
    }
}

/// How each part of an attempt ended.
pub fn ended(plan: &Plan, done: &[Done], cleared: &Cleared) -> Vec<(Ended, Option<Reason>)> {
    let invalid = matches!(plan.subject, Subject::Invalid { .. });
    let invalid = invalid.then_some((Ended::Invalid, Some(Reason::InvalidRequest)));
    let leftovers = plan.leftovers.iter().filter(|_| cleared.failure.is_none());
    let leftovers = leftovers.map(|leftover| (ended_by(leftover), None));
    invalid.into_iter().chain(done.iter().map(Done::ended)).chain(leftovers).collect()
}

/// How a Secret ends that is not wanted any more, if nothing fails.
pub fn ended_by(leftover: &Leftover) -> Ended {
    match leftover.fate {
        Fate::Prune | Fate::Orphan | Fate::Revoke(Revoking::Delete) => Ended::Deleted,
        Fate::Revoke(Revoking::Retain) => Ended::Retained,
        Fate::Revoke(Revoking::Mark { .. } | Revoking::Wait { .. }) => Ended::Revoking,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(done: &[(Ended, Option<Reason>)], failure: Option<&'static str>, told: bool) -> (Ended, Option<Reason>) {
        let attempt = Attempt::of(Next::default(), done, failure, told);
        (attempt.ended, attempt.reason)
    }

    #[test]
    fn an_attempt_is_what_its_worst_target_is_if_anything_came_of_it() {
        let denied = (Ended::Denied, Some(Reason::SourceNotPermitted));
        let (written, unchanged) = ((Ended::Written, None), (Ended::Unchanged, None));
        assert_eq!(of(&[written, denied, unchanged], None, true), denied);
        assert_eq!(of(&[written, unchanged], None, false), written);
        assert_eq!(of(&[unchanged], None, true), (Ended::Reported, None));
        assert_eq!(of(&[denied], None, false).0, Ended::Unchanged, "it was told before");
        assert_eq!(of(&[], None, false).0, Ended::Unchanged);
        assert_eq!(of(&[unchanged], Some("unreachable"), false).0, Ended::Failed);
    }
}
