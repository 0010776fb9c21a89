//! A source changes: how long until the Secrets that are made of it have the new content, against an ideal client that
//! writes the same.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use super::REST;
use super::figures::Figures;
use super::ground::{Ground, POLICIES, contents};
use super::runs::Runs;
use crate::Operator;
use crate::progress::narrated;
use crate::site::SOON;

/// For how long the operator is looked at before anything changes: whether it asks the API server time and again.
const POLLED: Duration = Duration::from_secs(10);

/// What the first Secret may take, in seconds.
const FIRST: f64 = 0.25;

struct Bench {
    ground: Ground,
    /// Of the sources.
    generation: usize,
    figures: Figures,
}

/// From the swap, in seconds.
struct Swap {
    first: f64,
    half: f64,
    most: f64,
    last: f64,
    /// Requests for each Secret.
    requests: f64,
}

/// Measures with a source that is used by each of these numbers of Secrets.
pub(super) async fn measure(counts: &[usize], rounds: usize) -> Result<Figures> {
    let ground = Ground::prepare(POLICIES).await?;
    ground.warm_up(counts.iter().copied().min_by_key(|count| count.abs_diff(1000)).unwrap_or_default()).await?;
    let mut bench = Bench { ground, generation: 0, figures: Figures::default() };
    for count in counts {
        narrated(&format!("rotation of {count}"), bench.of(*count, rounds)).await?;
    }
    Ok(bench.figures)
}

impl Bench {
    async fn of(&mut self, count: usize, rounds: usize) -> Result<()> {
        let requests = self.ground.ask(count, POLICIES).await?;
        self.ground.distribute(count).await?;
        self.ground.at_rest(Operator::USER).await?;
        let polled = self.ground.calls_within(POLLED, Operator::USER).await?;
        let (mut swaps, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            swaps.push(self.swap(count).await?);
        }
        self.ground.site.terminate_operator(SOON).await?;
        for _ in 0..rounds {
            tokio::time::sleep(REST).await;
            self.generation += 1;
            let rotated = json!(BTreeMap::from(contents(self.generation)));
            floors.push(self.ground.ideal.rotate(&requests, &rotated).await?);
        }
        self.tell(count, polled, &swaps, &floors.into());
        self.ground.empty().await
    }

    async fn swap(&mut self, count: usize) -> Result<Swap> {
        self.generation += 1;
        let (ground, generation) = (&self.ground, self.generation);
        let (place, mark) = (ground.place().await?, ground.site.mark().await?);
        let (swapped, secrets) = tokio::try_join!(
            async {
                // The watch is open by then.
                tokio::time::sleep(Duration::from_millis(500)).await;
                ground.swap(generation)?;
                anyhow::Ok(Instant::now())
            },
            place.secrets(count)
        )?;
        ground.at_rest(Operator::USER).await?;
        let calls = ground.calls(Operator::USER, mark).await?.len();
        let [first, half, most, last] = [0.0, 0.5, 0.99, 1.0].map(|share| secrets.share(share, swapped));
        Ok(Swap { first, half, most, last, requests: calls as f64 / count as f64 })
    }

    fn tell(&mut self, count: usize, polled: usize, swaps: &[Swap], floor: &Runs) {
        let of = |figure: fn(&Swap) -> f64| swaps.iter().map(figure).collect::<Vec<_>>();
        let (figures, what) = (&mut self.figures, format!("rotation of {count}"));
        let polled = polled as f64 * 60.0 / POLLED.as_secs_f64();
        figures.add(format!("{what}: requests in a minute before"), polled, "", Some(0.0));
        figures.add(format!("{what}: first Secret"), of(|swap| swap.first), "s", Some(FIRST));
        if count > 1 {
            figures.add(format!("{what}: half of them"), of(|swap| swap.half), "s", None);
            figures.ratio(format!("{what}: 99 %"), of(|swap| swap.most), floor.clone(), 1.5);
            figures.ratio(format!("{what}: last Secret"), of(|swap| swap.last), floor.clone(), 1.5);
        }
        figures.add(format!("{what}: requests for each"), of(|swap| swap.requests), "", None);
    }
}
