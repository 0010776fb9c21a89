//! Decision tables: requests and what policies shall decide about them, checked without a cluster. The format is
//! described in `policies/README.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::{
    decide::Decision,
    index,
    invalid::InvalidField,
    locate::Lines,
    manifest::{self, NamespaceRow, strictly},
    name::{NamespaceName, RequestKey},
    policy::{Namespace, Policy},
    request::Request,
};
use crate::api::{SecretsDistribution, SecretsDistributionSpec, conditions::Reason};

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
    line: usize,
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

/// A request of a table, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The request.
    pub request: RequestKey,
    /// Its line in the table.
    pub line: usize,
    /// Where the decision is not the expected one.
    pub discrepancies: Vec<Discrepancy>,
}

/// Where a table and the decision part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// The request.
    pub request: RequestKey,
    /// The namespace.
    pub namespace: NamespaceName,
    /// In what they part.
    pub difference: Difference,
}

/// In what a table and the decision part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The decision is another one.
    Decision {
        /// What the table expects.
        expected: Expected,
        /// What is decided.
        decided: Expected,
    },
    /// The table expects something of a namespace that is no destination of the request.
    NoDestination,
    /// The table does not list a destination of the request; this is decided about it.
    NotListed(Expected),
}

impl fmt::Display for Discrepancy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}: ", self.request, self.namespace)?;
        match &self.difference {
            Difference::Decision { expected, decided } => write!(f, "expected {expected}, decided {decided}"),
            Difference::NoDestination => f.write_str("expected, but it is no destination of the request"),
            Difference::NotListed(decided) => write!(f, "not expected, decided {decided}"),
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
    manifest::policies(yaml)?.iter().map(Policy::parse).collect()
}

impl Table {
    /// Reads a table from YAML.
    pub fn parse(yaml: &str) -> Result<Self, InvalidField> {
        let value = serde_saphyr::from_str(yaml).map_err(|error| InvalidField::new("table", error))?;
        let Written { at, with, together, namespaces, requests } = strictly(value, "table")?;
        let namespaces = namespaces
            .into_iter()
            .enumerate()
            .map(|(i, row)| row.read(&format!("namespaces[{i}]")))
            .collect::<Result<_, _>>()?;
        let lines = Lines::of(yaml);
        let line = |row: usize| lines.line(0, &format!("requests[{row}]")).unwrap_or(1);
        let cases: Vec<_> =
            requests.into_iter().enumerate().map(|(i, row)| row.read(i, line(i), at.0)).collect::<Result<_, _>>()?;
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

    /// Decides every request under the policies, and compares.
    pub fn run(&self, policies: Vec<Policy>, operator_namespace: NamespaceName) -> Vec<Judged> {
        let requests = self.cases.iter().map(|case| case.request.clone());
        let world = index::complete(operator_namespace, policies, self.namespaces.iter().cloned(), requests);
        let judge = |case: &Case| {
            let request = Arc::new(case.request.clone());
            let destinations = world.requests.destinations(&request.key).map(|(name, _)| name.clone());
            let decide = |name: NamespaceName| {
                let decided = decided(&request, world.decide(&request, &name, case.at));
                (name, decided)
            };
            let discrepancies = case.compare(destinations.map(decide).collect());
            Judged { request: request.key.clone(), line: case.line, discrepancies }
        };
        self.cases.iter().map(judge).collect()
    }
}

impl Case {
    fn compare(&self, mut decided: BTreeMap<NamespaceName, Expected>) -> Vec<Discrepancy> {
        let of_listed = |(namespace, expected): (&NamespaceName, &Expected)| {
            let difference = match decided.remove(namespace) {
                None => Difference::NoDestination,
                Some(decided) if decided == *expected => return None,
                Some(decided) => Difference::Decision { expected: expected.clone(), decided },
            };
            Some((namespace.clone(), difference))
        };
        let mut differences: Vec<_> = self.expected.iter().filter_map(of_listed).collect();
        differences.extend(decided.into_iter().map(|(namespace, decided)| (namespace, Difference::NotListed(decided))));
        let discrepancy =
            |(namespace, difference)| Discrepancy { request: self.request.key.clone(), namespace, difference };
        differences.into_iter().map(discrepancy).collect()
    }
}

fn decided(request: &Request, decision: Decision) -> Expected {
    let reasons = match decision {
        Decision::Permitted(_) => return Expected::Permitted(Permitted::Permitted),
        Decision::Denied(denial) => denial.reasons,
        Decision::Unready => vec![BTreeSet::from([Reason::PoliciesNotReady]); request.mappings.len()],
    };
    let refused = request.mappings.iter().zip(reasons).filter(|(_, reasons)| !reasons.is_empty());
    Expected::Denied(refused.map(|(mapping, reasons)| (mapping.to.to_string(), reasons)).collect())
}

impl RequestRow {
    /// The requests of a table are as old as their order says.
    fn read(self, row: usize, line: usize, at: Timestamp) -> Result<Case, InvalidField> {
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
        Ok(Case { request, line, at: self.at.map_or(at, |time| time.0), expected: expected.collect::<Result<_, _>>()? })
    }
}

fn namespace(name: &str, field: String) -> Result<NamespaceName, InvalidField> {
    NamespaceName::parse(name).map_err(|error| InvalidField::new(field, error))
}
