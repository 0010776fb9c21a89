//! The world as it was read: policies, namespaces, requests and Secrets, and what a change of one means
//! for the others.
//!
//! A plain struct: the shell feeds it, each mutator answers which requests must be looked at again.

mod hints;
mod policies;
mod requests;
mod secrets;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;

pub use hints::LastSeen;
pub use policies::{Compiled, PolicyIndex};
pub use requests::{Origin, RequestIndex, Stored};
pub use secrets::{Census, Delegation, SecretIndex, SecretState};

use super::{
    decide::{self, Applicable, Ask, Decision, Effects},
    name::{NamespaceName, PolicyName, RequestKey, SourceName, Target},
    observed::Observed,
    policy::{Namespace, Policy, Rate},
    request::Request,
};
use crate::api::names;

/// What must have been read before anything is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Every `DistributionPolicy`.
    Policies,
    /// Every namespace.
    Namespaces,
    /// Every `SecretsDistribution`: quotas and conflicts depend on all of them.
    Requests,
}

impl Gate {
    /// Every gate.
    pub const ALL: [Gate; 3] = [Gate::Policies, Gate::Namespaces, Gate::Requests];

    /// The name of the gate in `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::Namespaces => "namespaces",
            Self::Requests => "requests",
        }
    }
}

/// Everything that was read.
#[derive(Debug)]
pub struct World {
    /// Policies and namespaces.
    pub policies: PolicyIndex,
    /// Requests and their claims.
    pub requests: RequestIndex,
    /// Secrets with our label.
    pub secrets: SecretIndex,
    excluded: BTreeSet<NamespaceName>,
    closed: BTreeSet<Gate>,
}

impl World {
    /// An empty world, of which nothing has been read: whatever is asked, the answer is `Unready`.
    pub fn new(operator_namespace: NamespaceName) -> Self {
        let system = names::SYSTEM_NAMESPACES.iter().filter_map(|name| NamespaceName::parse(name).ok());
        Self {
            policies: PolicyIndex::default(),
            requests: RequestIndex::default(),
            secrets: SecretIndex::default(),
            excluded: system.chain([operator_namespace]).collect(),
            closed: BTreeSet::from(Gate::ALL),
        }
    }

    /// All of one kind has been read. Once the last gate opens, answers with every request, and with every one
    /// that a Secret was written for.
    pub fn open(&mut self, gate: Gate) -> BTreeSet<RequestKey> {
        match self.closed.remove(&gate) && self.is_ready() {
            true => self.every_key(),
            false => BTreeSet::new(),
        }
    }

    /// Every request, and every one that a Secret was written for, whether it exists or not.
    pub fn every_key(&self) -> BTreeSet<RequestKey> {
        self.requests.keys().chain(self.secrets.recorded_keys()).cloned().collect()
    }

    /// Whether everything has been read that a decision needs.
    pub fn is_ready(&self) -> bool {
        self.closed.is_empty()
    }

    /// Takes in a policy.
    pub fn apply_policy(&mut self, name: PolicyName, policy: Compiled) -> BTreeSet<RequestKey> {
        if self.policies.policy(&name) == Some(&policy) {
            return BTreeSet::new();
        }
        let mut touched = self.subject_to(&name);
        self.policies.apply_policy(name.clone(), policy);
        touched.extend(self.subject_to(&name));
        touched
    }

    /// Forgets a policy.
    pub fn delete_policy(&mut self, name: &PolicyName) -> BTreeSet<RequestKey> {
        let touched = self.subject_to(name);
        self.policies.delete_policy(name);
        touched
    }

    /// Takes in a namespace.
    pub fn apply_namespace(&mut self, namespace: Namespace) -> BTreeSet<RequestKey> {
        let name = namespace.name.clone();
        match self.policies.apply_namespace(namespace) {
            true => self.namespace_changed(&name),
            false => BTreeSet::new(),
        }
    }

    /// Forgets a namespace and all that was seen in it.
    pub fn delete_namespace(&mut self, name: &NamespaceName) -> BTreeSet<RequestKey> {
        let mut touched = self.interested_in(name);
        self.secrets.forget_namespace(name);
        if self.policies.delete_namespace(name) {
            touched.extend(self.namespace_changed(name));
        }
        touched
    }

    /// Takes in a request.
    pub fn apply_request(&mut self, key: RequestKey, stored: Stored) -> BTreeSet<RequestKey> {
        self.requests.apply(key, stored, &self.policies)
    }

    /// Forgets a request.
    pub fn delete_request(&mut self, key: &RequestKey) -> BTreeSet<RequestKey> {
        self.requests.delete(key, &self.policies)
    }

    /// Takes in a Secret with our label.
    pub fn apply_secret(&mut self, target: &Target, observed: Observed) -> BTreeSet<RequestKey> {
        let Some(mut touched) = self.secrets.apply(target, observed) else { return BTreeSet::new() };
        touched.extend(self.rivals(target));
        touched
    }

    /// Forgets a Secret.
    pub fn delete_secret(&mut self, target: &Target) -> BTreeSet<RequestKey> {
        let mut touched = self.secrets.delete(target);
        touched.extend(self.rivals(target));
        touched
    }

    /// Takes in what a look at a target has found. A Secret without our label is as good as none, as it is to a watch.
    pub fn looked_at(&mut self, target: &Target, found: Option<Observed>) -> BTreeSet<RequestKey> {
        match found.filter(|observed| observed.owner().is_some()) {
            Some(observed) => self.apply_secret(target, observed),
            None if self.secrets.knows(target) => self.delete_secret(target),
            None => BTreeSet::new(),
        }
    }

    /// Takes in where Secrets of ours may be that no request claims.
    pub fn expect_secrets(&mut self, told: impl IntoIterator<Item = Target>) {
        for target in told {
            if self.requests.rivals(&target).next().is_none() {
                self.secrets.hint(target, None);
            }
        }
    }

    /// Whether a request wants to write into a namespace.
    pub fn is_wanted(&self, namespace: &NamespaceName) -> bool {
        self.requests.claims_in(namespace).next().is_some()
    }

    /// Whether somebody waits until it is known what is in a namespace: a request wants a Secret there, or has left one.
    pub fn is_awaited(&self, namespace: &NamespaceName) -> bool {
        self.is_wanted(namespace) || self.secrets.hints(namespace).next().is_some()
    }

    /// Where in a namespace a Secret of ours may be, or shall be.
    pub fn places_in(&self, namespace: &NamespaceName) -> BTreeSet<Target> {
        let claimed = self.requests.claims_in(namespace).map(|request| request.target(namespace));
        let hinted = self.secrets.hints(namespace).cloned();
        claimed.chain(hinted).chain(self.secrets.targets_in(namespace)).collect()
    }

    /// A namespace was delegated, or is not any more.
    pub fn set_delegation(&mut self, namespace: &NamespaceName, delegation: Delegation) -> BTreeSet<RequestKey> {
        let touched = self.interested_in(namespace);
        match self.secrets.set_delegation(namespace, delegation) {
            true => touched,
            false => BTreeSet::new(),
        }
    }

    /// The requests that use one of the sources.
    pub fn using(&self, sources: &BTreeSet<SourceName>) -> BTreeSet<RequestKey> {
        sources.iter().flat_map(|source| self.requests.using(source)).cloned().collect()
    }

    /// Decides about a request in one destination.
    pub fn decide(&self, request: &Arc<Request>, destination: &NamespaceName, now: Timestamp) -> Decision {
        self.decide_within(request, destination, now, Self::full_quota)
    }

    /// Decides about a Secret that a request has left behind. It takes no place in the quota, so that none can push
    /// it out: a quota bounds what is asked for, and this is not asked for any more.
    pub(super) fn decide_about_left(
        &self,
        request: &Arc<Request>,
        destination: &NamespaceName,
        now: Timestamp,
    ) -> Decision {
        self.decide_within(request, destination, now, |_, _, _| None)
    }

    fn decide_within(
        &self,
        request: &Arc<Request>,
        destination: &NamespaceName,
        now: Timestamp,
        full_quota: impl Fn(&Self, Ask<'_>, &Applicable<'_>) -> Option<u32>,
    ) -> Decision {
        if !self.is_ready() {
            return Decision::Unready;
        }
        let destination = self.policies.namespace_or_unknown(destination);
        let requester = self.policies.namespace_or_unknown(&request.key.namespace);
        let policies = self.applicable(&destination, now);
        let ask = Ask { request, requester: &requester, destination: &destination };
        decide::decide(ask, &policies, full_quota(self, ask, &policies))
    }

    /// The older request that writes the target, if there is one: only granted requests count, so that a
    /// request that nobody grants cannot occupy a name.
    pub fn senior(&self, request: &Request, target: &Target, now: Timestamp) -> Option<RequestKey> {
        let older = self.requests.rivals(target).take_while(|rival| rival.key != request.key);
        let mut writing = older.filter(|rival| !rival.deleting);
        writing
            .find(|rival| matches!(self.decide(rival, &target.namespace, now), Decision::Permitted(_)))
            .map(|r| r.key.clone())
    }

    /// The next instant at which a policy that speaks about the destination comes into force or leaves it.
    pub fn next_change(&self, destination: &NamespaceName, now: Timestamp) -> Option<Timestamp> {
        let destination = self.policies.namespace_or_unknown(destination);
        self.policies.speaking_about(&destination).filter_map(|policy| policy.next_change(now)).min()
    }

    /// The next instant at which any policy comes into force or leaves it.
    pub fn next_policy_change(&self, now: Timestamp) -> Option<Timestamp> {
        let compiled = self.policies.policies().filter_map(|(_, policy)| policy.as_ref().ok());
        compiled.filter_map(|policy| policy.next_change(now)).min()
    }

    /// The destinations of a request that are not known to have delegated their Secrets.
    pub fn undelegated_destinations(&self, key: &RequestKey) -> Vec<NamespaceName> {
        let destinations = self.requests.destinations(key).map(|(namespace, _)| namespace);
        destinations.filter(|ns| self.secrets.delegation(ns) != Delegation::Granted).cloned().collect()
    }

    /// How fast Secrets may be written into a destination, if policies say so.
    pub fn rate(&self, destination: &NamespaceName, now: Timestamp) -> Option<Rate> {
        self.applicable(&self.policies.namespace_or_unknown(destination), now).rate()
    }

    /// How many namespaces a policy speaks about, and how many Secrets it grants and denies by itself.
    pub fn footprint(&self, policy: &Policy, now: Timestamp) -> Footprint {
        let mut footprint = Footprint::default();
        for namespace in self.policies.namespaces().filter(|namespace| policy.namespaces.contains(namespace)) {
            footprint.namespaces += 1;
            let excluded = self.is_excluded(&namespace.name);
            for request in self.requests.claims_in(&namespace.name) {
                let requester = self.policies.namespace_or_unknown(&request.key.namespace);
                let ask = Ask { request, requester: &requester, destination: namespace };
                match decide::effects(ask, policy, now, excluded) {
                    Effects::Grants => footprint.granted += 1,
                    Effects::Denies => footprint.denied += 1,
                    Effects::Nothing => {}
                }
            }
        }
        footprint
    }

    /// Whether a namespace receives nothing unless a policy names it literally.
    pub fn is_excluded(&self, namespace: &NamespaceName) -> bool {
        self.excluded.contains(namespace)
    }

    pub(super) fn applicable(&self, destination: &Namespace, now: Timestamp) -> Applicable<'_> {
        let excluded = self.is_excluded(&destination.name);
        let speaking = self.policies.speaking_about(destination).map(AsRef::as_ref);
        Applicable::to(destination, excluded, speaking, now)
    }

    /// The quota of the destination, if older requests that are granted fill it.
    pub(super) fn full_quota(&self, ask: Ask<'_>, policies: &Applicable<'_>) -> Option<u32> {
        let limit = policies.quota()?;
        let claims = self.requests.claims_in(&ask.destination.name);
        let granted = claims.take_while(|other| other.key != ask.request.key).filter(|other| {
            let requester = self.policies.namespace_or_unknown(&other.key.namespace);
            policies.grant(Ask { request: other, requester: &requester, ..ask })
        });
        (granted.take(limit as usize).count() == limit as usize).then_some(limit)
    }

    /// A namespace came, went, or has other labels: as a requester, as a destination, as a place where Secrets are.
    fn namespace_changed(&mut self, name: &NamespaceName) -> BTreeSet<RequestKey> {
        let mut touched = self.requests.namespace_changed(&self.policies);
        touched.extend(self.requests.depending_on(name, &self.policies));
        touched.extend(self.interested_in(name));
        touched
    }

    /// The requests that want to write into a namespace, or for which something was written there.
    fn interested_in(&self, namespace: &NamespaceName) -> BTreeSet<RequestKey> {
        let recorded = self.secrets.recorded_where(|name| name == namespace);
        self.requests.claims_in(namespace).map(|request| &request.key).chain(recorded).cloned().collect()
    }

    /// The same for every namespace that a policy speaks about, also for those that do not exist (yet).
    fn subject_to(&self, policy: &PolicyName) -> BTreeSet<RequestKey> {
        let Some(Ok(policy)) = self.policies.policy(policy) else { return BTreeSet::new() };
        let speaks = |name: &NamespaceName| policy.namespaces.contains(&self.policies.namespace_or_unknown(name));
        let claimed = self.requests.claimed_namespaces().filter(|name| speaks(name));
        let claims = claimed.flat_map(|name| self.requests.claims_in(name)).map(|request| &request.key);
        claims.chain(self.secrets.recorded_where(speaks)).cloned().collect()
    }

    fn rivals<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = RequestKey> + 'a {
        self.requests.rivals(target).map(|request| request.key.clone())
    }
}

/// What a policy is about, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Namespaces it speaks about.
    pub namespaces: usize,
    /// Secrets (request and destination) that an Allow of it matches.
    pub granted: usize,
    /// Secrets that a Deny of it matches.
    pub denied: usize,
}

/// A world of policies, namespaces and requests, all read: for tests, tables and questions without a cluster.
pub fn complete(
    operator_namespace: NamespaceName,
    policies: impl IntoIterator<Item = Policy>,
    namespaces: impl IntoIterator<Item = Namespace>,
    requests: impl IntoIterator<Item = Request>,
) -> World {
    let mut world = World::new(operator_namespace);
    for namespace in namespaces {
        world.apply_namespace(namespace);
    }
    for policy in policies {
        world.apply_policy(policy.name.clone(), Ok(Arc::new(policy)));
    }
    for request in requests {
        world.apply_request(request.key.clone(), Stored::Valid(Arc::new(request)));
    }
    for gate in Gate::ALL {
        world.open(gate);
    }
    world
}
