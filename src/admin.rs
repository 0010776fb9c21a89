//! The admin server: whether the process lives, and whether it is ready, with what is missing if it is not; and the
//! metrics.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Metrics, metrics::Format};

/// What stands before readiness. Cheap to clone; every clone is the same set of gates.
#[derive(Clone, Debug)]
pub struct Gates(Arc<watch::Sender<BTreeMap<&'static str, Gate>>>);

/// One thing the operator needs to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum Gate {
    /// Not there yet, and what is waited for.
    Waiting(String),
    /// There.
    Ready,
    /// There: this replica leads, and writes.
    Leading,
    /// There: another replica leads, and this one takes over when it ends.
    Standby,
    /// There is a reason why not.
    Failed(String),
}

impl Gate {
    /// Whether it lets readiness through.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Ready | Self::Leading | Self::Standby)
    }
}

impl Gates {
    /// The gates by name, with what each waits for; all of them closed.
    pub fn new<const N: usize>(waiting: [(&'static str, &str); N]) -> Self {
        let gates = waiting.map(|(name, what)| (name, Gate::Waiting(what.into())));
        Self(Arc::new(watch::Sender::new(BTreeMap::from(gates))))
    }

    /// The gates of the operator.
    pub fn of_the_operator() -> Self {
        Self::new([
            ("requests", "the SecretsDistribution objects have not been listed yet"),
            ("policies", "the DistributionPolicy objects have not been listed yet"),
            ("namespaces", "the namespaces have not been listed yet"),
            ("sources", "the folder of the sources has not been read yet"),
            ("leader", "the Lease has not been read yet"),
        ])
    }

    /// Opens a gate.
    pub fn open(&self, name: &'static str) {
        self.set(name, Gate::Ready);
    }

    /// Closes a gate, for a reason that a person can act on.
    pub fn close(&self, name: &'static str, reason: impl Into<String>) {
        self.set(name, Gate::Failed(reason.into()));
    }

    /// Every gate by its name, as it is now.
    pub fn states(&self) -> BTreeMap<&'static str, Gate> {
        self.0.borrow().clone()
    }

    /// Whether all gates are open.
    pub fn all_open(&self) -> bool {
        self.0.borrow().values().all(Gate::is_open)
    }

    /// Logs what changes; setting a gate as it is does nothing.
    pub fn set(&self, name: &'static str, gate: Gate) {
        let changed = self.0.send_if_modified(|gates| gates.insert(name, gate.clone()).as_ref() != Some(&gate));
        match gate {
            _ if !changed => {}
            Gate::Failed(reason) => tracing::warn!(gate = name, reason, "not ready"),
            Gate::Leading => tracing::info!(gate = name, "this replica leads"),
            Gate::Standby => tracing::info!(gate = name, "this replica stands by"),
            _ => tracing::info!(gate = name, "ready"),
        }
    }
}

/// Takes the address, and logs the one it got: with port 0 the system chooses.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "admin server listening");
    Ok(listener)
}

/// Answers until `shutdown`; also what `more` has.
pub async fn serve(
    listener: TcpListener,
    gates: Gates,
    metrics: Metrics,
    more: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let readiness = Router::new().route("/livez", get("ok\n")).route("/readyz", get(readyz)).with_state(gates);
    let router = readiness.merge(Router::new().route("/metrics", get(scrape)).with_state(metrics)).merge(more);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let format = Format::accepted(accepted(&headers));
    ([(header::CONTENT_TYPE, format.content_type())], metrics.encode(format)).into_response()
}

fn accepted(headers: &HeaderMap) -> &str {
    headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default()
}

async fn readyz(State(gates): State<Gates>, headers: HeaderMap) -> Response {
    let gates = gates.states();
    let ready = gates.values().all(Gate::is_open);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if accepted(&headers).contains("application/json") {
        let body = serde_json::json!({"ready": ready, "gates": gates}).to_string();
        return (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    (status, text(ready, &gates)).into_response()
}

fn text(ready: bool, gates: &BTreeMap<&'static str, Gate>) -> String {
    let lines = gates.iter().map(|(name, gate)| match gate {
        Gate::Ready => format!("{name}: ready\n"),
        Gate::Leading => format!("{name}: leading\n"),
        Gate::Standby => format!("{name}: standby\n"),
        Gate::Waiting(what) => format!("{name}: waiting: {what}\n"),
        Gate::Failed(reason) => format!("{name}: failed: {reason}\n"),
    });
    let head = if ready { "ok\n" } else { "not ready\n" };
    std::iter::once(head.to_string()).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    async fn ask(gates: &Gates, accept: &'static str) -> (StatusCode, String) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
        let response = readyz(State(gates.clone()), headers).await;
        let status = response.status();
        (status, String::from_utf8(to_bytes(response.into_body(), 4096).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_says_what_is_missing_and_follows_the_gates() {
        let gates = Gates::new([("policies", "not listed yet"), ("sources", "not read yet")]);
        let waiting = "not ready\npolicies: waiting: not listed yet\nsources: waiting: not read yet\n";
        assert_eq!(ask(&gates, "*/*").await, (StatusCode::SERVICE_UNAVAILABLE, waiting.into()));

        let elsewhere = gates.clone();
        elsewhere.open("policies");
        assert!(!gates.all_open());
        elsewhere.open("sources");
        assert!(gates.all_open());
        assert_eq!(ask(&gates, "*/*").await, (StatusCode::OK, "ok\npolicies: ready\nsources: ready\n".into()));

        gates.close("sources", "/mnt/secrets is empty");
        let failed = "not ready\npolicies: ready\nsources: failed: /mnt/secrets is empty\n";
        assert_eq!(ask(&gates, "").await, (StatusCode::SERVICE_UNAVAILABLE, failed.into()));
    }

    #[tokio::test]
    async fn machines_get_json() {
        let gates = Gates::new([("policies", "not listed yet"), ("sources", "not read yet")]);
        gates.open("policies");
        let (status, body) = ask(&gates, "application/json").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let expected = serde_json::json!({"ready": false, "gates": {
            "policies": {"state": "ready"},
            "sources": {"state": "waiting", "reason": "not read yet"},
        }});
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);
    }

    #[tokio::test]
    async fn whoever_scrapes_gets_the_format_it_understands() {
        let metrics = Metrics::new(true);
        let openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let prometheus = "text/plain; version=0.0.4; charset=utf-8";
        // The second is what Prometheus itself asks for.
        for (accept, content_type) in [
            ("*/*", openmetrics),
            ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", openmetrics),
            ("text/plain", prometheus),
        ] {
            let headers = HeaderMap::from_iter([(header::ACCEPT, accept.parse().unwrap())]);
            let response = scrape(State(metrics.clone()), headers).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[header::CONTENT_TYPE], content_type, "{accept}");
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert_eq!(body.ends_with(b"# EOF\n"), content_type == openmetrics);
        }
    }

    #[tokio::test]
    async fn a_standby_is_ready() {
        let gates = Gates::new([("leader", "not read yet")]);
        for (gate, body) in [(Gate::Leading, "ok\nleader: leading\n"), (Gate::Standby, "ok\nleader: standby\n")] {
            gates.set("leader", gate);
            assert_eq!(ask(&gates, "").await, (StatusCode::OK, body.into()));
        }
        assert!(ask(&gates, "application/json").await.1.contains(r#""leader":{"state":"standby"}"#));
    }

    #[test]
    fn a_gate_that_nobody_named_counts_once_it_is_closed() {
        let gates = Gates::new([]);
        assert!(gates.all_open());
        gates.close("lease", "held by another");
        assert!(!gates.all_open());
    }
}
