//! The program: what was typed becomes what is meant, and runs.

use std::process::ExitCode;

use secrets_distributor::{
    cli::{self, Cli, Command},
    process,
    settings::{Args, Settings},
};

fn main() -> ExitCode {
    match Cli::of_the_process().command {
        Command::Run(args) => run(*args),
        Command::Ask(question) => cli::answer(question),
    }
}

fn run(args: Args) -> ExitCode {
    if let Err(error) = process::keep_memory_private() {
        eprintln!("warning: cannot keep secrets out of core files: {error}");
    }
    match Settings::try_from(args) {
        Ok(settings) => process::run(settings),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
