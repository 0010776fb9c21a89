//! Changes of policies that would grant a request, and whether they do.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::fix::{Op, Operation, Patch};
use crate::{
    api::{
        DistributionPolicy, DistributionPolicySpec, Effect, Enforcement, NamespaceMatch, PolicyRule, conditions::Reason,
    },
    cli::view::View,
    core::{
        explain::{ExplainedMapping, Explanation, Time, Tried},
        index,
        name::PolicyName,
        policy::Policy,
        request::Request,
    },
};

/// The longest name an object may have.
const MAX_NAME: usize = 253;

/// A refusal that something shall be done about.
pub struct Proposal<'a> {
    /// What is known.
    pub view: &'a View,
    /// The request.
    pub request: &'a Arc<Request>,
    /// Its refusal in one destination.
    pub refusal: &'a Explanation,
}

impl Proposal<'_> {
    /// Whether the changes grant what was refused, a quota aside.
    pub fn is_solved_by(&self, patches: &[Patch]) -> bool {
        let patched = patches.iter().map(|patch| self.patched(patch)).collect::<Option<Vec<_>>>();
        patched.is_some_and(|policies| self.is_granted_under(policies))
    }

    /// Whether another policy does.
    pub fn is_solved_with(&self, policy: &DistributionPolicy) -> bool {
        Policy::parse(policy).is_ok_and(|policy| self.is_granted_under(vec![policy]))
    }

    /// Whether a policy speaks about the destination and no other namespace, whichever may come to exist.
    pub fn is_only_here(&self, policy: &str) -> bool {
        let here = [self.refusal.namespace.to_string()];
        let set = self.view.policies.get(policy).map(|policy| &policy.spec.namespaces);
        set.is_some_and(|set| set.names == here && set.selector.is_none())
    }

    /// How many of the known namespaces a policy speaks about.
    pub fn reach(&self, policy: &str) -> usize {
        let Some(Ok(policy)) = self.view.world.policies.policy(&PolicyName::admitted(policy)) else { return 0 };
        self.view.world.policies.namespaces().filter(|namespace| policy.namespaces.contains(namespace)).count()
    }

    /// Whether a policy grants another mapping of the request.
    fn grants_another(&self, policy: &PolicyName) -> bool {
        let mut rules = self.refusal.mappings.iter().flat_map(|mapping| &mapping.rules);
        rules.any(|tried| tried.allows() && tried.rule.policy == *policy)
    }

    /// Of all else that is known only what speaks about the destination is needed: the same function decides.
    fn is_granted_under(&self, changed: Vec<Policy>) -> bool {
        let policies = &self.view.world.policies;
        let [destination, requester] = [&self.refusal.namespace, &self.request.key.namespace]
            .map(|name| (*policies.namespace_or_unknown(name)).clone());
        let unchanged = policies.speaking_about(&destination).map(|policy| (**policy).clone());
        let unchanged = unchanged.filter(|policy| changed.iter().all(|changed| changed.name != policy.name));
        let all: Vec<_> = unchanged.chain(changed.iter().cloned()).collect();
        let request = (**self.request).clone();
        let namespaces = [requester, destination];
        let world = index::complete(self.view.operator_namespace.clone(), all, namespaces, [request]);
        let after = world.explain(self.request, &self.refusal.namespace, self.view.at);
        after.is_granted()
    }

    fn patched(&self, patch: &Patch) -> Option<Policy> {
        let policy = self.view.policies.get(patch.policy.as_str())?;
        Policy::parse(&patched(policy, &patch.operations)?).ok()
    }
}

/// The policy after the operations; none, if they do not fit it.
pub fn patched(policy: &DistributionPolicy, operations: &[Operation]) -> Option<DistributionPolicy> {
    let mut value = serde_json::to_value(policy).ok()?;
    for Operation { path, value: new, .. } in operations {
        let (parent, last) = path.rsplit_once('/')?;
        match (value.pointer_mut(parent)?, last) {
            (Value::Array(items), "-") => items.push(new.clone()),
            (Value::Object(fields), last) => drop(fields.insert(last.into(), new.clone())),
            _ => return None,
        }
    }
    serde_json::from_value(value).ok()
}

/// The nearest rule of each refused mapping, made to match. None, if one has no rule that entries could be added to.
pub fn widened(proposal: &Proposal<'_>, missing: &[&ExplainedMapping]) -> Option<Vec<Patch>> {
    let mut patches: BTreeMap<&PolicyName, Vec<Operation>> = BTreeMap::new();
    for mapping in missing {
        let edits = mapping.rules.iter().filter_map(|tried| {
            let operations = additions(proposal, mapping, tried)?;
            // A rule that has little to do with the request is no place for it.
            let is_near = operations.len() == 1 || proposal.grants_another(&tried.rule.policy);
            is_near.then_some((operations.len(), &tried.rule.policy, operations))
        });
        let (_, policy, operations) = edits.min_by_key(|(cost, ..)| *cost)?;
        let known = patches.entry(policy).or_default();
        known.extend(operations.into_iter().filter(|operation| !known.contains(operation)).collect::<Vec<_>>());
    }
    let patch = |(policy, operations): (&PolicyName, _)| Patch { policy: policy.to_string(), operations };
    Some(patches.into_iter().map(patch).collect())
}

/// The entries that an Allow rule lacks, if it lacks entries only: a field that is omitted means something else than
/// the field with one entry.
fn additions(proposal: &Proposal<'_>, mapping: &ExplainedMapping, tried: &Tried) -> Option<Vec<Operation>> {
    let counts = tried.effect == Effect::Allow && tried.enforcement == Enforcement::Enforce;
    let rule = proposal.view.policies.get(&tried.rule.policy)?.spec.rules.get(tried.rule.rule)?;
    let requesters = rule.requested_from.as_ref().filter(|set| set.selector.is_none());
    let addition = |reason: &Reason| {
        let (field, value) = match reason {
            Reason::SourceNotPermitted => ("sources", mapping.from.as_str()),
            Reason::KeyNotPermitted => ("keys", mapping.to.as_str()),
            Reason::TypeNotPermitted if !rule.types.is_empty() => ("types", proposal.request.secret_type.as_str()),
            Reason::NameNotPermitted => ("secretNames", proposal.request.secret_name.as_str()),
            Reason::RequesterNotPermitted if requesters.is_some() => {
                ("requestedFrom/names", proposal.request.key.namespace.as_str())
            }
            _ => return None,
        };
        let path = format!("/spec/rules/{}/{field}/-", tried.rule.rule);
        Some(Operation { op: Op::Add, path, value: value.into() })
    };
    let additions: Vec<_> = tried.mismatches.iter().map(addition).collect::<Option<_>>()?;
    Some(additions).filter(|additions| counts && tried.time == Time::InForce && !additions.is_empty())
}

/// A policy that grants the refused mappings, and nothing to anybody else.
pub fn exact(proposal: &Proposal<'_>, missing: &[&ExplainedMapping]) -> DistributionPolicy {
    let (request, destination) = (proposal.request, proposal.refusal.namespace.as_str());
    let requester = request.key.namespace.as_str();
    let only = |name: &str| NamespaceMatch { names: vec![name.into()], selector: None };
    let distinct = |mut texts: Vec<String>| {
        texts.sort();
        texts.dedup();
        texts
    };
    let rule = PolicyRule {
        effect: Effect::Allow,
        sources: distinct(missing.iter().map(|mapping| mapping.from.to_string()).collect()),
        keys: distinct(missing.iter().map(|mapping| mapping.to.to_string()).collect()),
        types: vec![request.secret_type.to_string()],
        secret_names: vec![request.secret_name.to_string()],
        requested_from: (requester != destination).then(|| only(requester)),
        adopt: false,
    };
    let spec = DistributionPolicySpec {
        description: Some(format!("Secret {} for namespace {destination}", request.secret_name)),
        namespaces: only(destination),
        rules: vec![rule],
        ..DistributionPolicySpec::default()
    };
    let name = free_name(proposal.view, &format!("{destination}-{}", request.secret_name));
    DistributionPolicy { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec, status: None }
}

/// The policy as a person would write it: without what is so by default.
pub fn manifest(policy: &DistributionPolicy) -> Value {
    let mut manifest = serde_json::to_value(policy).unwrap_or_default();
    let mut omit = |parent: &str, fields: &[&str]| {
        let object = manifest.pointer_mut(parent).and_then(Value::as_object_mut);
        object.into_iter().for_each(|object| fields.iter().for_each(|field| drop(object.remove(*field))));
    };
    omit("/spec", &["enforcement", "revocation"]);
    omit("/spec/rules/0", &["adopt"]);
    manifest
}

/// A name that no policy has.
fn free_name(view: &View, wish: &str) -> String {
    let wish = wish.get(..MAX_NAME - 5).unwrap_or(wish).trim_end_matches(['-', '.']);
    let numbered = (2..).map(|number| format!("{wish}-{number}"));
    let taken = |name: &String| view.world.policies.policy(&PolicyName::admitted(name)).is_some();
    std::iter::once(wish.to_string()).chain(numbered).find(|name| !taken(name)).unwrap_or_default()
}
