//! What becomes of a Secret whose grant goes.

use anyhow::Result;
use e2e::asks;
use e2e::site::{SOON, Site, Tenant};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use secrets_distributor::api::{SecretsDistributionStatus, TargetState};
use serde_json::{Value, json};

const REVOKED_AT: &str = "xlscsde.nhs.uk/revoked-at";

#[tokio::test]
async fn a_grant_that_goes_takes_the_secret_with_it() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = written(site, "RevokeDeleted", json!({})).await?;
    site.delete_policy(&tenant.namespace).await?;
    revoked(&tenant, "NoPolicyForNamespace").await?;

    let tenant = written(site, "RevokeNarrowed", json!({})).await?;
    tenant.grant(&["Other*"]).await?;
    revoked(&tenant, "SourceNotPermitted").await?;
    site.policy(&tenant.namespace, policy(&tenant, json!({ "keys": ["k", "other"] }), json!({}))).await?;
    tenant.until_ready("r").await?;
    site.policy(&tenant.namespace, policy(&tenant, json!({ "keys": ["other"] }), json!({}))).await?;
    revoked(&tenant, "KeyNotPermitted").await
}

#[tokio::test]
async fn a_deny_takes_the_secret_away_and_its_end_brings_it_back() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = written(site, "RevokeDenied", json!({})).await?;
    let deny = format!("{}-deny", tenant.namespace);
    let rule = json!({ "effect": "Deny", "sources": ["RevokeDenied"] });
    site.policy(&deny, json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule] })).await?;
    revoked(&tenant, "DeniedByRule").await?;
    site.delete_policy(&deny).await?;
    tenant.until_content("r", "k", b"one").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_relabelled_destination_loses_the_secret() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("revoke-label").await?;
    site.sources.set(&[("RevokeLabel", b"one")])?;
    let selector = json!({ "matchLabels": { "granted": tenant.namespace } });
    let rule = json!({ "effect": "Allow", "sources": ["RevokeLabel"] });
    site.policy(&tenant.namespace, json!({ "namespaces": { "selector": selector }, "rules": [rule] })).await?;
    tenant.request("r", asks("RevokeLabel", json!({}))).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    tenant.label(json!({ "granted": tenant.namespace })).await?;
    tenant.until_ready("r").await?;
    tenant.label(json!({ "granted": "no-more" })).await?;
    revoked(&tenant, "NoPolicyForNamespace").await
}

/// Nothing changes at that instant but the time.
#[tokio::test]
async fn a_grant_begins_and_ends_at_its_instants() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("RevokeExpired", b"one").await?;
    // Whole seconds: what an RFC 3339 time of a policy has.
    let start = Timestamp::from_second(Timestamp::now().as_second() + 2)?;
    let end = Timestamp::from_second(start.as_second() + 3)?;
    let time = json!({ "notBefore": start, "notAfter": end });
    site.policy(&tenant.namespace, policy_with(&tenant, "RevokeExpired", json!({}), time)).await?;
    tenant.request("r", asks("RevokeExpired", json!({}))).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    tenant.until_content("r", "k", b"one").await?;
    assert!(Timestamp::now() >= start, "not before its time");
    revoked(&tenant, "GrantExpired").await?;
    assert!(Timestamp::now() >= end, "not before its end");
    Ok(())
}

#[tokio::test]
async fn a_grace_period_leaves_time_to_restore_the_grant() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = written(site, "RevokeGrace", json!({ "revocation": { "gracePeriod": "1h" } })).await?;
    let before = tenant.secret("r").await?.unwrap();
    let asked = Timestamp::now();
    // The stamp on the Secret counts: the policy itself is gone.
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Synced", "False", "RevocationPending").await?;
    tenant.until_condition("r", "Ready", "False", "RevocationPending").await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    tenant.until_event("r", "RevocationPending").await?;
    let retry_at = tenant.until("r", "a time", |status| status.retry_at.clone()).await?;
    let grace = retry_at.0.duration_since(asked).as_secs();
    assert!((3590..=3620).contains(&grace), "{grace} s");
    let pending = tenant.secret("r").await?.unwrap();
    assert_eq!((&pending.metadata.uid, &pending.data), (&before.metadata.uid, &before.data));
    assert!(annotation(&pending, REVOKED_AT).is_some());

    // It is not kept up to date any more, and the time does not start again.
    site.sources.set(&[("RevokeGrace", b"two")])?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&pending).await?;

    site.policy(&tenant.namespace, policy(&tenant, json!({}), json!({}))).await?;
    let restored = tenant.until_content("r", "k", b"two").await?;
    assert_eq!(restored.metadata.uid, before.metadata.uid);
    assert_eq!(annotation(&restored, REVOKED_AT), None);
    let status = tenant.until_ready("r").await?;
    assert_eq!(status.retry_at, None);
    Ok(())
}

#[tokio::test]
async fn a_grace_period_ends_by_itself() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = written(site, "RevokeGraceEnds", json!({ "revocation": { "gracePeriod": "2s" } })).await?;
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_secret("r", "is marked", |secret| annotation(secret, REVOKED_AT).is_some()).await?;
    revoked(&tenant, "NoPolicyForNamespace").await
}

#[tokio::test]
async fn a_retained_secret_stays_and_is_written_no_more() -> Result<()> {
    let site = Site::shared().await?;
    let retain = json!({ "revocation": { "action": "Retain" } });
    let tenant = written(site, "RevokeRetained", retain.clone()).await?;
    let before = tenant.secret("r").await?.unwrap();
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Ready", "False", "NoPolicyForNamespace").await?;
    let retained = |status: &SecretsDistributionStatus| {
        let target = status.targets.first()?;
        (target.state == TargetState::Retained && target.last_written.is_some()).then_some(())
    };
    tenant.until("r", "retained", retained).await?;
    site.sources.set(&[("RevokeRetained", b"two")])?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&before).await?;

    site.policy(&tenant.namespace, policy(&tenant, json!({}), retain)).await?;
    tenant.until_content("r", "k", b"two").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_quota_refuses_the_youngest_until_an_older_one_goes() -> Result<()> {
    let site = Site::shared().await?;
    let limits = |most: u32| json!({ "limits": { "distributions": most } });
    let tenant = written(site, "RevokeQuota", limits(1)).await?;
    let first = tenant.requests().get("r").await?;
    let created = first.metadata.creation_timestamp.map(|time| time.0).unwrap_or_default();
    e2e::eventually(SOON, "the next second", async || {
        (Timestamp::now().as_second() > created.as_second()).then_some(())
    })
    .await?;
    tenant.request("younger", asks("RevokeQuota", json!({}))).await?;
    let told = tenant.until_condition("younger", "Permitted", "False", "QuotaExceeded").await?;
    assert!(told.contains("already has the 1 distributions"), "{told}");
    tenant.until_ready("r").await?;
    assert!(tenant.secret("younger").await?.is_none());

    tenant.delete_request("r").await?;
    tenant.until_ready("younger").await?;
    // A quota that shrinks is a grant that goes.
    site.policy(&tenant.namespace, policy(&tenant, json!({}), limits(0))).await?;
    tenant.until_gone("younger").await?;
    tenant.until_condition("younger", "Permitted", "False", "QuotaExceeded").await?;
    Ok(())
}

/// A tenant whose request `r` for the source is granted by a policy with these fields, and written.
async fn written<'a>(site: &'a Site, source: &str, more: Value) -> Result<Tenant<'a>> {
    site.sources.set(&[(source, b"one")])?;
    let tenant = site.tenant(&source.to_lowercase()).await?;
    site.policy(&tenant.namespace, policy_with(&tenant, source, json!({}), more)).await?;
    tenant.request("r", asks(source, json!({}))).await?;
    tenant.until_ready("r").await?;
    Ok(tenant)
}

/// The Secret is gone, and the request says so, why, and by an event.
async fn revoked(tenant: &Tenant<'_>, reason: &str) -> Result<()> {
    tenant.until_gone("r").await?;
    tenant.until_condition("r", "Permitted", "False", reason).await?;
    tenant.until_condition("r", "Ready", "False", reason).await?;
    let told = tenant.until_event("r", "Revoked").await?;
    assert!(told.contains(&format!("{}/r", tenant.namespace)), "{told}");
    Ok(())
}

/// A policy that grants this namespace every source of these scenarios; more fields of the rule and of the policy.
fn policy(tenant: &Tenant<'_>, rule: Value, more: Value) -> Value {
    policy_with(tenant, "Revoke*", rule, more)
}

fn policy_with(tenant: &Tenant<'_>, source: &str, rule: Value, more: Value) -> Value {
    let mut allow = json!({ "effect": "Allow", "sources": [source] });
    extend(&mut allow, rule);
    let mut policy = json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [allow] });
    extend(&mut policy, more);
    policy
}

fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[tokio::test]
async fn what_a_finalizer_holds_is_told_as_a_revocation_that_is_blocked() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("HeldSource", b"1").await?;
    tenant.request("r", asks("HeldSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    tenant.patch_secret("r", json!({ "metadata": { "finalizers": ["example.org/held"] } })).await?;
    site.delete_policy(&tenant.namespace).await?;
    let told = tenant.until_condition("r", "Ready", "False", "RevocationBlocked").await?;
    assert!(told.ends_with("a finalizer holds it: see its metadata.finalizers"), "{told}");
    tenant.until_content("r", "k", b"1").await?;
    tenant.patch_secret("r", json!({ "metadata": { "finalizers": null } })).await?;
    tenant.until_gone("r").await?;
    tenant.until_condition("r", "Ready", "False", "NoPolicyForNamespace").await.map(drop)
}
