//! The policies that grant exactly what requests ask for: a start for a platform that had none.
//!
//! What a request asks of a destination falls apart into atoms: one source, to one key, of a Secret of one type and
//! name, asked for from one namespace. Atoms that are asked for in the same namespaces become one policy; those that
//! differ in one thing only become one rule. A rule grants every combination of what it lists, and so no other merge
//! would leave the grants as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    index::World,
    invalid::InvalidField,
    name::{NamespaceName, RequestKey, SecretType},
    request::{Mapping, Request},
};
use crate::api::{DistributionPolicy, DistributionPolicySpec, Effect, Enforcement, NamespaceMatch, PolicyRule, names};

/// The most rules of a policy, and the most entries of each list in one; the schema says the same.
const MAX_RULES: usize = 64;
const MAX_NAMESPACES: usize = 256;
const MAX_ENTRIES: [usize; DIMENSIONS] = [128, 256, 64, 256, 256];

/// What a rule lists: sources, keys, types, names of Secrets, namespaces of requests.
const DIMENSIONS: usize = 5;

/// A policy that is proposed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The policy, in Audit.
    pub policy: DistributionPolicy,
    /// The requests it is for.
    pub requests: BTreeSet<RequestKey>,
}

/// A rule to be: it grants every combination of what it lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    lists: [BTreeSet<String>; DIMENSIONS],
    /// Whether the request is in the destination itself; then no requester is listed.
    itself: bool,
    adopt: bool,
}

/// What becomes one policy: everything that is asked for in exactly these namespaces.
type Grouped = BTreeMap<BTreeSet<NamespaceName>, (BTreeSet<Grant>, BTreeSet<RequestKey>)>;

/// The least set of policies by which every request of the world is granted, and nothing else: each in Audit, so that
/// somebody looks at it before it counts. The order depends on nothing but what they grant.
pub fn drafts(world: &World) -> Vec<Draft> {
    let mut taken = BTreeSet::new();
    let mut drafts = Vec::new();
    for (namespaces, (grants, requests)) in grouped(world) {
        let namespaces: Vec<_> = namespaces.into_iter().collect();
        let rules: Vec<_> = merged(grants).iter().map(rule).collect();
        for namespaces in namespaces.chunks(MAX_NAMESPACES) {
            for rules in rules.chunks(MAX_RULES) {
                let policy = policy(name(namespaces, &mut taken), namespaces, rules, requests.len());
                drafts.push(Draft { policy, requests: requests.clone() });
            }
        }
    }
    drafts
}

/// Why no draft is for a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// No policy can grant its type.
    #[error("no policy can grant the reserved type {0}")]
    ReservedType(SecretType),
    /// It cannot be understood.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
}

/// The requests that no draft is for, each with the reason.
pub fn left_out(world: &World) -> BTreeMap<RequestKey, LeftOut> {
    let reserved = world.requests.valid().filter(|request| is_reserved(&request.secret_type));
    let reserved = reserved.map(|request| (request.key.clone(), LeftOut::ReservedType(request.secret_type.clone())));
    let invalid = world.requests.invalid().map(|(key, problem)| (key.clone(), problem.clone().into()));
    reserved.chain(invalid).collect()
}

fn is_reserved(secret_type: &SecretType) -> bool {
    names::RESERVED_TYPES.contains(&secret_type.as_str())
}

fn grouped(world: &World) -> Grouped {
    let mut asked: BTreeMap<Grant, (BTreeSet<NamespaceName>, BTreeSet<RequestKey>)> = BTreeMap::new();
    for request in world.requests.valid().filter(|request| !is_reserved(&request.secret_type)) {
        let mut destinations = world.requests.destinations(&request.key);
        let itself = destinations.all(|(namespace, _)| *namespace == request.key.namespace);
        for (namespace, _) in world.requests.destinations(&request.key) {
            for mapping in &request.mappings {
                let (namespaces, requests) = asked.entry(atom(request, mapping, itself)).or_default();
                namespaces.insert(namespace.clone());
                requests.insert(request.key.clone());
            }
        }
    }
    let mut grouped = Grouped::new();
    for (grant, (namespaces, requests)) in asked {
        let (grants, all) = grouped.entry(namespaces).or_default();
        grants.insert(grant);
        all.extend(requests);
    }
    grouped
}

/// Of a request that goes to other namespaces, too, its own is listed like theirs: so all can be in one policy.
fn atom(request: &Request, mapping: &Mapping, itself: bool) -> Grant {
    let one = |text: &str| BTreeSet::from([text.to_string()]);
    let requesters = if itself { BTreeSet::new() } else { one(request.key.namespace.as_str()) };
    let lists = [
        one(mapping.from.as_str()),
        one(mapping.to.as_str()),
        one(request.secret_type.as_str()),
        one(request.secret_name.as_str()),
        requesters,
    ];
    Grant { lists, itself, adopt: request.adopt }
}

/// Fewer rules that grant the same: two that differ in one list only become one, until no two do.
fn merged(grants: BTreeSet<Grant>) -> BTreeSet<Grant> {
    let adopting = |grant: &Grant| Grant { adopt: true, ..grant.clone() };
    let mut grants: BTreeSet<_> =
        grants.iter().filter(|grant| grant.adopt || !grants.contains(&adopting(grant))).cloned().collect();
    loop {
        let before = grants.len();
        for dimension in (0..DIMENSIONS).rev() {
            grants = merged_along(dimension, grants);
        }
        if grants.len() == before {
            return grants;
        }
    }
}

fn merged_along(dimension: usize, grants: BTreeSet<Grant>) -> BTreeSet<Grant> {
    let mut alike: BTreeMap<Grant, BTreeSet<String>> = BTreeMap::new();
    for mut grant in grants {
        let list = std::mem::take(&mut grant.lists[dimension]);
        alike.entry(grant).or_default().extend(list);
    }
    let mut merged = BTreeSet::new();
    for (grant, list) in alike {
        let list: Vec<_> = list.into_iter().collect();
        // Requests from the destination itself list no requester.
        let parts = list.chunks(MAX_ENTRIES[dimension]).map(<[String]>::to_vec);
        let parts = if list.is_empty() { vec![Vec::new()] } else { parts.collect() };
        for part in parts {
            let mut grant = grant.clone();
            grant.lists[dimension] = part.into_iter().collect();
            merged.insert(grant);
        }
    }
    merged
}

fn rule(grant: &Grant) -> PolicyRule {
    let [sources, keys, types, secret_names, requesters] =
        grant.lists.each_ref().map(|list| list.iter().cloned().collect());
    let requested_from = (!grant.itself).then_some(NamespaceMatch { names: requesters, selector: None });
    PolicyRule { effect: Effect::Allow, sources, keys, types, secret_names, requested_from, adopt: grant.adopt }
}

fn policy(name: String, namespaces: &[NamespaceName], rules: &[PolicyRule], requests: usize) -> DistributionPolicy {
    let names = namespaces.iter().map(ToString::to_string).collect();
    let plural = if requests == 1 { "request asks" } else { "requests ask" };
    let spec = DistributionPolicySpec {
        description: Some(format!("What {requests} {plural} for, granted to nobody else")),
        enforcement: Enforcement::Audit,
        namespaces: NamespaceMatch { names, selector: None },
        rules: rules.to_vec(),
        ..Default::default()
    };
    DistributionPolicy::new(&name, spec)
}

/// A name that says for which namespaces the policy is.
fn name(namespaces: &[NamespaceName], taken: &mut BTreeSet<String>) -> String {
    let first = namespaces.first().map(ToString::to_string).unwrap_or_default();
    let name = match namespaces.len() {
        0 | 1 => first,
        2 => format!("{first}-and-1-other"),
        many => format!("{first}-and-{}-others", many - 1),
    };
    let mut names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
    let free = names.find(|name| !taken.contains(name)).unwrap_or(name);
    taken.insert(free.clone());
    free
}
