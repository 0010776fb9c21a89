//! The main job.

use anyhow::Result;
use e2e::site::{Site, version};
use serde_json::json;

#[tokio::test]
async fn a_granted_and_delegated_request_becomes_a_secret_byte_for_byte() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("bytes").await?;
    let content = b"line\r\n\xff\xfe\0 end\n";
    site.sources.set(&[("BytesSource", content)])?;
    tenant.request("r", json!({ "secrets": [{ "from": "BytesSource", "to": "k" }] })).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    assert!(tenant.secret("r").await?.is_none(), "nothing is written without a grant");

    tenant.grant(&["BytesSource"]).await?;
    tenant.until_ready("r").await?;
    let secret = tenant.secret("r").await?.unwrap();
    assert_eq!(secret.data.unwrap()["k"].0, content);
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    Ok(())
}

#[tokio::test]
async fn a_rotated_source_reaches_the_secret() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("rotation").await?;
    site.sources.set(&[("RotatingSource", b"one")])?;
    tenant.grant(&["RotatingSource"]).await?;
    tenant.request("r", json!({ "secrets": [{ "from": "RotatingSource", "to": "k" }] })).await?;
    tenant.until_content("r", "k", b"one").await?;
    for round in 0..5 {
        let content = format!("two {round}");
        site.sources.set(&[("RotatingSource", content.as_bytes())])?;
        tenant.until_content("r", "k", content.as_bytes()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_edited_or_deleted_secret_comes_back() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("drift").await?;
    site.sources.set(&[("DriftSource", b"right")])?;
    tenant.grant(&["DriftSource"]).await?;
    tenant.request("r", json!({ "secrets": [{ "from": "DriftSource", "to": "k" }] })).await?;
    let secret = tenant.until_content("r", "k", b"right").await?;

    for patch in [
        json!({ "stringData": { "k": "wrong" } }),
        json!({ "data": { "k": null } }),
        json!({ "stringData": { "extra": "x" } }),
        json!({ "metadata": { "labels": null } }),
        json!({ "metadata": { "annotations": null } }),
        json!({ "metadata": { "ownerReferences": null } }),
    ] {
        let before = version(&tenant.secret("r").await?.unwrap())?;
        let merge = kube::api::Patch::Merge(&patch);
        tenant.secrets().patch("r", &kube::api::PatchParams::default(), &merge).await?;
        e2e::eventually(e2e::site::SOON, &format!("{patch} is undone"), async || {
            let now = tenant.secret("r").await.unwrap().ok_or("gone")?;
            let mut repaired = now.clone();
            repaired.metadata.resource_version = secret.metadata.resource_version.clone();
            repaired.metadata.managed_fields = secret.metadata.managed_fields.clone();
            match repaired == secret && now.metadata.resource_version.as_deref() != Some(&before) {
                true => Ok(()),
                false => Err(format!("{:?}", now.metadata)),
            }
        })
        .await?;
    }
    tenant.secrets().delete("r", &Default::default()).await?;
    tenant.until_content("r", "k", b"right").await?;
    tenant.until_ready("r").await?;
    Ok(())
}
