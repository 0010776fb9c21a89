//! The Helm chart: what each value does, that a wrong one is refused with words, that what it renders is what the API
//! server takes, and what installing, upgrading and uninstalling leave alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod installed;
mod lint;
mod refused;
mod same;
mod values;

use anyhow::Result;
use e2e::helm::Helm;
use serde_json::Value;
use tempfile::TempDir;

/// Helm for what needs no cluster, and its folder.
async fn helm() -> Result<(Helm, TempDir)> {
    let folder = tempfile::tempdir()?;
    Ok((Helm::without_cluster(folder.path()).await?, folder))
}

/// The object of that kind, or of that kind and name.
fn find<'a>(objects: &'a [Value], which: &str) -> Option<&'a Value> {
    let (kind, name) = which.split_once('/').map_or((which, None), |(kind, name)| (kind, Some(name)));
    let named = |object: &&Value| name.is_none_or(|name| object["metadata"]["name"] == name);
    objects.iter().filter(|object| object["kind"] == kind).find(named)
}
