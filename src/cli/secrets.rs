//! The Secrets that the operator has written, by their metadata: their content is never asked for.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};

use super::{
    cluster::Cluster,
    error::{Error, Right},
    fetch,
    progress::Progress,
};
use crate::{
    api::names,
    core::{
        name::{NamespaceName, SecretName, Target},
        observed::Observed,
    },
};

/// A Secret as it was listed.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which one.
    pub target: Target,
    /// What its metadata says.
    pub observed: Observed,
    /// Since when it exists, RFC 3339.
    pub created: Option<String>,
}

/// The Secrets that carry the operator's label. None, if the caller may not list Secrets.
pub async fn listed(cluster: &Cluster) -> Result<Option<Vec<Found>>, Error> {
    let (api, progress) = (Api::<Secret>::all(cluster.client.clone()), Progress::default());
    let list = async |params: ListParams| api.list_metadata(&params.labels(names::OWNER_UID)).await;
    let right = Right::to_list_core("secrets", None);
    let listed = progress.during("reading the metadata of Secrets", fetch::pages(&right, &progress, list)).await;
    let listed = match listed {
        Err(Error::Forbidden(_)) => return Ok(None),
        listed => listed?,
    };
    let found = listed.into_iter().filter_map(|secret| {
        let meta = secret.metadata;
        let namespace = NamespaceName::parse(meta.namespace.as_deref()?).ok()?;
        let target = Target { namespace, name: SecretName::parse(meta.name.as_deref()?).ok()? };
        let created = meta.creation_timestamp.as_ref().map(|time| time.0.to_string());
        Some(Found { target, observed: Observed::parse(meta), created })
    });
    Ok(Some(found.collect()))
}
