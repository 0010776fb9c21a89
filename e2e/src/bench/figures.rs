//! What was measured, beside what it can be at best and what it shall be.

use std::fmt;

use serde::Serialize;

/// Figures in the order in which they were measured.
#[derive(Default, Serialize)]
pub(super) struct Figures(Vec<Figure>);

/// One of them.
#[derive(Serialize)]
struct Figure {
    what: String,
    value: f64,
    unit: &'static str,
    /// What the ideal client needs for the same, in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    floor: Option<f64>,
    /// The most that it shall be; of the ratio, if there is a floor.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_most: Option<f64>,
}

impl Figures {
    pub(super) fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str, at_most: Option<f64>) {
        self.0.push(Figure { what: what.into(), value, unit, floor: None, at_most });
    }

    pub(super) fn ratio(&mut self, what: impl Into<String>, value: f64, floor: f64, at_most: f64) {
        self.0.push(Figure { what: what.into(), value, unit: "s", floor: Some(floor), at_most: Some(at_most) });
    }
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        self.floor.map(|floor| self.value / floor)
    }

    fn verdict(&self) -> &'static str {
        match self.at_most {
            Some(most) if self.ratio().unwrap_or(self.value) > most => "above",
            Some(_) => "within",
            None => "",
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<52}{:>12}{:>12}{:>9}{:>9}", "", "MEASURED", "IDEAL", "RATIO", "GOAL")?;
        for figure in &self.0 {
            let seconds = |seconds: f64| format!("{seconds:.2} s");
            let value = match figure.unit {
                "" => format!("{:.2}", figure.value),
                unit => format!("{:.2} {unit}", figure.value),
            };
            let floor = figure.floor.map(seconds).unwrap_or_default();
            let ratio = figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            let goal = figure.at_most.map(|most| most.to_string()).unwrap_or_default();
            writeln!(f, "{:<52}{value:>12}{floor:>12}{ratio:>9}{goal:>9} {}", figure.what, figure.verdict())?;
        }
        Ok(())
    }
}
