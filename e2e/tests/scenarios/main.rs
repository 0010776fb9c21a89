//! What the operator does for people, on a real control plane, under its own rights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adoption;
mod costs;
mod delegation;
mod deletion;
mod destinations;
mod distribution;
mod lifecycle;
mod mount;
mod ownership;
mod refused;
mod restarts;
mod revocation;
mod rivals;
mod sources;
mod status;
