//! A known judge of what is installed on Kubernetes.

use std::path::PathBuf;

use anyhow::Result;

use crate::go::{Pins, Program, given_or_built};

static PINS: Pins = Pins {
    what: "kube-score",
    go_mod: include_str!("../kubescore/go.mod"),
    go_sum: include_str!("../kubescore/go.sum"),
    module: "github.com/zegl/kube-score",
    tags: "",
    folder: "kube-score-",
    ways_around: "Or build nothing: set KUBE_SCORE to kube-score 1.20.",
};

const KUBE_SCORE: Program = ("kube-score", "github.com/zegl/kube-score/cmd/kube-score");

/// The one that `KUBE_SCORE` names, or one that is built from its Go module.
pub async fn kube_score() -> Result<PathBuf> {
    given_or_built("KUBE_SCORE", &PINS, KUBE_SCORE).await
}
