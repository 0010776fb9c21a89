//! The log level while the operator runs: `GET` and `PUT /log-level`. Only from this machine, which `kubectl
//! port-forward` counts as: it is for whoever may do that, and nobody else on the network.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};

use super::{LogFilter, LogLevel};

/// What answers.
pub fn router(level: LogLevel) -> Router {
    let route = get(show).put(change).layer(middleware::from_fn(from_here_only));
    Router::new().route("/log-level", route).with_state(level)
}

async fn from_here_only(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if peer.ip().to_canonical().is_loopback() {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "only from the operator's own machine: use kubectl port-forward\n").into_response()
}

async fn show(State(level): State<LogLevel>) -> String {
    format!("{}\n", level.get())
}

async fn change(State(level): State<LogLevel>, directives: String) -> (StatusCode, String) {
    match LogFilter::parse(directives.trim()) {
        Ok(filter) => {
            let before = level.get();
            level.set(filter);
            tracing::warn!(before, now = level.get(), "the log level was changed");
            (StatusCode::OK, format!("{}\n", level.get()))
        }
        Err(error) => {
            let advice = "must be error, warn, info, debug or trace, or directives such as info,kube_runtime=debug";
            (StatusCode::BAD_REQUEST, format!("{error}; {advice}\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::LogFormat;
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    async fn ask(router: &Router, peer: &str, method: &str, body: &str) -> (u16, String) {
        let mut request =
            Request::builder().method(method).uri("/log-level").body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        (status, String::from_utf8(to_bytes(answer.into_body(), 4096).await.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn whoever_is_here_changes_it_and_nobody_else() {
        let (level, _subscriber) = LogLevel::for_tests(LogFormat::Json, "info");
        let router = router(level.clone());
        assert_eq!(ask(&router, "127.0.0.1:1", "GET", "").await, (200, "info\n".into()));
        assert_eq!(ask(&router, "[::ffff:127.0.0.1]:1", "PUT", "info,kube=debug\n").await.0, 200);
        assert_eq!(level.get(), "info,kube=debug");
        for (peer, body, status) in [("10.0.0.7:1", "trace", 403), ("[::1]:1", "=nonsense=", 400)] {
            assert_eq!(ask(&router, peer, "PUT", body).await.0, status, "{peer} {body}");
        }
        assert_eq!(level.get(), "info,kube=debug");
    }
}
