//! An API server that has lost its store goes on to answer from what it knew. What was revoked is not written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::observer::Observer;
use e2e::proxy::{FreezableProxy, Proxy, Which};
use e2e::site::{SOON, Site};
use e2e::{OperatorConfig, SecondApiServer, eventually};

/// A confirmation of the policies serves for two seconds.
const CONFIRMED_FOR: Duration = Duration::from_millis(2500);

/// A store that was frozen takes a while to be what it was: watches are resumed with backoff.
const THAWED_WITHIN: Duration = Duration::from_secs(60);

struct Stale {
    site: Site,
    store: FreezableProxy,
    proxy: Proxy,
    // Ends after whoever talks to it.
    _second: SecondApiServer,
}

/// A cluster whose operator talks to a second API server, between which and the store something can freeze.
async fn stale() -> Result<Stale> {
    let site = Site::prepare().await?;
    let servers = site.cluster.description().servers.clone().context("unset E2E_KUBECONFIG")?;
    let etcd = servers.etcd.trim_start_matches("http://").to_owned();
    let store = FreezableProxy::start(&etcd).await?;
    let second = SecondApiServer::start(&site.cluster, &format!("http://{}", store.address())).await?;
    let proxy = Proxy::in_front_of(&site.cluster, Some(second.url())).await?;
    let kubeconfig = Some(proxy.kubeconfig());
    let site = site.configured(|config| OperatorConfig { kubeconfig, ..config }.argument("--api-timeout=2s"));
    site.start_operator().await?;
    Ok(Stale { site, store, proxy, _second: second })
}

#[tokio::test]
async fn nothing_that_was_revoked_is_written_through_an_api_server_with_a_frozen_store() -> Result<()> {
    let Stale { site, store, proxy, _second } = stale().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    site.sources.set(&[("Source", b"old")])?;
    let (kept, revoked) = (site.served_tenant("Source", b"old").await?, site.served_tenant("Source", b"old").await?);
    store.freeze();
    tokio::time::sleep(CONFIRMED_FOR).await;

    // The operator is not told of this.
    site.delete_policy(&revoked.namespace).await?;
    let mark = proxy.mark();
    site.sources.set(&[("Source", b"new")])?;
    let confirms = Which::calls().resource("distributionpolicies").verbs(&["list"]);
    eventually(SOON, "the policies are asked for, more than once", async || {
        let asked = proxy.calls_since(mark, &confirms);
        assert!(asked.iter().all(|call| call.answered != Some(200)), "answered without the store: {asked:#?}");
        (asked.len() > 2).then_some(())
    })
    .await?;
    // A write that the API server had taken would go on at the thaw, whatever was revoked before.
    assert_eq!(
        proxy.calls_since(mark, &Which::writes().resource("secrets")),
        [],
        "nothing is sent that could not be confirmed"
    );

    store.thaw();
    eventually(THAWED_WITHIN, "what was revoked is gone", async || match revoked.secret("r").await? {
        None => Ok(()),
        Some(_) => anyhow::bail!("it is there"),
    })
    .await?;
    eventually(THAWED_WITHIN, "what is granted is rotated", async || {
        let data = kept.secret("r").await?.and_then(|secret| secret.data).unwrap_or_default();
        anyhow::ensure!(data.get("k").is_some_and(|value| value.0 == b"new"), "it is old");
        Ok(())
    })
    .await?;
    let history = observer.history().await?;
    history.only_granted(|_, secret| {
        secret.metadata.namespace.as_deref() != Some(&revoked.namespace)
            || secret.data.iter().flatten().all(|(_, value)| value.0 == b"old")
    })?;
    history.ready_means_written(|_| true)?;
    Ok(())
}
