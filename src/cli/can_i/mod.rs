//! `can-i`: whether a namespace may receive a source, as `kubectl auth can-i` answers; and all that it may.

mod catalogue;

use std::{collections::BTreeSet, process::ExitCode, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

pub use self::catalogue::Catalogue;
use super::{
    error::Error,
    output::{self, ColorArgs, Format},
    view::{View, ViewArgs},
};
use crate::{
    api::{Mapping, PolicyRule, SecretsDistribution, SecretsDistributionSpec},
    core::{
        decide::{Decision, Denial},
        invalid::InvalidField,
        name::{NamespaceName, PolicyName, RequestKey, SecretName},
        outcome,
        request::Request,
    },
};

/// As many ways to ask are tried.
const MOST_TRIES: usize = 1000;

/// What is asked.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Answers yes or no on standard output, with exit code 0 or 1, and why on standard error. What is not given of --to,
--type and --secret-name may be whatever a rule about the source allows: the answer is yes if some request would be
granted. Of --list -o json and -o yaml the fields are described by docs/can-i.schema.json.

Examples:
  kubectl distribute can-i --from WildcardCertificate -n test-application-1
  kubectl distribute can-i --from WildcardCertificate --to tls.crt --type kubernetes.io/tls -n test-application-1
  kubectl distribute can-i --list -n test-application-1
  kubectl distribute can-i --list -n test-application-1 --policies policies/")]
pub struct CanI {
    /// The source.
    #[arg(long, value_name = "SOURCE", required_unless_present = "list")]
    from: Option<String>,

    /// The key of the Secret that it goes to.
    #[arg(long, value_name = "KEY", requires = "from")]
    to: Option<String>,

    /// The type of the Secret.
    #[arg(long = "type", value_name = "TYPE", requires = "from")]
    type_: Option<String>,

    /// The name of the Secret.
    #[arg(long, value_name = "NAME", requires = "from")]
    secret_name: Option<String>,

    /// The namespace that asks, if it is another one than the namespace that receives.
    #[arg(long, value_name = "NAME")]
    requester_namespace: Option<String>,

    /// List all that the namespace may request.
    #[arg(long, conflicts_with = "from")]
    list: bool,

    /// Print nothing: the exit code is the answer.
    #[arg(long, short, conflicts_with = "list")]
    quiet: bool,

    /// Form of the list.
    #[arg(long, short, value_name = "FORMAT", default_value = "table", requires = "list", help_heading = "Output",
        value_parser = Format::among(&[Format::Table, Format::Wide, Format::Json, Format::Yaml, Format::Csv]))]
    output: Format,

    #[command(flatten)]
    color: ColorArgs,

    #[command(flatten)]
    view: ViewArgs,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// A request would be granted, by this rule of this policy.
    Yes(PolicyName, usize),
    /// None that was tried would be; why the nearest is refused.
    No(String),
}

impl CanI {
    /// Answers.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        self.color.apply();
        let (view, here) = self.open().await?;
        let there = self.requester_namespace.as_deref().map(NamespaceName::parse).transpose();
        let there = there.map_err(|error| Error::argument("--requester-namespace", error))?;
        let requester = there.unwrap_or(here.clone());
        if self.list {
            let catalogue = Catalogue::of(&view, &here, &requester);
            return catalogue.print(self.output).map(|()| ExitCode::SUCCESS);
        }
        let wish = Wish {
            from: self.from.clone().unwrap_or_default(),
            to: self.to.clone(),
            type_: self.type_.clone(),
            secret_name: self.secret_name.clone(),
        };
        let verdict = verdict(&view, &here, &requester, &wish).map_err(in_arguments)?;
        let (word, why, code) = match verdict {
            Verdict::Yes(policy, rule) => {
                ("yes", format!("policy {policy}, rule {rule}, grants it"), ExitCode::SUCCESS)
            }
            Verdict::No(why) => ("no", why, ExitCode::from(1)),
        };
        if !self.quiet {
            output::print(&format!("{word}\n"))?;
            output::tell(&why);
        }
        Ok(code)
    }

    /// What is known, and the namespace that it is about.
    async fn open(&self) -> Result<(View, NamespaceName), Error> {
        if !self.view.files.are_given() {
            let cluster = self.view.cluster.connect().await?;
            let view = View::of_cluster(&cluster, &self.view).await?;
            return Ok((view, cluster.namespace));
        }
        let needed = || Error::Usage("with --policies say for which namespace: -n NAME".into());
        let namespace = self.view.cluster.named_namespace()?.ok_or_else(needed)?;
        Ok((View::of_files(&self.view)?, namespace))
    }
}

/// What somebody wants; what is left open may be anything.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The source.
    pub from: String,
    /// The key.
    pub to: Option<String>,
    /// The type of the Secret.
    pub type_: Option<String>,
    /// Its name.
    pub secret_name: Option<String>,
}

/// Tries the ways to ask that the rules about the source suggest, and the plainest one.
pub fn verdict(
    view: &View,
    here: &NamespaceName,
    requester: &NamespaceName,
    wish: &Wish,
) -> Result<Verdict, InvalidField> {
    let mut nearest: Option<(Denial, String)> = None;
    for way in ways(view, here, wish).into_iter().take(MOST_TRIES) {
        let request = Arc::new(request(view, here, requester, wish, &way)?);
        let denial = match view.world.decide(&request, here, view.at) {
            Decision::Permitted(_) => return Ok(granted(view, &request, here)),
            Decision::Denied(denial) => denial,
            Decision::Unready => continue, // All has been read.
        };
        let is_nearer = |known: &(Denial, String)| denial.leading() > known.0.leading();
        if nearest.as_ref().is_none_or(is_nearer) {
            let told = outcome::explain(&request, &request.target(here), &denial);
            nearest = Some((denial, told));
        }
    }
    Ok(Verdict::No(nearest.map(|(_, told)| told).unwrap_or_default()))
}

fn granted(view: &View, request: &Arc<Request>, here: &NamespaceName) -> Verdict {
    let explanation = view.world.explain(request, here, view.at);
    match explanation.mappings.first().and_then(|mapping| mapping.granted_by.first()) {
        Some(rule) => Verdict::Yes(rule.policy.clone(), rule.rule),
        None => Verdict::No("the explanation does not name a rule".into()), // It is that of the decision.
    }
}

/// One way to ask: key, type and name.
type Way = (String, String, String);

fn ways(view: &View, here: &NamespaceName, wish: &Wish) -> BTreeSet<Way> {
    let namespace = view.world.policies.namespace_or_unknown(here);
    let speaking = view.world.policies.speaking_about(&namespace);
    let rules = speaking.flat_map(|policy| {
        let written = view.policies.get(&policy.name).into_iter().flat_map(|policy| &policy.spec.rules);
        policy.rules.iter().zip(written).filter(|(rule, _)| rule.has_source(&wish.from)).map(|(_, written)| written)
    });
    let plain = PolicyRule::default();
    rules.chain([&plain]).flat_map(|rule| ways_of(rule, wish)).collect()
}

/// An example for each list of a rule, in each combination.
fn ways_of(rule: &PolicyRule, wish: &Wish) -> Vec<Way> {
    let plainest = wish.from.rsplit('/').next().unwrap_or_default().to_string();
    let name = plainest.to_lowercase().replace('_', "-").trim_matches(['-', '.']).to_string();
    let or = |given: &Option<String>, examples: Vec<String>, default: String| match given {
        Some(given) => vec![given.clone()],
        None if examples.is_empty() => vec![default],
        None => examples,
    };
    let examples = |globs: &[String]| globs.iter().map(|glob| glob.replace(['*', '?'], "x")).collect::<Vec<_>>();
    let keys = or(&wish.to, examples(&rule.keys), plainest);
    let types = or(&wish.type_, rule.types.clone(), crate::api::names::OPAQUE.into());
    let names = or(&wish.secret_name, examples(&rule.secret_names), name);
    let mut ways = Vec::new();
    for key in &keys {
        for type_ in &types {
            ways.extend(names.iter().map(|name| (key.clone(), type_.clone(), name.clone())));
        }
    }
    ways
}

/// A request that does not exist, younger than all that do.
fn request(
    view: &View,
    here: &NamespaceName,
    requester: &NamespaceName,
    wish: &Wish,
    (to, type_, name): &Way,
) -> Result<Request, InvalidField> {
    let spec = SecretsDistributionSpec {
        name: Some(name.clone()),
        type_: Some(type_.clone()),
        secrets: vec![Mapping { from: wish.from.clone(), to: to.clone() }],
        namespaces: vec![here.to_string()],
        ..SecretsDistributionSpec::default()
    };
    let metadata = ObjectMeta {
        namespace: Some(requester.to_string()),
        name: Some(free_name(view, requester)),
        creation_timestamp: Some(Time(view.at)),
        ..ObjectMeta::default()
    };
    Request::parse(&SecretsDistribution { metadata, spec, status: None })
}

/// A name that no request has: else its quota would be counted as that one's.
fn free_name(view: &View, namespace: &NamespaceName) -> String {
    let is_free = |name: &String| {
        let key = SecretName::parse(name).map(|name| RequestKey { namespace: namespace.clone(), name });
        key.is_ok_and(|key| view.world.requests.get(&key).is_none())
    };
    (0..).map(|number| format!("can-i-{number}")).find(is_free).unwrap_or_default()
}

/// The field as the argument that it came from.
fn in_arguments(error: InvalidField) -> Error {
    let argument = match error.field.as_str() {
        "spec.secrets[0].from" => "--from",
        "spec.secrets[0].to" => "--to",
        "spec.type" => "--type",
        "spec.name" => "--secret-name",
        field => field,
    };
    Error::argument(argument, error.problem)
}
