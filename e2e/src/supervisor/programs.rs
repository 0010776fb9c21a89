//! The programs of a control plane: found in `KUBEBUILDER_ASSETS`, or built from the Go modules that
//! `controlplane/go.mod` pins and kept in the user's cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::process::{Process, ending, guarded};
use crate::progress::narrated;

const GO_MOD: &str = include_str!("../../controlplane/go.mod");
const GO_SUM: &str = include_str!("../../controlplane/go.sum");

/// File name and Go package.
type Program = (&'static str, &'static str);
const ETCD: Program = ("etcd", "go.etcd.io/etcd/server/v3");
const KUBE_APISERVER: Program = ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
const KUBE_CONTROLLER_MANAGER: Program = ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager");
const KUBECTL: Program = ("kubectl", "k8s.io/kubernetes/cmd/kubectl");

const WAYS_AROUND: &str = "Or build nothing: set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, \
    kube-controller-manager and kubectl, or set E2E_KUBECONFIG to the kubeconfig of a cluster (kind, minikube).";

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
        let cache = Cache::open()?;
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
    let cache = Cache::open()?;
    cache.build_missing(&[KUBECTL], None).await?;
    Ok(cache.find(KUBECTL, None))
}

/// The folder of the programs of exactly these versions, built exactly so.
struct Cache {
    folder: PathBuf,
    flags: Vec<String>,
}

impl Cache {
    fn open() -> Result<Self> {
        let version = pinned("k8s.io/kubernetes ")?;
        let ldflags = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
        let flags = ["-trimpath", "-buildvcs=false", "-ldflags", &ldflags].map(str::to_owned).to_vec();
        let hash = Sha256::new().chain_update(GO_MOD).chain_update(GO_SUM).chain_update(flags.join(" ")).finalize();
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { folder: user_cache()?.join("secrets-distributor").join(format!("{version}-{hash}")), flags })
    }

    fn find(&self, (name, _): Program, assets: Option<&Path>) -> PathBuf {
        let given = assets.map(|assets| assets.join(name)).filter(|path| path.is_file());
        given.unwrap_or_else(|| self.folder.join(name))
    }

    /// Builds what is neither given nor built yet. Of several processes, one builds.
    async fn build_missing(&self, wanted: &[Program], assets: Option<&Path>) -> Result<()> {
        let missing =
            || wanted.iter().copied().filter(|&program| !self.find(program, assets).is_file()).collect::<Vec<_>>();
        if missing().is_empty() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))?;
        let lock = File::create(self.folder.join("lock"))?;
        narrated("waiting for another process that builds the programs", locked(&lock)).await?;
        let missing = missing();
        if missing.is_empty() {
            return Ok(());
        }
        let module = Module::create(self.folder.join("building"))?;
        check_go(&module.0)?;
        for (i, program) in missing.iter().enumerate() {
            let what = format!("building {} ({} of {})", program.0, i + 1, missing.len());
            narrated(&what, self.build(*program, &module.0)).await?;
        }
        Ok(())
    }

    async fn build(&self, (name, package): Program, building: &Path) -> Result<()> {
        let mut command = guarded(Path::new("go"))?;
        command.arg("build").args(&self.flags).args(["-o", name, package]);
        command.current_dir(building).envs(go_environment(building));
        let mut go = Process::start(&format!("go build {package}"), command, &building.join("log"))?;
        let status = loop {
            if let Some(status) = go.wait(Duration::from_secs(1)).await? {
                break status;
            }
        };
        ensure!(status.success(), "{} {}:\n{}\n{WAYS_AROUND}", go.name(), ending(status), go.log_tail(20));
        // Appears whole or not at all.
        Ok(fs::rename(building.join(name), self.folder.join(name))?)
    }
}

/// The Go module in which the build runs. Dropped: removed.
struct Module(PathBuf);

impl Module {
    fn create(folder: PathBuf) -> Result<Self> {
        // Whatever a build left that was killed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("tmp"))?;
        fs::write(folder.join("go.mod"), GO_MOD)?;
        fs::write(folder.join("go.sum"), GO_SUM)?;
        Ok(Self(folder))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // What cannot be removed now is removed before the next build.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the build depends on, and only that; temporary files where an interrupted build is cleaned up.
fn go_environment(building: &Path) -> [(&'static str, std::ffi::OsString); 4] {
    [
        ("CGO_ENABLED", "0".into()),
        ("GOFLAGS", "".into()),
        ("GOWORK", "off".into()),
        ("GOTMPDIR", building.join("tmp").into_os_string()),
    ]
}

/// A Go that is new enough, or that fetches one that is.
fn check_go(module: &Path) -> Result<()> {
    let needed = pinned("go ")?;
    let install = format!(
        "Install it: curl -fsSL https://go.dev/dl/go{needed}.linux-$(dpkg --print-architecture).tar.gz | \
         tar -C /usr/local -xz && export PATH=$PATH:/usr/local/go/bin\n{WAYS_AROUND}"
    );
    let mut command = Command::new("go");
    command.args(["env", "GOVERSION"]).current_dir(module).envs(go_environment(module));
    let output = match command.output() {
        Err(error) => bail!("Go {needed} or newer is needed to build the control plane: `go`: {error}.\n{install}"),
        Ok(output) => output,
    };
    let version = String::from_utf8_lossy(&output.stdout);
    let found = numbers(version.trim().trim_start_matches("go"));
    if !output.status.success() || found < numbers(needed) {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!(
            "Go {needed} or newer is needed to build the control plane: {}{}.\n{install}",
            version.trim(),
            told.trim()
        );
    }
    Ok(())
}

/// `1.26.0` as numbers; a suffix such as `rc1` counts as nothing.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// What follows `key` at the start of a line of go.mod.
fn pinned(key: &str) -> Result<&'static str> {
    let mut lines = GO_MOD.lines().map(str::trim_start);
    let line = lines.find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.split(' ').next());
    line.with_context(|| format!("controlplane/go.mod pins no `{key}`"))
}

fn user_cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    cache.context("neither XDG_CACHE_HOME nor HOME is set: no place for the programs that are built")
}

async fn locked(lock: &File) -> Result<()> {
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_come_from_go_mod() {
        assert!(pinned("k8s.io/kubernetes ").unwrap().starts_with("v1."));
        assert!(numbers(pinned("go ").unwrap()) >= vec![1, 26]);
        assert!(pinned("example.org/absent ").is_err());
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("1.9.1") < numbers("1.26.0"));
        assert!(numbers("1.26.8") >= numbers("1.26.0"));
    }
}
