//! The decision once more, as the documentation words it: no index, no compiled form, nothing shared with the code
//! under test but the API objects.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::ResourceExt;
use secrets_distributor::{
    api::{
        DistributionPolicy, Effect, Enforcement, Mapping, NamespaceMatch, PolicyRule, SecretsDistribution,
        conditions::Reason,
    },
    core::{
        decide::Decision,
        name::{NamespaceName, RequestKey},
        policy::Namespace,
    },
};

use super::model::{Model, OPERATOR, decisions, now};

/// What is true of one mapping.
#[derive(Debug)]
pub struct Verdict {
    pub granted: bool,
    /// Every reason that is true, if it is not granted.
    pub reasons: BTreeSet<Reason>,
}

impl Verdict {
    /// Whether the reasons that were told are true, and the first of them is the most important one.
    fn is_told(&self, told: &BTreeSet<Reason>) -> bool {
        let leads = self.granted || told.first() == self.reasons.first();
        self.granted == told.is_empty() && told.is_subset(&self.reasons) && leads
    }
}

/// A request and one destination of it.
struct Ask<'a> {
    request: &'a SecretsDistribution,
    requester: Namespace,
    destination: Namespace,
}

impl Model {
    /// Where the decisions of the operator are others, or given for other reasons, than those of the documentation.
    pub fn disagreements(&self) -> Vec<String> {
        let compare = |((key, destination), decision): ((RequestKey, NamespaceName), Decision)| {
            let (permitted, verdicts) = self.judge(&key, &destination);
            let agrees = match &decision {
                Decision::Permitted(_) => permitted,
                Decision::Denied(denial) if denial.leading() == Reason::QuotaExceeded => {
                    !permitted && self.is_over_quota(&key, &destination)
                }
                Decision::Denied(denial) => {
                    !permitted && verdicts.iter().zip(&denial.reasons).all(|(verdict, told)| verdict.is_told(told))
                }
                Decision::Unready => false,
            };
            (!agrees).then(|| format!("{key} in {destination}: {decision:?}, but {permitted} for {verdicts:?}"))
        };
        decisions(&self.world()).into_iter().filter_map(compare).collect()
    }

    /// Whether the request may write in the destination, quotas included; and what is true of each mapping.
    pub fn judge(&self, key: &RequestKey, destination: &NamespaceName) -> (bool, Vec<Verdict>) {
        let verdicts = self.verdicts(key, destination);
        let granted = verdicts.iter().all(|verdict| verdict.granted);
        (granted && !self.is_over_quota(key, destination), verdicts)
    }

    /// Whether as many granted, older requests as the smallest quota allows are there already.
    pub fn is_over_quota(&self, key: &RequestKey, destination: &NamespaceName) -> bool {
        let about = self.namespace(destination);
        let quotas = self.in_force().filter(|policy| speaks(&policy.spec.namespaces, &about));
        let Some(quota) = quotas.filter_map(|policy| policy.spec.limits.as_ref()?.distributions).min() else {
            return false;
        };
        let age = |key: &RequestKey| (self.requests[key].creation_timestamp(), self.requests[key].uid(), key.clone());
        let older = self.requests.keys().filter(|other| age(other) < age(key));
        let claims = older.filter(|other| self.destinations(other).contains(destination));
        claims.filter(|other| self.verdicts(other, destination).iter().all(|v| v.granted)).count() >= quota as usize
    }

    fn verdicts(&self, key: &RequestKey, destination: &NamespaceName) -> Vec<Verdict> {
        let request = &self.requests[key];
        let ask = Ask { request, requester: self.namespace(&key.namespace), destination: self.namespace(destination) };
        request.spec.secrets.iter().map(|mapping| self.verdict(&ask, mapping)).collect()
    }

    fn verdict(&self, ask: &Ask<'_>, mapping: &Mapping) -> Verdict {
        let speaking = |policy: &&DistributionPolicy| speaks(&policy.spec.namespaces, &ask.destination);
        let excluded =
            ["kube-system", "kube-public", "kube-node-lease", OPERATOR].contains(&ask.destination.name.as_str());
        let opens = |policy: &&DistributionPolicy| {
            let set = &policy.spec.namespaces;
            !excluded || set.selector.is_none() && set.names.iter().any(|name| *name == ask.destination.name.as_str())
        };
        let in_force: Vec<_> = self.in_force().filter(speaking).collect();
        let allowing: Vec<_> = in_force.iter().copied().filter(opens).collect();
        let expired = self.enforced().filter(|p| is_over(p)).filter(speaking).filter(opens);
        let matching = |policy: &DistributionPolicy, effect: Effect| {
            policy.spec.rules.iter().any(|rule| rule.effect == effect && matches(rule, ask, mapping))
        };
        let rules: Vec<_> = allowing.iter().flat_map(|p| &p.spec.rules).filter(|r| r.effect == Effect::Allow).collect();
        let near: Vec<_> = rules.iter().filter(|rule| names_source(rule, mapping)).collect();
        let truths = [
            (Reason::ReservedType, is_reserved(ask.request)),
            (Reason::DeniedByRule, in_force.iter().any(|policy| matching(policy, Effect::Deny))),
            (Reason::NamespaceExcluded, excluded && allowing.is_empty()),
            (Reason::GrantExpired, expired.into_iter().any(|policy| matching(policy, Effect::Allow))),
            (Reason::NoPolicyForNamespace, in_force.is_empty()),
            (Reason::SourceNotPermitted, near.is_empty()),
            (Reason::KeyNotPermitted, near.iter().any(|rule| !names_key(rule, mapping))),
            (Reason::TypeNotPermitted, near.iter().any(|rule| !names_type(rule, ask.request))),
            (Reason::NameNotPermitted, near.iter().any(|rule| !names_secret(rule, ask.request))),
            (Reason::RequesterNotPermitted, near.iter().any(|rule| !names_requester(rule, ask))),
        ];
        let allowed = allowing.iter().any(|policy| matching(policy, Effect::Allow));
        let refused = truths[..2].iter().any(|(_, is_true)| *is_true);
        let reasons = truths.into_iter().filter(|(_, is_true)| *is_true).map(|(reason, _)| reason).collect();
        Verdict { granted: allowed && !refused, reasons }
    }

    /// The destinations of a request: those it names, else its own; and those its selector matches.
    fn destinations(&self, key: &RequestKey) -> BTreeSet<NamespaceName> {
        let spec = &self.requests[key].spec;
        if spec.secrets.iter().any(|mapping| mapping.to.starts_with("..")) {
            return BTreeSet::new(); // Broken: it is not understood, and claims nothing.
        }
        let named = spec.namespaces.iter().map(|name| NamespaceName::parse(name).unwrap());
        let own = spec.namespaces.is_empty().then(|| key.namespace.clone());
        let selects =
            |namespace: &&Namespace| spec.namespace_selector.as_ref().is_some_and(|s| selects(s, &namespace.labels));
        let selected = self.namespaces.values().filter(selects).map(|namespace| namespace.name.clone());
        named.chain(own).chain(selected).collect()
    }

    fn namespace(&self, name: &NamespaceName) -> Namespace {
        self.namespaces.get(name).cloned().unwrap_or_else(|| Namespace::unknown(name))
    }

    fn enforced(&self) -> impl Iterator<Item = &DistributionPolicy> {
        let broken =
            |policy: &DistributionPolicy| policy.spec.rules.iter().flat_map(|r| &r.sources).any(|s| s.contains('['));
        let enforced = self.policies.values().filter(|policy| policy.spec.enforcement == Enforcement::Enforce);
        enforced.filter(move |policy| !broken(policy))
    }

    fn in_force(&self) -> impl Iterator<Item = &DistributionPolicy> {
        let begun = |policy: &&DistributionPolicy| policy.spec.not_before.as_ref().is_none_or(|from| from.0 <= now());
        self.enforced().filter(begun).filter(|policy| !is_over(policy))
    }
}

fn is_over(policy: &DistributionPolicy) -> bool {
    policy.spec.not_after.as_ref().is_some_and(|end| end.0 <= now())
}

fn speaks(set: &NamespaceMatch, namespace: &Namespace) -> bool {
    let by_name = set.names.is_empty() || set.names.iter().any(|name| glob(name, namespace.name.as_str()));
    by_name && set.selector.as_ref().is_none_or(|selector| selects(selector, &namespace.labels))
}

fn matches(rule: &PolicyRule, ask: &Ask<'_>, mapping: &Mapping) -> bool {
    names_source(rule, mapping)
        && names_key(rule, mapping)
        && names_type(rule, ask.request)
        && names_secret(rule, ask.request)
        && names_requester(rule, ask)
}

fn names_source(rule: &PolicyRule, mapping: &Mapping) -> bool {
    rule.sources.iter().any(|source| glob(source, &mapping.from))
}

fn names_key(rule: &PolicyRule, mapping: &Mapping) -> bool {
    rule.keys.is_empty() || rule.keys.iter().any(|key| glob(key, &mapping.to))
}

fn type_of(request: &SecretsDistribution) -> &str {
    request.spec.type_.as_deref().unwrap_or("Opaque")
}

fn is_reserved(request: &SecretsDistribution) -> bool {
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"]
        .contains(&type_of(request))
}

fn names_type(rule: &PolicyRule, request: &SecretsDistribution) -> bool {
    let data = ["tls", "dockerconfigjson", "dockercfg", "basic-auth", "ssh-auth"].map(|t| format!("kubernetes.io/{t}"));
    let asked = type_of(request);
    match (rule.types.is_empty(), rule.effect) {
        (true, Effect::Deny) => true,
        (true, Effect::Allow) => asked == "Opaque" || data.iter().any(|t| t == asked),
        (false, _) => rule.types.iter().any(|t| t == asked),
    }
}

fn names_secret(rule: &PolicyRule, request: &SecretsDistribution) -> bool {
    let name = request.spec.name.clone().unwrap_or_else(|| request.name_any());
    rule.secret_names.is_empty() || rule.secret_names.iter().any(|secret| glob(secret, &name))
}

fn names_requester(rule: &PolicyRule, ask: &Ask<'_>) -> bool {
    match (&rule.requested_from, rule.effect) {
        (Some(set), _) => speaks(set, &ask.requester),
        (None, Effect::Deny) => true,
        (None, Effect::Allow) => ask.requester.name == ask.destination.name,
    }
}

/// Anchored; `*` is any run of characters but `/`, `?` one such character.
pub fn glob(pattern: &str, name: &str) -> bool {
    let mut ends = BTreeSet::from([0]);
    for wanted in pattern.chars() {
        let next = |at: &usize| name[*at..].chars().next().filter(|c| *c != '/' || wanted == '/');
        ends = match wanted {
            '*' => ends.iter().flat_map(|at| *at..=*at + name[*at..].find('/').unwrap_or(name.len() - at)).collect(),
            '?' => ends.iter().filter(|at| next(at).is_some()).map(|at| at + 1).collect(),
            c => ends.iter().filter(|at| next(at) == Some(c)).map(|at| at + 1).collect(),
        };
    }
    ends.contains(&name.len())
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equals = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let holds = selector.match_expressions.iter().flatten().all(|requirement| {
        let label = labels.get(&requirement.key);
        let listed = label.is_some_and(|label| requirement.values.iter().flatten().any(|value| value == label));
        match requirement.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => label.is_some(),
            "DoesNotExist" => label.is_none(),
            other => panic!("no such operator: {other}"),
        }
    });
    equals && holds
}
