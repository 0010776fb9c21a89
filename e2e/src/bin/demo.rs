//! Shows a person the main job.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use clap::builder::FalseyValueParser;
use e2e::demo::{self, Ending};
use futures::future::select_all;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// What shells say of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Shows the main job on a real control plane, in steps, with the output of real commands.
///
/// The control plane is started for it, and ends with it. With E2E_KUBECONFIG the cluster that it names is used
/// instead; what the demo makes there is removed at the end.
#[derive(Parser)]
#[command(
    after_help = "Exit codes:\n  0    everything was shown\n  1    something failed; standard error says what\n  \
    2    bad arguments\n  130  interrupted before the end"
)]
struct Arguments {
    /// Leaves everything running at the end, until Enter or Ctrl-C.
    #[arg(long, env, value_parser = FalseyValueParser::new())]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match Runtime::new().context("cannot start threads").and_then(|runtime| {
        let ending = runtime.block_on(run(arguments.keep));
        // Not dropped: that would wait for a key that nobody presses, or for a control plane that is being built.
        runtime.shutdown_background();
        ending
    }) {
        Ok(Ending::Shown) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(keep: bool) -> Result<Ending> {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut signals = kinds.map(signal).into_iter().collect::<Result<Vec<_>, _>>()?;
    let stop = async { drop(select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await) };
    demo::run(keep, stop).await
}
