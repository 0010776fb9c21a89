//! Why a question cannot be answered: what is wrong, where, and what to type next.

use std::{fmt, io, path::PathBuf, process::ExitCode};

use kube::config::KubeconfigError;

use crate::{
    api::names::GROUP,
    core::{invalid::InvalidField, name::RequestKey},
};

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read, or not be understood.
    #[error("{}: {problem}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No kubeconfig says how to reach a cluster.
    #[error(
        "no cluster to ask: {0}; --kubeconfig FILE or KUBECONFIG must name a kubeconfig, --context one of its contexts"
    )]
    NoCluster(#[source] Box<KubeconfigError>),
    /// The caller may not do something.
    #[error("you may not {0}. {hint}Check it with:\n  {check}", hint = .0.hint(), check = .0.check())]
    Forbidden(Right),
    /// The cluster has no such kind.
    #[error(
        "the cluster does not know {0}: the kinds of the operator are not installed there, or --context names another \
         cluster. Install them with:\n  kubectl apply --server-side -f crds/"
    )]
    NoSuchKind(&'static str),
    /// The request in the cluster cannot be understood: InvalidRequest.
    #[error("{0} is InvalidRequest: {1}. What was written for it before stays as it is")]
    NotUnderstood(RequestKey, InvalidField),
    /// It cannot be done as the cluster is; what it says tells what to do.
    #[error("{0}")]
    Failed(String),
    /// A call of the API server failed.
    #[error("cannot {doing}: {problem}")]
    Api {
        /// What was tried.
        doing: String,
        /// How it ended.
        problem: String,
    },
    /// The operating system refused something basic.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// A right that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Right {
    /// What is to be done.
    pub verb: &'static str,
    /// To which resource: its plural.
    pub resource: &'static str,
    /// Its group; empty for that of Secrets and namespaces.
    pub group: &'static str,
    /// Where; none is the whole cluster.
    pub namespace: Option<String>,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.verb, self.resource)?;
        match &self.namespace {
            Some(namespace) => write!(f, "in namespace {namespace}"),
            None => f.write_str("in the whole cluster"),
        }
    }
}

impl Right {
    /// The right to list a resource of the operator's group.
    pub fn to_list(resource: &'static str, namespace: Option<&str>) -> Self {
        Self { verb: "list", resource, group: GROUP, namespace: namespace.map(Into::into) }
    }

    /// The right to list a resource of Kubernetes' first group.
    pub fn to_list_core(resource: &'static str, namespace: Option<&str>) -> Self {
        Self { group: "", ..Self::to_list(resource, namespace) }
    }

    /// The command by which the caller sees whether he has it.
    pub fn check(&self) -> String {
        let dot = if self.group.is_empty() { "" } else { "." };
        let place = match &self.namespace {
            Some(namespace) => format!("-n {namespace}"),
            None => "-A".into(),
        };
        format!("kubectl auth can-i {} {}{dot}{} {place}", self.verb, self.resource, self.group)
    }

    /// Who gives it.
    fn hint(&self) -> &'static str {
        match (self.resource, self.namespace.is_some()) {
            ("distributionpolicies", _) | ("namespaces" | "secretsdistributions", false) => {
                "Whoever has ClusterRole secrets-distributor-policy-viewer may; the platform team gives it. "
            }
            ("secretsdistributions", true) => "Whoever is view of the namespace may. ",
            ("rolebindings", true) => "Whoever is admin of the namespace may. ",
            _ => "The platform team may. ",
        }
    }
}

impl Error {
    /// What a file that cannot be understood means.
    pub fn in_file(file: impl Into<PathBuf>, problem: impl ToString) -> Self {
        Self::File { file: file.into(), problem: problem.to_string() }
    }

    /// An argument that cannot be understood.
    pub fn argument(name: &str, problem: impl fmt::Display) -> Self {
        Self::Usage(format!("{name}: {problem}"))
    }

    /// What the failure of a call means, for which that right was needed.
    pub fn of_call(error: kube::Error, right: &Right) -> Self {
        let doing = || right.to_string();
        match error {
            kube::Error::Api(status) if status.code == 403 && status.message.contains("\" cannot ") => {
                Self::Forbidden(right.clone())
            }
            kube::Error::Api(status) if status.code == 404 && right.group == GROUP && right.verb == "list" => {
                Self::NoSuchKind(right.resource)
            }
            kube::Error::Api(status) if status.code == 401 => Self::Api {
                doing: doing(),
                problem: "the API server does not know you (401): log in again, or name another --context".into(),
            },
            kube::Error::Api(status) => Self::Api { doing: doing(), problem: status.message.clone() },
            other => Self::Api { doing: doing(), problem: innermost(&other) },
        }
    }

    /// Tells it on standard error. Answers with the exit code.
    pub fn tell(&self) -> ExitCode {
        super::output::tell(&format!("error: {self}"));
        match self {
            Self::Usage(_) | Self::File { .. } | Self::NoCluster(_) => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }
}

impl From<InvalidField> for Error {
    fn from(problem: InvalidField) -> Self {
        Self::Usage(problem.to_string())
    }
}

/// The cause at the end of the chain: what is around it says only that something failed.
fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
