//! Two requests for one Secret: the older writes it, the younger says so.

use anyhow::Result;
use e2e::asks;
use e2e::site::{Site, Tenant};
use secrets_distributor::api::SecretsDistribution;
use serde_json::json;

#[tokio::test]
async fn the_older_request_writes_and_the_younger_follows_when_it_goes() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("RivalSource", b"content").await?;
    let (older, younger) = two(&tenant, &tenant, json!({ "name": "target" }), "RivalSource").await?;
    tenant.until_ready(&older).await?;
    let told = tenant.until_condition(&younger, "Synced", "False", "TargetConflict").await?;
    assert!(told.contains(&format!("older request {}/{older}", tenant.namespace)), "{told}");
    tenant.until_event(&younger, "TargetConflict").await?;
    assert_eq!(owner_of(&tenant, "target").await?, older);
    // Whichever came first within a second: the order stands.
    site.stays_quiet(&[&tenant]).await?;

    tenant.delete_request(&older).await?;
    tenant.until_ready(&younger).await?;
    tenant.until_secret("target", "of the younger", |secret| owner_name(secret) == younger).await?;
    Ok(())
}

#[tokio::test]
async fn an_ungranted_request_occupies_no_name_and_takes_it_over_once_granted() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("rival-granted").await?;
    site.sources.set(&[("RivalA", b"a"), ("RivalB", b"b")])?;
    let (a, b) = create(&tenant, ("a", "RivalA"), &tenant, ("b", "RivalB"), json!({ "name": "target" })).await?;
    let (older, younger) = by_age(a, b);
    let source = |name: &str| if name == "a" { "RivalA" } else { "RivalB" };
    let content = |name: &str| name.as_bytes().to_vec();

    tenant.grant(&[source(&younger)]).await?;
    let before = tenant.until_content("target", "k", &content(&younger)).await?;
    tenant.until_ready(&younger).await?;
    tenant.grant(&["RivalA", "RivalB"]).await?;
    let after = tenant.until_content("target", "k", &content(&older)).await?;
    assert_eq!(before.metadata.uid, after.metadata.uid, "taken over, never absent");
    tenant.until_ready(&older).await?;
    tenant.until_condition(&younger, "Synced", "False", "TargetConflict").await?;
    assert_eq!(owner_of(&tenant, "target").await?, older);

    // And back: what the older may not write any more is revoked or taken over, and the younger has the name.
    tenant.grant(&[source(&younger)]).await?;
    tenant.until_content("target", "k", &content(&younger)).await?;
    tenant.until_ready(&younger).await?;
    tenant.until_condition(&older, "Permitted", "False", "SourceNotPermitted").await?;
    assert_eq!(owner_of(&tenant, "target").await?, younger);
    site.stays_quiet(&[&tenant]).await
}

#[tokio::test]
async fn requests_of_two_namespaces_meet_at_one_secret() -> Result<()> {
    let site = Site::shared().await?;
    let (home, guest) = (site.tenant("rival-home").await?, site.tenant("rival-guest").await?);
    site.sources.set(&[("RivalFar", b"far")])?;
    let from = json!({ "names": [home.namespace, guest.namespace] });
    let rule = json!({ "effect": "Allow", "sources": ["RivalFar"], "requestedFrom": from });
    site.policy(&home.namespace, json!({ "namespaces": { "names": [home.namespace] }, "rules": [rule] })).await?;
    let more = json!({ "name": "target", "namespaces": [home.namespace] });
    let (a, b) = create(&home, ("a", "RivalFar"), &guest, ("b", "RivalFar"), more).await?;
    let (older, younger) = by_age(a, b);
    let of = |name: &str| if name == "a" { &home } else { &guest };

    of(&older).until_ready(&older).await?;
    let told = of(&younger).until_condition(&younger, "Synced", "False", "TargetConflict").await?;
    assert!(told.contains(&format!("{}/{older}", of(&older).namespace)), "{told}");
    let record = |secret: &k8s_openapi::api::core::v1::Secret| {
        secret.metadata.annotations.as_ref().and_then(|all| all.get("xlscsde.nhs.uk/request")).cloned()
    };
    let key = |name: &str| Some(format!("{}/{name}", of(name).namespace));
    assert_eq!(record(&home.secret("target").await?.unwrap()), key(&older));

    of(&older).delete_request(&older).await?;
    home.until_secret("target", "of the younger", |secret| record(secret) == key(&younger)).await?;
    of(&younger).until_ready(&younger).await?;
    site.stays_quiet(&[&home, &guest]).await
}

/// The older request loses its grant by the labels of its own namespace: the younger hears of it, although
/// nothing of its own has changed.
#[tokio::test]
async fn a_relabelled_requester_gives_the_name_free() -> Result<()> {
    let site = Site::shared().await?;
    let (home, guest) = (site.tenant("rival-label").await?, site.tenant("rival-labelled").await?);
    guest.label(json!({ "may": "ask" })).await?;
    site.sources.set(&[("RivalLabel", b"content")])?;
    let allow = |from| json!({ "effect": "Allow", "sources": ["RivalLabel"], "requestedFrom": from });
    let rules = [
        allow(json!({ "selector": { "matchLabels": { "may": "ask" } } })),
        allow(json!({ "names": [home.namespace] })),
    ];
    let revocation = json!({ "action": "Retain" });
    let spec = json!({ "namespaces": { "names": [home.namespace] }, "rules": rules, "revocation": revocation });
    let more = json!({ "name": "target", "namespaces": [home.namespace] });
    let older = guest.request("older", asks("RivalLabel", more.clone())).await?;
    after_second_of(&older).await;
    home.request("younger", asks("RivalLabel", more)).await?;
    site.policy(&home.namespace, spec).await?;
    guest.until_ready("older").await?;
    home.until_condition("younger", "Synced", "False", "TargetConflict").await?;

    guest.label(json!({ "may": null })).await?;
    guest.until_condition("older", "Permitted", "False", "RequesterNotPermitted").await?;
    home.until_ready("younger").await?;
    Ok(())
}

/// Two requests for one target, at once; the older and the younger by name.
async fn two(a: &Tenant<'_>, b: &Tenant<'_>, more: serde_json::Value, source: &str) -> Result<(String, String)> {
    let (a, b) = create(a, ("a", source), b, ("b", source), more).await?;
    Ok(by_age(a, b))
}

async fn create(
    of_a: &Tenant<'_>,
    (a, a_source): (&str, &str),
    of_b: &Tenant<'_>,
    (b, b_source): (&str, &str),
    more: serde_json::Value,
) -> Result<(SecretsDistribution, SecretsDistribution)> {
    tokio::try_join!(of_a.request(a, asks(a_source, more.clone())), of_b.request(b, asks(b_source, more.clone())))
}

/// By age; of the same second, by UID.
fn by_age(a: SecretsDistribution, b: SecretsDistribution) -> (String, String) {
    let age = |r: &SecretsDistribution| (r.metadata.creation_timestamp.clone().map(|t| t.0), r.metadata.uid.clone());
    let a_first = age(&a) < age(&b);
    let (a, b) = (a.metadata.name.unwrap_or_default(), b.metadata.name.unwrap_or_default());
    if a_first { (a, b) } else { (b, a) }
}

/// Ages are whole seconds: waits until the next one.
async fn after_second_of(request: &SecretsDistribution) {
    let created = request.metadata.creation_timestamp.clone().map(|time| time.0).unwrap_or_default();
    while jiff::Timestamp::now().as_second() <= created.as_second() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn owner_of(tenant: &Tenant<'_>, name: &str) -> Result<String> {
    Ok(owner_name(&tenant.secret(name).await?.unwrap()))
}

fn owner_name(secret: &k8s_openapi::api::core::v1::Secret) -> String {
    let owners = secret.metadata.owner_references.iter().flatten();
    owners.map(|owner| owner.name.clone()).collect::<Vec<_>>().join(",")
}
