//! [`ControlPlane`]: the cluster of a test or of the demo.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};
use tokio::sync::OnceCell;

use crate::audit::AuditLog;
use crate::binaries::sibling;
use crate::kubeconfig;
use crate::kubectl::Kubectl;
use crate::mount::Mount;
use crate::supervisor::Description;

/// A Kubernetes API with its controllers, and the administrator's access to it.
///
/// It holds nothing that belongs to an async runtime: tests that have one each can share it.
#[derive(Debug)]
pub struct ControlPlane {
    description: Description,
    access: Kubeconfig,
    audit: Option<AuditLog>,
    // Kept for its drop, which ends the control plane.
    _supervisor: Supervisor,
}

impl ControlPlane {
    /// Starts a control plane of its own, with the kinds in `crds/`; or uses the cluster whose
    /// kubeconfig `E2E_KUBECONFIG` names.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// One of its own that can have a [`crate::Node`].
    pub async fn for_node() -> Result<Self> {
        let cluster = Self::start_with(&["--workloads"]).await?;
        ensure!(cluster.description.servers.is_some(), "a node needs a control plane of its own: unset E2E_KUBECONFIG");
        Ok(cluster)
    }

    async fn start_with(arguments: &'static [&str]) -> Result<Self> {
        let (supervisor, description) = tokio::task::spawn_blocking(|| Supervisor::start(arguments)).await??;
        let access = Kubeconfig::read_from(&description.kubeconfig)?;
        let audit =
            description.servers.as_ref().map(|servers| AuditLog::new(servers.audit_log.clone(), access.clone()));
        let cluster = Self { description, access, audit, _supervisor: supervisor };
        let version = cluster.client().await?.apiserver_version().await;
        version.with_context(|| format!("the cluster of {} does not answer", cluster.kubeconfig().display()))?;
        Ok(cluster)
    }

    /// The one that all tests of this process share. It ends with the process.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// A client of the administrator; a new one each time, for the runtime of the caller.
    pub async fn client(&self) -> Result<Client> {
        kubeconfig::client(self.access.clone()).await
    }

    /// A client of the administrator who acts as somebody else.
    pub async fn client_for_user(&self, user: &str, groups: &[&str]) -> Result<Client> {
        kubeconfig::client(kubeconfig::impersonating(self.access.clone(), user, groups)).await
    }

    /// A client with a ServiceAccount's own token.
    pub async fn client_for_service_account(&self, namespace: &str, name: &str) -> Result<Client> {
        kubeconfig::client(self.service_account_access(namespace, name).await?).await
    }

    /// A kubeconfig with a ServiceAccount's own token, for another process.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let path = self.description.directory.join(format!("{namespace}.{name}.kubeconfig"));
        kubeconfig::write(&path, &self.service_account_access(namespace, name).await?)?;
        Ok(path)
    }

    /// The administrator's access.
    pub(crate) fn access(&self) -> &Kubeconfig {
        &self.access
    }

    pub(crate) async fn service_account_access(&self, namespace: &str, name: &str) -> Result<Kubeconfig> {
        let token = self.token(namespace, name, None).await?;
        Ok(kubeconfig::with_token(self.access.clone(), &token))
    }

    /// A kubeconfig for another process, which reads its token from that file, as a pod does.
    pub fn token_file_kubeconfig(&self, token: &Path) -> Result<PathBuf> {
        let path = token.with_extension("kubeconfig");
        kubeconfig::write(&path, &kubeconfig::with_token_file(self.access.clone(), token))?;
        Ok(path)
    }

    /// A ServiceAccount's own token; one that is bound to a Secret is valid no longer than that is there.
    pub async fn token(&self, namespace: &str, name: &str, bound_to: Option<&Secret>) -> Result<String> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let bound_object_ref = bound_to.map(|secret| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: secret.metadata.name.clone(),
            uid: secret.metadata.uid.clone(),
        });
        let spec = TokenRequestSpec { expiration_seconds: Some(24 * 3600), bound_object_ref, ..Default::default() };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let answer = answer.with_context(|| format!("no token for ServiceAccount {namespace}/{name}"))?;
        answer.status.and_then(|status| status.token).context("the TokenRequest has no token")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.description.kubeconfig
    }

    /// The folder for files that belong to this control plane; it goes with it.
    pub fn directory(&self) -> &Path {
        &self.description.directory
    }

    /// What it consists of.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The API server's audit log; none for an existing cluster.
    pub fn audit(&self) -> Option<&AuditLog> {
        self.audit.as_ref()
    }

    /// A call of kubectl with the administrator's kubeconfig.
    pub fn kubectl<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Kubectl {
        self.kubectl_with(&self.description.kubeconfig, arguments)
    }

    /// A call of kubectl with another kubeconfig.
    pub fn kubectl_with<A: AsRef<OsStr>>(&self, kubeconfig: &Path, arguments: impl IntoIterator<Item = A>) -> Kubectl {
        Kubectl::new(&self.description.kubectl, kubeconfig, &self.description.directory).args(arguments)
    }

    /// Applies manifests, server-side.
    pub async fn apply_yaml(&self, manifests: &str) -> Result<()> {
        self.kubectl(["apply", "--server-side", "-f", "-"]).stdin(manifests).succeed().await?;
        Ok(())
    }

    /// Applies the manifests of a file or of a folder, server-side.
    pub async fn apply_path(&self, path: &Path) -> Result<()> {
        ensure!(path.exists(), "{} does not exist", path.display());
        self.kubectl(["apply", "--server-side", "-f"]).arg(path).succeed().await?;
        Ok(())
    }

    /// Installs what a platform team installs: [`INSTALLED`].
    pub async fn install(&self) -> Result<()> {
        let [crds, others @ ..] = INSTALLED;
        self.apply_path(&repository().join(crds)).await?;
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        self.kubectl(established).succeed().await?;
        for folder in others {
            self.apply_path(&repository().join(folder)).await?;
        }
        Ok(())
    }

    /// Delegates the Secrets of a namespace to the operator, as the admin of the namespace does.
    pub async fn delegate(&self, namespace: &str) -> Result<()> {
        self.delegate_by(namespace, "delegation").await
    }

    /// The same, by the RoleBinding in that folder of `rbac/`.
    pub async fn delegate_by(&self, namespace: &str, folder: &str) -> Result<()> {
        let manifest = std::fs::read_to_string(repository().join("rbac").join(folder).join("rolebinding.yaml"))?;
        let binding: RoleBinding = serde_yaml_ng::from_str(&manifest)?;
        let name = binding.metadata.name.clone().context("a RoleBinding without a name")?;
        let bindings = Api::<RoleBinding>::namespaced(self.client().await?, namespace);
        bindings.patch(&name, &PatchParams::apply("namespace-admin"), &Patch::Apply(binding)).await?;
        Ok(())
    }

    /// An empty mount that goes with the control plane: also if nobody drops it, as what all tests of
    /// a process share.
    pub fn mount(&self) -> Result<Mount> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Mount::at(self.directory().join(format!("mount-{}", NUMBER.fetch_add(1, Ordering::Relaxed))))
    }

    /// Creates a namespace of a new name that starts with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let namespaces = Api::<Namespace>::all(self.client().await?);
        let created =
            namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
        created.metadata.name.context("a namespace without a name")
    }
}

/// The folders of what a platform team installs, the kinds first. A delegation is in none of them: it belongs to its
/// namespace.
pub(crate) const INSTALLED: [&str; 3] = ["crds", "rbac", "deploy/admission"];

/// The folder of the sources that this was built from.
pub fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().unwrap_or(crate_folder)
}

/// The supervisor's process. Its standard input is ours to close: that ends it, however we end.
#[derive(Debug)]
struct Supervisor(Child);

impl Supervisor {
    fn start(arguments: &[&str]) -> Result<(Self, Description)> {
        let mut command = Command::new(sibling("control-plane")?);
        command.args(arguments);
        let crds = repository().join("crds");
        if crds.is_dir() {
            command.arg("--apply").arg(crds);
        }
        // Ctrl-C reaches only us: we may still need the cluster to put things in order.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut supervisor = Self(child.context("cannot start the control plane")?);
        let stdout = supervisor.0.stdout.take().context("no pipe from the supervisor")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the control plane did not start; it told why on standard error");
        let description = serde_json::from_str(&line).context("the supervisor told something else than where it is")?;
        Ok((supervisor, description))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It bounds its own end.
        let _ = self.0.wait();
    }
}
