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

/// The ratios within each round, their median, and between which of them the true one lies, nineteen times of twenty: runs
/// differ by more than what is measured, some of them by far, and in no known way.
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
        let (off, count) = (&self.rows[0], self.count);
        writeln!(f, "{count} distributions of 3 keys over {NAMESPACES} namespaces, {} runs each;", off.took.len())?;
        writeln!(f, "ratios are medians of those within a round, with the range that holds the true one (95 %)")?;
        let head = ["", "MEDIAN", "RANGE", "TO OFF", "CPU", "TO OFF", "LOST SPANS", "MEMORY"].map(str::to_owned);
        for [name, rest @ ..] in [head].into_iter().chain(self.rows.iter().map(|row| row.cells(off))) {
            writeln!(f, "{name:<24}{}", rest.map(|cell| format!("{cell:>18}")).concat())?;
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
