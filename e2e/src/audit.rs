//! The API server's audit log: who did what, without the bodies.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::config::Kubeconfig;
use serde::Deserialize;

use crate::{eventually, kubeconfig};

const VISIBLE_WITHIN: Duration = Duration::from_secs(10);
const BARRIER: &str = "audit-barrier-";

/// The audit log of one API server. Reads of the control plane's own components are not in it.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    access: Kubeconfig,
}

/// A place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(u64);

/// One request that was answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// `ResponseComplete`, or `ResponseStarted` for a watch that goes on.
    pub stage: String,
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub verb: String,
    #[serde(rename = "requestURI")]
    /// Path and query.
    pub request_uri: String,
    user: UserInfo,
    impersonated_user: Option<UserInfo>,
    /// What it was about; none for a path that is no resource.
    #[serde(default)]
    pub object_ref: ObjectRef,
    response_status: Option<ResponseStatus>,
    #[serde(rename = "requestReceivedTimestamp")]
    received: MicroTime,
    /// The client's own name for itself.
    #[serde(default)]
    pub user_agent: String,
}

#[derive(Clone, Debug, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ResponseStatus {
    code: Option<u16>,
}

/// The object of a request. What does not apply is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Plural of the kind.
    pub resource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// API group.
    pub api_group: String,
    /// For instance `status`.
    pub subresource: String,
}

impl AuditEntry {
    /// Who did it, or as whom it was done.
    pub fn user(&self) -> &str {
        &self.impersonated_user.as_ref().unwrap_or(&self.user).username
    }

    /// The HTTP status of the answer.
    pub fn code(&self) -> Option<u16> {
        self.response_status.as_ref().and_then(|status| status.code)
    }

    /// When the API server received it.
    pub fn received(&self) -> Timestamp {
        self.received.0
    }

    /// It would change something, whether it was allowed or not.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf, access: Kubeconfig) -> Self {
        Self { path, access }
    }

    /// The place after everything that has been answered by now.
    pub async fn mark(&self) -> Result<Mark> {
        self.settle().await
    }

    /// The entries after the mark, of everything that has been answered by now.
    pub async fn since(&self, mark: Mark) -> Result<AuditEntries> {
        self.settle().await?;
        let text = self.read(mark)?;
        let lines = text.lines().filter(|line| !line.contains(BARRIER));
        let entries = lines.map(serde_json::from_str).collect::<Result<_, _>>();
        Ok(AuditEntries(entries.context("an audit entry that is none")?))
    }

    /// The API server writes an entry just after it has answered: asks for something that nobody
    /// else asks for and waits until that is in the log. Answers the end of the whole lines there
    /// are then: the end of the file can be within a line that is being written.
    async fn settle(&self) -> Result<Mark> {
        static BARRIERS: AtomicU64 = AtomicU64::new(0);
        let name = format!("{BARRIER}{}-{}.", std::process::id(), BARRIERS.fetch_add(1, Ordering::Relaxed));
        let start = Mark(std::fs::metadata(&self.path)?.len());
        let client = kubeconfig::client(self.access.clone()).await?;
        Api::<ConfigMap>::namespaced(client, "default").get_opt(&format!("{name}end")).await?;
        eventually(VISIBLE_WITHIN, "a request in the audit log", async || {
            let text = self.read(start).ok()?;
            text.contains(&name).then(|| Mark(start.0 + text.len() as u64))
        })
        .await
    }

    /// Whole lines from the mark on.
    fn read(&self, mark: Mark) -> Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole);
        Ok(String::from_utf8(bytes)?)
    }
}

/// Entries, to be narrowed down.
#[derive(Clone, Debug, Default)]
pub struct AuditEntries(Vec<AuditEntry>);

impl Deref for AuditEntries {
    type Target = [AuditEntry];

    fn deref(&self) -> &[AuditEntry] {
        &self.0
    }
}

impl AuditEntries {
    /// Those for which the condition holds.
    #[must_use]
    pub fn only(mut self, condition: impl FnMut(&AuditEntry) -> bool) -> Self {
        let mut condition = condition;
        self.0.retain(|entry| condition(entry));
        self
    }

    /// Those of a user, also if somebody impersonated the user.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.only(|entry| entry.user() == user)
    }

    /// Those with the verb.
    #[must_use]
    pub fn verb(self, verb: &str) -> Self {
        self.only(|entry| entry.verb == verb)
    }

    /// Those that would change something.
    #[must_use]
    pub fn writes(self) -> Self {
        self.only(AuditEntry::is_write)
    }

    /// Those that are not about a Lease, which its holder renews all the time.
    #[must_use]
    pub fn without_leases(self) -> Self {
        self.only(|entry| entry.object_ref.resource != "leases")
    }

    /// Those about a resource (plural), subresources included.
    #[must_use]
    pub fn resource(self, resource: &str) -> Self {
        self.only(|entry| entry.object_ref.resource == resource)
    }

    /// Those about a subresource; the empty one is the object itself.
    #[must_use]
    pub fn subresource(self, subresource: &str) -> Self {
        self.only(|entry| entry.object_ref.subresource == subresource)
    }

    /// Those in a namespace.
    #[must_use]
    pub fn namespace(self, namespace: &str) -> Self {
        self.only(|entry| entry.object_ref.namespace == namespace)
    }

    /// Those about an object of that name. A create in a collection carries none.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        self.only(|entry| entry.object_ref.name == name)
    }

    /// That in no stretch of time there are more than a full bucket, of `burst`, and what has flowed into it since, one each
    /// `interval`. Two more may be there: the way from the operator to the API server takes some longer than others.
    /// Answers how many there are in all.
    pub fn keep_to(&self, burst: u32, interval: Duration) -> Result<usize> {
        let mut times: Vec<_> = self.iter().map(AuditEntry::received).collect();
        times.sort();
        for (i, from) in times.iter().enumerate() {
            for (j, to) in times.iter().enumerate().skip(i) {
                let flowed = to.duration_since(*from).as_secs_f64() / interval.as_secs_f64();
                let (most, found) = (f64::from(burst) + flowed + 2.0, j - i + 1);
                ensure!(found as f64 <= most, "{found} writes between {from} and {to}, where {most:.1} may be");
            }
        }
        Ok(times.len())
    }
}
