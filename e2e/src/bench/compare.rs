//! What changed between two results, as far as it is more than noise.

use std::fmt;

use super::figures::{Figure, Goal, times};
use super::results::Results;

/// How far what a single run took may lie from what most take on the same machine, as a share of it.
const ONE_RUN: f64 = 0.15;

/// The same of what is counted and not timed.
const ONE_COUNT: f64 = 0.01;

/// Processor time is told in steps of 0.01 s: what differs by less than two of them is the same, in whichever unit.
const STEPS: f64 = 0.02;

/// Each figure of either result.
pub(super) struct Comparison<'a> {
    before: &'a Results,
    now: &'a Results,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    measurement: &'a str,
    before: Option<&'a Figure>,
    now: Option<&'a Figure>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Same,
    Better,
    Worse,
    New,
    Missing,
}

impl<'a> Comparison<'a> {
    pub(super) fn of(before: &'a Results, now: &'a Results) -> Self {
        let mut rows: Vec<_> =
            all(now).map(|(measurement, now)| Row { measurement, before: None, now: Some(now) }).collect();
        for (measurement, before) in all(before) {
            let same =
                |row: &&mut Row| row.measurement == measurement && row.now.is_some_and(|now| is_same(before, now));
            match rows.iter_mut().find(same) {
                Some(row) => row.before = Some(before),
                None => rows.push(Row { measurement, before: Some(before), now: None }),
            }
        }
        Self { before, now, rows }
    }

    pub(super) fn is_worse(&self) -> bool {
        self.count(Verdict::Worse) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict() == verdict).count()
    }
}

fn all(results: &Results) -> impl Iterator<Item = (&str, &Figure)> {
    let measurements = results.measurements.iter();
    measurements.flat_map(|measurement| measurement.figures.iter().map(|figure| (measurement.name.as_str(), figure)))
}

/// Whether both tell the same of the same.
fn is_same(one: &Figure, other: &Figure) -> bool {
    one.what == other.what && one.unit == other.unit && one.ratio.is_some() == other.ratio.is_some()
}

/// How far it may lie from the truth, as a share of it: as far as the range of its runs, and no less than one run does,
/// which is the less the more runs there were.
fn noise(figure: &Figure) -> f64 {
    let (it, (low, high)) = (figure.compared(), figure.runs.between());
    let one = if figure.unit.is_empty() { ONE_COUNT } else { ONE_RUN };
    let least = one / (figure.runs.count() as f64).sqrt();
    ((high - it).max(it - low) / it).max(least)
}

impl Row<'_> {
    /// What it was, what it is, and by how much it may differ and still be the same.
    fn numbers(&self) -> Option<(f64, f64, f64)> {
        let (before, now) = (self.before?, self.now?);
        // Errors that have nothing to do with each other.
        let noise = before.compared() * noise(before).hypot(noise(now));
        let least = if before.ratio.is_none() && before.unit == "s" { STEPS } else { 0.0 };
        Some((before.compared(), now.compared(), noise.max(least)))
    }

    fn verdict(&self) -> Verdict {
        let Some((before, now, noise)) = self.numbers() else {
            return if self.now.is_some() { Verdict::New } else { Verdict::Missing };
        };
        let is_cost = !self.now.is_some_and(|now| matches!(now.goal, Some(Goal::AtLeast(_))));
        match now - before {
            difference if difference.abs() <= noise => Verdict::Same,
            difference if (difference > 0.0) == is_cost => Verdict::Worse,
            _ => Verdict::Better,
        }
    }

    /// Change and noise, in percent of what it was.
    fn changes(&self) -> [String; 2] {
        match self.numbers() {
            Some((before, now, noise)) if before != 0.0 => {
                [format!("{:+.0} %", (now / before - 1.0) * 100.0), format!("±{:.0} %", noise / before * 100.0)]
            }
            _ => Default::default(),
        }
    }
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "before: {}, {}", self.before.date, self.before.machine)?;
        writeln!(f, "now:    {}, {}", self.now.date, self.now.machine)?;
        if !self.before.machine.is_like(&self.now.machine) {
            writeln!(f, "These are not alike: of what has no floor, the counts alone can be compared.")?;
        }
        writeln!(f, "{:<66}{:>15}{:>15}{:>9}{:>8}", "", "BEFORE", "NOW", "CHANGE", "NOISE")?;
        for row in &self.rows {
            let what = row.now.or(row.before).map(|figure| figure.what.as_str()).unwrap_or_default();
            let [before, now] = [row.before, row.now].map(|figure| figure.map(told).unwrap_or_default());
            let [change, noise] = row.changes();
            let name = format!("{}: {what}", row.measurement);
            writeln!(f, "{name:<66}{before:>15}{now:>15}{change:>9}{noise:>8} {}", row.verdict())?;
        }
        let all = [Verdict::Same, Verdict::Better, Verdict::Worse, Verdict::New, Verdict::Missing];
        writeln!(f, "{}", all.map(|verdict| format!("{} {verdict}", self.count(verdict))).join(", "))
    }
}

fn told(figure: &Figure) -> String {
    figure.ratio.map_or_else(|| figure.measured(), |ratio| times(ratio) + " x")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "same",
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::New => "new",
            Self::Missing => "missing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::super::results::{Measurement, sample};
    use super::*;

    fn results(fill: impl FnOnce(&mut Figures)) -> Results {
        let mut figures = Figures::default();
        fill(&mut figures);
        let measurement = Measurement { name: "mass".to_owned(), about: String::new(), figures };
        Results { measurements: vec![measurement], ..sample() }
    }

    /// The verdict on the only figure of each.
    fn verdict(before: impl FnOnce(&mut Figures), now: impl FnOnce(&mut Figures)) -> Verdict {
        let (before, now) = (results(before), results(now));
        let comparison = Comparison::of(&before, &now);
        assert_eq!(comparison.rows.len(), 1);
        assert_eq!(comparison.is_worse(), comparison.rows[0].verdict() == Verdict::Worse);
        comparison.rows[0].verdict()
    }

    #[test]
    fn one_run_says_less_than_many() {
        let times =
            |each: f64, count: usize| move |figures: &mut Figures| figures.add("a", vec![each; count], "s", None);
        // 15 % of each of them are 21 % of the difference; of nine runs they are 7 %.
        assert_eq!(verdict(times(10.0, 1), times(12.1, 1)), Verdict::Same);
        assert_eq!(verdict(times(10.0, 1), times(12.2, 1)), Verdict::Worse);
        assert_eq!(verdict(times(10.0, 1), times(7.8, 1)), Verdict::Better);
        assert_eq!(verdict(times(10.0, 9), times(10.7, 9)), Verdict::Same);
        assert_eq!(verdict(times(10.0, 9), times(10.8, 9)), Verdict::Worse);
    }

    #[test]
    fn runs_that_differ_say_less_than_such_that_do_not() {
        let runs = |runs: [f64; 3]| move |figures: &mut Figures| figures.add("a", runs.to_vec(), "s", None);
        assert_eq!(verdict(runs([9.9, 10.0, 10.1]), runs([12.9, 13.0, 13.1])), Verdict::Worse);
        assert_eq!(verdict(runs([9.9, 10.0, 14.0]), runs([12.9, 13.0, 13.1])), Verdict::Same);
    }

    #[test]
    fn ratios_are_compared_where_there_is_a_floor() {
        let ratio = |value: f64, floor: f64| move |figures: &mut Figures| figures.ratio("a", value, floor, 1.5);
        assert_eq!(verdict(ratio(1.0, 1.0), ratio(3.0, 3.0)), Verdict::Same);
        assert_eq!(verdict(ratio(3.0, 3.0), ratio(3.0, 1.0)), Verdict::Worse);
    }

    #[test]
    fn what_is_counted_is_exact_and_what_is_nearly_nothing_is_not() {
        let count = |count: f64| move |figures: &mut Figures| figures.add("a", count, "", Some(0.0));
        assert_eq!(verdict(count(0.0), count(0.0)), Verdict::Same);
        assert_eq!(verdict(count(0.0), count(1.0)), Verdict::Worse);
        assert_eq!(verdict(count(2.0), count(2.05)), Verdict::Worse);
        let seconds = |seconds: f64| move |figures: &mut Figures| figures.add("a", seconds, "s", Some(0.1));
        assert_eq!(verdict(seconds(0.0), seconds(0.02)), Verdict::Same);
        assert_eq!(verdict(seconds(0.01), seconds(0.04)), Verdict::Worse);
    }

    #[test]
    fn less_is_worse_of_what_shall_be_much() {
        let rate = |rate: f64| move |figures: &mut Figures| figures.at_least("a", rate, "/s", 1e6);
        assert_eq!(verdict(rate(2e6), rate(1e6)), Verdict::Worse);
        assert_eq!(verdict(rate(1e6), rate(2e6)), Verdict::Better);
    }

    #[test]
    fn what_is_new_and_what_is_missing_is_told() {
        let before = results(|figures| ["a", "b"].into_iter().for_each(|what| figures.add(what, 1.0, "s", None)));
        let now = results(|figures| {
            figures.add("b", 2.0, "s", None);
            figures.add("c", 2.0, "s", None);
        });
        let comparison = Comparison::of(&before, &now);
        let verdicts: Vec<_> = comparison.rows.iter().map(Row::verdict).collect();
        assert_eq!(verdicts, [Verdict::Worse, Verdict::New, Verdict::Missing]);
        let told = comparison.to_string();
        assert!(told.ends_with("0 same, 0 better, 1 WORSE, 1 new, 1 missing\n"), "{told}");
        assert!(told.contains("+100 %   ±21 % WORSE\n"), "{told}");
    }
}
