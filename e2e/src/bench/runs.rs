//! The runs of one measurement: their middle, and between which of them the truth lies.

use serde::{Deserialize, Serialize};

/// What each run measured, in the order of the runs; one, if there was but one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Runs(Vec<f64>);

impl From<f64> for Runs {
    fn from(only: f64) -> Self {
        Self(vec![only])
    }
}

impl From<Vec<f64>> for Runs {
    fn from(runs: Vec<f64>) -> Self {
        Self(runs)
    }
}

impl Runs {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn median(&self) -> f64 {
        let last = self.count().saturating_sub(1);
        (self.at(last / 2) + self.at(last.div_ceil(2))) / 2.0
    }

    /// Between which of them the true median lies, nineteen times of twenty; the farthest ones, if they are too few to say
    /// so. Some runs differ from the others by far, and in no known way.
    pub(super) fn between(&self) -> (f64, f64) {
        let out = outside(self.count());
        (self.at(out), self.at(self.count().saturating_sub(1 + out)))
    }

    /// Each as a ratio to the floor of its own round: a round's share of the machine is the same for both. Where they were
    /// not made in rounds, the one median as a ratio to the other.
    pub(super) fn ratios(&self, floor: &Self) -> Self {
        match self.count() == floor.count() {
            true => Self(self.0.iter().zip(&floor.0).map(|(run, floor)| run / floor).collect()),
            false => Self::from(self.median() / floor.median()),
        }
    }

    /// With as many digits as mean anything.
    pub(super) fn rounded(self) -> Self {
        Self(self.0.into_iter().map(rounded).collect())
    }

    fn at(&self, place: usize) -> f64 {
        let mut runs = self.0.clone();
        runs.sort_unstable_by(f64::total_cmp);
        runs.get(place).copied().unwrap_or(f64::NAN)
    }
}

/// Six digits that count.
pub(super) fn rounded(figure: f64) -> f64 {
    format!("{figure:.5e}").parse().unwrap_or(figure)
}

/// How many of so many runs, sorted, can be left out at each end, so that in 2.5 % of all cases at most the true median is
/// beyond what is left there.
fn outside(count: usize) -> usize {
    // Of so many, exactly this many lie on one side of it.
    let exactly = |few: usize| (0..few).fold(0.5f64.powi(count as i32), |p, k| p * (count - k) as f64 / (k + 1) as f64);
    let mut chance = 0.0;
    let too_many = (0..count / 2).find(|few| {
        chance += exactly(*few);
        chance > 0.025
    });
    too_many.unwrap_or_default().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_median_is_the_one_of_the_tables() {
        // Of 10 the 2nd to the 9th, of 20 the 6th to the 15th, of 25 the 8th to the 18th.
        assert_eq!([5, 10, 20, 25].map(outside), [0, 1, 5, 7]);
        let runs = Runs::from((1..=10).rev().map(f64::from).collect::<Vec<_>>());
        assert_eq!((runs.median(), runs.between()), (5.5, (2.0, 9.0)));
    }

    #[test]
    fn a_ratio_is_one_within_a_round_if_there_were_rounds() {
        let (slow, fast) = (Runs::from(vec![4.0, 20.0, 6.0]), Runs::from(vec![2.0, 10.0, 4.0]));
        assert_eq!(slow.ratios(&fast), Runs::from(vec![2.0, 2.0, 1.5]));
        assert_eq!(Runs::from(8.0).ratios(&fast), Runs::from(2.0));
    }

    #[test]
    fn digits_that_mean_nothing_are_left_out() {
        assert_eq!([1.0 / 3.0, 1_234_567.0, 0.0].map(rounded), [0.333333, 1_234_570.0, 0.0]);
    }
}
