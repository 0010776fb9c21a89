//! Where the demo is told: headings, commands that are really run, and what they really print.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{ControlPlane, repository};

const WIDTH: usize = 116;
const INDENT: &str = "   ";

const HEADING: Style = Style::new().bold();
const COMMAND: Style = AnsiColor::Cyan.on_default();

/// Tells on standard output, in colour only where a person wants it.
pub(super) struct Stage {
    environment: Vec<(&'static str, OsString)>,
}

impl Stage {
    /// Commands are run in the repository's folder, with the cluster's kubectl and kubeconfig.
    pub(super) fn new(cluster: &ControlPlane, secrets_path: &Path) -> Result<Self> {
        let programs = cluster.description().kubectl.parent().context("kubectl is in no folder")?.to_owned();
        let search = std::env::var_os("PATH").unwrap_or_default();
        let search = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&search)))?;
        let environment = vec![
            ("PATH", search),
            ("KUBECONFIG", cluster.kubeconfig().into()),
            ("KUBECACHEDIR", cluster.directory().join("kubectl-cache").into()),
            ("KUBERC", "off".into()),
            ("SECRETS_PATH", secrets_path.into()),
        ];
        Ok(Self { environment })
    }

    /// What it is all about.
    pub(super) fn title(&self, text: &str) -> io::Result<()> {
        writeln!(anstream::stdout(), "{HEADING}{text}{HEADING:#}")
    }

    /// What the next commands are about.
    pub(super) fn heading(&self, text: &str) -> io::Result<()> {
        writeln!(anstream::stdout(), "\n{HEADING}{text}{HEADING:#}")
    }

    /// What no command shows.
    pub(super) fn say(&self, text: &str) -> io::Result<()> {
        let mut out = anstream::stdout();
        wrapped(text).try_for_each(|line| writeln!(out, "{INDENT}{line}"))
    }

    /// Runs a command that must succeed.
    pub(super) async fn run(&self, command: &str) -> Result<()> {
        let output = self.show(command).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{command}` failed: {}", told.trim_end());
        Ok(())
    }

    /// Runs a command whose exit code is an answer, such as `kubectl auth can-i`.
    pub(super) async fn ask(&self, command: &str) -> Result<()> {
        let output = self.show(command).await?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.stdout.is_empty(), "`{command}` answered nothing: {}", told.trim_end());
        Ok(())
    }

    async fn show(&self, command: &str) -> Result<Output> {
        // As it would be typed.
        let typed = wrapped(&format!("$ {command}")).collect::<Vec<_>>().join(&format!(" \\\n{INDENT}    "));
        writeln!(anstream::stdout(), "{INDENT}{COMMAND}{typed}{COMMAND:#}")?;
        let output = self.execute(command).await?;
        String::from_utf8_lossy(&output.stdout).lines().try_for_each(|line| self.say(line))?;
        Ok(output)
    }

    async fn execute(&self, command: &str) -> Result<Output> {
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", command]).current_dir(repository()).envs(self.environment.iter().cloned());
        shell.stdin(Stdio::null()).kill_on_drop(true);
        shell.output().await.context("cannot run bash")
    }
}

/// The lines of a text that is too wide for a screen. Kept as it is: a line that fits.
fn wrapped(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let fits = text.char_indices().nth(WIDTH).is_none();
        let gap = if fits { None } else { text.get(..WIDTH).and_then(|head| head.rfind(' ')).filter(|gap| *gap > 0) };
        let Some(gap) = gap else { return Some(text) };
        rest = Some(text[gap..].trim_start());
        Some(&text[..gap])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_wide_is_broken_at_a_space_and_nothing_is_lost() {
        let words = vec!["0123456789"; 30].join(" ");
        let lines: Vec<_> = wrapped(&words).collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= WIDTH), "{lines:?}");
        assert_eq!(lines.join(" "), words);
        let unbreakable = "x".repeat(3 * WIDTH);
        assert_eq!(wrapped(&unbreakable).collect::<Vec<_>>(), [unbreakable.as_str()]);
        assert_eq!(wrapped("A   table  line").collect::<Vec<_>>(), ["A   table  line"]);
    }
}
