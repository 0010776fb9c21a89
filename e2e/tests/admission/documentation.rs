//! What people have at hand: the original's example, and `kubectl explain`.

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{ControlPlane, eventually};

/// Character for character the example of the first operator's documentation.
const ORIGINAL: &str = r#"apiVersion: xlscsde.nhs.uk/v1
kind: SecretsDistribution
metadata:
  name: wildcard-tls-distribution
  namespace: test-application-1
  annotations:
    xlscsde.nhs.uk/secretUsage: "Wildcard Certificate"
spec:
  name: wildcard-tls-secret
  type: kubernetes.io/tls
  secrets:
  - from: WildcardCertificate
    to: tls.crt
  - from: WildcardCertificateKey
    to: tls.key
"#;

#[tokio::test]
async fn the_original_example_is_accepted_as_it_is() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    cluster.kubectl(["create", "namespace", "test-application-1"]).succeed().await?;
    let apply = ["apply", "--validate=strict", "-f", "-"];
    let told = cluster.kubectl(apply).stdin(ORIGINAL).succeed().await?;
    assert_eq!(told.trim(), "secretsdistribution.xlscsde.nhs.uk/wildcard-tls-distribution created");
    let told = cluster.kubectl(apply).stdin(ORIGINAL).succeed().await?;
    assert_eq!(told.trim(), "secretsdistribution.xlscsde.nhs.uk/wildcard-tls-distribution unchanged");
    let wide = cluster.kubectl(["get", "sd", "-n", "test-application-1", "-o", "wide"]).succeed().await?;
    assert!(wide.contains("Wildcard Certificate"), "the annotation is the column Usage:\n{wide}");
    Ok(())
}

#[tokio::test]
async fn explain_describes_every_field() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    for plural in ["secretsdistributions", "distributionpolicies"] {
        let bare = undescribed(cluster, plural).await?;
        assert!(bare.is_empty(), "no description in the schema: {bare:?}");
    }
    for (field, fragment) in [
        ("sd.spec.secrets.from", "a file name below the operator's mount"),
        ("sd.spec.namespaceSelector", "by the labels of the namespace"),
        ("sd.status.conditions", "Permitted, Synced and Ready"),
        ("dp.spec.rules.sources", "Globs over source names"),
        ("dp.spec.revocation.gracePeriod", "at most 720h"),
    ] {
        // The API server tells of a new kind a little after it serves it.
        let explain = async || cluster.kubectl(["explain", field]).succeed().await;
        let told = eventually(Duration::from_secs(20), &format!("kubectl explain {field}"), explain).await?;
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(fragment), "{field}: {told}");
    }
    Ok(())
}

/// The fields of a kind that have no description of their own.
async fn undescribed(cluster: &ControlPlane, plural: &str) -> Result<Vec<String>> {
    let crd = cluster.kubectl(["get", "crd", "-o", "json", &format!("{plural}.xlscsde.nhs.uk")]).succeed().await?;
    let crd: serde_json::Value = serde_json::from_str(&crd)?;
    let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").context("no schema")?;
    let mut bare = Vec::new();
    collect(schema, plural, &mut bare);
    Ok(bare)
}

fn collect(schema: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            bare.push(path.clone());
        }
        collect(field, &path, bare);
        collect(&field["items"], &path, bare);
    }
}
