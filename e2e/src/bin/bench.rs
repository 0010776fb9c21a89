//! Measures. A figure is a ratio to something that is measured in the same run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use e2e::{Mood, bench};
use tokio::runtime::Runtime;

/// Measures the operator on a control plane of its own.
///
/// Build it for release: `make bench`.
#[derive(Parser)]
#[command(after_help = "Exit codes:\n  0  done\n  1  something failed; standard error says what\n  2  bad arguments")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What tracing costs: with a collector that works, and with bad ones, each beside the same without it, at the same time.
    Tracing {
        /// Distributions in each run.
        #[arg(long, default_value_t = 1000)]
        count: usize,
        /// Runs with each collector.
        #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// What the collector does; several, separated by commas.
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mood::Works, Mood::Refuses, Mood::Hangs, Mood::Fails])]
        collector: Vec<Mood>,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// How many decisions one core makes, by the number of policies.
    Decisions {
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Many distributions at once: new, at rest, found again after a restart; against an ideal client, and beside a
    /// reference operator on kopf where Python is.
    Mass {
        /// Distributions of three keys, over 100 namespaces; several numbers, the least first, separated by commas.
        #[arg(long, default_value = "1000", value_delimiter = ',', value_parser = at_least_one)]
        count: Vec<usize>,
        /// How often they are distributed anew; the rest is measured once.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// For how many seconds nothing is to do, with the first number.
        #[arg(long, default_value_t = 60)]
        steady: u32,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// One Secret for many namespaces, by one request and by many; against an ideal client.
    Fanout {
        /// Namespaces, all delegated; a multiple of ten.
        #[arg(long, default_value_t = 1000)]
        namespaces: usize,
        /// How often the Secrets are written in each way.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// For how many seconds nothing is to do.
        #[arg(long, default_value_t = 60)]
        steady: u32,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// A source that changes: until its Secrets have followed; against an ideal client.
    Rotation {
        /// Secrets that use it, over 100 namespaces; several numbers, separated by commas.
        #[arg(long, default_value = "1,1000", value_delimiter = ',', value_parser = at_least_one)]
        count: Vec<usize>,
        /// How often it changes.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// A policy that changes, for one of many distributions and for all: until Secrets are gone or written; against an
    /// ideal client.
    Policy {
        /// Distributions of three keys, over 100 namespaces.
        #[arg(long, default_value_t = 1000)]
        count: usize,
        /// How often it changes in each way.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Many distributions in one namespace, against as many over 100.
    Crowd {
        /// Distributions of three keys.
        #[arg(long, default_value_t = 2000)]
        count: usize,
        /// How often they are distributed in each way.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// How long the deletion of a namespace takes: while the operator runs, while it is down, and where none ever was.
    Deletion {
        /// Distributions in the namespace, and as many Secrets.
        #[arg(long, default_value_t = 50)]
        count: usize,
        /// How often it is deleted in each of these cases.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// How long people wait for `explain`, `who-gets` and `plan` about a large platform.
    Questions {
        /// Namespaces, and as many policies; each has ten distributions.
        #[arg(long, default_value_t = 1000)]
        namespaces: usize,
        /// How often each is asked.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        rounds: u8,
        /// To which file the figures are added, as JSON.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What changed between two results by more than noise.
    Compare {
        before: PathBuf,
        now: PathBuf,
        /// Fail if anything is worse.
        #[arg(long)]
        strict: bool,
    },
    /// Makes a result the one that is committed: docs/benchmarks/last.json, its plot, and the tables of
    /// docs/benchmarks.md.
    Publish { result: PathBuf },
}

impl What {
    async fn run(self) -> Result<()> {
        match self {
            Self::Tracing { count, rounds, collector, json } => {
                bench::tracing(count, rounds.into(), &collector, json.as_deref()).await
            }
            Self::Decisions { json } => bench::decisions(json.as_deref()).await,
            Self::Mass { count, rounds, steady, json } => {
                bench::mass(&count, rounds.into(), Duration::from_secs(steady.into()), json.as_deref()).await
            }
            Self::Fanout { namespaces, rounds, steady, json } => {
                let steady = Duration::from_secs(steady.into());
                bench::fanout(namespaces, rounds.into(), steady, json.as_deref()).await
            }
            Self::Rotation { count, rounds, json } => bench::rotation(&count, rounds.into(), json.as_deref()).await,
            Self::Policy { count, rounds, json } => bench::policy(count, rounds.into(), json.as_deref()).await,
            Self::Crowd { count, rounds, json } => bench::crowd(count, rounds.into(), json.as_deref()).await,
            Self::Deletion { count, rounds, json } => bench::deletion(count, rounds.into(), json.as_deref()).await,
            Self::Questions { namespaces, rounds, json } => {
                bench::questions(namespaces, rounds.into(), json.as_deref()).await
            }
            Self::Compare { before, now, strict } => {
                ensure!(bench::compare(&before, &now)? || !strict, "something is worse");
                Ok(())
            }
            Self::Publish { result } => bench::publish(&result),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("a number of 1 or more".to_owned()),
    }
}

fn main() -> ExitCode {
    let what = Arguments::parse().what;
    let measured = Runtime::new().map_err(Into::into).and_then(|runtime| {
        let measured = runtime.block_on(what.run());
        runtime.shutdown_background();
        measured
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
