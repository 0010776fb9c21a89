//! Figures, each a ratio to something measured in the same run.

mod decisions;
mod mass;
mod questions;
mod tracing;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

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
    let figures = mass::measure(count, rounds, steady).await?;
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    anstream::println!("{figures}");
    Ok(())
}

/// Objects made at a time.
const AT_A_TIME: usize = 16;

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
