//! No byte of a source is anywhere but in the `data` of its Secret: not after success, not after failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::Jaeger;
use e2e::site::{Site, Tenant};
use serde_json::{Value, json};

/// What to look for: the canary itself, parts of it, and what encodings make of it.
struct Traces(Vec<(&'static str, String)>);

impl Traces {
    fn of(canary: &str) -> Self {
        let (first, second) = canary.split_at(canary.len() / 2);
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let numbers = |text: &str| text.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>();
        // Base64 of any part looks like one of three, by where the part begins; the ends depend on the neighbours.
        let encoded = |skip: usize| {
            let text = STANDARD.encode(&canary[skip..]);
            text.trim_end_matches('=')[..20].to_owned()
        };
        Self(vec![
            ("itself", canary.to_owned()),
            ("its first half", first.to_owned()),
            ("its second half", second.to_owned()),
            ("base64", encoded(0)),
            ("base64 from the second byte", encoded(1)),
            ("base64 from the third byte", encoded(2)),
            ("hex of its first half", hex(first)),
            ("hex of its second half", hex(second)),
            ("a list of its bytes", numbers(first).join(", ")),
            ("a compact list of its bytes", numbers(second).join(",")),
            ("reversed", canary.chars().rev().collect()),
        ])
    }

    fn found_in(&self, text: &str) -> Option<&'static str> {
        let lower = text.to_lowercase();
        self.0.iter().find(|(_, trace)| lower.contains(&trace.to_lowercase())).map(|(what, _)| *what)
    }

    fn assert_none_in(&self, place: &str, text: &str) {
        assert_eq!(self.found_in(text), None, "in {place}");
    }
}

fn canary() -> String {
    use std::hash::{BuildHasher, RandomState};
    (0..4).map(|i| format!("{:016x}", RandomState::new().hash_one(i))).collect()
}

/// Every object that the operator or the API server could have told it in, without the data of Secrets.
async fn objects(tenant: &Tenant<'_>) -> Result<String> {
    let kinds = "sd,events,events.events.k8s.io,secrets,configmaps";
    let get = ["get", kinds, "-o", "json", "--show-managed-fields", "--namespace", &tenant.namespace];
    let mut namespaced: Value = serde_json::from_str(&tenant.site.cluster.kubectl(get).succeed().await?)?;
    for object in namespaced["items"].as_array_mut().into_iter().flatten() {
        object.as_object_mut().unwrap().remove("data");
    }
    let policies = tenant.site.cluster.kubectl(["get", "dp", "-o", "json", "--show-managed-fields"]).succeed().await?;
    Ok(format!("{namespaced}{policies}"))
}

#[tokio::test]
async fn a_secret_is_nowhere_but_in_its_secret() -> Result<()> {
    let site = Site::prepare().await?;
    let jaeger = Jaeger::start(&site.cluster).await?;
    let site = site.configured(|mut config| {
        config.log_level = "trace".to_owned();
        jaeger.traced(config)
    });
    site.start_operator().await?;
    let tenant = site.tenant("canary").await?;
    let canary = canary();
    let json_of_it = format!("{{\"auths\": {{\"{canary}\": \"{canary}\"}}, ");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{canary}\n-----END CERTIFICATE-----\n");
    site.sources.set(&[
        ("Canary", canary.as_bytes()),
        ("Broken", json_of_it.as_bytes()),
        ("Pem", pem.as_bytes()),
        ("Large", &canary.as_bytes().repeat(1 << 15)),
    ])?;
    tenant.grant(&["Canary", "Broken", "Pem", "Large", "Absent"]).await?;
    let one = |source: &str, key: &str| json!({ "secrets": [{ "from": source, "to": key }] });
    let typed = |kind: &str, secrets: Value| json!({ "type": kind, "secrets": secrets });
    let pair = json!([{ "from": "Pem", "to": "tls.crt" }, { "from": "Pem", "to": "tls.key" }]);

    tenant.request("good", one("Canary", "k")).await?;
    tenant.until_content("good", "k", canary.as_bytes()).await?;
    tenant.until_ready("good").await?;
    let docker = json!([{ "from": "Broken", "to": ".dockerconfigjson" }]);
    for (name, spec, reason) in [
        ("json", typed("kubernetes.io/dockerconfigjson", docker), "InvalidForType"),
        ("pem", typed("kubernetes.io/tls", pair), "InvalidForType"),
        ("large", one("Large", "k"), "SourceTooLarge"),
        ("absent", one("Absent", "k"), "SourceMissing"),
    ] {
        tenant.request(name, spec).await?;
        tenant.until_condition(name, "Synced", "False", reason).await?;
        tenant.until_event(name, reason).await?;
    }
    tenant.foreign_secret("foreign", &[("k", b"of somebody else")]).await?;
    tenant.request("foreign", one("Canary", "k")).await?;
    tenant.until_condition("foreign", "Synced", "False", "TargetConflict").await?;
    refused_by_the_api_server(&tenant).await?;
    undelegated(&tenant, &canary).await?;

    let traces = Traces::of(&canary);
    let secret = serde_json::to_string(&tenant.secret("good").await?)?;
    assert_eq!(traces.found_in(&secret), Some("base64"), "it is found where it is");
    let logs = site.operator_logs();
    assert!(logs.contains("\"level\":\"TRACE\"") || logs.contains("\"level\":\"DEBUG\""), "the log is a detailed one");
    traces.assert_none_in("the log", &logs);
    traces.assert_none_in("an object", &objects(&tenant).await?);
    let trace = tenant.until("good", "a trace", |status| status.trace_id.clone()).await?;
    jaeger.trace(&trace).await?;
    let spans = jaeger.everything().await?;
    assert!(spans.contains("InvalidForType") && spans.contains("NotDelegated"), "the failures are there: {spans}");
    traces.assert_none_in("a span", &spans);
    traces.assert_none_in("/readyz", &site.until_readyz(200, "ok").await?);
    let metrics = site.metrics_text().await?;
    assert!(metrics.contains("reason=\"InvalidForType\""), "the failures are counted: {metrics}");
    traces.assert_none_in("/metrics", &metrics);
    site.sources.mount().write::<&str, &str>(&[])?;
    traces.assert_none_in("/readyz", &site.until_readyz(503, "sources").await?);
    Ok(())
}

/// The API server refuses the whole object and may quote it: an immutable Secret, and a quota.
async fn refused_by_the_api_server(tenant: &Tenant<'_>) -> Result<()> {
    tenant.request("immutable", json!({ "secrets": [{ "from": "Canary", "to": "k" }] })).await?;
    tenant.until_ready("immutable").await?;
    let frozen = ["patch", "secret", "immutable", "--namespace", &tenant.namespace, "-p", r#"{"immutable":true}"#];
    tenant.site.cluster.kubectl(frozen).succeed().await?;
    tenant.change("immutable", json!({ "secrets": [{ "from": "Canary", "to": "another" }] })).await?;
    tenant.until_condition("immutable", "Synced", "False", "TargetConflict").await?;

    let hard = json!({ "count/secrets": "1" });
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "q", "namespace": tenant.namespace },
        "spec": { "hard": hard },
    });
    tenant.site.cluster.apply_yaml(&quota.to_string()).await?;
    let namespace = format!("--namespace={}", tenant.namespace);
    let enforced = ["wait", "quota/q", "--for=jsonpath={.status.hard.count/secrets}=1", "--timeout=20s", &namespace];
    tenant.site.cluster.kubectl(enforced).succeed().await?;
    tenant.request("over-quota", json!({ "secrets": [{ "from": "Canary", "to": "k" }] })).await?;
    tenant.until_condition("over-quota", "Synced", "False", "WriteRefused").await?;
    Ok(())
}

/// A write without the right to it, of other content.
async fn undelegated(tenant: &Tenant<'_>, canary: &str) -> Result<()> {
    tenant.undelegate().await?;
    let other = format!("{canary}{canary}");
    tenant.site.sources.set(&[("Canary", other.as_bytes())])?;
    tenant.until_condition("good", "Synced", "False", "NotDelegated").await?;
    tenant.until_event("good", "NotDelegated").await?;
    Ok(())
}
