//! The process around the operator: its memory, its signals, its servers, its exit code.

use std::{
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    process::ExitCode,
    time::Duration,
};

use futures::FutureExt;
use http::{HeaderValue, header::USER_AGENT};
use kube::{Config, config::InferConfigError};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Gates},
    client::{self, Unusable},
    controller,
    lease::{self, Candidate, Identity, Leadership},
    settings::Settings,
    telemetry::{
        self, LogLevel, Metrics,
        traces::{Replica, Traces},
    },
};

/// How long what is in hand may take to finish after a signal; the process leaves within 5 s, of which the last spans
/// may take 2 to be sent.
const GRACE: Duration = Duration::from_millis(2_800);

/// The longest silence of the API server on a connection before it counts as lost.
const SILENCE: Duration = Duration::from_secs(120);

/// Why the process ends when nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No configuration says how to reach a cluster.
    #[error(
        "no cluster to work on: {0}; in a pod the ServiceAccount token must be mounted (automountServiceAccountToken), \
         elsewhere KUBECONFIG must name a kubeconfig file"
    )]
    NoCluster(#[source] Box<InferConfigError>),
    /// The configuration of the cluster cannot be used.
    #[error("the cluster's configuration cannot be used: {0}")]
    BadCluster(#[from] Unusable),
    /// The collector of traces cannot be spoken to as its settings say.
    #[error("traces cannot be sent: {0}; check the OTEL_* variables, or set OTEL_TRACES_EXPORTER=none")]
    BadCollector(String),
    /// The admin server cannot have its address.
    #[error("--listen [env LISTEN] = {0}: {1}; choose an address of this machine and a port that is free, or port 0")]
    Listen(SocketAddr, #[source] io::Error),
    /// The operating system refused something basic.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
    /// A part of the operator panicked. What it said is dropped: it may hold secret content.
    #[error("a part of the operator panicked; the log says where")]
    Panicked,
    /// A part of the operator ended though nobody asked.
    #[error("a part of the operator ended by itself")]
    EndedEarly,
}

impl Error {
    /// 2: what was configured cannot work. 1: it failed while running.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoCluster(_) | Self::BadCluster(_) | Self::BadCollector(_) => ExitCode::from(2),
            Self::Listen(..) | Self::System(..) | Self::Panicked | Self::EndedEarly => ExitCode::from(1),
        }
    }
}

/// Keeps the memory of this process, which holds secrets, out of core files and from other processes of the
/// same user. To be called before the first secret is read.
pub fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Lets this process open as many files as it may. The watch of each delegated namespace is a connection: one of HTTP/2
/// would carry them all, but only as many as the API server allows on it, and everything else would wait behind them.
/// The limit that a process is given at first is often 1024, for the sake of programs that use `select`.
fn raise_limit_of_files() -> io::Result<()> {
    let allowed = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: allowed, maximum: allowed })?)
}

/// Runs the operator until a signal.
pub fn run(settings: Settings) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::System("cannot start threads", error));
    let identity = identity(settings.identity.as_deref());
    let metrics = Metrics::new(settings.metrics_namespace_label);
    let started = runtime.and_then(|runtime| Ok((start_traces(&settings, &identity, &metrics, &runtime)?, runtime)));
    let traces = started.as_ref().map_or_else(|_| Traces::off(), |(traces, _)| traces.clone());
    let log_level = telemetry::init(settings.log_format, &settings.log_filter, &traces);
    if let Err(error) = raise_limit_of_files() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let runtime = match started {
        Ok((_, runtime)) => runtime,
        Err(error) => return failed(&error),
    };
    let result = runtime.block_on(operate(settings, identity, metrics, log_level));
    traces.finish();
    // Not dropped: that would wait for a read that hangs on the mount.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn start_traces(
    settings: &Settings,
    identity: &Identity,
    metrics: &Metrics,
    runtime: &Runtime,
) -> Result<Traces, Error> {
    let Some(traces) = &settings.traces else { return Ok(Traces::off()) };
    let replica = Replica {
        instance: identity.holder().to_string(),
        namespace: settings.namespace.to_string(),
        pod: settings.identity.clone(),
    };
    Traces::start(traces, &replica, metrics, runtime.handle()).map_err(|error| Error::BadCollector(error.to_string()))
}

fn failed(error: &Error) -> ExitCode {
    tracing::error!("{error}");
    error.exit_code()
}

async fn operate(settings: Settings, identity: Identity, metrics: Metrics, log_level: LogLevel) -> Result<(), Error> {
    let shutdown = shutdown_on_signal().map_err(|error| Error::System("cannot listen for signals", error))?;
    let config = config(&settings, &identity).await?;
    let (gates, leadership) = (Gates::of_the_operator(), Leadership::default());
    let unguarded = client::client(&config, &metrics, Ok::<_, Infallible>)?;
    let client = lease::gate::client(unguarded.clone(), &config, &metrics, &leadership)?;
    let listener = admin::bind(settings.listen).await.map_err(|error| Error::Listen(settings.listen, error))?;

    let mut parts = JoinSet::new();
    let more = telemetry::level::router(log_level);
    let server = admin::serve(listener, gates.clone(), metrics.clone(), more, shutdown.clone());
    parts.spawn(async { server.await.map_err(|error| Error::System("the admin server failed", error)) });
    let candidate = Candidate::new(
        unguarded,
        settings.namespace.as_str(),
        identity,
        settings.lease_duration.into(),
        leadership.clone(),
        gates.clone(),
    );
    let idle = CancellationToken::new();
    parts.spawn(candidate.run(idle.clone()).map(Ok));
    let controller = controller::run(client, settings, gates, leadership, metrics, shutdown.clone());
    parts.spawn(async {
        // Whatever ends the controller: only then may another replica write.
        let _idle = idle.drop_guard();
        controller.await;
        Ok(())
    });
    supervise(parts, shutdown, GRACE).await
}

/// Waits for the signal, or for a part that ends before it; then lets every part finish what it has in hand.
async fn supervise(
    mut parts: JoinSet<Result<(), Error>>,
    shutdown: CancellationToken,
    grace: Duration,
) -> Result<(), Error> {
    let outcome_of = |ended: Result<_, JoinError>| ended.unwrap_or(Err(Error::Panicked));
    let mut outcome = tokio::select! {
        biased;
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = parts.join_next() => outcome_of(ended).and(Err(Error::EndedEarly)),
    };
    shutdown.cancel();
    let rest = async {
        while let Some(ended) = parts.join_next().await {
            if let (Ok(()), Err(error)) = (&outcome, outcome_of(ended)) {
                outcome = Err(error);
            }
        }
    };
    if tokio::time::timeout(grace, rest).await.is_err() {
        tracing::warn!("leaving with work in hand: it did not finish within {grace:?}");
    }
    outcome
}

/// A token that SIGTERM or SIGINT cancels.
fn shutdown_on_signal() -> io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let token = shutdown.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        token.cancel();
    });
    Ok(shutdown)
}

/// Access to the cluster with every wait bounded: no retry by the client, which would follow any Retry-After of the
/// server for up to 1000 s; callers have deadlines and backoff. Silence is bounded too: on a watch the API
/// server sends a bookmark about every minute, and whatever is silent for much longer is dead.
async fn config(settings: &Settings, identity: &Identity) -> Result<Config, Error> {
    let mut config = Config::infer().await.map_err(|error| Error::NoCluster(Box::new(error)))?;
    config.connect_timeout = Some(settings.api_timeout);
    config.write_timeout = Some(settings.api_timeout);
    config.read_timeout = Some(SILENCE);
    config.default_retry = false;
    // The audit log tells by it which replica it was.
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    let agent = HeaderValue::try_from(format!("{agent} ({})", identity.holder()));
    config.headers.extend(agent.ok().map(|agent| (USER_AGENT, agent)));
    Ok(config)
}

/// A name that no other process has.
fn identity(replica: Option<&str>) -> Identity {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    // Keyed by random numbers of the operating system.
    let unique = RandomState::new().hash_one(std::process::id());
    Identity::new(replica, &host, &format!("{unique:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);

    /// A part that ends when it is asked to, and cancels `seen` then.
    async fn waits_for(shutdown: CancellationToken, seen: CancellationToken) -> Result<(), Error> {
        shutdown.cancelled().await;
        seen.cancel();
        Ok(())
    }

    #[tokio::test]
    async fn a_part_that_fails_stops_the_others_in_order_and_is_told() {
        let (shutdown, stopped) = (CancellationToken::new(), CancellationToken::new());
        let mut parts = JoinSet::new();
        parts.spawn(waits_for(shutdown.clone(), stopped.clone()));
        parts.spawn(async { Err(Error::System("broken", io::Error::other("gone"))) });
        assert!(matches!(supervise(parts, shutdown, NEVER).await, Err(Error::System("broken", _))));
        assert!(stopped.is_cancelled());
    }

    #[tokio::test]
    async fn a_part_that_ends_unasked_is_a_failure() {
        let mut parts = JoinSet::new();
        parts.spawn(async { Ok(()) });
        assert!(matches!(supervise(parts, CancellationToken::new(), NEVER).await, Err(Error::EndedEarly)));
    }

    #[tokio::test]
    async fn what_is_in_hand_is_finished_and_what_hangs_is_left() {
        let (shutdown, stopped) = (CancellationToken::new(), CancellationToken::new());
        let mut parts = JoinSet::new();
        parts.spawn(waits_for(shutdown.clone(), stopped.clone()));
        parts.spawn(std::future::pending());
        shutdown.cancel();
        assert!(supervise(parts, shutdown, Duration::from_millis(200)).await.is_ok());
        assert!(stopped.is_cancelled());
    }
}
