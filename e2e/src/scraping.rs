//! Scraping the operator, as the monitoring does.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::site::{SOON, Site};
use crate::{Operator, Scrape, eventually, loopback};

impl Operator {
    /// Its metrics.
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::parse(&text(self.address().context("the operator does not listen yet")?).await?)
    }
}

impl Site {
    /// The operator's metrics.
    pub async fn scrape(&self) -> Result<Scrape> {
        Scrape::parse(&self.metrics_text().await?)
    }

    /// The operator's metrics, as text.
    pub async fn metrics_text(&self) -> Result<String> {
        text(self.address()?).await
    }

    /// Waits until the sum of the series that have these labels satisfies; answers with it.
    pub async fn until_metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        satisfied: impl Fn(f64) -> bool,
    ) -> Result<f64> {
        eventually(SOON, &format!("{name} {labels:?}"), async || {
            let found = self.scrape().await?.sum(name, labels);
            found.filter(|value| satisfied(*value)).with_context(|| format!("{found:?}"))
        })
        .await
    }
}

async fn text(address: SocketAddr) -> Result<String> {
    let (status, text) = loopback::get(address, "/metrics").await?;
    ensure!(status == 200, "/metrics: {status} {text}");
    Ok(text)
}
