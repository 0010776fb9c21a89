//! Figures, each a ratio to something measured in the same run.

mod questions;
mod tracing;

use anyhow::Result;

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

/// Objects made at a time.
const AT_A_TIME: usize = 16;

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
