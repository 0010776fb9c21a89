//! The programs of a control plane: found in `KUBEBUILDER_ASSETS`, or built from the Go modules that
//! `controlplane/go.mod` pins and kept in the user's cache.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::go::{Cache, KUBERNETES_VERSION, Pins, Program};

const ETCD: Program = ("etcd", "go.etcd.io/etcd/server/v3");
const KUBE_APISERVER: Program = ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
const KUBE_CONTROLLER_MANAGER: Program = ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
const KUBECTL: Program = ("kubectl", "k8s.io/kubernetes/cmd/kubectl");

static PINS: Pins = Pins {
    what: "the control plane",
    go_mod: include_str!("../../controlplane/go.mod"),
    go_sum: include_str!("../../controlplane/go.sum"),
    module: "k8s.io/kubernetes",
    tags: "",
    folder: "",
    ways_around: "Or build nothing: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
        kube-controller-manager and kubectl, or set E2E_KUBECONFIG to the kubeconfig of a cluster (kind, minikube).",
};

/// Where the programs are.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) etcd: PathBuf,
    pub(super) kube_apiserver: PathBuf,
    pub(super) kube_controller_manager: PathBuf,
    pub(super) kubectl: PathBuf,
}

impl Programs {
    /// Finds all of them, and builds those that are not there.
    pub(super) async fn locate(assets: Option<&Path>) -> Result<Self> {
        let all = [ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBECTL];
        let cache = Cache::open(&PINS, Some(KUBERNETES_VERSION))?;
        let [etcd, kube_apiserver, kube_controller_manager, kubectl] = all.map(|program| cache.find(program, assets));
        let programs = Self { etcd, kube_apiserver, kube_controller_manager, kubectl };
        cache.build_missing(&all, assets).await?;
        Ok(programs)
    }
}

/// kubectl alone, for a cluster that exists already: the user's own if there is one.
pub(super) async fn kubectl(assets: Option<&Path>) -> Result<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = assets.map(Path::to_owned).into_iter().chain(std::env::split_paths(&search));
    if let Some(folder) = folders.find(|folder| folder.join(KUBECTL.0).is_file()) {
        return Ok(folder.join(KUBECTL.0));
    }
    let cache = Cache::open(&PINS, Some(KUBERNETES_VERSION))?;
    cache.build_missing(&[KUBECTL], None).await?;
    Ok(cache.find(KUBECTL, None))
}

/// The version of the API server that is started, as it tells it itself.
pub(crate) async fn api_server_version() -> Result<String> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty()).map(PathBuf::from);
    let program = Programs::locate(assets.as_deref()).await?.kube_apiserver;
    let told = Command::new(program).arg("--version").output().await?.stdout;
    let told = String::from_utf8_lossy(&told);
    told.split_whitespace().last().map(str::to_owned).context("the API server does not tell its version")
}
