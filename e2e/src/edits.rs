//! What people and their tools do to a tenant's objects, and how a test sees that the operator did nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use secrets_distributor::api::{SecretsDistribution, SecretsDistributionStatus};
use serde_json::{Value, json};

use crate::site::{SOON, Site, Tenant, condition};
use crate::{AuditEntries, Mark, Operator, eventually};

/// The spec of a request for one source under the key `k`, and more fields.
pub fn asks(source: &str, more: Value) -> Value {
    let mut spec = json!({ "secrets": [{ "from": source, "to": "k" }] });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    spec
}

/// The destinations that a status names, each with its state and reason.
pub fn targets_of(status: &SecretsDistributionStatus) -> Vec<(String, String, String)> {
    let told = status.targets.iter();
    told.map(|t| (t.namespace.clone(), format!("{:?}", t.state), t.reason.clone().unwrap_or_default())).collect()
}

/// Whether the condition Ready is True.
pub fn is_ready(status: &SecretsDistributionStatus) -> bool {
    condition(status, "Ready").is_some_and(|ready| ready.status == "True")
}

impl Site {
    /// Waits until exactly so many requests are Ready, in all namespaces.
    pub async fn until_all_ready(&self, count: usize, within: Duration) -> Result<()> {
        let all: Api<SecretsDistribution> = Api::all(self.cluster.client().await?);
        eventually(within, "all are Ready", async || {
            // Not more often: the API server has other things to do.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let list = all.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let ready = list.items.iter().filter(|request| request.status.as_ref().is_some_and(is_ready)).count();
            if ready == count { Ok(()) } else { Err(format!("{ready} of {count}")) }
        })
        .await
    }

    /// A source, and a delegated namespace that is granted it.
    pub async fn tenant_with(&self, source: &str, content: &[u8]) -> Result<Tenant<'_>> {
        self.sources.set(&[(source, content)])?;
        let tenant = self.tenant(&source.to_lowercase()).await?;
        tenant.grant(&[source]).await?;
        Ok(tenant)
    }

    /// The same, with a request `r` that has the source under `k` of its Secret, and says so.
    pub async fn served_tenant(&self, source: &str, content: &[u8]) -> Result<Tenant<'_>> {
        let tenant = self.tenant_with(source, content).await?;
        tenant.request("r", json!({ "secrets": [{ "from": source, "to": "k" }] })).await?;
        tenant.until_content("r", "k", content).await?;
        tenant.until_ready("r").await?;
        Ok(tenant)
    }

    /// A namespace that exists already, such as kube-system.
    pub async fn existing(&self, namespace: &str) -> Result<Tenant<'_>> {
        Ok(Tenant { site: self, namespace: namespace.to_owned(), client: self.cluster.client().await? })
    }

    /// A new namespace of that name and with those labels; not delegated.
    pub async fn named_tenant(&self, name: &str, labels: Value) -> Result<Tenant<'_>> {
        let tenant = self.existing(name).await?;
        let object = json!({ "metadata": { "name": name, "labels": labels } });
        tenant.namespaces().create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(tenant)
    }

    /// A place in the API server's audit log.
    pub async fn mark(&self) -> Result<Mark> {
        self.cluster.audit().context("the scenarios need an audit log: unset E2E_KUBECONFIG")?.mark().await
    }

    /// What the operator wrote (or tried to write) in a namespace since the mark, but for events: they follow what
    /// they tell of.
    pub async fn writes_since(&self, mark: Mark, tenant: &Tenant<'_>) -> Result<AuditEntries> {
        let audit = self.cluster.audit().context("no audit log")?;
        let writes = audit.since(mark).await?.user(Operator::USER).writes().namespace(&tenant.namespace);
        Ok(writes.only(|entry| entry.object_ref.resource != "events"))
    }

    /// That the operator writes no Secret and no status in these namespaces for a while. Events come after the
    /// status that a test has waited for.
    pub async fn stays_quiet(&self, tenants: &[&Tenant<'_>]) -> Result<()> {
        let mark = self.mark().await?;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        for tenant in tenants {
            let writes = self.writes_since(mark, tenant).await?.only(|entry| entry.object_ref.resource != "events");
            ensure!(writes.is_empty(), "the operator writes: {:#?}", &*writes);
        }
        Ok(())
    }
}

impl Tenant<'_> {
    /// That no Secret here and no status is changed for a while, however often they are looked at.
    pub async fn stays_as_it_is(&self) -> Result<()> {
        let versions = async || {
            let secrets = self.secrets().list_metadata(&ListParams::default()).await?.items;
            let requests = self.requests().list_metadata(&ListParams::default()).await?.items;
            let metadata = secrets.into_iter().map(|s| s.metadata).chain(requests.into_iter().map(|r| r.metadata));
            anyhow::Ok(metadata.map(|meta| (meta.uid, meta.resource_version)).collect::<Vec<_>>())
        };
        let before = versions().await?;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        ensure!(versions().await? == before, "something was changed in {}", self.namespace);
        Ok(())
    }

    /// Creates a Secret with the given metadata, data (as text) and more.
    pub async fn create_secret(&self, name: &str, object: Value) -> Result<Secret> {
        let mut object = object;
        object["metadata"]["name"] = json!(name);
        let secret: Secret = serde_json::from_value(object)?;
        let params = PostParams { field_manager: Some("somebody".into()), ..PostParams::default() };
        Ok(self.secrets().create(&params, &secret).await?)
    }

    /// Changes a Secret by a merge patch.
    pub async fn patch_secret(&self, name: &str, patch: Value) -> Result<Secret> {
        let params = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
        Ok(self.secrets().patch(name, &params, &Patch::Merge(patch)).await?)
    }

    /// Deletes a Secret.
    pub async fn delete_secret(&self, name: &str) -> Result<()> {
        self.secrets().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Changes the metadata of a request by a merge patch.
    pub async fn patch_request(&self, name: &str, patch: Value) -> Result<SecretsDistribution> {
        Ok(self.requests().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
    }

    /// Deletes a request.
    pub async fn delete_request(&self, name: &str) -> Result<()> {
        self.requests().delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Sets labels of the namespace; null removes one.
    pub async fn label(&self, labels: Value) -> Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        self.namespaces().patch(&self.namespace, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Deletes the namespace.
    pub async fn delete_namespace(&self) -> Result<()> {
        self.namespaces().delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the namespace is gone.
    pub async fn until_namespace_gone(&self) -> Result<()> {
        let namespaces = self.namespaces();
        eventually(SOON, &format!("namespace {} is gone", self.namespace), async || {
            match namespaces.get_opt(&self.namespace).await {
                Ok(None) => Ok(()),
                Ok(Some(found)) => Err(format!("{:?}", found.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// Waits until the Secret is as wanted; answers with it.
    pub async fn until_secret(&self, name: &str, what: &str, wanted: impl Fn(&Secret) -> bool) -> Result<Secret> {
        eventually(SOON, &format!("Secret {}/{name}: {what}", self.namespace), async || {
            let secret = self.secret(name).await.map_err(|error| error.to_string())?.ok_or("no such Secret")?;
            if wanted(&secret) { Ok(secret) } else { Err(format!("{:?}", secret.metadata)) }
        })
        .await
    }

    /// That a Secret is exactly as it was seen, its version included.
    pub async fn assert_untouched(&self, seen: &Secret) -> Result<()> {
        let name = seen.metadata.name.as_deref().unwrap_or_default();
        let now = self.secret(name).await?;
        ensure!(
            now.as_ref() == Some(seen),
            "Secret {}/{name} was touched: {:#?}",
            self.namespace,
            now.map(|s| s.metadata)
        );
        Ok(())
    }

    fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }
}
