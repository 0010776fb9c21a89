//! The file that keeps what was measured.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::figures::Figures;
use super::machine::Machine;

/// All that one revision yielded on one machine.
#[derive(Serialize, Deserialize)]
pub(super) struct Results {
    /// The day of the last of them, in UTC.
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(super) measurements: Vec<Measurement>,
}

/// What one command of `bench` measures.
#[derive(Serialize, Deserialize)]
pub(super) struct Measurement {
    pub(super) name: String,
    /// What is measured, and what the floor is.
    pub(super) about: String,
    pub(super) figures: Figures,
}

impl Results {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no results", path.display()))
    }

    /// Adds to the file. What another revision or another machine yielded is no part of the same results.
    pub(super) async fn add(path: &Path, measurement: Measurement) -> Result<()> {
        let machine = Machine::here().await?;
        let (date, measurements) = (Timestamp::now().strftime("%Y-%m-%d").to_string(), Vec::new());
        let there = Self::read(path).ok().filter(|there| there.machine == machine);
        let mut results = there.unwrap_or(Self { date: String::new(), machine, measurements });
        results.date = date;
        results.put(measurement);
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, results.to_json()?).with_context(|| format!("cannot write {}", path.display()))
    }

    fn put(&mut self, measurement: Measurement) {
        match self.measurements.iter_mut().find(|there| there.name == measurement.name) {
            Some(there) => there.figures.replace(measurement.figures),
            None => self.measurements.push(measurement),
        }
    }

    pub(super) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.about)?;
        self.figures.fmt(f)
    }
}

/// Results without a measurement.
#[cfg(test)]
pub(super) fn sample() -> Results {
    use serde_json::json;
    let machine = json!({
        "processor": "Any", "cores": 2, "memory_gib": 24, "kernel": "linux 6.1", "kubernetes": "v1.36.3",
        "revision": "abc", "profile": "release",
    });
    serde_json::from_value(json!({ "date": "2026-01-01", "machine": machine, "measurements": [] })).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, what: &str, value: f64) -> Measurement {
        let mut figures = Figures::default();
        figures.add(what, value, "s", None);
        Measurement { name: name.to_owned(), about: String::new(), figures }
    }

    #[test]
    fn what_is_measured_again_takes_the_place_of_what_was() {
        let mut results = sample();
        let all = [("mass", "a", 1.0), ("mass", "b", 2.0), ("tracing", "a", 3.0), ("mass", "a", 4.0)];
        all.into_iter().for_each(|(name, what, value)| results.put(measured(name, what, value)));
        let there = results.measurements.iter().map(|measurement| {
            let figures = measurement.figures.iter().map(|figure| (figure.what.as_str(), figure.value));
            (measurement.name.as_str(), figures.collect::<Vec<_>>())
        });
        let expected = [("mass", vec![("a", 4.0), ("b", 2.0)]), ("tracing", vec![("a", 3.0)])];
        assert_eq!(there.collect::<Vec<_>>(), expected);
    }
}
