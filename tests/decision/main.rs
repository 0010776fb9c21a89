//! What the decision must be, whatever the world: properties over random policies, namespaces and requests, all
//! of them objects as the API server has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod coverage;
mod explained;
mod generate;
mod history;
mod laws;
mod model;
mod reference;
mod wakes;
