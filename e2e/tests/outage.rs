//! The API server is away for a while.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::eventually;
use e2e::observer::Observer;
use e2e::proxy::Which;
use e2e::site::{SOON, Site};
use serde_json::json;

const AWAY: Duration = Duration::from_secs(15);

/// Backoff grows to half a minute: that late the return may be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

const TENANTS: usize = 5;
const EACH: usize = 4;

/// Watches of the cluster, one of Secrets for each of its namespaces, the Lease, and what there is to write.
const BUSY_WITH: usize = 4 + (TENANTS + 5) + 1 + TENANTS * EACH;

#[tokio::test]
async fn an_outage_is_sat_out_and_then_everything_comes_about() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let names: Vec<_> = (0..EACH).map(|number| format!("r{number}")).collect();
    let mut tenants = Vec::new();
    for _ in 0..TENANTS {
        let tenant = site.tenant_with("Outage", b"old").await?;
        for name in &names {
            tenant.request(name, json!({ "secrets": [{ "from": "Outage", "to": "k" }] })).await?;
        }
        tenants.push(tenant);
    }
    for tenant in &tenants {
        for name in &names {
            tenant.until_ready(name).await?;
        }
    }

    let mark = proxy.mark();
    proxy.go_down();
    // All of what can change meanwhile, told to the API server on another way.
    let [rotated, revoked, renamed, deleted, created] = tenants.as_slice() else { panic!("{TENANTS} tenants") };
    site.sources.set(&[("Outage", b"new")])?;
    site.delete_policy(&revoked.namespace).await?;
    renamed.change("r0", json!({ "name": "other" })).await?;
    deleted.delete_request("r0").await?;
    created.request("late", json!({ "secrets": [{ "from": "Outage", "to": "k" }] })).await?;
    tokio::time::sleep(AWAY).await;
    let (refused, passed) = (proxy.refused(), proxy.calls_since(mark, &Which::calls()).len());
    println!("{refused} connections were refused in {AWAY:?}");
    // Half a second, one, two, four, eight: and each attempt may be two connections. A loop would be thousands.
    assert!((1..=BUSY_WITH * 20).contains(&refused), "{refused} attempts in {AWAY:?}");
    assert!(passed <= TENANTS * EACH, "{passed} calls passed");

    proxy.come_back();
    let back = Instant::now();
    eventually(NOTICED_WITHIN, "everything that changed meanwhile", async || {
        let gone = [(revoked, "r0"), (renamed, "r0"), (deleted, "r0")];
        for (tenant, name) in gone {
            anyhow::ensure!(tenant.secret(name).await?.is_none(), "{}/{name} is there", tenant.namespace);
        }
        for (tenant, name) in [(rotated, "r0"), (renamed, "other"), (deleted, "r1"), (created, "late")] {
            let secret = tenant.secret(name).await?.with_context(|| format!("{}/{name} is not", tenant.namespace))?;
            let data = secret.data.unwrap_or_default();
            anyhow::ensure!(data["k"].0 == b"new", "{}/{name} is old", tenant.namespace);
        }
        Ok(())
    })
    .await?;
    for name in &names {
        rotated.until_ready(name).await?;
        revoked.until_condition(name, "Permitted", "False", "NoPolicyForNamespace").await?;
    }
    created.until_ready("late").await?;
    println!("everything had come about {:?} after the return", back.elapsed());
    observer.history().await?.ready_means_written(|_| true)?;
    let (exit, _) = site.terminate_operator(SOON).await?;
    assert!(exit.status.success(), "the operator lived through it: {exit:?}");
    Ok(())
}
