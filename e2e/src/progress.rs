//! Tells a person who waits what is being waited for.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::timeout;

/// Work that ends sooner is not worth a line.
const FIRST: Duration = Duration::from_secs(2);
const NEXT: Duration = Duration::from_secs(10);

/// Runs the work; if it takes longer than a moment, says on stderr what it is and for how long.
pub(crate) async fn narrated<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let mut work = pin!(work);
    let mut patience = FIRST;
    loop {
        match timeout(patience, &mut work).await {
            Err(_) => eprintln!("control plane: {what} ... {} s", started.elapsed().as_secs()),
            Ok(result) => {
                if patience == NEXT {
                    eprintln!("control plane: {what}: took {} s", started.elapsed().as_secs());
                }
                return result;
            }
        }
        patience = NEXT;
    }
}
