//! A cluster where the release before has been installed by its chart. There is no node: the operator of either release
//! runs as a process with the rights that the chart gave.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::helm::{Helm, digest_key};
use e2e::site::SOON;
use e2e::{ControlPlane, Mount, Operator, OperatorConfig, eventually, is_ready};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use secrets_distributor::api::{SecretsDistribution, SecretsDistributionStatus, names};
use serde_json::{Value, json};

use crate::landscape::{self, Provider};

const HOME: &str = "secrets-distributor";

/// For 200 distributions, on a machine that has other things to do.
const ALL_WITHIN: Duration = Duration::from_secs(120);

/// Requests changed at a time.
const AT_A_TIME: usize = 16;

/// A program and a chart; none: those of this revision.
#[derive(Clone)]
pub struct Release {
    /// Name of its replica.
    pub pod: &'static str,
    pub program: Option<PathBuf>,
    pub chart: Option<PathBuf>,
}

/// UID and resource version of each Secret.
pub type Secrets = BTreeMap<String, (String, String)>;

pub struct World {
    cluster: ControlPlane,
    helm: Helm,
    mount: Mount,
    provider: Provider,
    client: Client,
}

impl World {
    /// The chart of that release is installed, and the distributions are asked for.
    pub async fn install(release: &Release) -> Result<Self> {
        let cluster = ControlPlane::start().await?;
        let namespaces = landscape::namespaces();
        let helm = Helm::on(&cluster, HOME, &namespaces.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        let (mount, client, provider) = (cluster.mount()?, cluster.client().await?, Provider::new());
        let world = Self { cluster, helm, mount, provider, client };
        world.mount.write(&world.provider.sources("before"))?;
        world.release("install", release).await?;
        let kinds = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"];
        world.cluster.kubectl(kinds).succeed().await?;
        for object in landscape::inhabitants() {
            world.cluster.apply_yaml(&object.to_string()).await?;
        }
        world.cluster.apply_yaml(landscape::POLICIES).await?;
        world.cluster.apply_yaml(&landscape::requests()).await?;
        Ok(world)
    }

    /// helm installs or upgrades: kinds, rights and admission policies.
    pub async fn release(&self, verb: &str, release: &Release) -> Result<()> {
        let helm = release.chart.clone().map_or_else(|| self.helm.clone(), |chart| self.helm.with_chart(chart));
        let sources = json!([{ "secret": { "name": "provider" } }]);
        helm.release(verb, HOME, &json!({ "sources": sources, "tenants": landscape::namespaces() })).await.map(drop)
    }

    /// To what was installed first.
    pub async fn rollback(&self) -> Result<()> {
        self.helm.run(["rollback", HOME, "1", "--namespace", HOME]).await.map(drop)
    }

    /// A replica of that release, ready.
    pub async fn start(&self, release: &Release) -> Result<Operator> {
        let config = OperatorConfig {
            digest_key: digest_key(&self.cluster, HOME).await?,
            binary: release.program.clone(),
            environment: vec![("POD_NAME".to_owned(), release.pod.to_owned())],
            ..OperatorConfig::new(self.mount.path())
        };
        let mut operator = Operator::start(&self.cluster, config).await?;
        operator.wait_ready(SOON).await?;
        Ok(operator)
    }

    /// Every Secret but those in which helm keeps its releases.
    pub async fn secrets(&self) -> Result<Secrets> {
        let secrets: Api<Secret> = Api::all(self.client.clone());
        let list = secrets.list_metadata(&ListParams::default().labels("owner!=helm")).await?;
        let found = list.iter().map(|secret| {
            let at = format!("{}/{}", secret.namespace().unwrap_or_default(), secret.name_any());
            (at, (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default()))
        });
        Ok(found.collect())
    }

    /// How many Secrets were distributed.
    pub async fn distributed(&self) -> Result<usize> {
        let secrets: Api<Secret> = Api::all(self.client.clone());
        Ok(secrets.list_metadata(&ListParams::default().labels(names::OWNER_UID)).await?.items.len())
    }

    /// That every Secret is what it was, and nothing was told of a revocation.
    pub async fn unchanged(&self, before: &Secrets, by: &str) -> Result<()> {
        let now = self.secrets().await?;
        let differs = |at: &&String| before.get(*at) != now.get(*at);
        let all: Vec<_> =
            before.keys().chain(now.keys().filter(|at| !before.contains_key(*at))).filter(differs).collect();
        ensure!(
            all.is_empty(),
            "{} Secrets were changed, made or deleted when {by} the other release: {all:?}",
            all.len()
        );
        let events: Api<Event> = Api::all(self.client.clone());
        let told = events.list(&ListParams::default()).await?.items.into_iter().filter_map(|event| event.reason);
        let lost: Vec<_> =
            told.filter(|reason| ["Revoked", "RevocationPending", "Pruned"].contains(&&**reason)).collect();
        ensure!(lost.is_empty(), "told when {by} the other release: {lost:?}");
        Ok(())
    }

    /// Waits until all requests are Ready, each by a status about its present generation. Answers how many there are.
    pub async fn until_all_ready(&self) -> Result<usize> {
        let all = self.requests();
        eventually(ALL_WITHIN, "all are Ready", async || {
            let list = all.list(&ListParams::default()).await?.items;
            let not: Vec<_> = list.iter().filter(|request| !is_in_order(request)).map(ResourceExt::name_any).collect();
            ensure!(not.is_empty(), "{} of {} are not: {not:?}", not.len(), list.len());
            Ok(list.len())
        })
        .await
    }

    /// Waits until the operator has found as many Secrets in order as there are.
    pub async fn until_all_seen_to(&self, operator: &Operator) -> Result<()> {
        eventually(ALL_WITHIN, "each Secret was seen to", async || {
            let seen = operator.scrape().await?.sum("secrets_distributor_attempts_total", &[("result", "synced")]);
            ensure!(seen.is_some_and(|seen| seen >= landscape::SECRETS as f64), "{seen:?} of {}", landscape::SECRETS);
            Ok(())
        })
        .await
    }

    /// A new generation of each request that asks for what it asked for: without annotations, spelt out or not.
    pub async fn touch_all_requests(&self) -> Result<()> {
        let list = self.requests().list(&ListParams::default()).await?.items;
        let touched = stream::iter(&list).map(|request| async {
            let is_spelt_out = request.data.pointer("/spec/metadata/annotations").is_some();
            let annotations = if is_spelt_out { Value::Null } else { json!({}) };
            let patch = Patch::Merge(json!({ "spec": { "metadata": { "annotations": annotations } } }));
            let (resource, namespace) = (resource(), request.namespace().unwrap_or_default());
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &resource);
            let touched = api.patch(&request.name_any(), &PatchParams::default(), &patch).await?;
            ensure!(touched.metadata.generation > request.metadata.generation, "{} is as before", request.name_any());
            Ok(())
        });
        touched.buffer_unordered(AT_A_TIME).try_for_each(|()| async { Ok(()) }).await
    }

    /// Rotates a source, and waits for its Secret in each namespace.
    pub async fn rotate(&self, content: &str) -> Result<()> {
        self.mount.write(&self.provider.sources(content))?;
        for namespace in landscape::namespaces() {
            let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
            eventually(SOON, "the Secret follows its source", async || {
                let data = secrets.get(landscape::ROTATED).await?.data.unwrap_or_default();
                ensure!(data.get("k").is_some_and(|found| found.0 == content.as_bytes()), "it has other content");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// All requests, whatever the kind of either release knows.
    fn requests(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &resource())
    }
}

fn resource() -> ApiResource {
    ApiResource::erase::<SecretsDistribution>(&())
}

fn is_in_order(request: &DynamicObject) -> bool {
    let status = request.data.get("status").cloned().map(serde_json::from_value::<SecretsDistributionStatus>);
    let Some(Ok(status)) = status else { return false };
    status.observed_generation == request.metadata.generation && is_ready(&status)
}
