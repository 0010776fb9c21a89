//! One request, many namespaces: which receive the Secret, and what the status tells of those that do not.

use anyhow::Result;
use e2e::site::{Site, Tenant, condition};
use e2e::{asks, targets_of};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test]
async fn named_namespaces_receive_the_secret_and_the_own_one_only_if_it_is_named() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.tenant_with("NamedSource", b"content").await?;
    let (b, c) = (site.tenant("named-b").await?, site.tenant("named-c").await?);
    for away in [&b, &c] {
        grant_from(away, &home, "NamedSource").await?;
    }
    home.request("r", asks("NamedSource", json!({ "namespaces": [b.namespace, c.namespace] }))).await?;
    let status = home.until_ready("r").await?;
    assert_eq!((status.targets_total, status.targets_synced), (Some(2), Some(2)));
    b.until_content("r", "k", b"content").await?;
    c.until_content("r", "k", b"content").await?;
    assert!(home.secret("r").await?.is_none());

    home.change("r", json!({ "namespaces": [home.namespace, b.namespace] })).await?;
    home.until_content("r", "k", b"content").await?;
    c.until_gone("r").await?;
    assert!(home.until_event("r", "Pruned").await?.contains(&c.namespace));
    b.until_content("r", "k", b"content").await?;
    Ok(())
}

#[tokio::test]
async fn another_namespace_is_refused_unless_a_policy_names_the_requester() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.tenant_with("CrossSource", b"content").await?;
    let away = site.tenant("cross-away").await?;
    away.grant(&["CrossSource"]).await?;
    home.request("r", asks("CrossSource", json!({ "namespaces": [away.namespace] }))).await?;
    let told = home.until_condition("r", "Permitted", "False", "RequesterNotPermitted").await?;
    assert!(told.contains(&away.namespace) && told.contains(&home.namespace), "{told}");
    assert!(away.secret("r").await?.is_none());

    let from = json!({ "selector": { "matchLabels": { "cross": "allowed" } } });
    let rule = json!({ "effect": "Allow", "sources": ["CrossSource"], "requestedFrom": from });
    site.policy(&away.namespace, json!({ "namespaces": { "names": [away.namespace] }, "rules": [rule] })).await?;
    home.label(json!({ "cross": "allowed" })).await?;
    home.until_ready("r").await?;
    home.label(json!({ "cross": null })).await?;
    away.until_gone("r").await?;
    home.until_condition("r", "Ready", "False", "RequesterNotPermitted").await?;
    Ok(())
}

#[tokio::test]
async fn a_selector_follows_the_labels_and_is_silent_about_what_is_not_granted() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.tenant_with("SelectSource", b"content").await?;
    let (selected, hidden) = (format!("{}-in", home.namespace), format!("{}-hidden", home.namespace));
    let rule =
        json!({ "effect": "Allow", "sources": ["SelectSource"], "requestedFrom": { "names": [home.namespace] } });
    let names = json!([format!("{selected}-*")]);
    site.policy(&format!("{selected}-all"), json!({ "namespaces": { "names": names }, "rules": [rule] })).await?;
    let labels = json!({ "select": home.namespace });
    let selector = json!({ "namespaces": [home.namespace], "namespaceSelector": { "matchLabels": labels } });
    home.request("r", asks("SelectSource", selector)).await?;
    home.until_ready("r").await?;

    // A namespace that comes, and one that is labelled later. One that nobody grants is there from the start.
    let hidden = site.named_tenant(&hidden, labels.clone()).await?;
    hidden.delegate().await?;
    let first = site.named_tenant(&format!("{selected}-1"), labels.clone()).await?;
    first.delegate().await?;
    first.until_content("r", "k", b"content").await?;
    let second = site.named_tenant(&format!("{selected}-2"), json!({})).await?;
    second.delegate().await?;
    second.label(labels).await?;
    second.until_content("r", "k", b"content").await?;
    let all = |status: &_| (targets_of(status).len() == 3).then(|| format!("{status:?}"));
    let told = home.until("r", "three destinations", all).await?;
    assert!(!told.contains(&hidden.namespace), "{told}");
    let status = home.until_ready("r").await?;
    assert_eq!((status.targets_total, status.targets_synced), (Some(3), Some(3)));
    assert!(hidden.secret("r").await?.is_none());

    first.label(json!({ "select": null })).await?;
    first.until_gone("r").await?;
    second.delete_namespace().await?;
    let alone = |status: &_| (targets_of(status).len() == 1).then_some(());
    home.until("r", "one destination", alone).await?;
    home.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_selector_that_reaches_nothing_granted_is_not_ready_and_names_nobody() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.tenant_with("SelectNone", b"content").await?;
    let labels = json!({ "select": home.namespace });
    let hidden = site.named_tenant(&format!("{}-hidden", home.namespace), labels.clone()).await?;
    let away = site.tenant("select-none").await?;
    grant_from(&away, &home, "SelectNone").await?;
    // Its own namespace is a destination unless others are named.
    let selector = json!({ "namespaces": [away.namespace], "namespaceSelector": { "matchLabels": labels } });
    home.request("r", asks("SelectNone", selector)).await?;
    let status = home.until_ready("r").await?;
    assert_eq!(targets_of(&status), [(away.namespace.clone(), "Synced".into(), String::new())]);
    assert!(!format!("{status:?}").contains(&hidden.namespace));
    Ok(())
}

/// Five destinations, one of which is in order: each of the others is told with its own reason, and heals.
#[tokio::test]
async fn each_destination_is_seen_to_by_itself() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.tenant_with("PartialSource", b"content").await?;
    let denied = site.tenant("partial-denied").await?;
    let undelegated = site.undelegated_tenant("partial-undelegated").await?;
    let terminating = site.tenant("partial-terminating").await?;
    let absent = format!("{}-absent", home.namespace);
    let rule =
        json!({ "effect": "Allow", "sources": ["PartialSource"], "requestedFrom": { "names": [home.namespace] } });
    let names = json!([undelegated.namespace, terminating.namespace, absent]);
    site.policy(&absent, json!({ "namespaces": { "names": names }, "rules": [rule] })).await?;
    let held = hold(&terminating).await?;
    terminating.delete_namespace().await?;

    let all = json!([home.namespace, denied.namespace, undelegated.namespace, terminating.namespace, absent]);
    home.request("r", asks("PartialSource", json!({ "namespaces": all }))).await?;
    home.until_content("r", "k", b"content").await?;
    let expected = |status: &_| {
        let told = targets_of(status);
        let is = |namespace: &str, state: &str, reason: &str| {
            told.contains(&(namespace.to_owned(), state.to_owned(), reason.to_owned()))
        };
        let all = is(&home.namespace, "Synced", "")
            && is(&denied.namespace, "Denied", "NoPolicyForNamespace")
            && is(&undelegated.namespace, "Failed", "NotDelegated")
            && is(&terminating.namespace, "Failed", "NamespaceTerminating")
            && is(&absent, "Failed", "NamespaceNotFound");
        all.then(|| condition(status, "Ready").map(|ready| (ready.status.clone(), ready.reason.clone()))).flatten()
    };
    let ready = home.until("r", "each destination with its reason", expected).await?;
    assert_eq!(ready, ("False".to_owned(), "NoPolicyForNamespace".to_owned()));

    release(held).await?;
    terminating.until_namespace_gone().await?;
    undelegated.delegate().await?;
    grant_from(&denied, &home, "PartialSource").await?;
    home.change("r", json!({ "namespaces": [home.namespace, denied.namespace, undelegated.namespace, absent] }))
        .await?;
    undelegated.until_content("r", "k", b"content").await?;
    denied.until_content("r", "k", b"content").await?;
    home.until_condition("r", "Ready", "False", "NamespaceNotFound").await?;
    let absent = site.named_tenant(&absent, json!({})).await?;
    absent.delegate().await?;
    absent.until_content("r", "k", b"content").await?;
    home.until_ready("r").await?;
    Ok(())
}

#[tokio::test]
async fn a_status_is_bounded_and_lists_first_what_needs_attention() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.tenant_with("ManySource", b"content").await?;
    let rule = json!({ "effect": "Allow", "sources": ["ManySource"], "requestedFrom": { "names": [home.namespace] } });
    let names = json!([format!("{}-*", home.namespace)]);
    site.policy(&format!("{}-all", home.namespace), json!({ "namespaces": { "names": names }, "rules": [rule] }))
        .await?;
    let namespaces: Vec<_> = (10..70).map(|i| format!("{}-{i}", home.namespace)).collect();
    stream::iter(&namespaces)
        .map(|name| async move {
            let tenant = site.named_tenant(name, json!({})).await?;
            if !name.ends_with("-68") && !name.ends_with("-69") {
                tenant.delegate().await?;
            }
            anyhow::Ok(())
        })
        .buffer_unordered(8)
        .try_collect::<Vec<_>>()
        .await?;
    home.request("r", asks("ManySource", json!({ "namespaces": namespaces }))).await?;
    let counted = |status: &secrets_distributor::api::SecretsDistributionStatus| {
        (status.targets_total == Some(60) && status.targets_synced == Some(58)).then(|| status.clone())
    };
    let status = home.until("r", "58 of 60 destinations", counted).await?;
    let told = targets_of(&status);
    assert_eq!(told.len(), 50);
    let attention = told.iter().filter(|(_, state, _)| state == "Failed").map(|(namespace, _, _)| namespace);
    assert_eq!(attention.collect::<Vec<_>>(), namespaces[58..].iter().collect::<Vec<_>>());
    home.until_condition("r", "Ready", "False", "NotDelegated").await?;
    Ok(())
}

#[tokio::test]
async fn a_system_namespace_must_be_named_literally() -> Result<()> {
    // Not shared: others expect that nothing is delegated there.
    let site = Site::start().await?;
    let home = site.tenant_with("SystemSource", b"content").await?;
    let system = site.existing("kube-system").await?;
    let name = format!("from-{}", home.namespace);
    let policy = |names: Value| {
        let from = json!({ "names": [home.namespace] });
        let rule = json!({ "effect": "Allow", "sources": ["SystemSource"], "requestedFrom": from });
        json!({ "namespaces": { "names": names }, "rules": [rule] })
    };
    site.policy(&name, policy(json!(["kube-*", "secrets-distributor*"]))).await?;
    let system_namespaces = json!(["kube-system", "secrets-distributor"]);
    home.request("r", asks("SystemSource", json!({ "name": name, "namespaces": system_namespaces }))).await?;
    let told = home.until_condition("r", "Permitted", "False", "NamespaceExcluded").await?;
    assert!(told.contains("literally"), "{told}");
    assert!(system.secret(&name).await?.is_none());

    site.policy(&name, policy(json!(["kube-system"]))).await?;
    home.change("r", json!({ "namespaces": ["kube-system"] })).await?;
    home.until_condition("r", "Synced", "False", "NotDelegated").await?;
    system.delegate().await?;
    let told = home.until_condition("r", "Synced", "False", "WriteRefused").await?;
    assert!(told.contains("label") && told.contains("xlscsde.nhs.uk/distribution=allowed"), "{told}");
    system.label(json!({ "xlscsde.nhs.uk/distribution": "allowed" })).await?;
    system.until_content(&name, "k", b"content").await?;
    home.until_ready("r").await?;
    home.delete_request("r").await?;
    system.until_gone(&name).await?;
    system.label(json!({ "xlscsde.nhs.uk/distribution": null })).await?;
    let binding = ["delete", "rolebinding", "secrets-distributor", "--namespace", "kube-system"];
    site.cluster.kubectl(binding).succeed().await?;
    Ok(())
}

/// Grants the source in `away` to requests from `home`.
async fn grant_from(away: &Tenant<'_>, home: &Tenant<'_>, source: &str) -> Result<()> {
    let rule = json!({ "effect": "Allow", "sources": [source], "requestedFrom": { "names": [home.namespace] } });
    away.site.policy(&away.namespace, json!({ "namespaces": { "names": [away.namespace] }, "rules": [rule] })).await
}

/// Something in the namespace that holds its deletion.
async fn hold(tenant: &Tenant<'_>) -> Result<Api<ConfigMap>> {
    let maps = Api::namespaced(tenant.site.cluster.client().await?, &tenant.namespace);
    let map = json!({ "metadata": { "name": "holds", "finalizers": ["example.org/hold"] } });
    maps.create(&Default::default(), &serde_json::from_value(map)?).await?;
    Ok(maps)
}

async fn release(held: Api<ConfigMap>) -> Result<()> {
    let patch = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    held.patch("holds", &PatchParams::default(), &patch).await?;
    Ok(())
}
