//! Every fault at every call of the operator, in one scenario after the other: the end is always the one that was asked
//! for, and nothing is written after it.
//!
//! Then random walks: what people do in whatever order, with faults in between; and the same while the operator is killed
//! every few seconds.
//!
//! By default a sample, the same each time; with `FULL=1` all of it; with `SWEEP=scenario/call/fault` that one case, and
//! with `SWEEP=walk/number` that one walk, or those from one to another with `SWEEP=walk/1-60`; `SWEEP=killed-walk/number`
//! is one under kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod case;
mod permits;
mod replicas;
mod run;
mod scenarios;
mod scene;
mod walk;
mod walks;

use std::env;

use anyhow::Result;
use case::{Case, Fate};
use e2e::observer::Observer;
use e2e::site::Site;
use e2e::{OperatorConfig, is_full};
use replicas::Replicas;
use run::Sweep;
use walks::Walks;

/// How many cases are played where nobody asks for all.
const SAMPLE: usize = 120;

/// How many random walks there are, by default and in full.
const WALKS: [u64; 2] = [60, 1000];

/// How many of them are walked once more while the operator is killed.
const KILLED_WALKS: [u64; 2] = [40, 400];

const SEED: u64 = 20260;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fault_or_death_at_whichever_call_the_end_is_the_same_and_nothing_is_written_after_it() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    let site = site.configured(with(&["--api-timeout=2s"]));
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let sweep = Sweep::new();
    let (cases, walks) = match env::var("SWEEP").ok().filter(|id| !id.is_empty()) {
        Some(id) => match Walks::named(&id) {
            Some(walks) => (Vec::new(), vec![walks]),
            None => (vec![Case::named(&id)?], Vec::new()),
        },
        None => {
            let learned = sweep.learn(&site, &proxy).await?.into_iter();
            let cases = chosen(learned.flat_map(|(s, calls)| Case::all(s, &calls)).collect());
            let last = |counts: [u64; 2]| counts[usize::from(is_full())];
            (cases, vec![Walks::undisturbed(1..=last(WALKS)), Walks::killed(1..=last(KILLED_WALKS))])
        }
    };
    let of = |fate| cases.iter().filter(|case| case.fault.fate == fate).cloned().collect::<Vec<_>>();
    let (killed, undisturbed): (Vec<_>, Vec<_>) = walks.into_iter().partition(|walks| walks.killed);
    sweep.faults(&site, &proxy, &of(Fate::Lives)).await;
    for walks in undisturbed {
        sweep.walks(&site, &proxy, walks).await?;
    }
    // A call is held until others are held, too.
    let site = site.configured(with(&["--api-timeout=30s", "--lease-duration=4s"]));
    site.restart_operator().await?;
    let alone = Replicas::alone(&site, &proxy);
    sweep.deaths(&alone, &of(Fate::Dies)).await?;
    for walks in killed {
        sweep.killed_walks(&alone, walks).await?;
    }
    let replicas = Replicas::with_standby(&site, &proxy).await?;
    sweep.deaths(&replicas, &of(Fate::IsSucceeded)).await?;
    sweep.see_history(&observer.history().await?);
    println!("{}", sweep.summary());
    sweep.check();
    Ok(())
}

/// A namespace's first writes need not wait: what is swept are the calls, and how many there are.
fn with(more: &[&str]) -> impl FnOnce(OperatorConfig) -> OperatorConfig {
    let usual = ["--rate-limit=100000/1s", "--workers=64"];
    let arguments = usual.iter().chain(more).map(ToString::to_string).collect();
    move |config| OperatorConfig { arguments, ..config }
}

fn chosen(mut cases: Vec<Case>) -> Vec<Case> {
    let all = cases.len();
    // Scenes that are played together shall not be those of one scenario.
    fastrand::Rng::with_seed(SEED).shuffle(&mut cases);
    if is_full() {
        println!("all {all} cases");
    } else {
        cases.truncate(SAMPLE);
        println!("{} of {all} cases; all of them: make sweep FULL=1", cases.len());
    }
    cases
}
