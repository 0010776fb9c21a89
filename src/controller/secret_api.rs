//! The calls that touch Secrets. Every answer is metadata only: a value never comes back.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec},
    core::v1::Secret,
};
use kube::{
    Api, Client,
    api::{DeleteParams, GetParams, PartialObjectMeta, PostParams, Preconditions, Request},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::secret_body::{Whole, changes};
use crate::{
    access::SecretsAccess,
    api::{Enforcement, names},
    core::{
        name::{NamespaceName, Target},
        observed::Observed,
        render::Rendered,
    },
    error::ApiFailure,
};

/// Asks for the metadata alone.
pub(super) const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// Creates, changes and deletes Secrets.
#[derive(Clone)]
pub struct SecretApi {
    client: Client,
    timeout: Duration,
    access: SecretsAccess,
    enforcement: Enforcement,
}

impl SecretApi {
    /// No call takes longer than `timeout`. In Audit none changes anything.
    pub fn new(client: Client, timeout: Duration, access: SecretsAccess, enforcement: Enforcement) -> Self {
        Self { client, timeout, access, enforcement }
    }

    /// Before every write: in Audit its failure tells what it would have done.
    pub fn enforce(&self, would: &'static str) -> Result<(), ApiFailure> {
        match self.enforcement {
            Enforcement::Enforce => Ok(()),
            Enforcement::Audit => Err(ApiFailure::NotEnforced(would)),
        }
    }

    /// Before a Secret is created: in Audit it is looked whether it could be.
    pub async fn enforce_creation(&self, target: &Target) -> Result<(), ApiFailure> {
        match self.enforce("created") {
            Err(_) if self.look(target).await?.is_some() => Err(ApiFailure::AlreadyExists),
            enforced => enforced,
        }
    }

    /// Whether what changes is told by a watch.
    pub fn are_watched(&self) -> bool {
        self.access == SecretsAccess::Watch
    }

    /// Whether the operator may do this with the Secrets of a namespace, as the API server sees it.
    pub async fn may(&self, namespace: &NamespaceName, verb: &str) -> Result<bool, ApiFailure> {
        let attributes = ResourceAttributes {
            namespace: Some(namespace.to_string()),
            verb: Some(verb.into()),
            version: Some("v1".into()),
            resource: Some("secrets".into()),
            ..Default::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let (reviews, params) = (Api::all(self.client.clone()), PostParams::default());
        let reviewed = tokio::time::timeout(self.timeout, reviews.create(&params, &review)).await;
        let reviewed = reviewed.map_err(|_| ApiFailure::Unreachable)??;
        Ok(reviewed.status.is_some_and(|status| status.allowed))
    }

    /// Creates; never touches a Secret that exists.
    pub async fn create(&self, rendered: &Rendered) -> Result<Observed, ApiFailure> {
        self.enforce("created")?;
        let target = rendered.permit().target();
        let params = PostParams { field_manager: Some(names::FIELD_MANAGER.into()), ..Default::default() };
        let body = serialize(&Whole::of(rendered, &target, None))?;
        let request = resource(&target).create(&params, body).map_err(|_| ApiFailure::Garbled)?;
        self.metadata(request).await
    }

    /// Changes the Secret that was observed, and no other version of it.
    pub async fn change(&self, rendered: &Rendered, observed: &Observed) -> Result<Observed, ApiFailure> {
        self.enforce("changed")?;
        let target = rendered.permit().target();
        let body = serialize(&changes(rendered, observed))?;
        self.patch(&target, "application/json-patch+json", "", body).await
    }

    /// Makes the operator the holder of content that already is as it shall be: a change would leave it with
    /// whoever wrote it, and an edit of it could not be told from theirs.
    pub async fn claim(&self, rendered: &Rendered, observed: &Observed) -> Result<Observed, ApiFailure> {
        self.enforce("changed")?;
        let target = rendered.permit().target();
        let body = serialize(&Whole::of(rendered, &target, Some(observed)))?;
        self.patch(&target, "application/apply-patch+yaml", "&force=true", body).await
    }

    /// Writes down since when the grant is gone.
    pub async fn mark_revoked(
        &self,
        target: &Target,
        observed: &Observed,
        since: Timestamp,
    ) -> Result<Observed, ApiFailure> {
        self.enforce("deleted after its grace period")?;
        let metadata = json!({
            "uid": observed.uid.as_str(),
            "resourceVersion": observed.resource_version,
            "annotations": { names::REVOKED_AT: since.to_string() },
        });
        let body = serialize(&json!({ "metadata": metadata }))?;
        self.patch(target, "application/merge-patch+json", "", body).await
    }

    /// Deletes the Secret that was observed, and no other version of it. Answers with what is still there, if a
    /// finalizer holds it.
    pub async fn delete(&self, target: &Target, observed: &Observed) -> Result<Option<Observed>, ApiFailure> {
        self.enforce("deleted")?;
        let preconditions = Preconditions {
            uid: Some(observed.uid.to_string()),
            resource_version: Some(observed.resource_version.clone()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..Default::default() };
        let request = resource(target).delete(target.name.as_str(), &params).map_err(|_| ApiFailure::Garbled)?;
        match self.metadata(request).await {
            // Of what is gone the answer is a Status, whose metadata is empty.
            Ok(answer) => Ok(Some(answer).filter(|held| held.deleting)),
            // It came about, whatever the answer says of it.
            Err(ApiFailure::NotFound | ApiFailure::Garbled) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Looks at the metadata of whatever stands there.
    pub async fn look(&self, target: &Target) -> Result<Option<Observed>, ApiFailure> {
        let found = match self.access {
            SecretsAccess::Watch => self.get(target).await,
            // A change that changes nothing: the API server answers with what is there, and stores nothing.
            SecretsAccess::WriteOnly => self.patch(target, "application/merge-patch+json", "", b"{}".to_vec()).await,
        };
        match found {
            Ok(observed) => Ok(Some(observed)),
            Err(ApiFailure::NotFound) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn get(&self, target: &Target) -> Result<Observed, ApiFailure> {
        let request = resource(target).get_metadata(target.name.as_str(), &GetParams::default());
        self.metadata(request.map_err(|_| ApiFailure::Garbled)?).await
    }

    async fn patch(&self, target: &Target, mime: &str, more: &str, body: Vec<u8>) -> Result<Observed, ApiFailure> {
        let path = format!(
            "/api/v1/namespaces/{}/secrets/{}?fieldManager={}{more}",
            target.namespace,
            target.name,
            names::FIELD_MANAGER
        );
        let request = http::Request::patch(path).header(http::header::CONTENT_TYPE, mime).body(body);
        self.metadata(request.map_err(|_| ApiFailure::Garbled)?).await
    }

    async fn metadata(&self, mut request: http::Request<Vec<u8>>) -> Result<Observed, ApiFailure> {
        request.headers_mut().insert(http::header::ACCEPT, http::HeaderValue::from_static(METADATA_ONLY));
        let Ok(answer) = tokio::time::timeout(self.timeout, self.client.request_text(request)).await else {
            return Err(ApiFailure::Unreachable);
        };
        let object: PartialObjectMeta<Secret> = parse(&answer?)?;
        Ok(Observed::parse(object.metadata))
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ApiFailure> {
    // The error would quote the answer.
    serde_json::from_str(text).map_err(|_| ApiFailure::Garbled)
}

fn serialize(body: &impl Serialize) -> Result<Vec<u8>, ApiFailure> {
    serde_json::to_vec(body).map_err(|_| ApiFailure::Garbled)
}

fn resource(target: &Target) -> Request {
    Request::new(format!("/api/v1/namespaces/{}/secrets", target.namespace))
}
