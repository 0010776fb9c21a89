//! What the documents say is what the code does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod readme;
mod reference;
mod runbooks;
mod security;

use std::{fs, path::Path};

use secrets_distributor::api::{
    conditions::{ConditionType, Reason},
    events::EventReason,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every reason, of conditions and of events, and every condition.
fn words_of_objects() -> impl Iterator<Item = &'static str> {
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    let events = EventReason::ALL.iter().map(|reason| reason.as_str());
    let conditions = ConditionType::ALL.iter().map(|kind| kind.as_str());
    reasons.chain(events).chain(conditions)
}
