//! What the operator needs, and what it asks of the API server.

use anyhow::{Context, Result};

use crate::{Operator, site::Site};

impl Site {
    /// Resident memory of the operator, in KiB.
    pub fn operator_memory(&self) -> Result<u64> {
        self.memory_of_operator("VmRSS:")
    }

    /// The most that it was since the operator was started, in KiB.
    pub fn operator_peak_memory(&self) -> Result<u64> {
        self.memory_of_operator("VmHWM:")
    }

    /// Processor time of the operator since it was started, in seconds.
    pub async fn operator_cpu(&self) -> Result<f64> {
        let seconds = self.scrape().await?.sum("process_cpu_seconds_total", &[]);
        seconds.context("the operator does not tell its processor time")
    }

    fn memory_of_operator(&self, figure: &str) -> Result<u64> {
        let id = self.operator().as_ref().map(Operator::id).context("no operator runs")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let told = status.lines().find_map(|line| line.strip_prefix(figure));
        let number = told.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
        number.with_context(|| format!("no {figure} in the status of a process"))
    }

    /// How many watches of single namespaces the API server has open for a resource (plural).
    pub async fn open_watches(&self, resource: &str) -> Result<usize> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let metrics = self.cluster.client().await?.request_text(request).await?;
        let is_wanted = |line: &&str| {
            let labels = [format!("resource=\"{resource}\""), "scope=\"namespace\"".into(), "verb=\"WATCH\"".into()];
            line.starts_with("apiserver_longrunning_requests{") && labels.iter().all(|label| line.contains(label))
        };
        let counts = metrics.lines().filter(is_wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.sum::<f64>() as usize)
    }
}
