//! The sample policies do what their tables say: a sample that lies fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use secrets_distributor::{
    api::SecretsDistribution,
    core::{
        cases::{self, Table},
        name::NamespaceName,
        policy::Policy,
        request::Request,
    },
};

const TABLE: &str = ".cases.yaml";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("policies/{file}: {error}"))
}

/// The samples and their tables, by name without ending.
fn samples() -> BTreeMap<String, (Vec<Policy>, Table)> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let yaml: Vec<_> = files.filter(|file| file.ends_with(".yaml")).collect();
    let (tables, policies): (BTreeSet<_>, BTreeSet<_>) = (
        yaml.iter().filter_map(|file| file.strip_suffix(TABLE)).collect(),
        yaml.iter().filter(|file| !file.ends_with(TABLE)).filter_map(|file| file.strip_suffix(".yaml")).collect(),
    );
    assert_eq!(tables, policies, "each X.yaml has an X{TABLE} beside it, and each table its policy");
    assert!(!tables.is_empty());
    let sample = |name: &&str| {
        let table = Table::parse(&read(&format!("{name}{TABLE}")));
        (
            name.to_string(),
            (policies_of(&format!("{name}.yaml")), table.unwrap_or_else(|e| panic!("{name}{TABLE}: {e}"))),
        )
    };
    tables.iter().map(sample).collect()
}

fn policies_of(file: &str) -> Vec<Policy> {
    cases::policies(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn run(name: &str, table: &Table, policies: Vec<Policy>) {
    let discrepancies = table.run(policies, NamespaceName::parse("secrets-distributor").unwrap());
    let told: Vec<_> = discrepancies.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "policies/{name}{TABLE}:\n{}", told.join("\n"));
}

#[test]
fn each_sample_does_what_its_table_says() {
    for (name, (policies, table)) in samples() {
        let with = table.with.iter().flat_map(|file| policies_of(file));
        run(&name, &table, policies.into_iter().chain(with).collect());
    }
}

#[test]
fn tables_that_say_so_hold_with_all_samples_in_force() {
    let samples = samples();
    let all: Vec<_> = samples.values().flat_map(|(policies, _)| policies.clone()).collect();
    let together: Vec<_> = samples.iter().filter(|(_, (_, table))| table.together).collect();
    assert!(!together.is_empty());
    together.into_iter().for_each(|(name, (_, table))| run(name, table, all.clone()));
}

#[test]
fn every_sample_says_why_in_three_lines_and_the_overview_lists_it() {
    let overview = read("README.md");
    for name in samples().keys() {
        let text = read(&format!("{name}.yaml"));
        let why = text.lines().take_while(|line| line.starts_with("# ")).count();
        assert_eq!(why, 3, "policies/{name}.yaml begins with three lines of why");
        assert!(overview.contains(&format!("({name}.yaml)")), "policies/README.md does not list {name}");
    }
}

/// The example of the first documentation, character for character.
#[test]
fn the_first_example_is_permitted() {
    const EXAMPLE: &str = r#"apiVersion: xlscsde.nhs.uk/v1
kind: SecretsDistribution
metadata:
  name: wildcard-tls-distribution
  namespace: test-application-1
  annotations:
    xlscsde.nhs.uk/secretUsage: "Wildcard Certificate"
spec:
  name: wildcard-tls-secret
  type: kubernetes.io/tls
  secrets:
  - from: WildcardCertificate
    to: tls.crt
  - from: WildcardCertificateKey
    to: tls.key
"#;
    let object: SecretsDistribution = serde_yaml_ng::from_str(EXAMPLE).unwrap();
    let request = Request::parse(&object).unwrap();
    let destination = request.key.namespace.clone();
    let world = secrets_distributor::core::index::complete(
        NamespaceName::parse("secrets-distributor").unwrap(),
        policies_of("wildcard-tls.yaml"),
        [],
        [request.clone()],
    );
    assert!(world.explain(&request.into(), &destination, jiff::Timestamp::UNIX_EPOCH).permitted);
}

#[test]
fn the_table_of_the_readme_is_one() {
    let text = read("README.md");
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let error = Table::parse(yaml).unwrap_err();
    assert!(error.to_string().contains("something permitted"), "{error}"); // It shows one request only.
}
