//! Many distributions at once: all new, nothing to do, and all found again after a restart. The new ones are measured
//! against an ideal client that does the same writes on the same control plane, and beside a reference operator.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::REST;
use super::figures::Figures;
use super::ground::{Ground, Run, namespace, spec_of_all};
use super::runs::Runs;
use crate::kopf::Reference;
use crate::measure::{peak_memory, processor_time};
use crate::progress::narrated;
use crate::site::SOON;
use crate::{AuditEntry, Operator};

/// Namespaces that share the distributions, each with a policy of its own.
const NAMESPACES: usize = 100;

/// The goals for the most memory, in MiB, by the number of distributions.
const MEMORY: [(usize, f64); 3] = [(1000, 30.0), (5000, 60.0), (10_000, 90.0)];

/// For the reference operator to write all.
const REFERENCE_WITHIN: Duration = Duration::from_secs(280);

/// For how long the reference operator may notice a rotation.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

struct Bench {
    ground: Ground,
    /// It needs Python, and may not be there.
    reference: Option<Reference>,
    figures: Figures,
}

/// How long so many took, in seconds.
struct Size {
    count: usize,
    /// Until all were Ready.
    ready: Runs,
    /// The ideal client.
    floor: Runs,
}

/// Measures with each of these numbers of distributions of three keys. `rounds`: how often they are distributed anew;
/// `steady`: for how long nothing is to do, with the first of the numbers.
pub(super) async fn measure(counts: &[usize], rounds: usize, steady: Duration) -> Result<Figures> {
    let ground = Ground::prepare(NAMESPACES).await?;
    let reference = Reference::install(&ground.site.cluster).await;
    let reference = reference.map_err(|why| eprintln!("NOT RUN: the reference operator, which needs Python: {why:#}"));
    ground.warm_up(counts.first().copied().unwrap_or_default()).await?;
    let mut bench = Bench { ground, reference: reference.ok(), figures: Figures::default() };
    let mut before: Option<Size> = None;
    for (at, count) in counts.iter().copied().enumerate() {
        let size = bench.all_new(count, rounds).await?;
        if at == 0 {
            narrated("steady state", bench.rest(count, steady)).await?;
        }
        narrated("restart", bench.restart(count)).await?;
        bench.ground.clear().await?;
        narrated(&format!("{count} distributions: reference operator"), bench.reference(&size)).await?;
        if let Some(before) = before {
            bench.tell_growth(&before, &size);
        }
        before = Some(size);
    }
    Ok(bench.figures)
}

/// The most that more of them may take as many times as long: a tenth more than there are more of them.
fn most_growth(from: usize, to: usize) -> f64 {
    to as f64 / from as f64 * 1.1
}

impl Bench {
    /// In the end the operator runs.
    async fn all_new(&mut self, count: usize, rounds: usize) -> Result<Size> {
        let (mut floors, mut runs) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            let what = format!("{count} distributions, round {round} of {rounds}");
            floors.push(narrated(&format!("{what}: ideal client"), self.floor(count)).await?);
            self.ground.empty().await?;
            self.ground.ask(count, NAMESPACES).await?;
            runs.push(narrated(&format!("{what}: operator"), self.ground.distribute(count)).await?);
            if round < rounds {
                self.ground.clear().await?;
            }
        }
        Ok(self.tell(count, &runs, floors.into()))
    }

    /// The ideal client distributes, and is watched as the operator is.
    async fn floor(&self, count: usize) -> Result<f64> {
        let requests = self.ground.ask(count, NAMESPACES).await?;
        tokio::time::sleep(REST).await;
        let place = self.ground.place().await?;
        let watched = async { tokio::try_join!(place.secrets(count), place.ready(count, |_| true)) };
        let (distributed, _) = tokio::try_join!(self.ground.ideal.distribute(&requests), watched)?;
        Ok(distributed)
    }

    fn tell(&mut self, count: usize, runs: &[Run], floor: Runs) -> Size {
        let of = |figure: fn(&Run) -> f64| runs.iter().map(figure).collect::<Vec<_>>();
        let (figures, ready) = (&mut self.figures, Runs::from(of(|run| run.ready)));
        let memory = MEMORY.into_iter().find(|(size, _)| count <= *size).map(|(_, most)| most);
        figures.add(format!("{count} new: requests for each"), of(|run| run.requests), "", Some(2.05));
        figures.add(format!("{count} new: processor time for 1,000"), of(|run| run.cpu), "s", Some(1.0));
        figures.add(format!("{count} new: most memory"), of(|run| run.memory), "MiB", memory);
        figures.ratio(format!("{count} new, until the last Secret"), of(|run| run.last), floor.clone(), 1.25);
        figures.ratio(format!("{count} new, until all are Ready"), ready.clone(), floor.clone(), 1.5);
        Size { count, ready, floor }
    }

    fn tell_growth(&mut self, from: &Size, to: &Size) {
        let what = format!("{} new, all Ready, to {} new", to.count, from.count);
        self.figures.add(what, to.ready.ratios(&from.ready), "x", Some(most_growth(from.count, to.count)));
    }

    /// Nothing is to do: what it costs nevertheless.
    async fn rest(&mut self, count: usize, steady: Duration) -> Result<()> {
        let ground = &self.ground;
        ground.at_rest(Operator::USER).await?;
        let before = ground.site.operator_cpu().await?;
        let calls = ground.calls_within(steady, Operator::USER).await?;
        let cpu = ground.site.operator_cpu().await? - before;
        let (minutes, memory) = (steady.as_secs_f64() / 60.0, ground.site.operator_memory()? as f64 / 1024.0);
        let what = format!("nothing to do with {count}");
        self.figures.add(format!("{what}: requests in a minute"), calls as f64 / minutes, "", Some(0.0));
        self.figures.add(format!("{what}: processor time in a minute"), cpu / minutes, "s", Some(0.1));
        self.figures.add(format!("{what}: memory"), memory, "MiB", None);
        Ok(())
    }

    async fn restart(&mut self, count: usize) -> Result<()> {
        let site = &self.ground.site;
        self.ground.at_rest(Operator::USER).await?;
        site.terminate_operator(SOON).await?;
        let (mark, begun) = (site.mark().await?, Instant::now());
        site.start_operator().await?;
        let ready = begun.elapsed().as_secs_f64();
        let tenant = site.existing(&namespace(0)).await?;
        // The queue is first in, first out: once this one is done, all have been looked at.
        tenant.request("last", spec_of_all()).await?;
        tenant.until_ready("last").await?;
        let calls = self.ground.calls(Operator::USER, mark).await?;
        // That of the request itself, and of the policy that counts it.
        let (secrets, policy) = (format!("/{}/secrets", namespace(0)), format!("/{}/status", namespace(0)));
        let own = |path: &str| path.contains("/last") || path.ends_with(&secrets) || path.ends_with(&policy);
        let writes = calls.clone().writes().only(|call| !own(call.request_uri.split('?').next().unwrap_or_default()));
        let reads = calls.only(|call| call.verb == "get" && call.object_ref.resource == "secrets");
        self.figures.add(format!("restart with {count}: until it is ready"), ready, "s", Some(2.0));
        self.figures.add(format!("restart with {count}: writes"), writes.len() as f64, "", Some(0.0));
        self.figures.add(format!("restart with {count}: Secrets read"), reads.len() as f64, "", Some(0.0));
        Ok(())
    }

    /// The same by the reference operator, if it is there: new ones, and a rotation.
    async fn reference(&mut self, size: &Size) -> Result<()> {
        let (Some(reference), ground, count) = (&self.reference, &self.ground, size.count) else { return Ok(()) };
        ground.ask(count, NAMESPACES).await?;
        tokio::time::sleep(REST).await;
        let (place, mark) = (ground.place().await?, ground.site.mark().await?);
        let begun = Instant::now();
        let mut process = reference.start(ground.site.sources.mount().path())?;
        let secrets = tokio::select! {
            secrets = place.secrets_labelled(Reference::LABEL, count) => secrets?,
            ended = process.wait(REFERENCE_WITHIN) => {
                if ended?.is_some() {
                    bail!("the reference operator has ended:\n{}", process.log_tail(20));
                }
                // That it is too slow is no reason to lose what was measured of the operator.
                eprintln!("NOT RUN: the reference operator with {count}, which takes more than {REFERENCE_WITHIN:?}");
                process.kill()?;
                return ground.empty().await;
            }
        };
        // It marks each request that it has handled.
        ground.at_rest(Reference::USER).await?;
        // What it asks for when it starts is not for each.
        let of_one = |call: &AuditEntry| call.is_write() || call.object_ref.resource == "secrets";
        let calls = ground.calls(Reference::USER, mark).await?.only(of_one);
        let cpu = processor_time(process.id())? * 1000.0 / count as f64;
        let memory = peak_memory(process.id())? as f64 / 1024.0;

        ground.swap(1)?;
        let noticed = ground.calls_within(NOTICED_WITHIN, Reference::USER).await?;
        ground.swap(0)?;
        process.kill()?;
        let (what, figures) = (format!("{count} new, reference on kopf"), &mut self.figures);
        figures.add(format!("{what}: requests for each"), calls.len() as f64 / count as f64, "", None);
        figures.add(format!("{what}: processor time for 1,000"), cpu, "s", None);
        figures.add(format!("{what}: most memory"), memory, "MiB", None);
        figures.beside(format!("{what}, until the last Secret"), secrets.share(1.0, begun), size.floor.clone());
        // It never writes a rotated source: it does not look at sources until a request changes, or it is started again.
        let what = format!("rotation of {count}, reference on kopf: requests in {} s", NOTICED_WITHIN.as_secs());
        figures.add(what, noticed as f64, "", None);
        ground.empty().await
    }
}

#[cfg(test)]
mod tests {
    use super::most_growth;

    #[test]
    fn five_times_as_many_may_take_five_and_a_half_times_as_long() {
        assert!((most_growth(1000, 5000) - 5.5).abs() < 1e-9);
    }
}
