//! A world as the API server shows it, and the changes that lead from one to the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use secrets_distributor::{
    api::{DistributionPolicy, SecretsDistribution},
    core::{
        decide::Decision,
        index::{Delegation, Gate, Stored, World},
        name::{NamespaceName, PolicyName, RequestKey, SecretName, Target, Uid},
        observed::Observed,
        plan::{Aim, Fate, Plan},
        policy::{Namespace, Policy},
        request::{Request, request_key},
        settle::Revoking,
    },
};

/// The operator's own namespace: excluded.
pub const OPERATOR: &str = "secrets-distributor";

/// The namespaces of every world.
pub const NAMESPACES: [&str; 5] = ["team-a", "team-b", "platform", "kube-system", OPERATOR];

/// The names of requests in a namespace.
pub const NAMES: [&str; 2] = ["one", "two"];

/// The instant of the decisions; times of policies lie around it.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

pub fn namespace(name: &str) -> NamespaceName {
    NamespaceName::parse(name).unwrap()
}

/// One thing that the watches may show.
#[derive(Clone)]
pub enum Change {
    Policy(DistributionPolicy),
    PolicyGone(String),
    Namespace(Namespace),
    NamespaceGone(NamespaceName),
    Request(SecretsDistribution),
    RequestGone(RequestKey),
    Secret(Target, ObjectMeta),
    SecretGone(Target),
    Delegation(NamespaceName, Delegation),
}

/// Short, so that a counterexample can be read.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = |value: serde_json::Result<String>| value.unwrap_or_default();
        match self {
            Self::Policy(policy) => write!(f, "Policy {}", json(serde_json::to_string(policy))),
            Self::PolicyGone(name) => write!(f, "PolicyGone {name}"),
            Self::Namespace(namespace) => write!(f, "{namespace:?}"),
            Self::NamespaceGone(name) => write!(f, "NamespaceGone {name}"),
            Self::Request(request) => write!(f, "Request {}", json(serde_json::to_string(request))),
            Self::RequestGone(key) => write!(f, "RequestGone {key}"),
            Self::Secret(target, meta) => write!(f, "Secret {target} {}", json(serde_json::to_string(meta))),
            Self::SecretGone(target) => write!(f, "SecretGone {target}"),
            Self::Delegation(name, delegation) => write!(f, "Delegation {name} {delegation:?}"),
        }
    }
}

/// The objects that exist, by name.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub policies: BTreeMap<String, DistributionPolicy>,
    pub namespaces: BTreeMap<NamespaceName, Namespace>,
    pub requests: BTreeMap<RequestKey, SecretsDistribution>,
    secrets: BTreeMap<Target, ObjectMeta>,
    delegations: BTreeMap<NamespaceName, Delegation>,
    version: u64,
}

impl Model {
    pub fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        let mut model = Self::default();
        for change in changes {
            model.take_in(change);
        }
        model
    }

    /// Takes in a change, and answers with it as the watch shows it: `None` if it cannot come.
    pub fn take_in(&mut self, change: Change) -> Option<Change> {
        self.version += 1;
        match change.clone() {
            Change::Policy(policy) => drop(self.policies.insert(policy.name_any(), policy)),
            Change::PolicyGone(name) => drop(self.policies.remove(&name)),
            Change::Namespace(namespace) => drop(self.namespaces.insert(namespace.name.clone(), namespace)),
            Change::NamespaceGone(name) => {
                self.namespaces.remove(&name);
                self.forget_secrets(&name);
                self.delegations.remove(&name);
            }
            Change::Request(request) => drop(self.requests.insert(key_of(&request), request)),
            Change::RequestGone(key) => drop(self.requests.remove(&key)),
            // Of a namespace that refuses, no Secret is shown.
            Change::Secret(target, _) if self.delegations.get(&target.namespace) == Some(&Delegation::Refused) => {
                return None;
            }
            Change::Secret(target, meta) => {
                let meta = ObjectMeta { resource_version: Some(self.version.to_string()), ..meta };
                self.secrets.insert(target.clone(), meta.clone());
                return Some(Change::Secret(target, meta));
            }
            Change::SecretGone(target) => drop(self.secrets.remove(&target)),
            Change::Delegation(namespace, delegation) => {
                if delegation != Delegation::Granted {
                    self.forget_secrets(&namespace);
                }
                self.delegations.insert(namespace, delegation);
                self.delegations.retain(|_, delegation| *delegation != Delegation::Unknown);
            }
        }
        Some(change)
    }

    fn forget_secrets(&mut self, namespace: &NamespaceName) {
        self.secrets.retain(|target, _| target.namespace != *namespace);
    }

    /// One change for each object that exists.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes: Vec<_> = self.policies.values().cloned().map(Change::Policy).collect();
        changes.extend(self.namespaces.values().cloned().map(Change::Namespace));
        changes.extend(self.requests.values().cloned().map(Change::Request));
        changes.extend(self.secrets.iter().map(|(target, meta)| Change::Secret(target.clone(), meta.clone())));
        changes.extend(self.delegations.iter().map(|(name, delegation)| Change::Delegation(name.clone(), *delegation)));
        changes
    }

    /// The world in which exactly these objects exist.
    pub fn world(&self) -> World {
        world_of(self.changes())
    }
}

/// A world to which the changes happened, all gates open.
pub fn world_of(changes: impl IntoIterator<Item = Change>) -> World {
    let mut world = World::new(namespace(OPERATOR));
    for change in changes {
        happen(&mut world, change);
    }
    for gate in Gate::ALL {
        world.open(gate);
    }
    world
}

/// Feeds one change, as the shell does. Answers with the requests to look at again.
pub fn happen(world: &mut World, change: Change) -> BTreeSet<RequestKey> {
    match change {
        Change::Policy(object) => {
            let compiled = Policy::parse(&object).map(Arc::new);
            world.apply_policy(PolicyName::admitted(&object.name_any()), compiled)
        }
        Change::PolicyGone(name) => world.delete_policy(&PolicyName::admitted(&name)),
        Change::Namespace(namespace) => world.apply_namespace(namespace),
        Change::NamespaceGone(name) => world.delete_namespace(&name),
        Change::Request(object) => {
            let stored = match Request::parse(&object) {
                Ok(request) => Stored::Valid(Arc::new(request)),
                Err(problem) => Stored::Invalid { uid: Uid::admitted(&object.uid().unwrap()), generation: 1, problem },
            };
            world.apply_request(key_of(&object), stored)
        }
        Change::RequestGone(key) => world.delete_request(&key),
        Change::Secret(target, meta) => world.apply_secret(&target, Observed::parse(meta)),
        Change::SecretGone(target) => world.delete_secret(&target),
        Change::Delegation(name, delegation) => world.set_delegation(&name, delegation),
    }
}

pub fn key_of(object: &SecretsDistribution) -> RequestKey {
    request_key(&object.namespace().unwrap(), &object.name_any()).unwrap()
}

/// Every key a request can have.
pub fn keys() -> impl Iterator<Item = RequestKey> {
    let key = |ns, name| RequestKey { namespace: namespace(ns), name: SecretName::parse(name).unwrap() };
    NAMESPACES.into_iter().flat_map(move |ns| NAMES.into_iter().map(move |name| key(ns, name)))
}

/// Every question that the world's requests ask: a request and a destination of it.
pub fn asks(world: &World) -> Vec<(Arc<Request>, NamespaceName)> {
    let mut requests: Vec<_> = world.requests.valid().cloned().collect();
    requests.sort_by(|a, b| a.key.cmp(&b.key));
    let destinations = |request: &Arc<Request>| {
        let names: Vec<_> = world.requests.destinations(&request.key).map(|(name, _)| name.clone()).collect();
        names.into_iter().map(|name| (request.clone(), name)).collect::<Vec<_>>()
    };
    requests.iter().flat_map(destinations).collect()
}

/// The answers to all questions, by request and destination.
pub fn decisions(world: &World) -> BTreeMap<(RequestKey, NamespaceName), Decision> {
    let decide = |(request, destination): (Arc<Request>, NamespaceName)| {
        let decision = world.decide(&request, &destination, now());
        ((request.key.clone(), destination), decision)
    };
    asks(world).into_iter().map(decide).collect()
}

/// The questions that are answered with yes.
pub fn permitted(world: &World) -> BTreeSet<(RequestKey, NamespaceName)> {
    let yes = decisions(world).into_iter().filter(|(_, decision)| matches!(decision, Decision::Permitted(_)));
    yes.map(|(ask, _)| ask).collect()
}

/// The plans of all keys, comparable.
pub fn plans(world: &World, now: Timestamp) -> BTreeMap<RequestKey, String> {
    keys().map(|key| (key.clone(), format!("{:?}", world.plan(&key, now)))).collect()
}

/// Whether a grace period begins by the plan.
pub fn begins_grace(plan: &Plan) -> bool {
    let aims = plan.targets.iter().map(|target| match &target.aim {
        Aim::Withdraw(_, Some((_, revoking))) => Some(*revoking),
        _ => None,
    });
    let fates = plan.leftovers.iter().map(|leftover| match leftover.fate {
        Fate::Revoke(revoking) => Some(revoking),
        Fate::Prune | Fate::Orphan => None,
    });
    aims.chain(fates).flatten().any(|revoking| matches!(revoking, Revoking::Mark { .. }))
}
