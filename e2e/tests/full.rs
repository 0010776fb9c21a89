//! The store has no space left. What takes no space still comes about, above all revocations; the rest waits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::observer::Observer;
use e2e::proxy::Which;
use e2e::site::{SOON, Site};
use e2e::{ControlPlane, eventually};
use kube::{Client, Config};
use serde_json::{Value, json};

/// Longer than the leader's Lease lasts, which cannot be renewed either.
const FULL: Duration = Duration::from_secs(25);

/// Backoff grows to half a minute: that late the space may be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// Renewals of the Lease, the Secret and its status: each again and again, with backoff. A loop would be thousands.
const PATIENT: usize = 100;

/// etcd itself, behind the API server's back.
struct Store(Client);

impl Store {
    fn of(cluster: &ControlPlane) -> Result<Self> {
        let servers = cluster.description().servers.as_ref().context("unset E2E_KUBECONFIG")?;
        Ok(Self(Client::try_from(Config::new(servers.etcd.parse()?))?))
    }

    /// What etcd does to itself when its quota is used up, and what an administrator does who has made space.
    async fn alarm(&self, action: &str) -> Result<()> {
        let alarm = json!({ "action": action, "memberID": self.member().await?, "alarm": "NOSPACE" });
        let answer = self.post("/v3/maintenance/alarm", &alarm).await?;
        ensure!(answer["alarms"][0]["alarm"] == "NOSPACE", "{answer}");
        Ok(())
    }

    async fn member(&self) -> Result<Value> {
        Ok(self.post("/v3/maintenance/status", &json!({})).await?["header"]["member_id"].clone())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        Ok(self.0.request(http::Request::post(path).body(serde_json::to_vec(body)?)?).await?)
    }
}

#[tokio::test]
async fn what_is_revoked_goes_while_the_store_is_full_and_the_rest_comes_about_when_it_is_not() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    let store = Store::of(&site.cluster)?;
    site.sources.set(&[("Source", b"old")])?;
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let (rotated, revoked) = (site.served_tenant("Source", b"old").await?, site.served_tenant("Source", b"old").await?);

    store.alarm("ACTIVATE").await?;
    let (full, mark) = (Instant::now(), proxy.mark());
    ensure!(rotated.foreign_secret("another", &[]).await.is_err(), "the store is full");
    // Deletions take no space: neither the platform team's, nor the operator's.
    site.delete_policy(&revoked.namespace).await?;
    revoked.until_gone("r").await?;
    site.sources.set(&[("Source", b"new")])?;
    tokio::time::sleep(FULL.saturating_sub(full.elapsed())).await;
    let tried = proxy.calls_since(mark, &Which::writes()).len();
    println!("{tried} writes were tried in {FULL:?}");
    assert!((1..=PATIENT).contains(&tried), "{tried} writes");
    rotated.until_content("r", "k", b"old").await?;

    store.alarm("DEACTIVATE").await?;
    let space = Instant::now();
    eventually(NOTICED_WITHIN, "the rotation", async || {
        let secret = rotated.secret("r").await?.context("no Secret")?;
        ensure!(secret.data.unwrap_or_default()["k"].0 == b"new", "it is old");
        Ok(())
    })
    .await?;
    println!("the rotation came about {:?} after there was space", space.elapsed());
    rotated.until_ready("r").await?;
    revoked.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    observer.history().await?.ready_means_written(|_| true)?;
    let (exit, log) = site.terminate_operator(SOON).await?;
    assert!(exit.status.success() && !log.contains("panicked"), "the operator lived through it: {exit:?}");
    Ok(())
}
