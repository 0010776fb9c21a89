//! The end of an attempt: its status and its events. It can be put off, so that while much is to be written the
//! Secrets come first, which somebody waits for, and then what is said about them.

use jiff::Timestamp;
use tracing::Instrument;

use super::{
    Context, Next,
    done::{Attempt, Cleared, Done, ended},
    events::Note,
};
use crate::{
    api::conditions::Reason,
    core::{
        index::Stored,
        name::RequestKey,
        outcome::{self, End, Outcome},
        plan::{Plan, Subject},
    },
    error::ApiFailure,
    lease::Term,
    telemetry::traces::names::{Ended, STATUS},
};

/// How far an attempt has come.
pub enum Progress {
    /// It is over.
    Over(Attempt),
    /// What was done is not told yet.
    Untold(Box<Untold>),
}

/// What an attempt has done, and has not told yet.
pub struct Untold {
    /// When another replica has led meanwhile, it has told what holds now.
    term: Term,
    subject: Subject,
    /// None: it is open what to say.
    outcomes: Option<Vec<Outcome>>,
    notes: Vec<Note>,
    /// Whether a Secret was changed.
    changed: bool,
    ended: Vec<(Ended, Option<Reason>)>,
    failure: Option<&'static str>,
    next: Next,
    /// All is written as it should be, or is gone as it should: that the status says so later harms nobody.
    can_wait: bool,
}

impl Untold {
    /// Puts it off, if that harms nobody. Answers when its key comes back whether or not it has been told by then.
    pub fn put_off(&mut self) -> Option<Next> {
        self.can_wait.then(|| std::mem::take(&mut self.next))
    }
}

impl Context {
    /// What there is to tell of an attempt.
    pub(super) fn to_tell(&self, term: Term, plan: Plan, done: Vec<Done>, cleared: Cleared, next: Next) -> Untold {
        let failure = done.iter().find_map(|done| done.failure.filter(|_| done.ended().0 == Ended::Failed));
        let ended = ended(&plan, &done, &cleared);
        let settled = plan.is_complete() && !done.iter().any(|done| done.put_off);
        let is_final = |done: &Done| matches!(done.end, End::Synced | End::Denied(_));
        let all_is_well = cleared.failure.is_none() && done.iter().all(is_final);
        Untold {
            term,
            changed: done.iter().any(|done| done.changed.is_some()),
            notes: done.iter().flat_map(|done| done.note.clone()).chain(cleared.notes).collect(),
            can_wait: settled && all_is_well && next.is_about_time_only(),
            outcomes: settled.then(|| done.into_iter().filter_map(|done| self.outcome(&plan.subject, done)).collect()),
            subject: plan.subject,
            ended,
            failure: failure.or(cleared.failure),
            next,
        }
    }

    /// What there is to tell the tenant about a destination.
    fn outcome(&self, subject: &Subject, done: Done) -> Option<Outcome> {
        let Subject::Live(request) = subject else { return None };
        let written = self.world().last_written(request, &done.target);
        done.shown.then_some(Outcome { target: done.target, granted_by: done.granted_by, end: done.end, written })
    }

    /// Tells what an attempt has done. That ends it.
    pub(super) async fn tell(&self, key: &RequestKey, mut untold: Untold) -> Attempt {
        if self.leadership.check_term(untold.term).is_err() {
            return Attempt::abandoned();
        }
        let (ended, failure, mut next) = (std::mem::take(&mut untold.ended), untold.failure, untold.next);
        let told = self.report(key, untold).instrument(STATUS.start()).await;
        next.failed |= told.is_err();
        // A status that somebody has edited meanwhile is written anew: that is no failure.
        let not_told = told.as_ref().err().filter(|failure| **failure != ApiFailure::Conflict);
        Attempt::of(next, &ended, failure.or(not_told.map(ApiFailure::kind)), told.unwrap_or(false))
    }

    /// Tells what was done, and writes the status unless the outcome is open: something could not be looked at
    /// yet, or has changed meanwhile. Answers whether anything was written.
    async fn report(
        &self,
        key: &RequestKey,
        Untold { subject, outcomes, notes, changed, .. }: Untold,
    ) -> Result<bool, ApiFailure> {
        let (previous, now) = (self.reports.previous(key), Timestamp::now());
        let (uid, status) = match &subject {
            Subject::Gone => return Ok(false),
            Subject::Invalid { uid, generation, problem } => {
                (uid, Some(outcome::invalid(*generation, &problem.to_string(), &previous, now)))
            }
            Subject::Live(request) => {
                (&request.uid, outcomes.map(|outcomes| outcome::status(request, &outcomes, &previous, now)))
            }
        };
        match self.reports.report(key, uid, status, notes, changed).await {
            Err(ApiFailure::NotFound) => Ok(false),
            // Somebody has edited it meanwhile.
            Err(ApiFailure::Conflict) => Err(ApiFailure::Conflict),
            other => other.inspect_err(|failure| tracing::warn!(request = %key, "status not written: {failure}")),
        }
    }

    /// Tells on the object itself that the operator failed on it.
    pub(super) async fn report_panic(&self, key: &RequestKey) {
        self.metrics.attempted(&key.namespace, Reason::InternalError);
        let Some(Stored::Valid(request)) = self.world().requests.get(key).cloned() else { return };
        let status = outcome::broken(&request, &self.reports.previous(key), Timestamp::now());
        if let Err(failure) = self.reports.report(key, &request.uid, Some(status), Vec::new(), false).await {
            tracing::warn!(request = %key, "status not written: {failure}");
        }
    }
}
