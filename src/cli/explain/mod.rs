//! `explain`: why a request is granted or not, rule by rule; what the operator has done; and what would help.

mod answer;
mod fix;
mod proposal;
mod tell;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt, api::DynamicObject, core::ApiResource};

pub use self::{
    answer::{Answer, Basis},
    fix::{Fix, How, Op, Operation, Patch},
    proposal::patched,
};
use super::{
    cluster::Cluster,
    error::{Error, Right},
    files,
    output::{self, ColorArgs, Format},
    view::{Status, View, ViewArgs},
};
use crate::{
    api::SecretsDistribution,
    core::{
        index::Stored,
        name::{NamespaceName, RequestKey},
        object,
        request::{Request, request_key},
    },
    telemetry::traces::TraceUrl,
};

/// UID of a request that does not exist yet: of two of the same age it is the younger.
const NOT_YET: &str = "~";

/// Which request, and where it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where the caller may not read policies, namespaces and requests of the whole cluster, as most app teams, the answer is
what the operator has told in the status of the request.

Of -o json and -o yaml the fields are described by docs/explain.schema.json.

Examples:
  kubectl distribute explain wildcard-tls-distribution -n test-application-1
  kubectl distribute explain -f request.yaml
  kubectl distribute explain -f request.yaml --policies policies/ --namespaces namespaces.yaml -o json")]
pub struct Explain {
    /// The SecretsDistribution. With --filename: which of those in the file.
    #[arg(value_name = "NAME", required_unless_present = "filename")]
    name: Option<String>,

    /// Explain a request of this file (- is standard input) as if it had just been created or changed.
    #[arg(long, short, value_name = "FILE")]
    filename: Option<PathBuf>,

    /// Form of the answer.
    #[arg(long, short, value_name = "FORMAT", default_value = "table", help_heading = "Output",
        value_parser = Format::among(&[Format::Table, Format::Wide, Format::Json, Format::Yaml]))]
    output: Format,

    /// Address at which people open a trace, with {traceID} in its place; the one that the operator runs with.
    #[arg(long, env = "TRACE_URL", value_name = "URL", help_heading = "Output")]
    trace_url: Option<String>,

    #[command(flatten)]
    color: ColorArgs,

    #[command(flatten)]
    view: ViewArgs,
}

impl Explain {
    /// Explains.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        self.color.apply();
        let trace_url = TraceUrl::parse(self.trace_url.as_deref().unwrap_or_default());
        let trace_url = trace_url.map_err(|error| Error::argument("--trace-url", error))?;
        let mut answer = match (&self.filename, self.view.files.are_given()) {
            (Some(file), true) => self.of_file(file, View::of_files(&self.view)?, None)?,
            (Some(file), false) => {
                let cluster = self.view.cluster.connect().await?;
                let view = View::of_cluster(&cluster, &self.view).await.map_err(advise_to_suspend)?;
                self.of_file(file, view, Some(&cluster.namespace))?
            }
            (None, true) => return Err(Error::Usage("with --policies the request must be in a file: -f FILE".into())),
            (None, false) => self.of_cluster().await?,
        };
        if let (Some(told), Some(url)) = (&mut answer.operator, &trace_url) {
            told.trace_url = told.trace_id.as_deref().map(|id| url.of(id));
        }
        match self.output {
            Format::Json => output::print_json(&answer)?,
            Format::Yaml => output::print_yaml(&answer)?,
            form => output::print(&tell::text(&answer, form == Format::Wide)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn of_cluster(&self) -> Result<Answer, Error> {
        let cluster = self.view.cluster.connect().await?;
        let key = request_key(cluster.namespace.as_str(), self.name.as_deref().unwrap_or_default());
        let key = key.map_err(|error| Error::argument("NAME", error.problem))?;
        match View::of_cluster(&cluster, &self.view).await {
            Ok(view) => match view.world.requests.get(&key) {
                Some(Stored::Valid(request)) => Ok(Answer::of(&view, request)),
                Some(Stored::Invalid { problem, .. }) => Err(Error::NotUnderstood(key, problem.clone())),
                None => Err(no_such(&key)),
            },
            Err(Error::Forbidden(right)) => {
                let answer = as_told(&cluster, &key, self.view.files.at()).await?;
                output::tell(&format!("note: you may not {right}: this is what the operator has told in the status"));
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }

    /// Explains a request of a file; those before it in the file are there as well, and older.
    fn of_file(&self, file: &PathBuf, mut view: View, default: Option<&NamespaceName>) -> Result<Answer, Error> {
        let default = self.view.cluster.named_namespace()?.or(default.cloned());
        let mut keys = Vec::new();
        for (age, mut object) in files::requests(file)?.into_iter().enumerate() {
            let namespace = object.metadata.namespace.take().or(default.as_ref().map(ToString::to_string));
            object.metadata.namespace = Some(namespace.unwrap_or_else(|| "default".into()));
            let request = Request::parse(&dated(&view, object, age)).map_err(|error| Error::in_file(file, error))?;
            keys.push(request.key.clone());
            view.world.apply_request(request.key.clone(), Stored::Valid(Arc::new(request)));
        }
        let wanted = |key: &&RequestKey| self.name.as_deref().is_none_or(|name| key.name.as_str() == name);
        let names = || keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match keys.iter().filter(wanted).collect::<Vec<_>>()[..] {
            [] => Err(Error::in_file(file, format!("no such SecretsDistribution in it; it has: {}", names()))),
            [key] => match view.world.requests.get(key) {
                Some(Stored::Valid(request)) => Ok(Answer::of(&view, &request.clone())),
                _ => Err(no_such(key)), // Has just been put there.
            },
            _ => Err(Error::in_file(file, format!("it has several: name one of {}", names()))),
        }
    }
}

/// The object with the age that it has, or would have.
fn dated(view: &View, mut object: SecretsDistribution, age: usize) -> SecretsDistribution {
    let key = request_key(&object.namespace().unwrap_or_default(), &object.name_any());
    let (uid, created) = match key.ok().and_then(|key| view.world.requests.get(&key)) {
        Some(Stored::Valid(known)) => (known.uid.to_string(), known.created),
        _ => (format!("{NOT_YET}{age:06}"), view.at),
    };
    (object.metadata.uid, object.metadata.creation_timestamp) = (Some(uid), Some(Time(created)));
    object
}

/// The answer of who may not read the policies.
async fn as_told(cluster: &Cluster, key: &RequestKey, at: Timestamp) -> Result<Answer, Error> {
    let resource = ApiResource::erase::<SecretsDistribution>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), key.namespace.as_str(), &resource);
    let right = Right { verb: "get", ..Right::to_list("secretsdistributions", Some(key.namespace.as_str())) };
    let object = api.get_opt(key.name.as_str()).await.map_err(|error| Error::of_call(error, &right))?;
    let object = object.ok_or_else(|| no_such(key))?;
    match object::request(&object) {
        Some((_, Stored::Valid(request))) => Ok(Answer::told(&request, &Status::of(&object), at.to_string())),
        Some((_, Stored::Invalid { problem, .. })) => Err(Error::NotUnderstood(key.clone(), problem)),
        None => Err(no_such(key)),
    }
}

fn no_such(key: &RequestKey) -> Error {
    let RequestKey { namespace, name } = key;
    Error::Failed(format!(
        "namespace {namespace} has no SecretsDistribution {name}. What it has:\n  kubectl get sd -n {namespace}"
    ))
}

/// Who may not read the policies can still ask the operator.
fn advise_to_suspend(error: Error) -> Error {
    match error {
        Error::Forbidden(right) => Error::Failed(format!(
            "{}\nWithout that right let the operator decide: create the request with spec.suspend: true, which writes \
             nothing, and explain it by its name",
            Error::Forbidden(right)
        )),
        other => other,
    }
}
