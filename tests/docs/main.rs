//! What the documents say is what the code does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cli;
mod readme;
mod reference;
mod runbooks;

use std::{fs, path::Path};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
