//! Tables that are true, tables that are not, and what is no table at all.

use crate::core::{
    cases::{Table, policies},
    name::NamespaceName,
};

const POLICY: &str = r#"
apiVersion: xlscsde.nhs.uk/v1
kind: DistributionPolicy
metadata: {name: p}
spec:
  namespaces: {names: [team-a]}
  rules: [{effect: Allow, sources: [a]}]
"#;

const TABLE: &str = r#"
at: "2026-01-01T00:00:00Z"
namespaces: [{name: team-a}, {name: team-b}]
requests:
- {namespace: team-a, name: good, spec: {secrets: [{from: a, to: k}]}, expect: {team-a: Permitted}}
- {namespace: team-a, name: fine, spec: {secrets: [{from: a, to: k}]}, expect: {team-a: "Permitted"}}
- namespace: team-a
  name: bad
  spec: {secrets: [{from: a, to: k}, {from: b, to: l}], namespaces: [team-a, team-b]}
  expect:
    team-a: {l: [SourceNotPermitted]}
    team-b: {k: [NoPolicyForNamespace], l: [NoPolicyForNamespace]}
"#;

fn run(table: &str) -> Vec<String> {
    let operator = NamespaceName::parse("secrets-distributor").unwrap();
    let judged = Table::parse(table).unwrap().run(policies(POLICY).unwrap(), operator);
    judged.iter().flat_map(|judged| &judged.discrepancies).map(ToString::to_string).collect()
}

#[test]
fn a_table_that_is_true_passes() {
    assert_eq!(run(TABLE), Vec::<String>::new());
}

#[test]
fn each_request_has_its_line() {
    let operator = NamespaceName::parse("secrets-distributor").unwrap();
    let judged = Table::parse(TABLE).unwrap().run(policies(POLICY).unwrap(), operator);
    assert_eq!(judged.iter().map(|judged| judged.line).collect::<Vec<_>>(), [5, 6, 7]);
}

#[test]
fn each_way_of_being_wrong_is_told() {
    for (from, to, told) in [
        (
            "team-a: Permitted",
            "team-a: {k: [KeyNotPermitted]}",
            "team-a/good in team-a: expected {k: [KeyNotPermitted]}, decided Permitted",
        ),
        (
            "team-a: {l: [SourceNotPermitted]}",
            "team-a: Permitted",
            "team-a/bad in team-a: expected Permitted, decided {l: [SourceNotPermitted]}",
        ),
        (
            "    team-a: {l: [SourceNotPermitted]}\n",
            "",
            "team-a/bad in team-a: not expected, decided {l: [SourceNotPermitted]}",
        ),
        (
            "{team-a: Permitted}",
            "{team-a: Permitted, team-b: Permitted}",
            "team-a/good in team-b: expected, but it is no destination of the request",
        ),
    ] {
        assert_eq!(run(&TABLE.replace(from, to)), [told]);
    }
}

#[test]
fn what_is_no_table_is_refused_with_its_place() {
    for (from, to, told) in [
        ("namespaces: [{", "labels: 1\nnamespaces: [{", "labels: there is no such field"),
        (
            "spec: {secrets: [{from: a, to: k}]}",
            "spec: {secret: [], secrets: [{from: a, to: k}]}",
            "requests.0.spec.secret: there is no such field",
        ),
        ("[SourceNotPermitted]", "[NoSuchReason]", "expected the word Permitted, or"),
        (
            "team-a: {l: [SourceNotPermitted]}\n    team-b: {k: [NoPolicyForNamespace], l: [NoPolicyForNamespace]}",
            "team-a: Permitted",
            "something permitted and something denied",
        ),
        ("name: bad", "name: good", "same namespace and name"),
        ("{from: b, to: l}", "{from: ../b, to: l}", "requests[2].spec.secrets[1].from: must be a source name"),
        ("{name: team-b}", "{name: Team_B}", "namespaces[1].name: must be a namespace name"),
        ("at: \"2026-01-01T00:00:00Z\"", "at: noon", "at: "),
    ] {
        let error = Table::parse(&TABLE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(told), "{to}: {error}");
    }
}

#[test]
fn a_policy_file_holds_policies_and_nothing_else() {
    assert_eq!(policies(&format!("{POLICY}---{}", POLICY.replace("name: p", "name: q"))).unwrap().len(), 2);
    for (from, to, told) in [
        (
            "kind: DistributionPolicy",
            "kind: Secret",
            "apiVersion, kind: must be a DistributionPolicy of xlscsde.nhs.uk/v1",
        ),
        ("sources: [a]", "sources: [a], source: [b]", "spec.rules.0.source: there is no such field"),
        ("sources: [a]", "sources: ['[a]']", "spec.rules[0].sources[0]: not a glob"),
        ("sources: [a]", "sources: a", "spec.rules[0].sources: invalid type"),
    ] {
        let error = policies(&POLICY.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(told), "{to}: {error}");
    }
}
