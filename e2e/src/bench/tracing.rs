//! What tracing costs: the same distributions without it, with a collector that works, and with bad ones.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use secrets_distributor::api::SecretsDistribution;
use serde_json::json;

use crate::collector::{Collector, Mood};
use crate::progress::narrated;
use crate::site::{Site, Tenant, condition};

/// Namespaces that share the distributions of a run.
const NAMESPACES: usize = 10;

/// Requests created at a time.
const AT_A_TIME: usize = 16;

/// `None`: no traces are made.
const SETTINGS: [Option<Mood>; 5] =
    [None, Some(Mood::Works), Some(Mood::Refuses), Some(Mood::Hangs), Some(Mood::Fails)];

/// The runs of one setting.
struct Row {
    setting: Option<Mood>,
    took: Vec<Duration>,
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
    let row = |setting| Row { setting, took: Vec::new(), dropped: 0.0, memory: 0 };
    let mut table = Table { count, rows: SETTINGS.map(row).into() };
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
            narrated(&what, run(&site, count, row)).await?;
        }
    }
    Ok(table)
}

/// From the first request to the last that is Ready.
async fn run(site: &Site, count: usize, row: &mut Row) -> Result<()> {
    site.start_operator().await?;
    let mut tenants = Vec::new();
    for _ in 0..NAMESPACES {
        tenants.push(site.tenant("bench").await?);
    }
    // Once one was written into each, the delegations are known.
    for tenant in &tenants {
        tenant.request("first", json!({ "secrets": [{ "from": "Always", "to": "k" }] })).await?;
        tenant.until_ready("first").await?;
    }
    let begun = Instant::now();
    let ready =
        stream::iter(&tenants).map(|tenant| until_all_ready(tenant, count / NAMESPACES)).buffer_unordered(NAMESPACES);
    tokio::try_join!(ask(&tenants, count / NAMESPACES), ready.try_collect::<Vec<()>>())?;
    row.took.push(begun.elapsed());
    row.memory = row.memory.max(site.operator_memory()?);
    row.dropped += site.scrape().await?.sum("secrets_distributor_spans_dropped_total", &[]).unwrap_or_default();
    for tenant in &tenants {
        tenant.requests().delete_collection(&Default::default(), &ListParams::default()).await?;
    }
    site.terminate_operator(Duration::from_secs(10)).await?;
    Ok(())
}

async fn ask(tenants: &[Tenant<'_>], each: usize) -> Result<()> {
    let all = (0..each).flat_map(|i| tenants.iter().map(move |tenant| (tenant, format!("r{i}"))));
    let created = stream::iter(all).map(|(tenant, name)| async move {
        let mappings = ["a", "b", "c"].map(|key| json!({ "from": "Always", "to": key }));
        tenant.request(&name, json!({ "secrets": mappings })).await
    });
    created.buffer_unordered(AT_A_TIME).try_for_each(|_| async { Ok(()) }).await
}

async fn until_all_ready(tenant: &Tenant<'_>, each: usize) -> Result<()> {
    let api: Api<SecretsDistribution> = tenant.requests();
    let version = api.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
    let mut ready = std::collections::BTreeSet::new();
    while ready.len() < each {
        let event = events.try_next().await?.context("the watch has ended")?;
        let (WatchEvent::Added(request) | WatchEvent::Modified(request)) = event else { continue };
        let status = request.status.unwrap_or_default();
        if condition(&status, "Ready").is_some_and(|ready| ready.status == "True") {
            ready.extend(request.metadata.name.filter(|name| name != "first"));
        }
    }
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
    fn median(&self) -> f64 {
        self.took[self.took.len() / 2].as_secs_f64()
    }
}

impl Table {
    /// Puts the runs of each setting in order.
    pub(super) fn settle(&mut self) {
        self.rows.iter_mut().for_each(|row| row.took.sort_unstable());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let off = self.rows[0].median();
        let head = ["", "MEDIAN", "TO OFF", "FASTEST", "SLOWEST", "SPANS DROPPED", "MEMORY"];
        writeln!(
            f,
            "{} distributions of 3 keys over {NAMESPACES} namespaces, {} runs each",
            self.count,
            self.rows[0].took.len()
        )?;
        let line = |f: &mut fmt::Formatter<'_>, cells: [String; 7]| {
            let [name, rest @ ..] = cells;
            writeln!(f, "{name:<24}{}", rest.map(|cell| format!("{cell:>14}")).concat())
        };
        line(f, head.map(str::to_owned))?;
        for row in &self.rows {
            let seconds =
                |duration: Option<&Duration>| format!("{:.2} s", duration.copied().unwrap_or_default().as_secs_f64());
            let cells = [
                name(row.setting).to_owned(),
                format!("{:.2} s", row.median()),
                format!("{:.3}", row.median() / off),
                seconds(row.took.first()),
                seconds(row.took.last()),
                format!("{}", row.dropped),
                format!("{} MiB", row.memory / 1024),
            ];
            line(f, cells)?;
        }
        Ok(())
    }
}
