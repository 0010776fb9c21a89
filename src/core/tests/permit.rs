//! What several policies permit together.

use serde_json::json;

use super::{namespace, now, request, with};
use crate::api::DistributionPolicy;
use crate::core::{
    decide::{Decision, Permit},
    index,
    policy::Policy,
};

/// The permit under policies of these names, each of which allows adoption or does not.
fn permit_under(policies: [(&str, bool); 2]) -> Permit {
    let anybody = json!({ "names": ["*"] });
    let policies = policies.map(|(name, adopt)| {
        let rule = json!({ "effect": "Allow", "sources": ["*"], "requestedFrom": anybody });
        let spec = json!({ "namespaces": anybody, "rules": [with(rule, json!({ "adopt": adopt }))] });
        Policy::parse(&DistributionPolicy::new(name, serde_json::from_value(spec).unwrap())).unwrap()
    });
    let request = request(json!({ "adopt": true }));
    let world = index::complete(namespace("operator"), policies, [], [request.clone()]);
    match world.decide(&request.into(), &namespace("team-a"), now()) {
        Decision::Permitted(permit) => permit,
        other => panic!("not permitted: {other:?}"),
    }
}

#[test]
fn one_policy_that_allows_adoption_is_enough() {
    for (first, second) in [(false, false), (false, true), (true, false), (true, true)] {
        let permit = permit_under([("first", first), ("second", second)]);
        assert_eq!(permit.allows_adoption(), first || second, "{first}, {second}");
    }
}

#[test]
fn of_the_policies_that_grant_a_mapping_the_first_by_name_leads() {
    let leading = permit_under([("second", false), ("first", false)]).leading_policies();
    assert_eq!(leading.iter().map(ToString::to_string).collect::<Vec<_>>(), ["first"]);
}
