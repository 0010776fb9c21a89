//! The three servers of a control plane: how each is started, and when they are ready.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use rustix::process::Signal;

use super::ServersDescription;
use super::certificates::{Authority, save, token_key};
use super::programs::Programs;
use crate::kubeconfig;
use crate::loopback::free_ports;
use crate::process::{Process, ending, guarded};
use crate::progress::narrated;

const READY_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(5);
const PORT_ATTEMPTS: usize = 5;

/// What the controller manager runs: what a cluster without nodes and workloads needs.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,garbage-collector-controller,namespace-controller,\
    resourcequota-controller,root-ca-certificate-publisher-controller,serviceaccount-controller,\
    serviceaccount-token-controller";

/// The running servers. Dropped: killed.
pub(super) struct Servers {
    folder: PathBuf,
    programs: Programs,
    // In the order in which they stop: each before the one that it talks to.
    controllers: Option<Process>,
    apiserver: Process,
    etcd: Process,
    client: Client,
    etcd_url: String,
}

impl Servers {
    /// Starts etcd and the API server; ready when the API server says so.
    pub(super) async fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        std::fs::write(folder.join("audit-policy.yaml"), include_str!("audit-policy.yaml"))?;
        // The API server wants the file to be there before anybody reads it.
        std::fs::write(folder.join("audit.log"), "")?;
        for _ in 1..PORT_ATTEMPTS {
            match Self::attempt(programs, folder).await {
                // Somebody else took a port between the choice and the start.
                Err(error) if error.to_string().contains("address already in use") => {}
                other => return other,
            }
        }
        Self::attempt(programs, folder).await
    }

    async fn attempt(programs: &Programs, folder: &Path) -> Result<Self> {
        let [etcd_port, peer_port, api_port] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        write_identities(folder, &format!("https://127.0.0.1:{api_port}"))?;
        let client = kubeconfig::client(Kubeconfig::read_from(folder.join("kubeconfig"))?).await?;
        let etcd = etcd(programs, folder, &etcd_url, peer_port)?;
        let apiserver = apiserver(programs, folder, &etcd_url, api_port)?;
        let programs = programs.clone();
        let folder = folder.to_owned();
        let mut servers = Self { folder, programs, controllers: None, apiserver, etcd, client, etcd_url };
        servers.until("kube-apiserver is ready", api_ready).await?;
        Ok(servers)
    }

    /// Starts the controller manager; ready when the ClusterRole `admin` has been aggregated.
    pub(super) async fn start_controllers(&mut self, workloads: bool) -> Result<()> {
        let which = if workloads { "*" } else { CONTROLLERS };
        self.controllers = Some(controllers(&self.programs, &self.folder, which)?);
        self.until("kube-controller-manager works", roles_aggregated).await
    }

    /// Applies manifests as the administrator and waits for the kinds that they define.
    pub(super) async fn apply(&self, manifests: &Path) -> Result<()> {
        let kubectl = || crate::Kubectl::new(&self.programs.kubectl, &self.folder.join("kubeconfig"), &self.folder);
        kubectl().args(["apply", "--server-side", "-f"]).arg(manifests).succeed().await?;
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        kubectl().args(established).succeed().await?;
        Ok(())
    }

    pub(super) fn describe(&mut self) -> ServersDescription {
        ServersDescription {
            audit_log: self.folder.join("audit.log"),
            etcd: self.etcd_url.clone(),
            processes: self.processes().map(|process| (process.name().to_owned(), process.id())).collect(),
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.controllers.iter_mut().chain([&mut self.apiserver, &mut self.etcd])
    }

    /// Returns when one of them has ended by itself, and tells which and how.
    pub(super) async fn failure(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.check_running() {
                return error;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Ends them, first politely.
    pub(super) async fn stop(mut self) -> Result<()> {
        for process in self.processes() {
            process.signal(Signal::TERM)?;
            if process.wait(STOP_WITHIN).await?.is_none() {
                process.kill()?;
            }
        }
        Ok(())
    }

    fn check_running(&mut self) -> Result<()> {
        for process in self.processes() {
            if let Some(status) = process.exited()? {
                bail!("{} {}:\n{}", process.name(), ending(status), process.log_tail(15));
            }
        }
        Ok(())
    }

    async fn until(&mut self, what: &str, condition: impl AsyncFn(&Client) -> bool) -> Result<()> {
        let waiting = async {
            loop {
                self.check_running()?;
                if condition(&self.client).await {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let result = narrated(&format!("waiting until {what}"), tokio::time::timeout(READY_WITHIN, waiting)).await;
        match result {
            Ok(result) => result,
            Err(_) => {
                let logs: Vec<_> = self.processes().map(|p| format!("{}:\n{}", p.name(), p.log_tail(10))).collect();
                bail!("not within {READY_WITHIN:?}: {what}\n{}", logs.join("\n"))
            }
        }
    }
}

async fn api_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    matches!(client.request_text(request).await.as_deref(), Ok("ok"))
}

/// The rules of `admin` are filled in by a controller, with rights that it got from the API server.
async fn roles_aggregated(client: &Client) -> bool {
    let admin = Api::<ClusterRole>::all(client.clone()).get_opt("admin").await;
    admin.ok().flatten().is_some_and(|role| role.rules.is_some_and(|rules| !rules.is_empty()))
}

fn etcd(programs: &Programs, folder: &Path, url: &str, peer_port: u16) -> Result<Process> {
    let data = folder.join("etcd");
    // Of an attempt that lost its port.
    let _ = std::fs::remove_dir_all(&data);
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = guarded(&programs.etcd)?;
    command.arg("--data-dir").arg(&data).args(["--listen-client-urls", url, "--advertise-client-urls", url]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}"), "--log-level=warn"]);
    // The data is thrown away: nobody needs it to survive a power failure.
    command.arg("--unsafe-no-fsync");
    Process::start("etcd", command, &folder.join("etcd.log"))
}

/// As in production: RBAC, the default admission and NodeRestriction, nothing switched off.
fn apiserver(programs: &Programs, folder: &Path, etcd_url: &str, port: u16) -> Result<Process> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let mut command = guarded(&programs.kube_apiserver)?;
    command.args([format!("--etcd-servers={etcd_url}"), format!("--secure-port={port}")]);
    command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]);
    command.args(["--service-cluster-ip-range=10.96.0.0/16", "--profiling=false", "--allow-privileged=true"]);
    command.args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"]);
    command.args([file("tls-cert-file", "apiserver.crt"), file("tls-private-key-file", "apiserver.key")]);
    command.args([file("client-ca-file", "ca.crt"), file("cert-dir", "apiserver")]);
    command.arg("--service-account-issuer=https://kubernetes.default.svc.cluster.local");
    command.arg(file("service-account-key-file", "service-account.pub"));
    command.arg(file("service-account-signing-key-file", "service-account.key"));
    command.args([file("audit-policy-file", "audit-policy.yaml"), file("audit-log-path", "audit.log")]);
    // One file, never rotated away under a reader.
    command.args(["--audit-log-format=json", "--audit-log-mode=blocking", "--audit-log-maxsize=0"]);
    Process::start("kube-apiserver", command, &folder.join("kube-apiserver.log"))
}

fn controllers(programs: &Programs, folder: &Path, which: &str) -> Result<Process> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let mut command = guarded(&programs.kube_controller_manager)?;
    command.args([file("kubeconfig", "controllers.kubeconfig"), file("root-ca-file", "ca.crt")]);
    command.arg(file("service-account-private-key-file", "service-account.key"));
    command.args(["--use-service-account-credentials=true", "--leader-elect=false", "--secure-port=0"]);
    command.arg(format!("--controllers={which}"));
    // Tests delete namespaces by the dozen and wait for it.
    command.args(["--concurrent-namespace-syncs=50", "--kube-api-qps=500", "--kube-api-burst=1000"]);
    Process::start("kube-controller-manager", command, &folder.join("kube-controller-manager.log"))
}

/// Keys, certificates and kubeconfigs, all new.
fn write_identities(folder: &Path, server: &str) -> Result<()> {
    let authority = Authority::new()?;
    let serving = authority.server()?;
    save(folder, "ca.crt", &authority.pem())?;
    save(folder, "apiserver.crt", &serving.certificate)?;
    save(folder, "apiserver.key", &serving.key)?;
    let (private, public) = token_key()?;
    save(folder, "service-account.key", &private)?;
    save(folder, "service-account.pub", &public)?;
    let users = [
        ("kubeconfig", "e2e-admin", Some("system:masters")),
        ("controllers.kubeconfig", "system:kube-controller-manager", None),
        // Of a node, if there will be one: the key of the authority does not outlive this function.
        ("kubelet.kubeconfig", "system:node:node", Some("system:nodes")),
        ("scheduler.kubeconfig", "system:kube-scheduler", None),
        ("proxy.kubeconfig", "system:kube-proxy", None),
    ];
    for (name, user, group) in users {
        let identity = authority.client(user, group)?;
        let path = folder.join(name);
        kubeconfig::write_for_certificate(&path, server, &authority.pem(), &identity.certificate, &identity.key)?;
    }
    Ok(())
}
