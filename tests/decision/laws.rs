//! What holds for every decision.

use std::collections::BTreeSet;

use proptest::prelude::*;
use secrets_distributor::{
    api::{DistributionPolicy, Effect, Enforcement, NamespaceMatch, PolicyRule, conditions::Reason, names},
    core::{
        decide::Decision,
        index::{Gate, World},
        name::{NamespaceName, RequestKey},
    },
};

use super::{
    generate::{Quotas, lived_in, policy, rule, world},
    model::{Change, Model, OPERATOR, asks, decisions, happen, keys, namespace, now, permitted, world_of},
};

fn with(changes: &[Change], more: impl IntoIterator<Item = Change>) -> World {
    world_of(changes.iter().cloned().chain(more))
}

/// The policy under a name that no other has.
fn another(mut policy: DistributionPolicy, change: impl FnOnce(&mut DistributionPolicy)) -> Change {
    policy.metadata.name = Some("another".into());
    change(&mut policy);
    Change::Policy(policy)
}

fn a_policy_of_one(effect: Effect) -> impl Strategy<Value = Change> {
    (policy(Quotas::None), rule(effect))
        .prop_map(|(policy, rule)| another(policy, |policy| policy.spec.rules = vec![rule]))
}

/// A policy that grants everything it can, everywhere it can by a glob.
fn grant_all(types: &[&str]) -> Change {
    let any = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let everywhere = NamespaceMatch { names: any(&["*"]), selector: None };
    let rule = PolicyRule {
        sources: any(&["*", "*/*", "*/*/*"]),
        types: any(types),
        requested_from: Some(everywhere.clone()),
        ..Default::default()
    };
    another(DistributionPolicy::default(), |policy| {
        policy.spec.namespaces = everywhere;
        policy.spec.rules = vec![rule];
    })
}

fn reasons_of(decision: &Decision) -> BTreeSet<Reason> {
    match decision {
        Decision::Denied(denial) => denial.reasons.iter().flatten().copied().collect(),
        Decision::Permitted(_) | Decision::Unready => BTreeSet::new(),
    }
}

proptest! {
    #[test]
    fn nothing_is_granted_by_default(world in world(Quotas::Some)) {
        let bare: Vec<_> = world.into_iter().filter(|change| !matches!(change, Change::Policy(_))).collect();
        let decisions = decisions(&world_of(bare));
        for ((_, destination), decision) in decisions {
            prop_assert!(!matches!(decision, Decision::Permitted(_)));
            let excluded = names::SYSTEM_NAMESPACES.contains(&destination.as_str()) || destination.as_str() == OPERATOR;
            let default = if excluded { Reason::NamespaceExcluded } else { Reason::NoPolicyForNamespace };
            let reasons = reasons_of(&decision);
            prop_assert!(reasons == BTreeSet::from([default]) || reasons == BTreeSet::from([Reason::ReservedType]));
        }
    }

    #[test]
    fn the_decision_is_that_of_the_documentation(changes in world(Quotas::Some)) {
        prop_assert_eq!(Model::of(changes).disagreements(), Vec::<String>::new());
    }

    #[test]
    fn the_order_of_rules_decides_nothing(changes in world(Quotas::Some)) {
        let reversed = changes.iter().cloned().map(|change| match change {
            Change::Policy(mut policy) => {
                policy.spec.rules.reverse();
                Change::Policy(policy)
            }
            other => other,
        });
        let (one, other) = (decisions(&world_of(reversed)), decisions(&world_of(changes.clone())));
        prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    // With quotas it cannot hold: a grant to an older request may take the last place of a younger one.
    #[test]
    fn another_allow_never_takes_a_grant_away(changes in world(Quotas::None), more in a_policy_of_one(Effect::Allow)) {
        let (before, after) = (permitted(&world_of(changes.clone())), permitted(&with(&changes, [more])));
        prop_assert!(before.is_subset(&after), "lost: {:?}", before.difference(&after));
    }

    // With quotas it cannot hold: a refusal of an older request may free the place of a younger one.
    #[test]
    fn another_deny_never_adds_a_grant(changes in world(Quotas::None), more in a_policy_of_one(Effect::Deny)) {
        let (before, after) = (permitted(&world_of(changes.clone())), permitted(&with(&changes, [more])));
        prop_assert!(after.is_subset(&before), "added: {:?}", after.difference(&before));
    }

    #[test]
    fn a_policy_in_audit_changes_nothing(changes in world(Quotas::Some), more in policy(Quotas::Some)) {
        let more = another(more, |policy| policy.spec.enforcement = Enforcement::Audit);
        let (before, after) = (decisions(&world_of(changes.clone())), decisions(&with(&changes, [more])));
        prop_assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }

    #[test]
    fn a_policy_before_its_time_changes_nothing(changes in world(Quotas::Some), more in policy(Quotas::Some)) {
        let later = now().checked_add(jiff::SignedDuration::from_nanos(1)).unwrap();
        let more = another(more, |policy| {
            (policy.spec.not_before, policy.spec.not_after) = (Some(later.into()), None);
        });
        let (before, after) = (decisions(&world_of(changes.clone())), decisions(&with(&changes, [more])));
        prop_assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }

    #[test]
    fn a_policy_past_its_time_only_explains(changes in world(Quotas::Some), more in policy(Quotas::Some)) {
        let more = another(more, |policy| (policy.spec.not_before, policy.spec.not_after) = (None, Some(now().into())));
        let (before, after) = (decisions(&world_of(changes.clone())), decisions(&with(&changes, [more])));
        for (ask, before) in before {
            let mut reasons = [reasons_of(&before), reasons_of(&after[&ask])];
            reasons.iter_mut().for_each(|reasons| reasons.retain(|reason| *reason != Reason::GrantExpired));
            prop_assert_eq!(&reasons[0], &reasons[1]);
            prop_assert!(matches!((&before, &after[&ask]),
                (Decision::Permitted(_), Decision::Permitted(_)) | (Decision::Denied(_), Decision::Denied(_))));
        }
    }

    #[test]
    fn a_world_that_is_not_ready_grants_and_revokes_nothing(
        changes in lived_in(),
        open in proptest::sample::subsequence(Gate::ALL.to_vec(), 0..Gate::ALL.len()),
    ) {
        let mut world = World::new(namespace(OPERATOR));
        for change in changes {
            happen(&mut world, change);
        }
        for gate in open {
            prop_assert!(world.open(gate).is_empty(), "nothing is worth a look before the last gate is open");
        }
        prop_assert!(keys().all(|key| world.plan(&key, now()).is_none()));
        prop_assert!(decisions(&world).values().all(|decision| matches!(decision, Decision::Unready)));
    }

    #[test]
    fn a_reserved_type_is_refused_whatever_policies_say(changes in world(Quotas::None)) {
        let granting = with(&changes, [grant_all(&["example.com/x", "Opaque"])]);
        for (request, destination) in asks(&granting) {
            if names::RESERVED_TYPES.contains(&request.secret_type.as_str()) {
                let decision = granting.decide(&request, &destination, now());
                prop_assert_eq!(reasons_of(&decision), BTreeSet::from([Reason::ReservedType]));
            }
        }
    }

    #[test]
    fn an_excluded_namespace_is_opened_by_its_literal_name_alone(changes in world(Quotas::None)) {
        let opens = |set: &NamespaceMatch, name: &str| set.selector.is_none() && set.names.iter().any(|n| n == name);
        let globs_only = changes.into_iter().filter(|change| match change {
            Change::Policy(policy) => !["kube-system", OPERATOR].iter().any(|name| opens(&policy.spec.namespaces, name)),
            _ => true,
        });
        let granting = with(&globs_only.collect::<Vec<_>>(), [grant_all(&[])]);
        let inside = |(_, destination): &(RequestKey, NamespaceName)| {
            ["kube-system", OPERATOR].contains(&destination.as_str())
        };
        prop_assert!(!permitted(&granting).iter().any(inside));
    }

    #[test]
    fn of_the_granted_the_oldest_have_the_places(changes in world(Quotas::Some)) {
        let model = Model::of(changes);
        let world = model.world();
        let unlimited = Model::of(model.changes().into_iter().map(|change| match change {
            Change::Policy(mut policy) => {
                policy.spec.limits = None;
                Change::Policy(policy)
            }
            other => other,
        }));
        let (granted, permitted) = (permitted(&unlimited.world()), permitted(&world));
        for name in model.namespaces.keys() {
            let oldest_first = world.requests.claims_in(name).map(|request| (request.key.clone(), name.clone()));
            let granted: Vec<_> = oldest_first.filter(|ask| granted.contains(ask)).collect();
            let places = granted.iter().filter(|ask| permitted.contains(ask)).count();
            prop_assert!(granted[..places].iter().all(|ask| permitted.contains(ask)), "a younger one has a place");
            let full = granted[places..].iter().all(|(key, _)| model.is_over_quota(key, name));
            prop_assert!(full, "a place is free in {name}");
        }
    }
}
