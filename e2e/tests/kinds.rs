//! A kind that is deleted under the running operator, and comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::{Context, Result};
use e2e::site::{SOON, Site};
use e2e::{asks, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::json;

/// Deletes a kind with all its objects, and answers with what it was.
async fn delete(kinds: &Api<CustomResourceDefinition>, name: &str) -> Result<CustomResourceDefinition> {
    let definition = kinds.get(name).await?;
    kinds.delete(name, &DeleteParams::default()).await?;
    eventually(SOON, &format!("the kind {name} is gone"), async || match kinds.get_opt(name).await {
        Ok(None) => Ok(()),
        other => Err(format!("{:?}", other.map(|found| found.map(|found| found.status)))),
    })
    .await?;
    Ok(definition)
}

/// Creates it anew, and waits until it is served.
async fn restore(kinds: &Api<CustomResourceDefinition>, definition: CustomResourceDefinition) -> Result<()> {
    let name = definition.metadata.name.clone().context("a kind without a name")?;
    let metadata = ObjectMeta { name: definition.metadata.name, ..ObjectMeta::default() };
    let definition = CustomResourceDefinition { metadata, spec: definition.spec, status: None };
    kinds.create(&PostParams::default(), &definition).await?;
    eventually(SOON, &format!("the kind {name} is served"), async || {
        let found = kinds.get(&name).await.map_err(|error| error.to_string())?;
        let conditions = found.status.and_then(|status| status.conditions).unwrap_or_default();
        let is_served = conditions.iter().any(|found| found.type_ == "Established" && found.status == "True");
        if is_served { Ok(()) } else { Err(format!("{conditions:?}")) }
    })
    .await
}

#[tokio::test]
async fn a_kind_that_is_deleted_and_comes_back_is_served_again_and_nobody_else_is_harmed() -> Result<()> {
    let site = Site::start().await?;
    // On a cluster that somebody else uses this would harm.
    site.mark().await?;
    let kinds: Api<CustomResourceDefinition> = Api::all(site.cluster.client().await?);
    let tenant = site.served_tenant("Kinds", b"x").await?;
    let somebodys = tenant.foreign_secret("bystander", &[("k", b"somebody's")]).await?;

    // All policies are deleted with their kind: nothing is granted any more.
    let definition = delete(&kinds, "distributionpolicies.xlscsde.nhs.uk").await?;
    tenant.until_gone("r").await?;
    restore(&kinds, definition).await?;
    tenant.grant(&["Kinds"]).await?;
    tenant.until_ready("r").await?;
    tenant.until_content("r", "k", b"x").await?;

    // All requests are deleted with theirs.
    let definition = delete(&kinds, "secretsdistributions.xlscsde.nhs.uk").await?;
    restore(&kinds, definition).await?;
    tenant.request("r", asks("Kinds", json!({}))).await?;
    tenant.until_ready("r").await?;
    tenant.until_content("r", "k", b"x").await?;

    site.until_readyz(200, "").await?;
    tenant.assert_untouched(&somebodys).await
}
