//! How fast one tenant's Secrets are written: judged by the API server's audit log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use e2e::{
    Operator,
    site::{Site, Tenant},
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::json;

const REQUESTS: usize = 500;
const BURST: u32 = 20;

/// Two tenants with 500 requests each: one at 60 writes a minute, watched for as long as the other, at 15 a
/// second, needs for all of them.
#[tokio::test]
async fn writes_follow_the_curve_and_each_status_is_written_at_most_twice() -> Result<()> {
    let site = Site::start().await?;
    let Some(audit) = site.cluster.audit() else { panic!("this test counts in the audit log of its own API server") };
    site.sources.set(&[("Throttled", b"content")])?;
    let (slow, fast) = (site.tenant("slow").await?, site.tenant("fast").await?);
    limit(&slow, "1m").await?;
    limit(&fast, "4s").await?;
    let start = audit.mark().await?;
    let all = [&slow, &fast].into_iter().flat_map(|tenant| (0..REQUESTS).map(move |i| (tenant, format!("r{i}"))));
    stream::iter(all)
        .map(|(tenant, name)| async move {
            tenant.request(&name, json!({ "secrets": [{ "from": "Throttled", "to": "k" }] })).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let message = slow.until_condition(&format!("r{}", REQUESTS - 1), "Synced", "False", "Throttled").await?;
    assert!(message.contains("rate limit"), "{message}");
    let status = slow.requests().get_status(&format!("r{}", REQUESTS - 1)).await?.status.unwrap_or_default();
    assert!(status.retry_at.is_some_and(|at| at.0 > Timestamp::now()), "it says when it is its turn");

    e2e::eventually(Duration::from_secs(90), "all of the fast tenant's are written", async || {
        let secrets = fast.secrets().list_metadata(&Default::default()).await.map_err(|error| error.to_string())?;
        match secrets.items.len() {
            REQUESTS => Ok(()),
            some => Err(some.to_string()),
        }
    })
    .await?;
    fast.until_ready(&format!("r{}", REQUESTS - 1)).await?;

    let calls = audit.since(start).await?.user(Operator::USER).writes();
    for (tenant, interval) in [(&slow, Duration::from_secs(1)), (&fast, Duration::from_secs(4) / 60)] {
        let own = calls.clone().namespace(&tenant.namespace);
        let writes = own.clone().resource("secrets").keep_to(BURST, interval)?;
        assert!(writes > BURST as usize, "only {writes} writes");
        let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
        for call in own.iter().filter(|call| call.object_ref.subresource == "status") {
            *statuses.entry(&call.object_ref.name).or_default() += 1;
        }
        let most = statuses.values().max().copied().unwrap_or_default();
        println!(
            "{}: {writes} writes, {} requests with at most {most} status writes",
            tenant.namespace,
            statuses.len()
        );
        let often = statuses.iter().filter(|(_, count)| **count > 2).map(|(name, _)| told(&site, tenant, name));
        let often: Vec<_> = often.collect();
        assert!(often.is_empty(), "one for the throttling, one for the Secret: {often:#?}");
    }
    Ok(())
}

/// What the operator logged about a request.
fn told(site: &Site, tenant: &Tenant<'_>, name: &str) -> Vec<String> {
    let key = format!("\"{}/{name}\"", tenant.namespace);
    site.operator_logs().lines().filter(|line| line.contains(&key)).map(str::to_owned).collect()
}

async fn limit(tenant: &Tenant<'_>, per: &str) -> Result<()> {
    let spec = json!({
        "namespaces": { "names": [tenant.namespace] },
        "rules": [{ "effect": "Allow", "sources": ["Throttled"] }],
        "rateLimit": { "writes": 60, "per": per, "burst": BURST },
    });
    tenant.site.policy(&tenant.namespace, spec).await
}
