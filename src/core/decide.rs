//! The decision: may this request write this Secret, of these sources, into this namespace, now?
//!
//! Invariants, each a property test in `tests/decision.rs`: nothing is granted by default; the order of
//! policies and rules decides nothing; another Allow never takes a grant away; another Deny never adds
//! one; a request is all or nothing for each destination.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

use super::{
    name::{NamespaceName, PolicyName, SecretType, SourceName, Target},
    policy::{Namespace, Policy, Revocation, Rule},
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

/// What else the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The instant of the decision.
    pub now: Timestamp,
    /// The destination is a system namespace or the operator's own.
    pub excluded: bool,
    /// The destination has as many older, granted distributions as this, and its quota is not larger.
    pub quota_full: Option<u32>,
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

/// Decides. `policies` are those that speak about the destination; more would change nothing.
pub fn decide<'p>(ask: Ask<'_>, policies: impl Iterator<Item = &'p Policy> + Clone, with: Circumstances) -> Decision {
    let policies = Applicable::of(ask.destination, policies, with.now);
    let verdicts: Vec<_> = ask.request.mappings.iter().map(|m| judge(ask, m, &policies, with.excluded)).collect();
    let refused = verdicts.iter().any(Result::is_err);
    if refused || with.quota_full.is_some() {
        let over_quota = |_| BTreeSet::from([Reason::QuotaExceeded]);
        let reasons = verdicts.into_iter().map(|v| match v {
            Ok(grant) if !refused => over_quota(grant),
            Ok(_) => BTreeSet::new(),
            Err(reasons) => reasons,
        });
        let quota = with.quota_full.filter(|_| !refused);
        return Decision::Denied(Denial { reasons: reasons.collect(), quota });
    }
    Decision::Permitted(permit(ask, verdicts.into_iter().flatten().collect()))
}

/// Whether policies grant the request, quotas aside.
pub fn is_granted<'p>(
    ask: Ask<'_>,
    policies: impl Iterator<Item = &'p Policy> + Clone,
    now: Timestamp,
    excluded: bool,
) -> bool {
    let policies = Applicable::of(ask.destination, policies, now);
    ask.request.mappings.iter().all(|mapping| judge(ask, mapping, &policies, excluded).is_ok())
}

/// The grant of one mapping.
struct Grant {
    policies: BTreeSet<PolicyName>,
    revocation: Revocation,
    adopt: bool,
}

/// The enforced policies that speak about a destination, by time.
struct Applicable<'p> {
    in_time: Vec<&'p Policy>,
    expired: Vec<&'p Policy>,
}

impl<'p> Applicable<'p> {
    fn of(destination: &Namespace, policies: impl Iterator<Item = &'p Policy>, now: Timestamp) -> Self {
        let speaks = |p: &&Policy| p.enforcement == Enforcement::Enforce && p.namespaces.contains(destination);
        let (expired, rest): (Vec<_>, Vec<_>) = policies.filter(speaks).partition(|p| p.is_expired(now));
        Self { in_time: rest.into_iter().filter(|p| p.is_in_time(now)).collect(), expired }
    }
}

fn judge(
    ask: Ask<'_>,
    mapping: &Mapping,
    policies: &Applicable<'_>,
    excluded: bool,
) -> Result<Grant, BTreeSet<Reason>> {
    if let Some(reason) = reserved(&ask.request.secret_type) {
        return Err(BTreeSet::from([reason]));
    }
    if policies.in_time.iter().any(|policy| policy.denies(ask, mapping)) {
        return Err(BTreeSet::from([Reason::DeniedByRule]));
    }
    let may_allow = |p: &&&Policy| !excluded || p.namespaces.names_literally(&ask.destination.name);
    let mut grant: Option<Grant> = None;
    for policy in policies.in_time.iter().filter(may_allow) {
        let mut allows = policy.rules_for(Effect::Allow).filter(|rule| rule.matches(ask, mapping)).peekable();
        if allows.peek().is_some() {
            let adopt = allows.any(|rule| rule.adopt);
            merge(&mut grant, policy, adopt);
        }
    }
    grant.ok_or_else(|| refusal(ask, mapping, policies, excluded))
}

fn reserved(secret_type: &SecretType) -> Option<Reason> {
    names::RESERVED_TYPES.contains(&secret_type.as_str()).then_some(Reason::ReservedType)
}

fn merge(grant: &mut Option<Grant>, policy: &Policy, adopt: bool) {
    let grant = grant.get_or_insert(Grant { policies: BTreeSet::new(), revocation: policy.revocation, adopt });
    grant.policies.insert(policy.name.clone());
    grant.revocation = grant.revocation.stricter(policy.revocation);
    grant.adopt |= adopt;
}

/// Why nothing grants the mapping. It looks at the rules that come closest: those that name the source.
fn refusal(ask: Ask<'_>, mapping: &Mapping, policies: &Applicable<'_>, excluded: bool) -> BTreeSet<Reason> {
    let may_allow = |p: &&&Policy| !excluded || p.namespaces.names_literally(&ask.destination.name);
    let mut reasons = BTreeSet::new();
    if policies.expired.iter().filter(may_allow).any(|policy| policy.allows(ask, mapping)) {
        reasons.insert(Reason::GrantExpired);
    }
    let in_time: Vec<_> = policies.in_time.iter().filter(may_allow).collect();
    if in_time.is_empty() {
        reasons.insert(if excluded { Reason::NamespaceExcluded } else { Reason::NoPolicyForNamespace });
        return reasons;
    }
    let rules = in_time.iter().flat_map(|policy| policy.rules_for(Effect::Allow));
    let close: Vec<_> = rules.filter(|rule| rule.has_source(mapping.from.as_str())).collect();
    if close.is_empty() {
        reasons.insert(Reason::SourceNotPermitted);
    }
    reasons.extend(close.into_iter().flat_map(|rule| mismatch(rule, ask, mapping)));
    reasons
}

/// In what a rule does not match the mapping.
pub fn mismatch(rule: &Rule, ask: Ask<'_>, mapping: &Mapping) -> Vec<Reason> {
    let request = ask.request;
    let checks = [
        (rule.has_source(mapping.from.as_str()), Reason::SourceNotPermitted),
        (rule.has_key(mapping.to.as_str()), Reason::KeyNotPermitted),
        (rule.has_type(&request.secret_type), Reason::TypeNotPermitted),
        (rule.has_secret_name(request.secret_name.as_str()), Reason::NameNotPermitted),
        (rule.has_requester(ask.requester, ask.destination), Reason::RequesterNotPermitted),
    ];
    checks.into_iter().filter(|(matches, _)| !matches).map(|(_, reason)| reason).collect()
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
    if !speaks || reserved(&ask.request.secret_type).is_some() {
        return Effects::Nothing;
    }
    let mut mappings = ask.request.mappings.iter();
    if mappings.clone().any(|mapping| policy.denies(ask, mapping)) {
        return Effects::Denies;
    }
    let may_allow = !excluded || policy.namespaces.names_literally(&ask.destination.name);
    if may_allow && mappings.any(|mapping| policy.allows(ask, mapping)) { Effects::Grants } else { Effects::Nothing }
}
