//! What the decision must be, whatever the world: properties over random policies, namespaces and requests, all
//! of them objects as the API server has them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bootstrapped;
mod cli;
mod coverage;
mod explained;
mod forecast;
mod generate;
mod history;
mod laws;
mod linted;
mod model;
mod reference;
mod wakes;
