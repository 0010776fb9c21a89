//! The two kinds, their conditions and reasons, and every name the operator writes.
//!
//! Architecture invariant: nothing here knows the rest of the crate.

pub mod conditions;
pub mod names;

mod distribution;
mod policy;
mod schema;

pub use distribution::*;
pub use policy::*;
