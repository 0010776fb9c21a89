//! An operator in Audit tells what it would do and does nothing; one that enforces then does just that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::Result;
use e2e::{
    Operator, OperatorConfig, asks,
    site::{Site, Tenant},
};
use serde_json::json;

const NAMESPACE: &str = "audited";
const MANAGED_BY: &str = "xlscsde.nhs.uk/managedBy";

#[tokio::test]
async fn what_is_told_in_audit_is_done_once_it_is_enforced() -> Result<()> {
    let site = Site::prepare().await?.configured(|config| with(config, &["--enforcement", "Audit"]));
    site.start_operator().await?;
    site.sources.set(&[("Source", b"ours")])?;
    let tenant = site.named_tenant(NAMESPACE, json!({})).await?;
    tenant.delegate().await?;
    tenant.grant(&["Source"]).await?;
    let mark = site.mark().await?;

    tenant.request("new", asks("Source", json!({}))).await?;
    would_be(&tenant, "new", "created").await?;
    tenant.until_condition("new", "Permitted", "True", "Granted").await?;
    tenant.foreign_secret("foreign", &[("k", b"theirs")]).await?;
    tenant.request("foreign", asks("Source", json!({}))).await?;
    tenant.until_condition("foreign", "Synced", "False", "TargetConflict").await?;
    // Of the first operator, which still runs.
    let metadata = json!({ "annotations": { MANAGED_BY: "secrets-distributor" } });
    tenant.create_secret("original", json!({ "metadata": metadata, "stringData": { "k": "old" } })).await?;
    tenant.request("original", asks("Source", json!({}))).await?;
    would_be(&tenant, "original", "taken over").await?;
    tenant.request("refused", asks("Other", json!({}))).await?;
    tenant.until_condition("refused", "Permitted", "False", "SourceNotPermitted").await?;
    nothing_was_written(&site, mark).await?;

    let site = restarted(site, &[]).await?;
    let tenant = site.existing(NAMESPACE).await?;
    for name in ["new", "original"] {
        tenant.until_content(name, "k", b"ours").await?;
        tenant.until_ready(name).await?;
    }

    let site = restarted(site, &["--enforcement", "Audit"]).await?;
    let (tenant, mark) = (site.existing(NAMESPACE).await?, site.mark().await?);
    site.delete_policy(NAMESPACE).await?;
    would_be(&tenant, "new", "deleted").await?;
    tenant.until_condition("new", "Permitted", "False", "NoPolicyForNamespace").await?;
    nothing_was_written(&site, mark).await?;
    assert!(tenant.secret("new").await?.is_some());
    Ok(())
}

fn with(config: OperatorConfig, arguments: &[&str]) -> OperatorConfig {
    OperatorConfig { arguments: arguments.iter().map(ToString::to_string).collect(), ..config }
}

async fn restarted(site: Site, arguments: &[&str]) -> Result<Site> {
    let site = site.configured(|config| with(config, arguments));
    site.restart_operator().await?;
    Ok(site)
}

/// The request is told what would become of its Secret.
async fn would_be(tenant: &Tenant<'_>, name: &str, what: &str) -> Result<()> {
    let told = tenant.until_condition(name, "Synced", "False", "NotEnforced").await?;
    let expected = format!("the operator runs with --enforcement Audit; Secret {NAMESPACE}/{name} would be {what}");
    assert!(told.contains(&expected), "{told}");
    Ok(())
}

async fn nothing_was_written(site: &Site, mark: e2e::Mark) -> Result<()> {
    let audit = site.cluster.audit().expect("a control plane of its own");
    let writes = audit.since(mark).await?.user(Operator::USER).resource("secrets").writes();
    assert!(writes.is_empty(), "{writes:#?}");
    Ok(())
}
