//! A policy changes: how long until the last Secret that it is about is gone or written, when it is about one of many
//! distributions and when it is about all; against an ideal client that deletes and writes the same Secrets.

use std::time::Instant;

use anyhow::Result;
use secrets_distributor::api::SecretsDistribution;
use serde_json::{Value, json};

use super::REST;
use super::figures::Figures;
use super::ground::{Ground, POLICIES};
use crate::Operator;
use crate::progress::narrated;
use crate::site::SOON;

/// The policy that changes: it denies what the others grant.
const DENIAL: &str = "denial";

/// How it changes.
#[derive(Clone, Copy)]
struct Change {
    /// Whether it is about all, or about the first only.
    all: bool,
    /// Whether it revokes, or grants again what it has revoked.
    revokes: bool,
}

const ALL: [Change; 4] = [
    Change { all: false, revokes: true },
    Change { all: false, revokes: false },
    Change { all: true, revokes: true },
    Change { all: true, revokes: false },
];

/// What it took.
#[derive(Default)]
struct Row {
    /// From the change to the last Secret, in seconds.
    took: Vec<f64>,
    /// The ideal client, in seconds.
    floor: Vec<f64>,
    /// Requests of the operator for each Secret, until nothing was left to do.
    requests: Vec<f64>,
}

/// Measures with that many distributions of three keys.
pub(super) async fn measure(count: usize, rounds: usize) -> Result<Figures> {
    let ground = Ground::prepare(POLICIES).await?;
    ground.site.policy(DENIAL, denial("nothing")).await?;
    ground.warm_up(count).await?;
    let mut rows = ALL.map(|_| Row::default());
    let requests = ground.ask(count, POLICIES).await?;
    narrated("until all are distributed", ground.distribute(count)).await?;
    for round in 1..=rounds {
        for (change, row) in ALL.into_iter().zip(&mut rows) {
            ground.at_rest(Operator::USER).await?;
            let what = format!("round {round} of {rounds}, a change {}", change.told(count));
            narrated(&what, change.make(&ground, count, row)).await?;
        }
    }
    ground.site.terminate_operator(SOON).await?;
    for _ in 0..rounds {
        for (change, row) in ALL.into_iter().zip(&mut rows) {
            tokio::time::sleep(REST).await;
            row.floor.push(change.ideal(&ground, &requests).await?);
        }
    }
    let mut figures = Figures::default();
    for (change, row) in ALL.into_iter().zip(rows) {
        let what = format!("policy {}", change.told(count));
        figures.beside(format!("{what}: last Secret"), row.took, row.floor);
        figures.add(format!("{what}: requests for each"), row.requests, "", None);
    }
    Ok(figures)
}

impl Change {
    /// The change itself, and what the operator does then.
    async fn make(self, ground: &Ground, count: usize, row: &mut Row) -> Result<()> {
        let (place, mark) = (ground.place().await?, ground.site.mark().await?);
        let denied = match (self.revokes, self.all) {
            (false, _) => "nothing",
            (true, false) => "r0",
            (true, true) => "*",
        };
        let begun = Instant::now();
        let (touched, change) = (self.touched(count), ground.site.policy(DENIAL, denial(denied)));
        let ((), secrets) = match self.revokes {
            true => tokio::try_join!(change, place.gone(touched))?,
            false => tokio::try_join!(change, place.secrets(touched))?,
        };
        row.took.push(secrets.share(1.0, begun));
        ground.at_rest(Operator::USER).await?;
        row.requests.push(ground.calls(Operator::USER, mark).await?.len() as f64 / touched as f64);
        Ok(())
    }

    /// What an ideal client needs for the Secrets.
    async fn ideal(self, ground: &Ground, requests: &[SecretsDistribution]) -> Result<f64> {
        // The first of the requests is not always the first that was made.
        let first = requests.iter().filter(|request| self.all || request.metadata.name.as_deref() == Some("r0"));
        let touched: Vec<_> = first.cloned().collect();
        match self.revokes {
            true => ground.ideal.delete(&touched).await,
            false => ground.ideal.write(&touched).await,
        }
    }

    fn touched(self, count: usize) -> usize {
        if self.all { count } else { 1 }
    }

    fn told(self, count: usize) -> String {
        let verb = if self.revokes { "revokes" } else { "grants" };
        format!("that {verb} {} of {count}", self.touched(count))
    }
}

/// It denies the Secrets whose names match.
fn denial(secret_names: &str) -> Value {
    json!({
        "namespaces": { "names": ["bench-*"] },
        "rules": [{ "effect": "Deny", "sources": ["*"], "secretNames": [secret_names] }],
    })
}
