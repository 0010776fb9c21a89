//! What the operator reads from others, and the entry points of the suite `fuzzed`, for libFuzzer. Without its clients
//! and servers it is built in a fraction of the time.

extern crate self as secrets_distributor;

#[path = "../../src/api/mod.rs"]
pub mod api;
#[path = "../../src/core/mod.rs"]
pub mod core;
#[path = "../../src/source/mod.rs"]
pub mod source;
#[path = "../../tests/fuzzed/targets/mod.rs"]
pub mod targets;
