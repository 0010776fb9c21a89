//! The programs of a node: those of Kubernetes are built from the modules that `node/go.mod` pins, all others are the
//! machine's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::geteuid;

use super::require;
use crate::go::{Cache, KUBERNETES_VERSION, Pins, Program};

const ALL: [Program; 3] = [
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
];

static PINS: Pins = Pins {
    what: "a node",
    go_mod: include_str!("../../node/go.mod"),
    go_sum: include_str!("../../node/go.sum"),
    module: "k8s.io/kubernetes",
    tags: "",
    folder: "node-",
    ways_around: "",
};

const INSTALLED: [&str; 10] =
    ["bash", "buildah", "conntrack", "containerd", "ctr", "ip", "mount", "nft", "runc", "unshare"];
const PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

/// The folder of the programs of Kubernetes.
pub(super) async fn locate() -> Result<PathBuf> {
    let cache = Cache::open(&PINS, Some(KUBERNETES_VERSION))?;
    cache.build_missing(&ALL, None).await?;
    Ok(cache.find(ALL[0], None).parent().context("a program without a folder")?.to_owned())
}

/// That this is root on a machine with all packages.
pub(super) fn check_installed() -> Result<()> {
    require(geteuid().is_root(), || "root".to_owned())?;
    let search = std::env::var_os("PATH").unwrap_or_default();
    let missing = |name: &&&str| !std::env::split_paths(&search).any(|folder| folder.join(name).is_file());
    let missing: Vec<_> = INSTALLED.iter().filter(missing).copied().collect();
    require(missing.is_empty(), || missing.join(", "))?;
    let missing: Vec<_> = PLUGINS.iter().map(|name| Path::new("/usr/lib/cni").join(name)).collect();
    let missing = missing.iter().find(|path| !path.is_file());
    require(missing.is_none(), || missing.map(|path| path.display().to_string()).unwrap_or_default())
}
