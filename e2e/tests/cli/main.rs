//! The command line as people type it, by kubectl, on a real control plane: each transcript is a file beside this one,
//! and `BLESS=1 cargo test -p e2e --test cli` rewrites it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod bootstrap;
mod can_i;
mod delegate;
mod explain;
mod plan;
mod plans;
mod test;
mod transcript;
mod validate;
mod who_gets;
mod worlds;
