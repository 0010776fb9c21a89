//! What has no client and no clock, with all the tests that need no control plane, as one crate: so a change of one
//! expression is built and tested in seconds.

pub mod api;
pub mod core;
pub mod limits;
pub mod source;

#[cfg(test)]
#[path = "../tests/decision/main.rs"]
mod decision;
#[cfg(test)]
#[path = "../tests/fuzzed/main.rs"]
mod fuzzed;
#[cfg(test)]
extern crate self as secrets_distributor;
