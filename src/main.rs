//! The program: what was typed becomes what is meant, and runs.

use std::process::ExitCode;

use clap::Parser;
use secrets_distributor::{
    process,
    settings::{Cli, Command, Settings},
};

fn main() -> ExitCode {
    if let Err(error) = process::keep_memory_private() {
        eprintln!("warning: cannot keep secrets out of core files: {error}");
    }
    let Command::Run(args) = Cli::parse().command;
    match Settings::try_from(*args) {
        Ok(settings) => process::run(settings),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
