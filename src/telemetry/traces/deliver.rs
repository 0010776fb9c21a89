//! What is between the operator and a collector that may be down, slow, or talk nonsense: one line in the log when that
//! begins and one when it ends, and a count of what was lost meanwhile.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use super::keep::Ledger;

/// How long nothing is sent after a batch that was not taken. To put batches together for a collector that answers each
/// with an error costs as much as one that takes them, and helps nobody. Meanwhile the queue fills, so that a short
/// trouble loses no more than the batch. Must be below the time of the last flush: an operator that leaves tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// Exports on the runtime: the thread that hands the batches over has none, and the connections need one.
#[derive(Debug)]
pub(super) struct Deliver<E> {
    exporter: Arc<E>,
    runtime: Handle,
    ledger: Arc<Ledger>,
    /// How long one batch may take, with all that is tried again.
    patience: Duration,
    is_failing: AtomicBool,
}

impl<E: SpanExporter + fmt::Debug + 'static> Deliver<E> {
    pub fn new(exporter: E, runtime: Handle, ledger: Arc<Ledger>, patience: Duration) -> Self {
        Self { exporter: Arc::new(exporter), runtime, ledger, patience, is_failing: AtomicBool::new(false) }
    }

    /// What a collector says is not repeated: it is not ours, and may be long.
    fn tell(&self, delivered: bool) {
        let was_failing = self.is_failing.swap(!delivered, Ordering::AcqRel);
        match (was_failing, delivered) {
            (false, false) => tracing::warn!(
                "traces cannot be delivered, and are dropped until they can; nothing else is affected: check \
                 OTEL_EXPORTER_OTLP_ENDPOINT and the collector"
            ),
            (true, true) => tracing::info!(dropped = self.ledger.dropped(), "traces are delivered again"),
            _ => {}
        }
    }
}

impl<E: SpanExporter + fmt::Debug + 'static> SpanExporter for Deliver<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (count, exporter, patience) = (batch.len(), self.exporter.clone(), self.patience);
        self.ledger.taken(count);
        let export = async move { timeout(patience, exporter.export(batch)).await };
        // A panic in the exporter, or a runtime that ends, is one more way not to be delivered.
        let delivered = matches!(self.runtime.spawn(export).await, Ok(Ok(Ok(()))));
        if !delivered {
            self.ledger.drop_spans(count);
        }
        self.tell(delivered);
        if delivered {
            return Ok(());
        }
        // It ends early with the runtime alone, and then there is nothing to wait for.
        self.runtime.spawn(async { sleep(PAUSE).await }).await.ok();
        Err(OTelSdkError::InternalFailure("not delivered".into()))
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use std::sync::atomic::AtomicUsize;
    use tokio::time::Instant;

    /// Fails as many times as it is told, and then takes everything.
    #[derive(Debug)]
    struct Failing(AtomicUsize);

    impl SpanExporter for Failing {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let fails = |left: usize| left.checked_sub(1);
            match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails) {
                Ok(_) => Err(OTelSdkError::InternalFailure("refused".into())),
                Err(_) => Ok(()),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_batch_that_was_not_taken_nothing_is_sent_for_a_while() {
        let ledger = Arc::new(Ledger::new(Metrics::new(true)));
        let deliver = Deliver::new(Failing(AtomicUsize::new(2)), Handle::current(), ledger, Duration::from_secs(30));
        let mut took = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            let is_delivered = deliver.export(Vec::new()).await.is_ok();
            took.push((is_delivered, start.elapsed() >= PAUSE));
        }
        assert_eq!(took, [(false, true), (false, true), (true, false), (true, false)]);
    }
}
