//! Whether one rule is about everything that another is about. Yes is certain; where it cannot be told, the answer is no.

use std::collections::BTreeSet;

use super::{NamespaceSet, Policy, Rule};
use crate::{
    api::{Effect, Enforcement, names},
    core::glob::Glob,
};

impl Policy {
    /// Whether a Deny of this policy, the rule with that index, refuses everything that an Allow of another grants.
    pub fn hides(&self, deny: &Rule, other: &Self, allow: &Rule) -> bool {
        let decides = [self, other].iter().all(|policy| policy.enforcement == Enforcement::Enforce);
        let effects = (deny.effect, allow.effect) == (Effect::Deny, Effect::Allow);
        decides && effects && self.lasts_as_long_as(other) && self.namespaces.covers(&other.namespaces) && {
            deny.covers(allow, &other.namespaces)
        }
    }

    /// Whether it is in force whenever the other is.
    fn lasts_as_long_as(&self, other: &Self) -> bool {
        let begins = self.not_before.is_none() || other.not_before.is_some_and(|from| Some(from) >= self.not_before);
        let ends = self.not_after.is_none() || other.not_after.is_some_and(|end| Some(end) <= self.not_after);
        begins && ends
    }
}

impl Rule {
    /// Whether it is about everything that the other is about in those namespaces.
    pub fn covers(&self, other: &Self, namespaces: &NamespaceSet) -> bool {
        cover(&self.sources, &other.sources)
            && cover_or_any(&self.keys, &other.keys)
            && cover_or_any(&self.secret_names, &other.secret_names)
            && self.covers_types_of(other)
            && self.covers_requesters_of(other, namespaces)
    }

    fn covers_types_of(&self, other: &Self) -> bool {
        match (self.listed_types(), other.listed_types()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(theirs)) => theirs.is_subset(&own),
        }
    }

    /// The types it is about; none: any.
    fn listed_types(&self) -> Option<BTreeSet<&str>> {
        match (self.types.is_empty(), self.effect) {
            (false, _) => Some(self.types.iter().map(|secret_type| secret_type.as_str()).collect()),
            (true, Effect::Allow) => Some(names::DATA_TYPES.into_iter().collect()),
            (true, Effect::Deny) => None,
        }
    }

    fn covers_requesters_of(&self, other: &Self, namespaces: &NamespaceSet) -> bool {
        match (&self.requested_from, &other.requested_from) {
            (None, None) => self.effect == Effect::Deny || other.effect == Effect::Allow,
            (None, Some(_)) => self.effect == Effect::Deny,
            // The destination itself asks, which is one of these.
            (Some(own), None) => other.effect == Effect::Allow && own.covers(namespaces),
            (Some(own), Some(theirs)) => own.covers(theirs),
        }
    }
}

impl NamespaceSet {
    /// Whether every namespace of the other is one of these.
    fn covers(&self, other: &Self) -> bool {
        let names = self.names.is_empty() || !other.names.is_empty() && cover(&self.names, &other.names);
        let labels = match (&self.selector, &other.selector) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(theirs)) => own.covers(theirs),
        };
        names && labels
    }
}

/// Whether every name that fits one of the others fits one of these.
fn cover(globs: &[Glob], others: &[Glob]) -> bool {
    others.iter().all(|other| globs.iter().any(|glob| glob.covers(other)))
}

/// The same for lists that mean any if they are empty.
fn cover_or_any(globs: &[Glob], others: &[Glob]) -> bool {
    globs.is_empty() || !others.is_empty() && cover(globs, others)
}
