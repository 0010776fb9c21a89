//! Prometheus' own judge of rules and queries.

use std::path::PathBuf;

use anyhow::Result;

use crate::go::{Pins, Program, given_or_built};

static PINS: Pins = Pins {
    what: "promtool",
    go_mod: include_str!("../promtool/go.mod"),
    go_sum: include_str!("../promtool/go.sum"),
    module: "github.com/prometheus/prometheus",
    // Nothing is scraped here, and the clients of every cloud are most of the program.
    tags: "remove_all_sd",
    folder: "promtool-",
    ways_around: "Or build nothing: set PROMTOOL to promtool of Prometheus 3.",
};

const PROMTOOL: Program = ("promtool", "github.com/prometheus/prometheus/cmd/promtool");

/// The one that `PROMTOOL` names, or one that is built from its Go module.
pub async fn promtool() -> Result<PathBuf> {
    given_or_built("PROMTOOL", &PINS, PROMTOOL).await
}
