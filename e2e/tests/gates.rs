//! While something that a decision needs has not been read, nothing is granted, denied, written or revoked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::eventually;
use e2e::observer::{History, Observer};
use e2e::proxy::{Action, Call, Proxy, Rule, Which};
use e2e::site::{SOON, Site, Tenant};
use serde_json::json;

/// How long a gate is kept shut after everything else has been read.
const SHUT: Duration = Duration::from_millis(1500);

/// A confirmation of the policies serves for two seconds.
const CONFIRMED_FOR: Duration = Duration::from_millis(2500);

/// More namespaces than are asked about at a time.
const BYSTANDERS: usize = 40;

/// What is listed at the start and decides.
const LISTED: [&str; 3] = ["distributionpolicies", "namespaces", "secretsdistributions"];

/// The ways in which a list can be slow, or fail for a while.
fn troubles() -> Vec<(Action, Option<usize>)> {
    vec![
        (Action::Hold, None),
        (Action::Respond(500), Some(3)),
        (Action::RespondRetryAfter(429, 1), Some(2)),
        // Half a list is no list: what is missing in it has not been deleted.
        (Action::Truncate(300), Some(2)),
        (Action::Cut(300), Some(2)),
    ]
}

/// What the operator writes about Secrets, requests and policies.
fn writes() -> Which {
    let about = ["secrets", "secretsdistributions", "distributionpolicies", "events"];
    Which::writes().when(move |call| about.contains(&call.resource.as_str()))
}

fn list_of(resource: &'static str) -> Which {
    Which::calls().resource(resource).verbs(&["list"])
}

fn limited(which: Which, times: Option<usize>) -> Which {
    match times {
        Some(times) => which.times(times),
        None => which,
    }
}

/// Waits until everything but `resource` has been listed since the mark, and the trouble has come about as often
/// as it shall; then a moment longer.
async fn all_else_is_read(proxy: &Proxy, mark: usize, resource: &str, rule: &Rule, times: Option<usize>) -> Result<()> {
    for other in LISTED.iter().filter(|other| **other != resource) {
        eventually(SOON, &format!("the list of {other}"), async || {
            proxy.calls_since(mark, &list_of(other)).iter().any(|call| call.answered == Some(200)).then_some(())
        })
        .await?;
    }
    rule.hit_times(times.unwrap_or(1), SOON).await?;
    if times.is_none() {
        tokio::time::sleep(SHUT).await;
    }
    Ok(())
}

/// Nobody was told that anything is wrong, and no Secret went.
fn nothing_was_taken_away(history: &History, since: usize) -> Result<()> {
    for seen in history.since(since) {
        ensure!(!seen.deleted, "deleted: {seen:?}");
        ensure!(!seen.says_ready("False") && !seen.says_ready("Unknown"), "told: {seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_denied_or_revoked_before_everything_has_been_read() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let mut number = 0;
    for resource in LISTED {
        for (action, times) in troubles() {
            number += 1;
            let source = format!("Gate{number}");
            let tenant = site.served_tenant(&source, b"old").await?;
            site.kill_operator()?;
            // Something to write, once it may.
            site.sources.set(&[(&source, b"new")])?;
            let before = observer.history().await?.len();
            let mark = proxy.mark();
            let rule = proxy.rule(limited(list_of(resource), times), action.clone());
            site.launch_operator().await?;
            all_else_is_read(&proxy, mark, resource, &rule, times).await?;
            let written = written_before_the_list(&proxy, mark, resource, &rule);
            assert!(written.is_empty(), "{resource}: {action:?}: {written:#?}");
            if action == Action::Hold {
                site.until_readyz(503, "").await?;
            }
            rule.lift();
            tenant.until_content("r", "k", b"new").await?;
            tenant.until_ready("r").await?;
            nothing_was_taken_away(&observer.history().await?, before)?;
        }
    }
    Ok(())
}

/// What was written since the mark and before the list of the resource was answered as it should be.
fn written_before_the_list(proxy: &Proxy, mark: usize, resource: &'static str, trouble: &Rule) -> Vec<Call> {
    let lists = list_of(resource);
    // Half a list is answered with 200 as well.
    let troubled: Vec<_> = trouble.hits().iter().map(|call| call.index).collect();
    let is_list = |call: &Call| lists.includes(call) && call.answered == Some(200) && !troubled.contains(&call.index);
    let calls = proxy.calls_since(mark, &Which::calls());
    let unread = calls.into_iter().take_while(|call| !is_list(call));
    unread.filter(|call| writes().includes(call)).collect()
}

#[tokio::test]
async fn namespaces_that_nobody_waits_for_hold_up_none_that_somebody_does() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    for _ in 0..BYSTANDERS {
        // The API server lists them before the others.
        site.cluster.namespace("a-bystander").await?;
    }
    let (asks, abroad) = (site.tenant("asks").await?, site.tenant("asks-abroad").await?);
    site.sources.set(&[("Waits", b"old")])?;
    let both = json!({ "names": [asks.namespace, abroad.namespace] });
    let rule = json!({ "effect": "Allow", "sources": ["Waits"], "requestedFrom": { "names": [asks.namespace] } });
    site.policy("waits", json!({ "namespaces": both, "rules": [rule] })).await?;
    let wants =
        |place: &Tenant| json!({ "secrets": [{ "from": "Waits", "to": "k" }], "namespaces": [place.namespace] });
    asks.request("r", wants(&abroad)).await?;
    asks.until_ready("r").await?;

    site.kill_operator()?;
    asks.change("r", wants(&asks)).await?;
    let bystanders = list_of("secrets").when(|call| call.namespace.starts_with("a-bystander"));
    let held = proxy.rule(bystanders, Action::Hold);
    site.launch_operator().await?;
    asks.until_content("r", "k", b"old").await?;
    // Nobody asks for this one any more: the status tells that it is there.
    abroad.until_gone("r").await?;
    assert!(!held.hits().is_empty() && held.hits().len() < BYSTANDERS, "{} are asked about", held.hits().len());
    held.lift();
    Ok(())
}

#[tokio::test]
async fn policies_that_cannot_be_listed_again_revoke_nothing() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let tenant = site.served_tenant("Relist", b"old").await?;
    let before = observer.history().await?.len();
    let policies = || Which::calls().resource("distributionpolicies");

    // The running watch ends, cannot be resumed, and the list fails: for a while nothing is known.
    let expired = proxy.rule(policies().verbs(&["watch"]), Action::Expire);
    let failing = proxy.rule(policies().verbs(&["list"]), Action::Respond(500));
    assert_eq!(proxy.cut(&policies().verbs(&["watch"])), 1);
    failing.hit(SOON).await?;
    tokio::time::sleep(CONFIRMED_FOR).await;
    let mark = proxy.mark();
    site.sources.set(&[("Relist", b"new")])?;
    let failed = failing.hits().len();
    failing.hit_times(failed + 2, SOON).await?;
    let written = proxy.calls_since(mark, &Which::writes().resource("secrets"));
    assert!(written.is_empty(), "nothing is written by policies that cannot be confirmed: {written:#?}");
    let history = observer.history().await?;
    assert!(history.since(before).all(|seen| !seen.deleted), "nothing is revoked");

    expired.lift();
    failing.lift();
    tenant.until_content("r", "k", b"new").await?;
    tenant.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_revocation_that_the_watch_has_not_shown_yet_holds_for_every_write() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let tenant = site.served_tenant("Lagging", b"old").await?;
    let watch = || Which::calls().resource("distributionpolicies").verbs(&["watch"]);

    let lagging = proxy.rule(watch(), Action::HoldEvents);
    assert_eq!(proxy.cut(&watch()), 1);
    lagging.hit(SOON).await?;
    site.delete_policy(&tenant.namespace).await?;
    tokio::time::sleep(CONFIRMED_FOR).await;
    let mark = proxy.mark();
    site.sources.set(&[("Lagging", b"new")])?;
    let confirms = || Which::calls().resource("distributionpolicies").verbs(&["list"]);
    eventually(SOON, "the policies are read before the write", async || {
        proxy.calls_since(mark, &confirms()).iter().any(|call| call.answered == Some(200)).then_some(())
    })
    .await?;
    tokio::time::sleep(SHUT).await;
    assert_eq!(proxy.calls_since(mark, &Which::writes().resource("secrets")), []);
    lagging.lift();
    tenant.until_gone("r").await?;
    observer
        .history()
        .await?
        .only_granted(|_, secret| secret.data.iter().flatten().all(|(_, value)| value.0 == b"old"))?;
    Ok(())
}
