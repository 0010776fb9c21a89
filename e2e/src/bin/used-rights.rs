//! Compares the rights that the operator is granted with those that it has used in the tests: `make rights`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::{Context, Result};
use e2e::used;
use secrets_distributor::access::SecretsAccess;
use secrets_distributor::rbac::{HOME_RULES, OPERATOR_RULES, Rule, tenant_rules};

/// Rights that no test makes the operator use, and why it has them all the same.
const UNUSED: &[(&str, &str)] = &[];

/// Rights that rbac/ need not grant, because every user of a cluster has them.
const EVERYBODYS: &[&str] = &["create selfsubjectaccessreviews.authorization.k8s.io"];

fn main() -> ExitCode {
    match compare() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("rights: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Result<bool> {
    let folder = std::env::var_os(used::FOLDER).with_context(|| format!("{} names no folder", used::FOLDER))?;
    let used = used::read(folder.as_ref())?;
    let rules = OPERATOR_RULES.iter().chain(HOME_RULES).chain(tenant_rules(SecretsAccess::Watch));
    let granted: BTreeSet<String> = rules.flat_map(Rule::rights).collect();
    let justified: BTreeMap<_, _> = UNUSED.iter().copied().collect();
    let mut agree = true;
    for right in granted.union(&used) {
        let (told, is_right) = match (granted.contains(right), used.contains(right), justified.get(right.as_str())) {
            (true, true, None) => ("used".into(), true),
            (true, false, Some(why)) => (format!("not used: {why}"), true),
            (true, false, None) => ("NOT USED: take it away, or say in UNUSED why it is needed".into(), false),
            (_, true, Some(_)) => ("USED: take it out of UNUSED".into(), false),
            (false, _, _) if EVERYBODYS.contains(&right.as_str()) => ("used; every user has it".into(), true),
            (false, _, _) => ("USED, AND NOT GRANTED by rbac/: who granted it?".into(), false),
        };
        agree &= is_right;
        anstream::println!("{right:<62} {told}");
    }
    Ok(agree)
}
