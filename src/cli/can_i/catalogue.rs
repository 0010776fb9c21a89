//! All that a namespace may request: the rules that speak about it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::Effect,
    cli::{
        error::Error,
        output::{self, Format, table::Table},
        view::View,
        written::{WrittenRule, or_any},
    },
    core::name::NamespaceName,
};

/// The rules that a request of one namespace for another can be granted or refused by.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Catalogue {
    /// The namespace that receives.
    pub namespace: NamespaceName,
    /// The namespace that asks.
    pub requester: NamespaceName,
    /// The instant, RFC 3339.
    pub at: String,
    /// The rules, by policy.
    pub entries: Vec<WrittenRule>,
}

impl Catalogue {
    /// What the policies say; those that are over say nothing.
    pub fn of(view: &View, here: &NamespaceName, requester: &NamespaceName) -> Self {
        let policies = &view.world.policies;
        let (namespace, asking) = (policies.namespace_or_unknown(here), policies.namespace_or_unknown(requester));
        let excluded = view.world.is_excluded(here);
        let entries =
            policies.speaking_about(&namespace).filter(|policy| !policy.is_expired(view.at)).flat_map(|policy| {
                let is_open = !excluded || policy.namespaces.names_literally(here);
                let rules = policy.rules.iter().enumerate().filter(|(_, rule)| {
                    rule.has_requester(&asking, &namespace) && (is_open || rule.effect == Effect::Deny)
                });
                rules.filter_map(|(index, _)| WrittenRule::of(view, policy, index)).collect::<Vec<_>>()
            });
        Self {
            namespace: here.clone(),
            requester: requester.clone(),
            at: view.at.to_string(),
            entries: entries.collect(),
        }
    }

    /// Prints it.
    pub fn print(&self, format: Format) -> Result<(), Error> {
        match format {
            Format::Json => output::print_json(self),
            Format::Yaml => output::print_yaml(self),
            Format::Csv => output::print(&self.table(true).csv()),
            _ if self.entries.is_empty() => {
                output::tell(&format!("no policy speaks about requests of {} for {}", self.requester, self.namespace));
                Ok(())
            }
            Format::Wide => output::print(&self.table(true).text(None)),
            Format::Table => output::print(&self.table(false).text(output::width())),
        }
    }

    fn table(&self, wide: bool) -> Table {
        let mut titles = vec!["effect", "sources", "keys", "types", "secret names", "until", "policy"];
        titles.extend(["rule", "from", "state"].iter().filter(|_| wide));
        let mut table = Table::new(&titles);
        self.entries.iter().for_each(|entry| table.row(cells(entry).into_iter().take(titles.len())));
        table
    }
}

fn cells(rule: &WrittenRule) -> [String; 10] {
    let effect = if rule.effect == Effect::Allow { "Allow" } else { "Deny" };
    [
        effect.into(),
        rule.sources.join(","),
        or_any(&rule.keys),
        rule.told_types(),
        or_any(&rule.secret_names),
        rule.not_after.clone().unwrap_or_else(|| "-".into()),
        rule.policy.to_string(),
        rule.rule.to_string(),
        rule.requesters(),
        rule.state(),
    ]
}
