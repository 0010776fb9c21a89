//! The command line tells what is decided, and what it proposes helps.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use secrets_distributor::{
    api::conditions::Reason,
    cli::{
        can_i::{self, Catalogue, Verdict, Wish},
        explain::{Answer, How, patched},
        view::View,
        who_gets,
    },
    core::{decide::Decision, request::Request},
};

use super::{
    generate::{Quotas, world},
    model::{Change, Model, OPERATOR, asks, happen, namespace, now},
};

/// What the command line knows, where the API server has the model's objects.
fn view(model: &Model) -> View {
    let mut view = View::of_namespaces(namespace(OPERATOR), now(), model.namespaces.values().cloned().collect());
    model.policies.values().cloned().for_each(|policy| view.take_policy(policy));
    for request in model.requests.values() {
        happen(&mut view.world, Change::Request(request.clone()));
    }
    view
}

fn requests(view: &View) -> Vec<Arc<Request>> {
    view.world.requests.valid().cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_answer_is_the_decision(changes in world(Quotas::Some)) {
        let model = Model::of(changes);
        let (world, view) = (model.world(), view(&model));
        for request in requests(&view) {
            let answer = serde_json::to_value(Answer::of(&view, &request)).unwrap();
            let destinations = answer["destinations"].as_array().unwrap();
            prop_assert_eq!(destinations.len(), world.requests.destinations(&request.key).count());
            for told in destinations {
                let decision = world.decide(&request, &namespace(told["namespace"].as_str().unwrap()), now());
                let reasons = match decision {
                    Decision::Permitted(_) => vec![BTreeSet::new(); request.mappings.len()],
                    Decision::Denied(denial) => denial.reasons,
                    Decision::Unready => panic!("every gate is open"),
                };
                prop_assert_eq!(told["permitted"].as_bool().unwrap(), reasons.iter().all(BTreeSet::is_empty));
                let mappings = told["mappings"].as_array().unwrap();
                let read = |mapping: &serde_json::Value| serde_json::from_value(mapping["reasons"].clone()).unwrap();
                prop_assert_eq!(mappings.iter().map(read).collect::<Vec<BTreeSet<Reason>>>(), reasons);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_proposed_grants(changes in world(Quotas::Some)) {
        let model = Model::of(changes);
        for request in requests(&view(&model)) {
            for destination in Answer::of(&view(&model), &request).destinations {
                for fix in &destination.fixes {
                    let mut changed = model.clone();
                    match &fix.how {
                        None => continue,
                        Some(How::Apply(manifest)) => {
                            changed.take_in(Change::Policy(serde_json::from_value(manifest.clone()).unwrap()));
                        }
                        Some(How::Patches(patches)) => {
                            for patch in patches {
                                let policy = patched(&changed.policies[&patch.policy], &patch.operations).unwrap();
                                changed.take_in(Change::Policy(policy));
                            }
                        }
                        Some(How::Run(command)) => panic!("nothing is delegated here: {command}"),
                    }
                    let after = changed.world().explain(&request, &destination.namespace, now());
                    // A policy that comes into force may bring a quota; what its places are worth shows then.
                    let is_full = after.quota_full.is_some() && destination.quota_full.is_none();
                    prop_assert!(after.permitted || is_full && after.is_granted(), "{fix:?}: {after:?}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_comes_with_something_to_do(changes in world(Quotas::Some)) {
        let view = view(&Model::of(changes));
        for request in requests(&view) {
            for destination in Answer::of(&view, &request).destinations {
                let silent = destination.permitted || destination.selected;
                prop_assert!(silent || !destination.fixes.is_empty(), "{destination:?}");
            }
        }
    }

    #[test]
    fn what_is_granted_can_be_asked_for_is_listed_and_its_receiver_is_told(changes in world(Quotas::None)) {
        let view = view(&Model::of(changes));
        for (request, destination) in asks(&view.world) {
            let (requester, explanation) = (&request.key.namespace, view.world.explain(&request, &destination, now()));
            let catalogue = Catalogue::of(&view, &destination, requester);
            for mapping in explanation.mappings {
                let exactly = Wish {
                    from: mapping.from.to_string(),
                    to: Some(mapping.to.to_string()),
                    type_: Some(request.secret_type.to_string()),
                    secret_name: Some(request.secret_name.to_string()),
                };
                let verdict = can_i::verdict(&view, &destination, requester, &exactly).unwrap();
                prop_assert_eq!(matches!(verdict, Verdict::Yes(..)), mapping.reasons.is_empty(), "{:?}", verdict);
                let receivers = who_gets::Answer::of(&view, mapping.from.clone(), None).may_receive;
                for rule in &mapping.granted_by {
                    let is_it = |policy: &str, index: usize| (policy, index) == (rule.policy.as_str(), rule.rule);
                    prop_assert!(catalogue.entries.iter().any(|entry| is_it(entry.policy.as_str(), entry.rule)));
                    let receives = receivers.iter().any(|receiver| {
                        receiver.namespace == destination && is_it(receiver.rule.policy.as_str(), receiver.rule.rule)
                    });
                    let exists = view.world.policies.namespace(&destination).is_some();
                    prop_assert!(receives || !exists, "{destination} is not told to receive {}", mapping.from);
                }
            }
        }
    }
}
