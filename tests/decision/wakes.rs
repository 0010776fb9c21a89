//! Examples of what is easily forgotten: changes that decide about a request from afar. Random histories find them
//! too, if rarely.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use secrets_distributor::{
    api::{DistributionPolicy, SecretsDistribution, names},
    core::{
        index::{Delegation, World},
        name::{RequestKey, Target},
        policy::Namespace,
    },
};
use serde_json::{Value, json};

use super::model::{Change, happen, key_of, namespace, now, world_of};

fn a_policy(name: &str, spec: Value) -> Change {
    Change::Policy(DistributionPolicy::new(name, serde_json::from_value(spec).unwrap()))
}

fn a_namespace(name: &str, labels: &[(&str, &str)]) -> Change {
    let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    Change::Namespace(Namespace { name: namespace(name), labels, terminating: false })
}

/// A request for the source `cert`, as old as `second` says.
fn a_request(place: &str, second: i64, more: Value) -> (RequestKey, Change) {
    let mut spec = json!({ "secrets": [{ "from": "cert", "to": "password" }], "name": "db" });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let metadata = ObjectMeta {
        namespace: Some(place.into()),
        name: Some("one".into()),
        uid: Some(format!("uid-{place}")),
        creation_timestamp: Some(Time(Timestamp::from_second(second).unwrap())),
        ..Default::default()
    };
    let object = SecretsDistribution { metadata, spec: serde_json::from_value(spec).unwrap(), status: None };
    (key_of(&object), Change::Request(object))
}

fn delegated(name: &str) -> Change {
    Change::Delegation(namespace(name), Delegation::Granted)
}

fn plan(world: &World, key: &RequestKey) -> String {
    format!("{:?}", world.plan(key, now()).unwrap())
}

/// The change alters the plan of the request, and the request is told to be looked at again.
fn assert_woken(world: &mut World, key: &RequestKey, change: Change) {
    let before = plan(world, key);
    let touched: BTreeSet<RequestKey> = happen(world, change);
    assert_ne!(before, plan(world, key), "the example shows nothing");
    assert!(touched.contains(key), "{key} is not in {touched:?}");
}

/// Grants `cert` in team-b to every namespace of tier gold.
fn granted_to_gold(more: Value) -> Change {
    let gold = json!({ "selector": { "matchLabels": { "tier": "gold" } } });
    let rule = json!({ "effect": "Allow", "sources": ["cert"], "requestedFrom": gold });
    let mut spec = json!({ "namespaces": { "names": ["team-b"] }, "rules": [rule] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    a_policy("gold", spec)
}

#[test]
fn the_older_rival_loses_its_grant_by_a_label_of_its_own_namespace() {
    let elsewhere = json!({ "namespaces": ["team-b"] });
    let ((_, older), (younger_key, younger)) =
        (a_request("team-a", 1, elsewhere.clone()), a_request("platform", 2, elsewhere));
    let namespaces = ["team-a", "team-b", "platform"].map(|name| a_namespace(name, &[("tier", "gold")]));
    let changes = [granted_to_gold(json!({})), older, younger, delegated("team-b")];
    let mut world = world_of(namespaces.into_iter().chain(changes));
    assert_woken(&mut world, &younger_key, a_namespace("team-a", &[]));
}

#[test]
fn a_place_in_the_quota_becomes_free_by_a_label_of_another_namespace() {
    let target = |name: &str| json!({ "namespaces": ["team-b"], "name": name });
    let ((_, older), (younger_key, younger)) =
        (a_request("team-a", 1, target("a")), a_request("platform", 2, target("b")));
    let namespaces = ["team-a", "team-b", "platform"].map(|name| a_namespace(name, &[("tier", "gold")]));
    let changes = [granted_to_gold(json!({ "limits": { "distributions": 1 } })), older, younger, delegated("team-b")];
    let mut world = world_of(namespaces.into_iter().chain(changes));
    assert_woken(&mut world, &younger_key, a_namespace("team-a", &[]));
}

#[test]
fn a_destination_that_does_not_exist_has_policies_and_quotas_too() {
    let target = |name: &str| json!({ "namespaces": ["team-b"], "name": name });
    let ((older_key, older), (younger_key, younger)) =
        (a_request("team-a", 1, target("a")), a_request("platform", 2, target("b")));
    let namespaces = ["team-a", "platform"].map(|name| a_namespace(name, &[("tier", "gold")]));
    let mut world = world_of(namespaces.into_iter().chain([older, younger]));
    let policy = granted_to_gold(json!({ "limits": { "distributions": 1 } }));
    assert_woken(&mut world, &older_key, policy);
    assert_woken(&mut world, &younger_key, Change::RequestGone(older_key.clone()));
}

/// A suspended request that was renamed keeps the Secret of its old name, as long as it is granted.
fn suspended_with_leftover() -> (World, RequestKey) {
    let (key, request) = a_request("team-a", 1, json!({ "suspend": true, "namespaces": ["team-b"] }));
    let target = Target { namespace: namespace("platform"), name: key.name.clone() };
    let record = [(names::REQUEST, key.to_string()), (names::TARGET, target.to_string())];
    let meta = ObjectMeta {
        uid: Some("secret".into()),
        labels: Some(BTreeMap::from([(names::OWNER_UID.into(), "uid-team-a".into())])),
        annotations: Some(record.map(|(name, value)| (name.to_string(), value)).into()),
        ..Default::default()
    };
    let namespaces = ["team-a", "team-b", "platform"].map(|name| a_namespace(name, &[]));
    let secret = [request, delegated("team-b"), delegated("platform"), Change::Secret(target, meta)];
    (world_of(namespaces.into_iter().chain(secret).chain([granting_platform(Value::Null)])), key)
}

fn granting_platform(not_after: Value) -> Change {
    let rule = json!({ "effect": "Allow", "sources": ["cert"], "requestedFrom": { "names": ["team-a"] } });
    let spec = json!({ "namespaces": { "names": ["platform"] }, "rules": [rule], "notAfter": not_after });
    a_policy("platform", spec)
}

#[test]
fn what_a_suspended_request_left_behind_goes_with_its_grant() {
    let (mut world, key) = suspended_with_leftover();
    assert_woken(&mut world, &key, Change::PolicyGone("platform".into()));
}

#[test]
fn what_a_suspended_request_left_behind_goes_when_its_grant_expires() {
    let (mut world, key) = suspended_with_leftover();
    let end = now().checked_add(SignedDuration::from_secs(60)).unwrap();
    happen(&mut world, granting_platform(json!(end.to_string())));
    assert_eq!(world.plan(&key, now()).unwrap().wake_at, Some(end));
    assert!(!world.plan(&key, end).unwrap().leftovers.is_empty());
}

#[test]
fn what_a_suspended_request_left_behind_takes_no_place_in_a_quota_and_yields_to_nobody() {
    let (mut world, key) = suspended_with_leftover();
    let rule = json!({ "effect": "Allow", "sources": ["*"] });
    let limited = json!({ "namespaces": { "names": ["platform"] }, "rules": [rule], "limits": { "distributions": 1 } });
    happen(&mut world, a_policy("limited", limited));
    let (other, request) = a_request("platform", 2, json!({}));
    let touched = happen(&mut world, request);
    assert!(world.plan(&other, now()).unwrap().targets[0].permit().is_some());
    assert!(world.plan(&key, now()).unwrap().leftovers.is_empty());
    assert!(!touched.contains(&key));
}
