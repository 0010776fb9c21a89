//! `bootstrap`: policies that grant exactly what the requests ask for.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use super::{
    cluster::ClusterArgs,
    error::Error,
    fetch, files,
    operator::OperatorArgs,
    output::{self, count},
    progress::Progress,
    view::View,
};
use crate::core::{
    bootstrap::{self, Draft},
    name::{NamespaceName, RequestKey},
    policy::Namespace,
};

/// Requests that are named above a policy; more are counted.
const NAMED: usize = 20;

/// Of which requests.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads the requests of the whole cluster, of the namespace that --namespace names, or of files, and writes policies on
standard output: as few as grant what the requests ask for and nothing else, one for each set of namespaces. They are in
Audit: they grant nothing yet. Look at them, apply them, see in their statuses what they would grant, then change Audit
to Enforce. A request that is left out is named on standard error, with the reason.

Examples:
  kubectl distribute bootstrap > policies.yaml
  kubectl distribute bootstrap -n team-green
  kubectl distribute bootstrap -f requests.yaml --namespaces namespaces.yaml")]
pub struct Bootstrap {
    /// Requests of this file (- is standard input) in place of a cluster's, as `kubectl get sd -A -o yaml` prints them.
    #[arg(long, short = 'f', value_name = "FILE")]
    filename: Option<PathBuf>,

    /// The namespaces and their labels, for requests with a namespaceSelector.
    #[arg(long, value_name = "FILE", requires = "filename")]
    namespaces: Option<PathBuf>,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    operator: OperatorArgs,
}

impl Bootstrap {
    /// Writes the policies.
    pub async fn answer(&self) -> Result<ExitCode, Error> {
        let view = match &self.filename {
            Some(file) => {
                let namespaces = self.namespaces.as_deref().map(files::namespaces).transpose()?;
                let mut view = view(self.operator.namespace()?, namespaces.unwrap_or_default());
                files::requests(file)?.into_iter().try_for_each(|request| view.take_request(request))?;
                view
            }
            None => self.of_cluster().await?,
        };
        let drafts = bootstrap::drafts(&view.world);
        for draft in &drafts {
            output::print(&text(draft)?)?;
        }
        let requests = drafts.iter().flat_map(|draft| &draft.requests).collect::<BTreeSet<_>>().len();
        output::tell(&format!("{} for {}", plural(drafts.len()), count(requests, "request")));
        for (request, why) in bootstrap::left_out(&view.world) {
            output::tell(&format!("left out: {request}: {why}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn of_cluster(&self) -> Result<View, Error> {
        let cluster = self.cluster.connect().await?;
        let (client, progress) = (&cluster.client, Progress::default());
        let namespace = self.cluster.named_namespace()?;
        let lists = async {
            tokio::try_join!(
                fetch::namespaces(client, &progress),
                fetch::requests(client, namespace.as_ref(), &progress)
            )
        };
        let (namespaces, requests) = progress.during("reading namespaces and requests", lists).await?;
        let mut view = view(self.operator.namespace()?, namespaces);
        requests.iter().for_each(|request| view.take_request_object(request));
        Ok(view)
    }
}

fn view(operator: NamespaceName, namespaces: Vec<Namespace>) -> View {
    View::of_namespaces(operator, jiff::Timestamp::now(), namespaces)
}

fn plural(policies: usize) -> String {
    format!("{policies} {}", if policies == 1 { "policy" } else { "policies" })
}

/// A document of its own, below a comment that says for whom it is.
fn text(draft: &Draft) -> Result<String, Error> {
    let requests: String = listed(&draft.requests).iter().map(|line| format!("# {line}\n")).collect();
    // Not by way of a JSON value: the fields stand in the order in which people write them.
    let policy = serde_saphyr::to_string(&draft.policy);
    let policy = policy.map_err(|error| Error::System("cannot write YAML", std::io::Error::other(error)))?;
    Ok(format!("---\n# For {}:\n{requests}{}\n", count(draft.requests.len(), "request"), policy.trim_end()))
}

fn listed(requests: &BTreeSet<RequestKey>) -> Vec<String> {
    let mut lines: Vec<_> = requests.iter().take(NAMED).map(ToString::to_string).collect();
    lines.extend(requests.len().checked_sub(NAMED + 1).map(|more| format!("and {} more", more + 1)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::SecretsDistribution, core::manifest};

    #[test]
    fn what_is_written_is_what_was_meant() {
        let requests = "\
- {metadata: {name: tls, namespace: a}, spec: {type: kubernetes.io/tls, secrets: [{from: C, to: tls.crt}, {from: K, to: tls.key}]}}
- {metadata: {name: tls, namespace: b}, spec: {type: kubernetes.io/tls, secrets: [{from: C, to: tls.crt}, {from: K, to: tls.key}]}}
- {metadata: {name: push, namespace: b}, spec: {adopt: true, namespaces: [a], secrets: [{from: D, to: d}]}}
";
        let mut view = view(NamespaceName::parse("operator").unwrap(), Vec::new());
        let requests: Vec<SecretsDistribution> = serde_saphyr::from_str(requests).unwrap();
        requests.into_iter().try_for_each(|request| view.take_request(request)).unwrap();
        let drafts = bootstrap::drafts(&view.world);
        let text: String = drafts.iter().map(|draft| text(draft).unwrap()).collect();
        let read = manifest::policies(&text).unwrap();
        assert_eq!(read, drafts.into_iter().map(|draft| draft.policy).collect::<Vec<_>>());
        assert!(text.starts_with("---\n# For 1 request:\n# b/push\napiVersion: xlscsde.nhs.uk/v1\n"), "{text}");
    }

    #[test]
    fn what_is_left_out_is_told_with_the_reason() {
        for (from, secret_type, why) in [
            ("../../token", "Opaque", "spec.secrets[0].from: "),
            ("A", "helm.sh/release.v1", "no policy can grant the reserved type helm.sh/release.v1"),
        ] {
            let object = serde_json::json!({
                "apiVersion": "xlscsde.nhs.uk/v1", "kind": "SecretsDistribution",
                "metadata": { "name": "r", "namespace": "a" },
                "spec": { "type": secret_type, "secrets": [{ "from": from, "to": "k" }] },
            });
            let mut view = view(NamespaceName::parse("operator").unwrap(), Vec::new());
            view.take_request_object(&serde_json::from_value(object).unwrap());
            let left_out: Vec<_> = bootstrap::left_out(&view.world).into_iter().collect();
            let [(key, reason)] = &left_out[..] else { panic!("{left_out:?}") };
            assert!(key.to_string() == "a/r" && reason.to_string().starts_with(why), "{left_out:?}");
            assert!(bootstrap::drafts(&view.world).is_empty());
        }
    }
}
