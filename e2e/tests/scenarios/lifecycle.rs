//! What becomes of the Secret when its request changes.

use anyhow::Result;
use e2e::asks;
use e2e::site::{Site, version};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test]
async fn a_renamed_secret_is_written_anew_and_the_old_one_pruned() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("RenameSource", b"content").await?;
    tenant.request("r", asks("RenameSource", json!({ "name": "before" }))).await?;
    tenant.until_ready("r").await?;
    tenant.change("r", json!({ "name": "after" })).await?;
    tenant.until_content("after", "k", b"content").await?;
    tenant.until_gone("before").await?;
    let told = tenant.until_event("r", "Pruned").await?;
    assert!(told.contains(&format!("{}/before", tenant.namespace)), "{told}");
    let status = tenant.until_ready("r").await?;
    assert_eq!(status.secret_name.as_deref(), Some("after"));
    assert_eq!(status.targets_total, Some(1));
    Ok(())
}

#[tokio::test]
async fn keys_follow_the_mappings() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("KeySource", b"content").await?;
    let to = |keys: &[&str]| json!({ "secrets": keys.iter().map(|to| json!({ "from": "KeySource", "to": to })).collect::<Vec<_>>() });
    tenant.request("r", to(&["a", "b"])).await?;
    tenant.until_ready("r").await?;
    for keys in [&["a"][..], &["renamed"], &["c", "d"]] {
        tenant.change("r", to(keys)).await?;
        tenant.until_secret("r", &format!("keys {keys:?}"), |secret| keys_of(secret) == keys).await?;
    }
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn labels_and_annotations_follow_the_request_and_others_stay() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("MetaSource", b"content").await?;
    let with =
        |labels: Value, annotations: Value| json!({ "metadata": { "labels": labels, "annotations": annotations } });
    let first = with(json!({ "a": "1", "b": "1" }), json!({ "n": "1", "m": "1" }));
    tenant.request("r", asks("MetaSource", first)).await?;
    tenant.until_ready("r").await?;
    let theirs = json!({
        "labels": { "argocd.argoproj.io/instance": "app", "velero.io/backup": "yes" },
        "annotations": { "reloader.stakater.com/match": "true" },
    });
    tenant.patch_secret("r", json!({ "metadata": theirs })).await?;

    tenant.change("r", with(json!({ "a": "2", "b": null, "c": "1" }), json!({ "n": null, "m": "2" }))).await?;
    let secret = tenant.until_secret("r", "the new labels", |secret| label(secret, "c") == Some("1")).await?;
    assert_eq!((label(&secret, "a"), label(&secret, "b")), (Some("2"), None));
    assert_eq!((annotation(&secret, "n"), annotation(&secret, "m")), (None, Some("2")));
    assert_eq!(label(&secret, "argocd.argoproj.io/instance"), Some("app"));
    assert_eq!(label(&secret, "velero.io/backup"), Some("yes"));
    assert_eq!(annotation(&secret, "reloader.stakater.com/match"), Some("true"));

    // Nothing is fought over: what others add is no reason to write.
    tenant.until_ready("r").await?;
    let seen = tenant.patch_secret("r", json!({ "metadata": { "labels": { "another": "one" } } })).await?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&seen).await?;

    tenant.change("r", json!({ "metadata": null })).await?;
    let secret = tenant.until_secret("r", "no label a", |secret| label(secret, "a").is_none()).await?;
    assert_eq!((label(&secret, "c"), annotation(&secret, "m")), (None, None));
    assert_eq!(label(&secret, "argocd.argoproj.io/instance"), Some("app"));
    Ok(())
}

#[tokio::test]
async fn another_type_makes_the_secret_anew() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("typed").await?;
    site.sources.set(&[("TypedUser", b"user"), ("TypedPassword", b"password")])?;
    tenant.grant(&["Typed*"]).await?;
    let secrets = json!([{ "from": "TypedUser", "to": "username" }, { "from": "TypedPassword", "to": "password" }]);
    tenant.request("r", json!({ "secrets": secrets })).await?;
    tenant.until_ready("r").await?;
    let opaque = tenant.secret("r").await?.unwrap();

    // A type that the content does not fit leaves the Secret as it is.
    tenant.change("r", json!({ "type": "kubernetes.io/tls" })).await?;
    tenant.until_condition("r", "Synced", "False", "InvalidForType").await?;
    tenant.assert_untouched(&opaque).await?;

    tenant.change("r", json!({ "type": "kubernetes.io/basic-auth" })).await?;
    let of_type = |secret: &Secret| secret.type_.as_deref() == Some("kubernetes.io/basic-auth");
    let typed = tenant.until_secret("r", "of the new type", of_type).await?;
    assert_ne!(typed.metadata.uid, opaque.metadata.uid);
    assert_eq!(typed.data, opaque.data);
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_suspended_request_is_left_alone_until_it_is_resumed() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("SuspendSource", b"one").await?;
    tenant.request("r", asks("SuspendSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    tenant.change("r", json!({ "suspend": true })).await?;
    tenant.until_condition("r", "Ready", "False", "Suspended").await?;
    let edited = tenant.patch_secret("r", json!({ "stringData": { "k": "edited" } })).await?;
    site.sources.set(&[("SuspendSource", b"two")])?;
    tenant.change("r", json!({ "name": "renamed" })).await?;
    tenant.until_condition("r", "Synced", "False", "Suspended").await?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&edited).await?;
    assert!(tenant.secret("renamed").await?.is_none());

    tenant.change("r", json!({ "suspend": false })).await?;
    tenant.until_content("renamed", "k", b"two").await?;
    tenant.until_gone("r").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_suspended_request_keeps_nothing_that_it_is_no_longer_granted() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("SuspendRevoked", b"one").await?;
    tenant.request("kept", asks("SuspendRevoked", json!({}))).await?;
    tenant.request("renamed", asks("SuspendRevoked", json!({}))).await?;
    tenant.until_ready("kept").await?;
    tenant.until_ready("renamed").await?;
    tenant.change("kept", json!({ "suspend": true })).await?;
    tenant.change("renamed", json!({ "suspend": true, "name": "elsewhere" })).await?;
    tenant.until_condition("renamed", "Synced", "False", "Suspended").await?;
    tenant.until_condition("kept", "Synced", "False", "Suspended").await?;

    site.delete_policy(&tenant.namespace).await?;
    tenant.until_gone("kept").await?;
    tenant.until_gone("renamed").await?;
    tenant.until_condition("kept", "Permitted", "False", "NoPolicyForNamespace").await?;
    Ok(())
}

/// A GitOps tool that applies the same manifest again and again causes nothing.
#[tokio::test]
async fn an_unchanged_request_writes_nothing() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("SteadySource", b"content").await?;
    tenant.request("r", asks("SteadySource", json!({}))).await?;
    tenant.until_ready("r").await?;
    let before = version(&tenant.secret("r").await?.unwrap())?;
    let mark = site.mark().await?;
    for round in 0..3 {
        let patch = json!({ "metadata": { "annotations": { "xlscsde.nhs.uk/secretUsage": format!("use {round}") } } });
        tenant.requests().patch("r", &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    site.sources.set(&[("SteadySource", b"content")])?;
    site.stays_quiet(&[]).await?;
    assert_eq!(site.writes_since(mark, &tenant).await?.len(), 0);
    assert_eq!(version(&tenant.secret("r").await?.unwrap())?, before);
    Ok(())
}

fn keys_of(secret: &Secret) -> Vec<&str> {
    secret.data.iter().flatten().map(|(key, _)| key.as_str()).collect()
}

fn label<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn annotation<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    secret.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
