//! What can hardly be meant in a policy, and in several together.

use super::{Known, Lint, Place};
use crate::{
    api::{Effect, Enforcement, NamespaceMatch, PolicyRule, RevocationAction, findings::FindingCode},
    core::{glob::Over, policy::NamespaceSet, selector::Selector},
};

/// What is found about one policy.
type Found = Vec<(FindingCode, String, String)>;

impl Lint {
    /// Checks all policies that were read.
    pub(super) fn check_policies(&mut self) {
        let policies = std::mem::take(&mut self.policies);
        for known in &policies {
            let mut found = Found::new();
            self.check_time(known, &mut found);
            check_namespaces(known, &mut found);
            check_limits(known, &mut found);
            known.object.spec.rules.iter().enumerate().for_each(|(i, rule)| check_rule(rule, i, &mut found));
            check_redundant(known, &mut found);
            policies.iter().for_each(|other| check_hidden(known, other, &mut found));
            self.take_in(&known.place, found);
        }
    }

    fn take_in(&mut self, place: &Place, found: Found) {
        found.into_iter().for_each(|(code, field, message)| self.find(place, code, &field, message));
    }

    fn check_time(&self, known: &Known, found: &mut Found) {
        let policy = &known.policy;
        if policy.is_expired(self.now) {
            let message = "the policy does nothing any more: delete it, or set another time";
            found.push((FindingCode::Expired, "spec.notAfter".into(), message.into()));
        } else if !policy.has_begun(self.now) {
            let message = "the policy does nothing until then";
            found.push((FindingCode::NotYetInForce, "spec.notBefore".into(), message.into()));
        }
        if policy.enforcement == Enforcement::Audit {
            let message = "the policy grants and denies nothing; its status counts what it would";
            found.push((FindingCode::InAudit, "spec.enforcement".into(), message.into()));
        }
    }
}

fn check_namespaces(known: &Known, found: &mut Found) {
    let (spec, field) = (&known.object.spec, "spec.namespaces");
    check_set(&spec.namespaces, &known.policy.namespaces, field, FindingCode::NeverMatches, found);
    let allows = spec.rules.iter().any(|rule| rule.effect == Effect::Allow);
    if allows && spec.namespaces.selector.is_none() && spec.namespaces.names.iter().any(|name| is_everything(name)) {
        let message = "every namespace may receive what is allowed here: name those that shall";
        found.push((FindingCode::MatchesEverything, format!("{field}.names"), message.into()));
    }
}

fn check_limits(known: &Known, found: &mut Found) {
    let spec = &known.object.spec;
    if known.policy.max_distributions == Some(0) {
        let message = "nothing at all is granted in these namespaces, by whatever policy: is a Deny rule meant?";
        found.push((FindingCode::ZeroQuota, "spec.limits.distributions".into(), message.into()));
    }
    if spec.revocation.action == RevocationAction::Retain && spec.revocation.grace_period.is_some() {
        let message = "with action Retain the Secret is never deleted";
        found.push((FindingCode::NoEffect, "spec.revocation.gracePeriod".into(), message.into()));
    }
}

fn check_rule(rule: &PolicyRule, index: usize, found: &mut Found) {
    let field = format!("spec.rules[{index}]");
    let globs = [("keys", &rule.keys, Over::Keys), ("secretNames", &rule.secret_names, Over::SecretNames)];
    for (name, globs, over) in globs {
        check_globs(globs, over, &format!("{field}.{name}"), FindingCode::NeverMatches, found);
    }
    if let Some(set) = &rule.requested_from {
        let field = format!("{field}.requestedFrom");
        if let Ok(parsed) = NamespaceSet::parse(set, &field) {
            check_set(set, &parsed, &field, FindingCode::RequesterUnreachable, found);
        }
    }
    if rule.effect == Effect::Deny && rule.adopt {
        let message = "a Deny refuses; to adopt is something to allow";
        found.push((FindingCode::NoEffect, format!("{field}.adopt"), message.into()));
    }
    for (i, source) in rule.sources.iter().enumerate().filter(|_| rule.effect == Effect::Allow) {
        if source.split('/').all(is_everything) {
            let message = "every source is allowed, also those that will be mounted one day: name those that shall be";
            found.push((FindingCode::MatchesEverything, format!("{field}.sources[{i}]"), message.into()));
        }
    }
}

/// Names that nothing fits, a selector that nothing fits, or both that nothing fits together; labels that tenants set.
fn check_set(written: &NamespaceMatch, set: &NamespaceSet, field: &str, never: FindingCode, found: &mut Found) {
    check_globs(&written.names, Over::Namespaces, &format!("{field}.names"), never, found);
    let selector = written.selector.as_ref().and_then(|selector| Selector::parse(selector).ok());
    if selector.is_some_and(|selector| selector.is_contradictory()) {
        let message = "no namespace can have such labels: the requirements contradict each other";
        found.push((never, format!("{field}.selector"), message.into()));
    } else if set.excludes_its_names() {
        let message = "the selector on kubernetes.io/metadata.name allows none of the names: both must match";
        found.push((never, field.into(), message.into()));
    }
    if set.is_on_mutable_labels() {
        let message = "tenants may be able to set these labels: prefer names, or the label kubernetes.io/metadata.name";
        found.push((FindingCode::TenantWritableLabels, format!("{field}.selector"), message.into()));
    }
}

fn check_globs(globs: &[String], over: Over, field: &str, never: FindingCode, found: &mut Found) {
    for (i, _) in globs.iter().enumerate().filter(|(_, glob)| !over.can_match(glob)) {
        let message = format!("no {} can be so: the glob matches nothing", over.what());
        found.push((never, format!("{field}[{i}]"), message));
    }
}

fn check_redundant(known: &Known, found: &mut Found) {
    let policy = &known.policy;
    for (i, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.effect == Effect::Allow) {
        let covers = |(j, other): &(usize, &crate::core::policy::Rule)| {
            let same_or_more = other.effect == Effect::Allow && (other.adopt || !rule.adopt);
            // Of two that cover each other the first stays.
            let earlier = *j < i || !rule.covers(other, &policy.namespaces);
            *j != i && same_or_more && earlier && other.covers(rule, &policy.namespaces)
        };
        if let Some((j, _)) = policy.rules.iter().enumerate().find(covers) {
            let message = format!("rule {j} of the policy grants all of it: delete this one");
            found.push((FindingCode::Redundant, format!("spec.rules[{i}]"), message));
        }
    }
}

fn check_hidden(known: &Known, other: &Known, found: &mut Found) {
    for (i, allow) in known.policy.rules.iter().enumerate() {
        let hides = |deny: &&crate::core::policy::Rule| other.policy.hides(deny, &known.policy, allow);
        if other.policy.rules.iter().any(|deny| hides(&deny)) {
            let message = format!("a Deny of {} refuses all of it: a Deny wins, in any order", other.policy.name);
            found.push((FindingCode::DenyHidesAllow, format!("spec.rules[{i}]"), message));
        }
    }
}

fn is_everything(glob: &str) -> bool {
    !glob.is_empty() && glob.bytes().all(|c| c == b'*')
}
