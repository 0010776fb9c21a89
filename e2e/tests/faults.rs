//! Every fault at every kind of write: it comes out right, others go on, and no body gets into the log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::observer::Observer;
use e2e::proxy::{Action, Proxy, Rule, Which};
use e2e::site::{SOON, Site};
use e2e::{eventually, is_ready};
use futures::future::try_join_all;
use serde_json::json;

/// A fault costs a retry or two, with backoff; the longest wait that is honoured is a minute.
const BOUND: Duration = Duration::from_secs(100);

/// Content that would be noticed anywhere.
const CANARY: &str = "canary-4711-";

/// What every body about our Secrets contains.
const OF_A_BODY: [&str; 3] = ["f:metadata", "\"garbled\"", "managedFields"];

/// A request that is created, rotated and revoked, with the fault at the first write of its Secret and of its
/// status in each step.
async fn survive(site: &Site, proxy: &Proxy, number: usize, fault: Action) -> Result<()> {
    let source = format!("Fault{number}");
    let content = |version| format!("{CANARY}{number}-{version}");
    let tenant = site.tenant_with(&source, content(1).as_bytes()).await?;
    let about = |resource| Which::writes().namespace(&tenant.namespace).resource(resource);
    let inject =
        || ["secrets", "secretsdistributions"].map(|resource| proxy.rule(about(resource).nth(1), fault.clone()));
    let came_about = async |rules: [Rule; 2]| -> Result<()> {
        for rule in &rules {
            rule.hit(BOUND).await?;
            rule.lift();
        }
        Ok(())
    };

    let created = inject();
    tenant.request("r", json!({ "secrets": [{ "from": source, "to": "k" }] })).await?;
    let ready = async |bound, expected: Option<String>| {
        eventually(bound, "the end of a fault", async || {
            let secret = tenant.secret("r").await.map_err(|error| error.to_string())?;
            let found = secret.and_then(|s| s.data?.get("k").map(|v| String::from_utf8_lossy(&v.0).into_owned()));
            let request = tenant.requests().get("r").await.map_err(|error| error.to_string())?;
            let status = request.status.unwrap_or_default();
            let ready = is_ready(&status);
            let current = status.observed_generation == request.metadata.generation;
            if found == expected && ready == expected.is_some() && current {
                Ok(())
            } else {
                Err(format!("{status:?}"))
            }
        })
        .await
    };
    ready(BOUND, Some(content(1))).await?;
    came_about(created).await?;
    let made = proxy.calls_since(0, &about("secrets").verbs(&["create"]));
    assert_eq!(made.iter().filter(|call| call.forwarded == Some(201)).count(), 1, "{made:#?}");

    let rotated = inject();
    site.sources.set(&[(&source, content(2).as_bytes())])?;
    ready(BOUND, Some(content(2))).await?;
    // Within the second of the first write the status has nothing new to tell.
    rotated[0].hit(BOUND).await?;
    rotated.iter().for_each(Rule::lift);

    let revoked = inject();
    site.delete_policy(&tenant.namespace).await?;
    ready(BOUND, None).await?;
    came_about(revoked).await
}

#[tokio::test]
async fn a_fault_at_any_write_is_survived_without_a_duplicate_a_lie_or_a_word() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    let site = site.configured(|config| {
        let config = config.argument("--api-timeout=2s").argument("--rate-limit=100000/1s");
        e2e::OperatorConfig { log_level: "trace".into(), ..config }
    });
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let all = Action::faults().into_iter().enumerate();
    let (site, proxy) = (&site, &proxy);
    try_join_all(all.map(|(number, (name, fault))| async move {
        survive(site, proxy, number, fault).await.with_context(|| format!("fault {name}"))
    }))
    .await?;
    observer.history().await?.ready_means_written(|_| true)?;
    no_body_in(&site.operator_logs());
    Ok(())
}

fn no_body_in(logs: &str) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    // Base64 of the canary's first bytes, which no content after it can change.
    let encoded = STANDARD.encode(&CANARY[..12]);
    assert!(logs.contains("\"level\":\"TRACE\"") || logs.contains("\"level\":\"DEBUG\""), "the log tells nothing");
    for line in logs.lines() {
        let told = [CANARY, &encoded].into_iter().chain(OF_A_BODY).find(|part| line.contains(part));
        assert_eq!(told, None, "{line}");
    }
}

#[tokio::test]
async fn a_status_whose_answer_was_lost_does_not_outlive_its_cause() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    let site = site.configured(|config| config.argument("--api-timeout=2s"));
    site.start_operator().await?;
    let tenant = site.tenant_with("Flicker", b"x").await?;
    tenant.request("r", json!({ "secrets": [{ "from": "Flicker", "to": "k" }] })).await?;
    tenant.until_ready("r").await?;
    let statuses = Which::writes().namespace(&tenant.namespace).resource("secretsdistributions");
    let unanswered = proxy.rule(statuses.nth(1), Action::HoldReply);
    site.sources.remove("Flicker")?;
    unanswered.hit(SOON).await?;
    tenant.until_condition("r", "Synced", "False", "SourceMissing").await?;
    // Before the deadline of the write: what is true then is what was true before it.
    site.sources.set(&[("Flicker", b"x")])?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn an_hour_of_retry_after_is_not_waited_for_and_nobody_else_waits() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    let busy = site.tenant_with("Busy", b"x").await?;
    let creates = Which::writes().namespace(&busy.namespace).resource("secrets");
    let asked = proxy.rule(creates.clone().nth(1), Action::RespondRetryAfter(429, 3600));
    busy.request("r", json!({ "secrets": [{ "from": "Busy", "to": "k" }] })).await?;
    asked.hit(SOON).await?;
    for number in 0..20 {
        let other = site.tenant_with(&format!("Other{number}"), b"x").await?;
        other.request("r", json!({ "secrets": [{ "from": format!("Other{number}"), "to": "k" }] })).await?;
        other.until_ready("r").await?;
    }
    let retried = async || (proxy.calls_since(0, &creates).len() > 1).then_some(());
    eventually(BOUND, "the write is tried again", retried).await?;
    busy.until_ready("r").await?;
    let tries = proxy.calls_since(0, &creates).len();
    assert_eq!(tries, 2, "the API server asked for patience");
    Ok(())
}

#[tokio::test]
async fn black_holes_in_some_namespaces_stop_no_other() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    // Longer than anybody waits here: what is held stays so.
    let site = site.configured(|config| config.argument("--api-timeout=60s"));
    site.start_operator().await?;
    let mut stuck = Vec::new();
    // As many as would hold every worker if one namespace could: of 16 workers it has 13.
    let hole = site.tenant_with("Hole", b"x").await?;
    let held = proxy.rule(Which::writes().namespace(&hole.namespace), Action::Hold);
    for number in 0..32 {
        let name = format!("r{number}");
        hole.request(&name, json!({ "secrets": [{ "from": "Hole", "to": "k" }] })).await?;
        stuck.push(name);
    }
    held.hit_times(13, SOON).await?;
    let other = site.tenant_with("Fine", b"x").await?;
    other.request("r", json!({ "secrets": [{ "from": "Fine", "to": "k" }] })).await?;
    other.until_ready("r").await?;
    assert!(proxy.calls_since(0, &Which::writes().namespace(&hole.namespace)).iter().all(|c| c.forwarded.is_none()));
    held.lift();
    for name in stuck {
        hole.until_ready(&name).await?;
    }
    Ok(())
}
