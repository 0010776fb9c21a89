//! Taking over a Secret that exists: only if all sides want it, and without a change that is not needed.

use anyhow::Result;
use e2e::asks;
use e2e::site::{Site, Tenant, version};
use serde_json::{Value, json};

const MANAGED_BY: &str = "xlscsde.nhs.uk/managedBy";
const ADOPTION: &str = "xlscsde.nhs.uk/adoption";

#[tokio::test]
async fn adoption_needs_the_secret_the_request_and_the_policy() -> Result<()> {
    let site = Site::shared().await?;
    let unwilling = site.tenant_with("AdoptUnwilling", b"ours").await?;
    let unasked = site.tenant_with("AdoptUnasked", b"ours").await?;
    let unoffered = site.tenant_with("AdoptUnoffered", b"ours").await?;
    allow_adoption(&unasked, "AdoptUnasked").await?;
    allow_adoption(&unoffered, "AdoptUnoffered").await?;
    for (tenant, source, adopt, adoption) in [
        (&unwilling, "AdoptUnwilling", true, "allowed"),
        (&unasked, "AdoptUnasked", false, "allowed"),
        (&unoffered, "AdoptUnoffered", true, "refused"),
    ] {
        let metadata = json!({ "annotations": { ADOPTION: adoption } });
        let secret =
            tenant.create_secret("r", json!({ "metadata": metadata, "stringData": { "k": "theirs" } })).await?;
        tenant.request("r", asks(source, json!({ "adopt": adopt }))).await?;
        let told = tenant.until_condition("r", "Synced", "False", "TargetConflict").await?;
        assert!(told.contains("spec.adopt: true") && told.contains("xlscsde.nhs.uk/adoption=allowed"), "{told}");
        tenant.assert_untouched(&secret).await?;
    }
    // Each says what is missing, and giving it is enough.
    unasked.change("r", json!({ "adopt": true })).await?;
    unasked.until_content("r", "k", b"ours").await?;
    allow_adoption(&unwilling, "AdoptUnwilling").await?;
    unwilling.until_content("r", "k", b"ours").await?;
    unoffered.patch_secret("r", json!({ "metadata": { "annotations": { ADOPTION: "allowed" } } })).await?;
    unoffered.until_content("r", "k", b"ours").await?;
    Ok(())
}

#[tokio::test]
async fn an_adopted_secret_keeps_what_others_put_on_it_and_is_kept_as_it_shall_be() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("AdoptedSource", b"ours").await?;
    allow_adoption(&tenant, "AdoptedSource").await?;
    let metadata = json!({ "labels": { "team": "a" }, "annotations": { "note": "theirs", ADOPTION: "allowed" } });
    let object = json!({ "metadata": metadata, "stringData": { "k": "theirs", "extra": "x" } });
    let before = tenant.create_secret("r", object).await?;
    tenant.request("r", asks("AdoptedSource", json!({ "adopt": true }))).await?;
    tenant.until_ready("r").await?;
    tenant.until_event("r", "Adopted").await?;

    let secret = tenant.secret("r").await?.unwrap();
    assert_eq!(secret.metadata.uid, before.metadata.uid, "changed, not replaced");
    assert_eq!(secret.metadata.labels.as_ref().unwrap()["team"], "a");
    assert_eq!(secret.metadata.annotations.as_ref().unwrap()["note"], "theirs");
    assert_eq!(secret.metadata.owner_references.as_ref().unwrap().len(), 1);
    let data = secret.data.clone().unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["k"], "what is not asked for is gone");
    assert_eq!(data["k"].0, b"ours");
    an_edit_is_repaired(&tenant, "r", "ours").await
}

#[tokio::test]
async fn identical_content_is_adopted_without_a_change_of_a_byte() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("IdenticalSource", b"the same").await?;
    allow_adoption(&tenant, "IdenticalSource").await?;
    let offered = json!({ "annotations": { ADOPTION: "allowed" } });
    let before = tenant.create_secret("r", json!({ "metadata": offered, "stringData": { "k": "the same" } })).await?;
    let mark = site.mark().await?;
    tenant.request("r", asks("IdenticalSource", json!({ "adopt": true }))).await?;
    tenant.until_ready("r").await?;

    let adopted = tenant.secret("r").await?.unwrap();
    assert_eq!((&adopted.metadata.uid, &adopted.data), (&before.metadata.uid, &before.data));
    site.stays_quiet(&[&tenant]).await?;
    let writes = site.writes_since(mark, &tenant).await?.resource("secrets").only(|entry| entry.code() == Some(200));
    assert!(writes.len() <= 2, "{writes:#?}");
    tenant.assert_untouched(&adopted).await?;
    an_edit_is_repaired(&tenant, "r", "the same").await
}

/// The first operator has written its Secrets with its own field manager, without owner and label.
#[tokio::test]
async fn the_first_operators_secret_is_adopted_unasked() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("MigratedSource", b"the same").await?;
    let original =
        |by: &str| json!({ "metadata": { "annotations": { MANAGED_BY: by } }, "stringData": { "k": "the same" } });
    let before = tenant.create_secret("r", original("secrets-distributor")).await?;
    let of_another = tenant.create_secret("other", original("another-distributor")).await?;
    tenant.request("r", asks("MigratedSource", json!({}))).await?;
    tenant.request("other", asks("MigratedSource", json!({}))).await?;

    tenant.until_ready("r").await?;
    let adopted = tenant.secret("r").await?.unwrap();
    assert_eq!((&adopted.metadata.uid, &adopted.data), (&before.metadata.uid, &before.data));
    tenant.until_event("r", "Adopted").await?;
    tenant.until_condition("other", "Synced", "False", "TargetConflict").await?;
    tenant.assert_untouched(&of_another).await?;
    an_edit_is_repaired(&tenant, "r", "the same").await?;
    site.sources.set(&[("MigratedSource", b"rotated")])?;
    tenant.until_content("r", "k", b"rotated").await?;
    Ok(())
}

/// A type cannot be changed, and deleting a Secret that is not ours would lose its content.
#[tokio::test]
async fn a_secret_of_another_type_is_not_adopted() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("AdoptTyped", b"the same").await?;
    allow_adoption(&tenant, "AdoptTyped").await?;
    let offered = json!({ "annotations": { ADOPTION: "allowed" } });
    let object = json!({ "type": "example.org/theirs", "metadata": offered, "stringData": { "k": "the same" } });
    let secret = tenant.create_secret("r", object).await?;
    tenant.request("r", asks("AdoptTyped", json!({ "adopt": true }))).await?;
    let told = tenant.until_condition("r", "Synced", "False", "TargetConflict").await?;
    assert!(told.contains("another type") && told.contains("delete it"), "{told}");
    tenant.assert_untouched(&secret).await
}

async fn an_edit_is_repaired(tenant: &Tenant<'_>, name: &str, content: &str) -> Result<()> {
    let edited = tenant.patch_secret(name, json!({ "stringData": { "k": "edited" } })).await?;
    let repaired = tenant.until_content(name, "k", content.as_bytes()).await?;
    assert_ne!(version(&edited)?, version(&repaired)?);
    Ok(())
}

async fn allow_adoption(tenant: &Tenant<'_>, source: &str) -> Result<()> {
    let rule: Value = json!({ "effect": "Allow", "sources": [source], "adopt": true });
    let spec = json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule] });
    tenant.site.policy(&tenant.namespace, spec).await
}
