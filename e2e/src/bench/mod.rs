//! Figures, each a ratio to something measured in the same run.

mod tracing;

use anyhow::Result;

/// Measures what tracing costs, and prints a table.
pub async fn tracing(count: usize, rounds: usize) -> Result<()> {
    let mut table = tracing::measure(count, rounds).await?;
    table.settle();
    anstream::println!("{table}");
    Ok(())
}
