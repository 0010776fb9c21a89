//! Figures, each a ratio to something measured in the same run.

mod tracing;

use anyhow::Result;

/// Measures what tracing costs, and prints a table.
pub async fn tracing(count: usize, rounds: usize) -> Result<()> {
    let table = tracing::measure(count, rounds).await?;
    anstream::println!("{table}");
    Ok(())
}
