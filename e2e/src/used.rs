//! The rights that the operator has used, by the audit logs of all control planes of a run.
//!
//! Each supervisor leaves what its own log says in the folder that `E2E_RIGHTS_USED` names; `make rights` compares all of
//! them with what is granted.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result};
use tempfile::Builder;

use crate::{AuditEntry, Operator};

/// The variable that names the folder.
pub const FOLDER: &str = "E2E_RIGHTS_USED";

/// Rights, each as `verb resource.group`.
pub type Rights = BTreeSet<String>;

/// Leaves in the folder what was used according to a log.
pub(crate) fn record(audit_log: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let lines = io::BufReader::new(fs::File::open(audit_log)?).lines();
    let mut used = Rights::new();
    for line in lines {
        let line = line?;
        if line.contains(Operator::USER) {
            // The last one may be cut off.
            used.extend(serde_json::from_str(&line).ok().as_ref().and_then(used_by_the_operator));
        }
    }
    let text = used.into_iter().map(|right| right + "\n").collect::<String>();
    let file = Builder::new().suffix(".txt").tempfile_in(folder)?;
    fs::write(file.path(), text)?;
    file.keep()?;
    Ok(())
}

/// Everything that was left in the folder.
pub fn read(folder: &Path) -> Result<Rights> {
    let mut used = Rights::new();
    let files =
        fs::read_dir(folder).with_context(|| format!("{} is not there: run the tests first", folder.display()))?;
    for file in files {
        used.extend(fs::read_to_string(file?.path())?.lines().map(str::to_owned));
    }
    Ok(used)
}

/// What an entry used a right for: not that of tests which act in the operator's name.
fn used_by_the_operator(entry: &AuditEntry) -> Option<String> {
    let is_the_operator = entry.user() == Operator::USER && entry.user_agent.starts_with("secrets-distributor/");
    let was_allowed = entry.code().is_some_and(|code| code != 401 && code != 403);
    let object = &entry.object_ref;
    if !is_the_operator || !was_allowed || object.resource.is_empty() {
        return None;
    }
    let subresource = if object.subresource.is_empty() { String::new() } else { format!("/{}", object.subresource) };
    Some(format!("{} {}{subresource}.{}", entry.verb, object.resource, object.api_group))
}
