//! The process that owns a control plane: starts it, describes it, and ends it with itself.

pub(crate) mod certificates;
mod programs;
mod servers;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

pub use crate::process::exec_guarded;
use crate::progress::narrated;
use crate::used;
use crate::workdir::Workdir;
use programs::Programs;
pub(crate) use programs::api_server_version;
use servers::Servers;

/// How to start a control plane.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Settings {
    /// Folder with etcd, kube-apiserver, kubectl and kube-controller-manager. Those that are not
    /// there are built.
    #[arg(long, env = "KUBEBUILDER_ASSETS")]
    pub assets: Option<PathBuf>,

    /// Kubeconfig of a cluster to use instead of starting one. It is left as the tests leave it.
    #[arg(long, env = "E2E_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// File or folder of manifests to apply before the controllers start. The garbage collector
    /// knows the kinds that exist when it starts at once, later ones only after half a minute.
    #[arg(long)]
    pub apply: Option<PathBuf>,

    /// Run the controllers of workloads as well, for a cluster with a node.
    #[arg(long)]
    pub workloads: bool,
}

/// A usable control plane, as its supervisor tells it on standard output.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    /// Kubeconfig of a cluster administrator.
    pub kubeconfig: PathBuf,
    /// Folder of everything that belongs to this control plane; removed at the end.
    pub directory: PathBuf,
    /// The program to talk to it.
    pub kubectl: PathBuf,
    /// The servers; none if the cluster existed already.
    pub servers: Option<ServersDescription>,
}

/// The servers of a control plane that was started here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServersDescription {
    /// The API server's audit log, one JSON object a line.
    pub audit_log: PathBuf,
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
    let prepared = tokio::select! {
        prepared = prepare(settings, &workdir) => prepared,
        () = stop.received() => return Ok(()),
    };
    let (description, servers) = prepared?;
    tell(&description)?;
    let Some(mut servers) = servers else {
        stop.received().await;
        return Ok(());
    };
    let audit_log = description.servers.map(|servers| servers.audit_log);
    tokio::select! {
        failure = servers.failure() => Err(failure),
        () = stop.received() => narrated("stopping", servers.stop()).await,
    }?;
    match (audit_log, std::env::var_os(used::FOLDER)) {
        (Some(log), Some(folder)) => used::record(&log, folder.as_ref()),
        _ => Ok(()),
    }
}

async fn prepare(settings: &Settings, workdir: &Workdir) -> Result<(Description, Option<Servers>)> {
    let directory = workdir.path().to_owned();
    let assets = settings.assets.as_deref();
    match settings.kubeconfig.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        Some(path) => {
            let kubeconfig = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
            let kubectl = programs::kubectl(assets).await?;
            Ok((Description { kubeconfig, directory, kubectl, servers: None }, None))
        }
        None => {
            let programs = Programs::locate(assets).await?;
            let mut servers = start(&programs, settings, &directory).await?;
            let kubeconfig = directory.join("kubeconfig");
            let described = Some(servers.describe());
            Ok((Description { kubeconfig, directory, kubectl: programs.kubectl, servers: described }, Some(servers)))
        }
    }
}

async fn start(programs: &Programs, settings: &Settings, directory: &Path) -> Result<Servers> {
    let mut servers = Servers::start(programs, directory).await?;
    if let Some(manifests) = &settings.apply {
        servers.apply(manifests).await?;
    }
    servers.start_controllers(settings.workloads).await?;
    Ok(servers)
}

/// The one line on standard output.
fn tell(description: &Description) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(description)?).context("cannot tell where the control plane is")?;
    Ok(stdout.flush()?)
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
