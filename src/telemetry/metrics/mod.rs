//! Metrics: what happens is counted when it happens; what is the case is read when somebody asks.
//!
//! Invariants: every metric is one of [`table`]. No label holds the name of an object, but for that of a namespace that
//! exists; when it goes, its series go.

mod api_calls;
mod events;
mod process;
mod series;
pub mod table;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    registry::Registry,
};

pub use self::{
    api_calls::{ApiCalls, Counted},
    series::Readings,
};
use self::{events::Events, process::Process, series::Namespaces};
use crate::{api::conditions::Reason, core::name::NamespaceName};

/// Every metric of the process. Cheap to clone; every clone is the same.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    namespaces: Arc<Namespaces>,
    events: Events,
    registry: Mutex<Registry>,
}

/// How the metrics are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// The older text format of Prometheus.
    Prometheus,
}

impl Format {
    /// What whoever sends this `Accept` header understands.
    pub fn accepted(accept: &str) -> Self {
        let is_old = accept.contains("text/plain") && !accept.contains("application/openmetrics-text");
        if is_old { Self::Prometheus } else { Self::OpenMetrics }
    }

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// What is the case, to be read at each scrape.
pub trait States: Send + Sync + 'static {
    /// Reads it.
    fn read(&self, readings: &mut Readings<'_>);
}

/// What was done to a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It was not there.
    Create,
    /// It was there.
    Change,
    /// It is gone.
    Delete,
    /// Its grace period began.
    Mark,
}

/// What was decided about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It is granted.
    Permitted,
    /// It is not.
    Denied,
    /// Not everything has been read that a decision needs.
    Unready,
}

impl Metrics {
    /// Nothing has happened yet. Without `by_namespace` no series is told apart by namespace.
    pub fn new(by_namespace: bool) -> Self {
        let namespaces = Arc::new(Namespaces::new(by_namespace));
        let mut registry = Registry::default();
        let events = Events::new(&mut registry, &namespaces);
        let metrics = Self(Arc::new(Inner { namespaces, events, registry: Mutex::new(registry) }));
        metrics.observe(Process::starting());
        metrics
    }

    /// From now on these are read at each scrape as well.
    pub fn observe(&self, states: impl States) {
        let namespaces = self.0.namespaces.clone();
        self.registry().register_collector(Box::new(Scraped { namespaces, states }));
    }

    /// All of it, as text.
    pub fn encode(&self, format: Format) -> String {
        let (mut text, registry) = (String::new(), self.registry());
        let encoded = match format {
            Format::OpenMetrics => text::encode(&mut text, &registry),
            Format::Prometheus => prometheus_text::encode(&mut text, &registry),
        };
        if encoded.is_err() {
            // A String takes whatever is written to it: this cannot happen. Half an answer would be taken for a whole.
            text.clear();
        }
        text
    }

    /// A layer of a client: what it sends is counted.
    pub fn api_calls(&self) -> ApiCalls {
        ApiCalls(self.clone())
    }

    /// The namespace exists.
    pub fn namespace_exists(&self, namespace: &NamespaceName) {
        self.0.namespaces.add(namespace);
    }

    /// The namespace is gone, and its series go.
    pub fn namespace_gone(&self, namespace: &NamespaceName) {
        let Events { attempts, decisions, secret_writes, secrets_revoked, .. } = &self.0.events;
        self.0.namespaces.remove(namespace);
        attempts.forget(namespace);
        decisions.forget(namespace);
        secret_writes.forget(namespace);
        secrets_revoked.forget(namespace);
    }

    /// A destination was seen to; the reason tells how it ended.
    pub fn attempted(&self, namespace: &NamespaceName, reason: Reason) {
        self.0.events.attempts.add(namespace, [result(reason), reason.as_str()]);
    }

    /// A destination was decided about.
    pub fn decided(&self, namespace: &NamespaceName, decided: Decided) {
        let result = match decided {
            Decided::Permitted => "permitted",
            Decided::Denied => "denied",
            Decided::Unready => "unready",
        };
        self.0.events.decisions.add(namespace, [result]);
    }

    /// How long it took to decide about all destinations of a request.
    pub fn decision_took(&self, elapsed: Duration) {
        self.0.events.decision_duration.observe(elapsed.as_secs_f64());
    }

    /// What had changed this long ago is in its Secret; and the trace that tells how it came there.
    pub fn propagated(&self, cause: &'static str, elapsed: Duration, trace_id: Option<String>) {
        let exemplar = trace_id.map(|id| vec![("trace_id", Cow::from(id))]);
        let labels = table::PROPAGATION.labels(None, [cause]);
        let histogram = self.0.events.propagation.get_or_create(&labels);
        histogram.observe(elapsed.as_secs_f64(), exemplar, Some(SystemTime::now()));
    }

    /// A Secret was written.
    pub fn wrote(&self, namespace: &NamespaceName, operation: Operation) {
        let operation = match operation {
            Operation::Create => "create",
            Operation::Change => "change",
            Operation::Delete => "delete",
            Operation::Mark => "mark",
        };
        self.0.events.secret_writes.add(namespace, [operation]);
    }

    /// A Secret was deleted because its grant is gone.
    pub fn revoked(&self, namespace: &NamespaceName) {
        self.0.events.secrets_revoked.add(namespace, []);
    }

    /// The watch of a resource was interrupted.
    pub fn watch_restarted(&self, resource: &'static str) {
        self.0.events.watch_restarts.get_or_create(&table::WATCH_RESTARTS.labels(None, [resource])).inc();
    }

    /// Sources have changed.
    pub fn sources_changed(&self) {
        self.0.events.source_changes.inc();
    }

    /// Spans could not be exported.
    pub fn spans_dropped(&self, count: u64) {
        self.0.events.spans_dropped.inc_by(count);
    }

    fn api_call(&self, verb: &'static str, resource: &'static str, code: Cow<'static, str>, elapsed: Duration) {
        let Events { api_requests, api_request_duration, .. } = &self.0.events;
        let values = [verb.into(), resource.into(), code];
        api_requests.get_or_create(&table::API_REQUESTS.labels(None, values)).inc();
        let labels = table::API_REQUEST_DURATION.labels(None, [verb, resource]);
        api_request_duration.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an attempt ended, in one word.
fn result(reason: Reason) -> &'static str {
    match reason {
        Reason::Granted | Reason::UpToDate | Reason::Ready => "synced",
        Reason::Throttled => "throttled",
        Reason::WriteRefused | Reason::ApiError | Reason::InternalError => "failed",
        Reason::Suspended
        | Reason::NamespaceNotFound
        | Reason::NamespaceTerminating
        | Reason::NotDelegated
        | Reason::SourcesNotReady
        | Reason::SourceMissing
        | Reason::SourceUnreadable
        | Reason::SourceTooLarge
        | Reason::InvalidForType
        | Reason::TargetConflict => "held",
        _ => "denied",
    }
}

/// States as the registry wants them.
struct Scraped<S> {
    namespaces: Arc<Namespaces>,
    states: S,
}

impl<S> fmt::Debug for Scraped<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraped").finish_non_exhaustive()
    }
}

impl<S: States> Collector for Scraped<S> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut readings = Readings::new(&self.namespaces);
        self.states.read(&mut readings);
        readings.encode(&mut encoder)
    }
}
