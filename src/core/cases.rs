//! Decision tables: requests and what policies shall decide about them, checked without a cluster. The format is
//! described in `policies/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    decide::Decision,
    index,
    invalid::InvalidField,
    name::{NamespaceName, RequestKey},
    policy::{Namespace, Policy},
    request::Request,
};
use crate::api::{DistributionPolicy, SecretsDistribution, SecretsDistributionSpec, conditions::Reason, names};

/// A table that has been checked.
#[derive(Clone, Debug)]
pub struct Table {
    /// Files whose policies it needs besides those it is about.
    pub with: Vec<String>,
    /// Whether it also holds among all policies of its folder.
    pub together: bool,
    namespaces: Vec<Namespace>,
    cases: Vec<Case>,
}

#[derive(Clone, Debug)]
struct Case {
    request: Request,
    at: Timestamp,
    expected: BTreeMap<NamespaceName, Expected>,
}

/// What a table expects of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected the word Permitted, or the reasons against each refused key, such as {tls.crt: [KeyNotPermitted]}"
)]
pub enum Expected {
    /// The word.
    Permitted(Permitted),
    /// The reasons against each key that is refused.
    Denied(BTreeMap<String, BTreeSet<Reason>>),
}

/// The word `Permitted`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Permitted {
    /// The word `Permitted`.
    Permitted,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Denied(keys) = self else { return f.write_str("Permitted") };
        let reasons = |reasons: &BTreeSet<Reason>| reasons.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ");
        let keys: Vec<_> = keys.iter().map(|(key, why)| format!("{key}: [{}]", reasons(why))).collect();
        write!(f, "{{{}}}", keys.join(", "))
    }
}

/// Where a table and the decision part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// The request.
    pub request: RequestKey,
    /// The destination.
    pub destination: NamespaceName,
    /// What the table expects; nothing if it does not list the destination.
    pub expected: Option<Expected>,
    /// What is decided; nothing if the request has no such destination.
    pub decided: Option<Expected>,
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: ", self.request, self.destination)?;
        match (&self.expected, &self.decided) {
            (Some(expected), Some(decided)) => write!(f, "expected {expected}, decided {decided}"),
            (Some(_), None) => f.write_str("expected, but it is no destination of the request"),
            (None, Some(decided)) => write!(f, "not expected, decided {decided}"),
            (None, None) => f.write_str("nothing expected and nothing decided"),
        }
    }
}

/// The table as it is written.
#[derive(Deserialize)]
struct Written {
    at: Time,
    #[serde(default)]
    with: Vec<String>,
    #[serde(default)]
    together: bool,
    namespaces: Vec<NamespaceRow>,
    requests: Vec<RequestRow>,
}

#[derive(Deserialize)]
struct NamespaceRow {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RequestRow {
    namespace: String,
    name: String,
    #[serde(default)]
    at: Option<Time>,
    spec: SecretsDistributionSpec,
    expect: BTreeMap<String, Expected>,
}

/// Reads the policies of a file, one or more YAML documents.
pub fn policies(yaml: &str) -> Result<Vec<Policy>, InvalidField> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).map_err(|error| InvalidField::new("policy", error))?;
    documents.into_iter().map(policy).collect()
}

fn policy(mut document: Value) -> Result<Policy, InvalidField> {
    let mut take = |field: &str| document.as_object_mut().and_then(|fields| fields.remove(field)).unwrap_or_default();
    let found = [take("apiVersion"), take("kind")];
    let wanted = [DistributionPolicy::api_version(&()), DistributionPolicy::kind(&())];
    if found != wanted.each_ref().map(AsRef::as_ref) {
        let problem = format!("must be a {} of {}", wanted[1], wanted[0]);
        return Err(InvalidField::new("apiVersion, kind", problem));
    }
    Policy::parse(&strictly::<DistributionPolicy>(document, "policy")?)
}

/// Reads a value of which every field must be known: a misspelled one would silently mean its default.
fn strictly<T: DeserializeOwned>(value: Value, what: &str) -> Result<T, InvalidField> {
    let mut unknown = None;
    let read = serde_ignored::deserialize(value, |path| {
        unknown.get_or_insert(path.to_string());
    });
    match (read, unknown) {
        (Err(error), _) => Err(InvalidField::new(what, error)),
        (Ok(_), Some(field)) => Err(InvalidField::new(field, "there is no such field; see the README and the CRD")),
        (Ok(value), None) => Ok(value),
    }
}

impl Table {
    /// Reads a table from YAML.
    pub fn parse(yaml: &str) -> Result<Self, InvalidField> {
        let value = serde_saphyr::from_str(yaml).map_err(|error| InvalidField::new("table", error))?;
        let Written { at, with, together, namespaces, requests } = strictly(value, "table")?;
        let namespaces = namespaces.into_iter().enumerate().map(|(i, row)| row.read(i)).collect::<Result<_, _>>()?;
        let cases: Vec<_> =
            requests.into_iter().enumerate().map(|(i, row)| row.read(i, at.0)).collect::<Result<_, _>>()?;
        let expected = || cases.iter().flat_map(|case| case.expected.values());
        let permits = |expected: &Expected| matches!(expected, Expected::Permitted(_));
        if !expected().any(permits) || expected().all(permits) {
            let problem = "must expect something permitted and something denied: else a policy that grants everything, or nothing, would pass";
            return Err(InvalidField::new("requests", problem));
        }
        let keys: BTreeSet<_> = cases.iter().map(|case| &case.request.key).collect();
        if keys.len() < cases.len() {
            return Err(InvalidField::new("requests", "two requests have the same namespace and name"));
        }
        Ok(Self { with, together, namespaces, cases })
    }

    /// The number of decisions that the table expects.
    pub fn decisions(&self) -> usize {
        self.cases.iter().map(|case| case.expected.len()).sum()
    }

    /// Decides every request under the policies. Answers where the decision is not the expected one.
    pub fn run(&self, policies: Vec<Policy>, operator_namespace: NamespaceName) -> Vec<Discrepancy> {
        let requests = self.cases.iter().map(|case| case.request.clone());
        let world = index::complete(operator_namespace, policies, self.namespaces.iter().cloned(), requests);
        let discrepancies = |case: &Case| {
            let request = Arc::new(case.request.clone());
            let destinations = world.requests.destinations(&request.key).map(|(name, _)| name.clone());
            let decide = |name: NamespaceName| {
                let decided = decided(&request, world.decide(&request, &name, case.at));
                (name, decided)
            };
            case.compare(destinations.map(decide).collect())
        };
        self.cases.iter().flat_map(discrepancies).collect()
    }
}

impl Case {
    fn compare(&self, decided: BTreeMap<NamespaceName, Expected>) -> Vec<Discrepancy> {
        let destinations: BTreeSet<_> = self.expected.keys().chain(decided.keys()).collect();
        let differs = destinations.into_iter().filter(|name| self.expected.get(*name) != decided.get(*name));
        differs
            .map(|name| Discrepancy {
                request: self.request.key.clone(),
                destination: name.clone(),
                expected: self.expected.get(name).cloned(),
                decided: decided.get(name).cloned(),
            })
            .collect()
    }
}

fn decided(request: &Request, decision: Decision) -> Expected {
    let Decision::Denied(denial) = decision else { return Expected::Permitted(Permitted::Permitted) };
    let mappings = request.mappings.iter().zip(denial.reasons);
    let refused = mappings.filter(|(_, reasons)| !reasons.is_empty());
    Expected::Denied(refused.map(|(mapping, reasons)| (mapping.to.to_string(), reasons)).collect())
}

impl NamespaceRow {
    fn read(self, row: usize) -> Result<Namespace, InvalidField> {
        let name = namespace(&self.name, format!("namespaces[{row}].name"))?;
        let mut labels = self.labels;
        labels.insert(names::NAME_LABEL.into(), self.name); // As the API server does.
        Ok(Namespace { name, labels, terminating: false })
    }
}

impl RequestRow {
    /// The requests of a table are as old as their order says.
    fn read(self, row: usize, at: Timestamp) -> Result<Case, InvalidField> {
        let within = |error: InvalidField| InvalidField { field: format!("requests[{row}].{}", error.field), ..error };
        let age = i64::try_from(row).ok().and_then(|row| Timestamp::from_second(row).ok());
        let metadata = ObjectMeta {
            namespace: Some(self.namespace),
            name: Some(self.name),
            uid: Some(format!("row-{row}")),
            creation_timestamp: age.map(Time),
            ..Default::default()
        };
        let object = SecretsDistribution { metadata, spec: self.spec, status: None };
        let request = Request::parse(&object).map_err(within)?;
        let expected = self.expect.into_iter().map(|(name, expected)| {
            let name = namespace(&name, format!("requests[{row}].expect"))?;
            Ok((name, expected))
        });
        Ok(Case { request, at: self.at.map_or(at, |time| time.0), expected: expected.collect::<Result<_, _>>()? })
    }
}

fn namespace(name: &str, field: String) -> Result<NamespaceName, InvalidField> {
    NamespaceName::parse(name).map_err(|error| InvalidField::new(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let discrepancies = Table::parse(table).unwrap().run(policies(POLICY).unwrap(), operator);
        discrepancies.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_that_is_true_passes() {
        assert_eq!(run(TABLE), Vec::<String>::new());
        assert_eq!(Table::parse(TABLE).unwrap().decisions(), 4);
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
            ("at: \"2026-01-01T00:00:00Z\"", "at: noon", "table: "),
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
            ("sources: [a]", "sources: a", "policy: "),
        ] {
            let error = policies(&POLICY.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(told), "{to}: {error}");
        }
    }
}
