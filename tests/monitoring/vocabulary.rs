//! The words that a query may use: names, labels and values that the code has.

use std::collections::BTreeSet;

use secrets_distributor::{
    admin::Gates,
    api::conditions::Reason,
    telemetry::metrics::table::{self, Definition, Kind},
};

use super::query::{self, Selector};

/// Labels that every scraped series has.
const OF_THE_TARGET: [&str; 3] = ["job", "instance", "pod"];

/// Of a counter only these are of use: its value alone says when the process was started.
const OF_A_COUNTER: [&str; 2] = ["rate", "increase"];

/// The metric that a series belongs to.
pub fn definition(series: &str) -> Option<&'static Definition> {
    table::ALL.iter().copied().find(|metric| match metric.kind {
        Kind::Histogram => {
            series.strip_prefix(&metric.series()).is_some_and(|part| ["_bucket", "_sum", "_count"].contains(&part))
        }
        _ => metric.series() == series,
    })
}

/// The labels that a series of this name may have; none if there is no such series.
pub fn labels(series: &str) -> Option<BTreeSet<&'static str>> {
    // Prometheus writes these itself.
    let own: &[_] = match series {
        "ALERTS" => &["alertname", "alertstate", "severity"],
        _ => definition(series)?.labels,
    };
    let bucket = series.ends_with("_bucket").then_some("le");
    Some(own.iter().copied().chain(OF_THE_TARGET).chain(bucket).collect())
}

/// What a query names and nothing in the code has.
pub fn problems(text: &str) -> Vec<String> {
    let query = query::scan(text);
    let mut problems: Vec<_> = query.selectors.iter().flat_map(problems_of).collect();
    for (names, about) in &query.clauses {
        let within = query::scan(about).selectors;
        let known: BTreeSet<_> = within.iter().filter_map(|selector| labels(&selector.metric)).flatten().collect();
        let unknown = names.iter().filter(|name| !known.contains(name.as_str()));
        problems.extend(unknown.map(|name| format!("no metric of {about} has a label {name}")));
    }
    problems
}

fn problems_of(selector: &Selector) -> Vec<String> {
    let Selector { metric, matchers, function } = selector;
    let Some(labels) = labels(metric) else { return vec![format!("there is no metric {metric}")] };
    let mut problems = Vec::new();
    for (label, value) in matchers {
        if !labels.contains(label.as_str()) {
            problems.push(format!("{metric} has no label {label}"));
        }
        let unknown = value.split('|').filter(|value| !is_known(label, value));
        problems.extend(unknown.map(|value| format!("{label} is never {value}")));
    }
    let counts = definition(metric).is_some_and(|metric| matches!(metric.kind, Kind::Counter | Kind::Histogram));
    let counted = function.as_deref().is_some_and(|function| OF_A_COUNTER.contains(&function));
    if counts != counted {
        let problem = if counts { "grows: it needs" } else { "does not only grow: it is not for" };
        problems.push(format!("{metric} {problem} rate or increase"));
    }
    problems
}

/// Whether a label may have this value, as far as its values are a closed set.
fn is_known(label: &str, value: &str) -> bool {
    match label {
        "reason" => Reason::ALL.iter().any(|reason| reason.as_str() == value),
        "gate" => Gates::of_the_operator().states().contains_key(value),
        "code" if value.starts_with(|c: char| c.is_ascii_digit()) => {
            value.len() == 3 && value.bytes().all(|c| c.is_ascii_digit() || c == b'.')
        }
        "result" | "operation" | "priority" | "verb" | "resource" | "code" => {
            let told = table::LABELS.iter().find(|(told, _)| *told == label);
            told.is_some_and(|(_, values)| values.contains(&format!("`{value}`")))
        }
        _ => true,
    }
}

#[test]
fn a_query_for_what_does_not_exist_is_found() {
    for (query, problem) in [
        ("secrets_distributor_attempts", "there is no metric secrets_distributor_attempts"),
        ("rate(secrets_distributor_propagation_seconds[5m])", "no metric secrets_distributor_propagation_seconds"),
        ("secrets_distributor_leader{namespace=\"a\"}", "secrets_distributor_leader has no label namespace"),
        ("secrets_distributor_ready{gate=\"door\"}", "gate is never door"),
        ("secrets_distributor_requests{reason=~\"Ready|Late\"}", "reason is never Late"),
        ("increase(secrets_distributor_decisions_total{result=\"maybe\"}[5m])", "result is never maybe"),
        ("increase(secrets_distributor_api_requests_total{code=\"5xx\"}[5m])", "code is never 5xx"),
        (
            "max by (reason) (secrets_distributor_secrets)",
            "no metric of secrets_distributor_secrets has a label reason",
        ),
        ("secrets_distributor_source_changes_total > 3", "grows: it needs rate or increase"),
        ("rate(secrets_distributor_sources[5m])", "does not only grow"),
    ] {
        let found = problems(query);
        assert!(found.len() == 1 && found[0].contains(problem), "{query}: {found:?}");
    }
}
