//! `test`: whether policies decide as the tables beside them say.

use std::{path::PathBuf, process::ExitCode};

use serde_json::{Value, json};

use super::{
    error::Error,
    operator::OperatorArgs,
    output::{
        self, ColorArgs,
        ci::{self, Level, ReportFormat, Suite},
        style::{BAD, FAINT, GOOD, styled},
    },
    tables::{self, Checked},
};
use crate::core::cases::Judged;

/// Which tables.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 every decision is the expected one, 1 one is not, 2 a file cannot be understood.

Examples:
  secrets-distributor test
  secrets-distributor test policies/wildcard-tls.yaml
  secrets-distributor test -o github policies/")]
pub struct Test {
    /// Policies, tables, or folders of them. The table of X.yaml is X.cases.yaml beside it; policies/README.md
    /// describes what is in it.
    #[arg(value_name = "PATH", default_value = "policies/")]
    paths: Vec<PathBuf>,

    /// Form of the answer.
    #[arg(long, short, value_name = "FORM", value_enum, default_value_t = ReportFormat::Table)]
    output: ReportFormat,

    #[command(flatten)]
    color: ColorArgs,

    #[command(flatten)]
    operator: OperatorArgs,
}

impl Test {
    /// Checks, and tells.
    pub fn run(&self) -> Result<ExitCode, Error> {
        self.color.apply();
        let checked = tables::check(&self.paths, &self.operator.namespace()?)?;
        let untested = tables::untested(&self.paths)?;
        match self.output {
            ReportFormat::Table => output::print(&(text(&checked) + &summary(&checked, &untested)))?,
            ReportFormat::Json => output::print_json(&json(&checked, &untested))?,
            ReportFormat::Github => output::print(&(annotations(&checked) + &summary(&checked, &untested)))?,
            ReportFormat::Junit => output::print(&ci::junit(&checked.iter().map(suite).collect::<Vec<_>>()))?,
        }
        Ok(ExitCode::from(u8::from(failed(&checked) > 0)))
    }
}

fn requests(checked: &[Checked]) -> impl Iterator<Item = &Judged> {
    checked.iter().flat_map(|table| &table.requests)
}

fn failed(checked: &[Checked]) -> usize {
    requests(checked).filter(|request| !request.discrepancies.is_empty()).count()
}

/// A line for each table, and below it what is not as it says.
fn text(checked: &[Checked]) -> String {
    checked.iter().map(|table| line(table) + &discrepancies(table)).collect()
}

fn line(table: &Checked) -> String {
    let count = table.requests.len();
    let verdict = match failed(std::slice::from_ref(table)) {
        0 => styled(GOOD, format!("ok, {count} requests")),
        failed => styled(BAD, format!("FAILED, {failed} of {count} requests")),
    };
    format!("{}: {verdict}\n", name(table))
}

fn discrepancies(table: &Checked) -> String {
    let lines = table.requests.iter().flat_map(|request| {
        request.discrepancies.iter().map(move |told| format!("  {}:{}: {told}\n", table.file.display(), request.line))
    });
    lines.collect()
}

fn name(table: &Checked) -> String {
    let together = if table.together { ", with all policies of its folder" } else { "" };
    format!("{}{together}", table.file.display())
}

fn summary(checked: &[Checked], untested: &[PathBuf]) -> String {
    let (all, failed) = (requests(checked).count(), failed(checked));
    let verdict = match failed {
        0 => styled(GOOD, format!("{all} requests, all decided as expected")),
        _ => styled(BAD, format!("{all} requests, {failed} not decided as expected")),
    };
    let untested = untested.iter().map(|file| styled(FAINT, format!("{} has no table\n", file.display())));
    format!("\n{}{verdict}\n", untested.collect::<String>())
}

fn annotations(checked: &[Checked]) -> String {
    let of_table = |table: &Checked| {
        let title = format!("{}: not as the table says", name(table));
        let told = |request: &Judged| {
            let one = |told: &_| ci::annotation(Level::Error, &table.file, request.line, &title, &format!("{told}"));
            request.discrepancies.iter().map(one).collect::<String>()
        };
        table.requests.iter().map(told).collect::<String>()
    };
    checked.iter().map(of_table).collect()
}

fn suite(table: &Checked) -> Suite {
    let case = |request: &Judged| ci::Case {
        name: request.request.to_string(),
        line: request.line,
        failures: request.discrepancies.iter().map(ToString::to_string).collect(),
    };
    Suite {
        name: name(table),
        file: table.file.display().to_string(),
        cases: table.requests.iter().map(case).collect(),
    }
}

fn json(checked: &[Checked], untested: &[PathBuf]) -> Value {
    let request = |request: &Judged| {
        let told: Vec<_> = request.discrepancies.iter().map(ToString::to_string).collect();
        json!({ "request": request.request.to_string(), "line": request.line, "discrepancies": told })
    };
    let table = |table: &Checked| {
        let requests: Vec<_> = table.requests.iter().map(request).collect();
        json!({ "file": table.file, "together": table.together, "requests": requests })
    };
    let failed = failed(checked);
    json!({
        "passed": requests(checked).count() - failed,
        "failed": failed,
        "tables": checked.iter().map(table).collect::<Vec<_>>(),
        "untested": untested,
    })
}
