//! Policies that are made of requests grant these, and nothing else.

use std::collections::BTreeSet;

use kube::ResourceExt;
use proptest::prelude::*;
use secrets_distributor::{
    api::{DistributionPolicy, Enforcement, names},
    core::{bootstrap, decide::Decision, index::World, policy::Policy, request::Request},
};

use super::{
    generate::{Quotas, world},
    model::{Change, Model, NAMESPACES, asks, decisions, namespace, now, world_of},
};

/// The requests of a random world, and its namespaces; no policy.
fn unruled() -> impl Strategy<Value = Vec<Change>> {
    let is_kept = |change: &Change| !matches!(change, Change::Policy(_));
    world(Quotas::None).prop_map(move |changes| changes.into_iter().filter(is_kept).collect())
}

fn enforced(drafts: Vec<bootstrap::Draft>) -> impl Iterator<Item = Change> {
    drafts.into_iter().map(|mut draft| {
        assert_eq!(draft.policy.spec.enforcement, Enforcement::Audit, "somebody looks at it first");
        draft.policy.spec.enforcement = Enforcement::Enforce;
        Change::Policy(draft.policy)
    })
}

/// Everything that some request asks for: source, key, type, name, from where and to where.
fn asked(world: &World) -> BTreeSet<[String; 6]> {
    let atoms = |(request, destination): &(std::sync::Arc<Request>, _)| {
        let rest = [
            request.secret_type.to_string(),
            request.secret_name.to_string(),
            request.key.namespace.to_string(),
            format!("{destination}"),
        ];
        let [kind, name, from, to] = rest;
        let atom = |mapping: &secrets_distributor::core::request::Mapping| {
            let (source, key) = (mapping.from.to_string(), mapping.to.to_string());
            [source, key, kind.clone(), name.clone(), from.clone(), to.clone()]
        };
        request.mappings.iter().map(atom).collect::<Vec<_>>()
    };
    asks(world).iter().flat_map(atoms).collect()
}

/// Every request of one mapping that could be made of what occurs anywhere, and more.
fn probes(asked: &BTreeSet<[String; 6]>) -> Vec<[String; 6]> {
    let values = |i: usize, more: &str| -> BTreeSet<String> {
        asked.iter().map(|atom| atom[i].clone()).chain([more.to_string()]).collect()
    };
    let mut probes = Vec::new();
    for source in values(0, "other") {
        for key in values(1, "other") {
            for kind in values(2, "example.com/other") {
                for name in values(3, "other") {
                    for from in NAMESPACES {
                        for to in NAMESPACES {
                            let [from, to] = [from, to].map(String::from);
                            probes.push([source.clone(), key.clone(), kind.clone(), name.clone(), from, to]);
                        }
                    }
                }
            }
        }
    }
    probes
}

fn is_permitted(world: &World, [source, key, kind, name, from, to]: &[String; 6]) -> bool {
    let spec = serde_json::json!({
        "name": name, "type": kind, "secrets": [{ "from": source, "to": key }], "namespaces": [to],
    });
    let mut object = secrets_distributor::api::SecretsDistribution::new("probe", serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some(from.clone());
    let request = Request::parse(&object).unwrap().into();
    matches!(world.decide(&request, &namespace(to), now()), Decision::Permitted(_))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_that_is_asked_for_is_granted_and_nothing_else(changes in unruled()) {
        let before = Model::of(changes.iter().cloned()).world();
        let after = world_of(changes.iter().cloned().chain(enforced(bootstrap::drafts(&before))));
        for ((key, destination), decision) in decisions(&after) {
            let left_out = bootstrap::left_out(&before).contains_key(&key);
            prop_assert_eq!(matches!(decision, Decision::Permitted(_)), !left_out, "{} in {}", key, destination);
        }
        let asked = asked(&before);
        for probe in probes(&asked) {
            let reserved = names::RESERVED_TYPES.contains(&probe[2].as_str());
            prop_assert_eq!(is_permitted(&after, &probe), asked.contains(&probe) && !reserved, "{:?}", probe);
        }
    }

    #[test]
    fn who_asks_to_adopt_may_and_nobody_else(changes in unruled()) {
        let before = Model::of(changes.iter().cloned()).world();
        let after = world_of(changes.iter().cloned().chain(enforced(bootstrap::drafts(&before))));
        for ((key, _), decision) in decisions(&after) {
            let adopts = before.requests.valid().any(|request| request.key == key && request.adopt);
            if let Decision::Permitted(permit) = decision {
                prop_assert_eq!(permit.allows_adoption(), adopts);
            }
        }
    }

    #[test]
    fn the_drafts_are_the_same_in_any_order_and_can_be_compiled(changes in unruled()) {
        let drafts = |changes: Vec<Change>| {
            let drafts = bootstrap::drafts(&Model::of(changes).world());
            drafts.into_iter().map(|draft| draft.policy).collect::<Vec<DistributionPolicy>>()
        };
        let namespaces_first = Model::of(changes.clone()).changes();
        let reversed: Vec<_> = namespaces_first.iter().rev().cloned().collect();
        let policies = drafts(namespaces_first);
        prop_assert_eq!(&policies, &drafts(reversed));
        let names: BTreeSet<_> = policies.iter().map(ResourceExt::name_any).collect();
        prop_assert_eq!(names.len(), policies.len());
        prop_assert!(policies.iter().all(|policy| Policy::parse(policy).is_ok()));
    }
}
