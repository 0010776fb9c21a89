//! On what something was measured.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::repository;
use crate::supervisor::api_server_version;

/// The machine, and what ran on it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
    pub(super) kubernetes: String,
    /// Of the project.
    pub(super) revision: String,
    /// Of Cargo.
    pub(super) profile: String,
}

impl Machine {
    /// The one that this runs on.
    pub(super) async fn here() -> Result<Self> {
        let memory = told("/proc/meminfo", "MemTotal")?;
        let memory: u64 = memory.trim_end_matches(" kB").parse().context("no size of the memory")?;
        Ok(Self {
            processor: told("/proc/cpuinfo", "model name").unwrap_or_else(|_| std::env::consts::ARCH.to_owned()),
            cores: available_parallelism()?.get(),
            memory_gib: (memory + (1 << 19)) >> 20,
            kernel: format!("{} {}", std::env::consts::OS, kernel()?),
            kubernetes: api_server_version().await?,
            revision: revision().await.unwrap_or_else(|| "unknown".to_owned()),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
        })
    }

    /// Whether seconds on the one say something about seconds on the other.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let hardware = |it: &Self| (it.processor.clone(), it.cores, it.memory_gib);
        hardware(self) == hardware(other) && self.profile == other.profile
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_gib, kernel, kubernetes, revision, profile } = self;
        write!(f, "{processor}, {cores} cores, {memory_gib} GiB; {kernel}; Kubernetes {kubernetes}; ")?;
        write!(f, "revision {revision}, built for {profile}")
    }
}

/// What a file of the kernel's says under a name.
fn told(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let field = fields.find(|(found, _)| found.trim() == name);
    field.map(|(_, value)| value.trim().to_owned()).with_context(|| format!("no {name} in {file}"))
}

/// Its version, without what a distribution has added to it.
fn kernel() -> Result<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(release.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap_or_default().to_owned())
}

async fn revision() -> Option<String> {
    let folder: &Path = repository();
    let mut git = Command::new("git");
    let output = git.args(["describe", "--tags", "--always", "--dirty"]).current_dir(folder).output().await.ok()?;
    let revision = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !revision.is_empty()).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_what_there_is() {
        assert!(told("/proc/meminfo", "MemTotal").unwrap().ends_with(" kB"));
        assert!(told("/proc/meminfo", "Nonsense").is_err());
        assert!(kernel().unwrap().split('.').all(|part| part.parse::<u32>().is_ok()));
    }
}
