//! Whether this replica may write, for everybody who wants to.

use std::{future::pending, sync::Arc};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::error::NotLeader;

/// The right to write, which ends by itself. Cheap to clone; every clone is the same right.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<watch::Sender<Right>>);

/// One span of time in which this replica may write without a gap. Whatever was begun in another one is outdated:
/// another replica may have written between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(u64);

#[derive(Debug)]
struct Right {
    term: Term,
    until: Option<Instant>,
}

impl Default for Leadership {
    /// Nobody may write yet.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Right { term: Term(0), until: None })))
    }
}

impl Leadership {
    /// The term in which this replica may write now.
    pub fn check(&self) -> Result<Term, NotLeader> {
        self.0.borrow().now().map(|(term, _)| term)
    }

    /// Whether this replica may write what it began in `term`.
    pub fn check_term(&self, term: Term) -> Result<(), NotLeader> {
        self.until(term).map(drop)
    }

    /// Waits until this replica may write.
    pub async fn gained(&self) -> Term {
        let mut changes = self.0.subscribe();
        loop {
            if let Ok(term) = self.check() {
                return term;
            }
            if changes.changed().await.is_err() {
                pending::<()>().await; // Cannot be: the sender is in `self`.
            }
        }
    }

    /// Waits until this replica may not write any more what it began in `term`.
    pub async fn over(&self, term: Term) {
        let mut changes = self.0.subscribe();
        while let Ok(until) = self.until(term) {
            tokio::select! { () = sleep_until(until) => {}, _ = changes.changed() => {} }
        }
    }

    /// One that nobody takes away while a test runs.
    #[cfg(test)]
    pub(crate) fn for_an_hour() -> Self {
        let leadership = Self::default();
        leadership.set(Some(Instant::now() + std::time::Duration::from_secs(3600)));
        leadership
    }

    /// As if another replica had led meanwhile.
    #[cfg(test)]
    pub(crate) fn begin_another_term(&self) {
        self.set(None);
        self.set(Some(Instant::now() + std::time::Duration::from_secs(3600)));
    }

    /// Says until when this replica may write; `None`: not any more. A right that had ended does not go on: a new term
    /// begins.
    pub(super) fn set(&self, until: Option<Instant>) {
        self.0.send_if_modified(|right| {
            let ended = right.now().is_err();
            let before = std::mem::replace(&mut right.until, until);
            if ended && right.now().is_ok() {
                right.term.0 += 1;
            }
            before != until
        });
    }

    fn until(&self, term: Term) -> Result<Instant, NotLeader> {
        let (current, until) = self.0.borrow().now()?;
        if current == term { Ok(until) } else { Err(NotLeader) }
    }
}

impl Right {
    fn now(&self) -> Result<(Term, Instant), NotLeader> {
        let until = self.until.filter(|until| Instant::now() < *until).ok_or(NotLeader)?;
        Ok((self.term, until))
    }
}

impl Term {
    /// Grows from term to term.
    pub fn number(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn the_right_ends_by_itself_and_a_renewal_prolongs_it() {
        let leadership = Leadership::default();
        assert_eq!(leadership.check(), Err(NotLeader));
        let start = Instant::now();
        leadership.set(Some(start + SPAN));
        let term = leadership.gained().await;
        let (waiting, elsewhere) = (leadership.clone(), leadership.clone());
        let renewal = async move {
            sleep_until(start + SPAN / 2).await;
            elsewhere.set(Some(start + SPAN * 2));
            assert_eq!(elsewhere.check(), Ok(term), "no gap, no new term");
        };
        tokio::join!(waiting.over(term), renewal);
        assert_eq!(Instant::now(), start + SPAN * 2);
        assert_eq!(leadership.check(), Err(NotLeader));
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_taken_away_and_given_again() {
        let leadership = Leadership::default();
        let (gained, elsewhere) = (leadership.clone(), leadership.clone());
        let (term, ()) = tokio::join!(gained.gained(), async move { elsewhere.set(Some(Instant::now() + SPAN)) });
        let (over, elsewhere) = (leadership.clone(), leadership.clone());
        tokio::join!(over.over(term), async move { elsewhere.set(None) });
        assert_eq!(leadership.check(), Err(NotLeader));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_begun_in_one_term_is_outdated_in_the_next() {
        let leadership = Leadership::default();
        let gaps: [&dyn Fn(); 2] = [&|| leadership.set(None), &|| leadership.set(Some(Instant::now()))];
        for gap in gaps {
            leadership.set(Some(Instant::now() + SPAN));
            let first = leadership.check().unwrap();
            gap();
            leadership.set(Some(Instant::now() + SPAN));
            let second = leadership.check().unwrap();
            assert!(second.number() > first.number());
            assert_eq!((leadership.check_term(first), leadership.check_term(second)), (Err(NotLeader), Ok(())));
            leadership.over(first).await;
        }
        // Renewed too late, after a freeze: nobody said that it had ended, but another could have led.
        let before = leadership.check().unwrap();
        tokio::time::advance(SPAN).await;
        leadership.set(Some(Instant::now() + SPAN));
        assert_eq!(leadership.check_term(before), Err(NotLeader));
    }
}
