//! A proxy between the operator and the API server that records every call and makes some of them fail.
//!
//! Plain HTTP on loopback towards the operator, the API server's own TLS behind it. Replies are streamed, so that
//! a watch shows each event when it comes.

mod call;
mod reply;
mod rule;
mod tcp;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body as Forwarded;
use kube::config::AuthInfo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub use call::Call;
use reply::{ReplyBody, expired, refusal, relay, strip_connection};
pub use rule::{Action, Rule, Which};
pub use tcp::FreezableProxy;

use crate::{ControlPlane, Operator, kubeconfig};

/// After a connection that could not be accepted. At the end of a runtime none can: what does not rest would never give
/// way, and never end.
const REST: Duration = Duration::from_millis(100);

/// The proxy. Dropped: it is gone, with every connection through it.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    accepting: AbortHandle,
}

struct Shared {
    upstream: Client,
    state: Mutex<State>,
    // Each value is a time between two disconnections; even: connections are accepted, odd: reset.
    era: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
    /// The replies that may still go on, by the number of the call.
    running: Vec<(usize, watch::Sender<bool>)>,
    /// Connections that were reset.
    refused: usize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("era", &*self.era.borrow()).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts one in front of a control plane, in the current runtime.
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        Self::in_front_of(cluster, None).await
    }

    /// The same in front of another API server of that control plane, which has the same certificates.
    pub async fn in_front_of(cluster: &ControlPlane, server: Option<&str>) -> Result<Self> {
        let mut access = cluster.access().clone();
        if let Some(server) = server {
            kubeconfig::redirect(&mut access, server);
        }
        // The client's own credentials are passed on; the proxy has none.
        for auth_info in &mut access.auth_infos {
            auth_info.auth_info = Some(AuthInfo::default());
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot bind a port on loopback")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: kubeconfig::client_without_retries(access).await?,
            state: Mutex::default(),
            era: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(shared.clone(), listener)).abort_handle();
        let kubeconfig = operator_kubeconfig(cluster, address).await?;
        Ok(Self { shared, kubeconfig, accepting })
    }

    /// A kubeconfig with the token of the operator's ServiceAccount, through the proxy.
    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// Adds a rule. The first rule that takes a call decides about it.
    pub fn rule(&self, which: Which, action: Action) -> Rule {
        let rule = Rule::new(which, action);
        let mut state = self.shared.state();
        state.rules.retain(|rule| !rule.is_lifted());
        state.rules.push(rule.clone());
        rule
    }

    /// Lifts all rules.
    pub fn lift_all(&self) {
        self.shared.state().rules.drain(..).for_each(|rule| rule.lift());
    }

    /// Every call so far, in the order in which they came.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// How many calls there were so far: the number of the next.
    pub fn mark(&self) -> usize {
        self.shared.state().calls.len()
    }

    /// Those of the calls since a mark that the conditions include.
    pub fn calls_since(&self, mark: usize, which: &Which) -> Vec<Call> {
        let state = self.shared.state();
        state.calls.iter().skip(mark).filter(|call| which.includes(call)).cloned().collect()
    }

    /// Cuts the replies that are still going on, for instance running watches; answers how many.
    pub fn cut(&self, which: &Which) -> usize {
        let state = self.shared.state();
        let is_meant = |index: &usize| state.calls.get(*index).is_some_and(|call| which.includes(call));
        let running = state.running.iter().filter(|(index, cut)| is_meant(index) && cut.receiver_count() > 0);
        running.fold(0, |count, (_, cut)| {
            cut.send_replace(true);
            count + 1
        })
    }

    /// Closes every connection. What was held and not forwarded never will be.
    pub fn disconnect(&self) {
        self.shared.era.send_modify(|era| *era += 2);
    }

    /// Closes every connection and resets every new one, as if the API server were down.
    pub fn go_down(&self) {
        self.shared.era.send_modify(|era| *era += 1 + *era % 2);
    }

    /// How many connections were reset while it was down.
    pub fn refused(&self) -> usize {
        self.shared.state().refused
    }

    /// Accepts connections again.
    pub fn come_back(&self) {
        self.shared.era.send_modify(|era| *era += *era % 2);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.disconnect();
    }
}

async fn operator_kubeconfig(cluster: &ControlPlane, address: SocketAddr) -> Result<PathBuf> {
    let mut access = cluster.service_account_access(Operator::NAMESPACE, Operator::SERVICE_ACCOUNT).await?;
    kubeconfig::redirect(&mut access, &format!("http://{address}"));
    let path = cluster.directory().join(format!("proxy-{}.kubeconfig", address.port()));
    kubeconfig::write(&path, &access)?;
    Ok(path)
}

async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let mut era = shared.era.subscribe();
        let born = *era.borrow_and_update();
        let down = !born.is_multiple_of(2);
        if down {
            // Reset, not closed in good order.
            let _ = stream.set_zero_linger();
            shared.state().refused += 1;
            continue;
        }
        let serving = serve(shared.clone(), stream);
        tokio::spawn(async move {
            tokio::select! { () = serving => {}, _ = era.wait_for(|now| *now != born) => {} }
        });
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream) {
    let service = service_fn(move |request| exchange(shared.clone(), request));
    // A connection that a rule has closed ends with an error: that is what was asked for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// One call. An error closes the connection without a reply.
async fn exchange(shared: Arc<Shared>, request: Request<Incoming>) -> io::Result<Response<ReplyBody>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let (call, rule, cut) = shared.arrived(Call::parse(&head, &body));
    let action = rule.as_ref().map_or(Action::Pass, Rule::action);
    let happened = || rule.iter().for_each(|rule| rule.happened(&call));
    let forwards = matches!(action, Action::Pass | Action::DropReply | Action::HoldReply);
    if !forwards {
        happened();
    }
    match (&action, &rule) {
        (Action::Drop, _) => return Err(io::ErrorKind::ConnectionAborted.into()),
        (Action::Respond(status), _) => return Ok(shared.answered(&call, refusal(*status, None))),
        (Action::RespondRetryAfter(status, seconds), _) => {
            return Ok(shared.answered(&call, refusal(*status, Some(*seconds))));
        }
        (Action::Expire, _) => return Ok(shared.answered(&call, expired())),
        (Action::Delay(delay), _) => tokio::time::sleep(*delay).await,
        (Action::Hold, Some(rule)) => rule.until_lifted().await,
        _ => {}
    }
    let mut forwarded = Request::from_parts(head, Forwarded::from(body));
    strip_connection(forwarded.headers_mut());
    let reply = match (&action, rule.clone()) {
        (Action::Late, Some(rule)) => {
            let (shared, call) = (shared.clone(), call.clone());
            // In a task of its own, which the end of the connection does not end.
            let late = tokio::spawn(async move {
                rule.until_lifted().await;
                shared.forward(&call, forwarded).await
            });
            late.await.map_err(io::Error::other)??
        }
        _ => shared.forward(&call, forwarded).await?,
    };
    if forwards {
        happened();
    }
    match (&action, &rule) {
        (Action::DropReply, _) => return Err(io::ErrorKind::ConnectionAborted.into()),
        (Action::HoldReply, Some(rule)) => rule.until_lifted().await,
        _ => {}
    }
    Ok(shared.answered(&call, relay(reply, rule, cut).await?))
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers and records a call, and finds the rule that takes it and the way to cut its reply.
    fn arrived(&self, mut call: Call) -> (Call, Option<Rule>, watch::Receiver<bool>) {
        let mut state = self.state();
        call.index = state.calls.len();
        state.calls.push(call.clone());
        let rule = state.rules.iter().find(|rule| rule.takes(&call)).cloned();
        let (cut, cuts) = watch::channel(false);
        state.running.retain(|(_, cut)| cut.receiver_count() > 0);
        state.running.push((call.index, cut));
        (call, rule, cuts)
    }

    async fn forward(&self, call: &Call, request: Request<Forwarded>) -> io::Result<Response<Forwarded>> {
        let reply = self.upstream.send(request).await.map_err(io::Error::other)?;
        self.note(call, |call| call.forwarded = Some(reply.status().as_u16()));
        Ok(reply)
    }

    fn note(&self, call: &Call, note: impl FnOnce(&mut Call)) {
        if let Some(call) = self.state().calls.get_mut(call.index) {
            note(call);
        }
    }

    fn answered(&self, call: &Call, reply: Response<ReplyBody>) -> Response<ReplyBody> {
        self.note(call, |call| call.answered = Some(reply.status().as_u16()));
        reply
    }
}
