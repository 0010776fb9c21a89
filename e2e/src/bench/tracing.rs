//! What tracing costs: the same distributions without it, with a collector that works, and with bad ones.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::arrivals::Place;
use super::{REST, ask, empty, median, spec};
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
    dropped: f64,
    memory: u64,
}

/// All of them.
pub(super) struct Table {
    count: usize,
    rows: Vec<Row>,
}

/// Runs every setting once in each round, each round beginning with another one, so that none profits from its place.
pub(super) async fn measure(count: usize, rounds: usize) -> Result<Table> {
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
    let mut table = Table { count, rows: SETTINGS.map(Row::of).into() };
    for round in 0..rounds {
        for place in 0..SETTINGS.len() {
            let row = &mut table.rows[(place + round) % SETTINGS.len()];
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
    Ok(table)
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
    row.memory = row.memory.max(site.operator_memory()?);
    row.dropped += site.scrape().await?.sum("secrets_distributor_spans_dropped_total", &[]).unwrap_or_default();
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
        Self { setting, took: Vec::new(), worked: Vec::new(), dropped: 0.0, memory: 0 }
    }

    fn cells(&self, off: &Row) -> [String; 8] {
        let spread = self.took.iter().fold((f64::MAX, 0.0f64), |(low, high), s| (low.min(*s), high.max(*s)));
        [
            name(self.setting).to_owned(),
            format!("{:.2} s", median(&self.took)),
            format!("{:.2}-{:.2}", spread.0, spread.1),
            Ratio::of(&self.took, &off.took).to_string(),
            format!("{:.2} s", median(&self.worked)),
            Ratio::of(&self.worked, &off.worked).to_string(),
            self.dropped.to_string(),
            format!("{} MiB", self.memory / 1024),
        ]
    }
}

/// The mean of the ratios within each round, and its standard error: runs differ by more than what is measured.
struct Ratio {
    mean: f64,
    error: f64,
}

impl Ratio {
    fn of(these: &[f64], off: &[f64]) -> Self {
        let ratios: Vec<_> = these.iter().zip(off).map(|(this, off)| this / off).collect();
        let count = ratios.len() as f64;
        let mean = ratios.iter().sum::<f64>() / count;
        let variance = ratios.iter().map(|ratio| (ratio - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        Self { mean, error: (variance / count).sqrt() }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ±{:.3}", self.mean, self.error)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (off, count) = (&self.rows[0], self.count);
        writeln!(f, "{count} distributions of 3 keys over {NAMESPACES} namespaces, {} runs each;", off.took.len())?;
        writeln!(f, "ratios are means of those within a round, ± their standard error")?;
        let head = ["", "MEDIAN", "RANGE", "TO OFF", "CPU", "TO OFF", "LOST SPANS", "MEMORY"].map(str::to_owned);
        for [name, rest @ ..] in [head].into_iter().chain(self.rows.iter().map(|row| row.cells(off))) {
            writeln!(f, "{name:<24}{}", rest.map(|cell| format!("{cell:>14}")).concat())?;
        }
        Ok(())
    }
}
