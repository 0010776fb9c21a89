//! `DistributionPolicy`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Case, check};

const PATH: &str = "/apis/xlscsde.nhs.uk/v1/distributionpolicies";

const NAMES_OR_SELECTOR: &str = "give names or a selector";
const EMPTY_SELECTOR: &str = "an empty selector would mean every namespace";
const RESERVED: &str = "this type is reserved";
const DURATION: &str = "must be a duration of whole seconds, minutes or hours, such as 30s, 5m or 1h30m";

/// A good policy with these fields on top of its spec; null removes one.
fn with(fields: Value) -> Value {
    let rules = json!([{ "effect": "Allow", "sources": ["A"] }]);
    let mut spec = json!({ "namespaces": { "names": ["default"] }, "rules": rules });
    for (name, value) in fields.as_object().unwrap() {
        spec[name] = value.clone();
    }
    json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": "DistributionPolicy",
        "metadata": { "name": "x" },
        "spec": spec,
    })
}

/// A good policy with these fields on top of its rule.
fn rule(fields: Value) -> Value {
    let mut rule = json!({ "effect": "Allow", "sources": ["A"] });
    for (name, value) in fields.as_object().unwrap() {
        rule[name] = value.clone();
    }
    with(json!({ "rules": [rule] }))
}

fn refused(what: impl std::fmt::Debug, object: Value, field: &'static str, expected: &'static str) -> Case {
    Case { what: format!("{what:?}"), object, refusal: Some((field, expected)) }
}

fn accepted(what: impl std::fmt::Debug, object: Value) -> Case {
    Case { what: format!("{what:?}"), object, refusal: None }
}

#[tokio::test]
async fn it_speaks_about_namespaces_that_it_names() -> Result<()> {
    let namespaces = |set: Value| with(json!({ "namespaces": set }));
    let selector = json!({ "matchLabels": { "kubernetes.io/metadata.name": "default" } });
    let mut cases = vec![
        accepted("a good one", with(json!({}))),
        refused("none", with(json!({ "namespaces": null })), "spec.namespaces", "Required value"),
        refused("{}", namespaces(json!({})), "spec.namespaces", NAMES_OR_SELECTOR),
        refused("[]", namespaces(json!({ "names": [] })), "spec.namespaces", NAMES_OR_SELECTOR),
        refused("selector {}", namespaces(json!({ "selector": {} })), "spec.namespaces.selector", EMPTY_SELECTOR),
        refused(
            "names and an empty selector",
            namespaces(json!({ "names": ["a"], "selector": { "matchLabels": {} } })),
            "spec.namespaces.selector",
            EMPTY_SELECTOR,
        ),
        refused(
            "64",
            namespaces(json!({ "names": ["a".repeat(64)] })),
            "spec.namespaces.names[0]",
            "more than 63 bytes",
        ),
        accepted("globs", namespaces(json!({ "names": ["test-application-*", "?", "*"] }))),
        accepted("both", namespaces(json!({ "names": ["a"], "selector": selector }))),
    ];
    for name in ["Team", "a.b", "", "[a-z]", "a\n"] {
        let object = namespaces(json!({ "names": [name] }));
        cases.push(refused(name, object, "spec.namespaces.names[0]", "must be a namespace name or a glob over them"));
    }
    let requesters = |set: Value| rule(json!({ "requestedFrom": set }));
    let field = "spec.rules[0].requestedFrom";
    cases.push(refused("requestedFrom {}", requesters(json!({})), field, NAMES_OR_SELECTOR));
    cases.push(refused("requestedFrom selector {}", requesters(json!({ "selector": {} })), field, EMPTY_SELECTOR));
    cases.push(accepted("requestedFrom", requesters(json!({ "names": ["shared-*"] }))));
    check(PATH, cases).await
}

#[tokio::test]
async fn it_has_rules_and_each_names_sources() -> Result<()> {
    let mut cases = vec![
        refused("no rules", with(json!({ "rules": null })), "spec.rules", "Required value"),
        refused("rules []", with(json!({ "rules": [] })), "spec.rules", "should have at least 1 items"),
        refused("no sources", rule(json!({ "sources": null })), "spec.rules[0].sources", "Required value"),
        refused("sources []", rule(json!({ "sources": [] })), "spec.rules[0].sources", "should have at least 1 items"),
        refused("no effect", rule(json!({ "effect": null })), "spec.rules[0].effect", "Required value"),
        refused("Grant", rule(json!({ "effect": "Grant" })), "spec.rules[0].effect", "\"Allow\", \"Deny\""),
    ];
    for glob in ["", "[a-z]", "[a-", "a//b", "../x", "{a,b}", "a/", "/a", "a/b/c/d/e", "**/x ", ".x", "..data/*", "ä*"]
    {
        let object = rule(json!({ "sources": [glob] }));
        cases.push(refused(glob, object, "spec.rules[0].sources[0]", "must be a source name or a glob over them"));
    }
    for glob in ["*", "kv/*", "a?/b*/c/d", "Wildcard*", "**"] {
        cases.push(accepted(glob, rule(json!({ "sources": [glob] }))));
    }
    for glob in ["a/b", "[x]", ""] {
        let object = rule(json!({ "keys": [glob] }));
        cases.push(refused(glob, object, "spec.rules[0].keys[0]", "must be a key of a Secret or a glob over them"));
    }
    for glob in ["Tls_*", "", "a/b"] {
        let object = rule(json!({ "secretNames": [glob] }));
        cases.push(refused(glob, object, "spec.rules[0].secretNames[0]", "must be a Secret name or a glob over them"));
    }
    cases.push(accepted("keys and names", rule(json!({ "keys": ["tls.*"], "secretNames": ["*-tls*"] }))));
    check(PATH, cases).await
}

#[tokio::test]
async fn it_cannot_grant_a_reserved_type_nor_a_pattern_of_types() -> Result<()> {
    let mut cases = Vec::new();
    for kind in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"] {
        cases.push(refused(kind, rule(json!({ "types": [kind] })), "spec.rules[0].types[0]", RESERVED));
    }
    for kind in ["kubernetes.io/*", "*", ""] {
        let object = rule(json!({ "types": [kind] }));
        cases.push(refused(kind, object, "spec.rules[0].types[0]", "must be a Secret type"));
    }
    cases.push(accepted("its own", rule(json!({ "types": ["kubernetes.io/tls", "example.org/own"] }))));
    check(PATH, cases).await
}

#[tokio::test]
async fn its_times_and_numbers_make_sense() -> Result<()> {
    let times = |from: &str, until: &str| with(json!({ "notBefore": from, "notAfter": until }));
    let grace = |text: &str| with(json!({ "revocation": { "gracePeriod": text } }));
    let (first, second) = ("2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z");
    let mut cases = vec![
        refused("order", times(second, first), "spec", "notBefore must be earlier than notAfter"),
        refused("equal", times(first, first), "spec", "notBefore must be earlier than notAfter"),
        accepted("a second", times(first, second)),
        refused("tomorrow", with(json!({ "notBefore": "tomorrow" })), "spec.notBefore", "must be of type date-time"),
        refused("721h", grace("721h"), "spec.revocation.gracePeriod", "must be at most 720h (30 days)"),
        refused("999999h", grace("999999h"), "spec.revocation.gracePeriod", "must be at most 720h (30 days)"),
        refused("too much", grace("999999h999999h999999h"), "spec.revocation.gracePeriod", "must be at most 720h"),
        refused("Keep", with(json!({ "revocation": { "action": "Keep" } })), "spec.revocation.action", "\"Retain\""),
        refused("-1", with(json!({ "limits": { "distributions": -1 } })), "spec.limits.distributions", "equal to 0"),
        accepted("50", with(json!({ "limits": { "distributions": 50 } }))),
        refused("Warn", with(json!({ "enforcement": "Warn" })), "spec.enforcement", "\"Enforce\", \"Audit\""),
        refused("1025", with(json!({ "description": "d".repeat(1025) })), "spec.description", "more than 1024 bytes"),
        accepted("1024", with(json!({ "description": "d".repeat(1024) }))),
        accepted("Audit", with(json!({ "enforcement": "Audit" }))),
    ];
    for text in ["5", "5d", "-5m", "1.5h", "", "5 m", "m", "PT5M"] {
        cases.push(refused(text, grace(text), "spec.revocation.gracePeriod", DURATION));
    }
    for text in ["0s", "30s", "1h30m", "720h"] {
        cases.push(accepted(text, grace(text)));
    }
    check(PATH, cases).await
}

#[tokio::test]
async fn a_rate_limit_has_a_rate() -> Result<()> {
    let limit = |limit: Value| with(json!({ "rateLimit": limit }));
    let every = |per: &str| limit(json!({ "writes": 60, "per": per }));
    let mut cases = vec![
        refused("{}", limit(json!({})), "spec.rateLimit.writes", "Required value"),
        refused("none", limit(json!({ "writes": 0 })), "spec.rateLimit.writes", "greater than or equal to 1"),
        refused("much", limit(json!({ "writes": 100_001 })), "spec.rateLimit.writes", "less than or equal to 100000"),
        refused(
            "burst",
            limit(json!({ "writes": 1, "burst": 0 })),
            "spec.rateLimit.burst",
            "greater than or equal to 1",
        ),
        refused("0s", every("0s"), "spec.rateLimit.per", "must be above 0s and at most 24h"),
        refused("25h", every("25h"), "spec.rateLimit.per", "must be above 0s and at most 24h"),
        accepted("writes alone", limit(json!({ "writes": 60 }))),
        accepted("all of it", limit(json!({ "writes": 60, "per": "1m", "burst": 20 }))),
    ];
    for text in ["", "5", "1d", "-1m", "minute"] {
        cases.push(refused(text, every(text), "spec.rateLimit.per", DURATION));
    }
    check(PATH, cases).await
}

#[tokio::test]
async fn a_field_of_a_later_version_is_refused_and_not_dropped() -> Result<()> {
    check(
        PATH,
        vec![
            refused("bytes", with(json!({ "limits": { "bytes": "1Mi" } })), "unknown field", "spec.limits.bytes"),
            refused("a typing error", rule(json!({ "source": ["A"] })), "unknown field", "spec.rules[0].source"),
        ],
    )
    .await
}
