//! Completion of commands and options in a shell.

use std::process::ExitCode;

use clap::{CommandFactory, ValueEnum};
use clap_complete::Shell;

use super::{Cli, error::Error, output};

/// Which shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(secrets-distributor completion bash)
  secrets-distributor completion zsh > \"${fpath[1]}/_secrets-distributor\"
  secrets-distributor completion fish > ~/.config/fish/completions/secrets-distributor.fish")]
pub struct Completion {
    /// The shell that shall complete.
    #[arg(value_enum)]
    shell: Known,
}

/// The shells that kubectl completes in, too.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    /// Prints the script.
    pub fn print(&self) -> Result<ExitCode, Error> {
        let shell = match self.shell {
            Known::Bash => Shell::Bash,
            Known::Zsh => Shell::Zsh,
            Known::Fish => Shell::Fish,
        };
        let mut command = Cli::command();
        let name = command.get_name().to_string();
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, name, &mut script);
        output::print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}
