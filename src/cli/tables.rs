//! Tables of decisions that lie beside policies, and whether they are true.

use std::path::{Path, PathBuf};

use super::{error::Error, files};
use crate::core::{
    cases::{self, Judged, Table},
    name::NamespaceName,
    policy::Policy,
};

/// A table that was checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its file.
    pub file: PathBuf,
    /// Whether all policies of its folder were in force, or only those that it is about.
    pub together: bool,
    /// Its requests.
    pub requests: Vec<Judged>,
}

/// Checks the tables of files and folders.
pub fn check(paths: &[PathBuf], operator_namespace: &NamespaceName) -> Result<Vec<Checked>, Error> {
    let mut checked = Vec::new();
    for file in tables(paths)? {
        if !file.exists() {
            let problem =
                format!("it is missing: {} has no table of decisions beside it", files::policy_of(&file).display());
            return Err(Error::in_file(file, problem));
        }
        let table = files::parsed(&file, Table::parse)?;
        let mut own = policies(&files::policy_of(&file))?;
        for with in &table.with {
            own.extend(policies(&file.with_file_name(with))?);
        }
        let requests = table.run(own, operator_namespace.clone());
        checked.push(Checked { file: file.clone(), together: false, requests });
        if table.together {
            let requests = table.run(all_beside(&file)?, operator_namespace.clone());
            checked.push(Checked { file, together: true, requests });
        }
    }
    match checked.is_empty() {
        true => Err(Error::Usage(format!("{}: there is no table of decisions (X.cases.yaml)", told(paths)))),
        false => Ok(checked),
    }
}

/// The policies of files and folders that no table is about.
pub fn untested(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut untested = Vec::new();
    for path in paths.iter().filter(|path| path.is_dir()) {
        let manifests = files::manifests(path)?;
        untested.extend(manifests.into_iter().filter(|policy| !files::table_of(policy).exists()));
    }
    Ok(untested)
}

fn tables(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let mut tables = Vec::new();
    for path in paths {
        tables.extend(files::tables(path)?);
    }
    tables.sort();
    tables.dedup();
    Ok(tables)
}

fn policies(file: &Path) -> Result<Vec<Policy>, Error> {
    files::parsed(file, cases::policies)
}

/// The policies of the table's folder. Of the folders in it those are none.
fn all_beside(table: &Path) -> Result<Vec<Policy>, Error> {
    let folder = table.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut all = Vec::new();
    for file in files::manifests(folder)?.iter().filter(|file| file.parent() == Some(folder)) {
        all.extend(policies(file)?);
    }
    Ok(all)
}

fn told(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
