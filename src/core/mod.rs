//! The pure core: what is asked, what is granted, what is written, what is reported.
//!
//! Architecture invariant: no client, no runtime, no clock, no file system, no environment. Time and
//! content come in as arguments. `tests/architecture.rs` enforces it.

pub mod backoff;
pub mod bootstrap;
pub mod bytes;
pub mod cases;
pub mod content;
pub mod decide;
pub mod explain;
pub mod forecast;
pub mod glob;
pub mod index;
pub mod invalid;
pub mod lint;
pub mod locate;
pub mod manifest;
pub mod marks;
pub mod metadata;
pub mod name;
pub mod object;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod render;
pub mod request;
pub mod selector;
pub mod settle;

#[cfg(test)]
mod tests;
