//! What is known of Secrets that are looked at one by one instead of being watched.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::{aim, at, grant_nothing, here, namespace, object, ours, parse, policy, request, request_key, seen, with};
use crate::{
    api::{SecretsDistribution, names},
    core::{
        index::{self, Delegation, LastSeen, SecretState, Stored, World},
        name::Uid,
        observed::Observed,
        policy::Namespace,
        request::Request,
    },
};

/// The request `team-a/db`, and whether its namespace has delegated.
fn world(delegation: Delegation) -> World {
    let mut world = index::complete(namespace("operator"), [policy(json!({}))], [], [request(json!({}))]);
    world.set_delegation(&here(), delegation);
    world
}

fn places(world: &World) -> Vec<String> {
    world.places_in(&here()).iter().map(|target| target.name.to_string()).collect()
}

#[test]
fn a_look_wakes_the_request_if_it_finds_something_new_and_only_then() {
    let mut world = world(Delegation::Granted);
    let key = request(json!({})).key;
    assert!(world.looked_at(&at("db"), None).is_empty(), "nothing, as before");
    assert!(world.looked_at(&at("db"), Some(ours("db", "1"))).contains(&key));
    assert!(world.looked_at(&at("db"), Some(ours("db", "1"))).is_empty(), "the same");
    assert!(world.looked_at(&at("db"), Some(ours("db", "2"))).contains(&key), "edited");
    assert!(world.looked_at(&at("db"), Some(ours("db", "1"))).is_empty(), "an answer that came late");
    assert!(world.looked_at(&at("db"), None).contains(&key), "deleted");
    assert!(world.looked_at(&at("db"), None).is_empty());
}

#[test]
fn an_answer_that_comes_after_the_watch_has_shown_more_changes_nothing() {
    let mut world = world(Delegation::Granted);
    world.secrets.remember(&at("db"), ours("db", "7"));
    assert!(world.secrets.knows(&at("db")), "the watch has shown nothing yet");
    world.secrets.shown(&here(), 8);
    world.delete_secret(&at("db"));
    for late in ["7", "8"] {
        world.secrets.remember(&at("db"), ours("db", late));
        assert_eq!(world.secrets.state(&at("db")), SecretState::Absent, "it was written, and is gone");
    }
    world.secrets.shown(&here(), 5);
    world.secrets.remember(&at("db"), ours("db", "8"));
    assert!(!world.secrets.knows(&at("db")), "what was shown stays so");
    world.secrets.remember(&at("db"), ours("db", "9"));
    assert!(world.secrets.knows(&at("db")));
    // Where there is another namespace of the name, nothing has been shown.
    world.secrets.forget_namespace(&here());
    world.secrets.remember(&at("db"), ours("db", "3"));
    assert!(world.secrets.knows(&at("db")));
}

#[test]
fn whether_something_is_revoked_is_open_until_the_namespace_has_been_listed() {
    let mut world = world(Delegation::Unknown);
    world.apply_namespace(Namespace::unknown(&here()));
    grant_nothing(&mut world);
    assert_eq!(aim(&world), "Wait(NotListed)");
    world.delete_namespace(&here());
    assert!(aim(&world).starts_with("Withdraw"), "in none there is nothing: {}", aim(&world));
}

/// What a namespace closes over is not forgotten: that it is revoked could not be said.
#[test]
fn what_was_there_when_a_delegation_ended_is_out_of_reach_once_it_is_not_granted() {
    for (was_there, expected) in [(true, "Stay"), (false, "Withdraw")] {
        let mut world = world(Delegation::Granted);
        world.apply_namespace(Namespace::unknown(&here()));
        if was_there {
            world.apply_secret(&at("db"), ours("db", "1"));
        }
        world.set_delegation(&here(), Delegation::Refused);
        assert_eq!(aim(&world), "Wait(NotDelegated)");
        grant_nothing(&mut world);
        assert!(aim(&world).starts_with(expected), "{}", aim(&world));
        world.set_delegation(&here(), Delegation::Granted);
        assert!(aim(&world).starts_with("Withdraw"), "{}", aim(&world));
    }
}

/// Nor is it when the operator starts anew: the status tells it.
#[test]
fn what_a_status_says_was_written_stays_where_nobody_can_look() {
    let of_another = LastSeen { key: request_key("team-b/db"), ..seen() };
    let of_an_earlier = LastSeen { uid: Uid::admitted("uid-earlier"), ..seen() };
    for (told, expected) in
        [(Some(seen()), "Stay"), (Some(of_another), "Withdraw"), (Some(of_an_earlier), "Withdraw"), (None, "Withdraw")]
    {
        let mut world = world(Delegation::Unknown);
        world.apply_namespace(Namespace::unknown(&here()));
        world.secrets.hint(at("db"), told);
        grant_nothing(&mut world);
        world.set_delegation(&here(), Delegation::Refused);
        assert!(aim(&world).starts_with(expected), "{}", aim(&world));
        for delegation in [Delegation::Granted, Delegation::Refused] {
            world.set_delegation(&here(), delegation);
            assert!(aim(&world).starts_with("Withdraw"), "it was looked for, and was not there: {}", aim(&world));
        }
    }
}

#[test]
fn of_what_is_said_about_what_nobody_can_see_the_later_writing_counts() {
    let written = |second| LastSeen { written: Some(Timestamp::from_second(second).unwrap()), ..seen() };
    let mut world = world(Delegation::Granted);
    world.apply_secret(&at("db"), Observed { written: written(7).written, ..ours("db", "1") });
    world.set_delegation(&here(), Delegation::Refused);
    for (said, counts) in [(None, 7), (Some(seen()), 7), (Some(written(6)), 7), (Some(written(8)), 8)] {
        world.secrets.hint(at("db"), said);
        assert_eq!(world.secrets.last_seen(&at("db")), Some(&written(counts)));
    }
    world.secrets.hint(at("db"), Some(LastSeen { is_retained: true, ..written(8) }));
    assert_eq!(world.secrets.last_seen(&at("db")), Some(&written(8)), "what was said before");
    world.secrets.doubt_hints();
    assert_eq!(world.secrets.last_seen(&at("db")), None);
    assert_eq!(places(&world), ["db"], "it is looked for nevertheless");
    world.secrets.hint(at("db"), Some(seen()));
    assert_eq!(world.secrets.last_seen(&at("db")), Some(&seen()));
    world.set_delegation(&here(), Delegation::Granted);
    world.secrets.hint(at("db"), Some(seen()));
    assert_eq!(world.secrets.last_seen(&at("db")), None, "everything is known there");
}

/// Whoever takes the record off does not hide the Secret by that.
#[test]
fn what_only_an_owner_reference_tells_of_is_known_as_well() {
    let owner = |kind| json!([{ "apiVersion": "xlscsde.nhs.uk/v1", "kind": kind, "name": "db", "uid": "uid-db" }]);
    for (kind, expected) in [("SecretsDistribution", Some(seen())), ("Deployment", None)] {
        let mut world = world(Delegation::Granted);
        let labels = json!({ names::OWNER_UID: "uid-db" });
        world.apply_secret(&at("db"), parse(json!({ "uid": "s", "labels": labels, "ownerReferences": owner(kind) })));
        world.set_delegation(&here(), Delegation::Refused);
        assert_eq!(world.secrets.last_seen(&at("db")), expected.as_ref(), "{kind}");
    }
}

#[test]
fn a_secret_without_our_label_is_as_good_as_none() {
    let mut world = world(Delegation::Granted);
    let foreign = || Some(parse(json!({ "uid": "x", "resourceVersion": "7" })));
    assert!(world.looked_at(&at("db"), foreign()).is_empty());
    assert_eq!(world.secrets.state(&at("db")), SecretState::Absent);
    world.looked_at(&at("db"), Some(ours("db", "1")));
    assert!(!world.looked_at(&at("db"), foreign()).is_empty(), "the label was taken off");
    assert_eq!(world.secrets.state(&at("db")), SecretState::Absent);
}

#[test]
fn places_are_what_is_claimed_what_is_known_and_what_a_status_names() {
    let mut world = world(Delegation::Unknown);
    assert_eq!(places(&world), ["db"]);
    world.expect_secrets([at("db"), at("before")]);
    assert_eq!(places(&world), ["before", "db"]);
    world.looked_at(&at("before"), Some(ours("before", "1")));
    world.set_delegation(&here(), Delegation::Granted);
    assert_eq!(places(&world), ["before", "db"], "it was found");
    world.looked_at(&at("before"), None);
    assert_eq!(places(&world), ["db"], "what was looked for is done with");
    world.expect_secrets([at("before")]);
    assert_eq!(places(&world), ["db"], "where everything is known, a status tells nothing");
}

#[test]
fn what_was_known_when_a_delegation_went_is_looked_for_when_it_returns() {
    let mut world = world(Delegation::Granted);
    world.looked_at(&at("db"), Some(ours("db", "1")));
    let renamed: SecretsDistribution = object(json!({ "name": "after" }));
    let key = request(json!({})).key;
    world.apply_request(key.clone(), Stored::Valid(Arc::new(Request::parse(&renamed).unwrap())));
    for delegation in [Delegation::Refused, Delegation::Refused, Delegation::Unknown] {
        world.set_delegation(&here(), delegation);
        assert_eq!(places(&world), ["after", "db"]);
    }
    assert!(world.looked_at(&at("db"), Some(ours("db", "1"))).contains(&key), "its request prunes it");
    world.delete_namespace(&here());
    assert_eq!(places(&world), ["after"], "the namespace is another one now");
}

#[test]
fn another_requests_secret_is_known_by_its_record_wherever_a_status_sent_us() {
    let mut world = world(Delegation::Unknown);
    let of_another = with(
        json!({ "uid": "x", "resourceVersion": "1", "labels": { names::OWNER_UID: "uid-other" } }),
        json!({ "annotations": { names::REQUEST: "team-b/other", names::TARGET: "team-a/told" } }),
    );
    world.expect_secrets([at("told")]);
    let touched = world.looked_at(&at("told"), Some(parse(of_another)));
    assert_eq!(touched.into_iter().map(|key| key.to_string()).collect::<Vec<_>>(), ["team-b/other"]);
}
