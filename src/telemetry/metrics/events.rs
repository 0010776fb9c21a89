//! What is counted when it happens.

use std::sync::Arc;

use prometheus_client::{
    metrics::{
        counter::Counter,
        exemplar::HistogramWithExemplars,
        family::Family,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};

use super::{
    series::{Counts, Namespaces},
    table::{self, Definition, Labels},
};

/// The resources that are watched.
const WATCHED: [&str; 4] = ["secretsdistributions", "distributionpolicies", "namespaces", "secrets"];

/// Every counter and every histogram.
#[derive(Debug)]
pub struct Events {
    pub attempts: Counts<2>,
    pub decisions: Counts<1>,
    pub decision_duration: Histogram,
    pub propagation: Family<Labels, HistogramWithExemplars<Labels>>,
    pub secret_writes: Counts<1>,
    pub secrets_revoked: Counts<0>,
    pub api_requests: Family<Labels, Counter>,
    pub api_request_duration: Family<Labels, Histogram>,
    pub watch_restarts: Family<Labels, Counter>,
    pub source_changes: Counter,
    pub spans_dropped: Counter,
}

impl Events {
    /// Nothing has happened yet.
    pub fn new(registry: &mut Registry, namespaces: &Arc<Namespaces>) -> Self {
        let version = table::BUILD.labels(None, [env!("CARGO_PKG_VERSION")]);
        registry.register(table::BUILD.name, help(&table::BUILD), Info::new(version));
        let watch_restarts: Family<Labels, Counter> = register(registry, &table::WATCH_RESTARTS, Family::default());
        // There from the start, so that the first interruption is an increase.
        for resource in WATCHED {
            let _ = watch_restarts.get_or_create(&table::WATCH_RESTARTS.labels(None, [resource]));
        }
        Self {
            attempts: counts(registry, &table::ATTEMPTS, namespaces),
            decisions: counts(registry, &table::DECISIONS, namespaces),
            decision_duration: register(registry, &table::DECISION_DURATION, decision_duration()),
            propagation: register(registry, &table::PROPAGATION, Family::new_with_constructor(propagation)),
            secret_writes: counts(registry, &table::SECRET_WRITES, namespaces),
            secrets_revoked: counts(registry, &table::SECRETS_REVOKED, namespaces),
            api_requests: register(registry, &table::API_REQUESTS, Family::default()),
            api_request_duration: register(
                registry,
                &table::API_REQUEST_DURATION,
                Family::new_with_constructor(api_request_duration),
            ),
            watch_restarts,
            source_changes: register(registry, &table::SOURCE_CHANGES, Counter::default()),
            spans_dropped: register(registry, &table::SPANS_DROPPED, Counter::default()),
        }
    }
}

fn counts<const N: usize>(
    registry: &mut Registry,
    definition: &'static Definition,
    namespaces: &Arc<Namespaces>,
) -> Counts<N> {
    register(registry, definition, Counts::new(definition, namespaces))
}

fn register<M: Metric + Clone>(registry: &mut Registry, definition: &Definition, metric: M) -> M {
    match definition.unit() {
        Some(unit) => registry.register_with_unit(definition.name, help(definition), unit, metric.clone()),
        None => registry.register(definition.name, help(definition), metric.clone()),
    }
    metric
}

/// The registry puts a full stop behind it.
fn help(definition: &Definition) -> &'static str {
    definition.help.trim_end_matches('.')
}

/// From a microsecond to a quarter of a second.
fn decision_duration() -> Histogram {
    Histogram::new(exponential_buckets(1e-6, 4.0, 10))
}

/// Up to the time that a write may have to wait for its rate limit.
fn propagation() -> HistogramWithExemplars<Labels> {
    let bounds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];
    HistogramWithExemplars::new(bounds.into_iter())
}

/// Up to the deadline of a call.
fn api_request_duration() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}
