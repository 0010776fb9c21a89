//! What is being done, told on standard error while it takes long.

use std::{
    cell::Cell,
    future::Future,
    io::{IsTerminal, Write},
    time::Duration,
};

/// Before this nothing is told: most answers come at once.
const PATIENCE: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(500);

/// How far a piece of work is.
#[derive(Debug, Default)]
pub struct Progress {
    done: Cell<usize>,
}

impl Progress {
    /// More is done.
    pub fn add(&self, count: usize) {
        self.done.set(self.done.get() + count);
    }

    /// Does the work; tells about it once it has taken long. On a terminal one line that is rewritten, elsewhere one
    /// line in all.
    pub async fn during<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(PATIENCE, work.as_mut()).await {
            return done;
        }
        let (mut err, is_terminal) = (anstream::stderr(), std::io::stderr().is_terminal());
        // That it cannot be told is no reason not to do it.
        if !is_terminal {
            let _ = writeln!(err, "{what} ...");
            return work.await;
        }
        loop {
            let _ = write!(err, "\r{what} ... {} read", self.done.get());
            let _ = err.flush();
            if let Ok(done) = tokio::time::timeout(EVERY, work.as_mut()).await {
                let _ = write!(err, "\r\x1b[K");
                return done;
            }
        }
    }
}
