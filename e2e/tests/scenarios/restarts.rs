//! What happens while the operator is down is seen to when it is back; what is in order is not touched.
//!
//! An operator of its own, so that no other scenario loses its.

use anyhow::Result;
use e2e::asks;
use e2e::site::{Site, Tenant};
use jiff::Timestamp;
use serde_json::json;

#[tokio::test]
async fn a_restart_catches_up_and_touches_nothing_else() -> Result<()> {
    let site = Site::start().await?;
    site.sources.set(&[("Source", b"one"), ("Rotated", b"one")])?;
    let home = site.tenant("home").await?;
    let away = site.tenant("away").await?;
    home.grant(&["*"]).await?;
    let rule = json!({ "effect": "Allow", "sources": ["*"], "requestedFrom": { "names": [home.namespace] } });
    site.policy(&away.namespace, json!({ "namespaces": { "names": [away.namespace] }, "rules": [rule] })).await?;
    let far = |policy: &str| json!({ "namespaces": [away.namespace], "deletionPolicy": policy });
    let requests = [
        ("steady", asks("Source", json!({}))),
        ("rotated", asks("Rotated", json!({}))),
        ("renamed", asks("Source", json!({}))),
        ("edited", asks("Source", json!({}))),
        ("removed", asks("Source", json!({}))),
        ("far-deleted", asks("Source", far("Delete"))),
        ("far-retained", asks("Source", far("Retain"))),
    ];
    for (name, spec) in &requests {
        home.request(name, spec.clone()).await?;
    }
    let graced = in_grace(&site, "graced", "1h").await?;
    let expiring = granted(&site, "ends-meanwhile").await?;
    let dropped = granted(&site, "dropped").await?;
    let closed = granted(&site, "closed").await?;
    closed.request("s", asks("Source", json!({}))).await?;
    closed.until_ready("s").await?;
    for (name, _) in &requests {
        home.until_ready(name).await?;
    }
    let steady = home.secret("steady").await?.unwrap();
    let retained = away.secret("far-retained").await?.unwrap();
    let pending = graced.secret("r").await?.unwrap();
    let retry_at = graced.until("r", "a time", |status| status.retry_at.clone()).await?;

    // Expires while nobody looks.
    let end = Timestamp::from_second(Timestamp::now().as_second() + 1)?;
    let rule = json!({ "effect": "Allow", "sources": ["*"] });
    let spec = json!({ "namespaces": { "names": [expiring.namespace] }, "rules": [rule], "notAfter": end });
    site.kill_operator()?;
    site.policy(&expiring.namespace, spec).await?;
    site.delete_policy(&dropped.namespace).await?;
    site.delete_policy(&closed.namespace).await?;
    closed.undelegate().await?;
    site.sources.set(&[("Rotated", b"two")])?;
    home.change("renamed", json!({ "name": "renamed-after" })).await?;
    home.patch_secret("edited", json!({ "stringData": { "k": "edited" } })).await?;
    home.delete_secret("removed").await?;
    home.delete_request("far-deleted").await?;
    home.delete_request("far-retained").await?;
    let mark = site.mark().await?;
    site.start_operator().await?;

    home.until_content("rotated", "k", b"two").await?;
    home.until_content("renamed-after", "k", b"one").await?;
    home.until_gone("renamed").await?;
    home.until_content("edited", "k", b"one").await?;
    home.until_content("removed", "k", b"one").await?;
    away.until_gone("far-deleted").await?;
    expiring.until_gone("r").await?;
    expiring.until_condition("r", "Permitted", "False", "GrantExpired").await?;
    dropped.until_gone("r").await?;
    for name in ["r", "s"] {
        closed.until_condition(name, "Ready", "False", "RevocationBlocked").await?;
    }
    // It is about what was written for this request: not about another one that wants the same Secret.
    closed.request("other", asks("NotGranted", json!({ "name": "r" }))).await?;
    closed.until_condition("other", "Ready", "False", "NoPolicyForNamespace").await?;
    site.stays_quiet(&[&home, &away, &graced]).await?;

    home.assert_untouched(&steady).await?;
    away.assert_untouched(&retained).await?;
    graced.assert_untouched(&pending).await?;
    assert_eq!(graced.until("r", "a time", |status| status.retry_at.clone()).await?, retry_at, "the time goes on");
    for (tenant, name) in [(&home, "steady"), (&graced, "r")] {
        let writes = site.writes_since(mark, tenant).await?.name(name);
        assert!(writes.is_empty(), "{writes:#?}");
    }
    Ok(())
}

/// A tenant whose request `r` is written, in a grace period.
async fn in_grace<'a>(site: &'a Site, prefix: &str, grace: &str) -> Result<Tenant<'a>> {
    let tenant = site.tenant(prefix).await?;
    let rule = json!({ "effect": "Allow", "sources": ["*"] });
    let revocation = json!({ "gracePeriod": grace });
    let spec = json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule], "revocation": revocation });
    site.policy(&tenant.namespace, spec).await?;
    tenant.request("r", asks("Source", json!({}))).await?;
    tenant.until_ready("r").await?;
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Ready", "False", "RevocationPending").await?;
    tenant.until_event("r", "RevocationPending").await?;
    Ok(tenant)
}

/// A tenant whose request `r` is written.
async fn granted<'a>(site: &'a Site, prefix: &str) -> Result<Tenant<'a>> {
    let tenant = site.tenant(prefix).await?;
    tenant.grant(&["*"]).await?;
    tenant.request("r", asks("Source", json!({}))).await?;
    tenant.until_ready("r").await?;
    Ok(tenant)
}
