//! What the operator needs, and what it asks of the API server.

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;

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
        memory_of(self.operator().as_ref().map(Operator::id).context("no operator runs")?, figure)
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

/// The most resident memory that a process has had, in KiB.
pub(crate) fn peak_memory(id: u32) -> Result<u64> {
    memory_of(id, "VmHWM:")
}

fn memory_of(id: u32, figure: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let told = status.lines().find_map(|line| line.strip_prefix(figure));
    let number = told.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    number.with_context(|| format!("no {figure} in the status of a process"))
}

/// Processor time of a process since it was started, in seconds.
pub(crate) fn processor_time(id: u32) -> Result<f64> {
    let ticks = ticks(&std::fs::read_to_string(format!("/proc/{id}/stat"))?);
    Ok(ticks.context("no times in the statistics of a process")? as f64 / clock_ticks_per_second() as f64)
}

/// In its own code and in the kernel: the 14th and the 15th field. The second is the name, which may have blanks.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_whatever_the_name_of_a_program() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 140 15 16 17";
        assert_eq!(ticks(&format!("77 (python) {fields}")), Some(155));
        assert_eq!(ticks(&format!("77 (a) S 9 (b) {fields}")), Some(155));
        assert_eq!(ticks("77 (python) S 1"), None);
        assert!(processor_time(std::process::id()).unwrap() >= 0.0);
    }
}
