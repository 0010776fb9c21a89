//! Requests, and what they claim: which Secret, in which namespace, of which sources.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;

use super::policies::PolicyIndex;
use crate::core::{
    invalid::InvalidField,
    name::{NamespaceName, RequestKey, SourceName, Target, Uid},
    request::Request,
};

/// A request as it was read: understood, or not.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// Every field has been checked.
    Valid(Arc<Request>),
    /// The object cannot be understood. Nothing is written for it, and what was written stays.
    Invalid {
        /// Its UID.
        uid: Uid,
        /// The generation that was read.
        generation: i64,
        /// Which field, and what is wrong with it.
        problem: InvalidField,
    },
}

impl Stored {
    /// UID of the object.
    pub fn uid(&self) -> &Uid {
        match self {
            Self::Valid(request) => &request.uid,
            Self::Invalid { uid, .. } => uid,
        }
    }
}

/// How a request came to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It names the namespace, or is in it and names none.
    Named,
    /// Its selector matches. Such a destination is mentioned only if it is granted.
    Selected,
}

/// A claim on a target, in the order of seniority.
type Claim = (Timestamp, Uid, RequestKey);

/// Requests by key, and by what they claim.
#[derive(Debug, Default)]
pub struct RequestIndex {
    requests: HashMap<RequestKey, Stored>,
    /// The namespaces that the selector of a request matches, for each that has one.
    selected: BTreeMap<RequestKey, BTreeSet<NamespaceName>>,
    claims: BTreeMap<NamespaceName, BTreeSet<Claim>>,
    /// In one set, and not in one for each target: of most there is one.
    rivals: BTreeSet<(Target, Claim)>,
    by_source: HashMap<SourceName, BTreeSet<RequestKey>>,
}

impl RequestIndex {
    /// Takes in a request. Answers with every request that must be looked at again.
    pub fn apply(&mut self, key: RequestKey, stored: Stored, policies: &PolicyIndex) -> BTreeSet<RequestKey> {
        if self.requests.get(&key) == Some(&stored) {
            return BTreeSet::new();
        }
        let mut touched = self.delete(&key, policies);
        touched.insert(key.clone());
        self.requests.insert(key.clone(), stored.clone());
        if let Stored::Valid(request) = &stored {
            self.claim(request, selected(request, policies));
            touched.extend(self.juniors(&key, policies));
        }
        touched
    }

    /// Forgets a request. Answers with every request that must be looked at again, itself among them.
    pub fn delete(&mut self, key: &RequestKey, policies: &PolicyIndex) -> BTreeSet<RequestKey> {
        let mut touched = self.juniors(key, policies);
        if let Some(stored) = self.requests.remove(key) {
            touched.insert(key.clone());
            if let Stored::Valid(request) = stored {
                self.release(&request);
            }
        }
        touched
    }

    /// A namespace came, went, or has other labels. Answers with the requests that claim other destinations now.
    pub fn namespace_changed(&mut self, policies: &PolicyIndex) -> BTreeSet<RequestKey> {
        let mut touched = BTreeSet::new();
        for key in self.selected.keys().cloned().collect::<Vec<_>>() {
            let Some(Stored::Valid(request)) = self.requests.get(&key).cloned() else { continue };
            let now = selected(&request, policies);
            if self.selected.get(&key) != now.as_ref() {
                touched.extend(self.juniors(&key, policies));
                self.release(&request);
                self.claim(&request, now);
                touched.extend(self.juniors(&key, policies));
                touched.insert(key);
            }
        }
        touched
    }

    /// One request.
    pub fn get(&self, key: &RequestKey) -> Option<&Stored> {
        self.requests.get(key)
    }

    /// Every request that can be understood.
    pub fn valid(&self) -> impl Iterator<Item = &Arc<Request>> {
        self.requests.values().filter_map(|stored| match stored {
            Stored::Valid(request) => Some(request),
            Stored::Invalid { .. } => None,
        })
    }

    /// Every request that cannot be understood, and what is wrong with it.
    pub fn invalid(&self) -> impl Iterator<Item = (&RequestKey, &InvalidField)> {
        self.requests.iter().filter_map(|(key, stored)| match stored {
            Stored::Valid(_) => None,
            Stored::Invalid { problem, .. } => Some((key, problem)),
        })
    }

    /// The destinations of a request, in order.
    pub fn destinations(&self, key: &RequestKey) -> impl Iterator<Item = (&NamespaceName, Origin)> {
        let named = self.understood(key).into_iter().flat_map(|request| &request.destinations);
        let selected = self.selected.get(key).into_iter().flatten().map(|namespace| (namespace, Origin::Selected));
        // What is named and selected is named.
        let all: BTreeMap<_, _> = selected.chain(named.map(|namespace| (namespace, Origin::Named))).collect();
        all.into_iter()
    }

    /// The requests that want to write into a namespace, the oldest first.
    pub fn claims_in(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Arc<Request>> {
        self.claims.get(namespace).into_iter().flatten().filter_map(|(_, _, key)| self.understood(key))
    }

    /// The requests that want to write one Secret, the oldest first.
    pub fn rivals(&self, target: &Target) -> impl Iterator<Item = &Arc<Request>> {
        let key = RequestKey { namespace: target.namespace.clone(), name: target.name.clone() };
        // No request is as old as this: the key is not looked at.
        let first = (Timestamp::MIN, Uid::admitted(""), key);
        self.claims_on(target, first).filter_map(|(_, _, key)| self.understood(key))
    }

    /// The claims on a target from one on, in the order of seniority.
    fn claims_on(&self, target: &Target, first: Claim) -> impl Iterator<Item = &Claim> {
        let rivals = self.rivals.range((target.clone(), first)..);
        rivals.take_while(move |(of, _)| of == target).map(|(_, claim)| claim)
    }

    fn understood(&self, key: &RequestKey) -> Option<&Arc<Request>> {
        match self.requests.get(key) {
            Some(Stored::Valid(request)) => Some(request),
            _ => None,
        }
    }

    /// The namespaces that some request wants to write into.
    pub fn claimed_namespaces(&self) -> impl Iterator<Item = &NamespaceName> {
        self.claims.keys()
    }

    /// The requests that use a source.
    pub fn using(&self, source: &SourceName) -> impl Iterator<Item = &RequestKey> {
        self.by_source.get(source).into_iter().flatten()
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &RequestKey> {
        self.requests.keys()
    }

    /// Requests whose answer may depend on what is granted to the requests of a namespace: these themselves, and
    /// their juniors.
    pub fn depending_on(&self, namespace: &NamespaceName, policies: &PolicyIndex) -> BTreeSet<RequestKey> {
        let own = self.requests.keys().filter(|key| key.namespace == *namespace);
        own.flat_map(|key| self.juniors(key, policies).into_iter().chain([key.clone()])).collect()
    }

    /// The younger requests whose answer may depend on this one: they want the same Secret, or a place in
    /// the same quota.
    fn juniors(&self, key: &RequestKey, policies: &PolicyIndex) -> BTreeSet<RequestKey> {
        let Some(request) = self.understood(key) else { return BTreeSet::new() };
        let own = claim_of(request);
        let mut juniors = BTreeSet::new();
        for (namespace, _) in self.destinations(key) {
            if policies.has_quota(namespace) {
                let claims = self.claims.get(namespace).into_iter().flat_map(|claims| claims.range(&own..));
                juniors.extend(claims.map(|(_, _, key)| key.clone()));
            } else {
                let target = request.target(namespace);
                let claims = self.claims_on(&target, own.clone());
                juniors.extend(claims.map(|(_, _, key)| key.clone()));
            }
        }
        juniors
    }

    fn claim(&mut self, request: &Arc<Request>, selected: Option<BTreeSet<NamespaceName>>) {
        for namespace in request.destinations.iter().chain(selected.iter().flatten()) {
            self.claims.entry(namespace.clone()).or_default().insert(claim_of(request));
            self.rivals.insert((request.target(namespace), claim_of(request)));
        }
        for mapping in &request.mappings {
            self.by_source.entry(mapping.from.clone()).or_default().insert(request.key.clone());
        }
        if let Some(selected) = selected {
            self.selected.insert(request.key.clone(), selected);
        }
    }

    fn release(&mut self, request: &Arc<Request>) {
        let claim = claim_of(request);
        let selected = self.selected.remove(&request.key);
        for namespace in request.destinations.iter().chain(selected.iter().flatten()) {
            if self.claims.get_mut(namespace).is_some_and(|claims| claims.remove(&claim) && claims.is_empty()) {
                self.claims.remove(namespace);
            }
            self.rivals.remove(&(request.target(namespace), claim.clone()));
        }
        for mapping in &request.mappings {
            let keys = self.by_source.get_mut(&mapping.from);
            if keys.is_some_and(|keys| keys.remove(&request.key) && keys.is_empty()) {
                self.by_source.remove(&mapping.from);
            }
        }
    }
}

fn claim_of(request: &Request) -> Claim {
    (request.created, request.uid.clone(), request.key.clone())
}

/// The namespaces that the selector of a request matches, if it has one.
fn selected(request: &Request, policies: &PolicyIndex) -> Option<BTreeSet<NamespaceName>> {
    let selector = request.selector.as_ref()?;
    let selected = policies.namespaces().filter(|namespace| selector.matches(&namespace.labels));
    Some(selected.map(|namespace| namespace.name.clone()).collect())
}
