//! Many distributions at once: all new, all rotated, nothing to do, and all found again after a restart. Each is
//! measured against an ideal client that does the same writes on the same control plane.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use secrets_distributor::api::SecretsDistribution;
use serde_json::json;

use super::arrivals::Place;
use super::figures::Figures;
use super::ideal::Ideal;
use super::runs::Runs;
use super::{AT_A_TIME, REST, ask, empty};
use crate::collector::{Collector, Mood};
use crate::progress::narrated;
use crate::site::{SOON, Site};
use crate::{AuditEntries, Operator, OperatorConfig, eventually};

/// Namespaces that share the distributions, each with a policy of its own.
const NAMESPACES: usize = 100;

/// Sources, and the keys that they become.
const KEYS: [&str; 3] = ["a", "b", "c"];

/// 64 bytes for each, which tell which one and of which generation it is.
fn contents(generation: usize) -> [(&'static str, String); 3] {
    KEYS.map(|key| (key, format!("{:64}", format!("{key}-{generation}"))))
}

struct Bench {
    site: Site,
    ideal: Ideal,
    count: usize,
    figures: Figures,
}

/// What the operator needed for all that is new.
struct Run {
    /// From its start to the last Secret, in seconds.
    last: f64,
    /// From its start until all are Ready, in seconds.
    ready: f64,
    /// Requests for each.
    requests: f64,
    /// Processor time for 1,000, in seconds.
    cpu: f64,
    /// The most memory, in MiB.
    memory: f64,
}

/// Measures with that many distributions of three keys. `rounds`: how often the first of the measurements is made;
/// `steady`: for how long nothing is to do.
pub(super) async fn measure(count: usize, rounds: usize, steady: Duration) -> Result<Figures> {
    let mut bench = Bench::prepare(count).await?;
    let (mut floors, mut rotations, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let what = format!("{count} distributions, round {round} of {rounds}");
        let (floor, rotation) = narrated(&format!("{what}: ideal client"), bench.floor()).await?;
        floors.push(floor);
        rotations.push(rotation);
        bench.empty().await?;
        bench.ask().await?;
        runs.push(narrated(&format!("{what}: operator"), bench.distribute()).await?);
        if round < rounds {
            bench.site.terminate_operator(SOON).await?;
            bench.empty().await?;
        }
    }
    bench.tell(&runs, &floors);
    narrated("rotation", bench.rotate(rotations.into())).await?;
    narrated("steady state", bench.rest(steady)).await?;
    narrated("restart", bench.restart()).await?;
    Ok(bench.figures)
}

impl Bench {
    async fn prepare(count: usize) -> Result<Self> {
        let collector = Collector::start().await?;
        collector.set(Mood::Works);
        let site = Site::prepare().await?.configured(|config| OperatorConfig {
            log_level: "info".to_owned(),
            arguments: vec!["--rate-limit".to_owned(), "100000/1s".to_owned()],
            environment: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint())],
            ..config
        });
        set_sources(&site, 0)?;
        narrated("namespaces, delegations and policies", populate(&site)).await?;
        site.start_operator().await?;
        let tenant = site.existing(&namespace(0)).await?;
        tenant.request("sample", spec()).await?;
        tenant.until_ready("sample").await?;
        let ideal = Ideal::learn(&tenant, "sample").await?;
        site.terminate_operator(SOON).await?;
        let bench = Self { site, ideal, count, figures: Figures::default() };
        bench.empty().await?;
        // The first writes meet a control plane that has done nothing yet.
        narrated("to warm up", bench.floor()).await?;
        bench.empty().await?;
        Ok(bench)
    }

    /// The ideal client distributes, and rotates.
    async fn floor(&self) -> Result<(f64, f64)> {
        let requests = self.ask().await?;
        tokio::time::sleep(REST).await;
        let place = Place::now(self.site.cluster.client().await?).await?;
        let watched = async { tokio::try_join!(place.secrets(self.count), place.ready(self.count, |_| true)) };
        let (distributed, _) = tokio::try_join!(self.ideal.distribute(&requests), watched)?;
        let rotated = json!(BTreeMap::from(contents(1)));
        Ok((distributed, self.ideal.rotate(&requests, rotated).await?))
    }

    /// As many requests as there shall be.
    async fn ask(&self) -> Result<Vec<SecretsDistribution>> {
        let all = (0..self.count).map(|i| (namespace(i % NAMESPACES), format!("r{i}")));
        ask(&self.site.cluster.client().await?, all, &spec()).await
    }

    /// No request and no Secret is left, and the control plane is at rest.
    async fn empty(&self) -> Result<()> {
        for number in 0..NAMESPACES {
            empty(&self.site.existing(&namespace(number)).await?).await?;
        }
        tokio::time::sleep(REST).await;
        Ok(())
    }

    /// The operator is started where all requests are there.
    async fn distribute(&self) -> Result<Run> {
        tokio::time::sleep(REST).await;
        let (place, mark) = (Place::now(self.site.cluster.client().await?).await?, self.site.mark().await?);
        let begun = Instant::now();
        let (_, secrets, ready) =
            tokio::try_join!(self.site.start_operator(), place.secrets(self.count), place.ready(self.count, |_| true))?;
        let calls = self.calls(mark).await?.only(|call| call.verb != "list");
        Ok(Run {
            last: secrets.share(1.0, begun),
            ready: ready.share(1.0, begun),
            requests: calls.len() as f64 / self.count as f64,
            cpu: self.site.operator_cpu().await? * 1000.0 / self.count as f64,
            memory: self.site.operator_peak_memory()? as f64 / 1024.0,
        })
    }

    fn tell(&mut self, runs: &[Run], floors: &[f64]) {
        let of = |figure: fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<_>>();
        let (count, figures) = (self.count, &mut self.figures);
        figures.add(format!("{count} new: requests for each"), of(|run| run.requests), "", Some(2.05));
        figures.add(format!("{count} new: processor time for 1,000"), of(|run| run.cpu), "s", Some(1.0));
        let most = [(1000, 30.0), (5000, 60.0), (10_000, 90.0)].into_iter().find(|(size, _)| count <= *size);
        let most = most.map(|(_, most)| most);
        figures.add(format!("{count} new: most memory"), of(|run| run.memory), "MiB", most);
        figures.ratio(format!("{count} new, until the last Secret"), of(|run| run.last), floors.to_vec(), 1.25);
        figures.ratio(format!("{count} new, until all are Ready"), of(|run| run.ready), floors.to_vec(), 1.5);
    }

    async fn rotate(&mut self, floor: Runs) -> Result<()> {
        tokio::time::sleep(REST).await;
        let place = Place::now(self.site.cluster.client().await?).await?;
        let (swapped, secrets) = tokio::try_join!(
            async {
                // The watch is open by then.
                tokio::time::sleep(Duration::from_millis(500)).await;
                set_sources(&self.site, 1)?;
                anyhow::Ok(Instant::now())
            },
            place.secrets(self.count)
        )?;
        self.figures.add(
            format!("rotation of {}: first Secret", self.count),
            secrets.share(0.0, swapped),
            "s",
            Some(0.25),
        );
        self.figures.add(format!("rotation of {}: half of them", self.count), secrets.share(0.5, swapped), "s", None);
        self.figures.ratio(
            format!("rotation of {}: 99 %", self.count),
            secrets.share(0.99, swapped),
            floor.clone(),
            1.5,
        );
        self.figures.ratio(format!("rotation of {}: last Secret", self.count), secrets.share(1.0, swapped), floor, 1.5);
        Ok(())
    }

    /// Nothing is to do: what it costs nevertheless.
    async fn rest(&mut self, steady: Duration) -> Result<()> {
        // Statuses follow the Secrets.
        eventually(SOON * 10, "nothing is to do", async || {
            let mark = self.site.mark().await?;
            tokio::time::sleep(REST).await;
            let calls = self.calls(mark).await?;
            anyhow::ensure!(calls.is_empty(), "{} calls", calls.len());
            Ok(())
        })
        .await?;
        let (mark, before) = (self.site.mark().await?, self.site.operator_cpu().await?);
        tokio::time::sleep(steady).await;
        let minutes = steady.as_secs_f64() / 60.0;
        let (calls, cpu) = (self.calls(mark).await?, self.site.operator_cpu().await? - before);
        let what = format!("nothing to do with {}", self.count);
        self.figures.add(format!("{what}: requests in a minute"), calls.len() as f64 / minutes, "", Some(0.0));
        self.figures.add(format!("{what}: processor time in a minute"), cpu / minutes, "s", Some(0.1));
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        self.site.terminate_operator(SOON).await?;
        let (mark, begun) = (self.site.mark().await?, Instant::now());
        self.site.start_operator().await?;
        let ready = begun.elapsed().as_secs_f64();
        let tenant = self.site.existing(&namespace(0)).await?;
        // The queue is first in, first out: once this one is done, all have been looked at.
        tenant.request("last", spec()).await?;
        tenant.until_ready("last").await?;
        let calls = self.calls(mark).await?;
        let own = |path: &str| path.contains("/last") || path.ends_with(&format!("/{}/secrets", namespace(0)));
        let writes = calls.clone().writes().only(|call| !own(call.request_uri.split('?').next().unwrap_or_default()));
        let reads = calls.only(|call| call.verb == "get" && call.object_ref.resource == "secrets");
        self.figures.add(format!("restart with {}: until it is ready", self.count), ready, "s", Some(2.0));
        self.figures.add(format!("restart with {}: writes", self.count), writes.len() as f64, "", Some(0.0));
        self.figures.add(format!("restart with {}: Secrets read", self.count), reads.len() as f64, "", Some(0.0));
        Ok(())
    }

    /// What the operator has asked of the API server, but for its Lease and its watches.
    async fn calls(&self, mark: crate::Mark) -> Result<AuditEntries> {
        let audit = self.site.cluster.audit().context("figures need an audit log: unset E2E_KUBECONFIG")?;
        let calls = audit.since(mark).await?.user(Operator::USER).without_leases();
        Ok(calls.only(|call| call.verb != "watch"))
    }
}

fn namespace(number: usize) -> String {
    format!("mass-{number}")
}

fn spec() -> serde_json::Value {
    super::spec(&KEYS.map(|key| (key, key)))
}

fn set_sources(site: &Site, generation: usize) -> Result<()> {
    site.sources.set(&contents(generation).each_ref().map(|(key, content)| (*key, content.as_bytes())))
}

async fn populate(site: &Site) -> Result<()> {
    let made = stream::iter(0..NAMESPACES).map(|number| async move {
        let tenant = site.named_tenant(&namespace(number), json!({})).await?;
        tenant.delegate().await?;
        tenant.grant(&KEYS).await
    });
    made.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await
}
