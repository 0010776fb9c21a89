//! The one place that every write of the cluster passes: it is built into the client, so that none can go around
//! it. Reads pass always.

use std::{
    future::{Future, poll_fn, ready},
    pin::pin,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use http::{Method, Request};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
};
use tower::{BoxError, Service, layer::layer_fn};

use super::Leadership;
use crate::{error::NotLeader, telemetry::traces::client_layer};

/// A client that writes only while `leadership` lasts.
pub fn client(config: Config, leadership: &Leadership) -> kube::Result<Client> {
    let leadership = leadership.clone();
    // Within the gate: a call that it does not let through was never made.
    let calls = client_layer(&config.cluster_url);
    let gate = layer_fn(move |inner| Gate { inner, leadership: leadership.clone() });
    Ok(ClientBuilder::try_from(config)?.with_layer(&calls).with_layer(&gate).build())
}

struct Gate<S> {
    inner: S,
    leadership: Leadership,
}

impl<S> Service<Request<Body>> for Gate<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if [Method::GET, Method::HEAD].contains(request.method()) {
            return self.inner.call(request).boxed();
        }
        match self.leadership.check() {
            Err(not_leader) => ready(Err(not_leader.into())).boxed(),
            Ok(_) => while_leading(self.leadership.clone(), self.inner.call(request)).boxed(),
        }
    }
}

/// The call, given up when leadership ends. That is asked before each of its steps: a process that was frozen
/// meanwhile must not go on with it.
async fn while_leading<T>(
    leadership: Leadership,
    call: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    let mut call = pin!(call);
    let step = poll_fn(|cx| match leadership.check() {
        Ok(_) => call.as_mut().poll(cx),
        Err(not_leader) => Poll::Ready(Err(not_leader.into())),
    });
    tokio::select! {
        biased;
        () = leadership.lost() => Err(NotLeader.into()),
        answer = step => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::pending,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{DeleteParams, Patch, PatchParams, PostParams},
    };
    use tokio::time::Instant;
    use tower::{ServiceExt, service_fn};

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
        let gate = Gate { inner: server.map_err(BoxError::from), leadership: leadership.clone() };
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

    #[tokio::test(start_paused = true)]
    async fn a_write_that_hangs_is_given_up_when_leadership_ends_and_not_before() {
        let leadership = Leadership::default();
        let start = Instant::now();
        leadership.set(Some(start + SPAN));
        let (call, elsewhere) = (while_leading(leadership.clone(), pending::<Result<(), _>>()), leadership.clone());
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
        let mut call = pin!(while_leading(leadership, endless));
        assert!(futures::poll!(&mut call).is_pending());
        let before = steps.load(Ordering::Relaxed);
        tokio::time::advance(SPAN).await;
        assert!(call.await.is_err());
        assert_eq!(steps.load(Ordering::Relaxed), before);
    }
}
