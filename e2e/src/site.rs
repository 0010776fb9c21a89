//! A cluster with the operator at work on it, as a platform team would have it.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Event, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::ApiResource,
};
use secrets_distributor::api::{
    DistributionPolicy, DistributionPolicyStatus, SecretsDistribution, SecretsDistributionStatus,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::proxy::Proxy;
use crate::sources::Sources;
use crate::{ControlPlane, Exit, Operator, OperatorConfig, eventually, is_ready, loopback};

/// How long a change may take to show. Generous: what is tested is that it comes about, not how fast.
pub const SOON: Duration = Duration::from_secs(20);

/// A control plane, the operator's CRDs and rights, a mounted folder, and the operator.
pub struct Site {
    // Dropped first: the API server waits for open watches when it stops.
    operator: Mutex<Option<Operator>>,
    config: OperatorConfig,
    /// Folder of `rbac/` with the RoleBinding by which tenants delegate.
    pub(crate) delegation: &'static str,
    /// The cluster.
    pub cluster: ControlPlane,
    /// The sources, as the kubelet mounts them.
    pub sources: Sources,
}

impl Site {
    /// Starts one with the operator's settings as they are by default.
    pub async fn start() -> Result<Self> {
        let site = Self::prepare().await?;
        site.start_operator().await?;
        Ok(site)
    }

    /// All of it but the operator, which [`Self::start_operator`] starts.
    pub async fn prepare() -> Result<Self> {
        let cluster = ControlPlane::start().await?;
        cluster.install().await?;
        let sources = Sources::new(cluster.mount()?)?;
        let config = OperatorConfig::new(sources.mount().path());
        Ok(Self { cluster, sources, config, delegation: "delegation", operator: Mutex::default() })
    }

    /// All of it but the operator, which will reach the API server only through the proxy.
    pub async fn behind_proxy() -> Result<(Self, Proxy)> {
        let site = Self::prepare().await?;
        let proxy = Proxy::start(&site.cluster).await?;
        let kubeconfig = Some(proxy.kubeconfig());
        Ok((site.configured(|config| OperatorConfig { kubeconfig, ..config }), proxy))
    }

    /// With other settings of the operator, from its next start on.
    #[must_use]
    pub fn configured(mut self, configure: impl FnOnce(OperatorConfig) -> OperatorConfig) -> Self {
        self.config = configure(self.config);
        self
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
        if let Some(mut operator) = self.operator().take() {
            operator.kill()?;
        }
        Ok(())
    }

    /// SIGTERM; answers how it ended, and with its log.
    pub async fn terminate_operator(&self, bound: Duration) -> Result<(Exit, String)> {
        let mut operator = self.operator().take().context("no operator runs")?;
        let exit = operator.terminate(bound).await?;
        Ok((exit, operator.logs()))
    }

    /// Starts the operator and waits until it is ready.
    pub async fn start_operator(&self) -> Result<()> {
        let mut operator = Operator::start(&self.cluster, self.config.clone()).await?;
        operator.wait_ready(SOON).await?;
        *self.operator() = Some(operator);
        Ok(())
    }

    /// Starts the operator where it cannot become ready.
    pub async fn launch_operator(&self) -> Result<()> {
        *self.operator() = Some(Operator::start(&self.cluster, self.config.clone()).await?);
        Ok(())
    }

    /// Starts another replica, under a name that no other has, and waits until it is ready.
    pub async fn start_replica(&self, pod: &str) -> Result<Operator> {
        let mut config = self.config.clone();
        config.environment.push(("POD_NAME".to_owned(), pod.to_owned()));
        let mut replica = Operator::start(&self.cluster, config).await?;
        replica.wait_ready(SOON).await?;
        Ok(replica)
    }

    /// Kills the operator: it is that replica from here on.
    pub fn replace_operator(&self, by: Operator) -> Result<()> {
        self.kill_operator()?;
        *self.operator() = Some(by);
        Ok(())
    }

    /// What the operator has logged since it was started.
    pub fn operator_logs(&self) -> String {
        self.operator().as_ref().map(Operator::logs).unwrap_or_default()
    }

    /// Waits until `/readyz` answers with that status and a text that has the fragment; answers with the text.
    pub async fn until_readyz(&self, status: u16, fragment: &str) -> Result<String> {
        eventually(SOON, &format!("/readyz: {status} with {fragment:?}"), async || {
            let (found, text) = loopback::get(self.address()?, "/readyz").await?;
            anyhow::ensure!(found == status && text.contains(fragment), "{found} {text}");
            Ok(text)
        })
        .await
    }

    /// Where its admin server listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.operator().as_ref().and_then(Operator::address).context("it does not listen yet")
    }

    pub(crate) fn operator(&self) -> MutexGuard<'_, Option<Operator>> {
        self.operator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new namespace; delegated to the operator.
    pub async fn tenant(&self, prefix: &str) -> Result<Tenant<'_>> {
        let tenant = self.undelegated_tenant(prefix).await?;
        tenant.delegate().await?;
        Ok(tenant)
    }

    /// A new namespace; not delegated.
    pub async fn undelegated_tenant(&self, prefix: &str) -> Result<Tenant<'_>> {
        self.existing_tenant(&self.cluster.namespace(prefix).await?).await
    }

    /// A namespace that somebody has made.
    pub async fn existing_tenant(&self, namespace: &str) -> Result<Tenant<'_>> {
        Ok(Tenant { site: self, namespace: namespace.to_owned(), client: self.cluster.client().await? })
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

    /// Waits until the status of the policy's current generation satisfies.
    pub async fn until_policy<T>(
        &self,
        name: &str,
        what: &str,
        satisfied: impl Fn(&DistributionPolicyStatus) -> Option<T>,
    ) -> Result<T> {
        let resource = ApiResource::erase::<DistributionPolicy>(&());
        let policies = Api::all_with(self.cluster.client().await?, &resource);
        eventually(SOON, &format!("policy {name}: {what}"), async || {
            let (current, status) = current_status::<DistributionPolicyStatus>(&policies, name).await?;
            anyhow::ensure!(current == status.observed_generation, "a status of {:?}", status.observed_generation);
            satisfied(&status).with_context(|| format!("{status:#?}"))
        })
        .await
    }

    /// Waits until the policy's condition Accepted has that status and reason; answers with its message.
    pub async fn until_accepted(&self, name: &str, status: &str, reason: &str) -> Result<String> {
        self.until_policy(name, &format!("Accepted={status} {reason}"), |found| {
            let accepted = found.conditions.iter().find(|condition| condition.type_ == "Accepted")?;
            (accepted.status == status && accepted.reason == reason).then(|| accepted.message.clone())
        })
        .await
    }

    /// Deletes a policy.
    pub async fn delete_policy(&self, name: &str) -> Result<()> {
        let policies: Api<DistributionPolicy> = Api::all(self.cluster.client().await?);
        policies.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }
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

    /// Binds the tenant role to the operator in this namespace.
    pub async fn delegate(&self) -> Result<()> {
        self.site.cluster.delegate_by(&self.namespace, self.site.delegation).await
    }

    /// Takes the delegation back.
    pub async fn undelegate(&self) -> Result<()> {
        let manifest = format!("{}/../rbac/{}", env!("CARGO_MANIFEST_DIR"), self.site.delegation);
        let delete = ["delete", "--namespace", &self.namespace, "-f", &manifest];
        self.site.cluster.kubectl(delete).succeed().await.map(drop)
    }

    /// Deletes the namespace, and does what the controller would that this control plane has none of: lets it go. What is
    /// in it stays where nobody sees it.
    pub async fn vanish(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        let mut namespace = namespaces.get(&self.namespace).await?;
        namespace.spec.get_or_insert_default().finalizers = None;
        namespaces.replace_subresource("finalize", &self.namespace, &PostParams::default(), &namespace).await?;
        Ok(())
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
        let resource = ApiResource::erase::<SecretsDistribution>(&());
        let requests = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        eventually(SOON, &format!("{}/{name}: {what}", self.namespace), async || {
            let (current, status) = current_status::<SecretsDistributionStatus>(&requests, name).await?;
            anyhow::ensure!(current == status.observed_generation, "a status of {:?}", status.observed_generation);
            satisfied(&status).with_context(|| format!("{status:#?}"))
        })
        .await
    }

    /// Waits until the request is Ready.
    pub async fn until_ready(&self, name: &str) -> Result<SecretsDistributionStatus> {
        self.until(name, "Ready", |status| is_ready(status).then(|| status.clone())).await
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

    /// The events about the request, the oldest first: reason and note.
    pub async fn events(&self, request: &str) -> Result<Vec<(String, String)>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut all = events.list(&Default::default()).await?.items;
        all.retain(|event| event.involved_object.name.as_deref() == Some(request));
        all.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        Ok(all.into_iter().map(|e| (e.reason.unwrap_or_default(), e.message.unwrap_or_default())).collect())
    }

    /// Waits for an event about the request with this reason; answers with its note.
    pub async fn until_event(&self, request: &str, reason: &str) -> Result<String> {
        eventually(SOON, &format!("event {reason} about {request}"), async || {
            let events = self.events(request).await?;
            let found = events.iter().find(|(found, _)| found == reason).map(|(_, note)| note.clone());
            found.with_context(|| format!("{events:?}"))
        })
        .await
    }
}

/// The generation of an object and its status. What its spec looks like does not matter.
async fn current_status<S: DeserializeOwned + Default>(
    api: &Api<DynamicObject>,
    name: &str,
) -> Result<(Option<i64>, S)> {
    let object = api.get(name).await?;
    let status = object.data.get("status").cloned().map(serde_json::from_value).transpose()?;
    Ok((object.metadata.generation, status.unwrap_or_default()))
}

/// A condition of a status.
pub fn condition<'a>(status: &'a SecretsDistributionStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Resource version: whether an object was written between two looks.
pub fn version(secret: &Secret) -> Result<String> {
    secret.resource_version().context("no resource version")
}
