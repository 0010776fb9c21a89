//! Every metric, as a closed table: names, units and labels are an API of their own. `docs/reference.md` has them.

use std::borrow::Cow;

use prometheus_client::registry::Unit;

use crate::core::name::NamespaceName;

/// The label that tells namespaces apart. The only name of an object that is ever a label, and always the first one.
pub const NAMESPACE: &str = "namespace";

/// A label set.
pub type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// What is counted or measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and begins anew with the process.
    Counter,
    /// It is what it is at the time of the scrape.
    Gauge,
    /// Counts by size.
    Histogram,
    /// Always 1; the labels tell something.
    Info,
}

impl Kind {
    /// As in a `# TYPE` line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Definition {
    /// Its name without unit and suffix.
    pub(super) name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it is measured in: base units.
    unit: Option<Base>,
    /// The labels that a series of it may have.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Base units.
#[derive(Clone, Copy, Debug)]
enum Base {
    Seconds,
    Bytes,
}

impl Definition {
    /// The name of its series in a scrape; of a histogram without `_bucket`, `_sum` and `_count`.
    pub fn series(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let unit = self.unit().map(|unit| format!("_{}", unit.as_str())).unwrap_or_default();
        format!("{}{unit}{suffix}", self.name)
    }

    pub(super) fn unit(&self) -> Option<Unit> {
        Some(match self.unit? {
            Base::Seconds => Unit::Seconds,
            Base::Bytes => Unit::Bytes,
        })
    }

    /// The labels with these values, in the order of the table; without a namespace that label is left out.
    pub(super) fn labels<V: Into<Cow<'static, str>>>(
        &self,
        namespace: Option<&NamespaceName>,
        values: impl IntoIterator<Item = V>,
    ) -> Labels {
        let namespace = namespace.map(|namespace| (NAMESPACE, namespace.to_string().into()));
        let others = self.labels.iter().copied().filter(|label| *label != NAMESPACE);
        namespace.into_iter().chain(others.zip(values.into_iter().map(Into::into))).collect()
    }
}

macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $constant:ident = $kind:ident $name:literal $(in $unit:ident)? [$($label:literal),*]; )+) => {
        $(
            $(#[doc = $doc])+
            pub static $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                unit: metrics!(@unit $($unit)?),
                labels: &[$($label),*],
                help: concat!($($doc),+).trim_ascii(),
            };
        )+

        /// Every metric, in the order of the reference.
        pub static ALL: &[&Definition] = &[$(&$constant),+];
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Base::$unit) };
}

metrics! {
    /// Times a destination of a request was seen to, by how it ended.
    ATTEMPTS = Counter "secrets_distributor_attempts" ["namespace", "result", "reason"];
    /// Decisions about a destination of a request.
    DECISIONS = Counter "secrets_distributor_decisions" ["namespace", "result"];
    /// How long it takes to decide about all destinations of a request.
    DECISION_DURATION = Histogram "secrets_distributor_decision_duration" in Seconds [];
    /// From a change to the Secret that was written because of it; with exemplars where it was traced.
    PROPAGATION = Histogram "secrets_distributor_propagation" in Seconds ["cause"];
    /// Requests by the reason of their condition Ready.
    REQUESTS = Gauge "secrets_distributor_requests" ["namespace", "reason"];
    /// Policies by the reason of their condition Accepted.
    POLICIES = Gauge "secrets_distributor_policies" ["reason"];

    /// Secrets that the operator has written and that are there.
    SECRETS = Gauge "secrets_distributor_secrets" ["namespace"];
    /// Secrets whose grant is gone and whose grace period runs.
    SECRETS_REVOCATION_PENDING = Gauge "secrets_distributor_secrets_revocation_pending" ["namespace"];
    /// Secrets that were deleted because their grant was gone.
    SECRETS_REVOKED = Counter "secrets_distributor_secrets_revoked" ["namespace"];
    /// Writes of Secrets that came about.
    SECRET_WRITES = Counter "secrets_distributor_secret_writes" ["namespace", "operation"];
    /// When the first of the certificates in Secrets of type kubernetes.io/tls ends to be valid; of those that this replica has read since it leads.
    CERTIFICATE_NOT_AFTER = Gauge "secrets_distributor_certificate_not_after_timestamp" in Seconds ["namespace"];

    /// Writes that the rate limit has left now, of namespaces that were written to; only of the replica that leads.
    RATE_LIMIT_TOKENS = Gauge "secrets_distributor_rate_limit_tokens" ["namespace"];
    /// Times that a namespace began to be throttled: something had to wait for its rate limit.
    THROTTLINGS = Counter "secrets_distributor_throttlings" ["namespace"];
    /// Time during which something in a namespace waited for its rate limit.
    THROTTLED = Counter "secrets_distributor_throttled" in Seconds ["namespace"];

    /// Requests that are due and not worked on yet.
    QUEUE_DEPTH = Gauge "secrets_distributor_queue_depth" ["priority"];
    /// For how long the oldest of them has been due.
    QUEUE_OLDEST_AGE = Gauge "secrets_distributor_queue_oldest_age" in Seconds [];
    /// Requests that come back by themselves later.
    QUEUE_DELAYED = Gauge "secrets_distributor_queue_delayed" [];
    /// How many requests can be worked on at once.
    WORKERS = Gauge "secrets_distributor_workers" [];
    /// How many are worked on.
    WORKERS_BUSY = Gauge "secrets_distributor_workers_busy" [];

    /// Calls of the API server.
    API_REQUESTS = Counter "secrets_distributor_api_requests" ["verb", "resource", "code"];
    /// From the call to the beginning of its answer.
    API_REQUEST_DURATION = Histogram "secrets_distributor_api_request_duration" in Seconds ["verb", "resource"];
    /// Times that a watch was interrupted.
    WATCH_RESTARTS = Counter "secrets_distributor_watch_restarts" ["resource"];

    /// Sources in the mounted folder when it was last usable.
    SOURCES = Gauge "secrets_distributor_sources" [];
    /// Times that sources were changed, added or removed: several at once count once.
    SOURCE_CHANGES = Counter "secrets_distributor_source_changes" [];
    /// When the newest source came into the folder.
    SOURCE_LAST_CHANGE = Gauge "secrets_distributor_source_last_change_timestamp" in Seconds [];

    /// 1 if this replica leads: it alone writes.
    LEADER = Gauge "secrets_distributor_leader" [];
    /// 1 if the gate of readiness is open.
    READY = Gauge "secrets_distributor_ready" ["gate"];
    /// Spans of traces that were dropped because they could not be exported.
    SPANS_DROPPED = Counter "secrets_distributor_spans_dropped" [];
    /// The program.
    BUILD = Info "secrets_distributor_build" ["version"];

    /// When the process started.
    PROCESS_START_TIME = Gauge "process_start_time" in Seconds [];
    /// CPU time of the process, of user and system.
    PROCESS_CPU = Counter "process_cpu" in Seconds [];
    /// Memory of the process that is resident.
    PROCESS_RESIDENT_MEMORY = Gauge "process_resident_memory" in Bytes [];
    /// File descriptors that the process has open.
    PROCESS_OPEN_FDS = Gauge "process_open_fds" [];
}

/// What the values of each label are.
pub const LABELS: &[(&str, &str)] = &[
    (
        NAMESPACE,
        "The namespace of the Secret; of `secrets_distributor_requests` that of the request. What is counted in a \
         namespace that does not exist (any more) has no such label. With `--metrics-namespace-label false` no series \
         has it: they are sums, and the earliest certificate.",
    ),
    (
        "result",
        "Of an attempt: `synced` (the Secret is as it should be), `denied`, `throttled`, `held` (something is in the way) \
         or `failed` (the API server or the operator failed). Of a decision: `permitted`, `denied` or `unready` \
         (not everything has been read yet).",
    ),
    ("reason", "One of the reasons above; of a request none before it is seen to for the first time."),
    ("cause", "What had changed."),
    (
        "operation",
        "`create`, `change`, `delete` or `mark` (the beginning of a grace period). A Secret whose type changes is \
         deleted and created.",
    ),
    ("priority", "`revocation`, `rotation`, `change`, `retry` or `status`: the order in which they are worked on."),
    ("verb", "That of the Kubernetes API, such as `get`, `list`, `watch`, `create`, `patch` or `delete`."),
    ("resource", "That of the Kubernetes API, such as `secrets` or `secretsdistributions/status`."),
    (
        "code",
        "The HTTP status; `error` if there was no answer or no connection, `cancelled` if it was given up, for \
         instance by its deadline.",
    ),
    ("gate", "One of the gates of `/readyz`."),
    ("version", "The version of the program."),
];
