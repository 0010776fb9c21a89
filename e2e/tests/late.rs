//! A write that was sent while it was right arrives when it is not: nothing of it stays, and nobody else is harmed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::eventually;
use e2e::observer::Observer;
use e2e::proxy::{Action, Proxy, Rule, Which};
use e2e::site::{SOON, Site, Tenant};
use serde_json::json;

/// One write of the tenant's Secrets that is on its way until it is let go.
struct OnItsWay<'a> {
    proxy: &'a Proxy,
    rule: Rule,
}

impl<'a> OnItsWay<'a> {
    fn next(proxy: &'a Proxy, tenant: &Tenant<'_>, verbs: &'static [&'static str]) -> Self {
        let which = Which::writes().namespace(&tenant.namespace).resource("secrets").verbs(verbs);
        Self { proxy, rule: proxy.rule(which.nth(1), Action::Late) }
    }

    async fn sent(&self) -> Result<()> {
        self.rule.hit(SOON).await.map(drop)
    }

    /// Lets it arrive; answers with the API server's status.
    async fn arrive(&self) -> Result<u16> {
        let call = self.rule.hit(SOON).await?;
        self.rule.lift();
        let answer = async || self.proxy.calls().get(call.index).and_then(|call| call.forwarded);
        eventually(SOON, "the API server's answer to the late write", answer).await
    }
}

async fn ask(tenant: &Tenant<'_>, source: &str) -> Result<()> {
    tenant.request("r", json!({ "secrets": [{ "from": source, "to": "k" }] })).await.map(drop)
}

#[tokio::test]
async fn what_arrives_late_is_refused_or_taken_back() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    // Whoever sent it gives up soon.
    let site = site.configured(|config| config.argument("--api-timeout=1s"));
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    tokio::try_join!(
        created_after_the_revocation(&site, &proxy),
        created_after_the_request_is_gone(&site, &proxy),
        changed_after_somebody_else_took_the_name(&site, &proxy),
        deleted_after_the_grant_is_back(&site, &proxy),
    )?;
    observer
        .history()
        .await?
        .bystanders_untouched(|secret| secret.data.iter().flatten().any(|(_, value)| value.0 == b"somebody's"))?;
    Ok(())
}

async fn created_after_the_revocation(site: &Site, proxy: &Proxy) -> Result<()> {
    let tenant = site.tenant_with("LateGrant", b"x").await?;
    let create = OnItsWay::next(proxy, &tenant, &["create"]);
    ask(&tenant, "LateGrant").await?;
    create.sent().await?;
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    assert_eq!(create.arrive().await?, 201);
    tenant.until_gone("r").await
}

async fn created_after_the_request_is_gone(site: &Site, proxy: &Proxy) -> Result<()> {
    let tenant = site.tenant_with("LateRequest", b"x").await?;
    let create = OnItsWay::next(proxy, &tenant, &["create"]);
    ask(&tenant, "LateRequest").await?;
    create.sent().await?;
    tenant.delete_request("r").await?;
    assert_eq!(create.arrive().await?, 201);
    tenant.until_gone("r").await
}

async fn changed_after_somebody_else_took_the_name(site: &Site, proxy: &Proxy) -> Result<()> {
    let tenant = site.tenant_with("LateName", b"x").await?;
    ask(&tenant, "LateName").await?;
    tenant.until_ready("r").await?;
    let change = OnItsWay::next(proxy, &tenant, &["patch"]);
    site.sources.set(&[("LateName", b"y")])?;
    change.sent().await?;
    tenant.delete_request("r").await?;
    tenant.until_gone("r").await?;
    let own = tenant.foreign_secret("r", &[("k", b"somebody's")]).await?;
    let answer = change.arrive().await?;
    assert!(answer >= 400, "taken: {answer}");
    assert_eq!(tenant.secret("r").await?.context("it is gone")?, own);
    Ok(())
}

async fn deleted_after_the_grant_is_back(site: &Site, proxy: &Proxy) -> Result<()> {
    let tenant = site.tenant_with("LateDelete", b"x").await?;
    ask(&tenant, "LateDelete").await?;
    tenant.until_ready("r").await?;
    let delete = OnItsWay::next(proxy, &tenant, &["delete"]);
    site.delete_policy(&tenant.namespace).await?;
    delete.sent().await?;
    tenant.grant(&["LateDelete"]).await?;
    // Whoever sent it has given up by then: one request is never worked on twice at a time.
    site.sources.set(&[("LateDelete", b"y")])?;
    tenant.until_content("r", "k", b"y").await?;
    let answer = delete.arrive().await?;
    assert!(answer >= 400, "deleted: {answer}");
    tenant.until_content("r", "k", b"y").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

/// In a test of its own: what is held is not given up meanwhile.
#[tokio::test]
async fn an_answer_that_comes_after_the_secret_is_gone_is_not_taken_for_a_secret() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    let tenant = site.tenant_with("LateAnswer", b"x").await?;
    let which = Which::writes().namespace(&tenant.namespace).resource("secrets").verbs(&["create"]);
    let answer = proxy.rule(which.nth(1), Action::HoldReply);
    ask(&tenant, "LateAnswer").await?;
    tenant.until_content("r", "k", b"x").await?;
    tenant.delete_secret("r").await?;
    // What its watch shows of that is on its way to the operator.
    tokio::time::sleep(Duration::from_secs(1)).await;
    answer.lift();
    tenant.until_ready("r").await?;
    tenant.until_content("r", "k", b"x").await.map(drop)
}
