//! That the random worlds are worth something: much is granted, and everything that can happen does.

use std::collections::BTreeMap;

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use secrets_distributor::{
    api::conditions::Reason,
    core::{
        decide::Decision,
        plan::{Aim, Fate, Obstacle},
    },
};

use super::{
    generate::{Quotas, lived_in, world},
    model::{Model, decisions, keys, now},
};

const WORLDS: usize = 400;

fn worlds<T>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..WORLDS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn a_third_is_granted_and_every_reason_occurs() {
    let (mut granted, mut asked) = (0, 0);
    let mut seen: BTreeMap<Reason, usize> = BTreeMap::new();
    for changes in worlds(world(Quotas::Some)) {
        for decision in decisions(&Model::of(changes).world()).into_values() {
            asked += 1;
            match decision {
                Decision::Permitted(_) => granted += 1,
                Decision::Denied(denial) => {
                    denial.reasons.iter().flatten().for_each(|reason| *seen.entry(*reason).or_default() += 1);
                }
                Decision::Unready => panic!("every gate is open"),
            }
        }
    }
    let told = format!("{granted} of {asked} granted; {seen:?}");
    assert!(3 * granted >= asked && 3 * (asked - granted) >= asked, "{told}");
    let decided = Reason::ALL.iter().filter(|r| (Reason::ReservedType..=Reason::QuotaExceeded).contains(r));
    for reason in decided {
        assert!(seen.get(reason).is_some_and(|count| *count >= 10), "{reason}: {told}");
    }
}

#[test]
fn everything_that_a_plan_can_say_occurs() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for changes in worlds(lived_in()) {
        let world = Model::of(changes).world();
        for plan in keys().filter_map(|key| world.plan(&key, now())) {
            let aims = plan.targets.iter().map(|target| match &target.aim {
                Aim::Write(..) => "write",
                Aim::Wait(Obstacle::Senior(_)) => "senior",
                Aim::Wait(Obstacle::Suspended) => "suspended",
                Aim::Wait(Obstacle::RequestDeleting) => "deleting",
                Aim::Wait(Obstacle::NamespaceNotFound) => "not found",
                Aim::Wait(Obstacle::NamespaceTerminating) => "terminating",
                Aim::Wait(_) => "not delegated",
                Aim::Withdraw(_, None) => "denied",
                Aim::Stay(..) => "stays",
                Aim::Withdraw(_, Some(_)) => "revoke",
            });
            let fates = plan.leftovers.iter().map(|leftover| match leftover.fate {
                Fate::Prune => "prune",
                Fate::Orphan => "orphan",
                Fate::Revoke(_) => "revoke leftover",
            });
            aims.chain(fates).for_each(|what| *seen.entry(what).or_default() += 1);
        }
    }
    for what in [
        "write",
        "senior",
        "suspended",
        "deleting",
        "not found",
        "terminating",
        "denied",
        "revoke",
        "prune",
        "orphan",
        "revoke leftover",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count >= 5), "{what}: {seen:?}");
    }
}
