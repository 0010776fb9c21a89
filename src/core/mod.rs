//! The pure core: what is asked, what is granted, what is written, what is reported.
//!
//! Architecture invariant: no client, no runtime, no clock, no file system, no environment. Time and
//! content come in as arguments. `tests/architecture.rs` enforces it.

pub mod bytes;
pub mod name;
pub mod request;
pub mod selector;
