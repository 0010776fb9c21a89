//! Child processes that cannot outlive the process that started them.
//!
//! Each child is started through `control-plane exec`, which asks the kernel for a SIGKILL on the
//! death of its parent and then becomes the program: the process id is the program's own.

use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};

use crate::binaries::sibling;

const POLL: Duration = Duration::from_millis(20);

/// A running child with its output in a file. Dropped: killed, with whatever it started.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// The command line of a program that dies with this process.
pub(crate) fn guarded(program: &Path) -> Result<Command> {
    let mut command = Command::new(sibling("control-plane")?);
    command.args(["exec", "--parent", &std::process::id().to_string(), "--"]).arg(program);
    Ok(command)
}

/// The body of `control-plane exec`: returns only if the program cannot be started.
pub fn exec_guarded(parent: u32, program: &Path, arguments: &[std::ffi::OsString]) -> anyhow::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return anyhow::Error::new(error).context("cannot ask for a signal on the parent's death");
    }
    // A parent that died before the request was heard would never be noticed.
    let actual = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if actual != Some(parent) {
        return anyhow::anyhow!("process {parent} is gone: not starting {}", program.display());
    }
    anyhow::Error::new(Command::new(program).args(arguments).exec())
        .context(format!("cannot run {}", program.display()))
}

impl Process {
    /// Starts a command made by [`guarded`], with stdout and stderr appended to `log`.
    ///
    /// It leads a process group of its own, so that Ctrl-C reaches only the process that decides
    /// about the order of stopping.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = spawn(command).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of what it wrote.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Its exit status, once it has ended.
    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal to it and to what it started. Nothing happens if it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        // Not reaped yet, so that the id cannot belong to anybody else.
        if self.exited()?.is_none() {
            kill_process_group(Pid::from_child(&self.child), signal)?;
        }
        Ok(())
    }

    /// Waits until it has ended; `None` if it still runs at the end of the bound.
    pub(crate) async fn wait(&mut self, bound: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + bound;
        loop {
            match self.exited()? {
                Some(status) => return Ok(Some(status)),
                None if Instant::now() >= deadline => return Ok(None),
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and the parent-death signal remains.
        let _ = self.kill();
    }
}

/// What a person calls the way a process ended.
pub(crate) fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Starts a command on a thread that lives as long as the process.
///
/// The kernel sends the parent-death signal when the *thread* that started the child ends, and the
/// threads of tests and runtimes come and go.
fn spawn(command: Command) -> io::Result<Child> {
    type Request = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The one who asked waits below.
                let _ = reply.send(command.spawn());
            }
        });
        requests
    });
    let (reply, answer) = mpsc::channel();
    SPAWNER.send((command, reply)).map_err(|_| io::Error::other("the thread that starts processes is gone"))?;
    answer.recv().map_err(|_| io::Error::other("the thread that starts processes is gone"))?
}
