//! What a change in the world means for the requests.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{at, here, namespace, now, ours, policy_of, request, request_key};
use crate::core::{
    forecast::{Edit, Forecast, Limits},
    index::{self, Delegation, Gate, Origin, SecretIndex, Stored, World},
    invalid::InvalidField,
    name::{RequestKey, SourceName, Target, Uid},
    policy::{Namespace, Policy},
    request::Request,
};

#[test]
fn the_last_gate_touches_every_request_also_one_that_has_only_left_a_secret() {
    let mut world = World::new(namespace("operator"));
    let request = Request { key: request_key("team-a/other"), ..request(json!({})) };
    world.apply_request(request.key.clone(), Stored::Valid(request.into()));
    world.apply_namespace(Namespace::unknown(&here()));
    world.set_delegation(&here(), Delegation::Granted);
    world.apply_secret(&at("db"), ours("db", "1"));
    let nobody = BTreeSet::<RequestKey>::new();
    let opened = Gate::ALL.map(|gate| world.open(gate));
    assert_eq!(opened, [nobody.clone(), nobody, BTreeSet::from(["team-a/db", "team-a/other"].map(request_key))]);
    assert!(Gate::ALL.map(|gate| world.open(gate)).iter().all(BTreeSet::is_empty), "they are open");
}

#[test]
fn the_gates_have_the_names_of_what_is_read() {
    assert_eq!(Gate::ALL.map(Gate::as_str), ["policies", "namespaces", "requests"]);
}

#[test]
fn a_namespace_is_awaited_where_a_secret_is_wanted_or_may_have_been_left() {
    let mut world = index::complete(namespace("operator"), [], [], [request(json!({}))]);
    let about = |world: &World, name| (world.is_wanted(&namespace(name)), world.is_awaited(&namespace(name)));
    assert_eq!(about(&world, "team-a"), (true, true));
    assert_eq!(about(&world, "team-b"), (false, false));
    world.expect_secrets([Target { namespace: namespace("team-b"), ..at("db") }]);
    assert_eq!(about(&world, "team-b"), (false, true));
}

#[test]
fn a_source_that_changes_touches_those_that_use_it() {
    let world = index::complete(namespace("operator"), [], [], [request(json!({}))]);
    let using = |name| world.using(&BTreeSet::from([SourceName::parse(name).unwrap()]));
    assert_eq!(using("cert"), BTreeSet::from([request_key("team-a/db")]));
    assert_eq!(using("other"), BTreeSet::new());
}

#[test]
fn a_delegation_has_changed_if_it_or_what_is_known_by_it_has() {
    let mut secrets = SecretIndex::default();
    assert!(!secrets.set_delegation(&here(), Delegation::Unknown));
    assert!(secrets.set_delegation(&here(), Delegation::Granted));
    assert!(!secrets.set_delegation(&here(), Delegation::Granted));
    assert!(secrets.set_delegation(&here(), Delegation::Refused));
    secrets.apply(&at("db"), ours("db", "1"));
    assert!(secrets.set_delegation(&here(), Delegation::Refused), "a Secret is not known any more");
    assert!(!secrets.set_delegation(&here(), Delegation::Refused));
}

fn allow(source: &str) -> Value {
    json!({ "effect": "Allow", "sources": [source] })
}

#[test]
fn the_next_change_of_a_policy_is_the_first_to_come() {
    let at = |seconds: i64| now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
    let policies = [
        policy_of("begins", &["a"], allow("*"), json!({ "notBefore": at(20).to_string() })),
        policy_of("ends", &["b"], allow("*"), json!({ "notAfter": at(10).to_string() })),
        policy_of("ended", &["c"], allow("*"), json!({ "notAfter": at(-10).to_string() })),
    ];
    let world = index::complete(namespace("operator"), policies, [], []);
    let next = [0, 10, 20].map(|seconds| world.next_policy_change(at(seconds)));
    assert_eq!(next, [Some(at(10)), Some(at(20)), None]);
}

#[test]
fn the_destinations_that_have_not_delegated_are_those_of_which_that_is_not_known() {
    let everywhere = request(json!({ "namespaces": ["granted", "refused", "unknown"] }));
    let key = everywhere.key.clone();
    let mut world = index::complete(namespace("operator"), [], [], [everywhere]);
    world.set_delegation(&namespace("granted"), Delegation::Granted);
    world.set_delegation(&namespace("refused"), Delegation::Refused);
    let undelegated: BTreeSet<_> = world.undelegated_destinations(&key).into_iter().collect();
    assert_eq!(undelegated, BTreeSet::from(["refused", "unknown"].map(namespace)));
}

#[test]
fn the_strictest_policy_says_how_fast_a_namespace_is_written_to() {
    let limit = |writes: u32| json!({ "rateLimit": { "writes": writes, "per": "10s" } });
    let policies =
        [policy_of("fast", &["team-*"], allow("*"), limit(10)), policy_of("slow", &["team-a"], allow("*"), limit(5))];
    let world = index::complete(namespace("operator"), policies, [], []);
    let interval = |name| world.rate(&namespace(name), now()).map(|rate| rate.interval.as_secs());
    assert_eq!(["team-a", "team-b", "other"].map(interval), [Some(2), Some(1), None]);
}

#[test]
fn a_policy_is_told_how_much_it_speaks_about_grants_and_denies() {
    let named = |name: &str, source: &str| Request {
        key: request_key(&format!("team-a/{name}")),
        ..request(json!({ "name": name, "secrets": [{ "from": source, "to": "k" }] }))
    };
    let requests = [named("one", "granted"), named("two", "granted"), named("three", "denied"), named("four", "other")];
    let namespaces = ["team-a", "team-b", "other"].map(|name| Namespace::unknown(&namespace(name)));
    let world = index::complete(namespace("operator"), [], namespaces, requests);
    let told = |rule| world.footprint(&policy_of("p", &["team-*"], rule, json!({})), now());
    let granting = told(allow("granted"));
    assert_eq!((granting.namespaces, granting.granted, granting.denied), (2, 2, 0));
    let denying = told(json!({ "effect": "Deny", "sources": ["denied"] }));
    assert_eq!((denying.namespaces, denying.granted, denying.denied), (2, 0, 1));
}

/// What it would mean for the request `team-a/db` if the only policy became that, or went.
fn foretold(before: &Policy, after: Option<Policy>) -> Forecast {
    let wanting = [request(json!({}))];
    let world = index::complete(namespace("operator"), [before.clone()], [Namespace::unknown(&here())], wanting);
    world.forecast(vec![Edit { name: before.name.clone(), policy: after.map(Into::into) }], now())
}

#[test]
fn what_comes_and_goes_is_foretold_and_nothing_else() {
    let [granting, other] = ["cert", "other"].map(|source| policy_of("p", &["team-a"], allow(source), json!({})));
    let counts =
        |forecast: &Forecast| (forecast.granted().count(), forecast.refused().count(), forecast.revoked().count());
    let granted = foretold(&other, Some(granting.clone()));
    assert_eq!((counts(&granted), granted.is_empty()), ((1, 0, 0), false));
    let refused = foretold(&granting, None);
    assert_eq!((counts(&refused), refused.is_empty()), ((0, 1, 0), false));
    let same = foretold(&granting, Some(granting.clone()));
    assert_eq!((counts(&same), same.is_empty()), ((0, 0, 0), true));
    let limited = Policy { max_distributions: Some(7), ..granting.clone() };
    let limited = foretold(&granting, Some(limited));
    assert_eq!((counts(&limited), limited.is_empty()), ((0, 0, 0), false));
}

#[test]
fn from_when_and_until_when_is_foretold() {
    let at = |seconds: i64| now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
    let granting = |times: Value| policy_of("p", &["team-a"], allow("cert"), times);
    let change =
        |after| foretold(&policy_of("p", &["team-a"], allow("other"), json!({})), Some(after)).grants.pop_first();
    let (_, bounded) =
        change(granting(json!({ "notBefore": at(5).to_string(), "notAfter": at(9).to_string() }))).unwrap();
    assert_eq!((bounded.from, bounded.until), (at(5), Some(at(9))));
    let (_, open) = change(granting(json!({}))).unwrap();
    assert_eq!((open.from, open.until), (now(), None));
}

#[test]
fn limits_that_become_others_are_foretold() {
    let limited = |limits: Value| policy_of("p", &["team-a"], allow("*"), limits);
    let before = limited(json!({ "limits": { "distributions": 7 } }));
    let after = limited(json!({ "rateLimit": { "writes": 1, "per": "2s" } }));
    let world = index::complete(namespace("operator"), [before], [Namespace::unknown(&here())], []);
    let rate = after.rate;
    let forecast = world.forecast(vec![Edit { name: after.name.clone(), policy: Some(after.into()) }], now());
    let told = (Limits { rate: None, quota: Some(7) }, Limits { rate, quota: None });
    assert_eq!(forecast.limits, BTreeMap::from([(here(), told)]));
}

#[test]
fn what_was_understood_is_told_apart_from_what_was_not() {
    let mut world = index::complete(namespace("operator"), [], [], [request(json!({}))]);
    let problem = InvalidField::new("spec.name", "is not a name");
    let broken = Stored::Invalid { uid: Uid::admitted("uid"), generation: 1, problem: problem.clone() };
    world.apply_request(request_key("team-b/broken"), broken);
    let valid: Vec<_> = world.requests.valid().map(|request| request.key.to_string()).collect();
    let invalid: Vec<_> = world.requests.invalid().map(|(key, problem)| (key.to_string(), problem.clone())).collect();
    assert_eq!((valid, invalid), (vec!["team-a/db".to_string()], vec![("team-b/broken".to_string(), problem)]));
}

#[test]
fn what_is_deleted_claims_nothing_and_takes_nothing_from_others() {
    let other = Request { key: request_key("team-a/other"), uid: Uid::admitted("other"), ..request(json!({})) };
    let mut world = index::complete(namespace("operator"), [], [], [request(json!({})), other]);
    let source = BTreeSet::from([SourceName::parse("cert").unwrap()]);
    let left = |world: &World| {
        let target = at("db");
        let rivals = world.requests.rivals(&target).map(|request| request.key.clone()).collect();
        (world.using(&source), rivals, world.is_wanted(&here()))
    };
    let two = BTreeSet::from(["team-a/db", "team-a/other"].map(request_key));
    assert_eq!(left(&world), (two.clone(), two, true));
    world.delete_request(&request_key("team-a/db"));
    let one = BTreeSet::from([request_key("team-a/other")]);
    assert_eq!(left(&world), (one.clone(), one, true));
    world.delete_request(&request_key("team-a/other"));
    assert_eq!(left(&world), (BTreeSet::new(), BTreeSet::new(), false));
    assert_eq!(world.requests.claimed_namespaces().next(), None);
}

#[test]
fn a_selector_makes_destinations_of_the_namespaces_that_it_matches() {
    let labelled = |name, tier: &str| Namespace {
        labels: [("tier".to_string(), tier.to_string())].into(),
        ..Namespace::unknown(&namespace(name))
    };
    let selecting = request(json!({ "namespaceSelector": { "matchLabels": { "tier": "gold" } } }));
    let key = selecting.key.clone();
    let world = index::complete(namespace("operator"), [], [labelled("b", "gold"), labelled("c", "tin")], [selecting]);
    let destinations: Vec<_> = world.requests.destinations(&key).map(|(name, origin)| (name.clone(), origin)).collect();
    assert!(destinations.contains(&(namespace("b"), Origin::Selected)), "{destinations:?}");
    assert!(!destinations.iter().any(|(name, _)| *name == namespace("c")), "{destinations:?}");
}
