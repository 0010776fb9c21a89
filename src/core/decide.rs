//! The decision: may this request write this Secret, of these sources, into this namespace, now?
//!
//! Invariants, each a property test in `tests/decision/`: nothing is granted by default; the order of
//! policies and rules decides nothing; quotas aside, another Allow never takes a grant away and another
//! Deny never adds one; a request is all or nothing for each destination.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    name::{NamespaceName, PolicyName, SecretType, SourceName, Target},
    policy::{Namespace, Policy, Rate, Revocation, Rule},
    request::{Mapping, Request},
};
use crate::api::{Effect, Enforcement, conditions::Reason, names};

/// A request and one destination of it.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is asked.
    pub request: &'a Arc<Request>,
    /// The namespace of the request.
    pub requester: &'a Namespace,
    /// The namespace the Secret would be written to.
    pub destination: &'a Namespace,
}

/// The enforced policies that speak about a destination, by time.
#[derive(Clone, Debug)]
pub struct Applicable<'p> {
    in_time: Vec<&'p Policy>,
    expired: Vec<&'p Policy>,
    /// The destination is a system namespace or the operator's own.
    excluded: bool,
}

impl<'p> Applicable<'p> {
    /// Those of `policies` that apply to the destination at the instant `now`.
    pub fn to(
        destination: &Namespace,
        excluded: bool,
        policies: impl Iterator<Item = &'p Policy>,
        now: Timestamp,
    ) -> Self {
        let speaks = |p: &&Policy| p.enforcement == Enforcement::Enforce && p.namespaces.contains(destination);
        let begun = |p: &&Policy| p.has_begun(now);
        let (expired, in_time) = policies.filter(speaks).filter(begun).partition(|p| p.is_expired(now));
        Self { in_time, expired, excluded }
    }

    /// The smallest quota of distributions.
    pub fn quota(&self) -> Option<u32> {
        self.in_time.iter().filter_map(|policy| policy.max_distributions).min()
    }

    /// The strictest rate limit.
    pub fn rate(&self) -> Option<Rate> {
        self.in_time.iter().filter_map(|policy| policy.rate).reduce(Rate::stricter)
    }

    /// Whether they grant the request, quotas aside.
    pub fn grant(&self, ask: Ask<'_>) -> bool {
        let allowed = |mapping: &Mapping| self.allowing(ask).any(|policy| policy.allows(ask, mapping));
        let granted = |mapping: &Mapping| !self.deny(ask, mapping) && allowed(mapping);
        !is_reserved(&ask.request.secret_type) && ask.request.mappings.iter().all(granted)
    }

    /// The policies whose Allow rules count.
    fn allowing(&self, ask: Ask<'_>) -> impl Iterator<Item = &'p Policy> {
        self.in_time.iter().copied().filter(move |policy| self.may_allow(policy, ask))
    }

    /// An excluded namespace is opened by a policy that names it literally, and by no other.
    fn may_allow(&self, policy: &Policy, ask: Ask<'_>) -> bool {
        !self.excluded || policy.namespaces.names_literally(&ask.destination.name)
    }

    fn deny(&self, ask: Ask<'_>, mapping: &Mapping) -> bool {
        self.in_time.iter().any(|policy| policy.denies(ask, mapping))
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Every mapping is granted.
    Permitted(Permit),
    /// At least one mapping is refused: no byte is written.
    Denied(Denial),
    /// Not everything has been read yet: nothing is granted, and nothing is revoked or deleted either.
    Unready,
}

/// The right to write one Secret. Only [`decide`] can make one, and every write demands one.
#[derive(Clone, Debug)]
pub struct Permit {
    request: Arc<Request>,
    destination: NamespaceName,
    granted: Vec<BTreeSet<PolicyName>>,
    revocation: Revocation,
    adopt: bool,
}

impl Permit {
    /// The request it was given for.
    pub fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// The Secret it allows to write.
    pub fn target(&self) -> Target {
        self.request.target(&self.destination)
    }

    /// The sources it allows to read.
    pub fn sources(&self) -> BTreeSet<SourceName> {
        self.request.mappings.iter().map(|mapping| mapping.from.clone()).collect()
    }

    /// The policies that grant each mapping, in the order of the request's mappings.
    pub fn granted(&self) -> &[BTreeSet<PolicyName>] {
        &self.granted
    }

    /// The first of the policies that grant each mapping.
    pub fn leading_policies(&self) -> Vec<PolicyName> {
        self.granted.iter().filter_map(|policies| policies.first().cloned()).collect()
    }

    /// What shall happen when the grant goes.
    pub fn revocation(&self) -> Revocation {
        self.revocation
    }

    /// Whether it includes the takeover of an unowned Secret: asked for, and granted for every mapping.
    pub fn allows_adoption(&self) -> bool {
        self.adopt
    }
}

/// A refusal: what is refused and why, for each mapping of the request and in its order. Empty reasons:
/// that mapping alone would have been granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reasons against each mapping, sorted by importance.
    pub reasons: Vec<BTreeSet<Reason>>,
    /// The quota, if that is what refuses.
    pub quota: Option<u32>,
}

impl Denial {
    /// The most important reason.
    pub fn leading(&self) -> Reason {
        self.reasons.iter().flatten().min().copied().unwrap_or(Reason::NoPolicyForNamespace)
    }
}

/// Decides. `quota_full` is the quota of the destination, if older requests that are granted fill it.
pub fn decide(ask: Ask<'_>, policies: &Applicable<'_>, quota_full: Option<u32>) -> Decision {
    let verdicts: Vec<_> = ask.request.mappings.iter().map(|mapping| judge(ask, mapping, policies)).collect();
    let refused = verdicts.iter().any(Result::is_err);
    let quota = quota_full.filter(|_| !refused);
    if !refused && quota.is_none() {
        return Decision::Permitted(permit(ask, verdicts.into_iter().flatten().collect()));
    }
    let over_quota: BTreeSet<_> = quota.map(|_| Reason::QuotaExceeded).into_iter().collect();
    let reasons = verdicts.into_iter().map(|verdict| verdict.err().unwrap_or_else(|| over_quota.clone()));
    Decision::Denied(Denial { reasons: reasons.collect(), quota })
}

/// The grant of one mapping.
struct Grant {
    policies: BTreeSet<PolicyName>,
    revocation: Revocation,
    adopt: bool,
}

fn judge(ask: Ask<'_>, mapping: &Mapping, policies: &Applicable<'_>) -> Result<Grant, BTreeSet<Reason>> {
    if is_reserved(&ask.request.secret_type) {
        return Err(BTreeSet::from([Reason::ReservedType]));
    }
    let granted = granted(ask, mapping, policies).ok_or_else(|| refusal(ask, mapping, policies));
    if !policies.deny(ask, mapping) {
        return granted;
    }
    let mut reasons = granted.err().unwrap_or_default();
    reasons.insert(Reason::DeniedByRule);
    Err(reasons)
}

fn is_reserved(secret_type: &SecretType) -> bool {
    names::RESERVED_TYPES.contains(&secret_type.as_str())
}

/// What the Allow rules grant together.
fn granted(ask: Ask<'_>, mapping: &Mapping, policies: &Applicable<'_>) -> Option<Grant> {
    let mut grant: Option<Grant> = None;
    for policy in policies.allowing(ask) {
        let mut allows = policy.rules_for(Effect::Allow).filter(|rule| rule.matches(ask, mapping)).peekable();
        if allows.peek().is_some() {
            let adopt = allows.any(|rule| rule.adopt);
            merge(&mut grant, policy, adopt);
        }
    }
    grant
}

fn merge(grant: &mut Option<Grant>, policy: &Policy, adopt: bool) {
    let grant = grant.get_or_insert(Grant { policies: BTreeSet::new(), revocation: policy.revocation, adopt });
    grant.policies.insert(policy.name.clone());
    grant.revocation = grant.revocation.stricter(policy.revocation);
    grant.adopt |= adopt;
}

/// Why nothing grants the mapping. It looks at the rules that come closest: those that name the source.
fn refusal(ask: Ask<'_>, mapping: &Mapping, policies: &Applicable<'_>) -> BTreeSet<Reason> {
    let mut reasons = BTreeSet::new();
    let mut expired = policies.expired.iter().filter(|policy| policies.may_allow(policy, ask));
    if expired.any(|policy| policy.allows(ask, mapping)) {
        reasons.insert(Reason::GrantExpired);
    }
    if policies.allowing(ask).next().is_none() {
        reasons.insert(if policies.excluded { Reason::NamespaceExcluded } else { Reason::NoPolicyForNamespace });
        return reasons;
    }
    let rules = policies.allowing(ask).flat_map(|policy| policy.rules_for(Effect::Allow));
    let mut close = rules.filter(|rule| rule.has_source(mapping.from.as_str())).peekable();
    if close.peek().is_none() {
        reasons.insert(Reason::SourceNotPermitted);
    }
    reasons.extend(close.flat_map(|rule| mismatch(rule, ask, mapping)));
    reasons
}

/// In what a rule does not match the mapping.
pub fn mismatch(rule: &Rule, ask: Ask<'_>, mapping: &Mapping) -> impl Iterator<Item = Reason> + use<> {
    let request = ask.request;
    let checks = [
        (rule.has_source(mapping.from.as_str()), Reason::SourceNotPermitted),
        (rule.has_key(mapping.to.as_str()), Reason::KeyNotPermitted),
        (rule.has_type(&request.secret_type), Reason::TypeNotPermitted),
        (rule.has_secret_name(request.secret_name.as_str()), Reason::NameNotPermitted),
        (rule.has_requester(ask.requester, ask.destination), Reason::RequesterNotPermitted),
    ];
    checks.into_iter().filter(|(matches, _)| !matches).map(|(_, reason)| reason)
}

impl Rule {
    fn matches(&self, ask: Ask<'_>, mapping: &Mapping) -> bool {
        self.has_source(mapping.from.as_str())
            && self.has_key(mapping.to.as_str())
            && self.has_type(&ask.request.secret_type)
            && self.has_secret_name(ask.request.secret_name.as_str())
            && self.has_requester(ask.requester, ask.destination)
    }
}

impl Policy {
    fn rules_for(&self, effect: Effect) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| rule.effect == effect)
    }

    fn allows(&self, ask: Ask<'_>, mapping: &Mapping) -> bool {
        self.rules_for(Effect::Allow).any(|rule| rule.matches(ask, mapping))
    }

    fn denies(&self, ask: Ask<'_>, mapping: &Mapping) -> bool {
        self.rules_for(Effect::Deny).any(|rule| rule.matches(ask, mapping))
    }
}

fn permit(ask: Ask<'_>, grants: Vec<Grant>) -> Permit {
    let revocation = grants.iter().map(|grant| grant.revocation).reduce(Revocation::stricter);
    Permit {
        request: ask.request.clone(),
        destination: ask.destination.name.clone(),
        adopt: ask.request.adopt && grants.iter().all(|grant| grant.adopt),
        // A request without a mapping cannot be parsed, so there is a grant; Delete is the stricter default.
        revocation: revocation.unwrap_or(Revocation::Delete(jiff::SignedDuration::ZERO)),
        granted: grants.into_iter().map(|grant| grant.policies).collect(),
    }
}

/// What an audited policy would do to a request in a destination, if it were the only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effects {
    /// An Allow of it matches every mapping, or it is one of several that do.
    Grants,
    /// A Deny of it matches a mapping.
    Denies,
    /// Neither.
    Nothing,
}

/// What the policy by itself says about a request: for its status, and for policies in Audit.
pub fn effects(ask: Ask<'_>, policy: &Policy, now: Timestamp, excluded: bool) -> Effects {
    let speaks = policy.is_in_time(now) && policy.namespaces.contains(ask.destination);
    if !speaks || is_reserved(&ask.request.secret_type) {
        return Effects::Nothing;
    }
    let mut mappings = ask.request.mappings.iter();
    if mappings.clone().any(|mapping| policy.denies(ask, mapping)) {
        return Effects::Denies;
    }
    let may_allow = !excluded || policy.namespaces.names_literally(&ask.destination.name);
    if may_allow && mappings.any(|mapping| policy.allows(ask, mapping)) { Effects::Grants } else { Effects::Nothing }
}
