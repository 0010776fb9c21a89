//! What the operator does for people, on a real control plane, under its own rights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod costs;
mod delegation;
mod distribution;
mod mount;
mod refused;
mod sources;
mod status;
