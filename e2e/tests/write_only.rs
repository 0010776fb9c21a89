//! An operator that may write Secrets and not read them: `--secrets-access writeOnly`. It does what it does otherwise,
//! and the audit log shows that it never asks for a Secret.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use e2e::{
    AuditEntries, Mark, Operator, asks, eventually,
    site::{SOON, Site, Tenant},
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use secrets_distributor::api::SecretsDistributionStatus;
use serde_json::json;
use tokio::sync::OnceCell;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What people are promised.
const HEALED_WITHIN: Duration = Duration::from_secs(5);

/// A site whose operator looks at everything each second, and where its audit log begins.
struct Swift {
    site: Site,
    start: Mark,
}

impl Swift {
    async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Swift> = OnceCell::const_new();
        let start = async || {
            let site = Site::prepare_write_only("1s").await?;
            let start = site.mark().await?;
            site.start_operator().await?;
            Ok(Self { site, start })
        };
        SHARED.get_or_try_init(start).await
    }

    async fn assert_nothing_was_read(&self) -> Result<()> {
        assert_nothing_was_read(&self.site, self.start).await.map(drop)
    }
}

/// That the operator has only written Secrets since then. Answers with all it did with Secrets.
async fn assert_nothing_was_read(site: &Site, since: Mark) -> Result<AuditEntries> {
    let audit = site.cluster.audit().expect("an API server of its own");
    let calls = audit.since(since).await?.user(Operator::USER).resource("secrets");
    let reads = calls.clone().only(|call| !["create", "patch", "delete"].contains(&call.verb.as_str()));
    assert!(reads.is_empty(), "{reads:#?}");
    assert!(!calls.is_empty());
    Ok(calls)
}

#[tokio::test]
async fn the_first_example_works_as_it_is() -> Result<()> {
    let swift = Swift::shared().await?;
    let site = &swift.site;
    let pair = rcgen::generate_simple_self_signed(["example.org".to_owned()])?;
    let (certificate, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
    site.sources.set(&[("WildcardCertificate", certificate.as_bytes()), ("WildcardCertificateKey", key.as_bytes())])?;
    let tenant = site.named_tenant("test-application-1", json!({})).await?;
    site.cluster.apply_path(&Path::new(REPOSITORY).join("docs/examples/wildcard-tls-distribution.yaml")).await?;
    site.cluster.apply_path(&Path::new(REPOSITORY).join("policies/wildcard-tls.yaml")).await?;
    let request = "wildcard-tls-distribution";
    let advice = tenant.until_condition(request, "Synced", "False", "NotDelegated").await?;

    let (_, command) = advice.split_once("kubectl ").expect("a command");
    let asked = site.cluster.kubectl(command.split(' ')).run().await?;
    let delegated = Instant::now();
    assert!(asked.success(), "{command}: {}", asked.stderr);
    let secret = tenant.until_content("wildcard-tls-secret", "tls.crt", certificate.as_bytes()).await?;
    tenant.until_ready(request).await?;
    assert!(delegated.elapsed() < HEALED_WITHIN, "healed only after {:?}", delegated.elapsed());
    assert_eq!(secret.data.unwrap()["tls.key"].0, key.as_bytes());
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    swift.assert_nothing_was_read().await
}

#[tokio::test]
async fn changes_of_source_name_and_type_arrive() -> Result<()> {
    let swift = Swift::shared().await?;
    let tenant = swift.site.tenant_with("ChangingSource", b"one").await?;
    tenant.request("r", asks("ChangingSource", json!({ "name": "before" }))).await?;
    tenant.until_content("before", "k", b"one").await?;
    for content in [b"two", b"six"] {
        swift.site.sources.set(&[("ChangingSource", content)])?;
        tenant.until_content("before", "k", content).await?;
    }
    tenant.change("r", json!({ "name": "after" })).await?;
    tenant.until_content("after", "k", b"six").await?;
    tenant.until_gone("before").await?;

    let rule = json!({ "effect": "Allow", "sources": ["ChangingSource"], "types": ["Opaque", "example.org/other"] });
    let spec = json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule] });
    swift.site.policy(&tenant.namespace, spec).await?;
    tenant.change("r", json!({ "type": "example.org/other" })).await?;
    let other = |secret: &Secret| secret.type_.as_deref() == Some("example.org/other");
    tenant.until_secret("after", "of the other type", other).await?;
    tenant.until_ready("r").await?;
    tenant.delete_request("r").await?;
    tenant.until_gone("after").await?;
    swift.assert_nothing_was_read().await
}

#[tokio::test]
async fn what_somebody_edits_or_deletes_comes_back_at_a_resync() -> Result<()> {
    let swift = Swift::shared().await?;
    let tenant = swift.site.tenant_with("DriftingSource", b"right").await?;
    tenant.request("r", asks("DriftingSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    for patch in [
        json!({ "stringData": { "k": "wrong" } }),
        json!({ "data": { "k": null } }),
        json!({ "metadata": { "labels": null } }),
        json!({ "metadata": { "ownerReferences": null } }),
    ] {
        let edited = tenant.patch_secret("r", patch.clone()).await?;
        let mended = |secret: &Secret| secret.metadata.resource_version != edited.metadata.resource_version;
        tenant.until_secret("r", &format!("mended after {patch}"), mended).await?;
        tenant.until_content("r", "k", b"right").await?;
    }
    tenant.delete_secret("r").await?;
    tenant.until_content("r", "k", b"right").await?;
    tenant.until_ready("r").await?;
    // Looked at again and again, and not touched.
    tenant.stays_as_it_is().await?;
    swift.assert_nothing_was_read().await
}

#[tokio::test]
async fn a_grant_that_goes_takes_the_secret_with_it_after_its_grace() -> Result<()> {
    let swift = Swift::shared().await?;
    let site = &swift.site;
    let tenant = site.tenant_with("GracedSource", b"one").await?;
    let spec = |grace: &str| {
        let rule = json!({ "effect": "Allow", "sources": ["GracedSource"] });
        json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule], "revocation": { "gracePeriod": grace } })
    };
    site.policy(&tenant.namespace, spec("1h")).await?;
    tenant.request("r", asks("GracedSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    let before = tenant.secret("r").await?.unwrap();
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Synced", "False", "RevocationPending").await?;
    let pending = tenant.secret("r").await?.unwrap();
    assert_eq!((&pending.metadata.uid, &pending.data), (&before.metadata.uid, &before.data));

    site.policy(&tenant.namespace, spec("1s")).await?;
    tenant.until_ready("r").await?;
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_gone("r").await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    tenant.until_event("r", "Revoked").await?;
    swift.assert_nothing_was_read().await
}

#[tokio::test]
async fn a_foreign_secret_is_refused_untouched_until_it_goes_or_may_be_adopted() -> Result<()> {
    let swift = Swift::shared().await?;
    let tenant = swift.site.tenant_with("WantedSource", b"ours").await?;
    let offered = json!({ "annotations": { "xlscsde.nhs.uk/adoption": "allowed" } });
    let offered = json!({ "metadata": offered, "stringData": { "k": "theirs" } });
    let foreign = tenant.create_secret("adopted", offered).await?;
    let going = tenant.foreign_secret("going", &[("k", b"theirs")]).await?;
    for name in ["adopted", "going"] {
        tenant.request(name, asks("WantedSource", json!({}))).await?;
        let told = tenant.until_condition(name, "Synced", "False", "TargetConflict").await?;
        assert!(told.contains("delete it"), "{told}");
    }
    tenant.stays_as_it_is().await?;
    tenant.assert_untouched(&foreign).await?;
    tenant.assert_untouched(&going).await?;
    tenant.delete_secret("going").await?;
    tenant.until_content("going", "k", b"ours").await?;

    let rule = json!({ "effect": "Allow", "sources": ["WantedSource"], "adopt": true });
    swift
        .site
        .policy(&tenant.namespace, json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule] }))
        .await?;
    tenant.change("adopted", json!({ "adopt": true })).await?;
    let adopted = tenant.until_content("adopted", "k", b"ours").await?;
    assert_eq!(adopted.metadata.uid, foreign.metadata.uid, "changed, not replaced");
    tenant.until_ready("adopted").await?;
    swift.assert_nothing_was_read().await
}

#[tokio::test]
async fn what_cannot_be_revoked_is_told_also_after_a_restart() -> Result<()> {
    let site = Site::prepare_write_only("1s").await?;
    site.start_operator().await?;
    let tenant = site.tenant_with("BeyondReach", b"one").await?;
    for name in ["r", "never"] {
        let source = if name == "r" { "BeyondReach" } else { "NeverGranted" };
        tenant.request(name, asks(source, json!({}))).await?;
    }
    tenant.until_ready("r").await?;
    tenant.undelegate().await?;
    tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Ready", "False", "RevocationBlocked").await?;

    site.kill_operator()?;
    let edited = json!({ "secrets": [{ "from": "BeyondReach", "to": "other" }] });
    tenant.change("r", edited).await?;
    site.start_operator().await?;
    let told_anew = |status: &SecretsDistributionStatus| status.decisions.iter().any(|told| told.to == "other");
    tenant.until("r", "a word after the restart", |status| told_anew(status).then_some(())).await?;
    tenant.until_condition("r", "Ready", "False", "RevocationBlocked").await?;
    tenant.until_condition("never", "Ready", "False", "NoPolicyForNamespace").await?;
    tenant.delegate().await?;
    tenant.until_gone("r").await?;
    tenant.until_condition("r", "Ready", "False", "NoPolicyForNamespace").await.map(drop)
}

#[tokio::test]
async fn a_delegation_that_ends_is_noticed_and_one_that_returns_heals() -> Result<()> {
    let swift = Swift::shared().await?;
    let tenant = swift.site.tenant_with("LentSource", b"one").await?;
    tenant.request("r", asks("LentSource", json!({ "name": "before" }))).await?;
    tenant.until_ready("r").await?;
    tenant.undelegate().await?;
    let advice = tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    assert!(advice.contains("--clusterrole=secrets-distributor-tenant-write-only "), "{advice}");
    // What is no longer wanted is known when the operator is let in again.
    tenant.change("r", json!({ "name": "after" })).await?;
    tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    tenant.until_content("before", "k", b"one").await?;

    tenant.delegate().await?;
    let delegated = Instant::now();
    tenant.until_content("after", "k", b"one").await?;
    tenant.until_ready("r").await?;
    assert!(delegated.elapsed() < HEALED_WITHIN, "healed only after {:?}", delegated.elapsed());
    tenant.until_gone("before").await?;
    swift.assert_nothing_was_read().await
}

/// The watching operator's binding gives more than is needed: whoever changes the mode is not locked out.
#[tokio::test]
async fn the_delegation_to_a_watching_operator_is_enough() -> Result<()> {
    let swift = Swift::shared().await?;
    let tenant = swift.site.undelegated_tenant("more-rights").await?;
    swift.site.cluster.delegate(&tenant.namespace).await?;
    swift.site.sources.set(&[("MoreRights", b"one")])?;
    tenant.grant(&["MoreRights"]).await?;
    tenant.request("r", asks("MoreRights", json!({}))).await?;
    tenant.until_content("r", "k", b"one").await?;
    swift.assert_nothing_was_read().await
}

/// Nothing is looked at by the clock here: what is shown is seen because of a write, or at the start.
#[tokio::test]
async fn what_is_known_may_be_outdated_and_a_restart_finds_out_without_a_write() -> Result<()> {
    let site = Site::prepare_write_only("24h").await?;
    let site = site.configured(|config| config.argument("--lease-duration=4s"));
    let start = site.mark().await?;
    site.start_operator().await?;
    site.sources.set(&[("Source", b"one"), ("Rotated", b"one")])?;
    let (home, away) = (site.tenant("home").await?, site.tenant("away").await?);
    home.grant(&["*"]).await?;
    let rule = json!({ "effect": "Allow", "sources": ["*"], "requestedFrom": { "names": [home.namespace] } });
    site.policy(&away.namespace, json!({ "namespaces": { "names": [away.namespace] }, "rules": [rule] })).await?;
    let both = json!({ "namespaces": [home.namespace, away.namespace] });
    for (name, spec) in [
        ("rotated", asks("Rotated", json!({}))),
        ("rotated-gone", asks("Rotated", json!({}))),
        ("held", asks("Source", json!({}))),
        ("renamed", asks("Source", json!({}))),
        ("edited", asks("Source", json!({}))),
        ("narrowed", asks("Source", both.clone())),
        ("far", asks("Source", json!({ "namespaces": [away.namespace] }))),
    ] {
        home.request(name, spec).await?;
        home.until_ready(name).await?;
    }
    unseen_drift_is_in_nobodys_way(&site, &home).await?;
    let (steady, secrets) = steady(&site, 20).await?;

    site.kill_operator()?;
    home.change("renamed", json!({ "name": "renamed-after" })).await?;
    home.change("narrowed", json!({ "namespaces": [home.namespace] })).await?;
    home.patch_secret("edited", json!({ "stringData": { "k": "edited" } })).await?;
    home.delete_request("far").await?;
    let restart = site.mark().await?;
    site.start_operator().await?;
    home.until_content("renamed-after", "k", b"one").await?;
    home.until_gone("renamed").await?;
    home.until_content("edited", "k", b"one").await?;
    away.until_gone("narrowed").await?;
    home.until_content("narrowed", "k", b"one").await?;
    // The known gap: nothing tells where it was.
    assert!(away.secret("far").await?.is_some());

    let calls = assert_nothing_was_read(&site, restart).await?.namespace(&steady.namespace);
    let looks = calls.clone().only(|call| call.verb == "patch" && call.code() == Some(200));
    assert_eq!((looks.len(), calls.len()), (secrets.len(), secrets.len()), "one look at each, and nothing else");
    for secret in &secrets {
        steady.assert_untouched(secret).await?;
    }
    a_leader_that_returns_looks_anew(&site, &home).await?;
    assert_nothing_was_read(&site, start).await.map(drop)
}

/// While another replica leads, this one does not know what becomes of the Secrets.
async fn a_leader_that_returns_looks_anew(site: &Site, home: &Tenant<'_>) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(site.cluster.client().await?, Operator::NAMESPACE);
    let holder = Patch::Merge(json!({ "spec": { "holderIdentity": "somebody" } }));
    leases.patch("secrets-distributor", &PatchParams::default(), &holder).await?;
    site.until_readyz(200, "leader: standby").await?;
    home.patch_secret("edited", json!({ "stringData": { "k": "edited" } })).await?;
    home.delete_secret("rotated").await?;
    home.until_content("edited", "k", b"one").await?;
    home.until_content("rotated", "k", b"two").await?;
    Ok(())
}

/// A tenant with as many Secrets as they shall be, and these.
async fn steady(site: &Site, count: usize) -> Result<(Tenant<'_>, Vec<Secret>)> {
    let tenant = site.tenant("steady").await?;
    tenant.grant(&["Source"]).await?;
    let mut secrets = Vec::new();
    for i in 0..count {
        let name = format!("r{i}");
        tenant.request(&name, asks("Source", json!({}))).await?;
        tenant.until_ready(&name).await?;
        secrets.push(tenant.secret(&name).await?.unwrap());
    }
    Ok((tenant, secrets))
}

/// Whoever changes a Secret unseen is in the way of no rotation, no revocation and no conflict that ends.
async fn unseen_drift_is_in_nobodys_way(site: &Site, home: &Tenant<'_>) -> Result<()> {
    home.patch_secret("rotated", json!({ "stringData": { "k": "edited" } })).await?;
    home.delete_secret("rotated-gone").await?;
    site.sources.set(&[("Rotated", b"two")])?;
    home.until_content("rotated", "k", b"two").await?;
    home.until_content("rotated-gone", "k", b"two").await?;

    let revoked = site.tenant("revoked").await?;
    revoked.grant(&["Source"]).await?;
    revoked.request("r", asks("Source", json!({}))).await?;
    revoked.until_ready("r").await?;
    revoked.patch_secret("r", json!({ "stringData": { "k": "edited" } })).await?;
    site.delete_policy(&revoked.namespace).await?;
    revoked.until_gone("r").await?;

    home.patch_secret("held", json!({ "metadata": { "finalizers": ["example.org/hold"] } })).await?;
    home.delete_secret("held").await?;
    site.sources.set(&[("Source", b"new")])?;
    let told = home.until_condition("held", "Synced", "False", "TargetConflict").await?;
    assert!(told.contains("being deleted"), "{told}");
    home.patch_secret("held", json!({ "metadata": { "finalizers": null } })).await?;
    eventually(SOON, "the Secret is made anew", async || {
        home.secret("held").await.ok().flatten().filter(|secret| secret.metadata.deletion_timestamp.is_none())
    })
    .await?;
    site.sources.set(&[("Source", b"one")])?;
    home.until_content("held", "k", b"one").await?;
    for name in ["held", "edited", "renamed", "narrowed", "far"] {
        home.until_ready(name).await?;
    }
    Ok(())
}
