//! The program from outside: arguments, environment, exit codes, signals, the admin server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{DumpableBehavior, Pid, Resource, Signal, dumpable_behavior, getrlimit, kill_process};
use tempfile::TempDir;

/// After this a test is taken to hang.
const HANGS: Duration = Duration::from_secs(60);

/// What a start needs: a key, an empty folder of sources, and a cluster that nobody answers for.
struct Surroundings(TempDir);

impl Surroundings {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("key"), [7; 32]).unwrap();
        fs::create_dir(dir.path().join("sources")).unwrap();
        let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
            clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
            users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n";
        fs::write(dir.path().join("kubeconfig"), kubeconfig).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().into()
    }

    /// A start that would work.
    fn command(&self) -> Command {
        let mut command = program();
        command.arg("run").env("KUBECONFIG", self.path("kubeconfig")).env("DIGEST_KEY_FILE", self.path("key"));
        command.env("SECRETS_PATH", self.path("sources")).env("LISTEN", "127.0.0.1:0");
        command
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secrets-distributor"));
    command.env_clear();
    command
}

/// A running program; it does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> (Self, BufReader<ChildStderr>) {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        (Self(child), log)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        let (sender, receiver) = mpsc::channel();
        let pid = Pid::from_child(&self.0);
        let waiter = std::thread::spawn(move || {
            let status = self.0.wait().unwrap();
            let _ = sender.send(status);
        });
        let status = receiver.recv_timeout(HANGS);
        if status.is_err() {
            let _ = kill_process(pid, Signal::KILL);
        }
        waiter.join().unwrap();
        status.expect("the program did not end")
    }
}

/// The address in the log line that the contract names.
fn bound_address(log: &mut impl BufRead) -> SocketAddr {
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["message"] == "admin server listening" {
            return line["address"].as_str().unwrap().parse().unwrap();
        }
    }
    panic!("the log ended without the address");
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(HANGS)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_tells_every_setting_with_its_variable_and_default() {
    let output = program().args(["run", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    for (flag, env, default) in [
        ("--secrets-path", "SECRETS_PATH", "/mnt/secrets"),
        ("--managed-by", "MANAGED_BY", "secrets-distributor"),
        ("--digest-key-file", "DIGEST_KEY_FILE", ""),
        ("--namespace", "POD_NAMESPACE", "secrets-distributor"),
        ("--service-account", "SERVICE_ACCOUNT", "secrets-distributor"),
        ("--identity", "POD_NAME", ""),
        ("--lease-duration", "LEASE_DURATION", "12s"),
        ("--listen", "LISTEN", "0.0.0.0:8080"),
        ("--log-format", "LOG_FORMAT", "json"),
        ("--log-level", "LOG_LEVEL", "info"),
        ("--trace-url", "TRACE_URL", ""),
        ("--workers", "WORKERS", "16"),
        ("--secrets-access", "SECRETS_ACCESS", "watch"),
        ("--resync-interval", "RESYNC_INTERVAL", "10m"),
        ("--poll-interval", "POLL_INTERVAL", "10s"),
        ("--api-timeout", "API_TIMEOUT", "10s"),
    ] {
        let at = help.find(&format!("      {flag} ")).unwrap_or_else(|| panic!("{flag} is not in:\n{help}"));
        let rest = &help[at + 6..];
        let section = &rest[..rest.find("\n      --").unwrap_or(rest.len())];
        assert!(section.contains(&format!("[env: {env}=]")), "{flag}: {section}");
        assert!(default.is_empty() || section.contains(&format!("[default: {default}]")), "{flag}: {section}");
    }
    assert!(help.contains("Exit codes:"));
    let version = program().arg("--version").output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_setting_is_refused_with_flag_variable_value_and_advice() {
    let surroundings = Surroundings::new();
    fs::write(surroundings.path("short"), [7; 31]).unwrap();
    fs::write(surroundings.path("endless"), [7; 5000]).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        surroundings.path("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    const KEY: &str = "head -c 32 /dev/urandom";
    for (flag, env, value, advice) in [
        ("--digest-key-file", "DIGEST_KEY_FILE", "", KEY),
        ("--digest-key-file", "DIGEST_KEY_FILE", "/nonexistent/key", KEY),
        ("--digest-key-file", "DIGEST_KEY_FILE", &surroundings.path("short"), KEY),
        ("--digest-key-file", "DIGEST_KEY_FILE", &surroundings.path("endless"), KEY),
        ("--digest-key-file", "DIGEST_KEY_FILE", &surroundings.path("fifo"), KEY),
        ("--digest-key-file", "DIGEST_KEY_FILE", &surroundings.path("sources"), KEY),
        ("--secrets-path", "SECRETS_PATH", "", "/mnt/secrets"),
        ("--secrets-path", "SECRETS_PATH", &surroundings.path("key"), "not a folder"),
        ("--poll-interval", "POLL_INTERVAL", "0s", "10ms to 1h"),
        ("--poll-interval", "POLL_INTERVAL", "10", "10ms to 1h"),
        ("--api-timeout", "API_TIMEOUT", "2h", "10ms to 1h"),
        ("--lease-duration", "LEASE_DURATION", "1s", "2s to 5m"),
        ("--lease-duration", "LEASE_DURATION", "1h", "2s to 5m"),
        ("--identity", "POD_NAME", "a b", "that of a pod"),
        ("--workers", "WORKERS", "0", "1 to 1024"),
        ("--workers", "WORKERS", "1025", "1 to 1024"),
        ("--secrets-access", "SECRETS_ACCESS", "write-only", "watch or writeOnly"),
        ("--resync-interval", "RESYNC_INTERVAL", "100ms", "1s to 24h"),
        ("--resync-interval", "RESYNC_INTERVAL", "25h", "1s to 24h"),
        ("--listen", "LISTEN", "localhost", "0.0.0.0:8080"),
        ("--log-level", "LOG_LEVEL", "info,=x=y", "kube_runtime=debug"),
        ("--log-format", "LOG_FORMAT", "xml", "json or text"),
        ("--namespace", "POD_NAMESPACE", "Not_A_Label", "lower-case"),
        ("--service-account", "SERVICE_ACCOUNT", "a b", "lower-case"),
        ("--managed-by", "MANAGED_BY", "a\nb", "control characters"),
        ("--trace-url", "TRACE_URL", "https://jaeger", "{traceID}"),
    ] {
        let by_variable = surroundings.command().env(env, value).output().unwrap();
        let by_flag = surroundings.command().arg(format!("{flag}={value}")).output().unwrap();
        for output in [by_variable, by_flag] {
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{flag}={value:?}: {text}");
            for expected in [flag, &format!("[env {env}]"), &format!("{value:?}"), advice] {
                assert!(text.contains(expected), "{flag}={value:?}: {expected} is missing in {text}");
            }
        }
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let output = Surroundings::new().command().args(["--workers=0", "--listen=x", "--log-format=y"]).output().unwrap();
    assert_eq!(stderr(&output).matches("error: --").count(), 3, "{}", stderr(&output));
    assert_eq!(program().args(["run", "--nonsense"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_wrong_variable_for_traces_is_refused_and_without_an_address_nobody_looks_at_it() {
    const WRONG: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon");
    let surroundings = Surroundings::new();
    let mut command = surroundings.command();
    let output = command.env(WRONG.0, WRONG.1).env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let expected = "error: OTEL_EXPORTER_OTLP_PROTOCOL = \"carrier-pigeon\": must be http/protobuf or grpc";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    let (running, mut log) = Running::start(surroundings.command().env(WRONG.0, WRONG.1));
    bound_address(&mut log);
    running.signal(Signal::TERM);
}

#[test]
fn without_a_cluster_it_says_how_to_name_one() {
    let surroundings = Surroundings::new();
    let output = surroundings.command().env("KUBECONFIG", "/nonexistent").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("KUBECONFIG must name"), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_a_failure_that_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Surroundings::new().command().args(["--listen", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let expected = format!("--listen [env LISTEN] = {address}");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn it_answers_while_it_lives_and_stops_when_asked() {
    for signal in [Signal::TERM, Signal::INT] {
        let surroundings = Surroundings::new();
        let (running, mut log) = Running::start(&mut surroundings.command());
        let address = bound_address(&mut log);
        let rest = std::thread::spawn(move || log.read_to_string(&mut String::new()));
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/log-level").ends_with("\r\n\r\ninfo\n"));
        let ready = get(address, "/readyz");
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        for gate in ["requests: ", "policies: ", "namespaces: ", "sources: "] {
            assert!(ready.contains(gate), "{gate} is missing in {ready}");
        }
        running.signal(signal);
        assert_eq!(running.wait().code(), Some(0), "{signal:?}");
        rest.join().unwrap().unwrap();
    }
}

#[test]
fn the_memory_is_kept_out_of_core_files() {
    let surroundings = Surroundings::new();
    let (running, mut log) = Running::start(&mut surroundings.command());
    bound_address(&mut log);
    let status = fs::read_to_string(format!("/proc/{}/limits", running.0.id())).unwrap();
    let core = status.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");

    // Afterwards: a child inherits the limit.
    secrets_distributor::process::keep_memory_private().unwrap();
    assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
}

/// The program as kubectl finds it: a link of the name that a plugin has.
#[test]
fn as_a_plugin_of_kubectl_it_says_so() {
    let folder = TempDir::new().unwrap();
    let plugin = folder.path().join("kubectl-distribute");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_secrets-distributor"), &plugin).unwrap();
    let help = Command::new(plugin).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Usage: kubectl distribute <COMMAND>"), "{help}");
    let help = program().arg("--help").output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: secrets-distributor <COMMAND>"));
}

#[test]
fn each_shell_gets_a_script_that_completes() {
    for (shell, fragment) in [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let output = program().args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains(fragment), "{shell}: {script}");
    }
    assert_eq!(program().args(["completion", "tcsh"]).output().unwrap().status.code(), Some(2));
}

/// Each watch is a connection, and a container often starts with a limit that a thousand watches exceed.
#[test]
fn it_may_open_as_many_files_as_the_system_allows() {
    let surroundings = Surroundings::new();
    let limited = surroundings.command();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 256 && exec \"$@\"", "sh"]).arg(limited.get_program()).args(limited.get_args());
    command.envs(limited.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let (running, mut log) = Running::start(&mut command);
    bound_address(&mut log);
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.0.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = files.split_whitespace().collect::<Vec<_>>()[3..5] else { panic!("{files}") };
    assert!(soft == hard && soft != "256", "{files}");
}

#[test]
fn the_version_is_told_to_people_and_to_programs() {
    let told = |arguments: &[&str]| {
        let output = program().args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = told(&["version"]);
    assert!(text.starts_with(&format!("secrets-distributor {}\ncommit ", env!("CARGO_PKG_VERSION"))), "{text}");
    let json: serde_json::Value = serde_json::from_str(&told(&["version", "-o", "json"])).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["dependencies"]["kube"].is_string(), "{json}");
}

/// Two policies for `shop`, of which the second no longer grants what its request holds, and no list of namespaces.
fn narrowed() -> TempDir {
    let dir = TempDir::new().unwrap();
    let policy = |source: &str| {
        format!(
            "apiVersion: xlscsde.nhs.uk/v1\nkind: DistributionPolicy\nmetadata: {{name: shop}}\n\
             spec: {{namespaces: {{names: [shop]}}, rules: [{{effect: Allow, sources: [{source}]}}]}}\n"
        )
    };
    let request = "apiVersion: xlscsde.nhs.uk/v1\nkind: SecretsDistribution\n\
        metadata: {name: db, namespace: shop, uid: u, generation: 1}\nspec: {secrets: [{from: db, to: k}]}\n";
    for (name, text) in [("old.yaml", policy("db")), ("new.yaml", policy("cache")), ("request.yaml", request.into())] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn plan(dir: &TempDir) -> Command {
    let mut command = program();
    command.current_dir(dir.path()).args(["plan", "-f", "new.yaml", "--policies", "old.yaml"]);
    command.args(["--requests", "request.yaml"]);
    command
}

#[test]
fn without_a_list_of_namespaces_a_plan_leaves_out_no_revocation() {
    let planned = plan(&narrowed()).args(["-o", "json"]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&planned.stdout).unwrap();
    assert_eq!(answer["revoked"].as_array().map(Vec::len), Some(1), "{answer:#}");
    assert_eq!(planned.status.code(), Some(2), "{}", stderr(&planned));
}

#[test]
fn who_stops_reading_does_not_turn_a_no_into_a_yes() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let planned = plan(&narrowed()).stdout(writer).output().unwrap();
    assert_eq!(planned.status.code(), Some(2), "{}", stderr(&planned));
}
