//! The operator as a process: what it needs to become ready, how it stops, and what it survives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::{
    Operator, OperatorConfig, eventually,
    site::{SOON, Site, Tenant},
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{ResourceExt, api::ListParams};
use rustix::process::{Pid, Signal, kill_process};
use secrets_distributor::rbac::RESTORE;
use serde_json::json;

/// What is promised for the end after SIGTERM.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

fn one(source: &str) -> serde_json::Value {
    json!({ "secrets": [{ "from": source, "to": "k" }] })
}

/// The main job is done in a new namespace.
async fn assert_works(site: &Site) -> Result<()> {
    let tenant = site.tenant("works").await?;
    tenant.grant(&["Always"]).await?;
    tenant.request("r", one("Always")).await?;
    tenant.until_content("r", "k", b"there").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn readiness_names_what_is_missing_and_follows_when_it_comes() -> Result<()> {
    let site = Site::prepare().await?;
    unreachable(&site).await?;

    let kubectl = |arguments: &[&str]| site.cluster.kubectl(arguments);
    kubectl(&["delete", "clusterrolebinding", "secrets-distributor-operator"]).succeed().await?;
    kubectl(&["delete", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/../crds")]).succeed().await?;
    site.launch_operator().await?;
    let text = site.until_readyz(503, "policies: failed: ").await?;
    for (gate, kind) in [("policies", "DistributionPolicy objects"), ("requests", "SecretsDistribution objects")] {
        let told = format!("{gate}: failed: the operator may not list {kind}: {RESTORE}\n");
        site.until_readyz(503, &told).await?;
    }
    assert!(text.starts_with("not ready\n"), "{text}");
    let told = format!("namespaces: failed: the operator may not list namespaces: {RESTORE}\n");
    site.until_readyz(503, &told).await?;
    site.until_readyz(503, "sources: ready\n").await?;

    kubectl(&["apply", "--server-side", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/../rbac")]).succeed().await?;
    site.until_readyz(503, "namespaces: ready\n").await?;
    let told = "policies: failed: the API server does not know DistributionPolicy objects: kubectl apply -f crds/\n";
    site.until_readyz(503, told).await?;

    site.cluster.install().await?;
    site.until_readyz(200, "ok\n").await?;
    assert_works(&site).await?;

    kubectl(&["delete", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/../crds")]).succeed().await?;
    site.until_readyz(503, told).await?;
    site.cluster.install().await?;
    site.until_readyz(200, "ok\n").await?;
    assert_works(&site).await
}

/// No API server at the address: the process waits, says so, and can be stopped.
async fn unreachable(site: &Site) -> Result<()> {
    let mut kubeconfig = kube::config::Kubeconfig::read_from(site.cluster.kubeconfig())?;
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some("https://127.0.0.1:1".to_owned());
    }
    let path = site.cluster.directory().join("nobody.kubeconfig");
    std::fs::write(&path, serde_yaml_ng::to_string(&kubeconfig)?)?;
    let mut config = OperatorConfig::new(site.sources.mount().path());
    config.kubeconfig = Some(path);
    let mut operator = Operator::start(&site.cluster, config).await?;
    eventually(SOON, "readiness tells that there is no API server", async || {
        let (status, text) = operator.get("/readyz").await?;
        anyhow::ensure!(status == 503 && text.contains("policies: failed: the API server cannot be reached"), "{text}");
        Ok(())
    })
    .await?;
    assert_eq!(operator.get("/livez").await?.0, 200);
    let exit = operator.terminate(STOPPED_WITHIN).await?;
    assert_eq!(exit.status.code(), Some(0), "{}", operator.logs());
    Ok(())
}

#[tokio::test]
async fn it_leaves_in_time_under_load_and_the_next_one_finishes() -> Result<()> {
    const REQUESTS: usize = 150;
    let site = Site::start().await?;
    let tenant = site.tenant("load").await?;
    tenant.grant(&["Always"]).await?;
    tenant.request("denied", one("NobodyGrantsThis")).await?;
    tenant.until_event("denied", "SourceNotPermitted").await?;
    let names = (0..REQUESTS).map(|i| format!("r{i}"));
    let (tenant, spec) = (&tenant, one("Always"));
    let create = stream::iter(names).map(|name| {
        let spec = spec.clone();
        async move { tenant.request(&name, spec).await }
    });
    let create = create.buffer_unordered(16).try_collect::<Vec<_>>();
    let stop = async {
        eventually(SOON, "some are written", async || (count(tenant).await.ok()? > 5).then_some(())).await?;
        site.terminate_operator(STOPPED_WITHIN).await
    };
    let (created, stopped) = tokio::join!(create, stop);
    created?;
    let (exit, logs) = stopped?;
    assert_eq!(exit.status.code(), Some(0), "{logs}");
    assert!(exit.after < STOPPED_WITHIN, "left after {:?}", exit.after);
    assert!(!logs.contains("panicked") && !logs.contains("\"level\":\"ERROR\""), "{logs}");
    let written = count(tenant).await?;
    assert!(written < REQUESTS, "it was stopped under load: {written}");

    site.start_operator().await?;
    for i in 0..REQUESTS {
        tenant.until_ready(&format!("r{i}")).await?;
    }
    tenant.until_condition("denied", "Permitted", "False", "SourceNotPermitted").await?;
    let events = tenant.events("denied").await?;
    assert_eq!(events.len(), 1, "what was told before the restart is not told again: {events:?}");
    Ok(())
}

/// How many Secrets there are; each has all of its content.
async fn count(tenant: &Tenant<'_>) -> Result<usize> {
    let secrets = tenant.secrets().list(&ListParams::default()).await?;
    for secret in &secrets {
        let content = secret.data.as_ref().and_then(|data| data.get("k")).map(|bytes| bytes.0.as_slice());
        assert_eq!(content, Some(b"there".as_slice()), "{}", secret.name_any());
    }
    Ok(secrets.items.len())
}

#[tokio::test]
async fn an_api_server_that_hangs_is_waited_for() -> Result<()> {
    let site = Site::prepare().await?.configured(|config| config.argument("--api-timeout=500ms"));
    site.start_operator().await?;
    let tenant = site.tenant("hanging").await?;
    tenant.grant(&["Changing"]).await?;
    site.sources.set(&[("Changing", b"before")])?;
    tenant.request("r", one("Changing")).await?;
    tenant.until_content("r", "k", b"before").await?;

    let servers = site.cluster.description().servers.as_ref();
    let servers = servers.context("this test stops its own API server")?;
    let id = i32::try_from(servers.processes["kube-apiserver"])?;
    let apiserver = Pid::from_raw(id).context("no process id")?;
    kill_process(apiserver, Signal::STOP)?;
    site.sources.set(&[("Changing", b"meanwhile")])?;
    let noticed = eventually(SOON, "the operator notices", async || {
        site.operator_logs().contains("the API server does not answer").then_some(())
    });
    let noticed = noticed.await;
    kill_process(apiserver, Signal::CONT)?;
    noticed?;

    tenant.until_content("r", "k", b"meanwhile").await?;
    tenant.until_ready("r").await?;
    site.until_readyz(200, "ok\n").await?;
    assert!(!site.operator_logs().contains("panicked"));
    assert_works(&site).await
}
