//! The commands of docs/migration.md, and a shell that runs them as a person does: one after the other, each with what
//! the ones before it have left.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use e2e::{ControlPlane, helm::Helm, repository};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

const FENCE: &str = "```sh migration ";
const END: &str = "-- the block has ended --";

/// The blocks by their names.
fn blocks() -> Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(repository().join("docs/migration.md"))?;
    let mut blocks = BTreeMap::new();
    for rest in text.split(FENCE).skip(1) {
        let (name, rest) = rest.split_once('\n').context("a fence without a block")?;
        let (block, _) = rest.split_once("\n```").context("a block without an end")?;
        ensure!(blocks.insert(name.to_owned(), block.to_owned()).is_none(), "{name} is there twice");
    }
    Ok(blocks)
}

/// One shell, and the blocks that it has not run yet.
pub struct Shell {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    blocks: BTreeMap<String, String>,
    unused: BTreeMap<String, String>,
    // Kept for their drops.
    _bash: Child,
    _programs: TempDir,
}

impl Shell {
    /// In the folder of the repository, with kubectl, helm and the plugin.
    pub async fn start(cluster: &ControlPlane, helm: &Helm) -> Result<Self> {
        let programs = TempDir::new()?;
        let plugin = PathBuf::from(env!("CARGO_BIN_EXE_demo")).with_file_name("secrets-distributor");
        let kubectl = &cluster.description().kubectl;
        for (name, program) in [("kubectl-distribute", &plugin), ("kubectl", kubectl), ("helm", &helm.program().into())]
        {
            std::os::unix::fs::symlink(program, programs.path().join(name))?;
        }
        let mut bash = Command::new("bash");
        bash.args(["-eu", "-o", "pipefail"]).current_dir(repository()).envs(helm.environment());
        bash.env("PATH", format!("{}:{}", programs.path().display(), std::env::var("PATH")?));
        bash.env("KUBERC", "off").env("KUBECACHEDIR", cluster.directory().join("kubectl-cache"));
        bash.env("TMPDIR", programs.path()).kill_on_drop(true);
        let mut bash = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut input = bash.stdin.take().context("no pipe to bash")?;
        input.write_all(b"exec 2>&1\n").await?;
        let output = BufReader::new(bash.stdout.take().context("no pipe from bash")?).lines();
        let blocks = blocks()?;
        Ok(Self { input, output, unused: blocks.clone(), blocks, _bash: bash, _programs: programs })
    }

    /// Runs the block of that name, and answers with what it prints.
    pub async fn run(&mut self, name: &str) -> Result<String> {
        let block = self.blocks.get(name).with_context(|| format!("docs/migration.md has no block {name}"))?;
        self.unused.remove(name);
        // What reads standard input would read the next block.
        let script = format!("{{\n{block}\n}} < /dev/null\nprintf '\\n%s\\n' '{END}'\n");
        self.input.write_all(script.as_bytes()).await?;
        let mut told = String::new();
        while let Some(line) = self.output.next_line().await? {
            if line == END {
                return Ok(told);
            }
            told += &format!("{line}\n");
        }
        bail!("{name} has failed:\n{told}")
    }

    /// Every block has been run.
    pub fn finish(self) {
        assert!(self.unused.is_empty(), "not run: {:?}", self.unused.keys());
    }
}
