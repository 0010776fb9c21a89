//! Figures, each a ratio to something measured in the same run.

mod arrivals;
mod decisions;
mod deletion;
mod figures;
mod ideal;
mod mass;
mod questions;
mod tracing;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use secrets_distributor::api::SecretsDistribution;
use serde_json::{Value, json};

use self::figures::Figures;
use crate::site::Tenant;

/// Measures what tracing costs, and prints a table.
pub async fn tracing(count: usize, rounds: usize) -> Result<()> {
    let table = tracing::measure(count, rounds).await?;
    anstream::println!("{table}");
    Ok(())
}

/// Measures how long people wait for answers, and prints a table.
pub async fn questions(namespaces: usize, rounds: usize) -> Result<()> {
    let table = questions::measure(namespaces, rounds).await?;
    anstream::println!("{table}");
    Ok(())
}

/// Measures how many decisions one core makes, and prints a table.
pub fn decisions() -> Result<()> {
    anstream::println!("{}", decisions::measure()?);
    Ok(())
}

/// Measures many distributions at once, prints a table, and writes it as JSON into the file, if there is one.
pub async fn mass(count: usize, rounds: usize, steady: Duration, json: Option<&Path>) -> Result<()> {
    tell(&mass::measure(count, rounds, steady).await?, json)
}

/// Measures how long the deletion of a namespace takes, prints a table, and writes it as JSON into the file, if there is
/// one.
pub async fn deletion(count: usize, rounds: usize, json: Option<&Path>) -> Result<()> {
    tell(&deletion::measure(count, rounds).await?, json)
}

fn tell(figures: &Figures, json: Option<&Path>) -> Result<()> {
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(figures)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    anstream::println!("{figures}");
    Ok(())
}

/// Objects made at a time.
const AT_A_TIME: usize = 16;

/// For the control plane to come to rest.
const REST: Duration = Duration::from_secs(3);

/// Asks for the same in each of these, of which namespace and name are told.
async fn ask(
    client: &Client,
    requests: impl IntoIterator<Item = (String, String)>,
    spec: &Value,
) -> Result<Vec<SecretsDistribution>> {
    let made = stream::iter(requests).map(|(namespace, name)| async move {
        let api: Api<SecretsDistribution> = Api::namespaced(client.clone(), &namespace);
        let request = SecretsDistribution::new(&name, serde_json::from_value(spec.clone())?);
        anyhow::Ok(api.create(&PostParams::default(), &request).await?)
    });
    made.buffer_unordered(AT_A_TIME).try_collect().await
}

/// What is asked for: these sources, under these keys.
fn spec(mappings: &[(&str, &str)]) -> Value {
    let mappings: Vec<_> = mappings.iter().map(|(from, to)| json!({ "from": from, "to": to })).collect();
    json!({ "secrets": mappings })
}

/// No request is left, and no Secret: those are deleted too, else the garbage collector is at work on them during
/// what is measured next.
async fn empty(tenant: &Tenant<'_>) -> Result<()> {
    tenant.requests().delete_collection(&Default::default(), &ListParams::default()).await?;
    tenant.secrets().delete_collection(&Default::default(), &ListParams::default()).await?;
    Ok(())
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
