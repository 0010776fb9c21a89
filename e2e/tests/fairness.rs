//! One tenant's flood does not hold up another's single request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::site::{Site, Tenant};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde_json::json;

const FLOOD: usize = 10_000;
const TRIES: usize = 100;

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
    let left = FLOOD - written(&noisy).await?;
    assert!(left > 0, "the flood was over before the last try: nothing was shown");

    let figures = |times: &[Duration]| (times[TRIES / 2], times[TRIES * 99 / 100 - 1]);
    let ((busy_p50, busy_p99), (idle_p50, idle_p99)) = (figures(&busy), figures(&idle));
    println!(
        "behind {FLOOD} ({left} left at the end): p50 {busy_p50:?}, p99 {busy_p99:?}; idle: p50 {idle_p50:?}, p99 \
         {idle_p99:?}; ratio of p50 {:.1}",
        busy_p50.as_secs_f64() / idle_p50.as_secs_f64()
    );
    assert!(busy_p99 < Duration::from_secs(1), "the promise: written within 1 s");
    Ok(())
}

/// Creates a request and waits for its Secret, again and again; the times, sorted.
async fn tries(quiet: &Tenant<'_>, prefix: &str) -> Result<Vec<Duration>> {
    let secrets = quiet.secrets();
    let mut times = Vec::new();
    for i in 0..TRIES {
        let name = format!("{prefix}{i}");
        let version =
            secrets.list_metadata(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let mut watch = secrets.watch(&WatchParams::default(), &version).await?.boxed();
        let asked = Instant::now();
        quiet.request(&name, json!({ "secrets": [{ "from": "Fair", "to": "k" }] })).await?;
        while let Some(event) = watch.try_next().await? {
            if matches!(&event, WatchEvent::Added(secret) if secret.metadata.name.as_deref() == Some(&name)) {
                break;
            }
        }
        times.push(asked.elapsed());
    }
    times.sort();
    Ok(times)
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

async fn written(noisy: &Tenant<'_>) -> Result<usize> {
    let secrets: Api<Secret> = noisy.secrets();
    Ok(secrets.list_metadata(&ListParams::default()).await?.items.len())
}
