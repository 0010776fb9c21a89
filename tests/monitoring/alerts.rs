//! The alerts, their unit tests, and the runbook.

use std::collections::{BTreeMap, BTreeSet};

use secrets_distributor::api::conditions::Reason;
use serde::Deserialize;

use super::{query, read, vocabulary};

const RUNBOOK: &str = "docs/runbooks.md";

/// One alert.
#[derive(Debug, Deserialize)]
pub struct Alert {
    pub alert: String,
    pub expr: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
struct Suite {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    alert_rule_test: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    alertname: String,
    exp_alerts: Vec<Fires>,
}

#[derive(Deserialize)]
struct Fires {
    exp_labels: BTreeMap<String, String>,
}

/// Every alert, in the order of the file.
pub fn all() -> Vec<Alert> {
    let rules: Rules = serde_yaml_ng::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

fn cases() -> Vec<Case> {
    serde_yaml_ng::from_str::<Suite>(&read("deploy/monitoring/alerts_test.yaml")).unwrap().tests
}

#[test]
fn each_says_how_bad_it_is_what_to_type_next_and_where_to_read_on() {
    for Alert { alert, expr, labels, annotations } in all() {
        assert_eq!(labels.keys().collect::<Vec<_>>(), ["severity"], "{alert}");
        assert!(["critical", "warning", "info"].contains(&labels["severity"].as_str()), "{alert}");
        let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["description", "runbook_url", "summary"], "{alert}");
        assert_eq!(annotations["runbook_url"], format!("{RUNBOOK}#{}", alert.to_lowercase()));
        assert!(annotations["summary"].ends_with('.'), "{alert}: a summary is a sentence");
        let (_, next) = annotations["description"].split_once("Next: ").unwrap_or_else(|| panic!("{alert}: no Next:"));
        assert!(["kubectl ", "curl "].iter().any(|program| next.starts_with(program)), "{alert}: {next}");
        let selectors = query::scan(&expr).selectors;
        let known: BTreeSet<_> = selectors.iter().filter_map(|one| vocabulary::labels(&one.metric)).flatten().collect();
        for text in annotations.values() {
            let named = text.split("$labels.").skip(1).map(|rest| rest.split([' ', '}']).next().unwrap());
            named.for_each(|label| assert!(known.contains(label), "{alert}: no series of it has a label {label}"));
        }
    }
}

#[test]
fn each_has_a_section_of_the_runbook_and_each_section_an_alert() {
    let mut alerts: Vec<_> = all().into_iter().map(|alert| alert.alert).collect();
    alerts.dedup();
    let runbook = read(RUNBOOK);
    let mut sections = runbook.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    assert_eq!(sections.next().map(|(title, _)| title), Some("Where to look"));
    for (title, text) in sections.clone() {
        for part in ["**Means** ", "**Noticed** ", "**Look** ", "```sh checked\n", "**Do** "] {
            assert_eq!(text.matches(part).count(), 1, "{title}: {part}");
        }
    }
    assert_eq!(sections.map(|(title, _)| title).collect::<Vec<_>>(), alerts, "in the order of the alerts");
}

#[test]
fn each_has_a_test_in_which_it_fires_and_one_in_which_it_almost_does() {
    let fires = |case: &Case, alert: &str, severity: &str| {
        let mut checks = case.alert_rule_test.iter().filter(|check| check.alertname == alert);
        checks.any(|check| check.exp_alerts.iter().any(|fires| fires.exp_labels["severity"] == severity))
    };
    let never = |case: &Case, alert: &str| {
        let mut checks = case.alert_rule_test.iter().filter(|check| check.alertname == alert).peekable();
        checks.peek().is_some() && checks.all(|check| check.exp_alerts.is_empty())
    };
    let cases = cases();
    for Alert { alert, labels, .. } in all() {
        let severity = &labels["severity"];
        assert!(cases.iter().any(|case| fires(case, &alert, severity)), "{alert} never fires with {severity}");
        assert!(cases.iter().any(|case| never(case, &alert)), "{alert} has no near miss");
    }
}

/// The label can be switched off.
#[test]
fn those_that_name_a_namespace_are_tested_without_it_too() {
    let cases = cases();
    for alert in all().iter().filter(|alert| alert.annotations["description"].contains("$labels.namespace")) {
        let checks = cases.iter().flat_map(|case| &case.alert_rule_test).filter(|check| check.alertname == alert.alert);
        let told: BTreeSet<_> = checks
            .flat_map(|check| &check.exp_alerts)
            .map(|fires| fires.exp_labels.contains_key("namespace"))
            .collect();
        assert_eq!(told, BTreeSet::from([false, true]), "{}", alert.alert);
    }
}

#[test]
fn a_denial_is_any_reason_for_which_a_request_is_not_permitted() {
    let alerts = all();
    let spike = alerts.iter().find(|alert| alert.alert == "SecretsDistributorDenialsSpike").unwrap();
    let selectors = query::scan(&spike.expr).selectors;
    let asked: Vec<_> = selectors.iter().flat_map(|selector| &selector.matchers).collect();
    assert_eq!(asked.len(), 2, "now and before: {asked:?}");
    let denials = Reason::ALL.iter().filter(|reason| reason.description().starts_with("Permitted=False"));
    let denials: Vec<_> = denials.map(|reason| reason.as_str()).collect();
    for (label, value) in asked {
        assert_eq!((label.as_str(), value.split('|').collect::<Vec<_>>()), ("reason", denials.clone()));
    }
}
