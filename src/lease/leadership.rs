//! Whether this replica may write, for everybody who wants to.

use std::{future::pending, sync::Arc};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::error::NotLeader;

/// The right to write, which ends by itself. Cheap to clone; every clone is the same right.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<watch::Sender<Option<Instant>>>);

impl Default for Leadership {
    /// Nobody may write yet.
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Leadership {
    /// Until when this replica may write, as it looks now.
    pub fn check(&self) -> Result<Instant, NotLeader> {
        let until = *self.0.borrow();
        until.filter(|until| Instant::now() < *until).ok_or(NotLeader)
    }

    /// Waits until this replica may write.
    pub async fn gained(&self) {
        let mut changes = self.0.subscribe();
        while self.check().is_err() {
            if changes.changed().await.is_err() {
                pending::<()>().await; // Cannot be: the sender is in `self`.
            }
        }
    }

    /// Waits until this replica may not write.
    pub async fn lost(&self) {
        let mut changes = self.0.subscribe();
        while let Ok(until) = self.check() {
            tokio::select! { () = sleep_until(until) => {}, _ = changes.changed() => {} }
        }
    }

    /// Says until when this replica may write; `None`: not any more.
    pub(super) fn set(&self, until: Option<Instant>) {
        self.0.send_if_modified(|known| std::mem::replace(known, until) != until);
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
        leadership.lost().await;
        let start = Instant::now();
        leadership.set(Some(start + SPAN));
        leadership.gained().await;
        assert_eq!(leadership.check(), Ok(start + SPAN));
        let (waiting, elsewhere) = (leadership.clone(), leadership.clone());
        let renewal = async move {
            sleep_until(start + SPAN / 2).await;
            elsewhere.set(Some(start + SPAN * 2));
        };
        tokio::join!(waiting.lost(), renewal);
        assert_eq!(Instant::now(), start + SPAN * 2);
        assert_eq!(leadership.check(), Err(NotLeader));
    }

    #[tokio::test(start_paused = true)]
    async fn it_can_be_taken_away_and_given_again() {
        let leadership = Leadership::default();
        let (gained, elsewhere) = (leadership.clone(), leadership.clone());
        tokio::join!(gained.gained(), async move { elsewhere.set(Some(Instant::now() + SPAN)) });
        let (lost, elsewhere) = (leadership.clone(), leadership.clone());
        tokio::join!(lost.lost(), async move { elsewhere.set(None) });
        assert_eq!(leadership.check(), Err(NotLeader));
    }
}
