//! What this program is, and what it was built of.

use std::{collections::BTreeMap, fmt, process::ExitCode};

use serde::Serialize;

use super::{
    error::Error,
    output::{self, Format},
};

/// Says exactly which crates a build has. A crate that is not in it cannot be in the program.
const LOCK: &str = include_str!("../../Cargo.lock");

/// Those that talk to the cluster, hold its objects, or keep a secret on its way.
const MAIN: &[&str] = &["hyper", "k8s-openapi", "kube", "prometheus-client", "ring", "rustls", "tokio", "zeroize"];

/// In which form.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Form of the answer.
    #[arg(short, long, value_name = "FORMAT", default_value_t = Format::Table,
        value_parser = Format::among(&[Format::Table, Format::Json]), help_heading = "Output")]
    output: Format,
}

impl Version {
    /// Prints what the program is.
    pub fn print(&self) -> Result<ExitCode, Error> {
        let program = Program::of_this_build();
        match self.output {
            Format::Json => output::print_json(&program)?,
            _ => output::print(&program.to_string())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The program.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Program {
    version: &'static str,
    /// The commit of its sources, if the build was told: `make image` does.
    commit: Option<&'static str>,
    dependencies: BTreeMap<&'static str, &'static str>,
}

impl Program {
    fn of_this_build() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("SECRETS_DISTRIBUTOR_COMMIT").filter(|commit| !commit.is_empty()),
            dependencies: MAIN.iter().filter_map(|name| Some((*name, locked(name)?))).collect(),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", env!("CARGO_PKG_NAME"), self.version)?;
        writeln!(f, "commit {}", self.commit.unwrap_or("not told to the build"))?;
        self.dependencies.iter().try_for_each(|(name, version)| writeln!(f, "{name} {version}"))
    }
}

/// The version of a crate in the lock file.
fn locked(name: &str) -> Option<&'static str> {
    let package = LOCK.split("[[package]]").find(|package| package.contains(&format!("\nname = \"{name}\"\n")))?;
    let (_, rest) = package.split_once("\nversion = \"")?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_main_dependency_has_a_version() {
        let version = Program::of_this_build();
        assert_eq!(version.dependencies.len(), MAIN.len(), "{version:?}");
        let is_version = |text: &&str| text.split('.').count() == 3 && text.starts_with(|c: char| c.is_ascii_digit());
        assert!(version.dependencies.values().all(is_version), "{version:?}");
        assert_eq!(locked("secrets-distributor"), Some(version.version));
        assert_eq!(locked("no-such-crate"), None);
    }
}
