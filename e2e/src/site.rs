//! A cluster with the operator at work on it, as a platform team would have it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Event, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use secrets_distributor::api::{DistributionPolicy, SecretsDistribution, SecretsDistributionStatus};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{ControlPlane, Mount, Operator, OperatorConfig, eventually};

/// How long a change may take to show. Generous: what is tested is that it comes about, not how fast.
pub const SOON: Duration = Duration::from_secs(20);

/// A control plane, the operator's CRDs and rights, a mounted folder, and the operator.
pub struct Site {
    /// The cluster.
    pub cluster: ControlPlane,
    /// The sources, as the kubelet mounts them.
    pub sources: Sources,
    operator: Mutex<Operator>,
}

/// The mounted folder: each source can be set by itself; every change is a new generation of all.
pub struct Sources {
    mount: Mount,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl Sources {
    fn new(mount: Mount) -> Result<Self> {
        let sources = Self { mount, files: Mutex::default() };
        sources.set(&[("Always", b"there")])?;
        Ok(sources)
    }

    /// Sets some sources, in one new generation.
    pub fn set(&self, sources: &[(&str, &[u8])]) -> Result<()> {
        self.change(|files| files.extend(sources.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec()))))
    }

    /// Removes a source, in a new generation.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.change(|files| drop(files.remove(name)))
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut files);
        self.mount.write(&files.iter().collect::<Vec<_>>())
    }

    /// The folder itself.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }
}

impl Site {
    /// Starts one with the operator's settings as they are by default.
    pub async fn start() -> Result<Self> {
        let cluster = ControlPlane::start().await?;
        cluster.install().await?;
        let sources = Sources::new(cluster.mount()?)?;
        let operator = run_operator(&cluster, &sources).await?;
        Ok(Self { cluster, sources, operator: Mutex::new(operator) })
    }

    /// The one that all tests of this process share.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Site> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// Kills the operator and starts it again.
    pub async fn restart_operator(&self) -> Result<()> {
        self.kill_operator()?;
        self.start_operator().await
    }

    /// SIGKILL.
    pub fn kill_operator(&self) -> Result<()> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner).kill()?;
        Ok(())
    }

    /// Starts the operator, which was killed.
    pub async fn start_operator(&self) -> Result<()> {
        let operator = run_operator(&self.cluster, &self.sources).await?;
        *self.operator.lock().unwrap_or_else(PoisonError::into_inner) = operator;
        Ok(())
    }

    /// What the operator has logged since it was started.
    pub fn operator_logs(&self) -> String {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner).logs()
    }

    /// A new namespace; delegated to the operator.
    pub async fn tenant(&self, prefix: &str) -> Result<Tenant<'_>> {
        let tenant = self.undelegated_tenant(prefix).await?;
        tenant.delegate().await?;
        Ok(tenant)
    }

    /// A new namespace; not delegated.
    pub async fn undelegated_tenant(&self, prefix: &str) -> Result<Tenant<'_>> {
        let namespace = self.cluster.namespace(prefix).await?;
        Ok(Tenant { site: self, namespace, client: self.cluster.client().await? })
    }

    /// Creates or replaces a policy.
    pub async fn policy(&self, name: &str, spec: Value) -> Result<()> {
        let policies: Api<DistributionPolicy> = Api::all(self.cluster.client().await?);
        let object = json!({
            "apiVersion": "xlscsde.nhs.uk/v1",
            "kind": "DistributionPolicy",
            "metadata": { "name": name },
            "spec": spec,
        });
        policies.patch(name, &PatchParams::apply("platform-team").force(), &Patch::Apply(object)).await?;
        Ok(())
    }

    /// Deletes a policy.
    pub async fn delete_policy(&self, name: &str) -> Result<()> {
        let policies: Api<DistributionPolicy> = Api::all(self.cluster.client().await?);
        policies.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }
}

async fn run_operator(cluster: &ControlPlane, sources: &Sources) -> Result<Operator> {
    let mut operator = Operator::start(cluster, OperatorConfig::new(sources.mount.path())).await?;
    operator.wait_ready(SOON).await?;
    Ok(operator)
}

/// A namespace and what its people do in it.
pub struct Tenant<'a> {
    /// Where it is.
    pub site: &'a Site,
    /// Its name.
    pub namespace: String,
    pub(crate) client: Client,
}

impl Tenant<'_> {
    /// Its requests.
    pub fn requests(&self) -> Api<SecretsDistribution> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Its Secrets.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Binds the tenant role to the operator in this namespace, as `rbac/delegation` does.
    pub async fn delegate(&self) -> Result<()> {
        self.site.cluster.delegate(&self.namespace).await
    }

    /// Grants sources to this namespace, to any key; the policy has the namespace's name.
    pub async fn grant(&self, sources: &[&str]) -> Result<()> {
        let spec = json!({
            "namespaces": { "names": [self.namespace] },
            "rules": [{ "effect": "Allow", "sources": sources }],
        });
        self.site.policy(&self.namespace, spec).await
    }

    /// Creates a request.
    pub async fn request(&self, name: &str, spec: Value) -> Result<SecretsDistribution> {
        let object = json!({
            "apiVersion": "xlscsde.nhs.uk/v1",
            "kind": "SecretsDistribution",
            "metadata": { "name": name, "namespace": self.namespace },
            "spec": spec,
        });
        let object: SecretsDistribution = serde_json::from_value(object)?;
        Ok(self.requests().create(&PostParams::default(), &object).await?)
    }

    /// Changes a request's spec by a merge patch.
    pub async fn change(&self, name: &str, spec: Value) -> Result<SecretsDistribution> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        Ok(self.requests().patch(name, &PatchParams::default(), &patch).await?)
    }

    /// Waits until the status of the request's current generation satisfies.
    pub async fn until<T>(
        &self,
        name: &str,
        what: &str,
        satisfied: impl Fn(&SecretsDistributionStatus) -> Option<T>,
    ) -> Result<T> {
        let requests = self.requests();
        eventually(SOON, &format!("{}/{name}: {what}", self.namespace), async || {
            let object = requests.get(name).await.map_err(|error| error.to_string())?;
            let status = object.status.clone().unwrap_or_default();
            if status.observed_generation != object.metadata.generation {
                return Err(format!("a status of generation {:?}", status.observed_generation));
            }
            satisfied(&status).ok_or_else(|| format!("{status:#?}"))
        })
        .await
    }

    /// Waits until the request is Ready.
    pub async fn until_ready(&self, name: &str) -> Result<SecretsDistributionStatus> {
        let ready = |status: &SecretsDistributionStatus| condition(status, "Ready").is_some_and(|c| c.status == "True");
        self.until(name, "Ready", |status| ready(status).then(|| status.clone())).await
    }

    /// Waits until the condition has that status and reason; answers with its message.
    pub async fn until_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        self.until(name, &format!("{kind}={status} {reason}"), |found| {
            let condition = condition(found, kind)?;
            (condition.status == status && condition.reason == reason).then(|| condition.message.clone())
        })
        .await
    }

    /// A Secret of this namespace, if it is there.
    pub async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        Ok(self.secrets().get_opt(name).await?)
    }

    /// Waits until the Secret has this content under the key.
    pub async fn until_content(&self, name: &str, key: &str, content: &[u8]) -> Result<Secret> {
        eventually(SOON, &format!("Secret {}/{name} has the content in {key}", self.namespace), async || {
            let secret = self.secret(name).await.map_err(|error| error.to_string())?.ok_or("no such Secret")?;
            let found = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
            match found {
                Some(bytes) if bytes == content => Ok(secret),
                Some(bytes) => Err(format!("{} bytes of other content", bytes.len())),
                None => Err("no such key".to_owned()),
            }
        })
        .await
    }

    /// Waits until the Secret is not there.
    pub async fn until_gone(&self, name: &str) -> Result<()> {
        eventually(SOON, &format!("Secret {}/{name} is gone", self.namespace), async || match self.secret(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("it is there".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    /// Creates a Secret as somebody else.
    pub async fn foreign_secret(&self, name: &str, data: &[(&str, &[u8])]) -> Result<Secret> {
        let data = data.iter().map(|(key, bytes)| (key.to_string(), k8s_openapi::ByteString(bytes.to_vec())));
        let metadata = kube::api::ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
        let secret = Secret { metadata, data: Some(data.collect()), ..Default::default() };
        Ok(self.secrets().create(&PostParams::default(), &secret).await?)
    }

    /// Waits for an event about the request with this reason; answers with its note.
    pub async fn until_event(&self, request: &str, reason: &str) -> Result<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        eventually(SOON, &format!("event {reason} about {request}"), async || {
            let all = events.list(&Default::default()).await.map_err(|error| error.to_string())?;
            let about = all.items.into_iter().filter(|e| e.involved_object.name.as_deref() == Some(request));
            let mut seen = Vec::new();
            for event in about {
                if event.reason.as_deref() == Some(reason) {
                    return Ok(event.message.unwrap_or_default());
                }
                seen.extend(event.reason);
            }
            Err(format!("{seen:?}"))
        })
        .await
    }
}

/// A condition of a status.
pub fn condition<'a>(status: &'a SecretsDistributionStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Resource version: whether an object was written between two looks.
pub fn version(secret: &Secret) -> Result<String> {
    secret.resource_version().context("no resource version")
}
