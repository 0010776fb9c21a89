//! What would help against a refusal, in the words of the objects. Each grant that is proposed has been tried: the
//! same decision is made once more, under the changed policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    answer::Done,
    proposal::{self, Proposal},
};
use crate::{
    api::{Effect, Enforcement, conditions::Reason},
    cli::view::View,
    core::{
        explain::{ExplainedMapping, Explanation, RuleRef, Time, Tried},
        name::PolicyName,
        policy::Policy,
        request::Request,
    },
};

/// For how long an expired grant is proposed to go on; whoever extends it decides.
const EXTENSION: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What would help, and who can do it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Fix {
    /// Who can do it.
    pub by: By,
    /// What it means.
    pub what: String,
    /// How it is done, if it can be said; one of apply, patches and run.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub how: Option<How>,
}

/// Who can do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum By {
    /// Who writes policies.
    PlatformTeam,
    /// An admin of the destination namespace.
    NamespaceAdmin,
    /// Who writes the request.
    AppTeam,
}

/// How something is done.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum How {
    /// This policy is applied.
    Apply(serde_json::Value),
    /// Policies are changed, all of these.
    Patches(Vec<Patch>),
    /// This command is run.
    Run(String),
}

/// A change of a policy.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Patch {
    /// Its name.
    pub policy: String,
    /// The operations of a JSON patch (RFC 6902).
    pub operations: Vec<Operation>,
}

/// An operation of a JSON patch.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Operation {
    /// What is done.
    pub op: Op,
    /// Where: a JSON pointer.
    pub path: String,
    /// The value.
    pub value: serde_json::Value,
}

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// An entry more.
    Add,
    /// Another value.
    Replace,
}

/// What would help against a refusal, the narrowest first; nothing if it is none.
pub fn of_refusal(view: &View, request: &Arc<Request>, refusal: &Explanation) -> Vec<Fix> {
    let of_all = |reason| refusal.mappings.iter().all(|mapping| mapping.reasons.contains(&reason));
    if of_all(Reason::PoliciesNotReady) {
        return Vec::new();
    }
    if of_all(Reason::ReservedType) {
        let what = format!("choose another spec.type: {} is reserved, no policy can grant it", request.secret_type);
        return vec![Fix { by: By::AppTeam, what, how: None }];
    }
    let denials = denials(refusal);
    match refusal.quota_full {
        Some(_) => vec![quota(view, request, refusal)],
        // Before what somebody denied is granted by somebody else, they should speak with each other.
        None if !denials.is_empty() => denials,
        None => grants(&Proposal { view, request, refusal }),
    }
}

/// The command that delegates, as the operator tells it: it knows its own ServiceAccount.
pub fn of_delegation(done: &Done) -> Option<Fix> {
    let because = [Reason::NotDelegated, Reason::RevocationBlocked].map(Reason::as_str);
    let is_missing = done.reason.as_deref().is_some_and(|reason| because.contains(&reason));
    let (_, command) = done.message.as_deref().filter(|_| is_missing)?.split_once("kubectl ")?;
    let what = "let the operator into the namespace".into();
    Some(Fix { by: By::NamespaceAdmin, what, how: Some(How::Run(format!("kubectl {command}"))) })
}

/// The Deny rules, which no grant overcomes.
fn denials(refusal: &Explanation) -> Vec<Fix> {
    let denying = refusal.mappings.iter().flat_map(|mapping| &mapping.rules).filter(|tried| tried.denies());
    let rules: BTreeSet<_> = denying.map(|tried| (tried.rule.policy.clone(), tried.rule.rule)).collect();
    let advice = |(policy, rule)| {
        let what = format!(
            "narrow spec.rules[{rule}] of policy {policy}, if that is right: a Deny wins over every Allow; else the \
             request must do without what it denies"
        );
        Fix { by: By::PlatformTeam, what, how: None }
    };
    rules.into_iter().map(advice).collect()
}

/// As many places as there are older requests, and one.
fn quota(view: &View, request: &Arc<Request>, refusal: &Explanation) -> Fix {
    let older = view.world.requests.claims_in(&refusal.namespace).take_while(|other| other.key != request.key);
    let holds = |other: &&Arc<Request>| view.world.explain(other, &refusal.namespace, view.at).is_granted();
    let needed = older.filter(holds).count() + 1;
    let namespace = view.world.policies.namespace_or_unknown(&refusal.namespace);
    let in_force = view.world.policies.speaking_about(&namespace).filter(|policy| {
        let too_few = policy.max_distributions.is_some_and(|most| (most as usize) < needed);
        too_few && policy.enforcement == Enforcement::Enforce && policy.is_in_time(view.at)
    });
    let raised = |policy: &Arc<Policy>| Patch {
        policy: policy.name.to_string(),
        operations: vec![replace("/spec/limits/distributions", needed)],
    };
    let what = format!("make room for {needed} distributions in namespace {}; or delete older ones", namespace.name);
    Fix { by: By::PlatformTeam, what, how: Some(How::Patches(in_force.map(raised).collect())) }
}

fn grants(proposal: &Proposal<'_>) -> Vec<Fix> {
    let missing: Vec<_> = proposal.refusal.mappings.iter().filter(|m| !m.rules.iter().any(Tried::allows)).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let widened = proposal::widened(proposal, &missing).filter(|patches| proposal.is_solved_by(patches));
    let only_here = |patch: &Patch| proposal.is_only_here(&patch.policy);
    let mut fixes = awakened(proposal, &missing);
    if let Some(patches) = widened.as_ref().filter(|patches| patches.iter().all(only_here)) {
        fixes.push(widening(proposal, patches));
        return fixes;
    }
    fixes.extend(new_policy(proposal, &missing));
    // For many namespaces only what is small: entries in several lists would grant each in combination with each.
    let is_small = |patches: &&Vec<Patch>| patches.iter().all(|patch| only_here(patch) || patch.operations.len() == 1);
    fixes.extend(widened.as_ref().filter(is_small).map(|patches| widening(proposal, patches)));
    fixes
}

fn widening(proposal: &Proposal<'_>, patches: &[Patch]) -> Fix {
    let told = |patch: &Patch| {
        let policy = &patch.policy;
        match (proposal.is_only_here(policy), proposal.reach(policy)) {
            (true, _) => policy.clone(),
            (false, 0 | 1) => format!("{policy}, which may come to speak about other namespaces as well"),
            (false, reach) => format!("{policy}, for all {reach} namespaces that it speaks about"),
        }
    };
    let what = format!("widen policy {}", patches.iter().map(told).collect::<Vec<_>>().join("; and "));
    Fix { by: By::PlatformTeam, what, how: Some(How::Patches(patches.to_vec())) }
}

/// Policies that would grant it all, were they in force.
fn awakened(proposal: &Proposal<'_>, missing: &[&ExplainedMapping]) -> Vec<Fix> {
    let asleep = |tried: &&Tried| tried.mismatches.is_empty() && tried.effect == Effect::Allow;
    let mut candidates: BTreeMap<&PolicyName, &Tried> = BTreeMap::new();
    for tried in missing.iter().flat_map(|mapping| &mapping.rules).filter(asleep) {
        candidates.entry(&tried.rule.policy).or_insert(tried);
    }
    let fixes = candidates.values().filter_map(|tried| awakening(proposal, tried));
    fixes.filter(|fix| matches!(&fix.how, Some(How::Patches(patches)) if proposal.is_solved_by(patches))).collect()
}

fn awakening(proposal: &Proposal<'_>, tried: &Tried) -> Option<Fix> {
    let RuleRef { policy, .. } = &tried.rule;
    let (at, spec) = (proposal.view.at, &proposal.view.policies.get(policy)?.spec);
    let mut operations = Vec::new();
    let mut what = Vec::new();
    if tried.enforcement == Enforcement::Audit {
        operations.push(replace("/spec/enforcement", "Enforce"));
        what.push("take it out of Audit".to_string());
    }
    match tried.time {
        Time::InForce => {}
        Time::Pending => {
            operations.push(replace("/spec/notBefore", at.to_string()));
            what.push(format!("wait until {}, or let it begin now", spec.not_before.as_ref()?.0));
        }
        Time::Expired => {
            let end = at.checked_add(EXTENSION).ok()?;
            operations.push(replace("/spec/notAfter", end.to_string()));
            what.push(format!("extend it, for instance until {end}: it expired at {}", spec.not_after.as_ref()?.0));
        }
    }
    let what = format!("policy {policy} grants it: {}", what.join(", and "));
    let how = How::Patches(vec![Patch { policy: policy.to_string(), operations }]);
    Some(Fix { by: By::PlatformTeam, what, how: Some(how) })
}

fn new_policy(proposal: &Proposal<'_>, missing: &[&ExplainedMapping]) -> Option<Fix> {
    let policy = proposal::exact(proposal, missing);
    let what = "grant exactly this, by a policy of its own".into();
    let how = Some(How::Apply(proposal::manifest(&policy)));
    proposal.is_solved_with(&policy).then_some(Fix { by: By::PlatformTeam, what, how })
}

fn replace(path: &str, value: impl Into<serde_json::Value>) -> Operation {
    Operation { op: Op::Replace, path: path.into(), value: value.into() }
}
