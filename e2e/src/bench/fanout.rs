//! One Secret for many namespaces: by one request that selects all of them, and by many that name some each; against an
//! ideal client that writes the same Secrets and no status. And what it costs to watch that many namespaces.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::figures::Figures;
use super::ground::{Ground, LABEL, namespace, spec_of_all};
use super::{AT_A_TIME, ask};
use crate::progress::narrated;
use crate::site::SOON;
use crate::{Operator, eventually};

/// Namespaces that each of many requests names.
const NAMED: usize = 10;

/// Of each request, and of its Secrets.
const NAME: &str = "fanout";

struct Bench {
    ground: Ground,
    namespaces: usize,
}

/// Measures with that many namespaces. `steady`: for how long nothing is to do.
pub(super) async fn measure(namespaces: usize, rounds: usize, steady: Duration) -> Result<Figures> {
    ensure!(namespaces.is_multiple_of(NAMED), "the namespaces are shared by requests that name {NAMED} each");
    let bench = Bench { ground: Ground::prepare(namespaces).await?, namespaces };
    bench.ground.site.policy(NAME, policy()).await?;
    let mut figures = Figures::default();
    narrated("at rest", bench.rest(steady, &mut figures)).await?;
    // The first writes meet a control plane that has done nothing yet.
    narrated("to warm up", bench.floor()).await?;
    let (mut floors, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let what = format!("round {round} of {rounds}");
        floors.push(narrated(&format!("{what}: ideal client"), bench.floor()).await?);
        one.push(narrated(&format!("{what}: one request"), bench.distribute(vec![by_label()])).await?);
        many.push(narrated(&format!("{what}: many requests"), bench.distribute(by_name(namespaces))).await?);
    }
    for (requests, took) in [(1, one), (namespaces / NAMED, many)] {
        let what = format!("{requests} to {namespaces} namespaces: last Secret");
        figures.ratio(what, took, floors.clone(), 1.5);
    }
    Ok(figures)
}

impl Bench {
    /// Each namespace is watched by itself.
    async fn rest(&self, steady: Duration, figures: &mut Figures) -> Result<()> {
        let site = &self.ground.site;
        self.start().await?;
        let before = site.operator_cpu().await?;
        let calls = self.ground.calls_within(steady, Operator::USER).await?;
        let cpu = site.operator_cpu().await? - before;
        let (watches, memory) = (site.open_watches("secrets").await?, site.operator_memory()? as f64 / 1024.0);
        site.terminate_operator(SOON).await?;
        let (minutes, what) = (steady.as_secs_f64() / 60.0, format!("nothing to do in {} namespaces", self.namespaces));
        figures.add(format!("{what}: open watches"), watches as f64, "", Some(self.namespaces as f64));
        figures.add(format!("{what}: memory"), memory, "MiB", None);
        figures.add(format!("{what}: processor time in a minute"), cpu / minutes, "s", None);
        figures.add(format!("{what}: requests in a minute"), calls as f64 / minutes, "", Some(0.0));
        Ok(())
    }

    /// The operator runs, watches all namespaces, and has nothing to do.
    async fn start(&self) -> Result<()> {
        self.ground.site.start_operator().await?;
        eventually(SOON * 3, "all namespaces are watched", async || {
            let open = self.ground.site.open_watches("secrets").await?;
            ensure!(open == self.namespaces, "{open} watches are open");
            Ok(())
        })
        .await?;
        self.ground.at_rest(Operator::USER).await
    }

    /// The ideal client writes the Secrets.
    async fn floor(&self) -> Result<f64> {
        let namespaces: Vec<_> = (0..self.namespaces).map(namespace).collect();
        let took = self.ground.ideal.fan_out(&namespaces, NAME).await?;
        self.ground.empty().await?;
        Ok(took)
    }

    /// From the first request to the last Secret, in seconds.
    async fn distribute(&self, specs: Vec<Value>) -> Result<f64> {
        self.start().await?;
        let (client, place) = (&self.ground.client().await?, self.ground.place().await?);
        let requests = stream::iter(specs.iter().enumerate()).map(|(number, spec)| async move {
            ask(client, [(namespace(number), NAME.to_owned())], spec).await.map(drop)
        });
        let begun = Instant::now();
        let requests = requests.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) });
        let ((), secrets) = tokio::try_join!(requests, place.secrets(self.namespaces))?;
        let took = secrets.share(1.0, begun);
        self.ground.at_rest(Operator::USER).await?;
        self.ground.clear().await?;
        Ok(took)
    }
}

/// All namespaces may receive everything from each of them.
fn policy() -> Value {
    let all = json!({ "names": ["bench-*"] });
    json!({ "namespaces": all, "rules": [{ "effect": "Allow", "sources": ["*"], "requestedFrom": all }] })
}

/// A request for all: it cannot name so many.
fn by_label() -> Value {
    let mut spec = spec_of_all();
    spec["namespaceSelector"] = json!({ "matchLabels": { LABEL.0: LABEL.1 } });
    spec
}

/// Requests that name all of them, each a part.
fn by_name(namespaces: usize) -> Vec<Value> {
    let parts = (0..namespaces / NAMED).map(|part| (part * NAMED..(part + 1) * NAMED).map(namespace));
    let spec = |names: Vec<String>| {
        let mut spec = spec_of_all();
        spec["namespaces"] = json!(names);
        spec
    };
    parts.map(|names| spec(names.collect())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_namespace_is_named_by_one_request() {
        let specs = by_name(1000);
        let named: Vec<_> = specs.iter().flat_map(|spec| spec["namespaces"].as_array().unwrap()).collect();
        assert_eq!((specs.len(), named.len()), (100, 1000));
        assert_eq!(named.iter().map(|name| name.as_str().unwrap()).collect::<BTreeSet<_>>().len(), 1000);
    }
}
