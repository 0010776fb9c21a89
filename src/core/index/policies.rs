//! Policies and namespaces, and which policy speaks about which namespace.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::core::{
    invalid::InvalidField,
    name::{NamespaceName, PolicyName},
    policy::{Namespace, Policy},
};

/// A policy as it was read: compiled, or the reason why it cannot be.
pub type Compiled = Result<Arc<Policy>, InvalidField>;

/// Policies by name and, for each known namespace, the policies that speak about it: so that the cost of a
/// decision grows with those alone.
#[derive(Debug, Default)]
pub struct PolicyIndex {
    policies: BTreeMap<PolicyName, Compiled>,
    namespaces: HashMap<NamespaceName, Entry>,
}

#[derive(Debug)]
struct Entry {
    namespace: Arc<Namespace>,
    speaking: BTreeMap<PolicyName, Arc<Policy>>,
}

impl PolicyIndex {
    /// Takes in a policy.
    pub fn apply_policy(&mut self, name: PolicyName, policy: Compiled) {
        self.delete_policy(&name);
        if let Ok(policy) = &policy {
            for entry in self.namespaces.values_mut().filter(|entry| policy.namespaces.contains(&entry.namespace)) {
                entry.speaking.insert(name.clone(), policy.clone());
            }
        }
        self.policies.insert(name, policy);
    }

    /// Forgets a policy.
    pub fn delete_policy(&mut self, name: &PolicyName) {
        self.policies.remove(name);
        for entry in self.namespaces.values_mut() {
            entry.speaking.remove(name);
        }
    }

    /// Takes in a namespace. Answers whether something changed that a decision can depend on.
    pub fn apply_namespace(&mut self, namespace: Namespace) -> bool {
        if self.namespaces.get(&namespace.name).is_some_and(|entry| *entry.namespace == namespace) {
            return false;
        }
        let speaking = self.speaking_by_scan(&namespace).map(|p| (p.name.clone(), p.clone())).collect();
        self.namespaces.insert(namespace.name.clone(), Entry { namespace: Arc::new(namespace), speaking });
        true
    }

    /// Forgets a namespace. Answers whether it was known.
    pub fn delete_namespace(&mut self, name: &NamespaceName) -> bool {
        self.namespaces.remove(name).is_some()
    }

    /// The namespace, if it exists.
    pub fn namespace(&self, name: &NamespaceName) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name).map(|entry| &entry.namespace)
    }

    /// Every namespace.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values().map(|entry| &entry.namespace)
    }

    /// The namespace; without labels if it does not exist (yet).
    pub fn namespace_or_unknown(&self, name: &NamespaceName) -> Arc<Namespace> {
        self.namespace(name).cloned().unwrap_or_else(|| Arc::new(Namespace::unknown(name)))
    }

    /// The policies that speak about a namespace, also about one that does not exist (yet).
    pub fn speaking_about(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<Policy>> {
        let entry = self.namespaces.get(&namespace.name);
        let scanned = entry.is_none().then(|| self.speaking_by_scan(namespace));
        entry.into_iter().flat_map(|entry| entry.speaking.values()).chain(scanned.into_iter().flatten())
    }

    /// Whether a policy that speaks about the namespace limits its distributions.
    pub fn has_quota(&self, namespace: &NamespaceName) -> bool {
        let namespace = self.namespace_or_unknown(namespace);
        self.speaking_about(&namespace).any(|policy| policy.max_distributions.is_some())
    }

    /// Every policy, compiled or not, by name.
    pub fn policies(&self) -> impl Iterator<Item = (&PolicyName, &Compiled)> {
        self.policies.iter()
    }

    /// One policy.
    pub fn policy(&self, name: &PolicyName) -> Option<&Compiled> {
        self.policies.get(name)
    }

    fn speaking_by_scan(&self, namespace: &Namespace) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values().flatten().filter(|policy| policy.namespaces.contains(namespace))
    }
}
