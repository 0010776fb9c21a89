//! The operator's token is replaced, as a pod's is, and the one before is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::time::Duration;

use anyhow::Result;
use e2e::site::{Site, version};
use e2e::{Operator, OperatorConfig, asks, eventually};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use serde_json::json;

/// The file is read again after a minute, and what waited may wait for half a minute more.
const READ_AGAIN_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_token_in_the_file_is_used_once_the_one_before_is_refused() -> Result<()> {
    let site = Site::prepare().await?;
    let secrets = Api::<Secret>::namespaced(site.cluster.client().await?, Operator::NAMESPACE);
    let metadata = ObjectMeta { name: Some("life-of-the-first-token".to_owned()), ..ObjectMeta::default() };
    let life = secrets.create(&PostParams::default(), &Secret { metadata, ..Secret::default() }).await?;
    let token = async |life| site.cluster.token(Operator::NAMESPACE, Operator::SERVICE_ACCOUNT, life).await;
    let (first, second) = (token(Some(&life)).await?, token(None).await?);
    let file = site.cluster.directory().join("operator.token");
    fs::write(&file, first)?;
    let kubeconfig = Some(site.cluster.token_file_kubeconfig(&file)?);
    let arguments = vec!["--lease-duration=4s".to_owned()];
    let site = site.configured(|config| OperatorConfig { kubeconfig, arguments, ..config });
    site.start_operator().await?;
    let tenant = site.tenant("tokens").await?;
    site.sources.set(&[("Changes", b"old"), ("Same", b"x")])?;
    tenant.grant(&["Changes", "Same"]).await?;
    for (request, source) in [("r", "Changes"), ("same", "Same")] {
        tenant.request(request, asks(source, json!({}))).await?;
        tenant.until_ready(request).await?;
    }
    let before = version(&tenant.until_content("same", "k", b"x").await?)?;

    secrets.delete("life-of-the-first-token", &DeleteParams::default()).await?;
    // It cannot renew its Lease, and says so.
    site.until_readyz(200, "leader: standby").await?;
    site.sources.set(&[("Changes", b"new"), ("Same", b"x")])?;
    let next = file.with_extension("next");
    fs::write(&next, second)?;
    fs::rename(&next, &file)?;

    eventually(READ_AGAIN_WITHIN, "what has changed meanwhile is written", async || {
        let found = tenant.secret("r").await.map_err(|error| error.to_string())?.unwrap_or_default();
        match found.data.and_then(|data| data.get("k").cloned()) {
            Some(content) if content.0 == b"new" => Ok(()),
            _ => Err(site.operator_logs().lines().last().unwrap_or_default().to_owned()),
        }
    })
    .await?;
    tenant.until_ready("r").await?;
    site.until_readyz(200, "leader: leading").await?;
    assert_eq!(version(&tenant.until_content("same", "k", b"x").await?)?, before, "what did not change is left alone");
    Ok(())
}
