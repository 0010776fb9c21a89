//! From what happened at each destination to the status of the request. No clock: times come in.

mod refusal;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use refusal::explain;

use super::{
    decide::Denial,
    name::{PolicyName, Target},
    request::Request,
    settle::in_whole_seconds,
};
use crate::api::{
    DecisionResult, DecisionStatus, SecretsDistributionStatus, TargetState, TargetStatus,
    conditions::{ConditionType, Reason},
};

/// The most targets a status lists; past it there are the counts.
const MAX_TARGETS: usize = 50;

/// What happened at one destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The Secret.
    pub target: Target,
    /// The policy that granted each mapping; empty if it was refused.
    pub granted_by: Vec<PolicyName>,
    /// How it ended.
    pub end: End,
    /// When the operator last wrote the Secret, if it is there, or may be where nobody can look.
    pub written: Option<Timestamp>,
}

/// How a destination ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The Secret is as it should be.
    Synced,
    /// Granted, but not written: the reason is one of `Synced`'s.
    Held(Reason, String),
    /// Granted, and written once it is its turn.
    Throttled(Timestamp),
    /// Not granted, and nothing of ours is there.
    Denied(Denial),
    /// The grant is gone: the Secret is deleted at that time.
    Revoking(Denial, Timestamp),
    /// The grant is gone and the Secret stays, as its stamp says.
    Retained(Denial),
    /// The grant is gone, and the Secret is still there or may be: what is in the way, by its reason and in words.
    Stuck(Denial, Reason, String),
}

impl End {
    /// Why it ended so, in one word.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Synced => Reason::UpToDate,
            Self::Held(reason, _) | Self::Stuck(_, reason, _) => *reason,
            Self::Throttled(_) => Reason::Throttled,
            Self::Denied(denial) | Self::Retained(denial) => denial.leading(),
            Self::Revoking(..) => Reason::RevocationPending,
        }
    }

    fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Denied(denial) | Self::Revoking(denial, _) | Self::Retained(denial) | Self::Stuck(denial, ..) => {
                Some(denial)
            }
            Self::Synced | Self::Held(..) | Self::Throttled(_) => None,
        }
    }
}

/// The status of a request after all its destinations were seen to. `previous` only lends its transition times.
pub fn status(
    request: &Request,
    outcomes: &[Outcome],
    previous: &SecretsDistributionStatus,
    now: Timestamp,
) -> SecretsDistributionStatus {
    let permitted = permitted(request, outcomes);
    let synced = synced(request, outcomes);
    let ready = ready(&permitted, &synced);
    let lookup = previous.conditions.as_slice();
    let stamp = |verdict: Verdict, kind| verdict.condition(kind, request.generation, lookup, now);
    SecretsDistributionStatus {
        observed_generation: Some(request.generation),
        conditions: vec![
            stamp(permitted, ConditionType::Permitted),
            stamp(synced, ConditionType::Synced),
            stamp(ready, ConditionType::Ready),
        ],
        secret_name: Some(request.secret_name.to_string()),
        targets: targets(outcomes),
        targets_total: Some(count(outcomes, |_| true)),
        targets_synced: Some(count(outcomes, |outcome| outcome.end == End::Synced)),
        decisions: decisions(request, outcomes),
        last_sync_time: outcomes.iter().filter_map(|outcome| outcome.written).max().map(Time),
        retry_at: retry_at(outcomes, previous),
        trace_id: None,
    }
}

/// The end of the next grace period; without one, the turn of what is throttled. One word for each time of throttling:
/// that its turn has moved is not worth another write.
fn retry_at(outcomes: &[Outcome], previous: &SecretsDistributionStatus) -> Option<Time> {
    let time = |of: fn(&End) -> Option<Timestamp>| {
        outcomes.iter().filter_map(|outcome| of(&outcome.end)).min().map(in_whole_seconds).map(Time)
    };
    let ends = time(|end| if let End::Revoking(_, until) = end { Some(*until) } else { None });
    let turn = time(|end| if let End::Throttled(until) = end { Some(*until) } else { None });
    let before =
        |reason: Reason| previous.targets.iter().any(|target| target.reason.as_deref() == Some(reason.as_str()));
    let goes_on = before(Reason::Throttled) && !before(Reason::RevocationPending);
    ends.or(if goes_on && turn.is_some() { previous.retry_at.clone() } else { turn })
}

/// The status of an object that cannot be understood.
pub fn invalid(
    generation: i64,
    problem: &str,
    previous: &SecretsDistributionStatus,
    now: Timestamp,
) -> SecretsDistributionStatus {
    let message = format!("{problem}. What was written before stays as it is");
    let verdict = |status, reason| Verdict { status, reason, message: message.clone() };
    let lookup = previous.conditions.as_slice();
    let conditions = [
        (ConditionType::Permitted, verdict("False", Reason::InvalidRequest)),
        (ConditionType::Synced, verdict("False", Reason::NotPermitted)),
        (ConditionType::Ready, verdict("False", Reason::InvalidRequest)),
    ];
    SecretsDistributionStatus {
        observed_generation: Some(generation),
        conditions: conditions.into_iter().map(|(kind, v)| v.condition(kind, generation, lookup, now)).collect(),
        ..Default::default()
    }
}

/// The status of a request that the operator failed on by a fault of its own: what it knew before, and that.
pub fn broken(request: &Request, previous: &SecretsDistributionStatus, now: Timestamp) -> SecretsDistributionStatus {
    let message = "the operator failed on this request by a fault of its own, which its log tells; it is tried again";
    let verdict = Verdict { status: "False", reason: Reason::InternalError, message: message.into() };
    let failed = [ConditionType::Synced, ConditionType::Ready];
    let is_failed = |condition: &&Condition| failed.iter().any(|kind| kind.as_str() == condition.type_);
    let kept = previous.conditions.iter().filter(|condition| !is_failed(condition)).cloned();
    let lookup = previous.conditions.as_slice();
    let told = failed.map(|kind| verdict.clone().condition(kind, request.generation, lookup, now));
    SecretsDistributionStatus {
        observed_generation: Some(request.generation),
        conditions: kept.chain(told).collect(),
        ..previous.clone()
    }
}

/// A condition before it has a type and times.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// True, False or Unknown.
    pub status: &'static str,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Verdict {
    /// The condition. Its transition time is that of the previous one if the status is the same.
    pub fn condition(self, kind: ConditionType, generation: i64, previous: &[Condition], now: Timestamp) -> Condition {
        let same = previous.iter().find(|old| old.type_ == kind.as_str() && old.status == self.status);
        Condition {
            type_: kind.as_str().into(),
            status: self.status.into(),
            reason: self.reason.as_str().into(),
            message: self.message,
            observed_generation: Some(generation),
            last_transition_time: same.map_or(Time(now), |old| old.last_transition_time.clone()),
        }
    }
}

fn permitted(request: &Request, outcomes: &[Outcome]) -> Verdict {
    let denials: Vec<_> = outcomes.iter().filter_map(|o| Some((&o.target, o.end.denial()?))).collect();
    let leading = denials.iter().min_by_key(|(_, denial)| denial.leading());
    let Some((target, denial)) = leading else {
        if outcomes.is_empty() {
            let message = "no policy grants this to a namespace that namespaceSelector matches; ask the platform team for a DistributionPolicy";
            return Verdict { status: "False", reason: Reason::NoPolicyForNamespace, message: message.into() };
        }
        return Verdict { status: "True", reason: Reason::Granted, message: "every mapping is granted".into() };
    };
    let mut message = explain(request, target, denial);
    if denials.len() > 1 {
        message.push_str(&format!(" (and {} more destinations, see status.targets)", denials.len() - 1));
    }
    Verdict { status: "False", reason: denial.leading(), message }
}

fn synced(request: &Request, outcomes: &[Outcome]) -> Verdict {
    let held = outcomes.iter().filter_map(|outcome| match &outcome.end {
        End::Held(reason, message) => Some((*reason, message.clone())),
        End::Stuck(_, reason, message) => Some((blocked(*reason), message.clone())),
        End::Throttled(_) => Some((Reason::Throttled, throttled(&outcome.target))),
        End::Revoking(_, until) => {
            let message = format!(
                "the grant of {} is gone: the Secret is deleted at {until} unless the grant returns",
                outcome.target
            );
            Some((Reason::RevocationPending, message))
        }
        _ => None,
    });
    if let Some((reason, message)) = held.min_by_key(|(reason, _)| *reason) {
        let unknown = reason == Reason::SourcesNotReady;
        return Verdict { status: if unknown { "Unknown" } else { "False" }, reason, message };
    }
    let denied = count(outcomes, |outcome| outcome.end.denial().is_some());
    if denied > 0 || outcomes.is_empty() {
        let message = "nothing is written where the request is not permitted".to_string();
        return Verdict { status: "False", reason: Reason::NotPermitted, message };
    }
    let message = match outcomes {
        [outcome] => format!("Secret {} is as it should be", outcome.target),
        _ => format!("Secret {} is as it should be in {} namespaces", request.secret_name, outcomes.len()),
    };
    Verdict { status: "True", reason: Reason::UpToDate, message }
}

fn throttled(target: &Target) -> String {
    format!(
        "the rate limit of namespace {} is used up: Secret {target} is written when it is its turn, see status.retryAt",
        target.namespace
    )
}

fn ready(permitted: &Verdict, synced: &Verdict) -> Verdict {
    match (permitted.status, synced.status) {
        ("True", "True") => Verdict { status: "True", reason: Reason::Ready, message: synced.message.clone() },
        ("True", _) => synced.clone(),
        // That a Secret is still there is more urgent than the refusal behind it, which Permitted shows.
        _ if matches!(synced.reason, Reason::RevocationPending | Reason::RevocationBlocked) => synced.clone(),
        _ => permitted.clone(),
    }
}

/// How it is called that a revocation is not carried out. In Audit it is meant.
fn blocked(by: Reason) -> Reason {
    if by == Reason::NotEnforced { by } else { Reason::RevocationBlocked }
}

fn count(outcomes: &[Outcome], counts: impl Fn(&&Outcome) -> bool) -> i32 {
    i32::try_from(outcomes.iter().filter(counts).count()).unwrap_or(i32::MAX)
}

fn targets(outcomes: &[Outcome]) -> Vec<TargetStatus> {
    let mut targets: Vec<_> = outcomes.iter().map(target).collect();
    // What is blocked first: past the bound nobody would learn of it, nor the operator after its next start.
    let is_blocked = |target: &TargetStatus| target.reason.as_deref() == Some(Reason::RevocationBlocked.as_str());
    let rank = |target: &TargetStatus| (!is_blocked(target), target.state);
    targets.sort_by(|a, b| (rank(a), &a.namespace).cmp(&(rank(b), &b.namespace)));
    targets.truncate(MAX_TARGETS);
    targets
}

fn target(outcome: &Outcome) -> TargetStatus {
    let (state, reason, message) = match &outcome.end {
        End::Synced => (TargetState::Synced, None, None),
        End::Held(reason @ (Reason::Suspended | Reason::NotEnforced), message)
        | End::Stuck(_, reason @ Reason::NotEnforced, message) => {
            (TargetState::Pending, Some(*reason), Some(message.clone()))
        }
        End::Throttled(_) => (TargetState::Pending, Some(Reason::Throttled), None),
        End::Held(reason, message) => (TargetState::Failed, Some(*reason), Some(message.clone())),
        End::Stuck(_, reason, message) => (TargetState::Failed, Some(blocked(*reason)), Some(message.clone())),
        End::Denied(denial) => (TargetState::Denied, Some(denial.leading()), None),
        End::Revoking(..) => (TargetState::Pending, Some(Reason::RevocationPending), None),
        End::Retained(denial) => (TargetState::Retained, Some(denial.leading()), None),
    };
    TargetStatus {
        namespace: outcome.target.namespace.to_string(),
        name: outcome.target.name.to_string(),
        state,
        reason: reason.map(|reason| reason.to_string()),
        message,
        last_written: outcome.written.map(Time),
    }
}

/// One entry for each mapping: refused if it is refused anywhere.
fn decisions(request: &Request, outcomes: &[Outcome]) -> Vec<DecisionStatus> {
    let mut decisions: BTreeMap<&str, DecisionStatus> = BTreeMap::new();
    for (i, mapping) in request.mappings.iter().enumerate() {
        let refusals = outcomes.iter().filter_map(|outcome| outcome.end.denial()?.reasons.get(i)?.first().copied());
        let reason = refusals.min();
        let policy = outcomes.iter().find_map(|outcome| outcome.granted_by.get(i)).map(ToString::to_string);
        let granted = reason.is_none() && !outcomes.is_empty();
        let decision = DecisionStatus {
            from: mapping.from.to_string(),
            to: mapping.to.to_string(),
            result: if granted { DecisionResult::Granted } else { DecisionResult::Refused },
            reason: reason.map(|reason| reason.to_string()),
            policy: policy.filter(|_| granted),
        };
        decisions.insert(mapping.to.as_str(), decision);
    }
    decisions.into_values().collect()
}
