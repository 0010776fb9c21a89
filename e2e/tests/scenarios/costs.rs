//! What a distribution costs the API server, counted in its audit log.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use e2e::{
    AuditLog, Mark, Operator, eventually,
    site::{SOON, Site, Tenant},
};
use jiff::Timestamp;
use serde_json::json;

/// What the operator has written for the request `r` since then, in order.
async fn writes(tenant: &Tenant<'_>, audit: &AuditLog, since: Mark) -> Result<Vec<String>> {
    let entries = audit.since(since).await?.user(Operator::USER).namespace(&tenant.namespace).name("r").writes();
    let told = entries.iter().map(|entry| {
        let object = &entry.object_ref;
        format!("{} {} {}", entry.verb, object.resource, object.subresource).trim_end().to_owned()
    });
    Ok(told.collect())
}

/// Waits until this was written for `r`, and checks that nothing follows.
async fn assert_written(tenant: &Tenant<'_>, audit: &AuditLog, since: Mark, expected: &[&str]) -> Result<()> {
    let what = format!("{expected:?} was written");
    eventually(SOON, &what, async || match writes(tenant, audit, since).await {
        Ok(written) if written.len() >= expected.len() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    // What came in before this has been seen to when it is through: namespaces take turns, keys keep their order.
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    let barrier = format!("barrier-{}", ROUNDS.fetch_add(1, Ordering::Relaxed));
    tenant.request(&barrier, json!({ "secrets": [{ "from": "CostSource", "to": "k" }] })).await?;
    tenant.until_ready(&barrier).await?;
    assert_eq!(writes(tenant, audit, since).await?, expected);
    Ok(())
}

#[tokio::test]
async fn each_change_is_written_once_and_no_change_not_at_all() -> Result<()> {
    let site = Site::shared().await?;
    let audit = site.cluster.audit().context("this test counts in the audit log of its own API server")?;
    let tenant = site.tenant("costs").await?;
    site.sources.set(&[("CostSource", b"1")])?;
    tenant.grant(&["CostSource"]).await?;
    // A request that comes before its policy has been read is told so, which would be one more write.
    site.until_accepted(&tenant.namespace, "True", "InForce").await?;

    let start = audit.mark().await?;
    tenant.request("r", json!({ "secrets": [{ "from": "CostSource", "to": "k" }] })).await?;
    let once = ["create secrets", "patch secretsdistributions status"];
    assert_written(&tenant, audit, start, &once).await?;

    // Times in a status are whole seconds: within the same one there would be nothing new to say.
    let last = tenant.until_ready("r").await?.last_sync_time.context("no time of the last write")?;
    eventually(SOON, "the next second", async || (Timestamp::now().as_second() > last.0.as_second()).then_some(()))
        .await?;
    let rotation = audit.mark().await?;
    site.sources.set(&[("CostSource", b"2")])?;
    assert_written(&tenant, audit, rotation, &["patch secrets", "patch secretsdistributions status"]).await?;

    let nothing = audit.mark().await?;
    for round in 0..3 {
        let note = format!("note=round-{round}");
        let annotate = ["annotate", "--overwrite", "sd", "r", &note, "--namespace", &tenant.namespace];
        site.cluster.kubectl(annotate).succeed().await?;
        site.cluster.kubectl(["label", "--overwrite", "namespace", &tenant.namespace, &note]).succeed().await?;
        // The same content in a new generation of the mount.
        site.sources.set(&[("CostSource", b"2")])?;
    }
    tenant.grant(&["CostSource", "MoreSource"]).await?;
    assert_written(&tenant, audit, nothing, &[]).await
}
