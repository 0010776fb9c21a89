//! `who-gets`: which namespaces may receive a source, and which Secrets hold it now.

mod holders;
mod receivers;

use std::{collections::BTreeSet, process::ExitCode};

use schemars::JsonSchema;
use serde::Serialize;

use self::{holders::Holder, receivers::Receiver};
use super::{
    error::Error,
    output::{self, ColorArgs, Format, style, table::Table},
    secrets::{self, Found},
    view::{View, ViewArgs},
    written::or_any,
};
use crate::core::name::SourceName;

/// Which source.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The Secrets are those that the requests' statuses tell, and those that carry the operator's label as far as the caller
may list Secrets; only metadata is asked for. What a Secret holds its request says: one that outlives its request is
not listed. Of -o json and -o yaml the fields are described by docs/who-gets.schema.json.

Examples:
  kubectl distribute who-gets WildcardCertificate
  kubectl distribute who-gets prod/payments/database-password -o csv
  kubectl distribute who-gets WildcardCertificate --policies policies/ --namespaces namespaces.yaml")]
pub struct WhoGets {
    /// The source: a name as in spec.secrets[].from, no glob.
    #[arg(value_name = "SOURCE")]
    source: String,

    /// Form of the answer.
    #[arg(long, short, value_name = "FORMAT", default_value = "table", help_heading = "Output",
        value_parser = Format::among(&[Format::Table, Format::Wide, Format::Json, Format::Yaml, Format::Csv]))]
    output: Format,

    #[command(flatten)]
    color: ColorArgs,

    #[command(flatten)]
    view: ViewArgs,
}

/// Who may receive a source, and who has it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The source.
    pub source: SourceName,
    /// The instant, RFC 3339.
    pub at: String,
    /// Which rules let which namespaces receive it, by namespace.
    pub may_receive: Vec<Receiver>,
    /// The Secrets that hold it, by namespace.
    pub holders: Vec<Holder>,
    /// How many.
    pub totals: Totals,
    /// Whether a cluster was asked; if not, nothing is known of Secrets.
    pub cluster_asked: bool,
    /// Whether the Secrets themselves were asked for; if not, the holders are those that the statuses of requests
    /// name, at most 50 destinations of each request.
    pub secrets_listed: bool,
}

/// How many.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Namespaces that may receive it now.
    pub namespaces: usize,
    /// Secrets that hold it.
    pub secrets: usize,
    /// Namespaces that these are in.
    pub holding_namespaces: usize,
}

impl WhoGets {
    /// Answers.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        self.color.apply();
        let source = SourceName::parse(&self.source).map_err(|error| Error::argument("SOURCE", error))?;
        let (view, secrets) = match self.view.files.are_given() {
            true => (View::of_files(&self.view)?, None),
            false => {
                let cluster = self.view.cluster.connect().await?;
                let view = View::of_cluster(&cluster, &self.view).await?;
                (view, secrets::listed(&cluster).await?)
            }
        };
        let asked = !self.view.files.are_given();
        let answer = Answer { cluster_asked: asked, ..Answer::of(&view, source, secrets.as_deref()) };
        answer.print(self.output)?;
        if asked && !answer.secrets_listed {
            output::tell("note: you may not list Secrets: the holders are those that the statuses of requests name");
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Answer {
    /// What is known about a source.
    pub fn of(view: &View, source: SourceName, secrets: Option<&[Found]>) -> Self {
        let may_receive = receivers::of(view, &source);
        let holders = holders::of(view, &source, secrets);
        let now = may_receive.iter().filter(|receiver| receiver.rule.is_in_force());
        let totals = Totals {
            namespaces: now.map(|receiver| &receiver.namespace).collect::<BTreeSet<_>>().len(),
            secrets: holders.len(),
            holding_namespaces: holders.iter().map(|holder| &holder.namespace).collect::<BTreeSet<_>>().len(),
        };
        let at = view.at.to_string();
        Self { source, at, may_receive, holders, totals, cluster_asked: true, secrets_listed: secrets.is_some() }
    }

    fn print(&self, format: Format) -> Result<(), Error> {
        match format {
            Format::Json => output::print_json(self),
            Format::Yaml => output::print_yaml(self),
            Format::Csv => output::print(&self.csv()),
            Format::Table => output::print(&self.text(false, output::width())),
            Format::Wide => output::print(&self.text(true, None)),
        }
    }

    fn text(&self, wide: bool, width: Option<usize>) -> String {
        let Totals { namespaces, secrets, holding_namespaces } = self.totals;
        let heading = |text: String| format!("{}\n", style::styled(style::STRONG, text));
        let count = output::count;
        let mut text = heading(format!("{} may receive {}", count(namespaces, "namespace"), self.source));
        if !self.may_receive.is_empty() {
            text += &self.receivers(wide).text(width);
        }
        if !self.cluster_asked {
            return text;
        }
        let (secrets, namespaces) = (count(secrets, "Secret"), count(holding_namespaces, "namespace"));
        text += &heading(format!("\nIt is in {secrets}, in {namespaces}"));
        if !self.holders.is_empty() {
            text += &self.held(wide).text(width);
        }
        text
    }

    fn receivers(&self, wide: bool) -> Table {
        let mut titles = vec!["namespace", "policy", "rule", "keys", "types", "secret names", "until", "state"];
        titles.extend(["from", "except"].iter().filter(|_| wide));
        let mut table = Table::new(&titles);
        for Receiver { namespace, rule, except } in &self.may_receive {
            let except: Vec<_> = except.iter().map(|rule| format!("{} rule {}", rule.policy, rule.rule)).collect();
            let cells = [
                namespace.to_string(),
                rule.policy.to_string(),
                rule.rule.to_string(),
                or_any(&rule.keys),
                rule.told_types(),
                or_any(&rule.secret_names),
                rule.not_after.clone().unwrap_or_else(|| "-".into()),
                if except.is_empty() || wide { rule.state() } else { format!("{}, but see -o wide", rule.state()) },
                rule.requesters(),
                if except.is_empty() { "-".into() } else { except.join(", ") },
            ];
            table.row(cells.into_iter().take(titles.len()));
        }
        table
    }

    fn held(&self, wide: bool) -> Table {
        let mut titles = vec!["namespace", "secret", "keys", "request", "policies", "since"];
        titles.extend(["last written", "state"].iter().filter(|_| wide));
        let mut table = Table::new(&titles);
        for holder in &self.holders {
            let unknown = || "unknown".to_string();
            let since = holder.since.clone().or(holder.last_written.clone().map(|time| format!("at least {time}")));
            let cells = [
                holder.namespace.to_string(),
                holder.secret.to_string(),
                holder.keys.join(","),
                holder.request.clone(),
                holder.policies.join(","),
                since.unwrap_or_else(unknown),
                holder.last_written.clone().unwrap_or_else(unknown),
                holder.state.map_or_else(unknown, |state| format!("{state:?}")),
            ];
            table.row(cells.into_iter().take(titles.len()));
        }
        table
    }

    /// Both in one table, told apart by the first column.
    fn csv(&self) -> String {
        let mut table =
            Table::new(&["relation", "namespace", "policies", "rule", "keys", "secret", "request", "since", "until"]);
        for Receiver { namespace, rule, .. } in &self.may_receive {
            let (policy, index, until) =
                (rule.policy.to_string(), rule.rule.to_string(), rule.not_after.clone().unwrap_or_default());
            let keys = rule.keys.join(" ");
            let none = String::new;
            table.row([
                "may-receive".into(),
                namespace.to_string(),
                policy,
                index,
                keys,
                none(),
                none(),
                none(),
                until,
            ]);
        }
        for holder in &self.holders {
            let (keys, policies) = (holder.keys.join(" "), holder.policies.join(" "));
            let since = holder.since.clone().unwrap_or_default();
            let (namespace, secret) = (holder.namespace.to_string(), holder.secret.to_string());
            let (none, request) = (String::new, holder.request.clone());
            table.row(["holds".into(), namespace, policies, none(), keys, secret, request, since, none()]);
        }
        table.csv()
    }
}
