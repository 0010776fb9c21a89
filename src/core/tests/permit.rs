//! What several policies permit together.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;

use super::{named_policy, namespace, now, permit_under, policy_of, request};
use crate::{
    api::names,
    core::{
        decide::{Ask, Effects, Permit, effects},
        policy::{Namespace, Policy},
    },
};

/// The permit under policies of these names, each of which allows adoption or does not.
fn permit_of(policies: [(&str, bool); 2]) -> Permit {
    let policies = policies.map(|(name, adopt)| named_policy(name, json!({ "adopt": adopt })));
    permit_under(policies, &request(json!({ "adopt": true })), "team-a")
}

#[test]
fn one_policy_that_allows_adoption_is_enough() {
    for (first, second) in [(false, false), (false, true), (true, false), (true, true)] {
        let permit = permit_of([("first", first), ("second", second)]);
        assert_eq!(permit.allows_adoption(), first || second, "{first}, {second}");
    }
}

#[test]
fn of_the_policies_that_grant_a_mapping_the_first_by_name_leads() {
    let leading = permit_of([("second", false), ("first", false)]).leading_policies();
    assert_eq!(leading.iter().map(ToString::to_string).collect::<Vec<_>>(), ["first"]);
}

/// A policy that grants the source `cert` in namespaces of these names, until now.
fn ended(names: &[&str]) -> Policy {
    let rule = json!({ "effect": "Allow", "sources": ["cert"] });
    policy_of("p", names, rule, json!({ "notAfter": now().to_string() }))
}

/// What a policy by itself says about a request for a namespace, a second before now or at once.
fn effect(policy: &Policy, spec: serde_json::Value, destination: &str, in_time: bool, excluded: bool) -> Effects {
    let (requester, destination) =
        (Namespace::unknown(&namespace("team-a")), Namespace::unknown(&namespace(destination)));
    let ask = Ask { request: &Arc::new(request(spec)), requester: &requester, destination: &destination };
    effects(ask, policy, now() - SignedDuration::from_secs(in_time.into()), excluded)
}

#[test]
fn a_policy_says_something_in_its_time_of_its_namespaces_and_of_no_reserved_type() {
    let policy = ended(&["team-a"]);
    assert_eq!(effect(&policy, json!({}), "team-a", true, false), Effects::Grants);
    assert_eq!(effect(&policy, json!({}), "team-a", false, false), Effects::Nothing);
    assert_eq!(effect(&policy, json!({}), "team-b", true, false), Effects::Nothing);
    assert_eq!(effect(&policy, json!({ "type": names::RESERVED_TYPES[0] }), "team-a", true, false), Effects::Nothing);
    let other = json!({ "secrets": [{ "from": "other", "to": "k" }] });
    assert_eq!(effect(&policy, other, "team-a", true, false), Effects::Nothing);
}

#[test]
fn a_policy_says_something_of_an_excluded_namespace_that_it_names() {
    assert_eq!(effect(&ended(&["team-a"]), json!({}), "team-a", true, true), Effects::Grants);
    assert_eq!(effect(&ended(&["team-*"]), json!({}), "team-a", true, true), Effects::Nothing);
    assert_eq!(effect(&ended(&["team-*"]), json!({}), "team-a", true, false), Effects::Grants);
}
