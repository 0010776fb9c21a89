//! The floor: a client that knows beforehand all there is to write, writes what the operator writes, and nothing else.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use secrets_distributor::api::SecretsDistribution;
use serde_json::{Value, json};

use super::AT_A_TIME;
use crate::site::Tenant;

/// What it writes: a Secret and a status of the operator's.
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

    /// Writes Secret and status of each request; answers in how many seconds.
    pub(super) async fn distribute(&self, requests: &[SecretsDistribution]) -> Result<f64> {
        let begun = Instant::now();
        let writes = stream::iter(requests).map(|request| async move {
            self.secrets_of(request).create(&PostParams::default(), &self.secret_for(request)?).await?;
            let api: Api<SecretsDistribution> = Api::namespaced(self.client.clone(), &namespace(request));
            let status = Patch::Merge(json!({ "status": self.status }));
            api.patch_status(&request.name_any(), &PatchParams::default(), &status).await?;
            anyhow::Ok(())
        });
        writes.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await?;
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Writes new content, a text for each key, into the Secret of each request; answers in how many seconds.
    pub(super) async fn rotate(&self, requests: &[SecretsDistribution], contents: Value) -> Result<f64> {
        let begun = Instant::now();
        let patch = Patch::Merge(json!({ "stringData": contents }));
        let writes = stream::iter(requests).map(|request| async {
            let name = request.name_any();
            anyhow::Ok(self.secrets_of(request).patch(&name, &PatchParams::default(), &patch).await.map(drop)?)
        });
        writes.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await?;
        Ok(begun.elapsed().as_secs_f64())
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

fn namespace(request: &SecretsDistribution) -> String {
    request.namespace().unwrap_or_default()
}
