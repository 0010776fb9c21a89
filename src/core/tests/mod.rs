//! Tests of the parts, on objects as the API server has them.

mod cases;
mod census;
mod lint;
mod looks;
mod observed;
mod outcome;
mod permit;
mod plan;
mod policy;
mod render;
mod request;
mod revoke;
mod settle;
mod world;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::{Value, json};

use super::{
    bytes::SecretBytes,
    decide::{Decision, Permit},
    index::{self, LastSeen, World},
    name::{NamespaceName, RequestKey, SecretName, Target, Uid},
    observed::Observed,
    policy::Policy,
    render::{Rendered, Seal, render},
    request::Request,
};
use crate::api::{DistributionPolicy, SecretsDistribution, names};

/// What must never be printed.
const CANARY: &str = "hunter2-canary";

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

fn namespace(name: &str) -> NamespaceName {
    NamespaceName::parse(name).unwrap()
}

/// The value with some fields replaced.
fn with(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

/// The request `team-a/db`, of one source; `more` replaces fields of its spec.
fn object(more: Value) -> SecretsDistribution {
    let spec = with(json!({ "secrets": [{ "from": "cert", "to": "password" }] }), more);
    let metadata = ObjectMeta {
        namespace: Some("team-a".into()),
        name: Some("db".into()),
        uid: Some("uid-db".into()),
        generation: Some(3),
        creation_timestamp: Some(Time(Timestamp::from_second(500).unwrap())),
        ..Default::default()
    };
    SecretsDistribution { metadata, spec: serde_json::from_value(spec).unwrap(), status: None }
}

fn request(more: Value) -> Request {
    Request::parse(&object(more)).unwrap()
}

/// What is to be done about the Secret of that request.
fn aim(world: &World) -> String {
    let plan = world.plan(&request(json!({})).key, jiff::Timestamp::UNIX_EPOCH).unwrap();
    format!("{:?}", plan.targets[0].aim)
}

/// A policy that grants everything a request can ask; `more` replaces fields of its only rule.
fn policy(more: Value) -> Policy {
    named_policy("all", more)
}

fn named_policy(name: &str, more: Value) -> Policy {
    let rule = json!({ "effect": "Allow", "sources": ["*", "*/*"], "requestedFrom": { "names": ["*"] } });
    policy_of(name, &["*"], with(rule, more), json!({}))
}

/// A policy for namespaces of these names, whose only rule is that; `more` fields of its spec.
fn policy_of(name: &str, namespaces: &[&str], rule: Value, more: Value) -> Policy {
    let spec = with(json!({ "namespaces": { "names": namespaces }, "rules": [rule] }), more);
    Policy::parse(&DistributionPolicy::new(name, serde_json::from_value(spec).unwrap())).unwrap()
}

/// The permit of a request for a destination, under these policies alone.
fn permit_under(policies: impl IntoIterator<Item = Policy>, request: &Request, destination: &str) -> Permit {
    let world = index::complete(namespace("operator"), policies, [], [request.clone()]);
    match world.decide(&request.clone().into(), &namespace(destination), now()) {
        Decision::Permitted(permit) => permit,
        other => panic!("not permitted: {other:?}"),
    }
}

fn permit(request: &Request, destination: &str) -> Permit {
    permit_under([policy(json!({}))], request, destination)
}

fn seal() -> Seal {
    Seal { key: SecretBytes::new(CANARY.as_bytes().to_vec()), managed_by: "first-operator".into() }
}

/// The Secret of a permit; every source has the same content.
fn rendered_of(permit: Permit, content: &str) -> Rendered {
    let contents: BTreeMap<_, _> =
        permit.sources().into_iter().map(|source| (source, SecretBytes::new(content.as_bytes().to_vec()))).collect();
    render(permit, &contents, &seal()).unwrap()
}

fn rendered(request: &Request, destination: &str) -> Rendered {
    rendered_of(permit(request, destination), CANARY)
}

fn here() -> NamespaceName {
    namespace("team-a")
}

/// A Secret in the namespace of that request.
fn at(name: &str) -> Target {
    Target { namespace: here(), name: SecretName::parse(name).unwrap() }
}

/// A Secret that was written there for that request.
fn ours(name: &str, version: &str) -> Observed {
    let record = json!({ names::REQUEST: "team-a/db", names::TARGET: format!("team-a/{name}") });
    let labels = json!({ names::OWNER_UID: "uid-db" });
    parse(json!({ "uid": name, "resourceVersion": version, "labels": labels, "annotations": record }))
}

fn parse(meta: Value) -> Observed {
    Observed::parse(serde_json::from_value(meta).unwrap())
}

fn grant_nothing(world: &mut World) {
    let granting: Vec<_> = world.policies.policies().map(|(name, _)| name.clone()).collect();
    granting.iter().for_each(|name| drop(world.delete_policy(name)));
}

/// What is known of such a Secret while nobody can look.
fn seen() -> LastSeen {
    LastSeen { key: request_key("team-a/db"), uid: Uid::admitted("uid-db"), written: None, is_retained: false }
}

fn request_key(text: &str) -> RequestKey {
    let (namespace, name) = text.split_once('/').unwrap();
    RequestKey { namespace: NamespaceName::parse(namespace).unwrap(), name: SecretName::parse(name).unwrap() }
}
