//! A multi-tenant operator that distributes mounted provider secrets to Kubernetes Secrets, as far
//! as policies grant.
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`api`] | the two kinds, conditions, reasons, labels and annotations |
//! | [`core`] | pure: parsing, the policy decision, rendering, ownership, outcome and status |
//! | [`source`] | the mounted folder: read as one generation, beneath its root only, and watched |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod core;
pub mod source;
