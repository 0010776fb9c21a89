//! `validate`: what is wrong with policies and requests, or can hardly be meant.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    error::Error,
    files,
    output::{
        self, ColorArgs,
        ci::{self, Level, ReportFormat},
        count,
        style::{BAD, FAINT, GOOD, STRONG, styled},
    },
};
use crate::{
    api::findings::Severity,
    core::lint::{self, File, Finding},
};

/// Which files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needs no cluster. What each code means is in docs/cli.md.

Exit codes: 0 no error (with --strict: and no warning), 1 there is one, 2 a file cannot be read.

Examples:
  secrets-distributor validate -f policies/
  secrets-distributor validate -f policies/ -f request.yaml --strict -o github")]
pub struct Validate {
    /// Policies, requests, or folders of them; - is standard input. May be given several times.
    #[arg(long, short = 'f', value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,

    /// Fail on warnings, too.
    #[arg(long)]
    strict: bool,

    /// The instant at which policies are judged that hold for a time, such as 2026-01-15T12:00:00Z. By default now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,

    /// Form of the answer.
    #[arg(long, short, value_name = "FORM", default_value = "table",
        value_parser = PossibleValuesParser::new(["table", "json", "github"]).map(form))]
    output: ReportFormat,

    #[command(flatten)]
    color: ColorArgs,
}

fn form(name: String) -> ReportFormat {
    match name.as_str() {
        "json" => ReportFormat::Json,
        "github" => ReportFormat::Github,
        _ => ReportFormat::Table,
    }
}

impl Validate {
    /// Checks, and tells.
    pub fn run(&self) -> Result<ExitCode, Error> {
        self.color.apply();
        let mut texts = Vec::new();
        for path in &self.filename {
            for file in files::manifests(path)? {
                texts.push((file.display().to_string(), files::read(&file)?));
            }
        }
        let files: Vec<_> = texts.iter().map(|(name, text)| File { name, text }).collect();
        let (findings, objects) = lint::check(&files, self.at.unwrap_or_else(Timestamp::now));
        let report = Report { findings, files: files.len(), objects };
        match self.output {
            ReportFormat::Json => output::print_json(&report.json())?,
            ReportFormat::Github => output::print(&(report.annotations() + &report.summary()))?,
            ReportFormat::Table | ReportFormat::Junit => output::print(&(report.text() + &report.summary()))?,
        }
        let worst = if self.strict { Severity::Warning } else { Severity::Error };
        Ok(ExitCode::from(u8::from(report.findings.iter().any(|finding| finding.severity() <= worst))))
    }
}

/// What was found in how much.
struct Report {
    findings: Vec<Finding>,
    files: usize,
    objects: usize,
}

impl Report {
    /// A line for each finding, in the form that editors and terminals make a link of.
    fn text(&self) -> String {
        let line = |finding: &Finding| {
            let place = styled(STRONG, format!("{}:{}", finding.file, finding.line));
            let severity = styled(style(finding.severity()), finding.severity().as_str());
            let code = styled(FAINT, format!("[{}]", finding.code.as_str()));
            format!("{place}: {severity}: {}{} {code}\n", subject(finding), finding.message)
        };
        self.findings.iter().map(line).collect()
    }

    fn annotations(&self) -> String {
        let annotation = |finding: &Finding| {
            let message = format!("{}{}", subject(finding), finding.message);
            let level = match finding.severity() {
                Severity::Error => Level::Error,
                Severity::Warning => Level::Warning,
                Severity::Info => Level::Notice,
            };
            ci::annotation(level, Path::new(&finding.file), finding.line, finding.code.as_str(), &message)
        };
        self.findings.iter().map(annotation).collect()
    }

    fn summary(&self) -> String {
        let of = |severity| self.findings.iter().filter(|finding| finding.severity() == severity).count();
        let (errors, warnings, notes) = (of(Severity::Error), of(Severity::Warning), of(Severity::Info));
        let told = format!("{}, {}, {}", count(errors, "error"), count(warnings, "warning"), count(notes, "note"));
        let told = styled(if errors > 0 { BAD } else { GOOD }, told);
        format!("{} in {}: {told}\n", count(self.objects, "object"), count(self.files, "file"))
    }

    fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "file": finding.file,
                "line": finding.line,
                "severity": finding.severity(),
                "code": finding.code,
                "object": finding.object,
                "field": finding.field,
                "message": finding.message,
            })
        };
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        json!({ "files": self.files, "objects": self.objects, "findings": findings })
    }
}

/// The object and the field that a finding is about, and a colon.
fn subject(finding: &Finding) -> String {
    let parts = [finding.object.as_str(), finding.field.as_str()];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { String::new() } else { format!("{}: ", parts.join(", ")) }
}

fn style(severity: Severity) -> anstyle::Style {
    match severity {
        Severity::Error => BAD,
        Severity::Warning => STRONG,
        Severity::Info => FAINT,
    }
}
