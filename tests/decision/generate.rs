//! Random worlds of small alphabets, so that much matches.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference, Time,
};
use proptest::{
    collection::{btree_map, vec},
    option::weighted,
    prelude::*,
    sample::{select, subsequence},
};
use secrets_distributor::{
    api::{
        DeletionPolicy, DistributionPolicy, DistributionPolicySpec, Effect, Enforcement, Limits, Mapping,
        NamespaceMatch, PolicyRule, Revocation, RevocationAction, SecretsDistribution, SecretsDistributionSpec, names,
    },
    core::{
        index::Delegation,
        name::{NamespaceName, RequestKey, SecretName, Target},
        policy::Namespace,
    },
};

use super::model::{Change, NAMES, NAMESPACES, namespace, now};

const SECRET_NAMES: [&str; 2] = ["db", "web-tls"];
const POLICIES: [&str; 5] = ["p0", "p1", "p2", "p3", "p4"];

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// One of several lists of texts, those at the front more often.
fn lists(lists: &[(u32, &[&str])]) -> impl Strategy<Value = Vec<String>> + Clone + use<> {
    let weighted: Vec<_> = lists.iter().map(|(weight, list)| (*weight, Just(texts(list)).boxed())).collect();
    proptest::strategy::Union::new_weighted(weighted)
}

fn a_namespace_name() -> impl Strategy<Value = NamespaceName> {
    prop_oneof![25 => select(&NAMESPACES[..3]), 2 => select(&NAMESPACES[3..])].prop_map(namespace)
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let equals = select(vec![("tier", "gold"), ("env", "prod"), ("env", "dev")]).prop_map(|(key, value)| {
        LabelSelector { match_labels: Some(BTreeMap::from([(key.into(), value.into())])), ..Default::default() }
    });
    let operators =
        select(vec![("In", Some("prod")), ("NotIn", Some("prod")), ("Exists", None), ("DoesNotExist", None)]);
    let expression = operators.prop_map(|(operator, value)| {
        let values = value.map(|value| vec![value.to_string()]);
        let requirement = LabelSelectorRequirement { key: "env".into(), operator: operator.into(), values };
        LabelSelector { match_expressions: Some(vec![requirement]), ..Default::default() }
    });
    prop_oneof![equals, expression]
}

fn namespace_match() -> impl Strategy<Value = NamespaceMatch> {
    let names = lists(&[
        (16, &["*"]),
        (4, &["team-?", "platform"]),
        (2, &["team-a"]),
        (2, &["kube-system", "team-*"]),
        (1, &["secrets-distributor"]),
    ]);
    prop_oneof![
        12 => names.clone().prop_map(|names| NamespaceMatch { names, selector: None }),
        1 => selector().prop_map(|selector| NamespaceMatch { names: vec![], selector: Some(selector) }),
        2 => (names, selector()).prop_map(|(names, selector)| NamespaceMatch { names, selector: Some(selector) }),
    ]
}

pub fn rule(effect: Effect) -> impl Strategy<Value = PolicyRule> {
    let sources = match effect {
        Effect::Allow => lists(&[(8, &["*", "*/*"]), (2, &["prod/*", "cert"]), (1, &["*/d?"]), (1, &["cert"])]),
        Effect::Deny => lists(&[(2, &["prod/*"]), (1, &["*", "*/*"]), (2, &["cert"])]),
    };
    let requested_from = match effect {
        Effect::Allow => weighted(0.8, namespace_match()),
        Effect::Deny => weighted(0.3, namespace_match()),
    };
    let keys = lists(&[(8, &[]), (1, &["tls.*"]), (1, &["pass*", "ca"])]);
    let types = lists(&[(6, &[]), (1, &["kubernetes.io/tls"]), (1, &["example.com/x", "Opaque"])]);
    let secret_names = lists(&[(8, &[]), (1, &["*-tls"]), (1, &["db", "one"])]);
    (sources, keys, types, secret_names, requested_from, prop::bool::weighted(0.3)).prop_map(
        move |(sources, keys, types, secret_names, requested_from, adopt)| PolicyRule {
            effect,
            sources,
            keys,
            types,
            secret_names,
            requested_from,
            adopt,
        },
    )
}

fn rules() -> impl Strategy<Value = Vec<PolicyRule>> {
    let any = prop_oneof![9 => rule(Effect::Allow).boxed(), 1 => rule(Effect::Deny).boxed()];
    let broken = rule(Effect::Allow).prop_map(|rule| PolicyRule { sources: texts(&["[broken]"]), ..rule });
    prop_oneof![20 => vec(any, 1..3), 1 => vec(broken, 1)]
}

/// From when to when a policy holds, around `now`; mostly always.
fn times() -> impl Strategy<Value = (Option<Time>, Option<Time>)> {
    let at = |seconds: i64| Some(Time(Timestamp::from_second(now().as_second() + seconds).unwrap()));
    prop_oneof![
        16 => Just((None, None)),
        1 => Just((at(-5), at(5))),
        1 => Just((at(0), None)),
        1 => Just((at(5), at(15))),
        2 => Just((None, at(0))),
        1 => Just((None, at(10))),
    ]
}

fn revocation() -> impl Strategy<Value = Revocation> {
    let action = prop_oneof![Just(RevocationAction::Delete), Just(RevocationAction::Retain)];
    let grace_period = select(vec![None, Some("10s"), Some("1m")]);
    (action, grace_period).prop_map(|(action, grace)| Revocation { action, grace_period: grace.map(String::from) })
}

/// Whether policies have quotas: some laws hold without them only.
#[derive(Clone, Copy, PartialEq)]
pub enum Quotas {
    Some,
    None,
}

/// A policy under one of a few names.
pub fn policy(quotas: Quotas) -> impl Strategy<Value = DistributionPolicy> {
    let enforcement = prop_oneof![8 => Just(Enforcement::Enforce), 1 => Just(Enforcement::Audit)];
    let limit = (0u32..5).prop_map(|n| Some(Limits { distributions: Some(n) }));
    let limits =
        if quotas == Quotas::Some { prop_oneof![3 => Just(None), 1 => limit].boxed() } else { Just(None).boxed() };
    let name = select(&POLICIES[..]);
    (name, enforcement, namespace_match(), rules(), limits, revocation(), times()).prop_map(
        |(name, enforcement, namespaces, rules, limits, revocation, (not_before, not_after))| {
            let spec = DistributionPolicySpec {
                enforcement,
                namespaces,
                rules,
                limits,
                revocation,
                not_before,
                not_after,
                ..Default::default()
            };
            DistributionPolicy::new(name, spec)
        },
    )
}

pub fn a_namespace() -> impl Strategy<Value = Namespace> {
    let labels = |tier: Option<&'static str>, env: Option<&'static str>| {
        let labels = [("tier", tier), ("env", env)].into_iter().filter_map(|(key, value)| Some((key, value?)));
        labels.map(|(key, value)| (key.to_string(), value.to_string())).collect()
    };
    let (tier, env) = (select(vec![None, Some("gold")]), select(vec![None, Some("prod"), Some("dev")]));
    (a_namespace_name(), tier, env, prop::bool::weighted(0.05))
        .prop_map(move |(name, tier, env, terminating)| Namespace { name, labels: labels(tier, env), terminating })
}

fn mappings() -> impl Strategy<Value = Vec<Mapping>> {
    let from = prop_oneof![3 => Just("cert"), 2 => Just("prod/db"), 2 => Just("dev/db"), 1 => Just("prod/a/b")];
    let good = btree_map(select(vec!["password", "tls.crt", "ca"]), from, 1..3);
    let mapping = |(to, from): (&str, &str)| Mapping { from: from.into(), to: to.into() };
    prop_oneof![
        30 => good.prop_map(move |entries| entries.into_iter().map(mapping).collect()),
        1 => Just(vec![Mapping { from: "cert".into(), to: "..broken".into() }]),
    ]
}

/// UIDs are of few values, so that a request that is made again may have an old one or a new one.
pub fn uid(key: &RequestKey, incarnation: u8) -> String {
    format!("{}-{}-{incarnation}", key.namespace, key.name)
}

fn a_key() -> impl Strategy<Value = RequestKey> {
    let name = select(&NAMES[..]).prop_map(|name| SecretName::parse(name).unwrap());
    (a_namespace_name(), name).prop_map(|(namespace, name)| RequestKey { namespace, name })
}

pub fn request() -> impl Strategy<Value = SecretsDistribution> {
    let name = weighted(0.8, select(&SECRET_NAMES[..]));
    let type_ = prop_oneof![
        20 => Just(None),
        8 => Just(Some("kubernetes.io/tls")),
        1 => Just(Some("example.com/x")),
        1 => Just(Some(names::RESERVED_TYPES[0])),
    ];
    let elsewhere = prop_oneof![
        6 => Just(vec![]),
        3 => subsequence(NAMESPACES[..3].to_vec(), 1..=3),
        1 => subsequence(NAMESPACES.to_vec(), 1..=2),
    ];
    let flags = (prop::bool::weighted(0.3), prop::bool::weighted(0.2), prop::bool::weighted(0.05), any::<bool>());
    let age = (0i64..4, 0u8..2);
    (a_key(), name, type_, mappings(), elsewhere, weighted(0.15, selector()), flags, age).prop_map(
        |(
            key,
            name,
            type_,
            secrets,
            elsewhere,
            namespace_selector,
            (adopt, suspend, deleting, retain),
            (age, uids),
        )| {
            let spec = SecretsDistributionSpec {
                name: name.map(String::from),
                type_: type_.map(String::from),
                secrets,
                namespaces: texts(&elsewhere),
                namespace_selector,
                deletion_policy: if retain { DeletionPolicy::Retain } else { DeletionPolicy::Delete },
                adopt,
                suspend,
                ..Default::default()
            };
            let time = |second| Time(Timestamp::from_second(second).unwrap());
            let metadata = ObjectMeta {
                namespace: Some(key.namespace.to_string()),
                name: Some(key.name.to_string()),
                uid: Some(uid(&key, uids)),
                creation_timestamp: Some(time(age)),
                deletion_timestamp: deleting.then(|| time(500)),
                generation: Some(1),
                ..Default::default()
            };
            SecretsDistribution { metadata, spec, status: None }
        },
    )
}

/// A Secret, written for some request or so it says.
fn secret() -> impl Strategy<Value = Change> {
    let place = (weighted(0.4, a_namespace_name()), select(vec!["one", "db", "web-tls"]));
    let stamp = select(vec![None, Some("Retain"), Some("Delete after 0s"), Some("Delete after 10s")]);
    let mark = select(vec![None, Some(-20), Some(-5), Some(5)]);
    let flags = (any::<[bool; 2]>(), prop::bool::weighted(0.7), prop::bool::weighted(0.3), prop::bool::weighted(0.1));
    (a_key(), 0u8..2, place, flags, stamp, mark).prop_map(|(key, uids, (elsewhere, name), flags, stamp, mark)| {
        let ([label, retain], record, owned, deleting) = flags;
        let namespace = elsewhere.unwrap_or(key.namespace.clone());
        let target = Target { namespace, name: SecretName::parse(name).unwrap() };
        let mut annotations = BTreeMap::new();
        let mut annotate = |name: &str, value: String| annotations.insert(name.to_string(), value);
        if record {
            annotate(names::REQUEST, key.to_string());
            annotate(names::TARGET, target.to_string());
        }
        if let Some(stamp) = stamp {
            annotate(names::REVOCATION, stamp.into());
        }
        if let Some(seconds) = mark {
            annotate(names::REVOKED_AT, Timestamp::from_second(now().as_second() + seconds).unwrap().to_string());
        }
        if retain {
            annotate(names::DELETION_POLICY, "Retain".into());
        }
        let uid = uid(&key, uids);
        let reference = OwnerReference { uid: uid.clone(), ..Default::default() };
        let meta = ObjectMeta {
            uid: Some("secret".into()),
            labels: (label || record).then(|| BTreeMap::from([(names::OWNER_UID.to_string(), uid)])),
            annotations: Some(annotations),
            owner_references: owned.then(|| vec![reference]),
            deletion_timestamp: deleting.then(|| Time(now())),
            ..Default::default()
        };
        Change::Secret(target, meta)
    })
}

/// One change of anything.
pub fn change() -> impl Strategy<Value = Change> {
    let delegation = select(vec![Delegation::Unknown, Delegation::Refused, Delegation::Granted]);
    let gone = |change: Change| match change {
        Change::Secret(target, _) => Change::SecretGone(target),
        other => other,
    };
    prop_oneof![
        6 => policy(Quotas::Some).prop_map(Change::Policy),
        2 => select(&POLICIES[..]).prop_map(|name| Change::PolicyGone(name.into())),
        6 => a_namespace().prop_map(Change::Namespace),
        2 => a_namespace_name().prop_map(Change::NamespaceGone),
        6 => request().prop_map(Change::Request),
        2 => a_key().prop_map(Change::RequestGone),
        6 => secret(),
        1 => secret().prop_map(gone),
        3 => (a_namespace_name(), delegation).prop_map(|(name, delegation)| Change::Delegation(name, delegation)),
    ]
}

/// The changes that make a world: policies, namespaces and requests.
pub fn world(quotas: Quotas) -> impl Strategy<Value = Vec<Change>> {
    let policies = vec(policy(quotas).prop_map(Change::Policy), 2..8);
    let namespaces = vec(a_namespace().prop_map(Change::Namespace), 3..9);
    let requests = vec(request().prop_map(Change::Request), 3..9);
    (policies, namespaces, requests)
        .prop_map(|(policies, namespaces, requests)| [policies, namespaces, requests].concat())
}

/// A world in which Secrets have been written, too.
pub fn lived_in() -> impl Strategy<Value = Vec<Change>> {
    let delegations: Vec<_> =
        NAMESPACES.into_iter().map(|name| Change::Delegation(namespace(name), Delegation::Granted)).collect();
    (world(Quotas::Some), vec(secret(), 0..6))
        .prop_map(move |(world, secrets)| [world, delegations.clone(), secrets].concat())
}
