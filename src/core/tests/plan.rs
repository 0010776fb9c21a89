//! What is in the way of a write that is granted, and what becomes of what was written.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{aim, at, grant_nothing, here, namespace, now, object, ours, parse, policy, request, with};
use crate::{
    api::names,
    core::{
        forecast::{Edit, Forecast},
        index::{self, Delegation, Stored, World},
        name::Target,
        observed::Observed,
        plan::{Aim, Fate, Plan},
        policy::Namespace,
        request::Request,
        settle::Revoking,
    },
};

/// A namespace that has delegated, a policy that grants everything, and the request `team-a/db` with this spec.
fn world(spec: Value) -> World {
    let mut world = index::complete(namespace("operator"), [policy(json!({}))], [], [request(spec)]);
    world.apply_namespace(Namespace::unknown(&here()));
    world.set_delegation(&here(), Delegation::Granted);
    world
}

fn goes_away(world: &mut World) {
    world.apply_namespace(Namespace { terminating: true, ..Namespace::unknown(&here()) });
}

/// The Secret `db` as it was written for an earlier request of that name.
fn of_an_earlier_request() -> Observed {
    Observed { labels: parse(json!({ "labels": { names::OWNER_UID: "uid-earlier" } })).labels, ..ours("db", "1") }
}

#[test]
fn either_the_request_or_its_namespace_going_stops_every_write() {
    for (deleting, terminating) in [(true, false), (false, true)] {
        let mut world = world(json!({}));
        let going = Request { deleting, ..request(json!({})) };
        world.apply_request(going.key.clone(), Stored::Valid(Arc::new(going)));
        if terminating {
            goes_away(&mut world);
        }
        assert_eq!(aim(&world), "Wait(RequestDeleting)", "{deleting} {terminating}");
    }
}

#[test]
fn a_destination_that_goes_is_waited_for() {
    let mut world = world(json!({ "namespaces": ["team-b"] }));
    world.apply_namespace(Namespace { terminating: true, ..Namespace::unknown(&namespace("team-b")) });
    world.set_delegation(&namespace("team-b"), Delegation::Granted);
    assert_eq!(aim(&world), "Wait(NamespaceTerminating)");
}

/// What there is to do for `team-a/db`.
fn plan(world: &World) -> Plan {
    world.plan(&request(json!({})).key, now()).unwrap()
}

/// What is done about `team-a/db` once nothing grants it any more.
fn revoking(found: Option<Observed>) -> Option<Revoking> {
    let mut world = world(json!({}));
    if let Some(found) = found {
        world.apply_secret(&at("db"), found);
    }
    grant_nothing(&mut world);
    match plan(&world).targets.into_iter().next().unwrap().aim {
        Aim::Withdraw(_, found) => found.map(|(_, revoking)| revoking),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_written_is_revoked_unless_it_is_anothers() {
    assert_eq!(revoking(Some(ours("db", "1"))), Some(Revoking::Delete));
    assert_eq!(revoking(Some(of_an_earlier_request())), None);
    assert_eq!(revoking(None), None);
}

/// What is done about what the request has left under its former name.
fn leftovers(world: &World) -> Vec<(Target, Fate)> {
    plan(world).leftovers.into_iter().map(|leftover| (leftover.target, leftover.fate)).collect()
}

#[test]
fn what_is_not_wanted_any_more_goes_unless_it_goes_already() {
    let renamed = || {
        let mut world = world(json!({ "name": "after" }));
        world.apply_secret(&at("db"), ours("db", "1"));
        world
    };
    assert_eq!(leftovers(&renamed()), [(at("db"), Fate::Prune)]);
    let mut world = renamed();
    world.apply_secret(&at("db"), Observed { deleting: true, ..ours("db", "2") });
    assert_eq!(leftovers(&world), []);
    let mut world = renamed();
    goes_away(&mut world);
    assert_eq!(leftovers(&world), [], "its namespace takes it along");
}

/// The Secret `team-b/db`, which was written for an earlier request `team-a/db`, with these annotations more.
fn left_there(more: Value) -> (Target, Observed) {
    let record = json!({ names::REQUEST: "team-a/db", names::TARGET: "team-b/db" });
    let labels = json!({ names::OWNER_UID: "uid-earlier" });
    let secret = parse(json!({ "uid": "s", "labels": labels, "annotations": with(record, more) }));
    (Target { namespace: namespace("team-b"), ..at("db") }, secret)
}

/// A world in which that is found, beside a request `team-a/db` with this spec.
fn inheriting(spec: Value, (target, secret): (Target, Observed)) -> World {
    let mut world = world(spec);
    world.apply_namespace(Namespace::unknown(&target.namespace));
    world.set_delegation(&target.namespace, Delegation::Granted);
    world.apply_secret(&target, secret);
    world
}

#[test]
fn what_an_earlier_request_of_the_name_has_left_is_taken_on_or_goes() {
    let left = || left_there(json!({}));
    let gone = || [(left().0, Fate::Orphan)];
    let same = json!({ "namespaces": ["team-b"] });
    let mut world = inheriting(same.clone(), left());
    assert_eq!(leftovers(&world), [], "the one of now writes it");
    grant_nothing(&mut world);
    assert_eq!(leftovers(&world), gone(), "it may not");
    let mut world = inheriting(with(same, json!({ "name": "after" })), left());
    assert_eq!(leftovers(&world), gone(), "it does not want it");
    world.delete_request(&request(json!({})).key);
    assert_eq!(leftovers(&world), gone(), "nobody does");
}

#[test]
fn what_a_deleted_request_has_left_stays_where_it_is_retained_or_another_sees_to_it() {
    let mut world = inheriting(json!({}), left_there(json!({ names::DELETION_POLICY: "Retain" })));
    // In the request's own namespace the garbage collector does.
    world.apply_secret(&at("db"), of_an_earlier_request());
    world.delete_request(&request(json!({})).key);
    assert_eq!(leftovers(&world), []);
}

/// What is foretold of `team-a/db`, which a suspended request has left behind, if the policy goes.
fn foretold(found: Observed, change: impl Fn(&mut World)) -> Option<Option<Revoking>> {
    let mut world = world(json!({ "name": "after", "suspend": true }));
    world.apply_secret(&at("db"), found);
    change(&mut world);
    let forecast: Forecast = world.forecast(vec![Edit { name: policy(json!({})).name, policy: None }], now());
    let left = (request(json!({})).key, at("db"));
    let revoking = forecast.revoked().find(|(ask, ..)| **ask == left).map(|(.., revoking)| revoking);
    forecast.grants.contains_key(&left).then_some(revoking)
}

#[test]
fn what_a_suspended_request_has_left_is_foretold_to_be_revoked() {
    assert_eq!(foretold(ours("db", "1"), |_| ()), Some(Some(Revoking::Delete)));
    assert_eq!(foretold(ours("db", "1"), goes_away), None, "its namespace takes it along");
    assert_eq!(foretold(of_an_earlier_request(), |_| ()), None, "it is not of this request");
    let resumed = |world: &mut World| {
        let resumed = Request::parse(&object(json!({ "name": "after" }))).unwrap();
        world.apply_request(resumed.key.clone(), Stored::Valid(Arc::new(resumed)));
    };
    assert_eq!(foretold(ours("db", "1"), resumed), None, "it goes anyway");
}

/// With what its last write says about its revocation.
fn stamped(secret: Observed, revocation: &str) -> Observed {
    let record = json!({ names::REQUEST: "team-a/db", names::TARGET: "team-a/db", names::REVOCATION: revocation });
    Observed { annotations: parse(json!({ "annotations": record })).annotations, ..secret }
}

#[test]
fn what_is_revoked_is_seen_to_first_and_again_when_its_grace_ends() {
    for (spec, name) in [(json!({}), "wanted"), (json!({ "name": "after", "suspend": true }), "left behind")] {
        let mut world = world(spec);
        world.apply_secret(&at("db"), stamped(ours("db", "1"), "Delete after 60s"));
        assert_eq!((plan(&world).revokes(), plan(&world).wake_at), (false, None), "{name}");
        grant_nothing(&mut world);
        let ends = now().checked_add(SignedDuration::from_secs(60)).unwrap();
        assert_eq!((plan(&world).revokes(), plan(&world).wake_at), (true, Some(ends)), "{name}");
    }
}

#[test]
fn a_status_can_be_written_once_every_destination_has_been_looked_at() {
    let mut world = world(json!({}));
    assert!(plan(&world).is_complete());
    world.set_delegation(&here(), Delegation::Refused);
    assert!(plan(&world).is_complete(), "that nobody may look is something to tell");
    world.set_delegation(&here(), Delegation::Unknown);
    assert!(!plan(&world).is_complete());
}

/// When `team-a/db` was last written, as far as a world can tell in which that is found.
fn last_written(found: Option<Observed>, change: impl Fn(&mut World)) -> Option<Timestamp> {
    let mut world = world(json!({}));
    if let Some(found) = found {
        world.apply_secret(&at("db"), found);
    }
    change(&mut world);
    world.last_written(&request(json!({})), &at("db"))
}

#[test]
fn when_a_secret_was_written_is_told_of_ones_own_also_while_nobody_can_look() {
    let at_noon: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let written = || Observed { written: Some(at_noon), ..ours("db", "1") };
    let anothers = || Observed { labels: of_an_earlier_request().labels, ..written() };
    let close = |delegation| move |world: &mut World| drop(world.set_delegation(&here(), delegation));
    let vanish = |world: &mut World| drop(world.delete_namespace(&here()));
    assert_eq!(last_written(Some(written()), |_| ()), Some(at_noon));
    assert_eq!(last_written(Some(ours("db", "1")), |_| ()), None);
    assert_eq!(last_written(Some(anothers()), |_| ()), None);
    assert_eq!(last_written(None, |_| ()), None);
    for delegation in [Delegation::Refused, Delegation::Unknown] {
        assert_eq!(last_written(Some(written()), close(delegation)), Some(at_noon), "{delegation:?}");
        assert_eq!(last_written(Some(anothers()), close(delegation)), None, "{delegation:?}");
    }
    assert_eq!(last_written(Some(written()), vanish), None, "its namespace took it along");
}

/// What is done about `team-a/db`, which is not granted any more.
fn ungranted(found: Observed, change: impl Fn(&mut World)) -> String {
    let mut world = world(json!({}));
    world.apply_secret(&at("db"), found);
    grant_nothing(&mut world);
    change(&mut world);
    aim(&world).split('(').next().unwrap_or_default().to_string() + &stays(&world)
}

fn stays(world: &World) -> String {
    let Aim::Stay(_, stay) = &plan(world).targets[0].aim else { return String::new() };
    format!(" {stay:?}")
}

#[test]
fn what_is_not_granted_and_stays_is_ones_own_and_is_not_meant_to() {
    let held = || Observed { deleting: true, ..ours("db", "1") };
    let refuse = |world: &mut World| drop(world.set_delegation(&here(), Delegation::Refused));
    assert_eq!(ungranted(ours("db", "1"), |_| ()), "Withdraw");
    assert_eq!(ungranted(held(), |_| ()), "Stay Finalizer");
    assert_eq!(ungranted(stamped(held(), "Retain"), |_| ()), "Withdraw");
    assert_eq!(ungranted(held(), goes_away), "Withdraw", "its namespace takes it along");
    assert_eq!(ungranted(ours("db", "1"), refuse), "Stay NotDelegated");
    assert_eq!(ungranted(stamped(ours("db", "1"), "Retain"), refuse), "Stay Retained");
    assert_eq!(ungranted(of_an_earlier_request(), refuse), "Withdraw", "it is not of this request");
    let both = |world: &mut World| {
        refuse(world);
        goes_away(world);
    };
    assert_eq!(ungranted(ours("db", "1"), both), "Withdraw", "its namespace takes it along");
}
