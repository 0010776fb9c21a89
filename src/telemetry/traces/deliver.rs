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
use tokio::{runtime::Handle, time::timeout};

use super::keep::Ledger;

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
        if delivered { Ok(()) } else { Err(OTelSdkError::InternalFailure("not delivered".into())) }
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}
