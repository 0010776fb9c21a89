//! Policies, namespaces and requests from files, without a cluster.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use super::error::Error;
use crate::{
    api::{DistributionPolicy, SecretsDistribution},
    core::{invalid::InvalidField, manifest, policy::Namespace},
};

/// Tables of decisions lie beside policies and are none.
const TABLE: &str = ".cases.yaml";

/// What stands for standard input.
const STDIN: &str = "-";

/// The policies of files and folders.
pub fn policies(paths: &[PathBuf]) -> Result<Vec<DistributionPolicy>, Error> {
    let mut policies = Vec::new();
    for path in paths {
        for file in files(path, is_manifest)? {
            policies.extend(parsed(&file, manifest::policies)?);
        }
    }
    let mut names: Vec<_> = policies.iter().filter_map(|policy| policy.metadata.name.as_deref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            let problem = format!("two policies have the name {}; which one shall count?", pair[0]);
            Err(Error::Usage(problem))
        }
        None => Ok(policies),
    }
}

/// The namespaces of a file.
pub fn namespaces(path: &Path) -> Result<Vec<Namespace>, Error> {
    parsed(path, manifest::namespaces)
}

/// The requests of a file.
pub fn requests(path: &Path) -> Result<Vec<SecretsDistribution>, Error> {
    parsed(path, manifest::requests)
}

/// What a file says.
pub fn parsed<T>(path: &Path, parse: impl Fn(&str) -> Result<T, InvalidField>) -> Result<T, Error> {
    parse(&read(path)?).map_err(|error| Error::in_file(path, error))
}

/// The text of a file, or of standard input.
pub fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = match path == Path::new(STDIN) {
        true => std::io::stdin().read_to_string(&mut text),
        false => fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| Error::in_file(path, error))?;
    Ok(text)
}

/// The files of a path that hold policies, requests or both: itself, or those of a folder.
pub fn manifests(path: &Path) -> Result<Vec<PathBuf>, Error> {
    files(path, is_manifest)
}

/// The tables of a path: itself, that of the policy that it is, or those of a folder.
pub fn tables(path: &Path) -> Result<Vec<PathBuf>, Error> {
    match path.is_dir() || is_table(path) {
        true => files(path, is_table),
        false => Ok(vec![table_of(path)]),
    }
}

/// Where the table of a policy lies.
pub fn table_of(policy: &Path) -> PathBuf {
    let stem = policy.file_stem().unwrap_or_default().to_string_lossy();
    policy.with_file_name(format!("{stem}{TABLE}"))
}

/// Where the policy lies that a table is about.
pub fn policy_of(table: &Path) -> PathBuf {
    let name = table.file_name().unwrap_or_default().to_string_lossy();
    table.with_file_name(format!("{}.yaml", name.strip_suffix(TABLE).unwrap_or(&name)))
}

/// The file itself, or the files of a folder and of those in it that count, in the order of their names.
fn files(path: &Path, counts: fn(&Path) -> bool) -> Result<Vec<PathBuf>, Error> {
    if path == Path::new(STDIN) || !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<_> =
        entries.map_err(|error| Error::in_file(path, error))?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => files.extend(self::files(&path, counts)?),
            false if counts(&path) => files.push(path),
            false => {}
        }
    }
    Ok(files)
}

/// YAML or JSON, and no table.
fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending)) && !is_table(path)
}

fn is_table(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(TABLE))
}
