//! A multi-tenant operator that distributes mounted provider secrets to Kubernetes Secrets, as far
//! as policies grant.
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`access`] | whether Secrets are watched or only written, and the role for it |
//! | [`api`] | the two kinds, conditions, reasons, labels and annotations |
//! | [`core`] | pure: parsing, the policy decision, rendering, ownership, outcome and status |
//! | [`rbac`] | who may do what, as typed roles: the source of `rbac/` |
//! | [`admission`] | what the API server refuses whatever RBAC gives: the source of `deploy/admission/` |
//! | [`cli`] | the command line: questions that the core answers, about a cluster or about files |
//! | [`settings`] | flags and environment, checked at start |
//! | [`telemetry`] | logs, with what could show a Secret filtered out; metrics |
//! | [`admin`] | `/livez`, `/readyz` and the gates of readiness, `/metrics` |
//! | [`process`] | signals, memory, the cluster's client, exit codes: where the parts are put together |
//! | [`client`] | how the API server is reached: the layers that all calls pass |
//! | [`controller`] | the shell: watches, the queue, the steps of reconcile, status and events |
//! | [`lease`] | of several replicas one writes: the election, and the gate that every write passes |
//! | [`error`] | what the API server's answers mean: a closed set |
//! | [`limits`] | how fast Secrets are written into each namespace |
//! | [`source`] | the mounted folder: read as one generation, beneath its root only, and watched |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod access;
pub mod admin;
pub mod admission;
pub mod api;
pub mod cli;
pub mod client;
pub mod controller;
pub mod core;
pub mod error;
pub mod lease;
pub mod limits;
pub mod process;
pub mod rbac;
pub mod settings;
pub mod source;
pub mod telemetry;
