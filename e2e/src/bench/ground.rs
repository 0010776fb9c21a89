//! What most is measured on: namespaces that have let the operator in, policies, and an operator that traces all it does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Client;
use secrets_distributor::api::SecretsDistribution;
use serde_json::json;

use super::arrivals::Place;
use super::ideal::Ideal;
use super::{AT_A_TIME, REST, ask, empty, spec};
use crate::collector::{Collector, Mood};
use crate::progress::narrated;
use crate::site::{SOON, Site, Tenant};
use crate::{AuditEntries, Mark, Operator, OperatorConfig, eventually};

/// Sources, and the keys that they become.
const KEYS: [&str; 3] = ["a", "b", "c"];

/// The namespaces that have a policy of their own.
pub(super) const POLICIES: usize = 100;

/// The label of all namespaces.
pub(super) const LABEL: (&str, &str) = ("bench", "ground");

/// A site without requests, whose operator does not run; and the ideal client.
pub(super) struct Ground {
    pub(super) site: Site,
    pub(super) ideal: Ideal,
    namespaces: usize,
}

/// What the operator needed for all that is new.
pub(super) struct Run {
    /// From its start to the last Secret, in seconds.
    pub(super) last: f64,
    /// From its start until all are Ready, in seconds.
    pub(super) ready: f64,
    /// Requests for each.
    pub(super) requests: f64,
    /// Processor time for 1,000, in seconds.
    pub(super) cpu: f64,
    /// The most memory, in MiB.
    pub(super) memory: f64,
}

impl Ground {
    /// With that many namespaces.
    pub(super) async fn prepare(namespaces: usize) -> Result<Self> {
        let collector = Collector::start().await?;
        collector.set(Mood::Works);
        let site = Site::prepare().await?.configured(|config| OperatorConfig {
            log_level: "info".to_owned(),
            arguments: vec!["--rate-limit".to_owned(), "100000/1s".to_owned()],
            environment: vec![("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.endpoint())],
            ..config
        });
        set_sources(&site, 0)?;
        narrated("namespaces, delegations and policies", populate(&site, namespaces)).await?;
        let ideal = narrated("a first distribution", learn(&site)).await?;
        let ground = Self { site, ideal, namespaces };
        ground.empty().await?;
        Ok(ground)
    }

    /// The first writes meet a control plane that has done nothing yet: the ideal client makes as many as that.
    pub(super) async fn warm_up(&self, count: usize) -> Result<()> {
        narrated("to warm up", async {
            self.ideal.distribute(&self.ask(count, self.namespaces).await?).await?;
            self.empty().await
        })
        .await
    }

    /// A new generation of all sources.
    pub(super) fn swap(&self, generation: usize) -> Result<()> {
        set_sources(&self.site, generation)
    }

    /// As many requests, spread over as many namespaces.
    pub(super) async fn ask(&self, count: usize, over: usize) -> Result<Vec<SecretsDistribution>> {
        let all = (0..count).map(|i| (namespace(i % over), format!("r{i}")));
        ask(&self.client().await?, all, &spec_of_all()).await
    }

    /// The operator is started where that many requests are.
    pub(super) async fn distribute(&self, count: usize) -> Result<Run> {
        tokio::time::sleep(REST).await;
        let (place, mark) = (self.place().await?, self.site.mark().await?);
        let begun = Instant::now();
        let (_, secrets, ready) =
            tokio::try_join!(self.site.start_operator(), place.secrets(count), place.ready(count, |_| true))?;
        let calls = self.calls(Operator::USER, mark).await?.only(|call| call.verb != "list");
        Ok(Run {
            last: secrets.share(1.0, begun),
            ready: ready.share(1.0, begun),
            requests: calls.len() as f64 / count as f64,
            cpu: self.site.operator_cpu().await? * 1000.0 / count as f64,
            memory: self.site.operator_peak_memory()? as f64 / 1024.0,
        })
    }

    /// The operator ends; no request and no Secret is left, and the control plane is at rest.
    pub(super) async fn clear(&self) -> Result<()> {
        self.site.terminate_operator(SOON).await?;
        self.empty().await
    }

    /// The same where no operator runs.
    pub(super) async fn empty(&self) -> Result<()> {
        let client = &self.client().await?;
        let emptied = stream::iter(0..self.namespaces).map(|number| async move {
            empty(&Tenant { site: &self.site, namespace: namespace(number), client: client.clone() }).await
        });
        emptied.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await?;
        tokio::time::sleep(REST).await;
        Ok(())
    }

    /// Everything that is written from here on.
    pub(super) async fn place(&self) -> Result<Place> {
        Place::now(self.client().await?).await
    }

    pub(super) async fn client(&self) -> Result<Client> {
        self.site.cluster.client().await
    }

    /// Waits until that user asks for nothing: statuses follow the Secrets.
    pub(super) async fn at_rest(&self, user: &str) -> Result<()> {
        eventually(SOON * 10, "nothing is to do", async || {
            let calls = self.calls_within(REST, user).await?;
            ensure!(calls == 0, "{calls} calls");
            Ok(())
        })
        .await
    }

    /// How much that user asks for in the time that comes.
    pub(super) async fn calls_within(&self, time: Duration, user: &str) -> Result<usize> {
        let mark = self.site.mark().await?;
        tokio::time::sleep(time).await;
        Ok(self.calls(user, mark).await?.len())
    }

    /// What that user has asked of the API server, but for a Lease and watches.
    pub(super) async fn calls(&self, user: &str, mark: Mark) -> Result<AuditEntries> {
        let audit = self.site.cluster.audit().context("figures need an audit log: unset E2E_KUBECONFIG")?;
        Ok(audit.since(mark).await?.user(user).without_leases().only(|call| call.verb != "watch"))
    }
}

pub(super) fn namespace(number: usize) -> String {
    format!("bench-{number}")
}

/// What each request asks for.
pub(super) fn spec_of_all() -> serde_json::Value {
    spec(&KEYS.map(|key| (key, key)))
}

/// 64 bytes for each key, which tell which one and of which generation it is.
pub(super) fn contents(generation: usize) -> [(&'static str, String); 3] {
    KEYS.map(|key| (key, format!("{:64}", format!("{key}-{generation}"))))
}

fn set_sources(site: &Site, generation: usize) -> Result<()> {
    site.sources.set(&contents(generation).each_ref().map(|(key, content)| (*key, content.as_bytes())))
}

async fn populate(site: &Site, namespaces: usize) -> Result<()> {
    let made = stream::iter(0..namespaces).map(|number| async move {
        let tenant = site.named_tenant(&namespace(number), json!({ LABEL.0: LABEL.1 })).await?;
        tenant.delegate().await?;
        if number < POLICIES { tenant.grant(&KEYS).await } else { Ok(()) }
    });
    made.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await
}

/// The operator serves one request, and ends.
async fn learn(site: &Site) -> Result<Ideal> {
    site.start_operator().await?;
    let tenant = site.existing(&namespace(0)).await?;
    tenant.request("sample", spec_of_all()).await?;
    tenant.until_ready("sample").await?;
    let ideal = Ideal::learn(&tenant, "sample").await?;
    site.terminate_operator(SOON).await?;
    Ok(ideal)
}
