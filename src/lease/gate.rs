//! The one place that every write of the cluster passes: it is built into the client, so that none can go around
//! it. Reads pass always.

use std::{
    future::{Future, poll_fn, ready},
    pin::pin,
    task::{Context, Poll},
};

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{Method, Request, Response};
use kube::{Client, Config, client::Body};
use tower::{BoxError, Service};

use super::{Leadership, Term, fence};
use crate::{
    client::{self, Unusable},
    error::NotLeader,
    telemetry::Metrics,
};

/// A client that reads like `reads`, and writes only while `leadership` lasts.
pub fn client(reads: Client, config: &Config, metrics: &Metrics, leadership: &Leadership) -> Result<Client, Unusable> {
    let writes = client::client(config, metrics, fence::around(leadership))?;
    let gate = Gate { reads, writes, leadership: leadership.clone() };
    Ok(Client::new(gate, config.default_namespace.clone()))
}

struct Gate {
    reads: Client,
    writes: Client,
    leadership: Leadership,
}

impl Service<Request<Body>> for Gate {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if [Method::GET, Method::HEAD].contains(request.method()) {
            let reads = self.reads.clone();
            return async move { Ok(reads.send(request).await?) }.boxed();
        }
        let (writes, leadership) = (self.writes.clone(), self.leadership.clone());
        match leadership.check() {
            Err(not_leader) => ready(Err(not_leader.into())).boxed(),
            Ok(term) => async move { while_leading(leadership, term, writes.send(request).err_into()).await }.boxed(),
        }
    }
}

/// The call, given up when the term ends. That is asked before each of its steps: a process that was frozen
/// meanwhile must not go on with it, not even if it leads again.
async fn while_leading<T>(
    leadership: Leadership,
    term: Term,
    call: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    let mut call = pin!(call);
    let step = poll_fn(|cx| match leadership.check_term(term) {
        Ok(()) => call.as_mut().poll(cx),
        Err(not_leader) => Poll::Ready(Err(not_leader.into())),
    });
    tokio::select! {
        biased;
        () = leadership.over(term) => Err(NotLeader.into()),
        answer = step => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::pending,
        net::SocketAddr,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use axum::extract::ConnectInfo;
    use http::{
        HeaderValue,
        header::{AUTHORIZATION, USER_AGENT},
    };
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, Patch, PatchParams, PostParams},
    };
    use tokio::{net::TcpListener, time::Instant};
    use tower::service_fn;

    use super::*;
    use crate::error::ApiFailure;

    const SPAN: Duration = Duration::from_secs(10);

    /// A client of a server that answers everything with a ConfigMap, and how many requests reached that server.
    fn counted(leadership: &Leadership) -> (Api<ConfigMap>, Arc<AtomicUsize>) {
        let arrived = Arc::new(AtomicUsize::new(0));
        let counter = arrived.clone();
        let server = service_fn(move |_: Request<Body>| {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok::<_, Infallible>(Response::new(Body::from(b"{}".to_vec()))) }
        });
        let server = Client::new(server, "default");
        let gate = Gate { reads: server.clone(), writes: server, leadership: leadership.clone() };
        (Api::default_namespaced(Client::new(gate, "default")), arrived)
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_leader_writes_and_everybody_reads() {
        let leadership = Leadership::default();
        let (api, arrived) = counted(&leadership);
        api.get("a").await.unwrap();
        let map = ConfigMap::default();
        let refusals = [
            api.create(&PostParams::default(), &map).await.map(drop),
            api.replace("a", &PostParams::default(), &map).await.map(drop),
            api.patch("a", &PatchParams::default(), &Patch::Merge(&map)).await.map(drop),
            api.delete("a", &DeleteParams::default()).await.map(drop),
        ];
        for refusal in refusals {
            assert_eq!(ApiFailure::from(refusal.unwrap_err()), ApiFailure::NotLeader);
        }
        assert_eq!(arrived.load(Ordering::Relaxed), 1, "the read alone");

        leadership.set(Some(Instant::now() + SPAN));
        api.create(&PostParams::default(), &map).await.unwrap();
        tokio::time::advance(SPAN).await;
        assert!(api.create(&PostParams::default(), &map).await.is_err());
        assert_eq!(arrived.load(Ordering::Relaxed), 2);
    }

    /// An API server that notes of each request from which connection it came, what it is, and who sends it.
    async fn noting() -> (Config, Arc<Mutex<Vec<(SocketAddr, String)>>>) {
        let noted: Arc<Mutex<Vec<_>>> = Arc::default();
        let notes = noted.clone();
        let note = async move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: axum::extract::Request| {
            let header = |name| request.headers()[name].to_str().unwrap();
            let line = format!("{} by {}, {}", request.method(), header(USER_AGENT), header(AUTHORIZATION));
            notes.lock().unwrap().push((peer, line));
            "{}"
        };
        let server = axum::Router::new().fallback(note).into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        tokio::spawn(async move { axum::serve(listener, server).await });
        config.headers.push((USER_AGENT, HeaderValue::from_static("replica")));
        config.auth_info.token = Some("hunter2".to_owned().into());
        (config, noted)
    }

    #[tokio::test]
    async fn reads_and_writes_are_sent_alike_and_no_connection_of_writes_outlives_its_term() {
        let (config, noted) = noting().await;
        let leadership = Leadership::default();
        let metrics = Metrics::new(true);
        let reads = client::client(&config, &metrics, Ok::<_, Infallible>).unwrap();
        let api = Api::<ConfigMap>::default_namespaced(super::client(reads, &config, &metrics, &leadership).unwrap());
        let map = ConfigMap::default();
        let write = async || api.create(&PostParams::default(), &map).await;
        api.get("a").await.unwrap();
        assert!(write().await.is_err());
        for _ in 0..2 {
            leadership.set(Some(Instant::now() + SPAN));
            write().await.unwrap();
            write().await.unwrap();
            leadership.set(None);
            assert!(write().await.is_err());
        }
        let (peers, lines): (Vec<_>, Vec<_>) = noted.lock().unwrap().drain(..).unzip();
        let sent = |method: &str| format!("{method} by replica, Bearer hunter2");
        assert_eq!(lines, [sent("GET"), sent("POST"), sent("POST"), sent("POST"), sent("POST")]);
        assert_eq!((peers[1], peers[3]), (peers[2], peers[4]), "kept while the term lasts");
        assert_ne!(peers[1], peers[3], "and no longer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_given_up_when_leadership_ends_and_not_before() {
        let leadership = Leadership::default();
        let start = Instant::now();
        leadership.set(Some(start + SPAN));
        let term = leadership.check().unwrap();
        let (call, elsewhere) =
            (while_leading(leadership.clone(), term, pending::<Result<(), _>>()), leadership.clone());
        let renewal = async move {
            tokio::time::sleep(SPAN / 2).await;
            elsewhere.set(Some(start + SPAN * 2));
        };
        let (ended, ()) = tokio::join!(call, renewal);
        assert!(ended.unwrap_err().is::<NotLeader>());
        assert_eq!(start.elapsed(), SPAN * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_makes_no_step_after_a_freeze_past_the_end() {
        let leadership = Leadership::default();
        leadership.set(Some(Instant::now() + SPAN));
        let steps = Arc::new(AtomicUsize::new(0));
        let counter = steps.clone();
        let endless = poll_fn(move |cx| {
            counter.fetch_add(1, Ordering::Relaxed);
            cx.waker().wake_by_ref();
            Poll::<Result<(), BoxError>>::Pending
        });
        let mut call = pin!(while_leading(leadership.clone(), leadership.check().unwrap(), endless));
        assert!(futures::poll!(&mut call).is_pending());
        let before = steps.load(Ordering::Relaxed);
        tokio::time::advance(SPAN).await;
        leadership.set(Some(Instant::now() + SPAN));
        assert!(call.await.is_err(), "it leads again, and the call is of before");
        assert_eq!(steps.load(Ordering::Relaxed), before);
    }
}
