//! The demo on a cluster that somebody else owns: it takes along what it brought, and nothing more.

use std::collections::BTreeSet;
use std::fmt::Debug;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::ListParams;
use secrets_distributor::api::DistributionPolicy;
use serde::de::DeserializeOwned;

use super::{NAMESPACE, POLICY};
use crate::{ControlPlane, Operator};

/// What the demo brings to a cluster.
pub(super) struct Guest {
    brought: Vec<String>,
}

impl Guest {
    /// Looks around before anything is installed. Refuses to touch what is not the demo's own.
    pub(super) async fn arrive(cluster: &ControlPlane) -> Result<Self> {
        let client = cluster.client().await?;
        let namespace = exists(&Api::<Namespace>::all(client.clone()), NAMESPACE).await?;
        let policy = exists(&Api::<DistributionPolicy>::all(client.clone()), POLICY).await?;
        for (exists, what) in [(namespace, format!("namespace {NAMESPACE}")), (policy, format!("dp {POLICY}"))] {
            ensure!(
                !exists,
                "the cluster has a {what} already, which the demo would change and delete. \
                 Delete it (kubectl delete {what}), or use another cluster"
            );
        }
        let pods = Api::<Pod>::namespaced(client, Operator::NAMESPACE).list(&ListParams::default()).await?;
        ensure!(
            pods.items.is_empty(),
            "pods run in namespace {} of this cluster: the operator's, probably. Two operators would overwrite each \
             other's Secrets; use another cluster",
            Operator::NAMESPACE
        );
        Ok(Self { brought: what_is_missing(cluster).await? })
    }

    /// Deletes what the demo brought. The operator must have been stopped.
    pub(super) async fn leave(self, cluster: &ControlPlane) -> Result<()> {
        let own = [format!("namespace/{NAMESPACE}")];
        let policy = format!("distributionpolicy/{POLICY}");
        // With the kinds all of their objects go; without them kubectl would not know what the policy is.
        if !self.brought.iter().any(|name| name.starts_with("customresourcedefinition")) {
            delete(cluster, &[policy]).await?;
        }
        delete(cluster, &own).await?;
        delete(cluster, &self.brought).await
    }
}

/// Also without the kind there is no such object.
async fn exists<K: DeserializeOwned + Clone + Debug>(api: &Api<K>, name: &str) -> Result<bool> {
    match api.get_metadata(name).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What is to be installed and the cluster does not have.
async fn what_is_missing(cluster: &ControlPlane) -> Result<Vec<String>> {
    let folders = crate::INSTALLED.map(|folder| crate::repository().join(folder));
    let names = async |verb: &[&str]| -> Result<BTreeSet<String>> {
        let mut call = cluster.kubectl(verb).args(["-o", "name"]);
        for folder in &folders {
            call = call.arg("-f").arg(folder);
        }
        Ok(call.succeed().await?.lines().map(str::to_owned).collect())
    };
    let all = names(&["create", "--dry-run=client"]).await?;
    let there = names(&["get", "--ignore-not-found"]).await?;
    Ok(all.difference(&there).cloned().collect())
}

async fn delete(cluster: &ControlPlane, names: &[String]) -> Result<()> {
    if !names.is_empty() {
        let namespace = ["--namespace", Operator::NAMESPACE];
        let call = cluster.kubectl(["delete", "--ignore-not-found", "--timeout=60s"]).args(namespace);
        call.args(names).succeed().await?;
    }
    Ok(())
}
