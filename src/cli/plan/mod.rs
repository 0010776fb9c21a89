//! `plan`: what other policies would change.

mod answer;
mod tell;
mod written;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, sync::Arc};

use clap::ValueEnum;
use kube::ResourceExt;

pub use answer::Answer;
pub use written::assume;

use super::{
    error::Error,
    files,
    output::{self, ColorArgs, Format},
    secrets,
    view::{View, ViewArgs},
};
use crate::core::{forecast::Edit, name::PolicyName, policy::Policy};

/// What makes the exit code 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// A grant goes of a Secret that was written.
    Revoke,
    /// A grant comes.
    Grant,
    /// Anything becomes another: grants, refusals, limits.
    Any,
}

/// Which policies.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Compares the cluster as it is with the same cluster under other policies: those of the files are added, or replace those
of their names; all others stay. Nothing is written. Which Secrets there are is read from their metadata; where the
caller may not list Secrets, from the statuses of the requests.

Of -o json and -o yaml the fields are described by docs/plan.schema.json.

Exit codes: 0 nothing of --fail-on, 1 failed, 2 something of --fail-on, or bad arguments or files.

Examples:
  kubectl distribute plan -f policies/
  git show main:policies/wildcard-tls.yaml | kubectl distribute plan -f - --fail-on any
  kubectl distribute plan --delete break-glass-4711
  kubectl distribute plan -f new/ --policies old/ --namespaces namespaces.yaml --requests requests.yaml")]
pub struct Plan {
    /// Policies as they shall be: a file, a folder, or - for standard input. May be given several times.
    #[arg(long, short = 'f', value_name = "PATH")]
    filename: Vec<PathBuf>,

    /// A policy that shall go. May be given several times.
    #[arg(long, value_name = "NAME", required_unless_present = "filename")]
    delete: Vec<String>,

    /// What makes the exit code 2.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = FailOn::Revoke)]
    fail_on: FailOn,

    /// Form of the answer.
    #[arg(long, short, value_name = "FORMAT", default_value = "table", help_heading = "Output",
        value_parser = Format::among(&[Format::Table, Format::Wide, Format::Json, Format::Yaml]))]
    output: Format,

    #[command(flatten)]
    color: ColorArgs,

    #[command(flatten)]
    view: ViewArgs,
}

impl Plan {
    /// Answers.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        self.color.apply();
        let are_files = self.view.files.are_given();
        let (mut view, secrets) = match are_files {
            true => (View::of_files(&self.view)?, None),
            false => {
                let cluster = self.view.cluster.connect().await?;
                (View::of_cluster(&cluster, &self.view).await?, secrets::listed(&cluster).await?)
            }
        };
        let edits = self.edits(&view)?;
        let listed = secrets.is_some();
        match secrets {
            Some(found) => written::take_in(&mut view, found),
            None => written::assume(&mut view),
        }
        let at = view.at;
        let answer = Answer::of(view.world.forecast(edits, at), at, listed);
        match self.output {
            Format::Json => output::print_json(&answer)?,
            Format::Yaml => output::print_yaml(&answer)?,
            Format::Wide => output::print(&tell::text(&answer, None))?,
            Format::Table | Format::Csv => output::print(&tell::text(&answer, output::width()))?,
        }
        if !listed && !are_files {
            output::tell("note: you may not list Secrets: which there are is what the statuses of requests tell");
        }
        Ok(ExitCode::from(if self.fails(&answer) { 2 } else { 0 }))
    }

    fn edits(&self, view: &View) -> Result<Vec<Edit>, Error> {
        let mut edits = Vec::new();
        for object in files::policies(&self.filename)? {
            let policy = Policy::parse(&object)?;
            edits.push(Edit { name: PolicyName::admitted(&object.name_any()), policy: Some(Arc::new(policy)) });
        }
        let kept: BTreeSet<_> = edits.iter().map(|edit| edit.name.clone()).collect();
        for name in self.delete.iter().map(|name| PolicyName::admitted(name)) {
            if kept.contains(&name) {
                return Err(Error::Usage(format!(
                    "--delete: policy {name} is in the files, too: shall it stay or go?"
                )));
            }
            if view.world.policies.policy(&name).is_none() {
                return Err(Error::Usage(format!("--delete: there is no policy {name}; see: kubectl get dp")));
            }
            edits.push(Edit { name, policy: None });
        }
        Ok(edits)
    }

    fn fails(&self, answer: &Answer) -> bool {
        match self.fail_on {
            FailOn::Revoke => !answer.revoked.is_empty(),
            FailOn::Grant => !answer.granted.is_empty(),
            FailOn::Any => !answer.is_empty(),
        }
    }
}
