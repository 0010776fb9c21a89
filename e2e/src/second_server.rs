//! Another API server of the same cluster, which reaches the store on a way of its own.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Process, guarded};
use crate::{ControlPlane, eventually, kubeconfig};

const READY_WITHIN: Duration = Duration::from_secs(90);

/// A second kube-apiserver. Dropped: killed.
#[derive(Debug)]
pub struct SecondApiServer {
    url: String,
    _process: Process,
}

impl SecondApiServer {
    /// Starts one with the certificates and settings of the first, and another address of etcd; waits until it is
    /// ready.
    pub async fn start(cluster: &ControlPlane, etcd: &str) -> Result<Self> {
        let servers = cluster.description().servers.as_ref();
        let servers = servers.context("an existing cluster has servers of its own: unset E2E_KUBECONFIG")?;
        let first = servers.processes.get("kube-apiserver").context("no kube-apiserver")?;
        // Nothing tells better how the first was started.
        let command_line = fs::read_to_string(format!("/proc/{first}/cmdline"))?;
        let mut command_line = command_line.split_terminator('\0');
        let program = Path::new(command_line.next().context("an empty command line")?);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let folder = cluster.directory();
        let own = [
            format!("--etcd-servers={etcd}"),
            format!("--secure-port={port}"),
            format!("--audit-log-path={}", folder.join("second-audit.log").display()),
            format!("--cert-dir={}", folder.join("second-apiserver").display()),
        ];
        let mut command = guarded(program)?;
        // Of a flag that is given twice the last one counts, but --etcd-servers would be added up.
        command.args(command_line.filter(|argument| !argument.starts_with("--etcd-servers="))).args(own);
        let process = Process::start("the second kube-apiserver", command, &folder.join("second-apiserver.log"))?;
        let second = Self { url: format!("https://127.0.0.1:{port}"), _process: process };
        second.until_ready(cluster).await?;
        Ok(second)
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn until_ready(&self, cluster: &ControlPlane) -> Result<()> {
        let mut access = cluster.access().clone();
        kubeconfig::redirect(&mut access, &self.url);
        let client = kubeconfig::client(access).await?;
        eventually(READY_WITHIN, "the second kube-apiserver is ready", async || {
            let request = http::Request::get("/readyz").body(Vec::new())?;
            anyhow::Ok(client.request_text(request).await.map(drop)?)
        })
        .await
    }
}
