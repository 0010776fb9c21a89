//! How many decisions one core makes, by the number of policies: the cost shall grow with those that speak about the
//! namespace, and not with all of them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use jiff::Timestamp;
use kube::api::DynamicObject;
use secrets_distributor::core::decide::Decision;
use secrets_distributor::core::index::{Gate, Stored, World};
use secrets_distributor::core::name::{NamespaceName, PolicyName};
use secrets_distributor::core::object;
use secrets_distributor::core::policy::{Namespace, Policy};
use secrets_distributor::core::request::Request;
use serde_json::{Value, json};

/// For each row.
const FOR: Duration = Duration::from_secs(2);

/// Decisions that are timed one by one.
const TIMED: usize = 200_000;

/// How a policy names its namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Literally,
    ByPattern,
}

struct Row {
    policies: usize,
    named: Named,
    /// In a second, on one core.
    decisions: f64,
    p99: Duration,
    /// For one changed policy to be taken in.
    change: Duration,
    at_least: f64,
}

/// What was measured.
pub(super) struct Table(Vec<Row>);

pub(super) fn measure() -> Result<Table> {
    let rows = [
        (10, Named::Literally, 1e6),
        (1000, Named::Literally, 5e5),
        (10_000, Named::Literally, 2e5),
        (10_000, Named::ByPattern, 5e4),
    ];
    rows.into_iter().map(|(policies, named, at_least)| row(policies, named, at_least)).collect::<Result<_>>().map(Table)
}

fn row(policies: usize, named: Named, at_least: f64) -> Result<Row> {
    let now = Timestamp::now();
    let mut world = World::new(NamespaceName::parse("secrets-distributor").map_err(|_| anyhow!("no name"))?);
    Gate::ALL.into_iter().for_each(|gate| drop(world.open(gate)));
    for number in 0..policies {
        let (name, policy) = policy(number, named, "a")?;
        world.apply_policy(name, Ok(Arc::new(policy)));
    }
    let asked = (0..policies).map(|number| asked(&mut world, number)).collect::<Result<Vec<_>>>()?;
    let asked: Vec<_> = asked.into_iter().flatten().collect();

    let decide = |(request, namespace): &(Arc<Request>, NamespaceName)| world.decide(request, namespace, now);
    let granted = asked.iter().filter(|ask| matches!(decide(ask), Decision::Permitted(_))).count();
    ensure!(granted * 2 == asked.len(), "{granted} of {} are granted: half of them were to be", asked.len());

    // Not in order: what was decided last is not what is decided next.
    let mut random = fastrand::Rng::with_seed(1);
    let mut next = || &asked[random.usize(..asked.len())];
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < FOR {
        (0..1000).for_each(|_| drop(std::hint::black_box(decide(next()))));
        count += 1000;
    }
    let decisions = f64::from(count) / begun.elapsed().as_secs_f64();
    let mut times: Vec<_> = (0..TIMED)
        .map(|_| {
            let (ask, begun) = (next(), Instant::now());
            std::hint::black_box(decide(ask));
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];

    let (name, changed) = policy(policies / 2, named, "b")?;
    let begun = Instant::now();
    world.apply_policy(name, Ok(Arc::new(changed)));
    Ok(Row { policies, named, decisions, p99, change: begun.elapsed(), at_least })
}

/// It grants what has the name of the team, and denies a part of it.
fn policy(number: usize, named: Named, denied: &str) -> Result<(PolicyName, Policy)> {
    let name = match named {
        Named::Literally => format!("team-{number}"),
        Named::ByPattern => format!("team-{number}*"),
    };
    let object = object(
        "DistributionPolicy",
        &format!("policy-{number}"),
        None,
        json!({
            "namespaces": { "names": [name] },
            "rules": [
                { "effect": "Allow", "sources": [format!("team-{number}-*")], "types": ["Opaque", "kubernetes.io/tls"] },
                { "effect": "Deny", "sources": [format!("team-{number}-{denied}*")] },
            ],
        }),
    )?;
    let policy = object::policy(&object).map_err(|problem| anyhow!("{problem}"))?;
    Ok((PolicyName::admitted(&format!("policy-{number}")), policy))
}

/// A namespace, with a request that is granted and one that is denied.
fn asked(world: &mut World, number: usize) -> Result<[(Arc<Request>, NamespaceName); 2]> {
    let name = NamespaceName::parse(&format!("team-{number}")).map_err(|_| anyhow!("no name"))?;
    world.apply_namespace(Namespace { name: name.clone(), labels: Default::default(), terminating: false });
    let mut ask = |source: &str| {
        let spec = json!({ "secrets": [{ "from": format!("team-{number}-{source}"), "to": "k" }] });
        let object = object("SecretsDistribution", source, Some(name.as_str()), spec)?;
        let (key, stored) = object::request(&object).context("no request")?;
        let Stored::Valid(request) = &stored else { anyhow::bail!("a request that is none") };
        let asked = (request.clone(), name.clone());
        world.apply_request(key, stored);
        Ok(asked)
    };
    Ok([ask("granted")?, ask("another")?])
}

fn object(kind: &str, name: &str, namespace: Option<&str>, spec: Value) -> Result<DynamicObject> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": kind,
        "metadata": { "name": name, "namespace": namespace, "uid": format!("uid-{name}"), "generation": 1 },
        "spec": spec,
    }))?)
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "decisions on one core; half of them denials with their reason")?;
        writeln!(f, "{:<36}{:>14}{:>12}{:>10}{:>14}", "", "IN A SECOND", "GOAL", "P99", "ONE CHANGED")?;
        for row in &self.0 {
            let what = match row.named {
                Named::Literally => format!("{} policies", row.policies),
                Named::ByPattern => format!("{} policies, all by pattern", row.policies),
            };
            let (p99, change) = (format!("{:.1?}", row.p99), format!("{:.1?}", row.change));
            let verdict = if row.decisions < row.at_least { "below" } else { "reached" };
            writeln!(f, "{what:<36}{:>14.0}{:>12.0}{p99:>10}{change:>14} {verdict}", row.decisions, row.at_least)?;
        }
        Ok(())
    }
}
