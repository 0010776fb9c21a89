//! What a node would do for the operator's Deployment: there is none here.

use std::{collections::BTreeMap, convert::Infallible, path::Path, time::Duration};

use anyhow::Result;
use e2e::{ControlPlane, Operator, OperatorConfig, helm::digest_key, site::SOON};
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

/// Namespace of the operator.
pub const HOME: &str = "secrets-distributor-system";
/// Its user name.
pub const USER: &str = "system:serviceaccount:secrets-distributor-system:secrets-distributor";

const NAME: &str = "secrets-distributor";
const POLL: Duration = Duration::from_millis(100);

/// Runs the operator as a process while its Deployment wants a replica, with the environment that stands there and the
/// rights of its ServiceAccount, starts it again when that environment changes, and says in the status that it is ready.
pub async fn run(cluster: &ControlPlane, mount: &Path) -> Result<Infallible> {
    let deployments = Api::<Deployment>::namespaced(cluster.client().await?, HOME);
    let mut running: Option<(BTreeMap<String, String>, Operator)> = None;
    loop {
        let deployment = deployments.get_opt(NAME).await?;
        let wanted = deployment.as_ref().filter(|deployment| replicas(deployment) > 0).map(environment);
        if running.as_ref().map(|(environment, _)| environment) != wanted.as_ref() {
            if let Some((_, mut operator)) = running.take() {
                operator.terminate(SOON).await?;
            }
            if let Some(environment) = wanted {
                running = Some((environment.clone(), start(cluster, mount, environment).await?));
            }
        }
        if let Some(deployment) = deployment {
            tell(&deployments, &deployment).await?;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn replicas(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// What the chart says itself; what is told from the pod, a process has not.
fn environment(deployment: &Deployment) -> BTreeMap<String, String> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let variables =
        pod.into_iter().flat_map(|pod| &pod.containers).flat_map(|container| container.env.iter().flatten());
    variables.filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?))).collect()
}

async fn start(cluster: &ControlPlane, mount: &Path, environment: BTreeMap<String, String>) -> Result<Operator> {
    let config = OperatorConfig {
        namespace: HOME.to_owned(),
        digest_key: digest_key(cluster, HOME).await?,
        environment: environment.into_iter().collect(),
        ..OperatorConfig::new(mount)
    };
    let mut operator = Operator::start(cluster, config).await?;
    operator.wait_ready(SOON).await?;
    Ok(operator)
}

async fn tell(deployments: &Api<Deployment>, deployment: &Deployment) -> Result<()> {
    let generation = deployment.metadata.generation;
    if deployment.status.as_ref().and_then(|status| status.observed_generation) == generation {
        return Ok(());
    }
    let ready = replicas(deployment);
    let status = json!({
        "observedGeneration": generation, "replicas": ready, "updatedReplicas": ready, "readyReplicas": ready,
        "availableReplicas": ready,
    });
    deployments.patch_status(NAME, &PatchParams::default(), &Patch::Merge(json!({ "status": status }))).await?;
    Ok(())
}
