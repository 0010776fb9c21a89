//! Each bad field of a policy is refused with its name; what is omitted means what the documentation says.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{namespace, with};
use crate::{
    api::{DistributionPolicy, Effect, names},
    core::{
        decide::Applicable,
        invalid::InvalidField,
        name::SecretType,
        policy::{Namespace, Policy, Rate, Revocation},
    },
};

fn parse(more: Value) -> Result<Policy, InvalidField> {
    let rule = json!({ "effect": "Allow", "sources": ["a"] });
    let spec = with(json!({ "namespaces": { "names": ["team-a"] }, "rules": [rule] }), more);
    Policy::parse(&DistributionPolicy::new("p", serde_json::from_value(spec).unwrap()))
}

fn with_rule(more: Value) -> Value {
    let rule = json!({ "effect": "Allow", "sources": ["a"] });
    json!({ "rules": [rule, with(rule.clone(), more)] })
}

#[track_caller]
fn assert_refused(more: Value, field: &str, problem: &str) {
    let error = parse(more.clone()).expect_err(&more.to_string());
    assert_eq!(error.field, field, "{more}");
    assert!(error.problem.contains(problem), "{more}: {error}");
}

#[test]
fn a_bad_field_is_refused_by_its_name() {
    let not_equal = json!({ "matchExpressions": [{ "key": "a", "operator": "NotEqual" }] });
    for (more, field, problem) in [
        (json!({ "namespaces": {} }), "spec.namespaces", "give names or a selector"),
        (json!({ "namespaces": { "names": ["ok", "Not"] } }), "spec.namespaces.names[1]", "not a glob"),
        (json!({ "namespaces": { "selector": {} } }), "spec.namespaces.selector", "empty selector"),
        (
            json!({ "namespaces": { "selector": not_equal } }),
            "spec.namespaces.selector",
            "matchExpressions[0].operator",
        ),
        (json!({ "rules": [] }), "spec.rules", "at least one rule"),
        (with_rule(json!({ "sources": [] })), "spec.rules[1].sources", "at least one source"),
        (with_rule(json!({ "sources": ["ok", "[a]"] })), "spec.rules[1].sources[1]", "not a glob"),
        (with_rule(json!({ "sources": ["a/../b"] })), "spec.rules[1].sources[0]", "not a glob over sources"),
        (with_rule(json!({ "keys": ["a/b"] })), "spec.rules[1].keys[0]", "not a glob"),
        (with_rule(json!({ "types": ["Opaque", "?"] })), "spec.rules[1].types[1]", "must be a Secret type"),
        (with_rule(json!({ "types": [names::RESERVED_TYPES[1]] })), "spec.rules[1].types[0]", "reserved"),
        (with_rule(json!({ "secretNames": ["A"] })), "spec.rules[1].secretNames[0]", "not a glob"),
        (with_rule(json!({ "requestedFrom": {} })), "spec.rules[1].requestedFrom", "give names or a selector"),
        (
            with_rule(json!({ "requestedFrom": { "names": ["A"] } })),
            "spec.rules[1].requestedFrom.names[0]",
            "not a glob",
        ),
        (json!({ "revocation": { "gracePeriod": "soon" } }), "spec.revocation.gracePeriod", "a duration such as"),
        (json!({ "revocation": { "gracePeriod": "-1s" } }), "spec.revocation.gracePeriod", "a duration such as"),
        (json!({ "revocation": { "gracePeriod": "" } }), "spec.revocation.gracePeriod", "a duration such as"),
        (json!({ "revocation": { "gracePeriod": "1s1s1s1s" } }), "spec.revocation.gracePeriod", "a duration such as"),
        (json!({ "revocation": { "gracePeriod": "1000000s" } }), "spec.revocation.gracePeriod", "a duration such as"),
        (json!({ "revocation": { "gracePeriod": "+1s" } }), "spec.revocation.gracePeriod", "a duration such as"),
        (json!({ "revocation": { "gracePeriod": "721h" } }), "spec.revocation.gracePeriod", "at most 720h"),
        (json!({ "rateLimit": { "writes": 0 } }), "spec.rateLimit", "at least 1"),
        (json!({ "rateLimit": { "writes": 1, "burst": 0 } }), "spec.rateLimit", "at least 1"),
        (json!({ "rateLimit": { "writes": 1, "per": "0s" } }), "spec.rateLimit", "above 0s"),
        (json!({ "rateLimit": { "writes": 1, "per": "25h" } }), "spec.rateLimit.per", "at most 24h"),
    ] {
        assert_refused(more, field, problem);
    }
}

#[test]
fn its_time_must_have_an_extent() {
    let times = |from: &str, to: &str| json!({ "notBefore": from, "notAfter": to });
    let (early, late) = ("2026-01-15T12:00:00Z", "2026-01-15T12:00:01Z");
    assert_refused(times(late, early), "spec.notBefore", "earlier than notAfter");
    assert_refused(times(early, early), "spec.notBefore", "earlier than notAfter");
    let policy = parse(times(early, late)).unwrap();
    let in_time = |at: &str| policy.is_in_time(at.parse().unwrap());
    assert_eq!([in_time("2026-01-15T11:59:59Z"), in_time(early), in_time(late)], [false, true, false]);
    assert_eq!(policy.next_change("2026-01-15T00:00:00Z".parse().unwrap()), early.parse().ok());
    assert_eq!(policy.next_change(early.parse().unwrap()), late.parse().ok());
    assert_eq!(policy.next_change(late.parse().unwrap()), None);
}

#[test]
fn a_refusal_does_not_repeat_the_value() {
    let evil = "\u{1b}[2Jevil";
    for more in [
        json!({ "namespaces": { "names": [evil] } }),
        with_rule(json!({ "sources": [evil] })),
        with_rule(json!({ "types": [evil] })),
        json!({ "revocation": { "gracePeriod": evil } }),
        json!({ "namespaces": { "selector": { "matchExpressions": [{ "key": "a", "operator": evil }] } } }),
    ] {
        let told = parse(more).unwrap_err().to_string();
        assert!(!told.contains("evil") && !told.contains('\u{1b}'), "{told}");
    }
}

#[test]
fn what_an_allow_omits_is_narrow_and_what_a_deny_omits_is_wide() {
    let place = |name: &str| Namespace::unknown(&namespace(name));
    let rule =
        |effect: &str| parse(json!({ "rules": [{ "effect": effect, "sources": ["a"] }] })).unwrap().rules.remove(0);
    let secret_type = |text: &str| SecretType::parse(text).unwrap();
    let (allow, deny) = (rule("Allow"), rule("Deny"));
    assert_eq!((allow.effect, deny.effect), (Effect::Allow, Effect::Deny));
    for data in names::DATA_TYPES {
        assert!(allow.has_type(&secret_type(data)) && deny.has_type(&secret_type(data)), "{data}");
    }
    for other in names::RESERVED_TYPES.into_iter().chain(["example.com/token", "opaque"]) {
        assert!(!allow.has_type(&secret_type(other)) && deny.has_type(&secret_type(other)), "{other}");
    }
    assert!(allow.has_requester(&place("a"), &place("a")) && !allow.has_requester(&place("a"), &place("b")));
    assert!(deny.has_requester(&place("a"), &place("a")) && deny.has_requester(&place("a"), &place("b")));
    for rule in [allow, deny] {
        assert!(rule.has_key("any") && rule.has_secret_name("any") && rule.has_source("a") && !rule.has_source("b"));
    }
}

#[test]
fn names_and_selector_must_both_match() {
    let both = json!({ "names": ["team-*"], "selector": { "matchLabels": { "tier": "gold" } } });
    let policy = parse(json!({ "namespaces": both })).unwrap();
    let place = |name: &str, tier: &str| Namespace {
        labels: [("tier".to_string(), tier.to_string())].into(),
        ..Namespace::unknown(&namespace(name))
    };
    assert!(policy.namespaces.contains(&place("team-a", "gold")));
    assert!(!policy.namespaces.contains(&place("team-a", "tin")));
    assert!(!policy.namespaces.contains(&place("shop", "gold")));
    assert!(policy.is_on_mutable_labels());
    let by_name = json!({ "selector": { "matchLabels": { names::NAME_LABEL: "team-a" } } });
    for set in [json!({ "names": ["team-*"] }), by_name] {
        assert!(!parse(json!({ "namespaces": set })).unwrap().is_on_mutable_labels(), "{set}");
    }
}

#[test]
fn a_policy_of_another_generation_may_say_the_same() {
    let policy = parse(json!({})).unwrap();
    assert!(policy.says_the_same(&Policy { generation: policy.generation + 1, ..policy.clone() }));
    assert!(!policy.says_the_same(&Policy { max_distributions: Some(7), ..policy.clone() }));
}

#[test]
fn only_a_name_without_glob_and_selector_is_literal() {
    let literally =
        |set: Value| parse(json!({ "namespaces": set })).unwrap().namespaces.names_literally(&namespace("kube-system"));
    assert!(literally(json!({ "names": ["team-*", "kube-system"] })));
    let by_name = json!({ "matchLabels": { names::NAME_LABEL: "kube-system" } });
    for set in [
        json!({ "names": ["kube-*"] }),
        json!({ "names": ["kube-syste?"] }),
        json!({ "names": ["kube-public"] }),
        json!({ "selector": by_name }),
        json!({ "names": ["kube-system"], "selector": by_name }),
    ] {
        assert!(!literally(set.clone()), "{set}");
    }
}

#[test]
fn a_grace_period_is_read_in_whole_seconds() {
    let revocation = |value: Value| parse(json!({ "revocation": value })).unwrap().revocation;
    assert_eq!(revocation(json!({})), Revocation::Delete(SignedDuration::ZERO));
    for (written, seconds) in [("1h30m", 5_400), ("30m1h", 5_400), ("1s1s", 2), ("0h", 0), ("720h", 2_592_000)] {
        let delete = Revocation::Delete(SignedDuration::from_secs(seconds));
        assert_eq!(revocation(json!({ "gracePeriod": written })), delete, "{written}");
    }
    assert_eq!(revocation(json!({ "action": "Retain", "gracePeriod": "5m" })), Revocation::Retain);
}

#[test]
fn of_several_policies_the_strictest_rate_and_the_smallest_quota_count() {
    let limits = |rate: Value, quota: u32| parse(json!({ "rateLimit": rate, "limits": { "distributions": quota } }));
    let slow = limits(json!({ "writes": 1, "per": "6s", "burst": 9 }), 3).unwrap();
    let short = limits(json!({ "writes": 60, "burst": 2 }), 2).unwrap();
    let silent = parse(json!({})).unwrap();
    let place = Namespace::unknown(&namespace("team-a"));
    let all = [&slow, &short, &silent];
    let applicable = |policies: &[&Policy]| {
        let applicable = Applicable::to(&place, false, policies.iter().copied(), Timestamp::UNIX_EPOCH);
        (applicable.rate(), applicable.quota())
    };
    assert_eq!(applicable(&all), (Rate::new(1, Duration::from_secs(6), 2), Some(2)));
    assert_eq!(applicable(&all[..1]), (slow.rate, Some(3)));
    assert_eq!(applicable(&all[2..]), (None, None));
}
