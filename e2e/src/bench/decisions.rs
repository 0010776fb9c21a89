//! How many decisions one core makes, by the number of policies: the cost shall grow with those that speak about the
//! namespace, and not with all of them.

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

use super::figures::Figures;

/// How often each is measured.
const ROUNDS: usize = 5;

/// For how long decisions are made in each round.
const FOR: Duration = Duration::from_millis(400);

/// Decisions of each round that are timed one by one.
const TIMED: usize = 40_000;

/// How a policy names its namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Literally,
    ByPattern,
}

/// As many policies, a namespace for each, and a request that is granted and one that is denied in each.
struct Platform {
    policies: usize,
    named: Named,
    world: World,
    asked: Vec<(Arc<Request>, NamespaceName)>,
    random: fastrand::Rng,
    now: Timestamp,
}

pub(super) fn measure() -> Result<Figures> {
    let mut figures = Figures::default();
    let rows = [
        (10, Named::Literally, 1e6),
        (1000, Named::Literally, 5e5),
        (10_000, Named::Literally, 2e5),
        (10_000, Named::ByPattern, 5e4),
    ];
    for (policies, named, at_least) in rows {
        let mut platform = Platform::prepare(policies, named)?;
        let (mut rates, mut p99s, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            rates.push(platform.rate());
            p99s.push(platform.p99());
            changes.push(platform.change(round)?);
        }
        let what = match named {
            Named::Literally => format!("{policies} policies"),
            Named::ByPattern => format!("{policies} policies by pattern"),
        };
        figures.at_least(format!("{what}: decisions"), rates, "/s", at_least);
        figures.add(format!("{what}: 99 % of them within"), p99s, "µs", Some(20.0));
        figures.add(format!("{what}: to take in a changed one"), changes, "µs", None);
    }
    Ok(figures)
}

impl Platform {
    fn prepare(policies: usize, named: Named) -> Result<Self> {
        let mut world = World::new(NamespaceName::parse("secrets-distributor").map_err(|_| anyhow!("no name"))?);
        Gate::ALL.into_iter().for_each(|gate| drop(world.open(gate)));
        for number in 0..policies {
            let (name, policy) = policy(number, named, "a")?;
            world.apply_policy(name, Ok(Arc::new(policy)));
        }
        let asked = (0..policies).map(|number| asked(&mut world, number)).collect::<Result<Vec<_>>>()?;
        let asked: Vec<_> = asked.into_iter().flatten().collect();
        let (random, now) = (fastrand::Rng::with_seed(1), Timestamp::now());
        let platform = Self { policies, named, world, asked, random, now };
        let granted =
            platform.asked.iter().filter(|ask| matches!(platform.decide(ask), Decision::Permitted(_))).count();
        ensure!(granted * 2 == platform.asked.len(), "{granted} are granted: half of them were to be");
        Ok(platform)
    }

    fn decide(&self, (request, namespace): &(Arc<Request>, NamespaceName)) -> Decision {
        self.world.decide(request, namespace, self.now)
    }

    /// Not in order: what was decided last is not what is decided next.
    fn next(&mut self) -> usize {
        self.random.usize(..self.asked.len())
    }

    /// Decisions in a second.
    fn rate(&mut self) -> f64 {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < FOR {
            for _ in 0..1000 {
                let next = self.next();
                drop(std::hint::black_box(self.decide(&self.asked[next])));
            }
            count += 1000;
        }
        f64::from(count) / begun.elapsed().as_secs_f64()
    }

    /// Within how many microseconds 99 % of the decisions are made.
    fn p99(&mut self) -> f64 {
        let mut times: Vec<_> = (0..TIMED)
            .map(|_| {
                let (next, begun) = (self.next(), Instant::now());
                drop(std::hint::black_box(self.decide(&self.asked[next])));
                microseconds(begun)
            })
            .collect();
        times.sort_unstable_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    }

    /// For one changed policy to be taken in, in microseconds.
    fn change(&mut self, round: usize) -> Result<f64> {
        // What nobody asks for is denied, another in each round.
        let (name, changed) = policy(self.policies / 2, self.named, &format!("b{round}"))?;
        let begun = Instant::now();
        self.world.apply_policy(name, Ok(Arc::new(changed)));
        Ok(microseconds(begun))
    }
}

fn microseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
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
