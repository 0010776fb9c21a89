//! The demo and the tutorial, as a person runs them; and that README.md shows what the demo prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use e2e::{ControlPlane, repository};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

const FENCE: &str = "```text demo\n";
const RENEW: &str = "run: BLESS=1 cargo test -p e2e --test demo";

/// What the demo makes has fixed names: on one cluster it is there once at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env_remove("KEEP").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn demo_on(cluster: &ControlPlane) -> Command {
    let mut command = demo();
    command.env("E2E_KUBECONFIG", cluster.kubeconfig());
    command
}

fn stdout(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}\n{}\n{told}", output.status, String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Without what differs from run to run: numbers, ages, traces, and the spaces that align them. Whether an attempt asks
/// for the policies depends on when another did.
fn normalized(text: &str) -> String {
    let varies = |word: &str| {
        let digits = word.starts_with(|c: char| c.is_ascii_digit());
        let number = digits && word.bytes().all(|c| c.is_ascii_digit() || matches!(c, b'm' | b's' | b'.'));
        number || word.len() == 32 && word.bytes().all(|c| c.is_ascii_hexdigit()) || word.contains("/trace/")
    };
    let line = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(|word| if varies(word) { "N" } else { word }).collect();
        words.join(" ")
    };
    let asks_for_policies = |line: &&str| line.contains(" GET ") && line.ends_with("/distributionpolicies");
    text.trim_end().lines().filter(|line| !asks_for_policies(line)).map(line).collect::<Vec<_>>().join("\n")
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

/// The text before the block that shows the demo, the block, and the text after it.
fn parts(readme: &str) -> (&str, &str, &str) {
    let (before, rest) = readme.split_once(FENCE).expect("README.md shows the demo");
    let end = if rest.starts_with("```") { 0 } else { rest.find("\n```").unwrap() + 1 };
    (before, &rest[..end], &rest[end..])
}

fn assert_is_in_the_readme(shown: &str) {
    let readme = readme();
    let (before, block, after) = parts(&readme);
    if normalized(shown) == normalized(block) {
        return;
    }
    if std::env::var_os("BLESS").is_some() {
        let renewed = format!("{before}{FENCE}{}\n{after}", shown.trim_end());
        return fs::write(repository().join("README.md"), renewed).unwrap();
    }
    panic!("the demo does not print what README.md shows; {RENEW}\n\n{shown}");
}

#[tokio::test]
async fn the_readme_shows_what_it_prints() {
    let _alone = alone().await;
    assert_is_in_the_readme(&stdout(&demo().output().unwrap()));
}

/// A demo that has told up to a line. It does not outlive the test.
struct Running {
    child: Child,
    told: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn until(mut command: Command, last: &str) -> Self {
        let mut running = Self { child: command.spawn().unwrap(), told: Vec::new() };
        for line in BufReader::new(running.child.stdout.as_mut().unwrap()).lines() {
            running.told.push(line.unwrap());
            if running.told.last().unwrap().contains(last) {
                return running;
            }
        }
        let mut errors = String::new();
        running.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        panic!("the demo ended before {last:?}:\n{}\n{errors}", running.told.join("\n"));
    }

    fn interrupt(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[tokio::test]
async fn it_stays_if_asked_and_then_leaves_nothing() {
    let _alone = alone().await;
    let place = TempDir::new().unwrap();
    let mut command = demo();
    command.env("KEEP", "1").env("TMPDIR", place.path());
    let running = Running::until(command, "To stop, ");
    let told = |start: &str| running.told.iter().find(|line| line.trim_start().starts_with(start)).unwrap().clone();
    let script = format!("{}\n{}", told("export KUBECONFIG="), told("kubectl get sd,dp"));
    let listed = stdout(&Command::new("bash").args(["-ec", &script]).output().unwrap());
    assert!(listed.contains("wildcard-tls-distribution") && listed.contains("distributionpolicy"), "{listed}");
    let sources = PathBuf::from(told("The files in ").split(' ').nth(3).unwrap());
    assert!(sources.join("WildcardCertificate").is_file(), "{}", sources.display());
    assert_eq!(running.interrupt(), Some(0));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

/// What could be left on a cluster.
async fn inventory(cluster: &ControlPlane) -> String {
    let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,rolebindings,secrets";
    cluster.kubectl(["get", kinds, "--all-namespaces", "-o", "name"]).succeed().await.unwrap()
}

#[tokio::test]
async fn on_an_existing_cluster_it_removes_what_it_made_and_nothing_else() {
    let _alone = alone().await;
    let cluster = ControlPlane::start().await.unwrap();
    // Not on a cluster that somebody lent.
    if cluster.description().servers.is_some() {
        cluster.kubectl(["delete", "customresourcedefinitions", "--all"]).succeed().await.unwrap();
    }
    let before = inventory(&cluster).await;
    assert_is_in_the_readme(&stdout(&demo_on(&cluster).output().unwrap()));
    assert_eq!(inventory(&cluster).await, before);

    cluster.install().await.unwrap();
    let before = inventory(&cluster).await;
    let interrupted = Running::until(demo_on(&cluster), "3. ");
    assert_eq!(interrupted.interrupt(), Some(130));
    assert_eq!(inventory(&cluster).await, before);

    cluster.kubectl(["create", "namespace", "test-application-1"]).succeed().await.unwrap();
    let before = inventory(&cluster).await;
    let refused = demo_on(&cluster).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("kubectl delete namespace test-application-1"), "{told}");
    assert_eq!(inventory(&cluster).await, before);
    cluster.kubectl(["delete", "namespace", "test-application-1"]).succeed().await.unwrap();
}

#[test]
fn what_is_wrong_is_told() {
    let output = demo().env("E2E_KUBECONFIG", "/nonexistent/kubeconfig").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("/nonexistent/kubeconfig"), "{told}");
    assert_eq!(demo().arg("--nonsense").output().unwrap().status.code(), Some(2));
}

/// The commands of the tutorial, in order.
fn tutorial() -> String {
    let readme = readme();
    let mut lines = readme.lines();
    let mut script = String::new();
    while lines.by_ref().any(|line| line.trim() == "```sh tutorial") {
        for line in lines.by_ref().take_while(|line| line.trim() != "```") {
            script += &format!("{}\n", line.trim_start());
        }
    }
    script
}

#[tokio::test]
async fn the_tutorial_leads_to_a_secret() {
    let _alone = alone().await;
    let cluster = ControlPlane::start().await.unwrap();
    // The binary that is tested, on a port that is free.
    let mut script = tutorial().replace("127.0.0.1:8080", "127.0.0.1:0");
    if cluster.description().servers.is_none() {
        // Others use the kinds on a cluster that somebody lent.
        script = script.replace("kubectl delete -f crds/ -f rbac/", "");
    }
    assert!(script.contains("kubectl wait --for=condition=Ready"), "{script}");
    let binary = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("secrets-distributor");
    let kubectl = cluster.description().kubectl.parent().unwrap();
    let prelude = "trap 'kill $(jobs -p) 2> /dev/null || true' EXIT; cargo() { shift 2; exec \"$OPERATOR\" \"$@\"; }";
    let mut bash = Command::new("bash");
    bash.args(["-eu", "-o", "pipefail", "-c", &format!("{prelude}\n{script}")]).current_dir(repository());
    bash.env("OPERATOR", binary).env("KUBECONFIG", cluster.kubeconfig()).env("KUBERC", "off");
    bash.env("PATH", format!("{}:{}", kubectl.display(), std::env::var("PATH").unwrap()));
    bash.env("KUBECACHEDIR", cluster.directory().join("kubectl-cache"));
    let told = stdout(&bash.output().unwrap());
    assert!(told.contains("condition met") && told.contains("tls.key:"), "{told}");
}
