//! The command line: what people ask, and where the answer comes from.
//!
//! Architecture invariant: nothing is decided here. Each answer is made of what the pure core says, by the same
//! functions as in the operator, so that the two cannot disagree. No Secret's content is read.

pub mod bootstrap;
pub mod can_i;
pub mod cluster;
mod completion;
pub mod delegate;
pub mod error;
pub mod explain;
pub mod fetch;
pub mod files;
pub mod operator;
pub mod output;
pub mod plan;
pub mod progress;
pub mod secrets;
pub mod tables;
mod test;
mod validate;
mod version;
pub mod view;
pub mod who_gets;
pub mod written;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::{
    bootstrap::Bootstrap,
    can_i::CanI,
    completion::Completion,
    delegate::{Delegate, Undelegate},
    error::Error,
    explain::Explain,
    plan::Plan,
    test::Test,
    validate::Validate,
    version::Version,
    who_gets::WhoGets,
};
use crate::settings;

/// Name under which kubectl finds the program as its plugin, and what people type then.
const PLUGIN: (&str, &str) = ("kubectl-distribute", "kubectl distribute");

const AFTER_HELP: &str = "\
Cluster: `run` takes the kubeconfig that KUBECONFIG names (or ~/.kube/config), else the ServiceAccount of the pod;
the other commands take --kubeconfig and --context as kubectl does, and each has the rights of who calls it.

As a plugin of kubectl: ln -s \"$(command -v secrets-distributor)\" ~/.local/bin/kubectl-distribute

Exit codes:
  0  done; for a question that is answered with yes or no: yes
  1  failed; for a question that is answered with yes or no: no
  2  bad arguments, files or settings, or no cluster is configured; for `plan`: it would do what --fail-on names";

/// Distributes the secrets that are mounted into this pod to Kubernetes Secrets.
///
/// App teams ask with SecretsDistribution objects; the platform team grants with DistributionPolicy objects, and
/// nothing is written without a grant. Each namespace lets the operator write its Secrets by a RoleBinding; there is
/// no cluster-wide right on Secrets.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the operator until SIGTERM or SIGINT.
    #[command(after_help = settings::AFTER_HELP, max_term_width = 110)]
    Run(Box<settings::Args>),
    /// Answers a question, or does what a person would do with kubectl.
    #[command(flatten)]
    Ask(Question),
}

/// What people ask.
#[derive(Debug, Subcommand)]
pub enum Question {
    /// Tells why a request is granted or not, what the operator has done about it, and what would help.
    Explain(Box<Explain>),
    /// Tells whether a namespace may receive a source, or all that it may request.
    CanI(Box<CanI>),
    /// Tells which namespaces may receive a source, and which Secrets hold it.
    WhoGets(Box<WhoGets>),
    /// Lets the operator write Secrets in a namespace: shows the RoleBinding, or applies it.
    Delegate(Delegate),
    /// Takes back what `delegate` gave.
    Undelegate(Undelegate),
    /// Checks whether policies decide as the tables beside them say, without a cluster.
    Test(Test),
    /// Finds what is wrong with policies and requests, or can hardly be meant, without a cluster.
    Validate(Validate),
    /// Shows what other policies would change: grants, refusals, Secrets that would be revoked, limits.
    Plan(Box<Plan>),
    /// Writes the policies that grant exactly what the requests ask for, in Audit, for review.
    Bootstrap(Box<Bootstrap>),
    /// Prints a script that completes commands and options in a shell.
    Completion(Completion),
    /// Tells the version, the commit, and what the program was built of.
    Version(Version),
}

impl Cli {
    /// What was typed. Wrong arguments end the process with exit code 2, --help and --version with 0.
    pub fn of_the_process() -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let mut command = Self::command_as(arguments.first());
        let matches = command.clone().get_matches_from(&arguments);
        // Cannot fail: the matches are those of this very command.
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut command).exit())
    }

    /// The command as it was called: by its own name, or by kubectl.
    fn command_as(called: Option<&OsString>) -> clap::Command {
        let name = called.map(Path::new).and_then(Path::file_stem);
        match name.is_some_and(|name| name == PLUGIN.0) {
            true => Self::command().name(PLUGIN.0).bin_name(PLUGIN.1),
            false => Self::command(),
        }
    }
}

/// Answers a question.
pub fn answer(question: Question) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Error::System("cannot start", error).tell(),
    };
    match runtime.block_on(question.answer()) {
        Ok(code) => code,
        Err(error) => error.tell(),
    }
}

impl Question {
    async fn answer(self) -> Result<ExitCode, Error> {
        match self {
            Self::Explain(explain) => explain.answer().await,
            Self::CanI(can_i) => can_i.answer().await,
            Self::WhoGets(who_gets) => who_gets.answer().await,
            Self::Delegate(delegate) => delegate.answer().await,
            Self::Undelegate(undelegate) => undelegate.answer().await,
            Self::Test(test) => test.run(),
            Self::Validate(validate) => validate.run(),
            Self::Plan(plan) => plan.answer().await,
            Self::Bootstrap(bootstrap) => bootstrap.answer().await,
            Self::Completion(completion) => completion.print(),
            Self::Version(version) => version.print(),
        }
    }
}
