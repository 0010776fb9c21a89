//! What people see of the operator's work in a real Jaeger.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::site::{SOON, Site, Tenant};
use e2e::{Jaeger, JaegerSpan, JaegerTrace, Operator, asks, eventually};
use futures::future::try_join_all;
use kube::Api;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use secrets_distributor::telemetry::traces::names::{CALL, SPANS};
use serde_json::json;
use tokio::sync::{Mutex, OnceCell};

const REQUEST: &str = "secrets_distributor.request";
const CAUSE: &str = "secrets_distributor.cause.trace_id";

/// Held by who changes sources: two changes at a time would be one rotation.
static ROTATING: Mutex<()> = Mutex::const_new(());

/// An operator, and the Jaeger that it sends its traces to.
struct Traced {
    site: Site,
    jaeger: Jaeger,
}

impl Traced {
    async fn start() -> Result<Self> {
        let site = Site::prepare().await?;
        let jaeger = Jaeger::start(&site.cluster).await?;
        Self::with(site, jaeger, "http/protobuf").await
    }

    /// By TLS, where both sides show a certificate.
    async fn secured(protocol: &str) -> Result<Self> {
        let site = Site::prepare().await?;
        let jaeger = Jaeger::secured(&site.cluster).await?;
        Self::with(site, jaeger, protocol).await
    }

    async fn with(site: Site, jaeger: Jaeger, protocol: &str) -> Result<Self> {
        let site = site.configured(|config| {
            let config = config.argument("--trace-url").argument("https://jaeger.example.org/trace/{traceID}");
            jaeger.traced_by(config, protocol)
        });
        site.start_operator().await?;
        Ok(Self { site, jaeger })
    }

    async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Traced> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// A tenant whose writes wait for no token, and whose policy is in force.
    async fn tenant(&self, prefix: &str) -> Result<Tenant<'_>> {
        let tenant = self.site.tenant(prefix).await?;
        let spec = json!({
            "namespaces": { "names": [tenant.namespace] },
            "rules": [{ "effect": "Allow", "sources": ["*"] }],
            "rateLimit": { "writes": 100_000, "per": "1s" },
        });
        self.site.policy(&tenant.namespace, spec).await?;
        self.site.until_accepted(&tenant.namespace, "True", "InForce").await?;
        // Once something was written, the delegation is known.
        tenant.request("first", asks("Always", json!({}))).await?;
        tenant.until_ready("first").await?;
        Ok(tenant)
    }

    /// The trace that the status of a request names.
    async fn trace_of(&self, tenant: &Tenant<'_>, request: &str) -> Result<JaegerTrace> {
        let id = tenant.until(request, "a trace", |status| status.trace_id.clone()).await?;
        let trace = self.jaeger.trace(&id).await?;
        trace.spans.iter().for_each(|span| assert_documented(&trace, span));
        Ok(trace)
    }

    /// Waits until Jaeger shows that many traces with the tags.
    async fn until_traces(&self, tags: &[(&str, &str)], count: usize) -> Result<Vec<JaegerTrace>> {
        eventually(SOON, &format!("{count} traces with {tags:?}"), async || {
            let found = self.jaeger.traces(tags).await?;
            ensure!(found.len() == count, "{:?}", found.iter().map(JaegerTrace::tree).collect::<Vec<_>>());
            anyhow::Ok(found)
        })
        .await
    }
}

/// Kind, parent and attributes are those of the reference.
fn assert_documented(trace: &JaegerTrace, span: &JaegerSpan) {
    let known = SPANS.iter().find(|known| known.name == span.name).unwrap_or(&CALL);
    assert_eq!(span.tag("span.kind").unwrap_or_default(), known.kind, "{span:#?}");
    match trace.parent(span) {
        None => assert!(known.within.is_empty(), "{span:#?}"),
        Some(parent) => assert!(known.within.contains(&parent.name.as_str()), "{span:#?} in {parent:#?}"),
    }
    let of_jaeger = ["span.kind", "error", "otel.status_code", "otel.scope.name", "otel.scope.version"];
    for key in span.keys().filter(|key| !of_jaeger.contains(key)) {
        assert!(known.attributes.iter().any(|attribute| attribute.key == key), "{key} of {span:#?}");
    }
}

fn tags<const N: usize>(span: &JaegerSpan, keys: [&str; N]) -> [String; N] {
    keys.map(|key| span.tag(key).unwrap_or_default())
}

fn result(trace: &JaegerTrace) -> [String; 3] {
    tags(trace.root().unwrap(), ["secrets_distributor.result", "secrets_distributor.reason", "error"])
}

#[tokio::test]
async fn the_first_example_is_exactly_one_trace_of_the_documented_steps() -> Result<()> {
    let _alone = ROTATING.lock().await;
    let traced = Traced::shared().await?;
    let cluster = &traced.site.cluster;
    let pair = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()])?;
    let key = pair.signing_key.serialize_pem();
    let files = [("WildcardCertificate", pair.cert.pem()), ("WildcardCertificateKey", key)];
    traced.site.sources.set(&files.each_ref().map(|(name, text)| (*name, text.as_bytes())))?;
    cluster.kubectl(["create", "namespace", "test-application-1"]).succeed().await?;
    cluster.delegate("test-application-1").await?;
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no repository")?;
    cluster.apply_path(&repository.join("policies/wildcard-tls.yaml")).await?;
    traced.site.until_accepted("wildcard-tls", "True", "InForce").await?;
    let tenant = traced.site.existing_tenant("test-application-1").await?;
    cluster.apply_path(&repository.join("docs/examples/wildcard-tls-distribution.yaml")).await?;
    let status = tenant.until_ready("wildcard-tls-distribution").await?;

    let trace = traced.trace_of(&tenant, "wildcard-tls-distribution").await?;
    let request = "test-application-1/wildcard-tls-distribution";
    let all = traced.until_traces(&[(REQUEST, request)], 1).await?;
    assert_eq!((all[0].id.as_str(), Some(trace.id.clone())), (trace.id.as_str(), status.trace_id));
    let names: Vec<_> = trace.tree().iter().map(|line| line.split_once(" ms  ").unwrap().1.to_owned()).collect();
    let documented = [
        "distribute",
        "  decide",
        "  read",
        "  target",
        "    render",
        "    apply",
        "      confirm",
        "      limit",
        "      POST /api/v1/namespaces/{namespace}/secrets",
        "  status",
        "    PATCH /apis/xlscsde.nhs.uk/v1/namespaces/{namespace}/secretsdistributions/{name}/status",
    ];
    let without_read = names.iter().filter(|name| !name.contains("GET ")).map(String::as_str).collect::<Vec<_>>();
    assert_eq!(without_read, documented, "{:#?}", trace.tree());
    let root = trace.root().unwrap();
    let said = tags(root, [REQUEST, "k8s.namespace.name", "secrets_distributor.result", "secrets_distributor.attempt"]);
    assert_eq!(said, [request, "test-application-1", "written", "1"]);
    let target = trace.span("target")?;
    let [secret, granted_by] = tags(target, ["secrets_distributor.target", "secrets_distributor.granted_by"]);
    assert_eq!(secret, "test-application-1/wildcard-tls-secret");
    assert!(granted_by.starts_with(r#"["wildcard-tls rules[0]""#), "{granted_by}");
    let said = tags(trace.span("render")?, ["secrets_distributor.keys", "secrets_distributor.bytes"]);
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    assert_eq!(said, ["2".to_owned(), bytes.to_string()]);
    let create = trace.span("POST /api/v1/namespaces/{namespace}/secrets")?;
    let said = tags(create, ["http.request.method", "http.response.status_code", "server.address", "span.kind"]);
    assert_eq!(said, ["POST", "201", "127.0.0.1", "client"]);
    assert_eq!(trace.resource("service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(trace.resource("k8s.namespace.name").as_deref(), Some("secrets-distributor"));
    assert_eq!(trace.resource("k8s.pod.name").as_deref(), Some("operator-0"));
    Ok(())
}

/// The annotation and the note of the event about the request, and the lines of the log about its trace.
async fn told_of(traced: &Traced, tenant: &Tenant<'_>, request: &str, reason: &str) -> Result<(String, String)> {
    let note = tenant.until_event(request, reason).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("events.k8s.io", "v1", "Event"));
    let events: Api<DynamicObject> =
        Api::namespaced_with(traced.site.cluster.client().await?, &tenant.namespace, &kind);
    let events = events.list(&ListParams::default()).await?.items;
    let event = events.iter().find(|event| event.data["note"] == note).context("no such event")?;
    let annotations = event.metadata.annotations.clone().unwrap_or_default();
    Ok((annotations.get("xlscsde.nhs.uk/trace-id").cloned().unwrap_or_default(), note))
}

/// What the command line says to whoever gives it the address of the traces.
async fn explained(traced: &Traced, tenant: &Tenant<'_>, request: &str) -> Result<serde_json::Value> {
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("secrets-distributor");
    let mut command = tokio::process::Command::new(binary);
    command.args(["explain", request, "-n", &tenant.namespace, "-o", "json", "--kubeconfig"]);
    command.arg(traced.site.cluster.kubeconfig()).env("TRACE_URL", "https://jaeger.example.org/trace/{traceID}");
    let output = command.output().await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test]
async fn a_refusal_a_wait_and_a_failure_have_theirs_which_status_event_and_log_name() -> Result<()> {
    let traced = Traced::shared().await?;
    let tenant = traced.site.tenant("denied").await?;
    tenant.request("denied", asks("Always", json!({}))).await?;
    tenant.until_condition("denied", "Permitted", "False", "NoPolicyForNamespace").await?;
    let trace = traced.trace_of(&tenant, "denied").await?;
    assert_eq!(result(&trace), ["denied", "NoPolicyForNamespace", ""]);
    let (annotation, note) = told_of(traced, &tenant, "denied", "NoPolicyForNamespace").await?;
    assert_eq!(annotation, trace.id);
    assert!(note.ends_with(&format!("; see https://jaeger.example.org/trace/{}", trace.id)), "{note}");
    let answer = explained(traced, &tenant, "denied").await?;
    assert_eq!(answer["operator"]["traceURL"], format!("https://jaeger.example.org/trace/{}", trace.id), "{answer:#}");
    let logs = traced.site.operator_logs();
    let lines: Vec<_> = logs.lines().filter(|line| line.contains(&trace.id)).collect();
    let outcome = lines.iter().filter(|line| line.contains("\"message\":\"distributed\"")).collect::<Vec<_>>();
    assert_eq!(outcome.len(), 1, "{lines:#?}");
    let outcome: serde_json::Value = serde_json::from_str(outcome[0])?;
    let said = ["result", "reason", "trace_id"].map(|field| outcome[field].as_str().unwrap_or_default());
    assert_eq!(said, ["denied", "NoPolicyForNamespace", &trace.id]);

    let tenant = traced.site.tenant("throttled").await?;
    let spec = json!({
        "namespaces": { "names": [tenant.namespace] },
        "rules": [{ "effect": "Allow", "sources": ["*"] }],
        "rateLimit": { "writes": 1, "per": "1h" },
    });
    traced.site.policy(&tenant.namespace, spec).await?;
    traced.site.until_accepted(&tenant.namespace, "True", "InForce").await?;
    tenant.request("throttled", asks("Always", json!({}))).await?;
    tenant.until_condition("throttled", "Synced", "False", "Throttled").await?;
    let trace = traced.trace_of(&tenant, "throttled").await?;
    assert_eq!(result(&trace), ["throttled", "Throttled", ""]);
    let delay: f64 = trace.span("limit")?.tag("secrets_distributor.throttle.delay").context("no delay")?.parse()?;
    assert!(delay > 600.0, "{delay}");

    let tenant = traced.tenant("failed").await?;
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "q", "namespace": tenant.namespace },
        "spec": { "hard": { "count/secrets": "1" } },
    });
    traced.site.cluster.apply_yaml(&quota.to_string()).await?;
    let namespace = format!("--namespace={}", tenant.namespace);
    let enforced = ["wait", "quota/q", "--for=jsonpath={.status.hard.count/secrets}=1", "--timeout=20s", &namespace];
    traced.site.cluster.kubectl(enforced).succeed().await?;
    tenant.request("failed", asks("Always", json!({}))).await?;
    tenant.until_condition("failed", "Synced", "False", "WriteRefused").await?;
    let trace = traced.trace_of(&tenant, "failed").await?;
    assert_eq!(result(&trace), ["failed", "WriteRefused", "true"]);
    assert_eq!(trace.root().unwrap().tag("error.type").as_deref(), Some("quota_exceeded"));
    let create = trace.span("POST /api/v1/namespaces/{namespace}/secrets")?;
    assert_eq!(tags(create, ["http.response.status_code", "error"]), ["403", "true"]);
    Ok(())
}

#[tokio::test]
async fn a_rotation_is_linked_from_all_that_it_causes_and_one_can_walk_both_ways() -> Result<()> {
    const ALL: usize = 20;
    let _alone = ROTATING.lock().await;
    let traced = Traced::shared().await?;
    traced.site.sources.set(&[("Rotated", b"one")])?;
    let tenant = traced.tenant("rotated").await?;
    let names: Vec<_> = (0..ALL).map(|i| format!("r{i}")).collect();
    try_join_all(names.iter().map(|name| tenant.request(name, asks("Rotated", json!({}))))).await?;
    try_join_all(names.iter().map(|name| tenant.until_ready(name))).await?;

    traced.site.sources.set(&[("Rotated", b"two")])?;
    try_join_all(names.iter().map(|name| tenant.until_content(name, "k", b"two"))).await?;
    let request = format!("{}/r0", tenant.namespace);
    let attempts = eventually(SOON, "the attempt of the rotation", async || {
        let found = traced.jaeger.traces(&[(REQUEST, &request), ("secrets_distributor.cause", "rotation")]).await?;
        ensure!(!found.is_empty(), "none");
        anyhow::Ok(found)
    })
    .await?;
    let links = attempts[0].root().unwrap().links();
    assert_eq!(links.len(), 1, "{attempts:#?}");

    // There: the link of an attempt is the rotation.
    let rotation = traced.jaeger.trace(links[0]).await?;
    rotation.spans.iter().for_each(|span| assert_documented(&rotation, span));
    let root = rotation.root().unwrap();
    // In a new generation of the mount every source may have changed, and requests of other tests are woken too.
    let [sources, woken] = tags(root, ["secrets_distributor.sources", "secrets_distributor.requests"]);
    assert_eq!(root.name, "rotation");
    assert!(sources.contains("\"Rotated\"") && woken.parse::<usize>()? >= ALL, "{sources} {woken}");

    // And back: its id is a tag of every attempt.
    let caused = [(CAUSE, rotation.id.as_str()), ("k8s.namespace.name", &tenant.namespace)];
    let caused = traced.until_traces(&caused, ALL).await?;
    let requests: BTreeSet<_> = caused.iter().filter_map(|trace| trace.root()?.tag(REQUEST)).collect();
    assert_eq!(requests, names.iter().map(|name| format!("{}/{name}", tenant.namespace)).collect());
    assert!(caused.iter().all(|trace| trace.root().unwrap().links() == [rotation.id.as_str()]));
    assert!(caused.iter().all(|trace| result(trace)[0] == "written"));
    let metrics = traced.site.metrics_text().await?;
    let mut of_rotations = metrics.lines().filter(|line| line.contains("propagation") && line.contains("\"rotation\""));
    let is_caused = |line: &str| caused.iter().any(|trace| line.contains(&format!("trace_id=\"{}\"", trace.id)));
    assert!(of_rotations.any(is_caused), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_revocation_is_linked_to_the_change_of_its_policy_and_a_request_to_its_pipeline() -> Result<()> {
    let traced = Traced::shared().await?;
    let tenant = traced.tenant("revoked").await?;
    let pipeline = "0af7651916cd43dd8448eb211c80319c";
    let annotated = |traceparent: &str| {
        let metadata = json!({ "annotations": { "xlscsde.nhs.uk/traceparent": traceparent } });
        Patch::Merge(json!({ "metadata": metadata, "spec": { "name": "renamed" } }))
    };
    let patch = annotated(&format!("00-{pipeline}-b7ad6b7169203331-01"));
    tenant.requests().patch("first", &PatchParams::default(), &patch).await?;
    tenant.until("first", "the new name", |s| (s.secret_name.as_deref() == Some("renamed")).then_some(())).await?;
    let found = traced.until_traces(&[("secrets_distributor.pipeline.trace_id", pipeline)], 1).await?;
    assert_eq!(found[0].root().unwrap().links(), [pipeline]);

    traced.site.delete_policy(&tenant.namespace).await?;
    tenant.until_gone("renamed").await?;
    tenant.until_condition("first", "Permitted", "False", "NoPolicyForNamespace").await?;
    let revoked = traced.trace_of(&tenant, "first").await?;
    assert_eq!(result(&revoked)[..2], ["deleted", "NoPolicyForNamespace"]);
    let links = revoked.root().unwrap().links();
    let change = traced.jaeger.trace(links.iter().find(|link| **link != pipeline).context("no other link")?).await?;
    let root = change.root().unwrap();
    let said = tags(root, ["secrets_distributor.policy", "secrets_distributor.change"]);
    assert_eq!((root.name.as_str(), said), ("policy change", [tenant.namespace.clone(), "deleted".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn a_collector_that_wants_certificates_is_reached_by_http_as_well() -> Result<()> {
    let traced = Traced::secured("http/protobuf").await?;
    let tenant = traced.tenant("secured").await?;
    traced.trace_of(&tenant, "first").await.map(drop)
}

/// By the other protocol, and with an operator of its own that no other test restarts.
#[tokio::test]
async fn a_restart_that_finds_all_well_leaves_no_trace() -> Result<()> {
    let traced = Traced::secured("grpc").await?;
    let tenant = traced.tenant("restart").await?;
    let request = |name: &str| format!("{}/{name}", tenant.namespace);
    traced.until_traces(&[(REQUEST, &request("first"))], 1).await?;
    let before: BTreeSet<_> = traced.jaeger.traces(&[]).await?.into_iter().map(|trace| trace.id).collect();
    let mark = match traced.site.cluster.audit() {
        Some(audit) => Some((audit, audit.mark().await?)),
        None => None,
    };
    traced.site.restart_operator().await?;
    tenant.request("last", asks("Always", json!({}))).await?;
    tenant.until_ready("last").await?;
    traced.trace_of(&tenant, "last").await?;
    let new = traced.jaeger.traces(&[]).await?.into_iter().filter(|trace| !before.contains(&trace.id));
    let of_others = new.filter(|trace| trace.root().and_then(|root| root.tag(REQUEST)) != Some(request("last")));
    assert_eq!(of_others.map(|trace| trace.tree()).collect::<Vec<_>>(), Vec::<Vec<String>>::new());
    if let Some((audit, mark)) = mark {
        // Above all not because the attempt that looks has another trace.
        let writes = audit.since(mark).await?.user(Operator::USER).name("first").writes();
        assert!(writes.is_empty(), "{writes:#?}");
    }
    Ok(())
}
