//! What tracing costs: the same distributions without it, with a collector that works, and with bad ones.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::arrivals::Place;
use super::figures::Figures;
use super::{REST, ask, empty, spec};
use crate::OperatorConfig;
use crate::collector::{Collector, Mood};
use crate::progress::narrated;
use crate::site::Site;

/// Namespaces that share the distributions of a run.
const NAMESPACES: usize = 10;

/// `None`: no traces are made.
const SETTINGS: [Option<Mood>; 5] =
    [None, Some(Mood::Works), Some(Mood::Refuses), Some(Mood::Hangs), Some(Mood::Fails)];

/// The runs of one setting.
struct Row {
    setting: Option<Mood>,
    /// From the first request to the last that is Ready, in seconds.
    took: Vec<f64>,
    /// Processor time of the operator, in seconds.
    worked: Vec<f64>,
    /// Resident, in MiB.
    memory: Vec<f64>,
    /// Spans that nobody got.
    lost: Vec<f64>,
}

/// The most that tracing may cost, as ratios to none: in time, and in processor time.
const AT_MOST: (f64, f64) = (1.1, 1.25);

/// Runs every setting once in each round, each round beginning with another one, so that none profits from its place.
pub(super) async fn measure(count: usize, rounds: usize) -> Result<Figures> {
    let collector = Collector::start().await?;
    let mut site = Site::prepare().await?;
    let spec = json!({
        "namespaces": { "names": ["bench-*"] },
        "rules": [{ "effect": "Allow", "sources": ["*"] }],
        "rateLimit": { "writes": 100_000, "per": "1s", "burst": 100_000 },
    });
    site.policy("bench", spec).await?;
    let mut namespaces = Vec::new();
    for _ in 0..NAMESPACES {
        namespaces.push(site.tenant("bench").await?.namespace);
    }
    site = site.configured(|config| OperatorConfig { log_level: "info".to_owned(), ..config });
    // The first run meets a control plane that has done nothing yet: it is slower than all others, and counts for none.
    narrated("to warm up", run(&site, &namespaces, count, &mut Row::of(None))).await?;
    let mut rows = SETTINGS.map(Row::of);
    for round in 0..rounds {
        for place in 0..SETTINGS.len() {
            let row = &mut rows[(place + round) % SETTINGS.len()];
            collector.set(row.setting.unwrap_or(Mood::Refuses));
            site = site.configured(|mut config| {
                config.environment.retain(|(name, _)| name != "OTEL_EXPORTER_OTLP_ENDPOINT");
                let endpoint = row.setting.map(|_| ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint()));
                config.environment.extend(endpoint);
                config
            });
            let what = format!("round {} of {rounds}, {}", round + 1, name(row.setting));
            narrated(&what, run(&site, &namespaces, count, row)).await?;
        }
    }
    Ok(figures(count, &rows))
}

/// From the first request to the last that is Ready.
async fn run(site: &Site, namespaces: &[String], count: usize, row: &mut Row) -> Result<()> {
    site.start_operator().await?;
    let mut tenants = Vec::new();
    for name in namespaces {
        tenants.push(site.existing_tenant(name).await?);
    }
    // Once one was written into each, the delegations are known.
    for tenant in &tenants {
        tenant.request("first", json!({ "secrets": [{ "from": "Always", "to": "k" }] })).await?;
        tenant.until_ready("first").await?;
    }
    let each = count / NAMESPACES;
    let all = (0..each).flat_map(|i| namespaces.iter().map(move |namespace| (namespace.clone(), format!("r{i}"))));
    let spec = spec(&["a", "b", "c"].map(|key| ("Always", key)));
    let client = site.cluster.client().await?;
    let (place, before) = (Place::now(client.clone()).await?, site.operator_cpu().await?);
    let begun = Instant::now();
    tokio::try_join!(ask(&client, all, &spec), place.ready(each * NAMESPACES, |name| name != "first"))?;
    row.took.push(begun.elapsed().as_secs_f64());
    row.worked.push(site.operator_cpu().await? - before);
    row.memory.push(site.operator_memory()? as f64 / 1024.0);
    row.lost.push(site.scrape().await?.sum("secrets_distributor_spans_dropped_total", &[]).unwrap_or_default());
    site.terminate_operator(Duration::from_secs(10)).await?;
    for tenant in &tenants {
        empty(tenant).await?;
    }
    tokio::time::sleep(REST).await;
    Ok(())
}

fn name(setting: Option<Mood>) -> &'static str {
    match setting {
        None => "tracing off",
        Some(Mood::Works) => "collector works",
        Some(Mood::Refuses) => "collector refuses",
        Some(Mood::Hangs) => "collector hangs",
        Some(Mood::Fails) => "collector answers 500",
        Some(Mood::TalksNonsense) => "collector talks nonsense",
    }
}

impl Row {
    fn of(setting: Option<Mood>) -> Self {
        Self { setting, took: Vec::new(), worked: Vec::new(), memory: Vec::new(), lost: Vec::new() }
    }
}

/// The first of the settings is what the others are measured against.
fn figures(count: usize, rows: &[Row; SETTINGS.len()]) -> Figures {
    let [off, others @ ..] = rows;
    let mut figures = Figures::default();
    let what = |row: &Row, figure| format!("{count} new, {}: {figure}", name(row.setting));
    figures.add(what(off, "time"), off.took.clone(), "s", None);
    figures.add(what(off, "processor time"), off.worked.clone(), "s", None);
    figures.add(what(off, "memory"), off.memory.clone(), "MiB", None);
    for row in others {
        figures.ratio(what(row, "time"), row.took.clone(), off.took.clone(), AT_MOST.0);
        figures.ratio(what(row, "processor time"), row.worked.clone(), off.worked.clone(), AT_MOST.1);
        figures.add(what(row, "memory"), row.memory.clone(), "MiB", None);
        figures.add(what(row, "lost spans"), row.lost.clone(), "spans", None);
    }
    figures
}
