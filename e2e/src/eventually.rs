//! Waiting for what comes about by itself.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

const POLL: Duration = Duration::from_millis(50);

/// What a probe of [`eventually`] may answer: the value waited for, or what it saw instead.
pub trait Outcome {
    /// The value waited for.
    type Value;
    /// The value, or a description of what was seen.
    fn settle(self) -> Result<Self::Value, String>;
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn settle(self) -> Result<T, String> {
        // The alternate form shows the causes of an anyhow error as well.
        self.map_err(|seen| format!("{seen:#}"))
    }
}

/// Probes until the value is there. After `timeout`, the error tells what was awaited and what the
/// last probe saw; a probe that hangs counts as one that saw nothing.
pub async fn eventually<P, O>(timeout: Duration, what: &str, mut probe: P) -> Result<O::Value>
where
    P: AsyncFnMut() -> O,
    O: Outcome,
{
    let deadline = Instant::now() + timeout;
    let mut last = "nothing: the first probe did not answer".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, probe()).await.map(Outcome::settle) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen,
            // The probe hangs; time is up.
            Err(_) => {}
        }
        ensure!(Instant::now() < deadline, "not within {timeout:?}: {what}. Last seen: {last}");
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_value_ends_the_wait() {
        let mut probes = 0;
        let value = eventually(Duration::from_secs(60), "three probes", async || {
            probes += 1;
            (probes == 3).then_some(probes)
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn the_failure_tells_what_was_seen_last() {
        let failure = eventually(Duration::from_millis(120), "the moon", async || Err::<(), _>("a cloud")).await;
        assert_eq!(failure.unwrap_err().to_string(), "not within 120ms: the moon. Last seen: a cloud");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_bounded() {
        let failure = eventually(Duration::from_millis(50), "an answer", std::future::pending::<Option<()>>).await;
        assert!(failure.is_err());
    }
}
