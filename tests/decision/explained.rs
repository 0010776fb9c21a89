//! The explanation and the decision never disagree.

use std::collections::BTreeSet;

use proptest::prelude::*;
use secrets_distributor::{
    api::{Effect, Enforcement, conditions::Reason},
    core::{decide::Decision, explain::Time, index::World},
};

use super::{
    generate::{Quotas, world},
    model::{Model, OPERATOR, asks, happen, namespace, now},
};

proptest! {
    #[test]
    fn the_explanation_is_that_of_the_decision(changes in world(Quotas::Some)) {
        let world = Model::of(changes).world();
        for (request, destination) in asks(&world) {
            let explanation = world.explain(&request, &destination, now());
            match world.decide(&request, &destination, now()) {
                Decision::Permitted(permit) => {
                    prop_assert!(explanation.permitted);
                    for (mapping, policies) in explanation.mappings.iter().zip(permit.granted()) {
                        let named: BTreeSet<_> = mapping.granted_by.iter().map(|rule| rule.policy.clone()).collect();
                        prop_assert_eq!(&named, policies);
                    }
                }
                Decision::Denied(denial) => {
                    prop_assert!(!explanation.permitted);
                    let reasons: Vec<_> = explanation.mappings.iter().map(|mapping| mapping.reasons.clone()).collect();
                    prop_assert_eq!(reasons, denial.reasons);
                    prop_assert_eq!(explanation.quota_full, denial.quota);
                }
                Decision::Unready => prop_assert!(false, "every gate is open"),
            }
        }
    }

    #[test]
    fn every_rule_that_speaks_about_the_destination_is_told(changes in world(Quotas::None)) {
        let model = Model::of(changes);
        let world = model.world();
        for (request, destination) in asks(&world) {
            let about = world.policies.namespace_or_unknown(&destination);
            let compiled = world.policies.policies().filter_map(|(_, policy)| policy.as_ref().ok());
            let speaking = compiled.filter(|policy| policy.namespaces.contains(&about));
            let rules: Vec<_> =
                speaking.flat_map(|policy| (0..policy.rules.len()).map(|rule| (policy.name.clone(), rule))).collect();
            for mapping in world.explain(&request, &destination, now()).mappings {
                let told: Vec<_> = mapping.rules.iter().map(|tried| (tried.rule.policy.clone(), tried.rule.rule)).collect();
                prop_assert_eq!(&told, &rules);
                let denied = mapping.rules.iter().any(|tried| {
                    let decides = tried.enforcement == Enforcement::Enforce && tried.time == Time::InForce;
                    decides && tried.effect == Effect::Deny && tried.mismatches.is_empty()
                });
                let reserved = mapping.reasons.contains(&Reason::ReservedType);
                prop_assert!(reserved || denied == mapping.reasons.contains(&Reason::DeniedByRule));
            }
        }
    }

    #[test]
    fn a_world_that_is_not_ready_is_told_as_such(changes in world(Quotas::None)) {
        let mut world = World::new(namespace(OPERATOR));
        for change in changes {
            happen(&mut world, change);
        }
        for (request, destination) in asks(&world) {
            let explanation = world.explain(&request, &destination, now());
            prop_assert!(!explanation.permitted);
            prop_assert!(explanation.mappings.iter().all(|mapping| mapping.reasons.contains(&Reason::PoliciesNotReady)));
        }
    }
}
