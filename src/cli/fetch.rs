//! Lists of the API server, page by page, with what is missing told.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::Namespace as KubeNamespace;
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams, ObjectList, PartialObjectMeta},
    core::ApiResource,
};
use serde::de::DeserializeOwned;

use super::{
    error::{Error, Right},
    progress::Progress,
};
use crate::{
    api::{DistributionPolicy, SecretsDistribution},
    core::{name::NamespaceName, policy::Namespace},
};

/// Objects in one answer: a cluster may have tens of thousands.
const PAGE: u32 = 1000;

/// Every policy.
pub async fn policies(client: &Client, progress: &Progress) -> Result<Vec<DynamicObject>, Error> {
    let api = Api::all_with(client.clone(), &ApiResource::erase::<DistributionPolicy>(&()));
    pages(&Right::to_list("distributionpolicies", None), progress, async |params| api.list(&params).await).await
}

/// Every request; of one namespace, if one is given.
pub async fn requests(
    client: &Client,
    namespace: Option<&NamespaceName>,
    progress: &Progress,
) -> Result<Vec<DynamicObject>, Error> {
    let (resource, namespace) = (ApiResource::erase::<SecretsDistribution>(&()), namespace.map(NamespaceName::as_str));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    pages(&Right::to_list("secretsdistributions", namespace), progress, async |params| api.list(&params).await).await
}

/// Every namespace, by its metadata.
pub async fn namespaces(client: &Client, progress: &Progress) -> Result<Vec<Namespace>, Error> {
    let api = Api::<KubeNamespace>::all(client.clone());
    let list = async |params| api.list_metadata(&params).await;
    let objects = pages(&Right::to_list_core("namespaces", None), progress, list).await?;
    Ok(objects.into_iter().filter_map(namespace).collect())
}

fn namespace(object: PartialObjectMeta<KubeNamespace>) -> Option<Namespace> {
    let name = NamespaceName::parse(&object.name_any()).ok()?;
    let terminating = object.metadata.deletion_timestamp.is_some();
    Some(Namespace { name, labels: object.metadata.labels.unwrap_or_default(), terminating })
}

/// All pages of a list.
pub async fn pages<K: Clone + Debug + DeserializeOwned>(
    right: &Right,
    progress: &Progress,
    list: impl AsyncFn(ListParams) -> Result<ObjectList<K>, kube::Error>,
) -> Result<Vec<K>, Error> {
    let (mut items, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = list(params.clone()).await.map_err(|error| Error::of_call(error, right))?;
        progress.add(page.items.len());
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
}
