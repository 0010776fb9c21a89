//! The Grafana dashboards.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{query, read, vocabulary};

/// The dashboards, by file name.
pub const ALL: [&str; 2] = ["platform", "tenant"];

/// Of Grafana 11.6 and later.
const SCHEMA: u64 = 41;

/// Variables that Grafana sets itself.
const BUILT_IN: [&str; 1] = ["__rate_interval"];

fn file(name: &str) -> String {
    format!("deploy/monitoring/dashboards/{name}.json")
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&file(name))).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

fn is_row(panel: &Value) -> bool {
    panel["type"] == "row"
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

/// Every query of a dashboard, those of its variables too, and where it stands.
pub fn queries(name: &str) -> Vec<(String, String)> {
    let dashboard = dashboard(name);
    let mut queries = Vec::new();
    for panel in panels(&dashboard).iter().filter(|panel| !is_row(panel)) {
        let place = format!("{name}: {}", text(&panel["title"]));
        let targets = panel["targets"].as_array().unwrap().iter();
        queries.extend(targets.map(|target| (place.clone(), text(&target["expr"]).to_owned())));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap().iter().filter(|one| one["type"] == "query") {
        let place = format!("{name}: ${}", text(&variable["name"]));
        // `label_values(selector, label)` is Grafana's own: as a query it is the aggregation by that label.
        let values = text(&variable["query"]["query"]).strip_prefix("label_values(").unwrap();
        let (selector, label) = values.strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
        queries.push((place, format!("group by ({label}) ({selector})")));
    }
    queries
}

#[test]
fn they_are_written_as_a_program_writes_them() {
    for name in ALL {
        let written = serde_json::to_string_pretty(&dashboard(name)).unwrap() + "\n";
        assert_eq!(read(&file(name)), written, "{name}: format it with: jq --sort-keys . {}", file(name));
    }
}

#[test]
fn they_can_be_loaded_side_by_side_and_lead_to_each_other() {
    let all = ALL.map(dashboard);
    for (dashboard, other) in all.iter().zip(all.iter().rev()) {
        assert_eq!(dashboard["schemaVersion"], SCHEMA);
        assert_eq!(dashboard["tags"], json!(["secrets-distributor"]));
        assert_ne!(dashboard["uid"], other["uid"]);
        let link = &dashboard["links"][0];
        assert_eq!(link["url"], format!("/d/{}", text(&other["uid"])));
        assert_eq!((&link["includeVars"], &link["keepTime"]), (&json!(true), &json!(true)));
        assert!(dashboard.get("id").is_none() && dashboard.get("__inputs").is_none(), "of one Grafana only");
    }
}

#[test]
fn panels_say_what_they_show_and_lie_side_by_side() {
    for name in ALL {
        let dashboard = dashboard(name);
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels(&dashboard) {
            let title = text(&panel["title"]);
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title}: its id is another's");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
            assert!(w > 0 && h > 0 && x + w <= 24, "{name}: {title}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{name}: {title} lies on another");
            }
            if !is_row(panel) {
                assert!(text(&panel["description"]).ends_with('.'), "{name}: {title} says what it shows");
                assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title} has a unit");
            }
        }
        assert!(is_row(&panels(&dashboard)[0]), "{name} begins with a row");
    }
}

#[test]
fn they_have_what_on_call_asks_for() {
    let rows = |name: &str| -> Vec<String> {
        let dashboard = dashboard(name);
        panels(&dashboard).iter().filter(|panel| is_row(panel)).map(|row| text(&row["title"]).to_owned()).collect()
    };
    let platform =
        ["Health", "Work", "Latency", "Rate limits", "Sources and certificates", "API server", "Exporter and process"];
    assert_eq!(rows("platform"), platform);
    assert_eq!(rows("tenant"), ["Health", "Work", "Rate limit", "Sources and certificates"]);
}

#[test]
fn queries_go_to_the_chosen_prometheus_and_ask_about_the_chosen_installation() {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    for name in ALL {
        let dashboard = dashboard(name);
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        let names: Vec<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
        assert_eq!(names[..2], ["datasource", "job"]);
        for panel in panels(&dashboard).iter().filter(|panel| !is_row(panel)) {
            assert_eq!(panel["datasource"], source, "{}", panel["title"]);
            assert!(panel["targets"].as_array().unwrap().iter().all(|target| target["datasource"] == source));
        }
        for (place, query) in queries(name) {
            let used = query.split('$').skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_'));
            let unknown = used
                .map(|mut words| words.next().unwrap())
                .find(|used| !names.contains(used) && !BUILT_IN.contains(used));
            assert_eq!(unknown, None, "{place}");
        }
        for (place, query) in
            queries(name).iter().filter(|(place, query)| !place.contains('$') && !query.starts_with("ALERTS"))
        {
            assert!(query.contains("{job=\"$job\""), "{place}: of all installations");
            assert!(name != "tenant" || query.contains("namespace=~\"$namespace\""), "{place}: of all namespaces");
        }
    }
}

/// With `--metrics-namespace-label false` no series has the label: `.*` matches that too.
#[test]
fn a_tenant_is_one_namespace_or_all_of_them_together() {
    let dashboard = dashboard("tenant");
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let namespace = variables.iter().find(|variable| variable["name"] == "namespace").unwrap();
    assert_eq!((&namespace["includeAll"], &namespace["allValue"]), (&json!(true), &json!(".*")));
}

#[test]
fn legends_name_labels_that_are_there_and_exemplars_are_of_histograms() {
    let mut exemplars = 0;
    for name in ALL {
        let dashboard = dashboard(name);
        for target in panels(&dashboard).iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
            let expr = text(&target["expr"]);
            let selectors = query::scan(expr).selectors;
            let labels: BTreeSet<_> =
                selectors.iter().filter_map(|one| vocabulary::labels(&one.metric)).flatten().collect();
            let legend = text(&target["legendFormat"]).split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap());
            legend.for_each(|label| assert!(labels.contains(label), "{expr}: no label {label}"));
            if target["exemplar"] == true {
                exemplars += 1;
                assert!(expr.contains("secrets_distributor_propagation_seconds_bucket"), "{expr} has no exemplars");
            }
        }
    }
    assert!(exemplars > 0);
}
