//! The two kinds, their conditions and reasons, and every name the operator writes.
//!
//! Architecture invariant: nothing here knows the rest of the crate.

pub mod conditions;
pub mod names;

#[expect(clippy::duplicated_attributes, reason = "each printcolumn of kube's derive has the same keys")]
mod distribution;
#[expect(clippy::duplicated_attributes, reason = "each printcolumn of kube's derive has the same keys")]
mod policy;
mod schema;

pub use distribution::*;
pub use policy::*;
