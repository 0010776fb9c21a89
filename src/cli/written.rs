//! A rule as it stands in a policy, for answers that list rules.

use schemars::JsonSchema;
use serde::Serialize;

use super::view::View;
use crate::{
    api::{Effect, Enforcement, NamespaceMatch},
    core::{name::PolicyName, policy::Policy},
};

/// A rule, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WrittenRule {
    /// Allow, or Deny: an exception, which wins over every Allow.
    pub effect: Effect,
    /// Globs over sources.
    pub sources: Vec<String>,
    /// Globs over keys; empty: any.
    pub keys: Vec<String>,
    /// Types; empty: in an Allow Opaque and the other data types, in a Deny any.
    pub types: Vec<String>,
    /// Globs over names of the Secret; empty: any.
    pub secret_names: Vec<String>,
    /// The namespaces that may ask; absent: in an Allow the receiving one only, in a Deny any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_from: Option<NamespaceMatch>,
    /// The policy.
    pub policy: PolicyName,
    /// The rule: its place in `spec.rules`, counted from 0.
    pub rule: usize,
    /// Of a policy in Audit nothing holds yet.
    pub enforcement: Enforcement,
    /// From when on it holds, RFC 3339, if not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Until when it holds, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

impl WrittenRule {
    /// A rule of a policy, as it is written.
    pub fn of(view: &View, policy: &Policy, index: usize) -> Option<Self> {
        let rule = view.policies.get(&policy.name)?.spec.rules.get(index)?.clone();
        Some(Self {
            effect: rule.effect,
            sources: rule.sources,
            keys: rule.keys,
            types: rule.types,
            secret_names: rule.secret_names,
            requested_from: rule.requested_from,
            policy: policy.name.clone(),
            rule: index,
            enforcement: policy.enforcement,
            not_before: policy.not_before.filter(|from| *from > view.at).map(|time| time.to_string()),
            not_after: policy.not_after.map(|time| time.to_string()),
        })
    }

    /// Whether the rule holds now.
    pub fn is_in_force(&self) -> bool {
        self.enforcement == Enforcement::Enforce && self.not_before.is_none()
    }

    /// Its types in words.
    pub fn told_types(&self) -> String {
        match (self.types.is_empty(), self.effect) {
            (false, _) => self.types.join(","),
            (true, Effect::Allow) => "data types".into(),
            (true, Effect::Deny) => or_any(&self.types),
        }
    }

    /// Who may ask, in words.
    pub fn requesters(&self) -> String {
        match (&self.requested_from, self.effect) {
            (None, Effect::Allow) => "itself".into(),
            (None, Effect::Deny) => or_any(&[]),
            (Some(set), _) if set.selector.is_some() => format!("{} with labels", or_any(&set.names)),
            (Some(set), _) => set.names.join(","),
        }
    }

    /// Whether it holds, in words.
    pub fn state(&self) -> String {
        match (&self.not_before, self.enforcement) {
            (_, Enforcement::Audit) => "Audit".into(),
            (Some(from), _) => format!("from {from}"),
            (None, Enforcement::Enforce) => "in force".into(),
        }
    }
}

/// The globs, or that there are none.
pub fn or_any(globs: &[String]) -> String {
    if globs.is_empty() { "any".into() } else { globs.join(",") }
}
