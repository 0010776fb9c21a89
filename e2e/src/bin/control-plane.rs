//! Runs a control plane until it is told to stop.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use e2e::supervisor::{self, Settings};

/// A Kubernetes control plane on loopback, in a temporary folder.
///
/// Prints one line of JSON when it is ready: the kubeconfig and where the rest is. It stops when
/// standard input ends, or on SIGINT, SIGTERM and SIGHUP; nothing of it stays behind.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Inner>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Inner {
    /// Becomes another program, which ends when its parent does.
    #[command(hide = true)]
    Exec {
        /// The process that must still be the parent.
        #[arg(long)]
        parent: u32,
        /// The program.
        program: PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

// One thread: nothing here computes.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Inner::Exec { parent, program, arguments }) => Err(supervisor::exec_guarded(parent, &program, &arguments)),
        None => supervisor::run(&arguments.settings).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}
