//! Finds the binaries that Cargo built beside the running one.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

/// The binary of that name in the profile folder of the running one, if it is there and as new as
/// its sources: a test of yesterday's binary would prove nothing.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().context("cannot tell which program is running")?;
    let folder = running.parent().unwrap_or(Path::new("/"));
    // Cargo puts tests into target/<profile>/deps and examples into target/<profile>/examples.
    let nested = ["deps", "examples"].iter().any(|nested| folder.ends_with(nested));
    let profile = if nested { folder.parent().unwrap_or(folder) } else { folder };
    let binary = profile.join(name);
    ensure!(binary.is_file(), "{} does not exist. Run: cargo build --workspace", binary.display());
    if let Some(source) = newer_source(&binary) {
        anyhow::bail!("{} is older than {source}. Run: cargo build --workspace", binary.display());
    }
    Ok(binary)
}

/// The first source in Cargo's dep-info that changed after the binary was built.
fn newer_source(binary: &Path) -> Option<String> {
    let built = modified(binary)?;
    let info = std::fs::read_to_string(binary.with_extension("d")).ok()?;
    let (_, sources) = info.split_once(": ")?;
    // Make's syntax: a space within a name is escaped.
    let sources = sources.trim_end().replace("\\ ", "\0");
    let mut sources = sources.split(' ').map(|source| source.replace('\0', " "));
    sources.find(|source| modified(Path::new(source)).is_some_and(|changed| changed > built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}
