//! One span per call of the API server, after the semantic conventions for HTTP clients. Only within a span: what
//! watches, and what renews the lease, leaves no trace.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response, Uri};
use opentelemetry::{StringValue, propagation::TextMapPropagator};
use opentelemetry_http::HeaderInjector;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::{Layer, Service};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    Traced, current_trace,
    names::{CALL, ERROR_TYPE, METHOD, RESOURCE, SERVER_ADDRESS, SERVER_PORT, STATUS_CODE, URL_FULL, URL_TEMPLATE},
};

/// Makes the spans, for calls of the server at `server`.
pub fn client_layer(server: &Uri) -> ClientLayer {
    ClientLayer { server: Arc::new(Server::at(server)) }
}

/// See [`client_layer`].
#[derive(Clone, Debug)]
pub struct ClientLayer {
    server: Arc<Server>,
}

/// What is said of the server in the span of each call.
#[derive(Debug)]
struct Server {
    url: String,
    address: StringValue,
    port: i64,
}

impl Server {
    fn at(uri: &Uri) -> Self {
        let default = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let address: Arc<str> = uri.host().unwrap_or_default().trim_matches(['[', ']']).into();
        Self {
            url: uri.to_string().trim_end_matches('/').to_owned(),
            address: address.into(),
            port: i64::from(uri.port_u16().unwrap_or(default)),
        }
    }
}

impl<S> Layer<S> for ClientLayer {
    type Service = TracedClient<S>;

    fn layer(&self, inner: S) -> TracedClient<S> {
        TracedClient { inner, server: self.server.clone() }
    }
}

/// A service whose calls are spans.
#[derive(Clone, Debug)]
pub struct TracedClient<S> {
    inner: S,
    server: Arc<Server>,
}

impl<S, B, R> Service<Request<B>> for TracedClient<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if current_trace().is_none() {
            return self.inner.call(request).boxed();
        }
        let span = span(&request, &self.server);
        TraceContextPropagator::new().inject_context(&span.context(), &mut HeaderInjector(request.headers_mut()));
        // It is not entered: nothing within a call has spans, and to enter it each time that it goes on costs.
        let (answer, unanswered) = (self.inner.call(request), Unanswered(Some(span)));
        async move {
            let answer = answer.await;
            unanswered.end(answer.as_ref().map(|response| response.status().as_u16()).ok());
            answer
        }
        .boxed()
    }
}

/// A call in flight. Dropped: it was given up.
struct Unanswered(Option<Span>);

impl Unanswered {
    fn end(mut self, status: Option<u16>) {
        let Some(span) = self.0.take() else { return };
        match status {
            None => span.fail("connection"),
            Some(status) => {
                span.set(STATUS_CODE, i64::from(status));
                if status >= 400 {
                    span.fail("http");
                    span.set(ERROR_TYPE, status.to_string());
                }
            }
        }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            span.fail("canceled");
        }
    }
}

fn span<B>(request: &Request<B>, server: &Server) -> Span {
    let (method, path) = (request.method().to_string(), Path::of(request.uri().path()));
    let span = CALL.start_as(&format!("{method} {}", path.template));
    span.set(METHOD, method);
    span.set(URL_TEMPLATE, path.template);
    span.set(URL_FULL, format!("{}{}", server.url, request.uri()));
    span.set(SERVER_ADDRESS, server.address.clone());
    span.set(SERVER_PORT, server.port);
    span.set(RESOURCE, path.resource);
    span
}

/// A path of the Kubernetes API, without the names in it.
#[derive(Debug, PartialEq, Eq)]
struct Path {
    template: String,
    resource: String,
}

impl Path {
    fn of(path: &str) -> Self {
        let segments: Vec<_> = path.trim_matches('/').split('/').collect();
        let group = match segments.first() {
            Some(&"api") => 2,
            Some(&"apis") => 3,
            _ => 0,
        };
        let (group, rest) = segments.split_at(group.min(segments.len()));
        let mut template: Vec<_> = group.to_vec();
        let rest = match rest {
            ["namespaces", _, rest @ ..] if !rest.is_empty() => {
                template.extend(["namespaces", "{namespace}"]);
                rest
            }
            rest => rest,
        };
        let resource: Vec<_> = rest.iter().take(1).chain(rest.iter().skip(2)).copied().collect();
        let names = rest.iter().enumerate().map(|(i, segment)| if i == 1 { "{name}" } else { segment });
        template.extend(names);
        Self { template: format!("/{}", template.join("/")), resource: resource.join("/") }
    }
}

#[cfg(test)]
mod tests {
    use tracing::Instrument;

    use super::*;
    use crate::telemetry::traces::{names::DISTRIBUTE, tests::Recorder};
    use std::convert::Infallible;
    use tower::{ServiceExt, service_fn};

    #[test]
    fn names_are_left_out_of_a_path_and_what_is_called_is_told() {
        for (path, template, resource) in [
            ("/api/v1/namespaces/a/secrets", "/api/v1/namespaces/{namespace}/secrets", "secrets"),
            ("/api/v1/namespaces/a/secrets/b", "/api/v1/namespaces/{namespace}/secrets/{name}", "secrets"),
            ("/api/v1/namespaces/a", "/api/v1/namespaces/{name}", "namespaces"),
            ("/apis/g/v1/distributionpolicies", "/apis/g/v1/distributionpolicies", "distributionpolicies"),
            (
                "/apis/g/v1/namespaces/a/sds/b/status",
                "/apis/g/v1/namespaces/{namespace}/sds/{name}/status",
                "sds/status",
            ),
            ("/", "/", ""),
        ] {
            assert_eq!(Path::of(path), Path { template: template.into(), resource: resource.into() });
        }
    }

    fn get(path: &str) -> Request<()> {
        Request::get(path).body(()).unwrap()
    }

    #[tokio::test]
    async fn a_call_is_a_span_within_its_attempt_and_hands_its_trace_on() {
        let recorder = Recorder::start();
        let server = service_fn(async |request: Request<()>| {
            assert!(request.headers()["traceparent"].to_str().unwrap().ends_with("-01"));
            Ok::<_, Infallible>(
                Response::builder().status(if request.uri().query().is_some() { 409 } else { 201 }).body(()).unwrap(),
            )
        });
        let mut client = client_layer(&"https://[::1]:6443/".parse().unwrap()).layer(server);
        async {
            client.ready().await.unwrap().call(get("/api/v1/namespaces/a/secrets/b")).await.unwrap();
            client.ready().await.unwrap().call(get("/api/v1/namespaces/a/secrets?dryRun=All")).await.unwrap();
        }
        .instrument(DISTRIBUTE.start_root())
        .await;
        let spans = recorder.spans();
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        let expected =
            ["GET /api/v1/namespaces/{namespace}/secrets/{name}", "GET /api/v1/namespaces/{namespace}/secrets"];
        assert_eq!(names, [expected[0], expected[1], "distribute"]);
        assert!(spans[..2].iter().all(|span| span.within == "distribute" && span.kind == "Client"));
        assert_eq!(spans[0].get(URL_FULL), "https://[::1]:6443/api/v1/namespaces/a/secrets/b");
        assert_eq!((spans[0].get(SERVER_ADDRESS), spans[0].get(SERVER_PORT)), ("::1".into(), "6443".into()));
        assert_eq!((spans[0].get(STATUS_CODE), spans[0].is_error), ("201".into(), false));
        assert_eq!((spans[1].get(ERROR_TYPE), spans[1].is_error), ("409".into(), true));
    }

    #[tokio::test]
    async fn a_call_that_is_given_up_says_so_and_one_outside_of_an_attempt_is_no_span() {
        let recorder = Recorder::start();
        let server = service_fn(|_: Request<()>| std::future::pending::<Result<Response<()>, Infallible>>());
        let mut client = client_layer(&"http://127.0.0.1".parse().unwrap()).layer(server);
        assert!(client.ready().await.unwrap().call(get("/api")).now_or_never().is_none());
        assert!(recorder.spans().is_empty());
        let root = DISTRIBUTE.start_root();
        let call = root.in_scope(|| client.call(get("/api")));
        assert!(call.now_or_never().is_none());
        drop(root);
        let spans = recorder.spans();
        assert_eq!((spans[0].get(ERROR_TYPE), spans[0].get(SERVER_PORT)), ("canceled".into(), "80".into()));
    }
}
