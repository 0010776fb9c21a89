//! What several policies permit together.

use serde_json::json;

use super::{named_policy, permit_under, request};
use crate::core::decide::Permit;

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
