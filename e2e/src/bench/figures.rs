//! What was measured, beside what it can be at best and what it shall be.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::runs::{Runs, rounded};

/// Figures in the order in which they were measured.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Figures(Vec<Figure>);

/// One of them; of several runs, their median.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) value: f64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) unit: String,
    /// What that is measured against which can be no faster, in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) floor: Option<f64>,
    /// To the floor: of several rounds, the median of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<f64>,
    #[serde(flatten)]
    pub(super) goal: Option<Goal>,
    /// What each run yielded: the ratio if there is a floor, else the value.
    pub(super) runs: Runs,
}

/// What a figure shall be; its ratio, if there is a floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Figures {
    pub(super) fn add(
        &mut self,
        what: impl Into<String>,
        value: impl Into<Runs>,
        unit: &'static str,
        at_most: Option<f64>,
    ) {
        self.push(what.into(), value.into(), unit, None, at_most.map(Goal::AtMost));
    }

    pub(super) fn at_least(&mut self, what: impl Into<String>, value: impl Into<Runs>, unit: &'static str, least: f64) {
        self.push(what.into(), value.into(), unit, None, Some(Goal::AtLeast(least)));
    }

    /// Seconds; those of the same rounds, in the same order, if both are several.
    pub(super) fn ratio(
        &mut self,
        what: impl Into<String>,
        value: impl Into<Runs>,
        floor: impl Into<Runs>,
        at_most: f64,
    ) {
        self.push(what.into(), value.into(), "s", Some(floor.into()), Some(Goal::AtMost(at_most)));
    }

    /// A ratio without a goal.
    pub(super) fn beside(&mut self, what: impl Into<String>, value: impl Into<Runs>, floor: impl Into<Runs>) {
        self.push(what.into(), value.into(), "s", Some(floor.into()), None);
    }

    fn push(&mut self, what: String, value: Runs, unit: &str, floor: Option<Runs>, goal: Option<Goal>) {
        let ratios = floor.as_ref().map(|floor| value.ratios(floor));
        self.0.push(Figure {
            what,
            value: rounded(value.median()),
            unit: unit.to_owned(),
            floor: floor.map(|floor| rounded(floor.median())),
            ratio: ratios.as_ref().map(|ratios| rounded(ratios.median())),
            goal,
            runs: ratios.unwrap_or(value).rounded(),
        });
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }

    /// Takes the place of what was measured before of the same.
    pub(super) fn replace(&mut self, newer: Self) {
        for figure in newer.0 {
            match self.0.iter_mut().find(|older| older.what == figure.what) {
                Some(older) => *older = figure,
                None => self.0.push(figure),
            }
        }
    }
}

impl Figure {
    /// What is compared with the goal, and with other results.
    pub(super) fn compared(&self) -> f64 {
        self.ratio.unwrap_or(self.value)
    }

    /// Whether it is as it shall be, if that is said.
    pub(super) fn is_met(&self) -> Option<bool> {
        self.goal.map(|goal| match goal {
            Goal::AtMost(most) => self.compared() <= most,
            Goal::AtLeast(least) => self.compared() >= least,
        })
    }

    /// The number with its unit.
    pub(super) fn measured(&self) -> String {
        self.with_unit(self.value)
    }

    fn with_unit(&self, value: f64) -> String {
        format!("{} {}", number(value), self.unit).trim_end().to_owned()
    }

    /// Nothing, if all runs say the same.
    fn range(&self) -> String {
        let told = if self.ratio.is_some() { times } else { number };
        let (low, high) = self.runs.between();
        let (low, high) = (told(low), told(high));
        if low == high { String::new() } else { format!("{low}–{high}") }
    }

    /// As they stand in a table below [`HEAD`].
    pub(super) fn cells(&self) -> [String; 7] {
        let goal = match self.goal {
            Some(Goal::AtMost(most)) => format!("at most {}", number(most)),
            Some(Goal::AtLeast(least)) => format!("at least {}", number(least)),
            None => String::new(),
        };
        let verdict = self.is_met().map_or("", |is_met| if is_met { "met" } else { "missed" });
        [
            self.what.clone(),
            self.measured(),
            self.floor.map(|floor| self.with_unit(floor)).unwrap_or_default(),
            self.ratio.map(times).unwrap_or_default(),
            self.range(),
            goal,
            verdict.to_owned(),
        ]
    }
}

/// What stands above the cells.
pub(super) const HEAD: [&str; 7] = ["", "measured", "floor", "ratio", "range", "goal", ""];

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = HEAD.map(str::to_uppercase);
        for cells in [head].into_iter().chain(self.iter().map(Figure::cells)) {
            let [what, measured, floor, ratio, range, goal, verdict] = cells;
            let line = format!("{what:<56}{measured:>15}{floor:>10}{ratio:>8}{range:>14}{goal:>20} {verdict}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// With three digits that count, or with all of a whole number.
pub(super) fn number(figure: f64) -> String {
    let decimals = match figure.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{figure:.decimals$}");
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let part = part.trim_end_matches('0');
    let thousands: Vec<_> = whole.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    let point = if part.is_empty() { "" } else { "." };
    format!("{}{point}{part}", thousands.join(","))
}

/// A ratio; a large one without what means nothing in it.
pub(super) fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { number(ratio) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_what_is_compared_where_there_is_a_floor() {
        let mut figures = Figures::default();
        figures.ratio("a", vec![3.0, 2.0, 2.8], vec![2.0, 2.0, 2.0], 1.25);
        figures.add("b", 0.25, "s", Some(0.25));
        figures.at_least("c", 2_500_000.0, "/s", 3e6);
        figures.beside("d", 3.0, 2.0);
        let cells: Vec<_> = figures.iter().map(|figure| figure.cells().join("|")).collect();
        assert_eq!(
            cells,
            [
                "a|2.8 s|2 s|1.40|1.00–1.50|at most 1.25|missed",
                "b|0.25 s||||at most 0.25|met",
                "c|2,500,000 /s||||at least 3,000,000|missed",
                "d|3 s|2 s|1.50|||",
            ]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let mut figures = Figures::default();
        figures.ratio("a", vec![1.0, 3.0], vec![3.0, 1.0], 1.25);
        figures.add("b", 2.0, "", None);
        figures.at_least("c", 1.0, "/s", 2.0);
        let text = serde_json::to_string(&figures).unwrap();
        let read: Figures = serde_json::from_str(&text).unwrap();
        assert_eq!(read.0, figures.0);
        assert!(text.contains(r#"{"what":"b","value":2.0,"runs":[2.0]}"#), "{text}");
        assert!(text.contains(r#""at_least":2.0"#), "{text}");
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        let told = [0.0, 0.0042, 0.25, 1.5, 2.0, 2.046, 12.34, 999.6, 10_000.0, 2_512_345.6].map(number);
        assert_eq!(told, ["0", "0.004", "0.25", "1.5", "2", "2.05", "12.3", "1,000", "10,000", "2,512,346"]);
        assert_eq!([0.5, 1.0, 12.345, 198.69].map(times), ["0.50", "1.00", "12.3", "199"]);
    }
}
