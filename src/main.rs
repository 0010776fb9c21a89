//! The program: what was typed becomes what is meant, and runs.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use secrets_distributor::{
    process,
    settings::{Cli, Command, Settings},
    version::Version,
};

fn main() -> ExitCode {
    if let Err(error) = process::keep_memory_private() {
        eprintln!("warning: cannot keep secrets out of core files: {error}");
    }
    let args = match Cli::parse().command {
        Command::Run(args) => args,
        Command::Version { output } => return told(&Version::of_this_program().told(output)),
    };
    match Settings::try_from(*args) {
        Ok(settings) => process::run(settings),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Also that nobody reads it is no reason to panic.
fn told(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
