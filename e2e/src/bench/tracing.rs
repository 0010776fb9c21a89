//! What tracing costs: the same distributions without it and with it, at the same time.
//!
//! Each of the two has a control plane of its own, on the same machine: whatever slows that down for a moment slows down
//! both. One after the other they differ by a tenth and more from run to run, which is more than what tracing costs.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tokio::sync::Barrier;

use super::arrivals::Place;
use super::{REST, ask, empty, median, spec};
use crate::OperatorConfig;
use crate::collector::{Collector, Mood};
use crate::progress::narrated;
use crate::site::Site;

/// Namespaces that share the distributions of a run.
const NAMESPACES: usize = 10;

const SETTINGS: [Mood; 4] = [Mood::Works, Mood::Refuses, Mood::Hangs, Mood::Fails];

/// The pairs of one setting.
struct Row {
    mood: Mood,
    /// Each beside the one without tracing.
    pairs: Vec<[Run; 2]>,
}

/// All of them.
pub(super) struct Table {
    count: usize,
    rows: Vec<Row>,
}

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

/// Measures so many pairs of each setting. The two halves take turns, so that neither profits from its control plane.
pub(super) async fn measure(count: usize, rounds: usize) -> Result<Table> {
    let collector = Collector::start().await?;
    let (mut one, mut other) = tokio::try_join!(Half::prepare(), Half::prepare())?;
    // The first run meets a control plane that has done nothing yet: it counts for none.
    narrated("to warm up", both(&one, &other, count)).await?;
    let mut rows = SETTINGS.map(|mood| Row { mood, pairs: Vec::new() });
    for round in 0..rounds {
        for row in &mut rows {
            collector.set(row.mood);
            (one, other) = (one.traced(None), other.traced(Some(collector.endpoint())));
            let what = format!("round {} of {rounds}, {}", round + 1, name(row.mood));
            row.pairs.push(narrated(&what, both(&one, &other, count)).await?);
            std::mem::swap(&mut one, &mut other);
        }
        // Else each setting would always have the same half.
        std::mem::swap(&mut one, &mut other);
    }
    Ok(Table { count, rows: rows.into() })
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
    fn cells(&self) -> [String; 8] {
        let of = |half: usize, figure: fn(&Run) -> f64| -> Vec<f64> {
            self.pairs.iter().map(|pair| figure(&pair[half])).collect()
        };
        let ratio = |figure: fn(&Run) -> f64| Ratio::of(&of(1, figure), &of(0, figure)).to_string();
        let [off, on] = [0, 1].map(|half| format!("{:.2} s", median(&of(half, |run| run.took))));
        let memory = [0, 1].map(|half| format!("{:.0}", median(&of(half, |run| run.memory))));
        [
            name(self.mood).to_owned(),
            off,
            on,
            ratio(|run| run.took),
            format!("{:.2} s", median(&of(1, |run| run.worked))),
            ratio(|run| run.worked),
            of(1, |run| run.dropped).iter().sum::<f64>().to_string(),
            format!("{} MiB", memory.join(", ")),
        ]
    }
}

/// The ratios of pairs: their median, and between which of them the true one lies, nineteen times of twenty. Nothing is
/// presumed of how runs differ.
struct Ratio {
    median: f64,
    between: (f64, f64),
}

impl Ratio {
    fn of(these: &[f64], off: &[f64]) -> Self {
        let mut ratios: Vec<_> = these.iter().zip(off).map(|(this, off)| this / off).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let (median, out) = (median(&ratios), outside(ratios.len()));
        let at = |place: usize| ratios.get(place).copied().unwrap_or(f64::NAN);
        Self { median, between: (at(out), at(ratios.len().saturating_sub(1 + out))) }
    }
}

/// How many of so many ratios, sorted, can be left out at each end, so that in 2.5 % of all cases at most the true median
/// is beyond what is left there.
fn outside(count: usize) -> usize {
    // Of so many, exactly this many lie on one side of it.
    let exactly = |few: usize| (0..few).fold(0.5f64.powi(count as i32), |p, k| p * (count - k) as f64 / (k + 1) as f64);
    let mut chance = 0.0;
    let too_many = (0..count / 2).find(|few| {
        chance += exactly(*few);
        chance > 0.025
    });
    too_many.unwrap_or_default().saturating_sub(1)
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ({:.2}-{:.2})", self.median, self.between.0, self.between.1)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.rows.first().map_or(0, |row| row.pairs.len());
        writeln!(
            f,
            "{} distributions of 3 keys over {NAMESPACES} namespaces, {pairs} pairs each, without and with traces at once;",
            self.count
        )?;
        writeln!(f, "ratios are medians of those of the pairs, with the range that holds the true one (95 %)")?;
        let head = ["", "OFF", "ON", "ON TO OFF", "CPU", "ON TO OFF", "LOST SPANS", "MEMORY"].map(str::to_owned);
        for [name, rest @ ..] in [head].into_iter().chain(self.rows.iter().map(Row::cells)) {
            let [off, on, ratio, cpu, of_cpu, lost, memory] = rest;
            writeln!(f, "{name:<24}{off:>9}{on:>9}{ratio:>20}{cpu:>9}{of_cpu:>20}{lost:>12}{memory:>14}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::outside;

    #[test]
    fn the_interval_of_a_median_is_the_one_of_the_tables() {
        // Of 10 the 2nd to the 9th, of 20 the 6th to the 15th, of 25 the 8th to the 18th.
        assert_eq!([5, 10, 20, 25].map(outside), [0, 1, 5, 7]);
    }
}
