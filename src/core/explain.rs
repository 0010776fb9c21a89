//! Why a request is granted or not in one destination, rule by rule.
//!
//! For the platform team: it names policies that grant nothing. A tenant is told [`super::outcome::explain`].
//!
//! It walks every rule of every policy that speaks about the destination, where [`super::decide`] stops as soon as
//! the answer is known; a property test holds the two together.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    decide::{Ask, mismatch},
    index::World,
    name::{NamespaceName, PolicyName, SecretKey, SourceName},
    policy::{Policy, Rule},
    request::{Mapping, Request},
};
use crate::api::{Effect, Enforcement, conditions::Reason, names};

/// A request in one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The destination.
    pub namespace: NamespaceName,
    /// Whether the Secret may be written there.
    pub permitted: bool,
    /// The quota of the destination, if older requests fill it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_full: Option<u32>,
    /// Each mapping, in the order of the request.
    pub mappings: Vec<ExplainedMapping>,
}

/// One mapping of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedMapping {
    /// Its source.
    pub from: SourceName,
    /// Its key.
    pub to: SecretKey,
    /// The Allow rules that grant it; none if it is refused.
    pub granted_by: Vec<RuleRef>,
    /// Why it is refused, the most important reason first.
    pub reasons: BTreeSet<Reason>,
    /// Every rule of the policies that speak about the destination, and what became of it.
    pub rules: Vec<Tried>,
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleRef {
    /// The policy.
    pub policy: PolicyName,
    /// The rule: its place in `spec.rules`, counted from 0.
    pub rule: usize,
}

/// A rule that was tried on a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// Which rule.
    #[serde(flatten)]
    pub rule: RuleRef,
    /// Allow or Deny.
    pub effect: Effect,
    /// A rule of a policy in Audit grants and denies nothing.
    pub enforcement: Enforcement,
    /// Where `now` lies in the time of its policy.
    pub time: Time,
    /// In what it does not match; it matches if there is nothing.
    pub mismatches: BTreeSet<Reason>,
}

/// Where an instant lies in the time of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Time {
    /// Before `notBefore`.
    Pending,
    /// In between.
    InForce,
    /// `notAfter`, or later.
    Expired,
}

impl Explanation {
    /// Whether policies grant every mapping, quotas aside.
    pub fn is_granted(&self) -> bool {
        let full = self.quota_full.map(|_| Reason::QuotaExceeded);
        self.mappings.iter().all(|mapping| mapping.reasons.iter().all(|reason| Some(*reason) == full))
    }
}

impl Tried {
    /// Whether it is a Deny that matches and counts.
    pub fn denies(&self) -> bool {
        self.counts(Effect::Deny, Time::InForce)
    }

    /// Whether it is an Allow that matches and counts.
    pub fn allows(&self) -> bool {
        self.counts(Effect::Allow, Time::InForce)
    }

    /// Whether it matches, decides, and has that effect.
    fn counts(&self, effect: Effect, time: Time) -> bool {
        self.is_enforced(effect, time) && self.mismatches.is_empty()
    }

    fn is_enforced(&self, effect: Effect, time: Time) -> bool {
        self.effect == effect && self.enforcement == Enforcement::Enforce && self.time == time
    }
}

impl World {
    /// Explains the decision about a request in one destination.
    pub fn explain(&self, request: &Arc<Request>, destination: &NamespaceName, now: Timestamp) -> Explanation {
        let destination = self.policies.namespace_or_unknown(destination);
        let requester = self.policies.namespace_or_unknown(&request.key.namespace);
        let ask = Ask { request, requester: &requester, destination: &destination };
        let policies = self.policies.speaking_about(&destination).map(AsRef::as_ref).collect();
        let walk = Walk { ask, policies, excluded: self.is_excluded(&destination.name), now };
        let mut mappings: Vec<_> = request.mappings.iter().map(|mapping| walk.explain(mapping)).collect();
        let granted = mappings.iter().all(|mapping| mapping.reasons.is_empty());
        let quota_full = self.full_quota(ask, &self.applicable(&destination, now)).filter(|_| granted);
        let against_all = match (self.is_ready(), quota_full) {
            (false, _) => Some(Reason::PoliciesNotReady),
            (true, full) => full.map(|_| Reason::QuotaExceeded),
        };
        mappings.iter_mut().for_each(|mapping| mapping.reasons.extend(against_all));
        let permitted = granted && against_all.is_none();
        Explanation { namespace: destination.name.clone(), permitted, quota_full, mappings }
    }
}

/// What is the same for each mapping.
struct Walk<'a> {
    ask: Ask<'a>,
    /// Those that speak about the destination, enforced or not, in their time or not.
    policies: Vec<&'a Policy>,
    excluded: bool,
    now: Timestamp,
}

impl Walk<'_> {
    fn explain(&self, mapping: &Mapping) -> ExplainedMapping {
        let rules_of = |policy: &&Policy| {
            let tried = |(index, rule)| self.try_rule(mapping, policy, index, rule);
            policy.rules.iter().enumerate().map(tried).collect::<Vec<_>>()
        };
        let rules: Vec<_> = self.policies.iter().flat_map(rules_of).collect();
        let reasons = self.reasons(&rules);
        let allows = rules.iter().filter(|tried| tried.counts(Effect::Allow, Time::InForce) && reasons.is_empty());
        let granted_by = allows.map(|tried| tried.rule.clone()).collect();
        ExplainedMapping { from: mapping.from.clone(), to: mapping.to.clone(), granted_by, reasons, rules }
    }

    fn try_rule(&self, mapping: &Mapping, policy: &Policy, index: usize, rule: &Rule) -> Tried {
        let closed = rule.effect == Effect::Allow && !self.is_open_to(policy);
        Tried {
            rule: RuleRef { policy: policy.name.clone(), rule: index },
            effect: rule.effect,
            enforcement: policy.enforcement,
            time: self.time_of(policy),
            mismatches: mismatch(rule, self.ask, mapping).chain(closed.then_some(Reason::NamespaceExcluded)).collect(),
        }
    }

    fn time_of(&self, policy: &Policy) -> Time {
        match (policy.has_begun(self.now), policy.is_expired(self.now)) {
            (false, _) => Time::Pending,
            (true, false) => Time::InForce,
            (true, true) => Time::Expired,
        }
    }

    /// An excluded namespace is open to a policy that names it literally, and to no other.
    fn is_open_to(&self, policy: &Policy) -> bool {
        !self.excluded || policy.namespaces.names_literally(&self.ask.destination.name)
    }

    /// Why a mapping is refused; nothing if it is granted.
    fn reasons(&self, rules: &[Tried]) -> BTreeSet<Reason> {
        if names::RESERVED_TYPES.contains(&self.ask.request.secret_type.as_str()) {
            return BTreeSet::from([Reason::ReservedType]);
        }
        let any = |effect, time| rules.iter().any(|tried| tried.counts(effect, time));
        let mut reasons = BTreeSet::new();
        if any(Effect::Deny, Time::InForce) {
            reasons.insert(Reason::DeniedByRule);
        }
        if any(Effect::Allow, Time::InForce) {
            return reasons;
        }
        if any(Effect::Allow, Time::Expired) {
            reasons.insert(Reason::GrantExpired);
        }
        let in_force =
            |policy: &&&Policy| policy.enforcement == Enforcement::Enforce && self.time_of(policy) == Time::InForce;
        let heard = self.policies.iter().filter(in_force).any(|policy| self.is_open_to(policy));
        match (heard, self.excluded) {
            (true, _) => reasons.extend(shortfalls(rules)),
            (false, true) => reasons.extend([Reason::NamespaceExcluded]),
            (false, false) => reasons.extend([Reason::NoPolicyForNamespace]),
        }
        reasons
    }
}

/// What the Allow rules lack that come closest: those that name the source.
fn shortfalls(rules: &[Tried]) -> BTreeSet<Reason> {
    let far = |tried: &&Tried| {
        [Reason::NamespaceExcluded, Reason::SourceNotPermitted].iter().any(|reason| tried.mismatches.contains(reason))
    };
    let allows = rules.iter().filter(|tried| tried.is_enforced(Effect::Allow, Time::InForce));
    let shortfalls: BTreeSet<_> = allows.filter(|tried| !far(tried)).flat_map(|t| &t.mismatches).copied().collect();
    if shortfalls.is_empty() { BTreeSet::from([Reason::SourceNotPermitted]) } else { shortfalls }
}
