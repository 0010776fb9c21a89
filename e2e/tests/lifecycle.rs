//! However a control plane ends, no process and no folder of it stays behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use e2e::supervisor::Description;
use e2e::{ControlPlane, eventually};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// A supervisor whose folders are in a place of its own.
struct Supervised {
    child: Child,
    // Apart from the child, whose `wait` would close it.
    stdin: Option<ChildStdin>,
    place: TempDir,
}

impl Supervised {
    fn spawn() -> Self {
        Self::spawn_with(tempfile::tempdir().unwrap(), &[])
    }

    fn spawn_with(place: TempDir, arguments: &[&Path]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
        command
            .args(arguments)
            .env("TMPDIR", place.path())
            .env_remove("E2E_KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        Self { child, stdin, place }
    }

    fn description(&mut self) -> Description {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The processes that were started for this control plane: all have its folder on their command line.
    fn processes(&self) -> Vec<String> {
        processes_of(self.place.path())
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), Vec::<String>::new());
        let left: Vec<_> = fs::read_dir(self.place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let command_lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let command_lines = command_lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    command_lines.filter(|line| line.contains(folder)).collect()
}

#[test]
fn the_end_of_its_input_ends_it() {
    let mut supervised = Supervised::spawn();
    let description = supervised.description();
    assert_eq!(description.servers.unwrap().processes.len(), 3);
    assert_eq!(supervised.processes().len(), 3, "{:?}", supervised.processes());
    // What the kernel does as well when the one who holds the pipe is killed.
    drop(supervised.stdin.take());
    assert!(supervised.child.wait().unwrap().success());
    supervised.assert_nothing_is_left();
}

#[test]
fn ctrl_c_ends_it_when_it_runs() {
    let mut supervised = Supervised::spawn();
    supervised.description();
    supervised.signal(Signal::INT);
    assert!(supervised.child.wait().unwrap().success());
    supervised.assert_nothing_is_left();
}

#[tokio::test]
async fn a_signal_ends_it_while_it_starts() {
    let mut supervised = Supervised::spawn();
    let started = eventually(SOON, "the first server", async || (!supervised.processes().is_empty()).then_some(()));
    started.await.unwrap();
    supervised.signal(Signal::TERM);
    assert!(supervised.child.wait().unwrap().success());
    supervised.assert_nothing_is_left();
    let mut told = String::new();
    supervised.child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "", "nobody may think that it is ready");
}

#[tokio::test]
async fn a_killed_supervisor_leaves_a_folder_only_and_the_next_start_removes_it() {
    let mut supervised = Supervised::spawn();
    let description = supervised.description();
    supervised.child.kill().unwrap();
    supervised.child.wait().unwrap();
    let gone = eventually(SOON, "no process is left", async || match supervised.processes() {
        none if none.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    gone.await.unwrap();
    assert!(description.directory.exists());

    let place = std::mem::replace(&mut supervised.place, tempfile::tempdir().unwrap());
    let mut next = Supervised::spawn_with(place, &[]);
    next.description();
    assert!(!description.directory.exists());
    drop(next.stdin.take());
    next.child.wait().unwrap();
    next.assert_nothing_is_left();
}

#[tokio::test]
async fn two_at_once_are_two_clusters() {
    let (one, other) = tokio::try_join!(ControlPlane::start(), ControlPlane::start()).unwrap();
    let namespace = one.namespace("only-here").await.unwrap();
    let there = other.kubectl(["get", "namespace", &namespace]).run().await.unwrap();
    assert!(there.stderr.contains("NotFound"), "{there:?}");
    let directory = one.directory().to_owned();
    drop(one);
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<String>::new());
    other.kubectl(["get", "namespaces"]).succeed().await.unwrap();
}

#[tokio::test]
async fn an_existing_cluster_is_used_and_outlives_its_user() {
    let mut cluster = Supervised::spawn();
    let kubeconfig = cluster.description().kubeconfig;
    let mut user = Supervised::spawn_with(tempfile::tempdir().unwrap(), &["--kubeconfig".as_ref(), &kubeconfig]);
    let description = user.description();
    assert!(description.kubeconfig == kubeconfig && description.servers.is_none(), "{description:?}");
    assert!(description.directory.starts_with(user.place.path()));
    drop(user.stdin.take());
    assert!(user.child.wait().unwrap().success());
    user.assert_nothing_is_left();
    assert!(kubeconfig.exists() && cluster.processes().len() == 3);
}

#[tokio::test]
async fn a_server_that_dies_is_told_and_ends_the_rest() {
    let mut supervised = Supervised::spawn();
    let etcd = supervised.description().servers.unwrap().processes["etcd"];
    kill_process(Pid::from_raw(etcd.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(supervised.child.wait().unwrap().code(), Some(1));
    supervised.assert_nothing_is_left();
}

#[test]
fn without_go_it_tells_how_to_get_it_and_the_ways_around_it() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_control-plane"));
    command
        .env("PATH", empty.path())
        .env("XDG_CACHE_HOME", empty.path())
        .env_remove("KUBEBUILDER_ASSETS")
        .env_remove("E2E_KUBECONFIG");
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _stdin = child.stdin.take();
    let mut output = String::new();
    child.stderr.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    for part in ["Go 1.26", "tar -C /usr/local", "KUBEBUILDER_ASSETS", "E2E_KUBECONFIG"] {
        assert!(output.contains(part), "{part}: {output}");
    }
}

#[tokio::test]
async fn a_guarded_program_dies_with_its_parent() {
    // The shell starts a program as the library does, tells its id, and is killed at once.
    let script = format!("{} exec --parent $$ -- sleep 600 & echo $!; wait", env!("CARGO_BIN_EXE_control-plane"));
    let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut id = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut id).unwrap();
    let command_line = format!("/proc/{}/cmdline", id.trim());
    let sleeps = async || fs::read(&command_line).ok().filter(|line| line.starts_with(b"sleep")).map(|_| ());
    eventually(SOON, "the program runs", sleeps).await.unwrap();
    shell.kill().unwrap();
    shell.wait().unwrap();
    let gone = async || sleeps().await.is_none().then_some(());
    eventually(SOON, "the program is gone", gone).await.unwrap();
}
