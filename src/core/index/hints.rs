//! Where Secrets of ours may be, as long as their namespace lets nobody look.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::core::{
    name::{NamespaceName, RequestKey, Target, Uid},
    observed::Observed,
    request::Request,
    settle::is_retained,
};

/// A Secret that was written for a request, as it was when it could be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastSeen {
    /// The request.
    pub key: RequestKey,
    /// Its UID.
    pub uid: Uid,
    /// When it was written.
    pub written: Option<Timestamp>,
    /// Whether it stays when its grant goes, as the policy said that it was written under.
    pub is_retained: bool,
}

impl LastSeen {
    pub(super) fn of(observed: &Observed, target: &Target) -> Option<Self> {
        let recorded = || Some((observed.recorded_request(target)?, observed.owner()?));
        let (key, uid) = recorded().or_else(|| observed.referenced_request(target))?;
        Some(Self { key, uid, written: observed.written, is_retained: is_retained(observed) })
    }

    /// Whether it was written for this very request, and not for another of its name.
    pub fn is_of(&self, request: &Request) -> bool {
        self.key == request.key && self.uid == request.uid
    }
}

/// The places.
#[derive(Debug, Default)]
pub(super) struct Hints(HashMap<NamespaceName, BTreeMap<Target, Option<LastSeen>>>);

impl Hints {
    /// There may be one. Of what is said about it the later writing counts, and what was said before.
    pub fn add(&mut self, target: Target, last_seen: Option<LastSeen>) {
        let hint = self.0.entry(target.namespace.clone()).or_default().entry(target).or_default();
        let written = |seen: &Option<LastSeen>| seen.as_ref().map(|seen| seen.written);
        if written(&last_seen) > written(hint) {
            *hint = last_seen;
        }
    }

    /// Somebody else may have written and deleted since: the places stay, and nothing is known of them.
    pub fn doubt(&mut self) {
        self.0.values_mut().flat_map(BTreeMap::values_mut).for_each(|hint| *hint = None);
    }

    /// All of a namespace are done with.
    pub fn forget(&mut self, namespace: &NamespaceName) {
        self.0.remove(namespace);
    }

    /// The places in a namespace.
    pub fn of(&self, namespace: &NamespaceName) -> impl Iterator<Item = &Target> {
        self.0.get(namespace).into_iter().flat_map(BTreeMap::keys)
    }

    /// What was written there when it could be seen.
    pub fn at(&self, target: &Target) -> Option<&LastSeen> {
        self.0.get(&target.namespace)?.get(target)?.as_ref()
    }
}
