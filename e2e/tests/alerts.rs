//! Prometheus itself judges the alerts and the queries of the dashboards, and the API server the manifest of Jaeger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{ffi::OsStr, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use e2e::{ControlPlane, eventually, repository, site::SOON};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

const MANIFEST: &str = "deploy/jaeger/jaeger.yaml";

fn file(name: &str) -> PathBuf {
    repository().join("deploy/monitoring").join(name)
}

/// Runs promtool, and gives what it says; that it fails is an error.
async fn promtool<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let program = e2e::promtool().await?;
    let output = Command::new(program).args(arguments).output().await.context("promtool cannot be run")?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{said}");
    Ok(said)
}

#[tokio::test]
async fn prometheus_takes_the_alerts_and_the_configuration() -> Result<()> {
    let rules = [OsStr::new("check"), OsStr::new("rules"), OsStr::new("--lint=all"), OsStr::new("--lint-fatal")];
    promtool(rules.into_iter().chain([file("alerts.yaml").as_os_str()])).await?;
    promtool([OsStr::new("check"), OsStr::new("config"), file("prometheus.yaml").as_os_str()]).await?;
    Ok(())
}

#[tokio::test]
async fn each_alert_fires_when_it_should_and_only_then() -> Result<()> {
    promtool([OsStr::new("test"), OsStr::new("rules"), file("alerts_test.yaml").as_os_str()]).await?;
    Ok(())
}

#[tokio::test]
async fn an_alert_that_does_not_fire_is_noticed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rules = fs::read_to_string(file("alerts.yaml"))?;
    let (sound, dull) = ("secrets_distributor_leader) == 0", "secrets_distributor_leader) == 2");
    assert!(rules.contains(sound));
    fs::write(folder.path().join("alerts.yaml"), rules.replace(sound, dull))?;
    fs::copy(file("alerts_test.yaml"), folder.path().join("alerts_test.yaml"))?;
    let tests = folder.path().join("alerts_test.yaml");
    let error = promtool([OsStr::new("test"), OsStr::new("rules"), tests.as_os_str()]).await.unwrap_err();
    assert!(error.to_string().contains("SecretsDistributorNoLeader"), "{error}");
    Ok(())
}

/// Every text of that key, however deep.
fn texts<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| texts(field, key, found));
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, key, found)),
        _ => {}
    }
}

#[tokio::test]
async fn prometheus_understands_every_query_of_the_dashboards() -> Result<()> {
    for name in ["platform", "tenant"] {
        let dashboard = fs::read_to_string(file("dashboards").join(name).with_extension("json"))?;
        let (dashboard, mut queries): (Value, _) = (serde_json::from_str(&dashboard)?, Vec::new());
        texts(&dashboard, "expr", &mut queries);
        assert!(queries.len() > 10, "{queries:?}");
        for query in queries {
            // As Grafana fills it in; other variables stand within strings.
            let query = query.replace("$__rate_interval", "5m");
            promtool(["--experimental", "promql", "format", &query]).await.with_context(|| query)?;
        }
    }
    Ok(())
}

/// In a namespace that enforces restricted Pod Security, as the manifest's own does, the pod is admitted.
#[tokio::test]
async fn the_api_server_takes_the_manifest_of_jaeger_and_admits_its_pod() -> Result<()> {
    let cluster = ControlPlane::shared().await?;
    let manifest = repository().join(MANIFEST);
    let applied = cluster.kubectl(["apply", "--server-side", "--validate=strict", "-f"]).arg(&manifest).run().await?;
    ensure!(applied.success() && !applied.stderr.contains("Warning"), "{}", applied.stderr);
    let pod = || -> Result<Value> {
        let documents = serde_yaml_ng::Deserializer::from_str(&fs::read_to_string(&manifest)?)
            .map(Value::deserialize)
            .collect::<Result<Vec<_>, _>>()?;
        let deployment = documents.into_iter().find(|one| one["kind"] == "Deployment").context("a Deployment")?;
        let spec = deployment["spec"]["template"]["spec"].clone();
        Ok(
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "jaeger", "namespace": "jaeger" }, "spec": spec }),
        )
    };
    let create = |pod: Value| cluster.kubectl(["create", "--dry-run=server", "-f", "-"]).stdin(pod.to_string());
    // Not before the namespace has its ServiceAccount.
    eventually(SOON, "the pod is admitted", async || create(pod()?).succeed().await).await?;
    let mut loose = pod()?;
    loose["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = create(loose).run().await?;
    ensure!(refused.stderr.contains("violates PodSecurity"), "the namespace enforces nothing: {}", refused.stderr);
    cluster.kubectl(["delete", "--wait=false", "-f"]).arg(&manifest).succeed().await?;
    Ok(())
}
