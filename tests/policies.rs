//! The sample policies do what their tables say: a sample that lies fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use secrets_distributor::{
    api::SecretsDistribution,
    cli::tables,
    core::{
        cases::{self, Table},
        name::NamespaceName,
        request::Request,
    },
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("policies/{file}: {error}"))
}

fn operator() -> NamespaceName {
    NamespaceName::parse("secrets-distributor").unwrap()
}

#[test]
fn each_sample_does_what_its_table_says() {
    let checked = tables::check(&[folder()], &operator()).unwrap_or_else(|error| panic!("{error}"));
    assert!(checked.iter().any(|table| table.together), "some hold among all samples");
    for table in checked {
        let told: Vec<_> = table.requests.iter().flat_map(|request| &request.discrepancies).collect();
        assert!(told.is_empty(), "{} {}: {told:#?}", table.file.display(), table.together);
    }
    assert_eq!(tables::untested(&[folder()]).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn every_sample_says_why_in_three_lines_and_the_overview_lists_it() {
    let overview = read("README.md");
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let samples: Vec<_> = files.filter(|file| file.ends_with(".yaml") && !file.ends_with(".cases.yaml")).collect();
    assert!(samples.len() >= 12, "a dozen of samples");
    for name in samples {
        let why = read(&name).lines().take_while(|line| line.starts_with("# ")).count();
        assert_eq!(why, 3, "policies/{name} begins with three lines of why");
        assert!(overview.contains(&format!("({name})")), "policies/README.md does not list {name}");
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
        operator(),
        cases::policies(&read("wildcard-tls.yaml")).unwrap(),
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
