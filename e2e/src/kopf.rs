//! The reference operator of `e2e/kopf`, in Python on kopf, as a process. Its packages are pinned, and kept in the user's
//! cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::process::{Process, guarded};
use crate::progress::narrated;
use crate::{ControlPlane, cache, repository};

const REQUIREMENTS: &str = include_str!("../kopf/requirements.txt");

/// Where it was installed, and how it gets at a cluster.
pub(crate) struct Reference {
    python: PathBuf,
    kubeconfig: PathBuf,
    /// Of its log and its temporary files.
    folder: PathBuf,
}

impl Reference {
    /// Its namespace and its ServiceAccount.
    const NAME: &str = "kopf-reference";
    /// Its user name, as the audit log knows it.
    pub(crate) const USER: &str = "system:serviceaccount:kopf-reference:kopf-reference";
    /// What its Secrets are labelled with.
    pub(crate) const LABEL: &str = "app.kubernetes.io/managed-by=kopf-reference";

    /// Installs its packages where they are not installed yet, and gives it its rights.
    pub(crate) async fn install(cluster: &ControlPlane) -> Result<Self> {
        let python = narrated("packages of the reference operator", packages()).await?;
        cluster.apply_path(&repository().join("e2e/kopf/rbac.yaml")).await?;
        let kubeconfig = cluster.service_account_kubeconfig(Self::NAME, Self::NAME).await?;
        let folder = cluster.directory().join("kopf");
        fs::create_dir_all(&folder)?;
        Ok(Self { python, kubeconfig, folder })
    }

    /// Starts it. Dropped: killed.
    pub(crate) fn start(&self, secrets_path: &Path) -> Result<Process> {
        let mut command = guarded(&self.python)?;
        command.args(["-m", "kopf", "run", "--standalone", "--all-namespaces"]);
        command.arg(repository().join("e2e/kopf/reference.py"));
        command.env_clear().env("KUBECONFIG", &self.kubeconfig).env("SECRETS_PATH", secrets_path);
        // Its client leaves the authority of the API server in a file, and Python would leave its own beside the source.
        command.env("TMPDIR", &self.folder).env("PYTHONDONTWRITEBYTECODE", "1");
        Process::start("the reference operator", command, &self.folder.join("log"))
    }
}

/// The Python that has exactly these packages. Another Python of the system gets a folder of its own.
async fn packages() -> Result<PathBuf> {
    let version = run(Command::new("python3").arg("--version")).await?;
    let cache = cache::folder()?;
    let folder = cache.join(format!("kopf-{}", cache::digest(&[REQUIREMENTS, &version])));
    let python = |folder: &Path| folder.join("bin/python");
    if python(&folder).is_file() {
        return Ok(python(&folder));
    }
    fs::create_dir_all(&cache)?;
    let lock = File::create(cache.join("kopf.lock"))?;
    cache::locked(&lock).await?;
    if !python(&folder).is_file() {
        let building = cache.join("kopf-building");
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&building)).await?;
        let mut pip = Command::new(python(&building));
        pip.args(["-m", "pip", "install", "--quiet", "--require-hashes", "--requirement"]);
        run(pip.arg(repository().join("e2e/kopf/requirements.txt"))).await?;
        // Appears whole or not at all.
        fs::rename(&building, &folder)?;
    }
    Ok(python(&folder))
}

/// Runs it to its end; answers with what it wrote.
async fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{:?}", command.as_std());
    let output = command.kill_on_drop(true).output().await.with_context(|| shown.clone())?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown}: {}", told.trim().lines().last().unwrap_or("failed, and says nothing"));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
