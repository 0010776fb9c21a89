//! What a scrape shows.

use std::collections::{BTreeMap, BTreeSet};

use super::{table::*, *};

fn namespace(name: &str) -> NamespaceName {
    NamespaceName::parse(name).unwrap()
}

/// With the namespaces `a` and `b`.
fn metrics(by_namespace: bool) -> Metrics {
    let metrics = Metrics::new(by_namespace);
    ["a", "b"].iter().for_each(|name| metrics.namespace_exists(&namespace(name)));
    metrics
}

/// The series of one metric, without the name of the metric and in order.
fn series(metrics: &Metrics, definition: &Definition) -> Vec<String> {
    let text = metrics.encode(Format::OpenMetrics);
    let name = definition.series();
    let own = text.lines().filter_map(|line| line.strip_prefix(&name));
    let is_own = |rest: &&str| rest.starts_with(['{', ' ']) || definition.kind == Kind::Histogram;
    let mut own: Vec<_> = own.filter(is_own).map(str::to_owned).collect();
    own.sort();
    own
}

/// Readings for every metric that is read, in these namespaces.
struct Everything(&'static [&'static str]);

impl States for Everything {
    fn read(&self, readings: &mut Readings<'_>) {
        for definition in ALL.iter().filter(|definition| definition.name.starts_with("secrets_distributor")) {
            match (definition.kind, definition.labels) {
                (Kind::Gauge, []) => readings.set(definition, 1.5),
                (Kind::Gauge, ["priority" | "gate" | "reason"]) => readings.label(definition, &["x"], 1.0),
                (_, _) if definition.name == CERTIFICATE_NOT_AFTER.name => {
                    let each = self.0.iter().zip([30.0, 10.0, 20.0]);
                    each.for_each(|(name, value)| readings.least(definition, &namespace(name), value));
                }
                (Kind::Gauge, ["namespace", others @ ..]) => {
                    let values: Vec<_> = others.iter().map(|_| "x").collect();
                    self.0.iter().for_each(|name| readings.add(definition, &namespace(name), &values, 2.0));
                }
                _ => {}
            }
        }
        for definition in [&THROTTLINGS, &THROTTLED] {
            self.0.iter().for_each(|name| readings.add(definition, &namespace(name), &[], 2.0));
        }
    }
}

/// Metrics of which every one has at least one series.
fn all(by_namespace: bool) -> Metrics {
    let metrics = metrics(by_namespace);
    metrics.observe(Everything(&["a", "b"]));
    for name in ["a", "b"] {
        metrics.attempted(&namespace(name), Reason::SourceNotPermitted);
        metrics.decided(&namespace(name), Decided::Denied);
        metrics.wrote(&namespace(name), Operation::Mark);
        metrics.revoked(&namespace(name));
    }
    metrics.decision_took(Duration::from_micros(3));
    metrics.propagated("rotation", Duration::from_millis(70), None);
    metrics.api_call("get", "secrets", "404".into(), Duration::from_millis(3));
    metrics
}

/// What stands in a `# TYPE` line.
fn family(definition: &Definition) -> String {
    let series = definition.series();
    let suffix = ["_total", "_info"].iter().find_map(|suffix| series.strip_suffix(suffix));
    suffix.unwrap_or(&series).to_owned()
}

#[test]
fn a_scrape_has_the_metrics_of_the_table_and_no_others() {
    let text = all(true).encode(Format::OpenMetrics);
    let told = |word: &str| -> BTreeMap<_, _> {
        let prefix = format!("# {word} ");
        text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once(' ')).collect()
    };
    let (helps, types, units) = (told("HELP"), told("TYPE"), told("UNIT"));
    assert_eq!(types.len(), ALL.len(), "{types:?}");
    for definition in ALL {
        let family = family(definition);
        assert_eq!(types.get(family.as_str()), Some(&definition.kind.as_str()), "{family}");
        assert_eq!(helps.get(family.as_str()), Some(&definition.help), "{family}");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(&format!("_{unit}")));
        assert_eq!(units.get(family.as_str()).copied(), unit, "{family}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_series_has_the_labels_of_the_table() {
    for (by_namespace, dropped) in [(true, ""), (false, NAMESPACE)] {
        let metrics = all(by_namespace);
        for definition in ALL {
            let expected: BTreeSet<_> = definition.labels.iter().copied().filter(|label| *label != dropped).collect();
            let series = series(&metrics, definition);
            assert!(!series.is_empty(), "{}", definition.series());
            for series in series {
                let labels = series.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
                let labels = labels.split(',').filter_map(|pair| Some(pair.split_once('=')?.0));
                let labels: BTreeSet<_> = labels.filter(|label| *label != "le").collect();
                assert_eq!(labels, expected, "{}{series}", definition.series());
            }
        }
    }
}

#[test]
fn every_label_and_every_name_is_told_in_the_reference_and_follows_the_conventions() {
    let used: BTreeSet<_> = ALL.iter().flat_map(|definition| definition.labels).copied().collect();
    let told: BTreeSet<_> = LABELS.iter().map(|(label, _)| *label).collect();
    assert_eq!(used, told);
    let names: BTreeSet<_> = ALL.iter().map(|definition| definition.series()).collect();
    assert_eq!(names.len(), ALL.len());
    for definition in ALL {
        let name = definition.series();
        assert!(name.starts_with("secrets_distributor_") || name.starts_with("process_"), "{name}");
        assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
        assert!(definition.labels.iter().skip(1).all(|label| *label != NAMESPACE), "{name}: namespace comes first");
        assert!(definition.help.ends_with('.') && definition.help.is_ascii(), "{name}: {}", definition.help);
    }
}

#[test]
fn events_are_counted_by_namespace_and_go_with_it() {
    let metrics = metrics(true);
    for (name, times) in [("a", 2), ("b", 1)] {
        (0..times).for_each(|_| metrics.attempted(&namespace(name), Reason::UpToDate));
    }
    metrics.attempted(&namespace("a"), Reason::DeniedByRule);
    let of_b = r#"{namespace="b",result="synced",reason="UpToDate"} 1"#;
    let of_a = [
        r#"{namespace="a",result="denied",reason="DeniedByRule"} 1"#,
        r#"{namespace="a",result="synced",reason="UpToDate"} 2"#,
    ];
    assert_eq!(series(&metrics, &ATTEMPTS), [of_a[0], of_a[1], of_b]);
    metrics.namespace_gone(&namespace("a"));
    assert_eq!(series(&metrics, &ATTEMPTS), [of_b]);
    // What comes late brings no series of it back, and neither does a name that somebody only asks for.
    metrics.attempted(&namespace("a"), Reason::UpToDate);
    metrics.attempted(&namespace("never-there"), Reason::NamespaceNotFound);
    let nowhere = [r#"{result="held",reason="NamespaceNotFound"} 1"#, r#"{result="synced",reason="UpToDate"} 1"#];
    assert_eq!(series(&metrics, &ATTEMPTS), [of_b, nowhere[0], nowhere[1]]);
    metrics.namespace_exists(&namespace("a"));
    metrics.attempted(&namespace("a"), Reason::UpToDate);
    assert!(series(&metrics, &ATTEMPTS)[0].starts_with(r#"{namespace="a","#));
}

#[test]
fn what_is_read_in_a_namespace_that_is_gone_is_no_state_but_stays_counted() {
    let metrics = metrics(true);
    metrics.observe(Everything(&["a", "b", "gone"]));
    assert_eq!(series(&metrics, &SECRETS), [r#"{namespace="a"} 2.0"#, r#"{namespace="b"} 2.0"#]);
    assert_eq!(series(&metrics, &THROTTLINGS), [" 2.0", r#"{namespace="a"} 2.0"#, r#"{namespace="b"} 2.0"#]);
    metrics.namespace_gone(&namespace("b"));
    assert_eq!(series(&metrics, &SECRETS), [r#"{namespace="a"} 2.0"#]);
    assert_eq!(series(&metrics, &THROTTLINGS), [" 4.0", r#"{namespace="a"} 2.0"#]);
}

#[test]
fn without_the_label_series_are_added_up_and_the_earliest_certificate_counts() {
    let metrics = all(false);
    assert_eq!(series(&metrics, &ATTEMPTS), [r#"{result="denied",reason="SourceNotPermitted"} 2"#]);
    assert_eq!(series(&metrics, &SECRETS_REVOKED), [" 2"]);
    assert_eq!(series(&metrics, &SECRETS), [" 4.0"]);
    assert_eq!(series(&metrics, &THROTTLED), [" 4.0"]);
    assert_eq!(series(&metrics, &CERTIFICATE_NOT_AFTER), [" 10.0"]);
    metrics.namespace_gone(&namespace("a"));
    assert_eq!(series(&metrics, &SECRETS_REVOKED), [" 2"], "a counter does not shrink");
    assert_eq!(series(&metrics, &THROTTLED), [" 4.0"]);
    assert_eq!(series(&metrics, &SECRETS), [" 2.0"]);
}

#[test]
fn a_traced_propagation_is_an_exemplar_of_its_bucket() {
    let metrics = metrics(true);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    metrics.propagated("rotation", Duration::from_millis(70), Some(trace.into()));
    metrics.propagated("rotation", Duration::from_millis(300), None);
    let series = series(&metrics, &PROPAGATION);
    let bucket = |le: &str| {
        let start = format!("_bucket{{le=\"{le}\",cause=\"rotation\"}} ");
        series.iter().find_map(|series| series.strip_prefix(&start)).unwrap()
    };
    assert_eq!(bucket("0.05"), "0");
    let (value, exemplar) = bucket("0.1").split_once(" # ").unwrap();
    let exemplar: Vec<_> = exemplar.split(' ').collect();
    assert_eq!((value, exemplar[0]), ("1", format!("{{trace_id=\"{trace}\"}}").as_str()));
    assert_eq!(exemplar[1], "0.07");
    assert!(exemplar[2].parse::<f64>().unwrap() > 1.7e9, "when it was: {exemplar:?}");
    assert_eq!((bucket("0.5"), bucket("+Inf")), ("2", "2"));
    let older = metrics.encode(Format::Prometheus);
    assert!(
        older.contains("secrets_distributor_propagation_seconds_count{cause=\"rotation\"} 2\n")
            && !older.contains(trace)
    );
}

#[test]
fn counters_are_there_before_the_first_event() {
    let metrics = Metrics::new(true);
    assert_eq!(series(&metrics, &SPANS_DROPPED), [" 0"]);
    metrics.spans_dropped(3);
    metrics.sources_changed();
    metrics.watch_restarted("secrets");
    assert_eq!(series(&metrics, &SPANS_DROPPED), [" 3"]);
    assert_eq!(series(&metrics, &SOURCE_CHANGES), [" 1"]);
    let interrupted = |resource: &str, times: u32| format!("{{resource=\"{resource}\"}} {times}");
    let resources = [("distributionpolicies", 0), ("namespaces", 0), ("secrets", 1), ("secretsdistributions", 0)];
    assert_eq!(series(&metrics, &WATCH_RESTARTS), resources.map(|(resource, times)| interrupted(resource, times)));
}

#[test]
fn the_process_tells_of_itself() {
    let metrics = Metrics::new(true);
    let value = |definition| series(&metrics, definition)[0].trim().parse::<f64>().unwrap();
    assert!(value(&PROCESS_START_TIME) > 1.7e9);
    assert!(value(&PROCESS_CPU) > 0.0);
    assert!(value(&PROCESS_RESIDENT_MEMORY) > f64::from(1 << 20));
    assert!(value(&PROCESS_OPEN_FDS) >= 3.0);
    assert_eq!(series(&metrics, &BUILD), [format!("{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))]);
}
