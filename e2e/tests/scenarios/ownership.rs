//! Secrets of others: refused with words, and left as they are to the byte and the version.

use anyhow::Result;
use e2e::asks;
use e2e::site::{Site, Tenant};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::{Value, json};

const OWNER_UID: &str = "xlscsde.nhs.uk/owner-uid";
const DEAD: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn a_foreign_secret_is_refused_untouched_until_it_goes() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("ForeignSource", b"ours").await?;
    let same_key = tenant.foreign_secret("same-key", &[("k", b"theirs")]).await?;
    let other_key = tenant.foreign_secret("other-key", &[("x", b"theirs")]).await?;
    for name in ["same-key", "other-key"] {
        tenant.request(name, asks("ForeignSource", json!({}))).await?;
        let told = tenant.until_condition(name, "Synced", "False", "TargetConflict").await?;
        assert!(told.contains("delete it") && told.contains("spec.adopt"), "{told}");
        tenant.until_condition(name, "Ready", "False", "TargetConflict").await?;
        assert_eq!(tenant.until_event(name, "TargetConflict").await?, told);
    }
    tenant.assert_untouched(&same_key).await?;
    tenant.assert_untouched(&other_key).await?;

    tenant.delete_secret("same-key").await?;
    tenant.until_content("same-key", "k", b"ours").await?;
    tenant.until_ready("same-key").await?;
    tenant.assert_untouched(&other_key).await
}

#[tokio::test]
async fn a_secret_that_another_object_owns_is_refused_even_if_adoption_is_allowed() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("OwnedSource", b"ours").await?;
    allow_adoption(&tenant, "OwnedSource").await?;
    let owner = json!({ "metadata": { "name": "owner" } });
    let owners: Api<ConfigMap> = Api::namespaced(site.cluster.client().await?, &tenant.namespace);
    let owner = owners.create(&Default::default(), &serde_json::from_value(owner)?).await?;
    let reference = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid });
    let offered = json!({ "xlscsde.nhs.uk/adoption": "allowed" });
    let metadata = json!({ "ownerReferences": [reference], "annotations": offered });
    let object = json!({ "metadata": metadata, "stringData": { "k": "theirs" } });
    let secret = tenant.create_secret("r", object).await?;

    tenant.request("r", asks("OwnedSource", json!({ "adopt": true }))).await?;
    let told = tenant.until_condition("r", "Synced", "False", "TargetConflict").await?;
    assert!(told.contains("belongs to another object"), "{told}");
    tenant.assert_untouched(&secret).await
}

/// A label proves nothing: whoever may write Secrets may write labels.
#[tokio::test]
async fn a_forged_label_is_no_ownership() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("forged").await?;
    site.sources.set(&[("ForgedSource", b"ours")])?;
    let request = tenant.request("live-uid", asks("ForgedSource", json!({}))).await?;
    tenant.request("dead-uid", asks("ForgedSource", json!({}))).await?;
    tenant.request("wrong-record", asks("ForgedSource", json!({}))).await?;
    let live = request.metadata.uid.as_deref().unwrap_or_default();
    let of_another = json!({
        "xlscsde.nhs.uk/request": format!("{}/live-uid", tenant.namespace),
        "xlscsde.nhs.uk/target": format!("{}/live-uid", tenant.namespace),
    });
    let mut forged = Vec::new();
    for (name, uid, annotations) in
        [("live-uid", live, json!({})), ("dead-uid", DEAD, json!({})), ("wrong-record", live, of_another)]
    {
        let metadata = json!({ "labels": { OWNER_UID: uid }, "annotations": annotations });
        let object = json!({ "metadata": metadata, "stringData": { "k": "theirs" } });
        forged.push(tenant.create_secret(name, object).await?);
    }

    tenant.grant(&["ForgedSource"]).await?;
    for secret in &forged {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        let told = tenant.until_condition(name, "Synced", "False", "TargetConflict").await?;
        assert!(told.contains("no record") && told.contains("delete it"), "{told}");
    }
    site.stays_quiet(&[]).await?;
    for secret in &forged {
        tenant.assert_untouched(secret).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_copy_of_a_distributed_secret_is_never_touched() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("CopiedSource", b"one").await?;
    let elsewhere = site.tenant("copied-elsewhere").await?;
    tenant.request("r", asks("CopiedSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    let original = tenant.secret("r").await?.unwrap();
    let whole = copy(&tenant, &original, "whole", true).await?;
    let unowned = copy(&tenant, &original, "unowned", false).await?;
    let far = copy(&elsewhere, &original, "r", false).await?;

    tenant.patch_secret("r", json!({ "stringData": { "k": "edited" } })).await?;
    tenant.until_content("r", "k", b"one").await?;
    site.sources.set(&[("CopiedSource", b"two")])?;
    tenant.until_content("r", "k", b"two").await?;
    tenant.change("r", json!({ "name": "renamed" })).await?;
    tenant.until_gone("r").await?;
    tenant.assert_untouched(&whole).await?;

    // From here on the garbage collector acts on the owner reference that was copied.
    tenant.delete_request("r").await?;
    tenant.until_gone("renamed").await?;
    site.stays_quiet(&[&tenant, &elsewhere]).await?;
    tenant.assert_untouched(&unowned).await?;
    elsewhere.assert_untouched(&far).await
}

#[tokio::test]
async fn a_secret_that_is_being_deleted_is_waited_for() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("DeletingSource", b"one").await?;
    tenant.request("r", asks("DeletingSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    tenant.patch_secret("r", json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await?;
    tenant.delete_secret("r").await?;
    let told = tenant.until_condition("r", "Synced", "False", "TargetConflict").await?;
    assert!(told.contains("being deleted"), "{told}");
    let held = tenant.secret("r").await?.unwrap();
    site.sources.set(&[("DeletingSource", b"two")])?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&held).await?;

    tenant.patch_secret("r", json!({ "metadata": { "finalizers": null } })).await?;
    tenant.until_content("r", "k", b"two").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn an_immutable_secret_is_told_and_not_fought() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("ImmutableSource", b"one").await?;
    allow_adoption(&tenant, "ImmutableSource").await?;
    let offered = json!({ "annotations": { "xlscsde.nhs.uk/adoption": "allowed" } });
    let object = json!({ "immutable": true, "metadata": offered, "stringData": { "k": "theirs" } });
    let foreign = tenant.create_secret("foreign", object).await?;
    tenant.request("foreign", asks("ImmutableSource", json!({ "adopt": true }))).await?;
    tenant.request("ours", asks("ImmutableSource", json!({}))).await?;
    tenant.until_ready("ours").await?;
    tenant.patch_secret("ours", json!({ "immutable": true })).await?;
    site.stays_quiet(&[]).await?;
    tenant.until_ready("ours").await?;

    let mark = site.mark().await?;
    site.sources.set(&[("ImmutableSource", b"two")])?;
    for name in ["ours", "foreign"] {
        let told = tenant.until_condition(name, "Synced", "False", "TargetConflict").await?;
        assert!(told.contains("immutable") && told.contains("delete"), "{told}");
    }
    tenant.until_content("ours", "k", b"one").await?;
    tenant.assert_untouched(&foreign).await?;
    site.stays_quiet(&[]).await?;
    let attempts = site.writes_since(mark, &tenant).await?.resource("secrets");
    // Every generation of the folder, whoever's source has changed, is a reason to try again.
    assert!(attempts.len() <= 40, "a hot loop: {} writes", attempts.len());

    tenant.delete_secret("ours").await?;
    tenant.until_content("ours", "k", b"two").await?;
    tenant.until_ready("ours").await?;
    Ok(())
}

/// Creates a Secret with the metadata of another, as a copying tool or `kubectl get | kubectl apply` does.
async fn copy(to: &Tenant<'_>, original: &Secret, name: &str, with_owner: bool) -> Result<Secret> {
    let mut object: Value = serde_json::to_value(original)?;
    let metadata = &original.metadata;
    let owners = if with_owner { json!(metadata.owner_references) } else { json!([]) };
    object["metadata"] =
        json!({ "labels": metadata.labels, "annotations": metadata.annotations, "ownerReferences": owners });
    to.create_secret(name, object).await
}

async fn allow_adoption(tenant: &Tenant<'_>, source: &str) -> Result<()> {
    let rule = json!({ "effect": "Allow", "sources": [source], "adopt": true });
    let spec = json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule] });
    tenant.site.policy(&tenant.namespace, spec).await
}
