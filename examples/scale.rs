//! How long the command line thinks about a large platform: 10,000 distributions, 1,000 policies, 1,000 namespaces.
//! Reading them from a cluster comes on top. `cargo run --release --example scale`
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use secrets_distributor::{
    api::{DistributionPolicy, SecretsDistribution},
    cli::{explain, plan, view::View, who_gets},
    core::{
        bootstrap,
        forecast::Edit,
        index::Stored,
        name::{NamespaceName, PolicyName, SourceName},
        policy::{Namespace, Policy},
        request::Request,
    },
};
use serde_json::{Value, json};

const NAMESPACES: usize = 1_000;
const POLICIES: usize = 1_000;
const DISTRIBUTIONS: usize = 10_000;

/// Of ten policies one speaks about every namespace of a team of a hundred, the others about one namespace.
fn policy(number: usize, sources: Value) -> DistributionPolicy {
    let names = match number % 10 {
        0 => format!("team-{}-*", number / 10 % 10),
        _ => namespace_name(number),
    };
    let spec = json!({
        "namespaces": { "names": [names] },
        "rules": [{ "effect": "Allow", "sources": sources }],
        "limits": { "distributions": 100 },
        "revocation": { "gracePeriod": "5m" },
    });
    DistributionPolicy::new(&format!("policy-{number}"), serde_json::from_value(spec).unwrap())
}

fn namespace_name(number: usize) -> String {
    format!("team-{}-{}", number % 10, number % NAMESPACES)
}

fn request(number: usize) -> SecretsDistribution {
    let spec = json!({ "secrets": [
        { "from": format!("team/{}/password", number % 100), "to": "password" },
        { "from": "shared/certificate", "to": "tls.crt" },
    ] });
    let mut object = SecretsDistribution::new(&format!("request-{number}"), serde_json::from_value(spec).unwrap());
    object.metadata.namespace = Some(namespace_name(number));
    object.metadata.uid = Some(format!("uid-{number}"));
    object.metadata.creation_timestamp = Some(Time(Timestamp::from_second(number as i64).unwrap()));
    object
}

fn platform() -> View {
    let names = (0..NAMESPACES).map(|number| NamespaceName::parse(&namespace_name(number)).unwrap());
    let namespaces = names.map(|name| Namespace { name, labels: Default::default(), terminating: false });
    let operator = NamespaceName::parse("secrets-distributor").unwrap();
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    let mut view = View::of_namespaces(operator, at, namespaces.collect());
    (0..POLICIES).for_each(|number| view.take_policy(policy(number, json!(["team/*/*", "shared/*"]))));
    for number in 0..DISTRIBUTIONS {
        let request = Request::parse(&request(number)).unwrap();
        view.world.apply_request(request.key.clone(), Stored::Valid(Arc::new(request)));
    }
    view
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    let took: Duration = begin.elapsed();
    println!("{what:<60} {took:>10.1?}");
    done
}

fn main() {
    println!("{DISTRIBUTIONS} distributions, {POLICIES} policies, {NAMESPACES} namespaces\n");
    let mut view = timed("the world is built", platform);
    let requests: Vec<_> = view.world.requests.valid().cloned().collect();
    timed("explain: one request", || explain::Answer::of(&view, &requests[0]));
    timed("explain: each of the 10,000 requests", || {
        requests.iter().for_each(|request| drop(explain::Answer::of(&view, request)));
    });
    let source = SourceName::parse("shared/certificate").unwrap();
    timed("who-gets: a source that everybody has", || who_gets::Answer::of(&view, source, None));
    timed("bootstrap: all requests", || bootstrap::drafts(&view.world));
    timed("plan: which Secrets were written is assumed", || plan::assume(&mut view));
    let edit = |number| {
        let policy = Policy::parse(&policy(number, json!(["team/*/*"]))).unwrap();
        Edit { name: PolicyName::admitted(&format!("policy-{number}")), policy: Some(Arc::new(policy)) }
    };
    let at = view.at;
    let forecast = timed("plan: all of the 1,000 policies become others", || {
        view.world.forecast((0..POLICIES).map(edit).collect(), at)
    });
    let answer = timed("plan: the answer", || plan::Answer::of(forecast, at, false));
    println!("\n{} Secrets would be revoked", answer.revoked.len());
}
