//! A real Kubernetes control plane on this machine, and what is needed to show things on it.
//!
//! [`ControlPlane`] is the one way to a cluster for the tests and for the demo. It starts etcd,
//! kube-apiserver and kube-controller-manager on loopback, or uses the cluster that
//! `E2E_KUBECONFIG` names. [`Operator`] runs the operator's binary against it under its own
//! ServiceAccount, [`Mount`] is its secrets folder, written as the kubelet writes it.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod audit;
pub mod bench;
mod binaries;
mod cache;
mod collector;
mod control_plane;
pub mod demo;
mod edits;
mod eventually;
mod go;
pub mod helm;
mod jaeger;
mod kopf;
mod kube_score;
mod kubeconfig;
mod kubectl;
mod loopback;
mod measure;
mod mount;
mod node;
pub mod observer;
mod openmetrics;
mod operator;
mod process;
mod progress;
mod promtool;
pub mod proxy;
mod random;
mod scraping;
mod second_server;
pub mod site;
mod sources;
pub mod state;
pub mod supervisor;
pub mod used;
mod workdir;
mod write_only;

pub(crate) use control_plane::INSTALLED;
pub use control_plane::repository;

pub use audit::{AuditEntries, AuditEntry, AuditLog, Mark, ObjectRef};
pub use collector::{Collector, Mood};
pub use control_plane::ControlPlane;
pub use edits::{asks, is_ready, targets_of};
pub use eventually::{Outcome, eventually};
pub use jaeger::{Jaeger, JaegerSpan, JaegerTrace};
pub use kube_score::kube_score;
pub use kubectl::{Kubectl, KubectlOutput};
pub use mount::{Mount, PlainFolder};
pub use node::Node;
pub use openmetrics::{Sample, Scrape};
pub use operator::{Exit, Operator, OperatorConfig};
pub use promtool::promtool;
pub use random::seeded;
pub use second_server::SecondApiServer;

/// Whether all is asked for, and not a sample: `FULL=1`.
pub fn is_full() -> bool {
    std::env::var("FULL").is_ok_and(|full| !full.is_empty())
}
