//! The Secrets that carry our label, and which namespaces let us see them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::hints::{Hints, LastSeen};
use crate::{
    api::names,
    core::{
        name::{NamespaceName, RequestKey, Target},
        observed::Observed,
    },
};

/// Whether a namespace has delegated its Secrets to the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delegation {
    /// Not known yet: nothing can be said about the Secrets there.
    #[default]
    Unknown,
    /// The API server refuses: there is no RoleBinding.
    Refused,
    /// Its Secrets have been listed and are watched.
    Granted,
}

/// What is known of the Secret at a target.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretState {
    /// The namespace has not been listed yet.
    Unknown,
    /// The namespace is not delegated.
    NotDelegated,
    /// No Secret with our label: the name is free, or a stranger's.
    Absent,
    /// A Secret with our label, or a stranger's that was looked at because a write met it.
    Present(Box<Observed>),
}

/// Secrets by target, and by the request their record names.
#[derive(Debug, Default)]
pub struct SecretIndex {
    delegations: HashMap<NamespaceName, Delegation>,
    secrets: HashMap<Target, Observed>,
    /// Up to which version the watch of each namespace has shown everything.
    shown: HashMap<NamespaceName, u64>,
    /// In order, and without room for more: of most requests there is one.
    recorded: HashMap<RequestKey, Vec<Target>>,
    /// Where a Secret of ours may be, as long as its namespace lets nobody see: known before, or told by a status.
    hints: Hints,
    /// When the content ends to be valid, as far as it is known: content is never read back.
    expiries: HashMap<Target, Timestamp>,
}

/// The Secrets that were written into a namespace, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many there are.
    pub written: usize,
    /// How many of them are in their grace period.
    pub revocation_pending: usize,
    /// When the first of them ends to be valid.
    pub not_after: Option<Timestamp>,
}

impl SecretIndex {
    /// Takes in a Secret, unless a newer look at it is known. Answers with the requests that its records, the
    /// old and the new, name; `None` if nothing changed.
    pub fn apply(&mut self, target: &Target, observed: Observed) -> Option<BTreeSet<RequestKey>> {
        match self.secrets.get(target) {
            Some(known) if *known == observed || !observed.supersedes(known) => return None,
            _ => {}
        }
        let same = self.secrets.get(target).is_some_and(|known| known.uid == observed.uid);
        let expiry = self.expiries.get(target).copied().filter(|_| same);
        let mut touched = self.delete(target);
        self.set_expiry(target, expiry);
        if let Some(key) = observed.recorded_request(target) {
            let targets = self.recorded.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1));
            if let Err(at) = targets.binary_search(target) {
                targets.insert(at, target.clone());
            }
            touched.insert(key);
        }
        self.secrets.insert(target.clone(), observed);
        Some(touched)
    }

    /// Takes in what a write of our own was answered with, unless the watch has shown that version already: what is
    /// known is newer then, also if it is that the Secret is gone.
    pub fn remember(&mut self, target: &Target, written: Observed) {
        if self.shown.get(&target.namespace).is_none_or(|shown| *shown < written.version()) {
            self.apply(target, written);
        }
    }

    /// The watch of a namespace has shown everything up to a version.
    pub fn shown(&mut self, namespace: &NamespaceName, version: u64) {
        let shown = self.shown.entry(namespace.clone()).or_default();
        *shown = version.max(*shown);
    }

    /// Forgets a Secret. Answers with the request that its record named.
    pub fn delete(&mut self, target: &Target) -> BTreeSet<RequestKey> {
        self.expiries.remove(target);
        let Some(key) = self.secrets.remove(target).and_then(|observed| observed.recorded_request(target)) else {
            return BTreeSet::new();
        };
        if let Some(targets) = self.recorded.get_mut(&key) {
            targets.retain(|recorded| recorded != target);
            if targets.is_empty() {
                self.recorded.remove(&key);
            }
        }
        BTreeSet::from([key])
    }

    /// It is known when the content of a Secret ends to be valid, or that it does not.
    pub fn set_expiry(&mut self, target: &Target, expiry: Option<Timestamp>) {
        match expiry {
            Some(expiry) => self.expiries.insert(target.clone(), expiry),
            None => self.expiries.remove(target),
        };
    }

    /// When the content of a Secret ends to be valid, if that is known.
    pub fn expiry(&self, target: &Target) -> Option<Timestamp> {
        self.expiries.get(target).copied()
    }

    /// Somebody else has written since: nothing is known of any content.
    pub fn forget_expiries(&mut self) {
        self.expiries.clear();
    }

    /// The Secrets that were written, by namespace.
    pub fn census(&self) -> BTreeMap<&NamespaceName, Census> {
        let mut all: BTreeMap<_, Census> = BTreeMap::new();
        for target in self.recorded.values().flatten() {
            let census = all.entry(&target.namespace).or_default();
            let marked = self.secrets.get(target).is_some_and(|seen| seen.annotations.get(names::REVOKED_AT).is_some());
            census.written += 1;
            census.revocation_pending += usize::from(marked);
            census.not_after = census.not_after.into_iter().chain(self.expiries.get(target).copied()).min();
        }
        all
    }

    /// A namespace's delegation is known now. What was seen there before is forgotten if it was withdrawn.
    /// Answers whether anything changed.
    pub fn set_delegation(&mut self, namespace: &NamespaceName, delegation: Delegation) -> bool {
        let withdrawn = if delegation == Delegation::Granted { Vec::new() } else { self.targets_in(namespace) };
        let before = self.delegations.insert(namespace.clone(), delegation).unwrap_or_default();
        let changed = before != delegation || !withdrawn.is_empty();
        for target in withdrawn {
            let last_seen = self.secrets.get(&target).and_then(|observed| LastSeen::of(observed, &target));
            self.delete(&target);
            self.hint(target, last_seen);
        }
        if delegation == Delegation::Granted {
            self.hints.forget(namespace);
        }
        changed
    }

    /// A namespace is gone.
    pub fn forget_namespace(&mut self, namespace: &NamespaceName) {
        self.set_delegation(namespace, Delegation::Unknown);
        self.delegations.remove(namespace);
        self.shown.remove(namespace);
        self.hints.forget(namespace);
    }

    /// Another replica has led meanwhile: what was seen where nobody can look now may be gone, or written anew.
    pub fn doubt_hints(&mut self) {
        self.hints.doubt();
    }

    /// A Secret of ours may be there, in a namespace of which nothing is known.
    pub fn hint(&mut self, target: Target, last_seen: Option<LastSeen>) {
        if self.delegation(&target.namespace) != Delegation::Granted {
            self.hints.add(target, last_seen);
        }
    }

    /// Where Secrets of ours may be in a namespace of which nothing is known.
    pub fn hints(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Target> {
        self.hints.of(namespace)
    }

    /// What was written there before nobody could look any more.
    pub fn last_seen(&self, target: &Target) -> Option<&LastSeen> {
        self.hints.at(target)
    }

    /// Whether a Secret is known there.
    pub fn knows(&self, target: &Target) -> bool {
        self.secrets.contains_key(target)
    }

    /// What is known of a namespace's delegation.
    pub fn delegation(&self, namespace: &NamespaceName) -> Delegation {
        self.delegations.get(namespace).copied().unwrap_or_default()
    }

    /// What is known of the Secret at a target.
    pub fn state(&self, target: &Target) -> SecretState {
        match (self.delegation(&target.namespace), self.secrets.get(target)) {
            (Delegation::Unknown, _) => SecretState::Unknown,
            (Delegation::Refused, _) => SecretState::NotDelegated,
            (Delegation::Granted, None) => SecretState::Absent,
            (Delegation::Granted, Some(observed)) => SecretState::Present(Box::new(observed.clone())),
        }
    }

    /// The Secrets whose records name a request.
    pub fn recorded_for(&self, key: &RequestKey) -> impl Iterator<Item = (&Target, &Observed)> {
        let targets = self.recorded.get(key).into_iter().flatten();
        targets.filter_map(|target| self.secrets.get(target).map(|observed| (target, observed)))
    }

    /// The requests that Secrets were written for, whether they exist or not.
    pub fn recorded_keys(&self) -> impl Iterator<Item = &RequestKey> {
        self.recorded.keys()
    }

    /// The requests that Secrets in some namespaces were written for.
    pub fn recorded_where<'a>(
        &'a self,
        within: impl Fn(&NamespaceName) -> bool + 'a,
    ) -> impl Iterator<Item = &'a RequestKey> {
        let within = move |target: &Target| within(&target.namespace);
        self.recorded.iter().filter(move |(_, targets)| targets.iter().any(&within)).map(|(key, _)| key)
    }

    /// The targets of the Secrets in a namespace.
    pub fn targets_in(&self, namespace: &NamespaceName) -> Vec<Target> {
        self.secrets.keys().filter(|target| target.namespace == *namespace).cloned().collect()
    }
}
