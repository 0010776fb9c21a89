//! What is found in policies and requests, and what is not.

use jiff::Timestamp;

use crate::{
    api::findings::{FindingCode, Severity},
    core::lint::{File, check},
};

const POLICY: &str = "\
apiVersion: xlscsde.nhs.uk/v1
kind: DistributionPolicy
metadata: {name: p}
spec:
  namespaces:
    names: [team-a, 'team-b*']
  rules:
  - effect: Allow
    sources: [cert, 'kv/*']
    keys: [tls.crt]
";

const REQUEST: &str = "\
apiVersion: xlscsde.nhs.uk/v1
kind: SecretsDistribution
metadata: {name: r, namespace: team-a}
spec:
  secrets:
  - {from: cert, to: tls.crt}
";

fn found(texts: &[&str]) -> Vec<(FindingCode, usize, String)> {
    let names: Vec<_> = (0..texts.len()).map(|i| format!("{i}.yaml")).collect();
    let files: Vec<_> = names.iter().zip(texts).map(|(name, text)| File { name, text }).collect();
    let now: Timestamp = "2026-01-15T12:00:00Z".parse().unwrap();
    let (findings, _) = check(&files, now);
    findings.into_iter().map(|finding| (finding.code, finding.line, finding.field)).collect()
}

#[track_caller]
fn assert_found(text: &str, code: FindingCode, line: usize, field: &str) {
    assert_eq!(found(&[text]), [(code, line, field.to_string())], "{text}");
}

#[test]
fn what_is_right_is_left_alone() {
    assert_eq!(found(&[POLICY, REQUEST]), []);
    assert_eq!(found(&[&format!("{POLICY}---\n---\n{REQUEST}")]), []);
}

#[test]
fn each_mistake_in_a_policy_is_found_where_it_is() {
    use FindingCode::*;
    let more = |more: &str| format!("{POLICY}{more}");
    for (from, to, code, line, field) in [
        ("keys: [tls.crt]", "key: [tls.crt]", InvalidObject, 10, "spec.rules.0.key"),
        ("sources: [cert, 'kv/*']", "sources: cert", InvalidObject, 9, "spec.rules[0].sources"),
        ("'kv/*'", "'[kv]'", InvalidObject, 9, "spec.rules[0].sources[1]"),
        ("'kv/*'", "'a/b/c/d/*'", InvalidObject, 9, "spec.rules[0].sources[1]"),
        ("kind: DistributionPolicy", "kind: Secret", InvalidObject, 1, "apiVersion, kind"),
        ("tls.crt", "..*", NeverMatches, 10, "spec.rules[0].keys[0]"),
        ("'team-b*'", "'-b*'", NeverMatches, 6, "spec.namespaces.names[1]"),
        ("'team-b*'", "'*'", MatchesEverything, 6, "spec.namespaces.names"),
        ("'kv/*'", "'*/**'", MatchesEverything, 9, "spec.rules[0].sources[1]"),
    ] {
        assert_found(&POLICY.replacen(from, to, 1), code, line, field);
    }
    for (text, code, line, field) in [
        ("  notAfter: '2026-01-15T12:00:00Z'\n", Expired, 11, "spec.notAfter"),
        ("  notBefore: '2026-01-15T12:00:01Z'\n", NotYetInForce, 11, "spec.notBefore"),
        ("  enforcement: Audit\n", InAudit, 11, "spec.enforcement"),
        ("  limits: {distributions: 0}\n", ZeroQuota, 11, "spec.limits.distributions"),
        ("  limits: {distributions: 100001}\n", InvalidObject, 11, "spec.limits.distributions"),
        ("  revocation: {action: Retain, gracePeriod: 1h}\n", NoEffect, 11, "spec.revocation.gracePeriod"),
        ("  revocation: {gracePeriod: 1 hour}\n", InvalidObject, 11, "spec.revocation.gracePeriod"),
        ("    requestedFrom: {names: [team-a-]}\n", RequesterUnreachable, 11, "spec.rules[0].requestedFrom.names[0]"),
        ("  - {effect: Deny, sources: [x], adopt: true}\n", NoEffect, 11, "spec.rules[1].adopt"),
        ("  - {effect: Allow, sources: [cert], keys: [tls.crt]}\n", Redundant, 11, "spec.rules[1]"),
        ("  - {effect: Deny, sources: [cert, 'kv/**'], keys: [tls.*]}\n", DenyHidesAllow, 8, "spec.rules[0]"),
    ] {
        assert_found(&more(text), code, line, field);
    }
}

#[test]
fn a_selector_that_selects_nothing_is_found() {
    let selecting = |selector: &str| {
        POLICY.replacen(
            "    names: [team-a, 'team-b*']\n",
            &format!("    names: [team-a]\n    selector: {selector}\n"),
            1,
        )
    };
    let name = |operator: &str, values: &str| {
        format!("{{matchExpressions: [{{key: kubernetes.io/metadata.name, operator: {operator}{values}}}]}}")
    };
    let never = |selector: &str, field| {
        assert_found(
            &selecting(selector),
            FindingCode::NeverMatches,
            if field == "spec.namespaces" { 5 } else { 7 },
            field,
        )
    };
    never(&name("In", ", values: [team-c]"), "spec.namespaces");
    never(&name("DoesNotExist", ""), "spec.namespaces.selector");
    assert_eq!(found(&[&selecting(&name("In", ", values: [team-a, team-c]"))]), []);
    let tenant = "{matchLabels: {tier: gold}}";
    assert_found(&selecting(tenant), FindingCode::TenantWritableLabels, 7, "spec.namespaces.selector");
}

#[test]
fn a_deny_elsewhere_hides_an_allow_only_where_it_refuses_all_of_it() {
    let deny = |change: &dyn Fn(&str) -> String| {
        let deny =
            POLICY.replace("name: p", "name: q").replace("Allow", "Deny").replace("[cert, 'kv/*']", "['*', '*/*']");
        found(&[POLICY, &change(&deny)]).into_iter().map(|(code, _, _)| code).collect::<Vec<_>>()
    };
    let with = |more: &'static str| move |text: &str| format!("{text}{more}");
    assert_eq!(deny(&|text| text.into()), [FindingCode::DenyHidesAllow]);
    assert_eq!(deny(&|text| text.replace("'*/*'", "'kv/a*'")), []);
    assert_eq!(deny(&|text| text.replace("team-a, ", "")), []);
    assert_eq!(deny(&|text| text.replace("[tls.crt]", "[tls.key]")), []);
    assert_eq!(deny(&with("    types: [Opaque]\n")), []);
    assert_eq!(deny(&with("    requestedFrom: {names: [team-a]}\n")), []);
    assert_eq!(deny(&with("    requestedFrom: {names: ['team-*']}\n")), [FindingCode::DenyHidesAllow]);
    assert_eq!(deny(&with("  notAfter: '2027-01-01T00:00:00Z'\n")), []);
    assert_eq!(deny(&with("  enforcement: Audit\n")), [FindingCode::InAudit]);
}

#[test]
fn each_mistake_in_a_request_is_found_where_it_is() {
    use FindingCode::*;
    let helm = "spec:\n  type: helm.sh/release.v1";
    let tls = "spec:\n  type: kubernetes.io/tls";
    for (from, to, code, line, field) in [
        ("from: cert", "from: ../cert", InvalidObject, 6, "spec.secrets[0].from"),
        ("spec:", helm, ReservedType, 5, "spec.type"),
        ("spec:", tls, KeyAbsent, 6, "spec.secrets"),
        ("namespace: team-a", "namespace: Team", InvalidObject, 3, "metadata.namespace"),
    ] {
        assert_found(&REQUEST.replacen(from, to, 1), code, line, field);
    }
    assert_eq!(found(&[REQUEST, REQUEST]), [(DuplicateName, 3, "metadata.name".to_string())]);
    assert_eq!(found(&[REQUEST, &REQUEST.replace("team-a", "team-b")]), []);
}

#[test]
fn an_item_of_a_list_has_its_own_line() {
    let item = REQUEST.replace("from: cert", "from: /cert").trim_end().replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n");
    assert_found(&list, FindingCode::InvalidObject, 9, "spec.secrets[0].from");
    assert_found("a: [", FindingCode::InvalidObject, 1, "file");
}

#[test]
fn an_error_matters_most() {
    assert!(Severity::Error < Severity::Warning && Severity::Warning < Severity::Info);
}
