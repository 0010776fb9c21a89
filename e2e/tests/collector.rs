//! A collector that is down, hangs, refuses or talks nonsense changes nothing but that there are no traces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use anyhow::{Context, Result};
use e2e::site::{SOON, Site, Tenant};
use e2e::{Collector, Mood, asks, eventually};
use futures::future::try_join_all;
use serde_json::{Value, json};

/// How many distributions each mood of the collector sees.
const EACH: usize = 50;

fn lines(site: &Site, message: &str) -> Vec<Value> {
    let logs = site.operator_logs();
    let entries = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["message"].as_str().is_some_and(|told| told.starts_with(message))).collect()
}

async fn distribute(tenant: &Tenant<'_>, prefix: &str) -> Result<()> {
    let names: Vec<_> = (0..EACH).map(|i| format!("{prefix}-{i}")).collect();
    try_join_all(names.iter().map(|name| tenant.request(name, asks("Always", json!({}))))).await?;
    try_join_all(names.iter().map(|name| tenant.until_ready(name))).await?;
    Ok(())
}

#[tokio::test]
async fn whatever_it_does_everything_is_distributed_and_its_state_is_told_once() -> Result<()> {
    let collector = Collector::start().await?;
    let site = Site::prepare().await?.configured(|mut config| {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "200".into()),
            ("OTEL_BSP_EXPORT_TIMEOUT", "500".into()),
            ("OTEL_BSP_SCHEDULE_DELAY", "20".into()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100".into()),
        ];
        config.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
        config
    });
    site.start_operator().await?;
    let tenant = site.tenant("collector").await?;
    let spec = json!({
        "namespaces": { "names": [tenant.namespace] },
        "rules": [{ "effect": "Allow", "sources": ["*"] }],
        "rateLimit": { "writes": 100_000, "per": "1s" },
    });
    site.policy(&tenant.namespace, spec).await?;
    for mood in [Mood::Refuses, Mood::Hangs, Mood::Fails, Mood::TalksNonsense] {
        collector.set(mood);
        distribute(&tenant, &format!("{mood:?}").to_lowercase()).await?;
    }
    assert_eq!(lines(&site, "traces cannot be delivered").len(), 1);

    collector.set(Mood::Works);
    distribute(&tenant, "works").await?;
    let again = eventually(SOON, "traces are delivered again", async || {
        lines(&site, "traces are delivered again").into_iter().next()
    })
    .await?;
    assert!(again["dropped"].as_u64().context("no count")? > 0, "{again}");
    site.until_metric("secrets_distributor_spans_dropped_total", &[], |dropped| dropped > 0.0).await?;
    assert!(collector.taken() > 0);

    collector.set(Mood::Hangs);
    distribute(&tenant, "last").await?;
    let (exit, logs) = site.terminate_operator(Duration::from_secs(10)).await?;
    assert_eq!(exit.status.code(), Some(0), "{logs}");
    assert!(exit.after < Duration::from_secs(7), "the flush is bounded: {:?}", exit.after);
    assert!(!logs.contains("\"level\":\"ERROR\""), "{logs}");
    Ok(())
}
