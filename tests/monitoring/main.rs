//! `deploy/monitoring` asks for metrics that exist, and for each alert there is a test and a section of the runbook.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerts;
mod dashboards;
mod query;
mod vocabulary;

use std::{collections::BTreeSet, fs, path::Path};

use secrets_distributor::telemetry::metrics::table;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every query of the alerts and the dashboards, and where it stands.
fn queries() -> Vec<(String, String)> {
    let alerts = alerts::all().into_iter().map(|alert| (alert.alert, alert.expr));
    let panels = dashboards::ALL.iter().flat_map(|name| dashboards::queries(name));
    alerts.chain(panels).collect()
}

#[test]
fn every_query_asks_for_metrics_labels_and_values_that_exist() {
    let problems: Vec<_> = queries()
        .into_iter()
        .flat_map(|(place, query)| {
            vocabulary::problems(&query).into_iter().map(move |problem| format!("{place}: {problem}"))
        })
        .collect();
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_metric_is_asked_for() {
    let asked: BTreeSet<_> = queries()
        .iter()
        .flat_map(|(_, text)| query::scan(text).selectors)
        .filter_map(|selector| vocabulary::definition(&selector.metric).map(|metric| metric.series()))
        .collect();
    let all: BTreeSet<_> = table::ALL.iter().map(|metric| metric.series()).collect();
    assert_eq!(asked, all, "what nobody looks at needs no measuring");
}
