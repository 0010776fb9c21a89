//! Every fault at every call of the operator, in one scenario after the other: the end is always the one that was asked
//! for, and nothing is written after it.
//!
//! By default a sample, the same each time; with `FULL=1` all of it; with `SWEEP=scenario/call/fault` that one case.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod case;
mod run;
mod scenarios;
mod scene;

use std::env;

use anyhow::Result;
use case::Case;
use e2e::OperatorConfig;
use e2e::observer::Observer;
use e2e::site::Site;
use run::Sweep;

/// How many cases are played where nobody asks for all.
const SAMPLE: usize = 120;
const SEED: u64 = 20260;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fault_or_death_at_whichever_call_the_end_is_the_same_and_nothing_is_written_after_it() -> Result<()> {
    let (site, proxy) = Site::behind_proxy().await?;
    // A namespace's first writes need not wait: what is swept are the calls, and how many there are.
    let with_timeout = |timeout: &str| {
        let arguments =
            vec!["--rate-limit=100000/1s".to_owned(), "--workers=64".to_owned(), format!("--api-timeout={timeout}")];
        move |config: OperatorConfig| OperatorConfig { arguments, ..config }
    };
    let site = site.configured(with_timeout("2s"));
    site.start_operator().await?;
    let mut observer = Observer::start(&site.cluster).await?;
    let sweep = Sweep::new();
    let cases = match env::var("SWEEP") {
        Ok(id) if !id.is_empty() => vec![Case::named(&id)?],
        _ => {
            chosen(sweep.learn(&site, &proxy).await?.into_iter().flat_map(|(s, calls)| Case::all(s, &calls)).collect())
        }
    };
    let (deaths, faults): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.fault.kills);
    sweep.faults(&site, &proxy, &faults).await;
    // A call is held until others are held, too.
    let site = site.configured(with_timeout("30s"));
    site.restart_operator().await?;
    sweep.deaths(&site, &proxy, &deaths).await?;
    sweep.see_history(&observer.history().await?);
    println!("{}", sweep.summary());
    sweep.check();
    Ok(())
}

fn chosen(mut cases: Vec<Case>) -> Vec<Case> {
    let all = cases.len();
    // Scenes that are played together shall not be those of one scenario.
    fastrand::Rng::with_seed(SEED).shuffle(&mut cases);
    if env::var("FULL").is_ok_and(|full| !full.is_empty()) {
        println!("all {all} cases");
    } else {
        cases.truncate(SAMPLE);
        println!("{} of {all} cases; all of them: make sweep FULL=1", cases.len());
    }
    cases
}
