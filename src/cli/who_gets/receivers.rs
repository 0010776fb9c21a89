//! The namespaces that may receive a source, by policy and rule.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::Effect,
    cli::{view::View, written::WrittenRule},
    core::{
        name::{NamespaceName, SourceName},
        policy::{Namespace, Policy},
    },
};

/// A namespace that may receive a source by a rule.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receiver {
    /// The namespace.
    pub namespace: NamespaceName,
    /// The Allow rule.
    #[serde(flatten)]
    pub rule: WrittenRule,
    /// Deny rules about the source that make exceptions there.
    pub except: Vec<WrittenRule>,
}

/// Every namespace that exists, or that a policy names literally. One that a Deny rule keeps from it altogether is none.
pub fn of(view: &View, source: &SourceName) -> Vec<Receiver> {
    let mut namespaces: Vec<_> = view.world.policies.namespaces().map(|namespace| (**namespace).clone()).collect();
    let named = view.policies.values().flat_map(|policy| &policy.spec.namespaces.names);
    let unknown = named.filter_map(|name| NamespaceName::parse(name).ok()).filter(|name| {
        // Where the namespaces are known, one that does not exist receives nothing.
        namespaces.is_empty() && view.world.policies.namespace(name).is_none()
    });
    let mut unknown: Vec<_> = unknown.map(|name| Namespace::unknown(&name)).collect();
    namespaces.append(&mut unknown);
    namespaces.sort_by(|a, b| a.name.cmp(&b.name));
    namespaces.dedup();
    namespaces.iter().flat_map(|namespace| in_namespace(view, source, namespace)).collect()
}

fn in_namespace(view: &View, source: &SourceName, namespace: &Namespace) -> Vec<Receiver> {
    let policies = view.world.policies.speaking_about(namespace).filter(|policy| !policy.is_expired(view.at));
    let about = policies.flat_map(|policy| {
        let rules = policy.rules.iter().enumerate().filter(|(_, rule)| rule.has_source(source.as_str()));
        rules.filter_map(|(index, _)| Some((policy, WrittenRule::of(view, policy, index)?))).collect::<Vec<_>>()
    });
    let (allows, denies): (Vec<_>, Vec<_>) = about.partition(|(_, rule)| rule.effect == Effect::Allow);
    let denies: Vec<_> = denies.into_iter().map(|(_, rule)| rule).filter(WrittenRule::is_in_force).collect();
    if denies.iter().any(is_without_exception) {
        return Vec::new();
    }
    let excluded = view.world.is_excluded(&namespace.name);
    let is_open = |policy: &Policy| !excluded || policy.namespaces.names_literally(&namespace.name);
    let allows = allows.into_iter().filter(|(policy, _)| is_open(policy));
    let receiver = |(_, rule)| Receiver { namespace: namespace.name.clone(), rule, except: denies.clone() };
    allows.map(receiver).collect()
}

/// Whether a Deny rule about a source leaves nothing of it.
fn is_without_exception(rule: &WrittenRule) -> bool {
    let all = |globs: &[String]| globs.is_empty() || globs.iter().any(|glob| glob == "*");
    all(&rule.keys) && rule.types.is_empty() && all(&rule.secret_names) && rule.requested_from.is_none()
}
