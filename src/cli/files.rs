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
        for file in files(path)? {
            policies.extend(parsed(&file, manifest::policies)?);
        }
    }
    let mut names: Vec<_> = policies.iter().filter_map(|policy| policy.metadata.name.as_deref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::Usage(format!("--policies: two policies have the name {}", pair[0]))),
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

fn parsed<T>(path: &Path, parse: impl Fn(&str) -> Result<T, InvalidField>) -> Result<T, Error> {
    parse(&read(path)?).map_err(|error| Error::in_file(path, error))
}

/// The text of a file, or of standard input.
fn read(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = match path == Path::new(STDIN) {
        true => std::io::stdin().read_to_string(&mut text),
        false => fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.map_err(|error| Error::in_file(path, error))?;
    Ok(text)
}

/// The file itself, or what a folder and those in it have of YAML and JSON, in the order of their names.
fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
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
            true => files.extend(self::files(&path)?),
            false if is_manifest(&path) => files.push(path),
            false => {}
        }
    }
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending)) && !name.ends_with(TABLE)
}
