//! Objects that are older than the schema: what it would refuse is in etcd already when the operator starts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result};
use e2e::{
    ControlPlane, eventually,
    site::{SOON, Site, Tenant},
};
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

/// Requests that the schema refuses; the field that is told, and with which words.
fn malformed() -> Vec<(&'static str, Value, &'static str)> {
    let entry = |from: &str, to: &str| json!({ "from": from, "to": to });
    let good = json!([entry("Source", "k")]);
    vec![
        ("text", json!({ "spec": { "secrets": "Shh" } }), "spec.secrets: must be a list"),
        ("texts", json!({ "spec": { "secrets": ["Shh"] } }), "spec.secrets[0]: must be an object"),
        ("spec", json!({ "spec": "Shh" }), "spec: must be an object"),
        ("nothing", json!({}), "spec: is missing"),
        ("none", json!({ "spec": { "secrets": [] } }), "spec.secrets: must have 1 to 64 entries"),
        (
            "traversal",
            json!({ "spec": { "secrets": [entry("Source", "k"), entry("../outside", "o")] } }),
            "spec.secrets[1].from: must be a source name",
        ),
        ("escapes", json!({ "spec": { "secrets": [entry("a\u{1b}[31m\n", "k")] } }), "spec.secrets[0].from: must be"),
        (
            "twice",
            json!({ "spec": { "secrets": [entry("Source", "k"), entry("Source", "k")] } }),
            "spec.secrets[1].to: duplicate key k",
        ),
        ("key", json!({ "spec": { "secrets": [entry("Source", "..data")] } }), "spec.secrets[0].to: must be"),
        ("name", json!({ "spec": { "secrets": good, "name": "Bad_Name" } }), "spec.name: must be a Secret name"),
        ("kind", json!({ "spec": { "secrets": good, "type": "we ird" } }), "spec.type: must be a Secret type"),
        (
            "everywhere",
            json!({ "spec": { "secrets": good, "namespaceSelector": {} } }),
            "spec.namespaceSelector: an empty selector would mean every namespace",
        ),
        ("policy", json!({ "spec": { "secrets": good, "deletionPolicy": "Shh" } }), "`Delete` or `Retain`"),
        (
            "label",
            json!({ "spec": { "secrets": good, "metadata": { "labels": { "xlscsde.nhs.uk/owner-uid": "Shh" } } } }),
            "spec.metadata.labels: keys under xlscsde.nhs.uk/",
        ),
        (
            "annotation",
            json!({ "spec": { "secrets": good, "metadata": { "annotations": { "kubernetes.io/x": "Shh" } } } }),
            "spec.metadata.annotations: keys under xlscsde.nhs.uk/",
        ),
    ]
}

/// Policies that the schema refuses, and the field that is told.
fn malformed_policies(namespace: &str) -> Vec<(&'static str, Value, &'static str)> {
    let namespaces = json!({ "names": [namespace] });
    let rules = |source: &str| json!([{ "effect": "Allow", "sources": [source] }]);
    vec![
        ("p-glob", json!({ "namespaces": namespaces, "rules": rules("[a-") }), "spec.rules[0].sources[0]: not a glob"),
        ("p-rules", json!({ "namespaces": namespaces }), "spec.rules: is missing"),
        ("p-spec", json!(null), "spec: is missing"),
        (
            "p-all",
            json!({ "namespaces": { "selector": {} }, "rules": rules("*") }),
            "spec.namespaces.selector: an empty",
        ),
        ("p-nowhere", json!({ "namespaces": {}, "rules": rules("*") }), "spec.namespaces: give names or a selector"),
        (
            "p-grant",
            json!({ "namespaces": namespaces, "rules": [{ "effect": "Shh", "sources": ["*"] }] }),
            "spec.rules[0].effect: must be `Allow` or `Deny`",
        ),
        (
            "p-grace",
            json!({ "namespaces": namespaces, "rules": rules("*"), "revocation": { "gracePeriod": "Shh" } }),
            "spec.revocation.gracePeriod: must be a duration",
        ),
    ]
}

#[tokio::test]
async fn what_the_schema_would_refuse_becomes_a_condition_and_harms_nobody_else() -> Result<()> {
    let site = Site::prepare().await?;
    let tenant = site.tenant("stored").await?;
    site.sources.set(&[("Source", b"content"), ("Other", b"never granted")])?;
    fs::write(site.sources.mount().path().with_file_name("outside"), b"outside the mount")?;
    without_schema(&site, async || store(&site, &tenant).await).await?;
    site.start_operator().await?;

    for (name, _, told) in malformed() {
        let message = tenant.until_condition(name, "Permitted", "False", "InvalidRequest").await?;
        assert!(message.contains(told) && !message.contains("Shh"), "{name}: {message}");
        tenant.until_condition(name, "Ready", "False", "InvalidRequest").await?;
    }
    let event = tenant.until_event("traversal", "InvalidRequest").await?;
    assert!(event.contains("spec.secrets[1].from"), "{event}");
    tenant.until_condition("reserved", "Permitted", "False", "ReservedType").await?;
    for (name, _, told) in malformed_policies(&tenant.namespace) {
        let message = site.until_accepted(name, "False", "InvalidPolicy").await?;
        assert!(message.contains(told) && !message.contains("Shh"), "{name}: {message}");
    }
    let invalid = malformed_policies(&tenant.namespace).len() as f64;
    site.until_metric("secrets_distributor_policies", &[("reason", "InvalidPolicy")], |count| count == invalid).await?;

    tenant.until_ready("good").await?;
    let status = tenant.until_ready("forged").await?;
    assert_eq!((status.targets.len(), status.targets_total), (1, Some(1)), "what was forged is replaced");
    tenant.until_condition("ungranted", "Permitted", "False", "SourceNotPermitted").await?;
    tenant.request("new", json!({ "secrets": [{ "from": "Source", "to": "k" }] })).await?;
    tenant.until_ready("new").await?;
    let secrets = tenant.secrets().list(&ListParams::default()).await?;
    let names: BTreeSet<_> = secrets.iter().map(ResourceExt::name_any).collect();
    assert_eq!(names, BTreeSet::from(["forged", "good", "new"].map(String::from)), "nothing else is written");
    let logs = site.operator_logs();
    assert!(!logs.contains('\u{1b}') && !logs.contains("[31m") && !logs.contains("Shh"), "no value is logged");

    heal(&site, &tenant).await
}

/// Each is corrected, as its owner would.
async fn heal(site: &Site, tenant: &Tenant<'_>) -> Result<()> {
    let names = malformed().into_iter().map(|(name, ..)| name).chain(["reserved"]);
    let spec = |name: &str| json!({ "name": format!("healed-{name}"), "secrets": [{ "from": "Source", "to": "k" }] });
    let requests: Vec<_> = names.clone().map(|name| request(tenant, name, json!({ "spec": spec(name) }))).collect();
    let policies = malformed_policies(&tenant.namespace).into_iter().map(|(name, ..)| {
        let rules = json!([{ "effect": "Allow", "sources": ["Other"] }]);
        policy(name, json!({ "namespaces": { "names": [tenant.namespace] }, "rules": rules }))
    });
    let all = list(requests.into_iter().chain(policies));
    site.cluster.kubectl(["replace", "-f", "-"]).stdin(all).succeed().await?;
    for name in names {
        tenant.until_ready(name).await?;
        assert!(tenant.secret(&format!("healed-{name}")).await?.is_some(), "{name}");
    }
    for (name, ..) in malformed_policies(&tenant.namespace) {
        site.until_accepted(name, "True", "InForce").await?;
    }
    tenant.until_ready("ungranted").await?;
    Ok(())
}

async fn store(site: &Site, tenant: &Tenant<'_>) -> Result<()> {
    let good = |source: &str| json!({ "spec": { "secrets": [{ "from": source, "to": "k" }] } });
    let reserved = json!({ "spec": {
        "type": "kubernetes.io/service-account-token",
        "secrets": [{ "from": "Source", "to": "k" }],
    } });
    let more =
        [("good", good("Source")), ("forged", good("Source")), ("ungranted", good("Other")), ("reserved", reserved)];
    let all = malformed().into_iter().map(|(name, fields, _)| (name, fields)).chain(more);
    let requests = all.map(|(name, fields)| request(tenant, name, fields));
    let granting = json!({
        "namespaces": { "names": [tenant.namespace] },
        "rules": [{ "effect": "Allow", "sources": ["Source"] }],
    });
    let broken = malformed_policies(&tenant.namespace).into_iter().map(|(name, spec, _)| policy(name, spec));
    let objects = list(requests.chain(broken).chain([policy("granting", granting)]));
    site.cluster.kubectl(["create", "--validate=ignore", "-f", "-"]).stdin(objects).succeed().await?;
    let forged =
        json!({ "status": { "conditions": "nonsense", "targets": 7, "decisions": [{}], "observedGeneration": 1 } });
    let patch = ["patch", "sd", "forged", "--subresource=status", "--type=merge", "-n", &tenant.namespace, "-p"];
    site.cluster.kubectl(patch).arg(forged.to_string()).succeed().await?;
    Ok(())
}

fn request(tenant: &Tenant<'_>, name: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": "SecretsDistribution",
        "metadata": { "name": name, "namespace": tenant.namespace },
    });
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn policy(name: &str, spec: Value) -> Value {
    let mut object =
        json!({ "apiVersion": "xlscsde.nhs.uk/v1", "kind": "DistributionPolicy", "metadata": { "name": name } });
    if !spec.is_null() {
        object["spec"] = spec;
    }
    object
}

fn list(items: impl Iterator<Item = Value>) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>() }).to_string()
}

/// Does it while the API server accepts everything; afterwards the schema is in force, and the author check that relies
/// on it.
async fn without_schema(site: &Site, work: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let author_check = ["delete", "validatingadmissionpolicybinding", "secrets-distributor-author"];
    site.cluster.kubectl(author_check).succeed().await?;
    for kind in ["secretsdistributions", "distributionpolicies"] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds");
        let mut crd: Value = serde_yaml_ng::from_str(&fs::read_to_string(format!("{path}/{kind}.yaml"))?)?;
        let schema = crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").context("a CRD without a schema")?;
        *schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        site.cluster.apply_yaml(&crd.to_string()).await?;
    }
    until_accepts(&site.cluster, true).await?;
    work().await?;
    site.cluster.install().await?;
    until_accepts(&site.cluster, false).await
}

/// Waits until the API server accepts, or refuses, what the schema refuses.
async fn until_accepts(cluster: &ControlPlane, accepts: bool) -> Result<()> {
    for (kind, path) in [
        ("SecretsDistribution", "namespaces/default/secretsdistributions"),
        ("DistributionPolicy", "distributionpolicies"),
    ] {
        let object = json!({ "apiVersion": "xlscsde.nhs.uk/v1", "kind": kind, "metadata": { "name": "probe" } });
        let client = cluster.client().await?;
        eventually(SOON, &format!("{kind}: accepts anything: {accepts}"), async || {
            let request = http::Request::post(format!("/apis/xlscsde.nhs.uk/v1/{path}?dryRun=All"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(object.to_string().into_bytes())
                .map_err(|error| error.to_string())?;
            match (client.request::<Value>(request).await, accepts) {
                (Ok(_), true) | (Err(kube::Error::Api(_)), false) => Ok(()),
                (other, _) => Err(format!("{other:?}")),
            }
        })
        .await?;
    }
    Ok(())
}
