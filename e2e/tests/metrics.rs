//! What `/metrics` shows, against what was done.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use e2e::{
    Operator, OperatorConfig, Scrape, asks, eventually,
    site::{SOON, Site, Tenant},
};
use jiff::Timestamp;
use secrets_distributor::telemetry::metrics::table;
use serde_json::{Value, json};

const ATTEMPTS: &str = "secrets_distributor_attempts_total";
const DECISIONS: &str = "secrets_distributor_decisions_total";
const REQUESTS: &str = "secrets_distributor_requests";
const SECRETS: &str = "secrets_distributor_secrets";
const PENDING: &str = "secrets_distributor_secrets_revocation_pending";
const REVOKED: &str = "secrets_distributor_secrets_revoked_total";
const WRITES: &str = "secrets_distributor_secret_writes_total";
const NOT_AFTER: &str = "secrets_distributor_certificate_not_after_timestamp_seconds";
const TOKENS: &str = "secrets_distributor_rate_limit_tokens";
const THROTTLINGS: &str = "secrets_distributor_throttlings_total";
const THROTTLED: &str = "secrets_distributor_throttled_seconds_total";
const API_REQUESTS: &str = "secrets_distributor_api_requests_total";
const SOURCES: &str = "secrets_distributor_sources";
const SOURCE_CHANGES: &str = "secrets_distributor_source_changes_total";
const SOURCE_LAST_CHANGE: &str = "secrets_distributor_source_last_change_timestamp_seconds";
const LEADER: &str = "secrets_distributor_leader";

/// The policy that has the namespace's name: it grants every source, with these fields more.
async fn granted(tenant: &Tenant<'_>, more: Value) -> Result<()> {
    let rule = json!({ "effect": "Allow", "sources": ["*"] });
    let mut spec = json!({ "namespaces": { "names": [tenant.namespace] }, "rules": [rule] });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    tenant.site.policy(&tenant.namespace, spec).await
}

/// A source with a certificate that ends to be valid in that year, and one with its key.
fn set_certificate(site: &Site, name: &str, year: i32) -> Result<()> {
    let mut params = rcgen::CertificateParams::new(vec!["example.org".to_owned()])?;
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    site.sources.set(&[(name, certificate.as_bytes()), (&format!("{name}Key"), key.serialize_pem().as_bytes())])
}

fn certificate(name: &str) -> Value {
    let pair = json!([{ "from": name, "to": "tls.crt" }, { "from": format!("{name}Key"), "to": "tls.key" }]);
    json!({ "type": "kubernetes.io/tls", "secrets": pair })
}

fn new_year(year: i32) -> f64 {
    format!("{year}-01-01T00:00:00Z").parse::<Timestamp>().unwrap().as_second() as f64
}

/// What is shown is in the table, as the table says.
fn ensure_in_table(scrape: &Scrape) -> Result<()> {
    for (name, family) in &scrape.families {
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let known = table::ALL.iter().find(|metric| metric.series() == format!("{name}{suffix}"));
        let known = known.with_context(|| format!("{name} is not in the table"))?;
        ensure!(family.kind == known.kind.as_str(), "{name} is a {}", family.kind);
        let labels: BTreeSet<_> = family.samples.iter().flat_map(|sample| sample.labels.keys()).collect();
        let unknown: Vec<_> =
            labels.iter().filter(|label| **label != "le" && !known.labels.contains(&label.as_str())).collect();
        ensure!(unknown.is_empty(), "{name} has the labels {unknown:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_secret_its_rotation_and_a_refusal_are_counted() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("Metered", b"one").await?;
    let ns = ("namespace", tenant.namespace.as_str());
    tenant.request("r", asks("Metered", json!({}))).await?;
    tenant.until_ready("r").await?;
    site.until_metric(REQUESTS, &[ns, ("reason", "Ready")], |count| count == 1.0).await?;
    let before = site.scrape().await?;
    ensure_in_table(&before)?;
    let of = |scrape: &Scrape, name, more: &[(&str, &str)]| scrape.sum(name, &[&[ns], more].concat());
    assert_eq!(of(&before, WRITES, &[]), Some(1.0));
    assert_eq!(of(&before, WRITES, &[("operation", "create")]), Some(1.0));
    assert_eq!(of(&before, SECRETS, &[]), Some(1.0));
    assert_eq!(of(&before, PENDING, &[]), Some(0.0));
    assert!(of(&before, ATTEMPTS, &[("result", "synced"), ("reason", "UpToDate")]) >= Some(1.0));
    assert!(of(&before, DECISIONS, &[("result", "permitted")]) >= Some(1.0));
    assert_eq!(of(&before, DECISIONS, &[("result", "denied")]), None);
    assert!(of(&before, TOKENS, &[]).is_some());
    assert_eq!(before.sum(LEADER, &[]), Some(1.0));
    assert!(before.sum(API_REQUESTS, &[("verb", "create"), ("resource", "secrets"), ("code", "201")]) >= Some(1.0));

    site.sources.set(&[("Metered", b"two")])?;
    tenant.until_content("r", "k", b"two").await?;
    site.until_metric(WRITES, &[ns, ("operation", "change")], |count| count == 1.0).await?;
    let after = site.scrape().await?;
    assert!(after.sum(SOURCE_CHANGES, &[]) > before.sum(SOURCE_CHANGES, &[]));
    assert!(after.sum(SOURCE_LAST_CHANGE, &[]) > before.sum(SOURCE_LAST_CHANGE, &[]));
    assert!(after.sum(SOURCES, &[]) >= Some(2.0));

    tenant.request("refused", asks("Payroll", json!({}))).await?;
    site.until_metric(REQUESTS, &[ns, ("reason", "SourceNotPermitted")], |count| count == 1.0).await?;
    let refused = site.scrape().await?;
    assert!(of(&refused, ATTEMPTS, &[("result", "denied"), ("reason", "SourceNotPermitted")]) >= Some(1.0));
    assert!(of(&refused, DECISIONS, &[("result", "denied")]) >= Some(1.0));
    assert_eq!(of(&refused, WRITES, &[]), Some(2.0));
    Ok(())
}

#[tokio::test]
async fn a_throttled_namespace_shows_what_it_has_left_and_for_how_long_it_waited() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("slow").await?;
    let ns = ("namespace", tenant.namespace.as_str());
    granted(&tenant, json!({ "rateLimit": { "writes": 1, "per": "1h", "burst": 1 } })).await?;
    tenant.request("r", asks("Always", json!({}))).await?;
    tenant.until_condition("r", "Synced", "False", "Throttled").await?;
    site.until_metric(REQUESTS, &[ns, ("reason", "Throttled")], |count| count == 1.0).await?;
    let first = site.until_metric(THROTTLED, &[ns], |seconds| seconds > 0.0).await?;
    let scrape = site.scrape().await?;
    assert_eq!(scrape.sum(THROTTLINGS, &[ns]), Some(1.0));
    assert_eq!(scrape.sum(TOKENS, &[ns]), Some(0.0));
    assert!(scrape.sum(ATTEMPTS, &[ns, ("result", "throttled"), ("reason", "Throttled")]) >= Some(1.0));
    assert_eq!(scrape.sum(WRITES, &[ns]), None);
    site.until_metric(THROTTLED, &[ns], |seconds| seconds > first).await?;
    Ok(())
}

#[tokio::test]
async fn a_revocation_is_pending_and_then_done() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("revoked").await?;
    let ns = ("namespace", tenant.namespace.as_str());
    granted(&tenant, json!({ "revocation": { "gracePeriod": "6s" } })).await?;
    tenant.request("r", asks("Always", json!({}))).await?;
    tenant.until_ready("r").await?;
    site.delete_policy(&tenant.namespace).await?;
    site.until_metric(PENDING, &[ns], |count| count == 1.0).await?;
    site.until_metric(REQUESTS, &[ns, ("reason", "RevocationPending")], |count| count == 1.0).await?;
    let pending = site.scrape().await?;
    assert_eq!((pending.sum(SECRETS, &[ns]), pending.sum(REVOKED, &[ns])), (Some(1.0), None));
    assert_eq!(pending.sum(WRITES, &[ns, ("operation", "mark")]), Some(1.0));

    site.until_metric(REVOKED, &[ns], |count| count == 1.0).await?;
    let done = site.scrape().await?;
    assert_eq!((done.sum(SECRETS, &[ns]), done.sum(PENDING, &[ns])), (None, None), "there is none any more");
    assert_eq!(done.sum(WRITES, &[ns, ("operation", "delete")]), Some(1.0));
    Ok(())
}

#[tokio::test]
async fn a_call_that_fails_is_counted_with_its_code() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("Unbound", b"one").await?;
    let ns = ("namespace", tenant.namespace.as_str());
    tenant.request("r", asks("Unbound", json!({}))).await?;
    tenant.until_ready("r").await?;
    let forbidden = [("verb", "patch"), ("resource", "secrets"), ("code", "403")];
    let before = site.scrape().await?.sum(API_REQUESTS, &forbidden).unwrap_or_default();
    tenant.undelegate().await?;
    site.sources.set(&[("Unbound", b"two")])?;
    site.until_metric(API_REQUESTS, &forbidden, |count| count > before).await?;
    site.until_metric(REQUESTS, &[ns, ("reason", "NotDelegated")], |count| count == 1.0).await?;
    site.until_metric(ATTEMPTS, &[ns, ("result", "held"), ("reason", "NotDelegated")], |count| count >= 1.0).await?;
    Ok(())
}

#[tokio::test]
async fn the_series_of_a_namespace_go_with_it_and_a_name_alone_makes_none() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("passing").await?;
    granted(&tenant, json!({})).await?;
    tenant.request("r", asks("Always", json!({}))).await?;
    tenant.until_ready("r").await?;
    tenant.request("elsewhere", asks("Always", json!({ "namespaces": ["no-such-namespace"] }))).await?;
    tenant.until_condition("elsewhere", "Ready", "False", "NoPolicyForNamespace").await?;
    let found = |scrape: &Scrape, name: &str| -> Vec<_> {
        let of_it = scrape.all().filter(|sample| sample.labels.values().any(|value| value == name));
        of_it.map(|sample| format!("{sample:?}")).collect()
    };
    let has = |scrape: &Scrape, name: &str| !found(scrape, name).is_empty();
    assert!(has(&site.scrape().await?, &tenant.namespace));
    assert!(!has(&site.scrape().await?, "no-such-namespace"));

    tenant.delete_namespace().await?;
    tenant.until_namespace_gone().await?;
    eventually(SOON, "its series are gone", async || {
        let scrape = site.scrape().await?;
        let left = found(&scrape, &tenant.namespace);
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .await?;
    // Whatever was still to be done for it has been done before this.
    let other = site.tenant("staying").await?;
    granted(&other, json!({})).await?;
    other.request("r", asks("Always", json!({}))).await?;
    other.until_ready("r").await?;
    let scrape = site.scrape().await?;
    assert!(!has(&scrape, &tenant.namespace) && has(&scrape, &other.namespace));
    Ok(())
}

#[tokio::test]
async fn certificates_are_known_again_after_a_restart_and_a_standby_answers_too() -> Result<()> {
    let site = Site::start().await?;
    let tenant = site.tenant("certified").await?;
    let ns = ("namespace", tenant.namespace.as_str());
    granted(&tenant, json!({})).await?;
    for (name, year) in [("Early", 2044), ("Late", 2055)] {
        set_certificate(&site, name, year)?;
        tenant.request(&name.to_lowercase(), certificate(name)).await?;
        tenant.until_ready(&name.to_lowercase()).await?;
    }
    site.until_metric(NOT_AFTER, &[ns], |end| end == new_year(2044)).await?;
    site.restart_operator().await?;
    site.until_metric(NOT_AFTER, &[ns], |end| end == new_year(2044)).await?;
    set_certificate(&site, "Early", 2066)?;
    site.until_metric(NOT_AFTER, &[ns], |end| end == new_year(2055)).await?;

    let mut config = OperatorConfig::new(site.sources.mount().path());
    config.environment.push(("POD_NAME".to_owned(), "operator-1".to_owned()));
    let mut standby = Operator::start(&site.cluster, config).await?;
    standby.wait_ready(SOON).await?;
    let scrape = eventually(SOON, "the standby sees the Secrets", async || {
        let scrape = standby.scrape().await?;
        ensure!(scrape.sum(SECRETS, &[ns]) == Some(2.0), "{:?}", scrape.sum(SECRETS, &[ns]));
        Ok(scrape)
    })
    .await?;
    ensure_in_table(&scrape)?;
    assert_eq!(scrape.sum(LEADER, &[]), Some(0.0));
    assert_eq!(scrape.sum("secrets_distributor_ready", &[("gate", "leader")]), Some(1.0));
    assert_eq!(scrape.sum(REQUESTS, &[ns, ("reason", "Ready")]), Some(2.0));
    assert_eq!((scrape.sum(NOT_AFTER, &[]), scrape.sum(TOKENS, &[]), scrape.sum(WRITES, &[])), (None, None, None));
    Ok(())
}

#[tokio::test]
async fn without_the_label_there_are_sums_and_every_metric_is_there() -> Result<()> {
    let off = |config: OperatorConfig| config.argument("--metrics-namespace-label").argument("false");
    let site = Site::prepare().await?.configured(off);
    site.start_operator().await?;
    let first = site.tenant("first").await?;
    granted(&first, json!({})).await?;
    set_certificate(&site, "Early", 2044)?;
    first.request("early", certificate("Early")).await?;
    first.until_ready("early").await?;
    let second = site.tenant("second").await?;
    granted(&second, json!({})).await?;
    set_certificate(&site, "Late", 2055)?;
    for (name, spec) in [("late", certificate("Late")), ("r", asks("Always", json!({})))] {
        second.request(name, spec).await?;
        second.until_ready(name).await?;
    }
    site.until_metric(REQUESTS, &[("reason", "Ready")], |count| count == 3.0).await?;
    let scrape = site.scrape().await?;
    assert_eq!((scrape.sum(SECRETS, &[]), scrape.sum(WRITES, &[])), (Some(3.0), Some(3.0)));
    assert_eq!(scrape.sum(NOT_AFTER, &[]), Some(new_year(2044)));
    site.delete_policy(&first.namespace).await?;
    site.until_metric(REVOKED, &[], |count| count == 1.0).await?;
    site.until_metric(NOT_AFTER, &[], |end| end == new_year(2055)).await?;

    let scrape = site.scrape().await?;
    ensure_in_table(&scrape)?;
    assert!(scrape.all().all(|sample| !sample.labels.contains_key("namespace")));
    let text = site.metrics_text().await?;
    assert!(!text.contains(&first.namespace) && !text.contains(&second.namespace));
    let shown: Vec<_> = scrape.families.keys().collect();
    for metric in table::ALL.iter().map(|metric| metric.series()) {
        assert!(text.contains(&format!("\n{metric}")), "{metric} is not among {shown:?}");
    }
    Ok(())
}
