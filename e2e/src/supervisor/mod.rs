//! The process that owns a control plane: starts it, describes it, and ends it with itself.

mod certificates;
pub(crate) mod programs;
mod servers;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

pub use crate::process::exec_guarded;
use crate::progress::narrated;
use crate::workdir::Workdir;
use programs::Programs;
use servers::Servers;

/// How to start a control plane.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Settings {
    /// Folder with etcd, kube-apiserver, kubectl and kube-controller-manager. Those that are not
    /// there are built.
    #[arg(long, env = "KUBEBUILDER_ASSETS")]
    pub assets: Option<PathBuf>,

    /// File or folder of manifests to apply before the controllers start. The garbage collector
    /// knows the kinds that exist when it starts at once, later ones only after half a minute.
    #[arg(long)]
    pub apply: Option<PathBuf>,
}

/// A running control plane, as its supervisor tells it on standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Kubeconfig of a cluster administrator.
    pub kubeconfig: PathBuf,
    /// Folder of everything that belongs to this control plane; removed at the end.
    pub directory: PathBuf,
    /// The API server's audit log, one JSON object a line.
    pub audit_log: PathBuf,
    /// The program to talk to it.
    pub kubectl: PathBuf,
    /// Where etcd listens, for what can be shown only behind the API server's back.
    pub etcd: String,
    /// Process id of each server.
    pub processes: BTreeMap<String, u32>,
}

/// Runs a control plane until it is told to stop.
pub async fn run(settings: &Settings) -> Result<()> {
    let mut stop = StopRequest::listen()?;
    // Declared first, removed last: nothing writes to it any more.
    let workdir = Workdir::create()?;
    let mut servers = tokio::select! {
        started = start(settings, &workdir) => started?,
        () = stop.received() => return Ok(()),
    };
    let description = describe(&mut servers, &workdir);
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(&description)?).context("cannot tell where the control plane is")?;
    stdout.flush()?;
    tokio::select! {
        failure = servers.failure() => Err(failure),
        () = stop.received() => narrated("stopping", servers.stop()).await,
    }
}

async fn start(settings: &Settings, workdir: &Workdir) -> Result<Servers> {
    let programs = Programs::locate(settings.assets.as_deref()).await?;
    let mut servers = Servers::start(&programs, workdir.path()).await?;
    if let Some(manifests) = &settings.apply {
        servers.apply(manifests).await?;
    }
    servers.start_controllers().await?;
    Ok(servers)
}

fn describe(servers: &mut Servers, workdir: &Workdir) -> Description {
    let directory = workdir.path().to_owned();
    Description {
        kubeconfig: directory.join("kubeconfig"),
        audit_log: directory.join("audit.log"),
        directory,
        kubectl: servers.kubectl().to_owned(),
        etcd: servers.etcd_url().to_owned(),
        processes: servers.processes().map(|process| (process.name().to_owned(), process.id())).collect(),
    }
}

/// The ways to ask for the end.
struct StopRequest {
    signals: [Signal; 3],
    end_of_input: oneshot::Receiver<()>,
}

impl StopRequest {
    fn listen() -> Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        let (ended, end_of_input) = oneshot::channel();
        // A plain thread: the runtime would wait for its own until the next byte comes.
        thread::spawn(move || {
            let mut ignored = [0; 64];
            while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
            let _ = ended.send(());
        });
        Ok(Self { signals: [interrupt?, terminate?, hangup?], end_of_input })
    }

    async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = &mut self.end_of_input => {}
        }
    }
}
