//! What holds while the world changes. On this rests that nothing but what is touched has to be looked at again.

use jiff::SignedDuration;
use proptest::{collection::vec, prelude::*};
use secrets_distributor::core::{
    index::World,
    name::RequestKey,
    plan::{Aim, Stay},
};

use super::{
    generate::{change, lived_in},
    model::{Change, Model, begins_grace, happen, key_of, keys, now, plans, world_of},
};

/// The worlds must answer alike, whatever is asked.
fn assert_alike(one: &World, other: &World) -> Result<(), TestCaseError> {
    for key in keys() {
        prop_assert_eq!(forgetful(one, &key), forgetful(other, &key), "{}", key);
    }
    Ok(())
}

/// The plan, but for one thing: what a namespace held before it took its delegation back only those know who have seen
/// it.
fn forgetful(world: &World, key: &RequestKey) -> String {
    let mut plan = world.plan(key, now());
    for target in plan.iter_mut().flat_map(|plan| &mut plan.targets) {
        if let Aim::Stay(denial, Stay::NotDelegated | Stay::Retained) = &target.aim {
            target.aim = Aim::Withdraw(denial.clone(), None);
        }
    }
    format!("{plan:?}")
}

proptest! {
    #[test]
    fn every_request_whose_plan_changed_is_touched(start in lived_in(), history in vec(change(), 1..32)) {
        let mut model = Model::default();
        let start: Vec<_> = start.into_iter().filter_map(|change| model.take_in(change)).collect();
        let mut world = world_of(start);
        let mut before = plans(&world, now());
        for change in history.into_iter().filter_map(|change| model.take_in(change)) {
            let touched = happen(&mut world, change.clone());
            let after = plans(&world, now());
            for key in keys().filter(|key| before[key] != after[key]) {
                prop_assert!(touched.contains(&key), "{}: {:#?}\nbefore {}\nafter {}", key, change, before[&key], after[&key]);
            }
            before = after;
        }
    }

    #[test]
    fn a_world_that_was_maintained_is_one_that_was_built(start in lived_in(), history in vec(change(), 1..32)) {
        let mut model = Model::default();
        let changes = start.into_iter().chain(history);
        let happened: Vec<_> = changes.filter_map(|change| model.take_in(change)).collect();
        assert_alike(&world_of(happened), &model.world())?;
    }

    #[test]
    fn the_order_of_arrival_decides_nothing(
        (changes, shuffled) in lived_in().prop_flat_map(|changes| {
            let changes = Model::of(changes).changes();
            (Just(changes.clone()), Just(changes).prop_shuffle())
        }),
    ) {
        assert_alike(&world_of(changes), &world_of(shuffled))?;
    }

    #[test]
    fn to_see_the_same_again_touches_nothing(changes in lived_in()) {
        let mut model = Model::default();
        let happened: Vec<_> = changes.into_iter().filter_map(|change| model.take_in(change)).collect();
        let mut world = world_of(happened);
        for change in model.changes() {
            prop_assert!(happen(&mut world, change.clone()).is_empty(), "{change:#?}");
        }
    }

    #[test]
    fn what_is_deleted_and_made_again_is_as_before(changes in lived_in()) {
        let model = Model::of(changes);
        let mut world = model.world();
        let gone = |change: &Change| match change {
            Change::Policy(policy) => policy.metadata.name.clone().map(Change::PolicyGone),
            Change::Request(request) => Some(Change::RequestGone(key_of(request))),
            Change::Secret(target, _) => Some(Change::SecretGone(target.clone())),
            _ => None,
        };
        for change in model.changes() {
            if let Some(gone) = gone(&change) {
                happen(&mut world, gone);
                happen(&mut world, change);
            }
        }
        assert_alike(&world, &model.world())?;
    }

    #[test]
    fn nothing_changes_by_time_alone_before_it_was_told(changes in lived_in(), seconds in 1i64..30) {
        let world = Model::of(changes).world();
        let later = now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
        let (before, after) = (plans(&world, now()), plans(&world, later));
        for key in keys() {
            let plan = world.plan(&key, now()).unwrap();
            let told = plan.wake_at.is_some_and(|at| at <= later);
            // A grace period that begins is written down at once: that is a change of its own.
            let acts = begins_grace(&plan);
            prop_assert!(told || acts || before[&key] == after[&key], "{}\n{}\n{}", key, before[&key], after[&key]);
        }
    }
}
