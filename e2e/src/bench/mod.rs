//! Figures, each a ratio to something measured in the same run.

mod arrivals;
mod compare;
mod crowd;
mod decisions;
mod deletion;
mod fanout;
mod figures;
mod ground;
mod ideal;
mod machine;
mod mass;
mod page;
mod plot;
mod policy;
mod questions;
mod results;
mod rotation;
mod runs;
mod tracing;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use secrets_distributor::api::SecretsDistribution;
use serde_json::{Value, json};

use self::compare::Comparison;
use self::figures::Figures;
use self::results::{Measurement, Results};
use crate::collector::Mood;
use crate::site::Tenant;

/// Measures what tracing costs, and tells.
pub async fn tracing(count: usize, rounds: usize, moods: &[Mood], json: Option<&Path>) -> Result<()> {
    let figures = tracing::measure(count, rounds, moods).await?;
    tell("tracing", "what tracing costs, against the same without it", figures, json).await
}

/// Measures how long people wait for answers, and tells.
pub async fn questions(namespaces: usize, rounds: usize, json: Option<&Path>) -> Result<()> {
    let figures = questions::measure(namespaces, rounds).await?;
    tell("questions", "answers about a large platform, against only reading what they are about", figures, json).await
}

/// Measures how many decisions one core makes, and tells.
pub async fn decisions(json: Option<&Path>) -> Result<()> {
    tell("decisions", "decisions on one core, half of them denials with their reasons", decisions::measure()?, json)
        .await
}

/// Measures many distributions at once, and tells.
pub async fn mass(counts: &[usize], rounds: usize, steady: Duration, json: Option<&Path>) -> Result<()> {
    let figures = mass::measure(counts, rounds, steady).await?;
    tell("mass", "many distributions at once, against an ideal client", figures, json).await
}

/// Measures one Secret for many namespaces, and tells.
pub async fn fanout(namespaces: usize, rounds: usize, steady: Duration, json: Option<&Path>) -> Result<()> {
    let figures = fanout::measure(namespaces, rounds, steady).await?;
    tell("fanout", "one Secret for many namespaces, against an ideal client that writes no status", figures, json).await
}

/// Measures a source that changes, and tells.
pub async fn rotation(counts: &[usize], rounds: usize, json: Option<&Path>) -> Result<()> {
    let figures = rotation::measure(counts, rounds).await?;
    tell("rotation", "a source that changes, against an ideal client that writes no status", figures, json).await
}

/// Measures a policy that changes, and tells.
pub async fn policy(count: usize, rounds: usize, json: Option<&Path>) -> Result<()> {
    let figures = policy::measure(count, rounds).await?;
    tell("policy", "a policy that changes, against an ideal client that writes no status", figures, json).await
}

/// Measures many distributions in one namespace, and tells.
pub async fn crowd(count: usize, rounds: usize, json: Option<&Path>) -> Result<()> {
    let figures = crowd::measure(count, rounds).await?;
    tell("crowd", "many distributions in one namespace, against as many over a hundred", figures, json).await
}

/// Measures how long the deletion of a namespace takes, and tells.
pub async fn deletion(count: usize, rounds: usize, json: Option<&Path>) -> Result<()> {
    let figures = deletion::measure(count, rounds).await?;
    tell("deletion", "deletion of a namespace, against one where no operator ever was", figures, json).await
}

/// Prints a table, and adds the figures to the file, if there is one.
async fn tell(name: &str, about: &str, figures: Figures, json: Option<&Path>) -> Result<()> {
    let measurement = Measurement { name: name.to_owned(), about: about.to_owned(), figures };
    anstream::println!("{measurement}");
    match json {
        Some(path) => Results::add(path, measurement).await,
        None => Ok(()),
    }
}

/// Prints what changed between two results by more than noise; answers whether nothing is worse.
pub fn compare(before: &Path, now: &Path) -> Result<bool> {
    let (before, now) = (Results::read(before)?, Results::read(now)?);
    let comparison = Comparison::of(&before, &now);
    anstream::println!("{comparison}");
    Ok(!comparison.is_worse())
}

/// Makes a result the one that is committed and that the documents show.
pub fn publish(result: &Path) -> Result<()> {
    page::publish(&Results::read(result)?)
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
