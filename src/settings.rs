//! What was typed ([`Args`]) becomes what is meant ([`Settings`]), or says what is wrong with it.

mod values;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser};

use crate::{
    access::SecretsAccess,
    api::Enforcement,
    core::{bytes::SecretBytes, name::NamespaceName, policy::Rate},
    telemetry::{
        LogFilter, LogFormat,
        traces::{self, TraceUrl},
    },
};

const PROGRAM: &str = env!("CARGO_PKG_NAME");

/// What `run --help` says after the settings.
pub const AFTER_HELP: &str = "\
Cluster: the kubeconfig that KUBECONFIG names (or ~/.kube/config), else the ServiceAccount of the pod.

Exit codes:
  0  stopped as asked, by SIGTERM or SIGINT
  1  failed while running
  2  bad arguments or settings, or no cluster is configured";

/// What was typed, or found in the environment: text that nobody has looked at.
#[derive(Debug, Parser)]
pub struct Args {
    /// Folder of the sources, as mounted into the pod. A name in `from` is a file below it. It may be empty or missing
    /// at first: the operator is not ready then, and neither writes nor deletes.
    #[arg(long, env, value_name = "DIR", default_value = "/mnt/secrets", help_heading = "Sources")]
    secrets_path: String,

    /// How often the folder is looked at, beside being notified of changes: 10ms to 1h.
    #[arg(long, env, value_name = "DURATION", default_value = "10s", help_heading = "Sources")]
    poll_interval: String,

    /// File with at least 32 random bytes, the same for every replica and every start: the key of the digests by which
    /// the operator sees whether a Secret is as it should be. Required.
    ///
    /// Make one with: head -c 32 /dev/urandom > FILE. With another key every Secret is written once more.
    #[arg(long, env, value_name = "FILE", help_heading = "Sources")]
    digest_key_file: Option<String>,

    /// Namespace of the operator itself; no glob and no selector of a policy reaches it.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAME", default_value = PROGRAM, help_heading = "Identity")]
    namespace: String,

    /// ServiceAccount of the operator: the one that a namespace is told to bind when it has not delegated.
    #[arg(long, env, value_name = "NAME", default_value = PROGRAM, help_heading = "Identity")]
    service_account: String,

    /// Name of this replica, for which the name of its pod is fit: no two running processes may have the same. One that
    /// is started again after a crash takes over at once from the one of its name. By default a random one: then it
    /// waits for the lease to run out.
    #[arg(long, env = "POD_NAME", value_name = "NAME", help_heading = "Identity")]
    identity: Option<String>,

    /// Value of the annotation that marks a Secret as the operator's. Unowned Secrets that carry it, from the time
    /// before this version, are taken over.
    #[arg(long, env, value_name = "TEXT", default_value = PROGRAM, help_heading = "Identity")]
    managed_by: String,

    /// Address of /livez, /readyz and /metrics, and of /log-level, which answers this machine only. With port 0 the
    /// system chooses one; the log tells which.
    #[arg(long, env, value_name = "IP:PORT", default_value = "0.0.0.0:8080", help_heading = "Process")]
    listen: String,

    /// Whether the metrics tell namespaces apart, by the label `namespace`: true or false. Without it the series of all
    /// namespaces are added up.
    #[arg(long, env, value_name = "BOOL", default_value = "true", help_heading = "Process")]
    metrics_namespace_label: String,

    /// Form of the log on stderr: json, or text for people.
    #[arg(long, env, value_name = "FORMAT", default_value = "json", help_heading = "Process")]
    log_format: String,

    /// What to log: error, warn, info, debug or trace, or directives such as info,kube_runtime=debug. What could show
    /// the content of a Secret cannot be switched on. Changed while it runs by PUT /log-level.
    #[arg(long, env, value_name = "DIRECTIVES", default_value = "info", help_heading = "Process")]
    log_level: String,

    /// How the Secrets of a namespace become known. watch: their metadata is watched, and what somebody changes is
    /// mended at once. writeOnly: the operator needs no get, list or watch on Secrets and finds such a change at
    /// --resync-interval. A namespace then delegates by the role in rbac/write-only. Of a request that is deleted while
    /// no operator runs, a Secret in another namespace is not found.
    #[arg(long, env, value_name = "MODE", default_value = "watch", help_heading = "Cluster")]
    secrets_access: String,

    /// With --secrets-access writeOnly: within which time each Secret is looked at for what somebody has changed: 1s to
    /// 24h. Without meaning otherwise.
    #[arg(long, env, value_name = "DURATION", default_value = "10m", help_heading = "Cluster")]
    resync_interval: String,

    /// Enforce; or Audit: every request is decided and its status says what would be done, but no Secret is written and
    /// none is deleted. For the time before the operator takes over from another one. Of all replicas the same.
    #[arg(long, env, value_name = "MODE", default_value = "Enforce", help_heading = "Cluster")]
    enforcement: String,

    /// Address at which people open a trace, with {traceID} in its place, such as
    /// https://jaeger.example.org/trace/{traceID}. It is told in events.
    #[arg(long, env, value_name = "URL", help_heading = "Process")]
    trace_url: Option<String>,

    /// How many requests are worked on at once: 1 to 1024.
    #[arg(long, env, value_name = "NUMBER", default_value = "16", help_heading = "Cluster")]
    workers: String,

    /// How fast Secrets are written into one namespace that no policy limits: writes and the time they are about,
    /// as 600/1m.
    #[arg(long, env, value_name = "WRITES/TIME", default_value = "600/1m", help_heading = "Cluster")]
    rate_limit: String,

    /// How many of these writes may come at once after a quiet time: 1 to 100000. After a start there are none yet.
    #[arg(long, env, value_name = "NUMBER", default_value = "100", help_heading = "Cluster")]
    rate_limit_burst: String,

    /// How long one call of the API server may take before it counts as failed: 10ms to 1h.
    #[arg(long, env, value_name = "DURATION", default_value = "10s", help_heading = "Cluster")]
    api_timeout: String,

    /// Of several replicas one writes, the others wait. How long they wait after the last sign of life of the one that
    /// writes: 2s to 5m. It stops by itself before that when it cannot reach the API server; a replica that is stopped
    /// hands over at once.
    #[arg(long, env, value_name = "DURATION", default_value = "12s", help_heading = "Cluster")]
    lease_duration: String,
}

/// What is meant: every value has been checked.
#[derive(Debug)]
pub struct Settings {
    /// Folder of the sources.
    pub secrets_path: PathBuf,
    /// How often it is polled.
    pub poll_interval: Duration,
    /// Key of the digests; at least 32 bytes.
    pub digest_key: SecretBytes,
    /// Namespace of the operator itself.
    pub namespace: NamespaceName,
    /// Its ServiceAccount.
    pub service_account: String,
    /// Value of [`crate::api::names::MANAGED_BY_ANNOTATION`].
    pub managed_by: String,
    /// Address of the admin server.
    pub listen: SocketAddr,
    /// Whether metrics tell namespaces apart.
    pub metrics_namespace_label: bool,
    /// Form of the log.
    pub log_format: LogFormat,
    /// What is logged.
    pub log_filter: LogFilter,
    /// How the Secrets of a namespace become known.
    pub secrets_access: SecretsAccess,
    /// Whether Secrets are written and deleted, or it is only told what would be.
    pub enforcement: Enforcement,
    /// Within which time each is looked at, where none is watched.
    pub resync_interval: Duration,
    /// Where traces go; none are made without it.
    pub traces: Option<traces::Settings>,
    /// Where people open a trace.
    pub trace_url: Option<TraceUrl>,
    /// Reconciles in flight; at least 1.
    pub workers: usize,
    /// How fast Secrets are written into a namespace that no policy limits.
    pub rate_limit: Rate,
    /// Deadline of a call of the API server.
    pub api_timeout: Duration,
    /// Name of this replica, if it has one of its own.
    pub identity: Option<String>,
    /// How long the lease of the replica that writes lasts.
    pub lease_duration: Duration,
}

/// Every setting that is wrong.
#[derive(Debug, Default, thiserror::Error)]
pub struct BadSettings(Vec<String>);

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\nFor what each setting means: {PROGRAM} run --help", self.0.join("\nerror: "))
    }
}

impl BadSettings {
    /// The parsed value; or nothing, and the problem is noted with flag, variable and value.
    fn check<T>(&mut self, id: &str, typed: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        parse(typed).map_err(|problem| self.0.push(format!("{} = {typed:?}: {problem}", flag(id)))).ok()
    }
}

/// The flag and the environment variable of a field of [`Args`].
fn flag(id: &str) -> String {
    let command = Args::command();
    let arg = command.get_arguments().find(|arg| arg.get_id() == id);
    let env = arg.and_then(|arg| arg.get_env()).map(|env| format!(" [env {}]", env.display()));
    format!("--{}{}", id.replace('_', "-"), env.unwrap_or_default())
}

impl TryFrom<Args> for Settings {
    type Error = BadSettings;

    /// Looks at every value before it answers, so that one start tells all that is wrong.
    fn try_from(args: Args) -> Result<Self, BadSettings> {
        let mut bad = BadSettings::default();
        let secrets_path = bad.check("secrets_path", &args.secrets_path, values::directory);
        let poll_interval = bad.check("poll_interval", &args.poll_interval, values::duration);
        let digest_key = bad.check("digest_key_file", args.digest_key_file.as_deref().unwrap_or_default(), values::key);
        let namespace = bad.check("namespace", &args.namespace, values::namespace);
        let service_account = bad.check("service_account", &args.service_account, values::service_account);
        let managed_by = bad.check("managed_by", &args.managed_by, values::annotation);
        let listen = bad.check("listen", &args.listen, values::address);
        let metrics_namespace_label =
            bad.check("metrics_namespace_label", &args.metrics_namespace_label, values::boolean);
        let log_format = bad.check("log_format", &args.log_format, values::log_format);
        let log_filter = bad.check("log_level", &args.log_level, values::log_filter);
        let secrets_access = bad.check("secrets_access", &args.secrets_access, values::secrets_access);
        let enforcement = bad.check("enforcement", &args.enforcement, values::enforcement);
        let resync_interval = bad.check("resync_interval", &args.resync_interval, values::resync_interval);
        let trace_url = bad.check("trace_url", args.trace_url.as_deref().unwrap_or_default(), TraceUrl::parse);
        let traces = traces::Settings::read(|name| std::env::var(name).ok());
        let traces = traces.map_err(|problems| bad.0.extend(problems.0)).ok();
        let workers = bad.check("workers", &args.workers, values::workers);
        let burst = bad.check("rate_limit_burst", &args.rate_limit_burst, values::burst);
        let rate_limit = bad.check("rate_limit", &args.rate_limit, |text| values::rate(text, burst.unwrap_or(1)));
        let api_timeout = bad.check("api_timeout", &args.api_timeout, values::duration);
        let identity = bad.check("identity", args.identity.as_deref().unwrap_or_default(), values::identity);
        let lease_duration = bad.check("lease_duration", &args.lease_duration, values::lease_duration);
        let settings = || {
            Some(Self {
                secrets_path: secrets_path?,
                poll_interval: poll_interval?,
                digest_key: digest_key?,
                namespace: namespace?,
                service_account: service_account?,
                managed_by: managed_by?,
                listen: listen?,
                metrics_namespace_label: metrics_namespace_label?,
                log_format: log_format?,
                log_filter: log_filter?,
                secrets_access: secrets_access?,
                enforcement: enforcement?,
                resync_interval: resync_interval?,
                traces: traces?,
                trace_url: trace_url?,
                workers: workers?,
                rate_limit: rate_limit.filter(|_| burst.is_some())?,
                api_timeout: api_timeout?,
                identity: identity?,
                lease_duration: lease_duration?,
            })
        };
        settings().ok_or(bad)
    }
}
