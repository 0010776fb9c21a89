//! Two hundred rotations of a pair that fifty Secrets hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use e2e::observer::{History, Observer};
use e2e::site::{SOON, Site};
use e2e::{eventually, seeded};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use secrets_distributor::api::names;
use serde_json::json;

const ROTATIONS: u32 = 200;
/// Every so many, one is left standing until it has reached all.
const AWAITED: u32 = 10;
const NAMESPACES: usize = 5;
const EACH: usize = 10;

fn swap(site: &Site, generation: u32) -> Result<SystemTime> {
    let [cert, key] = ["cert", "key"].map(|part| format!("gen-{generation}:{part}"));
    site.sources.set(&[("Cert", cert.as_bytes()), ("Key", key.as_bytes())])?;
    Ok(SystemTime::now())
}

/// Waits until all hold the generation.
async fn reached(site: &Site, generation: u32) -> Result<()> {
    let secrets: Api<Secret> = Api::all(site.cluster.client().await?);
    let ours = ListParams::default().labels(names::OWNER_UID);
    eventually(SOON, &format!("generation {generation} in all"), async || {
        let found = secrets.list(&ours).await.map_err(|error| error.to_string())?.items;
        match found.iter().filter(|secret| holds(secret, generation)).count() {
            count if count == NAMESPACES * EACH => Ok(()),
            count => Err(format!("in {count} of {}", found.len())),
        }
    })
    .await
}

fn holds(secret: &Secret, generation: u32) -> bool {
    let expected = ["cert", "key"].map(|part| (part.to_owned(), format!("gen-{generation}:{part}").into_bytes()));
    let data = secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
    data.collect::<BTreeMap<_, _>>() == BTreeMap::from(expected)
}

/// How long after its swap the generation was seen in each Secret, in milliseconds.
fn latencies(history: &History, generation: u32, swapped: SystemTime) -> Vec<u128> {
    let mut first = BTreeMap::new();
    for (seen, secret) in history.secrets().filter(|(_, secret)| holds(secret, generation)) {
        first.entry((secret.namespace(), secret.name_any())).or_insert(seen.at);
    }
    first.values().map(|at| at.duration_since(swapped).unwrap_or_default().as_millis()).collect()
}

#[tokio::test]
async fn no_pair_is_torn_and_every_rotation_that_stands_reaches_all() -> Result<()> {
    let mut random = seeded("rotation");
    // What is shown is that every rotation arrives, not that a budget of writes is kept.
    let fast = |config: e2e::OperatorConfig| config.argument("--rate-limit=100000/1s");
    let site = Site::prepare().await?.configured(fast);
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    swap(&site, 0)?;
    for _ in 0..NAMESPACES {
        let tenant = site.tenant("rotation").await?;
        tenant.grant(&["Cert", "Key"]).await?;
        for i in 0..EACH {
            let pair = json!([{ "from": "Cert", "to": "cert" }, { "from": "Key", "to": "key" }]);
            tenant.request(&format!("r{i}"), json!({ "secrets": pair })).await?;
        }
    }
    reached(&site, 0).await?;

    let mut awaited = Vec::new();
    for generation in 1..=ROTATIONS {
        let swapped = swap(&site, generation)?;
        if generation % AWAITED == 0 {
            reached(&site, generation).await?;
            awaited.push((generation, swapped));
        } else {
            tokio::time::sleep(Duration::from_millis(random.u64(1..200))).await;
        }
    }

    let history = observer.history().await?;
    let versions = history.no_torn_pair()?;
    history.ready_means_written(|_| true)?;
    let mut latencies: Vec<_> = awaited.iter().flat_map(|(g, swapped)| latencies(&history, *g, *swapped)).collect();
    assert_eq!(latencies.len(), awaited.len() * NAMESPACES * EACH);
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!(
        "{ROTATIONS} rotations, {versions} versions of {} Secrets, none torn; from the swap to the Secret: \
         p50 {} ms, p99 {} ms",
        NAMESPACES * EACH,
        percentile(50),
        percentile(99),
    );
    Ok(())
}
