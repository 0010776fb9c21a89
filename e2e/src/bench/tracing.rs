//! What tracing costs: the same distributions without it and with it, at the same time.
//!
//! Each of the two has a control plane of its own, on the same machine: whatever slows that down for a moment slows down
//! both. One after the other they differ by a tenth and more from run to run, which is more than what tracing costs.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::sync::Barrier;

use super::arrivals::Place;
use super::figures::Figures;
use super::{REST, ask, empty, spec};
use crate::OperatorConfig;
use crate::collector::{Collector, Mood};
use crate::progress::narrated;
use crate::site::Site;

/// Namespaces that share the distributions of a run.
const NAMESPACES: usize = 10;

/// The pairs with one collector.
struct Row {
    mood: Mood,
    /// Each beside the one without tracing.
    pairs: Vec<[Run; 2]>,
}

/// The most that tracing may cost, as ratios to none: in time, and in processor time.
const AT_MOST: (f64, f64) = (1.1, 1.25);

/// What a run needed.
struct Run {
    /// From the first request until so many were Ready, in seconds.
    took: f64,
    /// Processor time of the operator, in seconds.
    worked: f64,
    /// Spans.
    dropped: f64,
    /// In MiB.
    memory: f64,
}

/// A control plane with an operator.
struct Half {
    site: Site,
    namespaces: Vec<String>,
}

/// Measures so many pairs with each collector. The two halves take turns, so that neither profits from its control plane.
pub(super) async fn measure(count: usize, rounds: usize, moods: &[Mood]) -> Result<Figures> {
    let collector = Collector::start().await?;
    let (mut one, mut other) = tokio::try_join!(Half::prepare(), Half::prepare())?;
    // The first run meets a control plane that has done nothing yet: it counts for none.
    narrated("to warm up", both(&one, &other, count)).await?;
    let mut rows: Vec<_> = moods.iter().map(|mood| Row { mood: *mood, pairs: Vec::new() }).collect();
    for round in 0..rounds {
        for row in &mut rows {
            collector.set(row.mood);
            (one, other) = (one.traced(None), other.traced(Some(collector.endpoint())));
            let what = format!("round {} of {rounds}, {}", round + 1, name(row.mood));
            row.pairs.push(narrated(&what, both(&one, &other, count)).await?);
            std::mem::swap(&mut one, &mut other);
        }
        // Else, if there is an even number of collectors, each would always have the same half.
        if rows.len() % 2 == 0 {
            std::mem::swap(&mut one, &mut other);
        }
    }
    Ok(figures(count, &rows))
}

async fn both(one: &Half, other: &Half, count: usize) -> Result<[Run; 2]> {
    let gate = Barrier::new(2);
    let (one, other) = tokio::try_join!(one.run(count, &gate), other.run(count, &gate))?;
    Ok([one, other])
}

impl Half {
    async fn prepare() -> Result<Self> {
        let site = Site::prepare().await?;
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
        let site = site.configured(|config| OperatorConfig { log_level: "info".to_owned(), ..config });
        // Two that start at once are slow to take up the kinds, and end the watches of before.
        tokio::time::sleep(REST).await;
        Ok(Self { site, namespaces })
    }

    /// With traces for whom listens there, or without any.
    fn traced(mut self, endpoint: Option<String>) -> Self {
        let environment = endpoint.map(|endpoint| ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint));
        self.site =
            self.site.configured(|config| OperatorConfig { environment: environment.into_iter().collect(), ..config });
        self
    }

    /// From the first request until so many are Ready. There are more, so that who is faster goes on to take its share of
    /// the machine.
    async fn run(&self, count: usize, gate: &Barrier) -> Result<Run> {
        self.site.start_operator().await?;
        let mut tenants = Vec::new();
        for name in &self.namespaces {
            tenants.push(self.site.existing_tenant(name).await?);
        }
        // Once one was written into each, the delegations are known.
        for tenant in &tenants {
            tenant.request("first", json!({ "secrets": [{ "from": "Always", "to": "k" }] })).await?;
            tenant.until_ready("first").await?;
        }
        let all = count + count * 3 / 10;
        let named = (0..all).map(|i| (self.namespaces[i % NAMESPACES].clone(), format!("r{i}")));
        let spec = spec(&["a", "b", "c"].map(|key| ("Always", key)));
        let client = self.site.cluster.client().await?;
        let (place, before) = (Place::now(client.clone()).await?, self.site.operator_cpu().await?);
        gate.wait().await;
        let begun = Instant::now();
        let (_, ready) = tokio::try_join!(ask(&client, named, &spec), place.ready(all, |name| name != "first"))?;
        gate.wait().await;
        let run = Run {
            took: ready.share(count as f64 / all as f64, begun),
            worked: self.site.operator_cpu().await? - before,
            memory: self.site.operator_memory()? as f64 / 1024.0,
            dropped: self.site.scrape().await?.sum("secrets_distributor_spans_dropped_total", &[]).unwrap_or_default(),
        };
        self.site.terminate_operator(Duration::from_secs(10)).await?;
        for tenant in &tenants {
            empty(tenant).await?;
        }
        tokio::time::sleep(REST).await;
        Ok(run)
    }
}

fn name(mood: Mood) -> &'static str {
    match mood {
        Mood::Works => "collector works",
        Mood::Refuses => "collector refuses",
        Mood::Hangs => "collector hangs",
        Mood::Fails => "collector answers 500",
        Mood::TalksNonsense => "collector talks nonsense",
    }
}

impl Row {
    /// A figure of the runs without traces (0), or with them (1).
    fn of(&self, half: usize, figure: fn(&Run) -> f64) -> Vec<f64> {
        self.pairs.iter().map(|pair| figure(&pair[half])).collect()
    }
}

fn figures(count: usize, rows: &[Row]) -> Figures {
    let mut figures = Figures::default();
    let off: Vec<_> = rows.iter().flat_map(|row| row.of(0, |run| run.memory)).collect();
    figures.add(format!("{count} new, tracing off: memory"), off, "MiB", None);
    for row in rows {
        let what = |figure| format!("{count} new, {}: {figure}", name(row.mood));
        let [off, on] = [0, 1].map(|half| row.of(half, |run| run.took));
        figures.ratio(what("time"), on, off, AT_MOST.0);
        let [off, on] = [0, 1].map(|half| row.of(half, |run| run.worked));
        figures.ratio(what("processor time"), on, off, AT_MOST.1);
        figures.add(what("memory"), row.of(1, |run| run.memory), "MiB", None);
        figures.add(what("lost spans"), row.of(1, |run| run.dropped), "spans", None);
    }
    figures
}
