//! The forecast comes true: what it says of edits is what the operator's own plans say after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use proptest::{collection::vec, prelude::*, sample::select};
use secrets_distributor::{
    api::DistributionPolicy,
    core::{
        decide::Decision,
        forecast::{Edit, Edited, Forecast, Standing},
        index::World,
        name::{PolicyName, RequestKey, Target},
        plan::{Aim, Fate},
        policy::Policy,
        settle::Revoking,
    },
};

use super::{
    generate::{Quotas, lived_in, policy},
    model::{Change, Model, asks, happen, keys, now},
};

/// Edits of policies, as the API server would take them: such that can be compiled.
fn edits() -> impl Strategy<Value = Vec<Change>> {
    let compiles = |policy: &DistributionPolicy| Policy::parse(policy).is_ok();
    let changed = policy(Quotas::Some).prop_filter("compiles", compiles).prop_map(Change::Policy);
    let gone = select(vec!["p0", "p1", "p2", "p3", "p4"]).prop_map(|name| Change::PolicyGone(name.into()));
    vec(prop_oneof![2 => changed, 1 => gone], 1..4)
}

fn edit(change: &Change) -> Edit {
    match change {
        Change::Policy(object) => {
            let policy = Policy::parse(object).map(Arc::new).unwrap();
            Edit { name: PolicyName::admitted(&object.name_any()), policy: Some(policy) }
        }
        Change::PolicyGone(name) => Edit { name: PolicyName::admitted(name), policy: None },
        other => panic!("{other:?} is no edit of a policy"),
    }
}

/// Each policy once, as it is in the end.
fn last_of_each(edits: Vec<Change>) -> Vec<Change> {
    let by_name: BTreeMap<_, _> = edits.into_iter().map(|change| (edit(&change).name, change)).collect();
    by_name.into_values().collect()
}

/// The worlds before and after, and what is foretold of the step between them.
fn step(changes: &[Change], edits: Vec<Change>) -> (World, World, Forecast) {
    let edits = last_of_each(edits);
    let world = || Model::of(changes.iter().cloned()).world();
    let forecast = world().forecast(edits.iter().map(edit).collect(), now());
    let mut after = world();
    for change in edits {
        happen(&mut after, change);
    }
    (world(), after, forecast)
}

/// What the operator would revoke: the Secrets whose grant is gone, by its plans of all requests.
fn revocations(world: &World, at: Timestamp) -> BTreeMap<(RequestKey, Target), Revoking> {
    let mut revocations = BTreeMap::new();
    for key in keys() {
        let plan = world.plan(&key, at).unwrap();
        for target in plan.targets {
            if let Aim::Withdraw(_, Some((_, revoking))) = target.aim {
                revocations.insert((key.clone(), target.target), revoking);
            }
        }
        for leftover in plan.leftovers {
            if let Fate::Revoke(revoking) = leftover.fate {
                revocations.insert((key.clone(), leftover.target), revoking);
            }
        }
    }
    revocations
}

fn permitted_at(world: &World, at: Timestamp) -> BTreeSet<(RequestKey, Target)> {
    let mut permitted = BTreeSet::new();
    for (request, destination) in asks(world) {
        if matches!(world.decide(&request, &destination, at), Decision::Permitted(_)) {
            permitted.insert((request.key.clone(), request.target(&destination)));
        }
    }
    permitted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_is_foretold_to_be_revoked_is_what_the_operator_revokes(changes in lived_in(), edits in edits()) {
        let (before, after, forecast) = step(&changes, edits);
        let already = revocations(&before, now());
        let mut revoked = revocations(&after, now());
        revoked.retain(|ask, _| !already.contains_key(ask));
        let at_once = forecast.revoked().filter(|(_, change, _)| change.from == now());
        let foretold: BTreeMap<_, _> = at_once.map(|(ask, _, revoking)| (ask.clone(), revoking)).collect();
        prop_assert_eq!(foretold, revoked);
    }

    #[test]
    fn what_is_not_foretold_stays_as_it_is_at_any_time(changes in lived_in(), edits in edits()) {
        let (before, after, forecast) = step(&changes, edits);
        for seconds in [0, 4, 5, 9, 10, 15, 60] {
            let at = now() + SignedDuration::from_secs(seconds);
            let (before, after) = (permitted_at(&before, at), permitted_at(&after, at));
            for ask in before.symmetric_difference(&after) {
                let told = forecast.grants.get(ask);
                prop_assert!(told.is_some_and(|change| change.from <= at), "{:?} at +{} s: {:?}", ask, seconds, told);
            }
        }
    }

    #[test]
    fn what_is_foretold_comes_about_at_its_time(changes in lived_in(), edits in edits()) {
        let (before, after, forecast) = step(&changes, edits);
        for (ask, change) in &forecast.grants {
            let is_granted = matches!(change.standing, Standing::Granted(_));
            // What a suspended request has left behind is no destination of it.
            let is_wanted = asks(&after).iter().any(|(request, to)| (&request.key, &request.target(to)) == (&ask.0, &ask.1));
            prop_assert!(!is_wanted || permitted_at(&after, change.from).contains(ask) == is_granted);
            if let Standing::Refused { revoking: Some(revoking), .. } = change.standing {
                let [before, after] = [&before, &after].map(|world| revocations(world, change.from).get(ask).copied());
                prop_assert_eq!((before, after), (None, Some(revoking)));
            }
        }
    }

    #[test]
    fn no_edit_no_change(changes in lived_in()) {
        let model = Model::of(changes.iter().cloned());
        let same: Vec<_> = model.policies.values().filter(|policy| Policy::parse(policy).is_ok()).cloned().collect();
        let (_, _, forecast) = step(&changes, same.into_iter().map(Change::Policy).collect());
        prop_assert_eq!(forecast, Forecast::default());
    }
}

#[test]
fn edits_are_told_by_what_becomes_of_the_policy() {
    let spec = |source: &str| serde_json::json!({ "namespaces": { "names": ["team-a"] }, "rules": [{ "effect": "Allow", "sources": [source] }] });
    let object =
        |name: &str, source: &str| DistributionPolicy::new(name, serde_json::from_value(spec(source)).unwrap());
    let changes = ["p0", "p1", "p2"].map(|name| Change::Policy(object(name, "a")));
    let edits = vec![
        Change::Policy(object("p0", "b")),
        Change::Policy(object("p1", "a")),
        Change::PolicyGone("p2".into()),
        Change::PolicyGone("p3".into()),
        Change::Policy(object("p4", "a")),
    ];
    let (_, _, forecast) = step(&changes, edits);
    let told: Vec<_> = forecast.policies.iter().map(|(name, edited)| (name.as_str(), *edited)).collect();
    assert_eq!(told, [("p0", Edited::Changed), ("p2", Edited::Deleted), ("p4", Edited::Created)]);
}
