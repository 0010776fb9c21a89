//! A layer of the client that counts and times every call of the API server.

use std::{
    borrow::Cow,
    task::{Context, Poll},
    time::Instant,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request, Response, StatusCode, Uri};
use tower::{Layer, Service};

use super::Metrics;

/// What the operator works with: nothing else of a path becomes a label.
const RESOURCES: &[&str] = &[
    "secretsdistributions",
    "secretsdistributions/status",
    "distributionpolicies",
    "distributionpolicies/status",
    "namespaces",
    "secrets",
    "events",
    "leases",
];

/// The layer.
#[derive(Clone)]
pub struct ApiCalls(pub(super) Metrics);

impl<S> Layer<S> for ApiCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.0.clone() }
    }
}

/// A client whose calls are counted.
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: Metrics,
}

impl<S, B, A> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    S::Error: Send,
    A: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut call = Call::begins(self.metrics.clone(), request.method(), request.uri());
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await;
            call.ended(answer.as_ref().ok().map(Response::status));
            answer
        }
        .boxed()
    }
}

/// A call that has begun. It is counted when this is dropped: also if nobody waits for its answer any more.
struct Call {
    metrics: Metrics,
    verb: &'static str,
    resource: &'static str,
    code: Cow<'static, str>,
    begun: Instant,
}

impl Call {
    fn begins(metrics: Metrics, method: &Method, uri: &Uri) -> Self {
        let (verb, resource) = describe(method, uri);
        Self { metrics, verb, resource, code: "cancelled".into(), begun: Instant::now() }
    }

    fn ended(&mut self, status: Option<StatusCode>) {
        self.code = status.map_or("error".into(), |status| status.as_str().to_owned().into());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.metrics.api_call(self.verb, self.resource, std::mem::take(&mut self.code), self.begun.elapsed());
    }
}

/// Verb and resource, as the API server's own metrics and audit log tell them.
fn describe(method: &Method, uri: &Uri) -> (&'static str, &'static str) {
    let segments: Vec<_> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
    let within = match segments.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        _ => &[],
    };
    let within = match within {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    let (resource, is_named) = match within {
        [resource] => (resource.to_string(), false),
        [resource, _] => (resource.to_string(), true),
        [resource, _, part] => (format!("{resource}/{part}"), true),
        _ => Default::default(),
    };
    let resource = RESOURCES.iter().find(|known| **known == resource).copied().unwrap_or("other");
    let is_watch = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    let verb = match method.as_str() {
        "GET" if is_watch => "watch",
        "GET" if is_named => "get",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::telemetry::metrics::Format;

    #[test]
    fn calls_are_named_as_the_api_server_names_them_and_no_object_is() {
        for (method, uri, expected) in [
            ("GET", "/api/v1/namespaces?limit=500", ("list", "namespaces")),
            ("GET", "/api/v1/namespaces/secrets", ("get", "namespaces")),
            ("GET", "/api/v1/namespaces/a/secrets?labelSelector=x&watch=true", ("watch", "secrets")),
            ("GET", "/api/v1/namespaces/a/secrets/watch=true", ("get", "secrets")),
            ("POST", "/api/v1/namespaces/a/secrets?", ("create", "secrets")),
            ("DELETE", "/api/v1/namespaces/a/secrets/b", ("delete", "secrets")),
            (
                "PATCH",
                "/apis/xlscsde.nhs.uk/v1/namespaces/a/secretsdistributions/b/status",
                ("patch", "secretsdistributions/status"),
            ),
            ("GET", "/apis/xlscsde.nhs.uk/v1/distributionpolicies", ("list", "distributionpolicies")),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", ("update", "leases")),
            ("POST", "/apis/events.k8s.io/v1/namespaces/a/events", ("create", "events")),
            ("GET", "/version", ("list", "other")),
            ("GET", "/api/v1/namespaces/a/secrets/b/hunter2", ("get", "other")),
            ("TRACE", "/", ("other", "other")),
        ] {
            let method = method.parse().unwrap();
            assert_eq!(describe(&method, &uri.parse().unwrap()), expected, "{uri}");
        }
    }

    #[tokio::test]
    async fn answers_failures_and_calls_that_were_given_up_are_counted() {
        let metrics = Metrics::new(true);
        let request = || Request::post("/api/v1/namespaces/a/secrets").body(()).unwrap();
        let refused = service_fn(async |_: Request<()>| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::FORBIDDEN;
            Ok::<_, Infallible>(response)
        });
        ApiCalls(metrics.clone()).layer(refused).oneshot(request()).await.unwrap();
        let broken = service_fn(async |_: Request<()>| Err::<Response<()>, _>("broken"));
        ApiCalls(metrics.clone()).layer(broken).oneshot(request()).await.unwrap_err();
        let hanging = service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
        assert!(ApiCalls(metrics.clone()).layer(hanging).oneshot(request()).now_or_never().is_none());

        let text = metrics.encode(Format::OpenMetrics);
        for code in ["403", "error", "cancelled"] {
            let line = format!(
                "secrets_distributor_api_requests_total{{verb=\"create\",resource=\"secrets\",code=\"{code}\"}} 1\n"
            );
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(text.contains(
            "secrets_distributor_api_request_duration_seconds_count{verb=\"create\",resource=\"secrets\"} 3\n"
        ));
    }
}
