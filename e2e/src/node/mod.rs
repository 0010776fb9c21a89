//! [`Node`]: what runs the pods of a control plane: containerd, the kubelet, the scheduler and the proxy of Services.

mod cgroup;
mod images;
mod network;
mod programs;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::process::{Process, ending, guarded};
use crate::progress::narrated;
use crate::proxy::FreezableProxy;
use crate::{ControlPlane, eventually, loopback};
use cgroup::Cgroup;

/// What the node starts with, by name. All of it has fixed places: the node sees a file system of its own.
const FILES: [(&str, &str); 5] = [
    ("node.sh", include_str!("node.sh")),
    ("containerd.toml", include_str!("containerd.toml")),
    ("kubelet.yaml", include_str!("kubelet.yaml")),
    ("kube-proxy.yaml", include_str!("kube-proxy.yaml")),
    ("cni/bridge.conflist", include_str!("bridge.conflist")),
];

/// What it takes from the folder of the control plane.
const IDENTITIES: [&str; 4] = ["ca.crt", "kubelet.kubeconfig", "scheduler.kubeconfig", "proxy.kubeconfig"];

const NAMESPACES: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Address of the node, as pods see it.
const ADDRESS: &str = "10.244.0.1";

/// A running node. Dropped: killed, with all that runs on it. Network, mounts and processes are in namespaces of its
/// own, which go with its first process, also if this process is killed.
#[derive(Debug)]
pub struct Node {
    // In this order: no process may be left in the cgroup when it is removed.
    process: Process,
    _cgroup: Cgroup,
    _api_server: FreezableProxy,
    folder: PathBuf,
}

impl Node {
    /// Image of a program that tells what it sees of a Secret, see guest.go.
    pub const GUEST: &str = images::GUEST;

    /// Starts a node for a control plane of [`ControlPlane::for_node`], with the image of the operator that `make image`
    /// has built.
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        programs::check_installed()?;
        let programs = programs::locate().await?;
        let folder = cluster.directory().join("node");
        prepare(cluster.directory(), &folder)?;
        narrated("making the images", images::make(&folder)).await?;
        let cgroup = Cgroup::new()?;
        let mut command = guarded(Path::new("unshare"))?;
        command.args(NAMESPACES).arg("bash").arg(folder.join("node.sh")).args([&folder, &programs]).arg(cgroup.name());
        let mut process = Process::start("node", command, &folder.join("node.log"))?;
        let prepared = folder.join("prepared");
        narrated("waiting until containerd has the images", until(&mut process, async || prepared.exists())).await?;
        let api_server = network::api_server(process.id(), cluster)?;
        let mut node = Self { process, _cgroup: cgroup, _api_server: api_server, folder };
        tell_address_of_api_server(cluster).await?;
        let ready = async || is_ready(cluster).await.unwrap_or(false);
        narrated("waiting until the node is ready", until(&mut node.process, ready)).await?;
        Ok(node)
    }

    /// What a container has written, the newest one of that name.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        let prefix = format!("{namespace}_{pod}");
        let entries = fs::read_dir(self.folder.join("pods"))?.flatten().map(|entry| entry.path());
        let of_pod = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        let newest = entries.filter(of_pod).max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
        let folder = newest.with_context(|| format!("no pod {namespace}/{pod} has run"))?.join(container);
        let mut logs: Vec<_> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        logs.sort();
        let text = fs::read_to_string(logs.last().context("no log")?)?;
        // Each line begins with a time, a stream and a tag.
        let message = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
        Ok(text.lines().map(message).collect::<Vec<_>>().join("\n"))
    }

    /// The end of the log of a program: kubelet, containerd, kube-proxy, kube-scheduler.
    pub fn program_log(&self, program: &str) -> String {
        let log = fs::read_to_string(self.folder.join(format!("{program}.log"))).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// What answers at an address in the network of the node, of a pod or of a Service: status code and body.
    pub async fn get(&self, address: SocketAddr, path: &str) -> Result<(u16, String)> {
        loopback::get_through(network::connect(self.process.id(), address)?, path).await
    }
}

fn prepare(control_plane: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("cni"))?;
    for (name, content) in FILES {
        fs::write(folder.join(name), content)?;
    }
    for name in IDENTITIES {
        let from = control_plane.join(name);
        fs::copy(&from, folder.join(name)).with_context(|| format!("cannot read {}", from.display()))?;
    }
    Ok(())
}

async fn until(process: &mut Process, condition: impl AsyncFn() -> bool) -> Result<()> {
    let outcome = eventually(READY_WITHIN, "the node works", async || {
        if let Some(status) = process.exited().map_err(|error| error.to_string())? {
            return Ok(Err(format!("the node {}", ending(status))));
        }
        if condition().await { Ok(Ok(())) } else { Err("not yet".to_owned()) }
    });
    let outcome = outcome.await;
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(ended)) => anyhow::bail!("{ended}:\n{}", process.log_tail(20)),
        Err(error) => Err(error.context(process.log_tail(20))),
    }
}

async fn is_ready(cluster: &ControlPlane) -> Result<bool> {
    let ready = r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    Ok(cluster.kubectl(["get", "node", "node", "--ignore-not-found", ready]).succeed().await? == "True")
}

/// The API server itself, which listens on loopback, cannot say where pods reach it.
async fn tell_address_of_api_server(cluster: &ControlPlane) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [ADDRESS] }],
        "ports": [{ "name": "https", "port": network::api_server_port(cluster)?, "protocol": "TCP" }],
    });
    cluster.apply_yaml(&slice.to_string()).await
}

/// For what needs root or a program, in words that say what to do.
fn require(is_so: bool, what: impl FnOnce() -> String) -> Result<()> {
    ensure!(is_so, "a node needs {}. Run, as root: make test-node", what());
    Ok(())
}
