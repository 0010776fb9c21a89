//! The fault proxy itself, in front of a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::Result;
use e2e::proxy::{Action, Proxy, Which};
use e2e::{ControlPlane, Operator};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use secrets_distributor::api::names;

const SOON: Duration = Duration::from_secs(20);

/// A namespace that the operator may write into, and the operator's access to it through a proxy.
async fn proxied() -> Result<(Proxy, String, Api<Secret>)> {
    let cluster = ControlPlane::shared().await?;
    cluster.install().await?;
    let proxy = Proxy::start(cluster).await?;
    let namespace = cluster.namespace("proxy").await?;
    cluster.delegate(&namespace).await?;
    let kubeconfig = Kubeconfig::read_from(proxy.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    let secrets = Api::namespaced(Client::try_from(config)?, &namespace);
    // RBAC takes a moment.
    let granted = async || secrets.list(&ListParams::default()).await.map(drop);
    e2e::eventually(SOON, "the delegation has an effect", granted).await?;
    Ok((proxy, namespace, secrets))
}

async fn create(secrets: &Api<Secret>, name: &str) -> kube::Result<Secret> {
    // The admission policies let the operator write nothing without its marks.
    let namespace = secrets.namespace().unwrap();
    let secret = serde_json::json!({ "metadata": {
        "name": name,
        "labels": { names::OWNER_UID: "uid", names::MANAGED_BY_LABEL: names::FIELD_MANAGER },
        "annotations": { names::TARGET: format!("{namespace}/{name}") },
    } });
    secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await
}

fn code(result: kube::Result<Secret>) -> Option<u16> {
    match result {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn what_no_rule_takes_reaches_the_api_server_with_the_clients_own_token_and_is_recorded() -> Result<()> {
    let (proxy, namespace, secrets) = proxied().await?;
    let mark = proxy.mark();
    create(&secrets, "one").await?;
    assert_eq!(code(create(&secrets, "one").await), Some(409), "the API server's own answer");
    let review = Api::<k8s_openapi::api::authentication::v1::SelfSubjectReview>::all(secrets.clone().into_client());
    let review = review.create(&PostParams::default(), &Default::default()).await?;
    assert_eq!(review.status.unwrap().user_info.unwrap().username.as_deref(), Some(Operator::USER));
    let calls = proxy.calls_since(mark, &Which::writes().namespace(&namespace));
    let told: Vec<_> = calls.iter().map(|call| (call.verb.as_str(), call.name.as_str(), call.answered)).collect();
    assert_eq!(told, [("create", "one", Some(201)), ("create", "one", Some(409))]);
    assert_eq!(calls[0].forwarded, Some(201));
    Ok(())
}

#[tokio::test]
async fn a_rule_takes_the_calls_it_is_about_and_no_other() -> Result<()> {
    let (proxy, namespace, secrets) = proxied().await?;
    let rule = proxy.rule(Which::writes().resource("secrets").nth(2), Action::RespondRetryAfter(429, 3600));
    create(&secrets, "one").await?;
    let refused = create(&secrets, "two").await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 3600));
    create(&secrets, "three").await?;
    let hit = rule.hit(SOON).await?;
    assert_eq!((hit.verb.as_str(), hit.name.as_str(), hit.namespace), ("create", "two", namespace));
    assert_eq!(secrets.get_opt("two").await?, None, "it was not forwarded");
    for status in [409, 410, 500, 503, 504] {
        let rule = proxy.rule(Which::writes(), Action::Respond(status));
        assert_eq!(code(create(&secrets, "four").await), Some(status));
        rule.lift();
    }
    create(&secrets, "four").await?;
    Ok(())
}

#[tokio::test]
async fn a_lost_reply_is_a_write_that_happened_and_a_dropped_call_one_that_did_not() -> Result<()> {
    let (proxy, namespace, secrets) = proxied().await?;
    let lost = proxy.rule(Which::writes().name("one"), Action::DropReply);
    assert!(create(&secrets, "one").await.is_err());
    assert_eq!(lost.hits().len(), 1);
    assert!(secrets.get_opt("one").await?.is_some());
    proxy.rule(Which::writes().name("two"), Action::Drop);
    assert!(create(&secrets, "two").await.is_err());
    assert!(secrets.get_opt("two").await?.is_none());
    let calls = proxy.calls_since(0, &Which::writes().namespace(&namespace));
    let told: Vec<_> = calls.iter().map(|call| (call.forwarded, call.answered)).collect();
    assert_eq!(told, [(Some(201), None), (None, None)]);
    Ok(())
}

#[tokio::test]
async fn a_held_call_goes_on_when_it_is_released_or_never() -> Result<()> {
    let (proxy, _, secrets) = proxied().await?;
    let held = proxy.rule(Which::writes().name("one"), Action::Hold);
    let waiting = {
        let secrets = secrets.clone();
        tokio::spawn(async move { create(&secrets, "one").await })
    };
    held.hit(SOON).await?;
    assert!(secrets.get_opt("one").await?.is_none());
    held.lift();
    waiting.await??;
    assert!(secrets.get_opt("one").await?.is_some());

    let held = proxy.rule(Which::writes().name("two"), Action::Hold);
    let waiting = {
        let secrets = secrets.clone();
        tokio::spawn(async move { create(&secrets, "two").await })
    };
    held.hit(SOON).await?;
    proxy.disconnect();
    assert!(waiting.await?.is_err());
    held.lift();
    assert!(secrets.get_opt("two").await?.is_none(), "the client was gone");

    let held = proxy.rule(Which::writes().name("three"), Action::HoldReply);
    let waiting = {
        let secrets = secrets.clone();
        tokio::spawn(async move { create(&secrets, "three").await })
    };
    assert_eq!(held.hit(SOON).await?.name, "three");
    assert!(secrets.get_opt("three").await?.is_some());
    assert!(!waiting.is_finished());
    held.lift();
    waiting.await??;
    Ok(())
}

#[tokio::test]
async fn a_damaged_reply_is_damaged() -> Result<()> {
    let (proxy, _, secrets) = proxied().await?;
    create(&secrets, "one").await?;
    for (action, decoded) in [(Action::Truncate(40), true), (Action::Garble, true), (Action::Cut(40), false)] {
        let rule = proxy.rule(Which::calls().verbs(&["get"]), action.clone());
        let error = secrets.get("one").await.unwrap_err();
        assert_eq!(matches!(error, kube::Error::SerdeError(_)), decoded, "{action:?}: {error}");
        rule.lift();
    }
    secrets.get("one").await?;
    Ok(())
}

#[tokio::test]
async fn a_watch_shows_events_at_once_and_can_be_held_and_cut() -> Result<()> {
    let (proxy, _, secrets) = proxied().await?;
    let params = WatchParams::default().disable_bookmarks();
    let mut events = Box::pin(secrets.watch(&params, "0").await?);
    create(&secrets, "one").await?;
    let mut next = async || tokio::time::timeout(SOON, events.try_next()).await;
    let event = next().await??;
    let Some(WatchEvent::Added(secret)) = event else { panic!("{event:?}") };
    assert_eq!(secret.metadata.name.as_deref(), Some("one"));
    assert_eq!(proxy.cut(&Which::calls().resource("secrets").verbs(&["watch"])), 1);
    // An error, or the end.
    assert!(!matches!(next().await?, Ok(Some(_))));

    let held = proxy.rule(Which::calls().verbs(&["watch"]), Action::HoldEvents);
    let mut events = Box::pin(secrets.watch(&params, "0").await?);
    held.hit(SOON).await?;
    assert!(tokio::time::timeout(Duration::from_millis(300), events.try_next()).await.is_err());
    held.lift();
    assert!(tokio::time::timeout(SOON, events.try_next()).await??.is_some());
    Ok(())
}

#[tokio::test]
async fn while_it_is_down_nothing_passes() -> Result<()> {
    let (proxy, _, secrets) = proxied().await?;
    let mut events = Box::pin(secrets.watch(&WatchParams::default().disable_bookmarks(), "0").await?);
    proxy.go_down();
    assert!(!matches!(events.try_next().await, Ok(Some(_))));
    assert!(secrets.list(&ListParams::default()).await.is_err());
    proxy.come_back();
    // A connection that was reset meanwhile may still be in the client's pool.
    let works = async || secrets.list(&ListParams::default()).await.map(drop);
    e2e::eventually(SOON, "it is back", works).await?;
    Ok(())
}
