//! The operator's binary as a process, under its own ServiceAccount.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};
use serde_json::Value;

use crate::binaries::sibling;
use crate::process::{Process, ending, guarded};
use crate::site::SOON;
use crate::{ControlPlane, eventually, loopback};

/// How to run the operator.
#[derive(Clone, Debug)]
pub struct OperatorConfig {
    /// Folder of the sources (`--secrets-path`).
    pub secrets_path: PathBuf,
    /// Its namespace, where its ServiceAccount is.
    pub namespace: String,
    /// Access to the cluster; none: a token of the operator's own ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    /// Key of the digests; two operators that shall agree need the same.
    pub digest_key: Vec<u8>,
    /// `--log-level`
    pub log_level: String,
    /// More arguments of `run`. Given last, so that they win.
    pub arguments: Vec<String>,
    /// More environment.
    pub environment: Vec<(String, String)>,
    /// Another program in place of the operator's binary.
    pub binary: Option<PathBuf>,
    /// The permissions of files hold for it, as for the user of a pod, also where the tests run as root.
    pub obeys_permissions: bool,
}

impl OperatorConfig {
    /// The usual way to run it, on a folder of sources.
    pub fn new(secrets_path: impl Into<PathBuf>) -> Self {
        Self {
            secrets_path: secrets_path.into(),
            namespace: Operator::NAMESPACE.to_owned(),
            kubeconfig: None,
            digest_key: b"0123456789abcdef0123456789abcdef".to_vec(),
            log_level: "info,secrets_distributor=debug".to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            binary: None,
            obeys_permissions: false,
        }
    }

    /// Adds an argument of `run`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }
}

/// A running operator. Dropped: killed.
#[derive(Debug)]
pub struct Operator {
    process: Process,
}

/// How an operator ended that was asked to.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Its exit status.
    pub status: ExitStatus,
    /// The time from the request to the end.
    pub after: Duration,
}

impl Operator {
    /// Namespace of the operator, unless its [`OperatorConfig`] has another.
    pub const NAMESPACE: &str = "secrets-distributor";
    /// Its ServiceAccount.
    pub const SERVICE_ACCOUNT: &str = "secrets-distributor";
    /// Name of its replica, unless the environment in its [`OperatorConfig`] has another `POD_NAME`: started again
    /// after it was killed it goes on at once, as the same pod does.
    pub const POD: &str = "operator-0";
    /// Its user name there, as the audit log and RBAC know it.
    pub const USER: &str = "system:serviceaccount:secrets-distributor:secrets-distributor";

    /// Starts it. Its ServiceAccount and rights must be there already ([`ControlPlane::install`]).
    pub async fn start(cluster: &ControlPlane, config: OperatorConfig) -> Result<Self> {
        let binary = match &config.binary {
            Some(binary) => binary.clone(),
            None => sibling("secrets-distributor")?,
        };
        let kubeconfig = match &config.kubeconfig {
            Some(kubeconfig) => kubeconfig.clone(),
            None => cluster.service_account_kubeconfig(&config.namespace, Self::SERVICE_ACCOUNT).await?,
        };
        let folder = new_folder(cluster.directory())?;
        let digest_key = folder.join("digest.key");
        fs::write(&digest_key, &config.digest_key)?;
        let mut command = match config.obeys_permissions && geteuid().is_root() {
            true => unprivileged(&binary)?,
            false => guarded(&binary)?,
        };
        command.arg("run").arg("--secrets-path").arg(&config.secrets_path).arg("--digest-key-file").arg(digest_key);
        command.args(["--namespace", &config.namespace, "--service-account", Self::SERVICE_ACCOUNT]);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", &config.log_level]);
        command.args(&config.arguments);
        // What is set where the tests run must not decide what they show.
        command.env_clear().env("KUBECONFIG", kubeconfig).env("POD_NAME", Self::POD).envs(config.environment);
        Ok(Self { process: Process::start("the operator", command, &folder.join("log"))? })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it wrote to standard output and standard error so far.
    pub fn logs(&self) -> String {
        self.process.log()
    }

    /// The lines of its log that are JSON objects.
    pub fn log_entries(&self) -> Vec<Value> {
        self.logs().lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
    }

    /// Where its admin server listens, once it has said so.
    pub fn address(&self) -> Option<SocketAddr> {
        let entries = self.log_entries();
        let entry = entries.iter().find(|entry| field(entry, "message") == Some("admin server listening"))?;
        field(entry, "address")?.parse().ok()
    }

    /// GET on its admin server: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        loopback::get(self.address().context("the operator does not listen yet")?, path).await
    }

    /// Waits until it is ready. An operator that ends instead is an error that tells its log.
    pub async fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let probed = eventually(timeout, "the operator is ready", async || {
            match self.process.exited() {
                Ok(Some(status)) => return Ok(Err(format!("the operator {}", ending(status)))),
                Ok(None) => {}
                Err(error) => return Err(format!("{error:#}")),
            }
            match self.get("/readyz").await {
                Ok((200, _)) => Ok(Ok(())),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        match probed.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ended)) => bail!("{ended}\n{}", self.process.log_tail(20)),
            Err(error) => bail!("{error:#}\n{}", self.process.log_tail(20)),
        }
    }

    /// Waits until it is ready and `leading` or on `standby`.
    pub async fn until_role(&self, role: &str) -> Result<()> {
        eventually(SOON, &format!("the replica is {role}"), async || match self.get("/readyz").await {
            Ok((200, body)) if body.contains(&format!("leader: {role}\n")) => Ok(()),
            Ok((status, body)) => Err(format!("{status} {body}")),
            Err(error) => Err(format!("{error:#}")),
        })
        .await
    }

    /// Sends it a signal, for instance SIGSTOP.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// SIGKILL: it can finish nothing.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&mut self, bound: Duration) -> Result<Exit> {
        let asked = Instant::now();
        self.process.signal(Signal::TERM)?;
        let status = self.wait(bound).await?;
        Ok(Exit { status, after: asked.elapsed() })
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let ended = self.process.wait(bound).await?;
        ended.with_context(|| format!("the operator still runs after {bound:?}\n{}", self.process.log_tail(20)))
    }
}

/// As root, but without root's power to open whatever it likes.
fn unprivileged(binary: &Path) -> Result<Command> {
    const POWERS: &str = "-dac_override,-dac_read_search";
    let mut command = guarded(Path::new("/usr/bin/setpriv"))?;
    command.args(["--bounding-set", POWERS, "--inh-caps", POWERS, "--"]).arg(binary);
    Ok(command)
}

/// A field of a log entry, whether the log's fields are nested or flattened.
fn field<'a>(entry: &'a Value, name: &str) -> Option<&'a str> {
    entry["fields"].get(name).or_else(|| entry.get(name))?.as_str()
}

fn new_folder(parent: &Path) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = parent.join(format!("operator-{}-{number}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
