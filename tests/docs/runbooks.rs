//! What `docs/runbooks.md` has somebody type at night exists: endpoints, metrics, kinds, files, reasons.

use std::collections::BTreeSet;

use secrets_distributor::{rbac::OPERATOR, telemetry::metrics::table};

use serde_json::Value;

use super::{
    read,
    readme::{commands, is_flag, is_known_variable, is_variable, problems, prose, spans},
    words_of_objects,
};

const FILE: &str = "docs/runbooks.md";

/// What stands for a name that only the reader knows.
const PLACEHOLDERS: [&str; 3] = ["POD", "NAMESPACE", "NAME"];

/// Kinds of Kubernetes that are asked for, beside our own.
const KINDS: [&str; 8] =
    ["pod", "pods", "lease", "events", "crd", "secret", "resourcequota", "prioritylevelconfigurations"];

/// Words of others in the form of a reason or a variable.
const OF_OTHERS: [&str; 1] = ["OOMKilled"];

/// What is wrong with a command of a runbook.
fn wrong(command: &str) -> Vec<String> {
    let mut wrong = problems(command);
    let words: Vec<_> = command.split_whitespace().collect();
    if let Some(pattern) = command.split_once("/metrics | grep ").map(|(_, rest)| rest) {
        let pattern = pattern.trim_start_matches("-E ").trim_matches('\'');
        let unknown = pattern.split('|').filter(|part| !pattern.starts_with("-v") && !is_metric(part));
        wrong.extend(unknown.map(|part| format!("metric {part}")));
    }
    if let Some(path) = words.iter().find_map(|word| word.strip_prefix("localhost:8080")) {
        let is_served = read("src/admin.rs").contains(&format!(".route(\"{path}\""));
        wrong.extend((!is_served).then(|| format!("endpoint {path}")));
    }
    if let ["kubectl", "get" | "describe" | "delete", kind, ..] = words[..] {
        let is_known = KINDS.contains(&kind) || is_short_name(kind) || kind == "--raw";
        wrong.extend((!is_known).then(|| format!("kind {kind}")));
    }
    let accounts = words.iter().filter_map(|word| word.strip_prefix("--as="));
    let other = accounts.filter(|account| *account != format!("system:serviceaccount:{OPERATOR}:{OPERATOR}"));
    wrong.extend(other.map(|account| format!("account {account}")));
    let namespaces = words.windows(2).filter(|pair| pair[0] == "-n").map(|pair| pair[1]);
    let other = namespaces.filter(|name| ![OPERATOR, "jaeger", "NAMESPACE"].contains(name));
    wrong.extend(other.map(|name| format!("namespace {name}")));
    wrong
}

/// Whether a part of a pattern finds lines of a scrape.
fn is_metric(part: &str) -> bool {
    let part = ["_sum", "_count", "_bucket"].iter().find_map(|suffix| part.strip_suffix(suffix)).unwrap_or(part);
    table::ALL.iter().any(|metric| metric.series().contains(part))
}

fn is_short_name(kind: &str) -> bool {
    let crds = ["crds/secretsdistributions.yaml", "crds/distributionpolicies.yaml"];
    crds.iter().any(|crd| read(crd).contains(&format!("    shortNames:\n    - {kind}\n")))
}

#[test]
fn their_commands_name_what_exists() {
    let text = read(FILE);
    let commands = commands(&text);
    assert!(commands.len() > 50, "{commands:?}");
    let inline =
        spans(&text).into_iter().map(|span| span.replace('\n', " ")).filter(|span| span.starts_with("kubectl "));
    for command in commands.into_iter().chain(inline) {
        assert_eq!(wrong(&command), Vec::<String>::new(), "in: {command}");
    }
}

/// Each ends with what to type next, with the namespace filled in where there is one.
#[test]
fn the_commands_of_the_alerts_name_what_exists() {
    let alerts: Value = serde_yaml_ng::from_str(&read("deploy/monitoring/alerts.yaml")).unwrap();
    let rules = alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    for rule in rules {
        let (_, next) = rule["annotations"]["description"].as_str().unwrap().split_once("Next: ").unwrap();
        let mut parts = next.split("{{ with $labels.namespace }}");
        let start = parts.next().unwrap().to_owned();
        let next = parts.fold(start, |text, part| text + "-n NAMESPACE" + part.split_once("{{ end }}").unwrap().1);
        let commands: Vec<_> = next.split(" & ").flat_map(wrong).collect();
        assert_eq!(commands, Vec::<String>::new(), "in: {next}");
    }
}

#[test]
fn a_command_that_names_what_does_not_exist_is_found() {
    for (command, problem) in [
        ("curl -s localhost:8080/metrics | grep -E 'queue_depth|nonsense'", "metric nonsense"),
        ("curl localhost:8080/healthz", "endpoint /healthz"),
        ("kubectl get nonsense -A", "kind nonsense"),
        ("kubectl get sd -n nonsense", "namespace nonsense"),
        ("kubectl auth can-i list secrets --as=nonsense", "account nonsense"),
        ("kubectl apply -f nonsense/", "file nonsense/"),
    ] {
        assert_eq!(wrong(command), [problem]);
    }
}

#[test]
fn their_words_are_those_of_the_code() {
    let known: BTreeSet<_> = words_of_objects().chain(PLACEHOLDERS).chain(OF_OTHERS).collect();
    for span in spans(&read(FILE)) {
        let word = span.as_str();
        let is_word =
            word.starts_with(|c: char| c.is_ascii_uppercase()) && word.bytes().all(|c| c.is_ascii_alphabetic());
        assert!(!is_word || known.contains(word), "{FILE} names `{word}`, which is no reason");
        let of_ours = is_variable(word) && !known.contains(word) && !word.starts_with("OTEL_");
        assert!(!of_ours || is_known_variable(word), "{FILE} names `{word}`, which is no variable");
        let flag = word.starts_with("--") && !word.contains(' ');
        assert!(!flag || is_flag(word), "{FILE} names `{word}`, which is no flag");
    }
}

#[test]
fn their_links_lead_somewhere() {
    let text = read(FILE);
    for link in prose(&text).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        let found = match link.strip_prefix('#') {
            Some(anchor) => text
                .lines()
                .any(|line| line.strip_prefix("## ").is_some_and(|t| t.to_lowercase().replace(' ', "-") == anchor)),
            None => super::root().join("docs").join(link).exists(),
        };
        assert!(found, "{FILE} links to {link}, which does not exist");
    }
}
