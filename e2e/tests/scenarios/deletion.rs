//! What becomes of the Secret when its request, or a namespace, is deleted.

use anyhow::{Context, Result};
use e2e::site::{SOON, Site, Tenant};
use e2e::{Operator, asks};
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

/// Distributions in a namespace that is deleted.
const MANY: usize = 50;

#[tokio::test]
async fn the_deletion_policy_decides_in_the_same_namespace() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("DeletionSource", b"content").await?;
    for (name, policy) in [("delete", "Delete"), ("retain", "Retain")] {
        tenant.request(name, asks("DeletionSource", json!({ "deletionPolicy": policy }))).await?;
        tenant.until_ready(name).await?;
    }
    let retained = tenant.secret("retain").await?.unwrap();
    tenant.delete_request("retain").await?;
    tenant.delete_request("delete").await?;
    tenant.until_gone("delete").await?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&retained).await?;

    // It belongs to nobody: another request is refused, the same one made again goes on with it.
    tenant.request("another", asks("DeletionSource", json!({ "name": "retain" }))).await?;
    let told = tenant.until_condition("another", "Synced", "False", "TargetConflict").await?;
    assert!(told.contains("left behind"), "{told}");
    tenant.delete_request("another").await?;
    tenant.request("retain", asks("DeletionSource", json!({}))).await?;
    tenant.until_ready("retain").await?;
    let regained = tenant.secret("retain").await?.unwrap();
    assert_eq!((&regained.metadata.uid, &regained.data), (&retained.metadata.uid, &retained.data));
    Ok(())
}

#[tokio::test]
async fn the_deletion_policy_decides_in_another_namespace() -> Result<()> {
    let site = Site::shared().await?;
    let (home, away) = home_and_away(site, "DeletionFar").await?;
    for (name, policy) in [("delete", "Delete"), ("retain", "Retain")] {
        let more = json!({ "namespaces": [home.namespace, away.namespace], "deletionPolicy": policy });
        home.request(name, asks("DeletionFar", more)).await?;
        home.until_ready(name).await?;
    }
    let retained = away.secret("retain").await?.unwrap();
    assert_eq!(retained.metadata.owner_references, None, "no reference across namespaces");
    home.delete_request("delete").await?;
    home.delete_request("retain").await?;
    away.until_gone("delete").await?;
    home.until_gone("delete").await?;
    site.stays_quiet(&[&home, &away]).await?;
    away.assert_untouched(&retained).await
}

#[tokio::test]
async fn a_changed_deletion_policy_moves_the_owner_reference() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("DeletionChanged", b"content").await?;
    tenant.request("r", asks("DeletionChanged", json!({}))).await?;
    tenant.until_ready("r").await?;
    for (policy, owners) in [("Retain", 0), ("Delete", 1), ("Retain", 0)] {
        tenant.change("r", json!({ "deletionPolicy": policy })).await?;
        let owned =
            |secret: &k8s_openapi::api::core::v1::Secret| secret.metadata.owner_references.iter().flatten().count();
        tenant.until_secret("r", &format!("{owners} owners"), |secret| owned(secret) == owners).await?;
    }
    tenant.until_ready("r").await?;
    tenant.delete_request("r").await?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.until_content("r", "k", b"content").await?;
    Ok(())
}

/// `kubectl delete --cascade=orphan` is a word of its own, in the request's own namespace.
#[tokio::test]
async fn an_orphaned_secret_stays() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("DeletionOrphan", b"content").await?;
    tenant.request("r", asks("DeletionOrphan", json!({}))).await?;
    tenant.until_ready("r").await?;
    // The garbage collector orphans what it knows of. A Secret that it has not heard of yet it deletes afterwards, since
    // its owner is gone: that race is Kubernetes' own.
    site.stays_quiet(&[&tenant]).await?;
    let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..Default::default() };
    tenant.requests().delete("r", &orphan).await?;
    // The garbage collector does it, which looks for new kinds every 30 s.
    e2e::eventually(3 * e2e::site::SOON, "the request is gone", async || {
        matches!(tenant.requests().get_opt("r").await, Ok(None)).then_some(())
    })
    .await?;
    site.stays_quiet(&[&tenant]).await?;
    let left = tenant.until_content("r", "k", b"content").await?;
    assert_eq!(left.metadata.owner_references, None);
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_held_while_being_deleted_writes_nothing_new() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("DeletionHeld", b"one").await?;
    tenant.request("r", asks("DeletionHeld", json!({}))).await?;
    tenant.until_ready("r").await?;
    let seen = tenant.secret("r").await?.unwrap();
    tenant.patch_request("r", json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await?;
    tenant.delete_request("r").await?;
    site.stays_quiet(&[&tenant]).await?;
    site.sources.set(&[("DeletionHeld", b"two")])?;
    site.stays_quiet(&[&tenant]).await?;
    tenant.assert_untouched(&seen).await?;
    tenant.patch_request("r", json!({ "metadata": { "finalizers": null } })).await?;
    tenant.until_gone("r").await
}

#[tokio::test]
async fn a_request_that_is_held_while_being_deleted_keeps_nothing_that_it_is_no_longer_granted() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("DeletionKept", b"one").await?;
    for name in ["wanted", "renamed"] {
        tenant.request(name, asks("DeletionKept", json!({}))).await?;
        tenant.until_ready(name).await?;
        tenant.patch_request(name, json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await?;
        tenant.delete_request(name).await?;
    }
    // It does not want its Secret any more, and holds it all the same.
    tenant.patch_request("renamed", json!({ "spec": { "name": "another" } })).await?;
    site.stays_quiet(&[&tenant]).await?;
    assert!(tenant.secret("wanted").await?.is_some() && tenant.secret("renamed").await?.is_some());
    site.delete_policy(&tenant.namespace).await?;
    for name in ["wanted", "renamed"] {
        tenant.until_gone(name).await?;
        tenant.patch_request(name, json!({ "metadata": { "finalizers": null } })).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_made_again_at_once_goes_on() -> Result<()> {
    let site = Site::shared().await?;
    let (home, away) = home_and_away(site, "DeletionAgain").await?;
    let spec = asks("DeletionAgain", json!({ "namespaces": [home.namespace, away.namespace] }));
    home.request("r", spec.clone()).await?;
    home.until_ready("r").await?;
    home.delete_request("r").await?;
    let again = home.request("r", spec).await?;
    let uid = again.metadata.uid.unwrap_or_default();
    for tenant in [&home, &away] {
        let of_the_new = |secret: &k8s_openapi::api::core::v1::Secret| {
            secret.metadata.labels.as_ref().is_some_and(|labels| labels["xlscsde.nhs.uk/owner-uid"] == uid)
        };
        tenant.until_secret("r", "of the new request", of_the_new).await?;
    }
    home.until_ready("r").await?;
    site.stays_quiet(&[&home, &away]).await
}

#[tokio::test]
async fn a_deleted_namespace_takes_its_requests_and_their_secrets_with_it() -> Result<()> {
    let site = Site::shared().await?;
    let (home, away) = home_and_away(site, "DeletionHome").await?;
    home.request("r", asks("DeletionHome", json!({ "namespaces": [home.namespace, away.namespace] }))).await?;
    home.until_ready("r").await?;
    home.delete_namespace().await?;
    home.until_namespace_gone().await?;
    away.until_gone("r").await
}

#[tokio::test]
async fn a_deleted_destination_is_told_and_the_rest_goes_on() -> Result<()> {
    let site = Site::shared().await?;
    let (home, away) = home_and_away(site, "DeletionAway").await?;
    home.request("r", asks("DeletionAway", json!({ "namespaces": [home.namespace, away.namespace] }))).await?;
    home.until_ready("r").await?;
    away.delete_namespace().await?;
    away.until_namespace_gone().await?;
    let told = home.until_condition("r", "Synced", "False", "NamespaceNotFound").await?;
    assert!(told.contains(&away.namespace), "{told}");
    site.sources.set(&[("DeletionAway", b"rotated")])?;
    home.until_content("r", "k", b"rotated").await?;
    Ok(())
}

/// What goes with its namespace is not worth a word: the operator neither writes it anew nor tells of it.
#[tokio::test]
async fn a_namespace_with_many_distributions_is_deleted_and_the_operator_leaves_it_alone() -> Result<()> {
    let site = Site::shared().await?;
    let audit = site.cluster.audit().context("this test reads the audit log of its own API server")?;
    let tenant = site.tenant_with("DeletionMany", b"content").await?;
    ask_for_many(&tenant, asks("DeletionMany", json!({}))).await?;
    site.stays_quiet(&[&tenant]).await?;
    let mark = audit.mark().await?;
    tenant.delete_namespace().await?;
    tenant.until_namespace_gone().await?;
    let writes = audit.since(mark).await?.user(Operator::USER).writes().namespace(&tenant.namespace);
    assert!(writes.is_empty(), "{} writes, the first of which is {:?}", writes.len(), writes.first());
    Ok(())
}

/// Nothing waits for the operator: no finalizer is there. What the requests had elsewhere goes when it is back.
#[tokio::test]
async fn a_namespace_is_deleted_while_the_operator_is_down() -> Result<()> {
    let site = Site::start().await?;
    let (home, away) = home_and_away(&site, "DeletionDown").await?;
    let far = |policy: &str| {
        asks("DeletionDown", json!({ "namespaces": [home.namespace, away.namespace], "deletionPolicy": policy }))
    };
    ask_for_many(&home, far("Delete")).await?;
    home.request("retained", far("Retain")).await?;
    home.until_ready("retained").await?;
    let retained = away.secret("retained").await?.unwrap();

    site.terminate_operator(SOON).await?;
    home.delete_namespace().await?;
    home.until_namespace_gone().await?;
    let left = away.secrets().list_metadata(&Default::default()).await?.items.len();
    assert_eq!(left, MANY + 1, "nobody else deletes what is elsewhere");

    site.start_operator().await?;
    for i in 0..MANY {
        away.until_gone(&many(i)).await?;
    }
    site.stays_quiet(&[&away]).await?;
    away.assert_untouched(&retained).await
}

fn many(number: usize) -> String {
    format!("many-{number}")
}

/// The same of each, until all are Ready.
async fn ask_for_many(tenant: &Tenant<'_>, spec: Value) -> Result<()> {
    for i in 0..MANY {
        tenant.request(&many(i), spec.clone()).await?;
    }
    for i in 0..MANY {
        tenant.until_ready(&many(i)).await?;
    }
    Ok(())
}

/// Two delegated namespaces; requests in the first are granted the source in both.
async fn home_and_away<'a>(site: &'a Site, source: &str) -> Result<(Tenant<'a>, Tenant<'a>)> {
    let home = site.tenant_with(source, b"content").await?;
    let away = site.tenant(&format!("{}-away", source.to_lowercase())).await?;
    let rule = json!({ "effect": "Allow", "sources": [source], "requestedFrom": { "names": [home.namespace] } });
    site.policy(&away.namespace, json!({ "namespaces": { "names": [away.namespace] }, "rules": [rule] })).await?;
    Ok((home, away))
}
