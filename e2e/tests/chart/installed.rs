//! The chart on a real API server. There is no node: what a Deployment would start is given to the API server as a pod,
//! which judges and does not keep it, and the operator runs as a process with the rights that the chart gave.

use anyhow::{Context, Result, ensure};
use e2e::helm::{Helm, digest_key, objects};
use e2e::{ControlPlane, Mount, Operator, OperatorConfig, eventually, site::SOON};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::{Value, json};

use crate::find;

const HOME: &str = "secrets-distributor";

struct Cluster {
    cluster: ControlPlane,
    helm: Helm,
    mount: Mount,
}

impl Cluster {
    /// A cluster that knows nothing of the operator, with a namespace for it where Pod Security is restricted.
    async fn start() -> Result<Self> {
        let cluster = ControlPlane::start().await?;
        let helm = Helm::on(&cluster, HOME, &["team-a", "team-b"]).await?;
        let mount = cluster.mount()?;
        mount.write(&[("Source", b"content".as_slice())])?;
        Ok(Self { cluster, helm, mount })
    }

    /// Answers with what helm tells, the notes included.
    async fn release(&self, verb: &str, values: &Value) -> Result<String> {
        self.helm.release(verb, HOME, values).await
    }

    async fn exists(&self, what: &str) -> Result<bool> {
        let get = ["get", what, "--namespace", HOME, "--ignore-not-found", "-o", "name"];
        Ok(!self.cluster.kubectl(get).succeed().await?.is_empty())
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Secret> {
        Ok(Api::<Secret>::namespaced(self.cluster.client().await?, namespace).get(name).await?)
    }

    /// Asks for the source in team-a.
    async fn ask(&self, name: &str) -> Result<()> {
        let request = json!({
            "apiVersion": "xlscsde.nhs.uk/v1",
            "kind": "SecretsDistribution",
            "metadata": { "name": name, "namespace": "team-a" },
            "spec": { "secrets": [{ "from": "Source", "to": "k" }] },
        });
        self.cluster.apply_yaml(&request.to_string()).await
    }

    /// The version of the distributed Secret and the key of the digests.
    async fn what_stays(&self) -> Result<(Option<String>, Vec<u8>)> {
        Ok((self.secret("team-a", "r").await?.metadata.resource_version, digest_key(&self.cluster, HOME).await?))
    }

    /// The operator, as the pod would run it.
    async fn operator(&self) -> Result<Operator> {
        let config = OperatorConfig {
            digest_key: digest_key(&self.cluster, HOME).await?,
            ..OperatorConfig::new(self.mount.path())
        };
        let mut operator = Operator::start(&self.cluster, config).await?;
        operator.wait_ready(SOON).await?;
        Ok(operator)
    }

    async fn until_ready(&self, request: &str) -> Result<()> {
        let wait = ["wait", "--for=condition=Ready", request, "--namespace", "team-a", "--timeout=30s"];
        self.cluster.kubectl(wait).succeed().await.map(drop)
    }
}

fn values() -> Value {
    json!({ "sources": [{ "secret": { "name": "provider" } }], "tenants": ["team-a"], "replicas": 1 })
}

#[tokio::test]
async fn what_was_distributed_outlives_upgrade_rollback_and_uninstall() -> Result<()> {
    let site = Cluster::start().await?;
    site.release("install", &values()).await?;
    site.cluster.apply_yaml(&json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": "DistributionPolicy",
        "metadata": { "name": "p" },
        "spec": { "namespaces": { "names": ["team-a"] }, "rules": [{ "effect": "Allow", "sources": ["Source"] }] },
    }).to_string()).await?;
    site.ask("r").await?;
    let operator = site.operator().await?;
    site.until_ready("sd/r").await?;
    let before = site.what_stays().await?;

    let upgraded = json!({ "replicas": 3, "secretsAccess": "writeOnly", "tenants": ["team-a", "team-b"] });
    site.release("upgrade", &upgraded).await?;
    let replicas = ["get", "deployment", HOME, "--namespace", HOME, "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(site.cluster.kubectl(replicas).succeed().await?, "3");
    assert!(site.exists("poddisruptionbudget/secrets-distributor").await?);
    assert_eq!(site.what_stays().await?, before);
    site.helm.run(["rollback", HOME, "1", "--namespace", HOME]).await?;
    assert_eq!(site.cluster.kubectl(replicas).succeed().await?, "1");
    assert_eq!(site.what_stays().await?, before);
    drop(operator);

    site.helm.run(["uninstall", HOME, "--namespace", HOME, "--wait"]).await?;
    for gone in [
        "deployment/secrets-distributor",
        "clusterrole/secrets-distributor-operator",
        "validatingadmissionpolicy/secrets-distributor-operator",
        "lease/secrets-distributor",
    ] {
        assert!(!site.exists(gone).await?, "{gone}");
    }
    site.until_ready("sd/r").await?;
    assert_eq!(site.what_stays().await?, before);

    site.release("install", &values()).await?;
    let _operator = site.operator().await?;
    // It has looked at everything: what changes now comes about, and what does not, stays.
    site.ask("later").await?;
    site.until_ready("sd/later").await?;
    assert_eq!(site.what_stays().await?, before);
    Ok(())
}

/// Everything switched on that this API server knows the kinds of.
fn all_of_it() -> Value {
    json!({
        "replicas": 2,
        "sources": [
            { "folder": "keyvault", "csi": { "secretProviderClass": "keyvault" } },
            { "folder": "secret", "secret": { "name": "provider" } },
            { "folder": "both", "volume": { "projected": { "sources": [{ "secret": { "name": "provider" } }] } } },
        ],
        "secretsAccess": "writeOnly",
        "tenants": ["team-a", "team-b"],
        "rbac": { "scope": "cluster" },
        "admission": { "requireSecretCreate": true },
        "metrics": { "dashboards": { "enabled": true } },
        "tracing": { "endpoint": "http://jaeger.jaeger:4317", "protocol": "grpc", "headersSecret": { "name": "h", "key": "k" } },
        "networkPolicy": {
            "metricsFrom": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }],
            "apiServer": { "cidrs": ["10.0.0.1/32"] },
        },
        "flowControl": { "enabled": true },
        "priorityClassName": "system-cluster-critical",
        "env": [{ "name": "RATE_LIMIT", "value": "100/1m" }, { "name": "LOG_LEVEL", "value": "debug" }],
        "imagePullSecrets": [{ "name": "registry" }],
    })
}

#[tokio::test]
async fn the_api_server_takes_all_of_it_and_pod_security_the_pod() -> Result<()> {
    let site = Cluster::start().await?;
    for values in [json!({}), all_of_it()] {
        site.release("upgrade", &values).await.err().context("there is nothing to upgrade")?;
        let told = site.release("install", &values).await?;
        assert_eq!(told.contains("WARNING: no source is mounted"), values["sources"].is_null(), "{told}");
        assert_eq!(told.contains("WARNING: rbac.scope is cluster"), !values["rbac"].is_null(), "{told}");
        let is_open = values["networkPolicy"].is_null();
        assert_eq!(told.contains("WARNING: networkPolicy.apiServer.cidrs is empty"), is_open, "{told}");
        let manifest = site.helm.run(["get", "manifest", HOME, "--namespace", HOME]).await?;
        // Strictly: helm itself drops fields that do not exist.
        let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-"];
        site.cluster.kubectl(apply).stdin(manifest.as_str()).succeed().await?;
        let pod = as_pod(find(&objects(&manifest)?, "Deployment").context("no Deployment")?);
        let create = ["create", "--dry-run=server", "--validate=strict", "--namespace", HOME, "-f", "-"];
        site.cluster.kubectl(create).stdin(pod.to_string()).succeed().await?;

        let mut privileged = pod;
        privileged["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        let refused = site.cluster.kubectl(create).stdin(privileged.to_string()).run().await?;
        ensure!(refused.stderr.contains("violates PodSecurity"), "Pod Security judges nothing: {}", refused.stderr);
        site.helm.run(["uninstall", HOME, "--namespace", HOME]).await?;
        eventually(SOON, "it is gone", async || {
            ensure!(!site.exists("deployment/secrets-distributor").await?);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn as_pod(deployment: &Value) -> Value {
    let template = &deployment["spec"]["template"];
    let mut metadata = template["metadata"].clone();
    metadata["name"] = json!("judged");
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"] })
}
