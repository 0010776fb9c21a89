//! [`Jaeger`]: where the operator's traces go, and what it shows of them.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::go::{Cache, Pins};
use crate::loopback::{self, free_ports};
use crate::process::{Process, ending, guarded};
use crate::supervisor::certificates::{Authority, save};
use crate::{ControlPlane, OperatorConfig, eventually};

static PINS: Pins = Pins {
    what: "Jaeger",
    go_mod: include_str!("../jaeger/go.mod"),
    go_sum: include_str!("../jaeger/go.sum"),
    module: "github.com/jaegertracing/jaeger",
    tags: "",
    folder: "jaeger-",
    ways_around: "Or build nothing: set JAEGER_BINARY to Jaeger's all-in-one, or put it as `jaeger` into the folder that \
        KUBEBUILDER_ASSETS names.",
};

const READY_WITHIN: Duration = Duration::from_secs(60);
const PORT_ATTEMPTS: usize = 5;

/// How the operator names itself.
const SERVICE: &str = "secrets-distributor";

/// A running Jaeger that keeps traces in memory. Dropped: killed.
#[derive(Debug)]
pub struct Jaeger {
    _process: Process,
    query: SocketAddr,
    http: SocketAddr,
    grpc: SocketAddr,
    /// Where the certificates are that it wants to see.
    secured: Option<PathBuf>,
}

impl Jaeger {
    /// Starts it on loopback, beside a control plane: its files go with that.
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        Self::launch(cluster.directory(), None).await
    }

    /// The same with TLS, for clients with a certificate of its authority.
    pub async fn secured(cluster: &ControlPlane) -> Result<Self> {
        let folder = cluster.directory().join("jaeger");
        std::fs::create_dir_all(&folder)?;
        let authority = Authority::new()?;
        let (server, client) = (authority.server()?, authority.client("operator", None)?);
        save(&folder, "ca.crt", &authority.pem())?;
        for (name, identity) in [("server", server), ("client", client)] {
            save(&folder, &format!("{name}.crt"), &identity.certificate)?;
            save(&folder, &format!("{name}.key"), &identity.key)?;
        }
        Self::launch(cluster.directory(), Some(folder)).await
    }

    async fn launch(folder: &Path, secured: Option<PathBuf>) -> Result<Self> {
        let log = folder.join("jaeger.log");
        let program = program().await?;
        for _ in 1..PORT_ATTEMPTS {
            match Self::attempt(&program, &log, secured.clone()).await {
                // Somebody else took a port between the choice and the start.
                Err(error) if error.to_string().contains("address already in use") => {}
                other => return other,
            }
        }
        Self::attempt(&program, &log, secured.clone()).await
    }

    async fn attempt(program: &Path, log: &Path, secured: Option<PathBuf>) -> Result<Self> {
        let ports = free_ports::<7>()?.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let [query, http, grpc, query_grpc, admin, collector_grpc, collector_http] = ports;
        let mut command = guarded(program)?;
        for (flag, address) in [
            ("query.http-server", query),
            ("query.grpc-server", query_grpc),
            ("collector.otlp.http", http),
            ("collector.otlp.grpc", grpc),
            ("collector.grpc-server", collector_grpc),
            ("collector.http-server", collector_http),
            ("admin.http", admin),
        ] {
            command.arg(format!("--{flag}.host-port={address}"));
        }
        for (protocol, folder) in secured.iter().flat_map(|folder| [("http", folder), ("grpc", folder)]) {
            command.arg(format!("--collector.otlp.{protocol}.tls.enabled=true"));
            for (flag, file) in [("cert", "server.crt"), ("key", "server.key"), ("client-ca", "ca.crt")] {
                command.arg(format!("--collector.otlp.{protocol}.tls.{flag}={}", folder.join(file).display()));
            }
        }
        command.env("SPAN_STORAGE_TYPE", "memory");
        let mut process = Process::start("jaeger", command, log)?;
        eventually(READY_WITHIN, "Jaeger answers", async || {
            if let Ok(Some(status)) = process.exited() {
                return Ok(Err(format!("Jaeger {}", ending(status))));
            }
            match loopback::get(query, "/api/services").await {
                Ok((200, _)) => Ok(Ok(())),
                other => Err(format!("{other:?}")),
            }
        })
        .await?
        .map_err(|ended| anyhow::anyhow!("{ended}\n{}", process.log_tail(15)))?;
        Ok(Self { _process: process, query, http, grpc, secured })
    }

    /// An operator that sends its traces here, each as soon as it is over.
    pub fn traced(&self, config: OperatorConfig) -> OperatorConfig {
        self.traced_by(config, "http/protobuf")
    }

    /// The same by another protocol.
    pub fn traced_by(&self, mut config: OperatorConfig, protocol: &str) -> OperatorConfig {
        let address = if protocol == "grpc" { self.grpc } else { self.http };
        let scheme = if self.secured.is_some() { "https" } else { "http" };
        let mut variables = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{scheme}://{address}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
        ];
        if let Some(folder) = &self.secured {
            let file = |name: &str| folder.join(name).display().to_string();
            variables.extend([
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", file("ca.crt")),
                ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", file("client.crt")),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", file("client.key")),
            ]);
        }
        config.environment.extend(variables.into_iter().map(|(name, value)| (name.to_owned(), value)));
        config
    }

    /// Where a person opens a trace.
    pub fn url(&self, trace: &str) -> String {
        format!("http://{}/trace/{trace}", self.query)
    }

    /// The traces of the operator with a span that has these tags: attributes, also of events.
    pub async fn traces(&self, tags: &[(&str, &str)]) -> Result<Vec<JaegerTrace>> {
        let tags: BTreeMap<_, _> = tags.iter().copied().collect();
        let query = format!("/api/traces?service={SERVICE}&limit=1500&tags={}", encoded(&json!(tags).to_string()));
        let mut found: Found = serde_json::from_str(&self.get(&query).await?)?;
        found.data.iter_mut().for_each(JaegerTrace::sort);
        Ok(found.data)
    }

    /// Everything that it has of the operator, as it tells it.
    pub async fn everything(&self) -> Result<String> {
        self.get(&format!("/api/traces?service={SERVICE}&limit=1500")).await
    }

    /// One trace, as soon as it is there: with its root, which comes last.
    pub async fn trace(&self, id: &str) -> Result<JaegerTrace> {
        eventually(READY_WITHIN, &format!("Jaeger has trace {id}"), async || {
            let found: Found = serde_json::from_str(&self.get(&format!("/api/traces/{id}")).await?)?;
            let mut trace = found.data.into_iter().next().context("no such trace")?;
            trace.sort();
            ensure!(trace.root().is_some(), "no root yet");
            anyhow::Ok(trace)
        })
        .await
    }

    async fn get(&self, path: &str) -> Result<String> {
        let (status, body) = loopback::get(self.query, path).await?;
        ensure!(status == 200, "Jaeger answered {status} to {path}: {body}");
        Ok(body)
    }
}

/// The one that is given, or the one that is built.
pub(crate) async fn program() -> Result<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(program) = given("JAEGER_BINARY") {
        ensure!(program.is_file(), "JAEGER_BINARY: {} does not exist", program.display());
        return Ok(program);
    }
    let program = ("jaeger", "github.com/jaegertracing/jaeger/cmd/all-in-one");
    let (cache, assets) = (Cache::open(&PINS, None)?, given("KUBEBUILDER_ASSETS"));
    cache.build_missing(&[program], assets.as_deref()).await?;
    Ok(cache.find(program, assets.as_deref()))
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[derive(Deserialize)]
struct Found {
    data: Vec<JaegerTrace>,
}

/// A trace as Jaeger shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JaegerTrace {
    /// Its id, 32 hexadecimal digits.
    #[serde(rename = "traceID")]
    pub id: String,
    /// Its spans, in the order in which they begin.
    pub spans: Vec<JaegerSpan>,
    processes: HashMap<String, JaegerProcess>,
}

#[derive(Clone, Debug, Deserialize)]
struct JaegerProcess {
    #[serde(default)]
    tags: Vec<Tag>,
}

/// A span as Jaeger shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JaegerSpan {
    #[serde(rename = "spanID")]
    id: String,
    /// Its name.
    #[serde(rename = "operationName")]
    pub name: String,
    /// When it began, in microseconds.
    pub start_time: u64,
    /// How long it took, in microseconds.
    pub duration: u64,
    references: Vec<Reference>,
    tags: Vec<Tag>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace: String,
    #[serde(rename = "spanID")]
    span: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Tag {
    key: String,
    value: Value,
}

fn tag(tags: &[Tag], key: &str) -> Option<String> {
    let value = &tags.iter().find(|tag| tag.key == key)?.value;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

impl JaegerTrace {
    fn sort(&mut self) {
        // The longer one is the parent.
        self.spans.sort_by_key(|span| (span.start_time, u64::MAX - span.duration));
    }

    /// The span without a parent.
    pub fn root(&self) -> Option<&JaegerSpan> {
        self.spans.iter().find(|span| self.parent(span).is_none() && span.parent_id(&self.id).is_none())
    }

    /// The span that it is within.
    pub fn parent(&self, span: &JaegerSpan) -> Option<&JaegerSpan> {
        let id = span.parent_id(&self.id)?;
        self.spans.iter().find(|span| span.id == id)
    }

    /// The spans within it, in the order in which they begin.
    pub fn children<'a>(&'a self, span: &'a JaegerSpan) -> impl Iterator<Item = &'a JaegerSpan> {
        self.spans.iter().filter(move |child| child.parent_id(&self.id) == Some(&span.id))
    }

    /// The first span of that name.
    pub fn span(&self, name: &str) -> Result<&JaegerSpan> {
        self.spans.iter().find(|span| span.name == name).with_context(|| format!("no span {name} in {self:#?}"))
    }

    /// What it says about the process.
    pub fn resource(&self, key: &str) -> Option<String> {
        self.processes.values().find_map(|process| tag(&process.tags, key))
    }

    /// The spans as a tree: a line for each, with how long it took.
    pub fn tree(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(root) = self.root() {
            self.branch(root, 0, &mut lines);
        }
        lines
    }

    fn branch(&self, span: &JaegerSpan, depth: usize, lines: &mut Vec<String>) {
        let milliseconds = span.duration as f64 / 1000.0;
        lines.push(format!("{milliseconds:>7.1} ms  {:indent$}{}", "", span.name, indent = 2 * depth));
        self.children(span).for_each(|child| self.branch(child, depth + 1, lines));
    }
}

impl JaegerSpan {
    fn parent_id(&self, trace: &str) -> Option<&str> {
        let parent = self.references.iter().find(|r| r.ref_type == "CHILD_OF" && r.trace == trace)?;
        Some(&parent.span)
    }

    /// What it says under that key.
    pub fn tag(&self, key: &str) -> Option<String> {
        tag(&self.tags, key)
    }

    /// Every key that it says something under.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|tag| tag.key.as_str())
    }

    /// The traces that it is linked to.
    pub fn links(&self) -> Vec<&str> {
        self.references.iter().filter(|r| r.ref_type == "FOLLOWS_FROM").map(|r| r.trace.as_str()).collect()
    }
}
