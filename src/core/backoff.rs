//! How long to wait after failures in a row.

use std::time::Duration;

/// The first delay.
const FIRST: Duration = Duration::from_millis(500);

/// The longest delay: an API server that returns is noticed within this time.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles with each failure in a row (counted from 1), up to the longest; `jitter` in 0..1 takes away up to a
/// quarter, so that many that failed together do not come back together.
pub fn delay(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(LONGEST).mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_grows_to_the_longest_and_never_beyond(failures in 1u32.., jitter in 0.0..1.0) {
            let wait = delay(failures, jitter);
            prop_assert!(wait <= LONGEST && wait >= FIRST.mul_f64(0.75));
            prop_assert!(delay(failures.saturating_add(1), jitter) >= wait);
        }
    }
}
