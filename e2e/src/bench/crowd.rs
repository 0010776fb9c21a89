//! Many distributions in one namespace, against as many over a hundred: a namespace shall cost its Secrets, and not the
//! square of them.

use anyhow::Result;

use super::figures::Figures;
use super::ground::{Ground, POLICIES, Run};
use crate::progress::narrated;

/// Measures with that many distributions of three keys.
pub(super) async fn measure(count: usize, rounds: usize) -> Result<Figures> {
    let ground = Ground::prepare(POLICIES).await?;
    ground.warm_up(count).await?;
    let (mut spread, mut crowded) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (over, runs) in [(POLICIES, &mut spread), (1, &mut crowded)] {
            ground.ask(count, over).await?;
            let what = format!("round {round} of {rounds}, {count} over {over} namespaces");
            runs.push(narrated(&what, ground.distribute(count)).await?);
            ground.clear().await?;
        }
    }
    let mut figures = Figures::default();
    let of = |figure: fn(&Run) -> f64| [&crowded, &spread].map(|runs| runs.iter().map(figure).collect::<Vec<_>>());
    for (what, [crowded, spread]) in
        [("last Secret", of(|run| run.last)), ("all Ready", of(|run| run.ready)), ("processor time", of(|run| run.cpu))]
    {
        figures.ratio(format!("{count} in one namespace, to over {POLICIES}: {what}"), crowded, spread, 1.2);
    }
    Ok(figures)
}
