//! One tenant's flood does not hold up another's single request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{
    observer::revision,
    site::{Site, Tenant},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde_json::json;

const FLOOD: usize = 10_000;
const TRIES: usize = 100;
const P99: usize = TRIES * 99 / 100 - 1;

/// The most Secrets of the flood that may be written while a single request waits. A queue that served who came first
/// would write thousands; how long a write takes is the machine's affair, and is told, not judged.
const MOST_AHEAD: usize = 200;

/// A request until its Secret was written.
struct Try {
    took: Duration,
    /// The store's revisions of the request and of the Secret.
    from: u64,
    to: u64,
}

#[tokio::test]
async fn a_quiet_tenant_is_served_while_another_floods() -> Result<()> {
    let site = Site::start().await?;
    site.sources.set(&[("Fair", b"content")])?;
    let (noisy, quiet) = (site.tenant("noisy").await?, site.tenant("quiet").await?);
    for tenant in [&noisy, &quiet] {
        // Not the rate limit shall keep the flood back here, but the queue.
        let spec = json!({
            "namespaces": { "names": [tenant.namespace] },
            "rules": [{ "effect": "Allow", "sources": ["Fair"] }],
            "rateLimit": { "writes": 100_000, "per": "1s", "burst": 100_000 },
        });
        site.policy(&tenant.namespace, spec).await?;
    }
    let idle = tries(&quiet, "idle").await?;
    // The flood is there before the operator is, so that all of it waits in the queue.
    site.kill_operator()?;
    flood(&noisy).await?;
    site.start_operator().await?;
    let busy = tries(&quiet, "busy").await?;
    let flood = written(&noisy).await?;
    let left = FLOOD - flood.len();
    assert!(left > 0, "the flood was over before the last try: nothing was shown");
    let mut ahead: Vec<_> =
        busy.iter().map(|t| flood.iter().filter(|at| (t.from..t.to).contains(at)).count()).collect();
    ahead.sort_unstable();

    let [busy, idle] = [busy, idle].map(|tries| {
        let mut times: Vec<_> = tries.iter().map(|t| t.took).collect();
        times.sort();
        [times[TRIES / 2], times[P99]]
    });
    println!(
        "behind {FLOOD} ({left} left at the end): p50 {:?}, p99 {:?}; idle: p50 {:?}, p99 {:?}; ratio of p50 {:.1}; \
         Secrets of the flood written meanwhile: p50 {}, p99 {}",
        busy[0],
        busy[1],
        idle[0],
        idle[1],
        busy[0].as_secs_f64() / idle[0].as_secs_f64(),
        ahead[TRIES / 2],
        ahead[P99],
    );
    assert!(ahead[P99] <= MOST_AHEAD, "a single request waited for {} others", ahead[P99]);
    Ok(())
}

/// Creates a request and waits for its Secret, again and again.
async fn tries(quiet: &Tenant<'_>, prefix: &str) -> Result<Vec<Try>> {
    let secrets = quiet.secrets();
    let mut tries = Vec::new();
    for i in 0..TRIES {
        let name = format!("{prefix}{i}");
        let version =
            secrets.list_metadata(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let mut watch = secrets.watch(&WatchParams::default(), &version).await?.boxed();
        let asked = Instant::now();
        let request = quiet.request(&name, json!({ "secrets": [{ "from": "Fair", "to": "k" }] })).await?;
        let secret = loop {
            match watch.try_next().await?.context("the watch has ended")? {
                WatchEvent::Added(secret) if secret.metadata.name.as_deref() == Some(&name) => break secret,
                _ => {}
            }
        };
        tries.push(Try { took: asked.elapsed(), from: revision(&request)?, to: revision(&secret)? });
    }
    Ok(tries)
}

async fn flood(noisy: &Tenant<'_>) -> Result<()> {
    stream::iter(0..FLOOD)
        .map(|i| async move {
            noisy.request(&format!("r{i}"), json!({ "secrets": [{ "from": "Fair", "to": "k" }] })).await
        })
        .buffer_unordered(16)
        .try_for_each(|_| async { Ok(()) })
        .await
}

/// The revisions at which the Secrets of the flood were written.
async fn written(noisy: &Tenant<'_>) -> Result<Vec<u64>> {
    let secrets: Api<Secret> = noisy.secrets();
    secrets.list_metadata(&ListParams::default()).await?.items.iter().map(revision).collect()
}
