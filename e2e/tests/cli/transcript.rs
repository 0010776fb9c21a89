//! Commands and what they print, compared with a file.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context, Result};
use e2e::{
    repository,
    site::{Site, Tenant},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tempfile::TempDir;
use tokio::{process::Command, sync::OnceCell};

/// The one site of all transcripts, with the sample policies that some of them are about: each shows what speaks about
/// its namespaces, whichever runs first.
pub async fn site() -> Result<&'static Site> {
    static PREPARED: OnceCell<()> = OnceCell::const_new();
    let site = Site::shared().await?;
    let prepare = async || {
        for sample in ["wildcard-tls", "team-database", "production-deny"] {
            site.cluster.apply_path(&repository().join(format!("policies/{sample}.yaml"))).await?;
        }
        anyhow::Ok(())
    };
    PREPARED.get_or_try_init(prepare).await?;
    Ok(site)
}

/// What was typed and printed so far.
pub struct Transcript<'a> {
    site: &'a Site,
    name: &'static str,
    text: String,
    kubeconfig: PathBuf,
    /// A folder in the PATH with the plugin in it.
    plugins: TempDir,
    /// $FOLDER of the commands.
    folder: TempDir,
}

impl<'a> Transcript<'a> {
    /// One that is kept in the file of that name.
    pub fn new(site: &'a Site, name: &'static str) -> Result<Self> {
        let (plugins, folder) = (TempDir::new()?, TempDir::new()?);
        let binary = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("secrets-distributor");
        symlink(binary, plugins.path().join("kubectl-distribute"))?;
        Ok(Self { site, name, text: String::new(), kubeconfig: site.cluster.kubeconfig().into(), plugins, folder })
    }

    /// What the next commands are about.
    pub fn say(&mut self, text: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text += &format!("{gap}# {}\n", text.replace('\n', "\n# "));
    }

    /// A file in $FOLDER.
    pub fn file(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join(name), text)?)
    }

    /// From here on with the token of that ServiceAccount, whose people have a role in the namespace.
    pub async fn act_as(&mut self, tenant: &Tenant<'_>, name: &str, role: &str) -> Result<()> {
        let namespace = &tenant.namespace;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace },
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": { "name": format!("{name}-{role}"), "namespace": namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }],
        });
        tenant.site.cluster.apply_yaml(&account.to_string()).await?;
        tenant.site.cluster.apply_yaml(&binding.to_string()).await?;
        self.kubeconfig = self.site.cluster.service_account_kubeconfig(namespace, name).await?;
        Ok(())
    }

    /// Runs a command as it is typed, in the repository's folder, and keeps what it prints and how it ends.
    pub async fn run(&mut self, command: &str) -> Result<()> {
        let output = self.execute(command).await?;
        let mut shown = String::from_utf8(output.stdout)?;
        shown += &String::from_utf8(output.stderr)?;
        let shown = shown.replace(&self.folder.path().display().to_string(), "$FOLDER");
        self.text += &format!("$ {command}\n{}", timeless(&shown));
        match output.status.code() {
            Some(0) => {}
            code => self.text += &format!("[exit code {}]\n", code.context("it was killed")?),
        }
        Ok(())
    }

    async fn execute(&self, command: &str) -> Result<Output> {
        let kubectl = self.site.cluster.description().kubectl.parent().context("kubectl is in no folder")?;
        let search = format!("{}:{}:{}", self.plugins.path().display(), kubectl.display(), std::env::var("PATH")?);
        let mut shell = Command::new("bash");
        shell.args(["-c", command]).current_dir(repository()).stdin(Stdio::null()).kill_on_drop(true);
        shell.env("PATH", search).env("KUBECONFIG", &self.kubeconfig).env("KUBERC", "off").env_remove("NO_COLOR");
        shell.env("FOLDER", self.folder.path());
        shell.env("KUBECACHEDIR", self.site.cluster.directory().join("kubectl-cache"));
        Ok(shell.output().await?)
    }

    /// Compares with the file.
    pub fn finish(self) {
        let file = repository().join("e2e/tests/cli").join(format!("{}.txt", self.name));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&file, &self.text).unwrap();
        }
        let kept = fs::read_to_string(&file).unwrap_or_default();
        assert!(kept == self.text, "{} is another one now:\n{}", file.display(), self.text);
    }
}

/// With one time in place of those that are of this run; it is as long as they are, so that tables stay aligned.
fn timeless(text: &str) -> String {
    const TIME: &str = "2000-01-01T00:00:00Z";
    let mut timeless = text.to_owned();
    for at in 0..text.len() {
        let Some(found) = text.get(at..at + TIME.len()).filter(|found| found.ends_with('Z')) else { continue };
        // Also what lies ahead a little, as a proposed end.
        let is_of_now = |time: Timestamp| time.duration_since(Timestamp::now()).abs() < SignedDuration::from_hours(240);
        if found.parse().is_ok_and(is_of_now) {
            timeless = timeless.replace(found, TIME);
        }
    }
    timeless
}
