//! How long the deletion of a namespace with distributions takes: while the operator runs, while it is down, and where the
//! same objects are and no operator ever was.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::arrivals::Place;
use super::figures::Figures;
use super::ideal::Ideal;
use super::{REST, ask, spec};
use crate::progress::narrated;
use crate::site::{SOON, Site};

/// The operator, while the namespace is deleted.
#[derive(Clone, Copy, Debug)]
enum Operator {
    /// It wrote the Secrets, and runs.
    Runs,
    /// It wrote the Secrets, and was stopped then.
    IsDown,
    /// An ideal client wrote the same Secrets and statuses.
    NeverWas,
}

const ALL: [Operator; 3] = [Operator::Runs, Operator::IsDown, Operator::NeverWas];

/// A ratio that is no difference, as far as runs of the same can tell.
const AT_MOST: f64 = 1.1;

struct Bench {
    site: Site,
    ideal: Ideal,
    count: usize,
}

/// Measures each case once in each round, each round beginning with another one.
pub(super) async fn measure(count: usize, rounds: usize) -> Result<Figures> {
    let bench = narrated("to prepare", Bench::prepare(count)).await?;
    // The first writes and the first deletion meet a control plane that has done nothing yet.
    narrated("to warm up", bench.deletion(Operator::NeverWas)).await?;
    let mut took = ALL.map(|_| Vec::new());
    for round in 0..rounds {
        for place in 0..ALL.len() {
            let at = (place + round) % ALL.len();
            let what = format!("round {} of {rounds}, the operator {:?}", round + 1, ALL[at]);
            took[at].push(narrated(&what, bench.deletion(ALL[at])).await?);
        }
    }
    let [runs, is_down, never_was] = took;
    let mut figures = Figures::default();
    let what = format!("namespace with {count}, until it is gone");
    figures.ratio(format!("{what}: operator at work"), runs, never_was.clone(), AT_MOST);
    figures.ratio(format!("{what}: operator down"), is_down, never_was, AT_MOST);
    Ok(figures)
}

impl Bench {
    async fn prepare(count: usize) -> Result<Self> {
        let site = Site::prepare().await?;
        let policy = json!({
            "namespaces": { "names": ["deletion-*"] },
            "rules": [{ "effect": "Allow", "sources": ["*"] }],
            "rateLimit": { "writes": 100_000, "per": "1s", "burst": 100_000 },
        });
        site.policy("deletion", policy).await?;
        site.start_operator().await?;
        let tenant = site.tenant("deletion").await?;
        tenant.request("sample", spec(&[("Always", "k")])).await?;
        tenant.until_ready("sample").await?;
        let ideal = Ideal::learn(&tenant, "sample").await?;
        tenant.delete_namespace().await?;
        tenant.until_namespace_gone().await?;
        site.terminate_operator(SOON).await?;
        Ok(Self { site, ideal, count })
    }

    /// A namespace with its distributions is made and deleted; answers in how many seconds the latter.
    async fn deletion(&self, operator: Operator) -> Result<f64> {
        let (site, client) = (&self.site, self.site.cluster.client().await?);
        let tenant = site.tenant("deletion").await?;
        let all = (0..self.count).map(|i| (tenant.namespace.clone(), format!("r{i}")));
        let requests = ask(&client, all, &spec(&[("Always", "k")])).await?;
        let place = Place::now(client).await?;
        match operator {
            Operator::NeverWas => drop(self.ideal.distribute(&requests).await?),
            Operator::Runs | Operator::IsDown => {
                tokio::try_join!(site.start_operator(), place.ready(self.count, |_| true))?;
            }
        }
        if let Operator::IsDown = operator {
            site.terminate_operator(SOON).await?;
        }
        tokio::time::sleep(REST).await;
        let begun = Instant::now();
        tenant.delete_namespace().await?;
        tenant.until_namespace_gone().await?;
        let took = begun.elapsed().as_secs_f64();
        if let Operator::Runs = operator {
            site.terminate_operator(SOON).await?;
        }
        tokio::time::sleep(REST).await;
        Ok(took)
    }
}
