//! The answer of `plan`, as people read it: what is taken away first.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use super::answer::{Answer, EditKind, Granted, Limit, Refused, Revoked, Which};
use crate::cli::output::{
    count,
    style::{BAD, GOOD, STRONG, styled},
    table::Table,
};

/// Namespaces that are named; more are counted.
const NAMED: usize = 3;

/// The answer as text.
pub fn text(answer: &Answer, width: Option<usize>) -> String {
    let parts = [
        policies(answer),
        section("Secrets that would be revoked", answer.revoked.len(), revoked(&answer.revoked).text(width)),
        section("Refused, and not written yet", answer.refused.len(), refused(&answer.refused).text(width)),
        section("Newly granted", answer.granted.len(), granted(&answer.granted).text(width)),
        limits(answer, width),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}\n{}", parts.join("\n"), summary(answer))
}

fn section(title: &str, rows: usize, table: String) -> String {
    if rows == 0 { String::new() } else { format!("{}\n{table}", styled(STRONG, title)) }
}

fn policies(answer: &Answer) -> String {
    if answer.policies.is_empty() {
        return "No policy becomes another.\n".into();
    }
    let line = |edit: &super::answer::PolicyEdit| match edit.edit {
        EditKind::Created => styled(GOOD, format!("+ {}", edit.name)) + "\n",
        EditKind::Changed => format!("~ {}\n", edit.name),
        EditKind::Deleted => styled(BAD, format!("- {}", edit.name)) + "\n",
    };
    section("Policies", 1, answer.policies.iter().map(line).collect())
}

fn revoked(revoked: &[Revoked]) -> Table {
    let mut table = Table::new(&["namespace", "secret", "request", "deleted", "why"]);
    for revoked in revoked {
        table.row(cells(&revoked.which, deleted(revoked), joined(&revoked.reasons)));
    }
    table
}

fn deleted(revoked: &Revoked) -> String {
    let from = revoked.which.from.as_ref().map(|from| format!("from {from}"));
    let grace = revoked.grace_seconds.map(SignedDuration::from_secs).filter(|grace| !grace.is_zero());
    match (from, &revoked.deleted_at, grace) {
        (None, None, _) => "never: Retain".into(),
        (Some(from), None, _) => format!("never: Retain, {from}"),
        (None, Some(_), None) => "at once".into(),
        (None, Some(_), Some(grace)) => format!("after {grace:#}"),
        (Some(_), Some(at), _) => format!("at {at}"),
    }
}

fn refused(refused: &[Refused]) -> Table {
    let mut table = Table::new(&["namespace", "secret", "request", "from", "why"]);
    for refused in refused {
        table.row(cells(&refused.which, begins(&refused.which), joined(&refused.reasons)));
    }
    table
}

fn granted(granted: &[Granted]) -> Table {
    let mut table = Table::new(&["namespace", "secret", "request", "from", "by"]);
    for granted in granted {
        table.row(cells(&granted.which, begins(&granted.which), joined(&granted.policies)));
    }
    table
}

fn cells(which: &Which, when: String, why: String) -> [String; 5] {
    [which.namespace.to_string(), which.secret.to_string(), which.request.clone(), when, why]
}

fn begins(which: &Which) -> String {
    let from = which.from.clone().unwrap_or_else(|| "now".into());
    which.until.as_ref().map_or(from.clone(), |until| format!("{from} until {until}"))
}

/// Namespaces whose limits change alike are one row.
fn limits(answer: &Answer, width: Option<usize>) -> String {
    let mut alike: BTreeMap<(&Limit, &Limit), Vec<String>> = BTreeMap::new();
    for change in &answer.limits {
        alike.entry((&change.before, &change.after)).or_default().push(change.namespace.to_string());
    }
    let mut table = Table::new(&["namespaces", "limit", "now", "then"]);
    for ((before, after), namespaces) in &alike {
        let named = named(namespaces);
        if before.rate != after.rate {
            let rate = |limit: &Limit| limit.rate.clone().unwrap_or_else(|| "the operator's".into());
            table.row([named.clone(), "writes".into(), rate(before), rate(after)]);
        }
        if before.distributions != after.distributions {
            let quota = |limit: &Limit| limit.distributions.map_or("any number".into(), |limit| limit.to_string());
            table.row([named, "distributions".into(), quota(before), quota(after)]);
        }
    }
    section("Limits", alike.len(), table.text(width))
}

fn named(namespaces: &[String]) -> String {
    let first = namespaces.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match namespaces.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

fn summary(answer: &Answer) -> String {
    if answer.is_empty() {
        return styled(GOOD, "No grant and no limit would change.") + "\n";
    }
    let retained = answer.revoked.iter().filter(|revoked| revoked.deleted_at.is_none()).count();
    let retained = if retained == 0 { String::new() } else { format!(" ({retained} of them would stay: Retain)") };
    let revoked = format!("{} would be revoked{retained}", count(answer.revoked.len(), "Secret"));
    let revoked = styled(if answer.revoked.is_empty() { GOOD } else { BAD }, revoked);
    let (granted, refused) = (answer.granted.len(), answer.refused.len());
    let limits = count(answer.limits.len(), "namespace");
    format!("{revoked}; {granted} newly granted, {refused} refused that were not written; other limits in {limits}.\n")
}

fn joined<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
