//! The floor: a client that knows beforehand all there is to write, writes what the operator writes, and nothing else.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use secrets_distributor::api::SecretsDistribution;
use serde_json::{Value, json};

use super::AT_A_TIME;
use crate::site::Tenant;

/// What it writes: a Secret and a status of the operator's. Whatever it does, it answers in how many seconds.
pub(super) struct Ideal {
    client: Client,
    secret: Value,
    status: Value,
}

impl Ideal {
    /// Learns what to write from a request that the operator has served.
    pub(super) async fn learn(tenant: &Tenant<'_>, request: &str) -> Result<Self> {
        let client = tenant.site.cluster.client().await?;
        let secret = serde_json::to_value(tenant.secret(request).await?.context("no Secret")?)?;
        let (labels, annotations) = (&secret["metadata"]["labels"], &secret["metadata"]["annotations"]);
        let metadata = json!({ "labels": labels, "annotations": annotations });
        let secret = json!({ "metadata": metadata, "type": secret["type"], "data": secret["data"] });
        let status = tenant.requests().get(request).await?.status.context("no status")?;
        Ok(Self { client, secret, status: serde_json::to_value(status)? })
    }

    /// Writes Secret and status of each request.
    pub(super) async fn distribute(&self, requests: &[SecretsDistribution]) -> Result<f64> {
        timed(requests, async |request| {
            self.secrets_of(request).create(&PostParams::default(), &self.secret_for(request)?).await?;
            let api: Api<SecretsDistribution> = Api::namespaced(self.client.clone(), &namespace(request));
            let status = Patch::Merge(json!({ "status": self.status }));
            api.patch_status(&request.name_any(), &PatchParams::default(), &status).await?;
            Ok(())
        })
        .await
    }

    /// Writes the Secret of each request.
    pub(super) async fn write(&self, requests: &[SecretsDistribution]) -> Result<f64> {
        timed(requests, async |request| {
            self.secrets_of(request).create(&PostParams::default(), &self.secret_for(request)?).await?;
            Ok(())
        })
        .await
    }

    /// Writes a Secret of that name into each namespace.
    pub(super) async fn fan_out(&self, namespaces: &[String], name: &str) -> Result<f64> {
        let mut secret = self.secret.clone();
        secret["metadata"]["name"] = json!(name);
        let secret: Secret = serde_json::from_value(secret)?;
        timed(namespaces, async |namespace| {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            api.create(&PostParams::default(), &secret).await?;
            Ok(())
        })
        .await
    }

    /// Writes new content, a text for each key, into the Secret of each request.
    pub(super) async fn rotate(&self, requests: &[SecretsDistribution], contents: &Value) -> Result<f64> {
        let patch = Patch::Merge(json!({ "stringData": contents }));
        timed(requests, async |request| {
            self.secrets_of(request).patch(&request.name_any(), &PatchParams::default(), &patch).await?;
            Ok(())
        })
        .await
    }

    /// Deletes the Secret of each request.
    pub(super) async fn delete(&self, requests: &[SecretsDistribution]) -> Result<f64> {
        timed(requests, async |request| {
            self.secrets_of(request).delete(&request.name_any(), &DeleteParams::default()).await?;
            Ok(())
        })
        .await
    }

    fn secrets_of(&self, request: &SecretsDistribution) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &namespace(request))
    }

    fn secret_for(&self, request: &SecretsDistribution) -> Result<Secret> {
        let mut secret = self.secret.clone();
        secret["metadata"]["name"] = json!(request.name_any());
        secret["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "xlscsde.nhs.uk/v1",
            "kind": "SecretsDistribution",
            "name": request.name_any(),
            "uid": request.uid(),
            "controller": true,
        }]);
        Ok(serde_json::from_value(secret)?)
    }
}

/// Does it for all, as many at a time as the operator; answers in how many seconds.
async fn timed<T>(all: &[T], one: impl AsyncFn(&T) -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    stream::iter(all).map(|each| one(each)).buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await?;
    Ok(begun.elapsed().as_secs_f64())
}

fn namespace(request: &SecretsDistribution) -> String {
    request.namespace().unwrap_or_default()
}
