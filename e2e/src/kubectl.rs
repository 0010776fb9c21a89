//! The real kubectl, as a person runs it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// One call of kubectl. Nothing of the user's own kubectl settings has an effect.
#[derive(Debug)]
pub struct Kubectl {
    command: Command,
    input: Option<Vec<u8>>,
}

/// What a call of kubectl gave.
#[derive(Debug)]
pub struct KubectlOutput {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Kubectl {
    pub(crate) fn new(program: &Path, kubeconfig: &Path, cache: &Path) -> Self {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", cache.join("kubectl-cache")).env("KUBERC", "off");
        command.kill_on_drop(true);
        Self { command, input: None }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Acts as another user (`--as`).
    #[must_use]
    pub fn as_user(self, user: &str) -> Self {
        self.args(["--as", user])
    }

    /// Acts as a member of a group as well (`--as-group`); needs [`Self::as_user`].
    #[must_use]
    pub fn as_group(self, group: &str) -> Self {
        self.args(["--as-group", group])
    }

    /// Gives it standard input, for `-f -`.
    #[must_use]
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Runs it. That it fails is an answer as well.
    pub async fn run(mut self) -> Result<KubectlOutput> {
        let stdin = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().context("cannot run kubectl")?;
        let input = child.stdin.take().zip(self.input);
        let write = async {
            if let Some((mut pipe, input)) = input {
                // It may end without having read everything; its own message tells why.
                let _ = pipe.write_all(&input).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        let output = output?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Ok(KubectlOutput { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs it and gives its standard output; that it fails is an error.
    pub async fn succeed(self) -> Result<String> {
        let called = format!("{:?}", self.command.as_std().get_args().collect::<Vec<_>>());
        let output = self.run().await?;
        ensure!(output.status.success(), "kubectl {called}: {}", output.stderr.trim_end());
        Ok(output.stdout)
    }
}

impl KubectlOutput {
    /// It ended with exit code 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}
