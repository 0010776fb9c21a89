//! A cluster with a node, an empty namespace for the operator where Pod Security is restricted, and a tenant.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::helm::Helm;
use e2e::{ControlPlane, Node, eventually, is_ready, repository};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use secrets_distributor::api::SecretsDistribution;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const HOME: &str = "secrets-distributor";
pub const TENANT: &str = "test-application-1";
/// A kubelet takes its time.
pub const SOON: Duration = Duration::from_secs(90);

/// How long many of them may take: all of a cluster shares this machine.
const LATER: Duration = Duration::from_secs(240);

/// To look at many of them is work, too.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);

const MASS: &str = "mass-";

/// The request of the documentation, under another name.
fn example(name: &str) -> Result<Value> {
    let example = std::fs::read_to_string(repository().join("docs/examples/wildcard-tls-distribution.yaml"))?;
    let mut request: Value = serde_yaml_ng::from_str(&example)?;
    request["metadata"]["name"] = json!(name);
    request["spec"]["name"] = json!(name);
    Ok(request)
}

/// What the provider holds: a certificate and its key.
pub struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["*.example.org".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    /// What the guest says that it sees, of files or of variables.
    pub fn seen(&self, what: &str, [certificate, key]: [&str; 2]) -> String {
        let one = |name: &str, content: &str| {
            let digest = Sha256::digest(content);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{what}:{name}:{digest}")
        };
        format!("{} {}", one(certificate, &self.certificate), one(key, &self.key))
    }
}

pub struct World {
    // Dropped first.
    node: Node,
    helm: Helm,
    pub cluster: ControlPlane,
}

impl World {
    pub async fn start() -> Result<Self> {
        let cluster = ControlPlane::for_node().await?;
        let node = Node::start(&cluster).await?;
        let helm = Helm::on(&cluster, HOME, &[TENANT]).await?;
        let restricted = ["label", "namespace", TENANT, "pod-security.kubernetes.io/enforce=restricted"];
        cluster.kubectl(restricted).succeed().await?;
        Ok(Self { node, helm, cluster })
    }

    /// Sets the Secret that is mounted as the folder of the sources.
    pub async fn provide(&self, pair: &Pair) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": "provider", "namespace": HOME },
            "stringData": { "WildcardCertificate": pair.certificate, "WildcardCertificateKey": pair.key },
        });
        self.cluster.apply_yaml(&secret.to_string()).await
    }

    /// `install` or `upgrade`, until the operator runs.
    pub async fn release(&self, verb: &str, values: &Value) -> Result<()> {
        self.helm.release(verb, HOME, values).await?;
        self.until_rolled_out().await
    }

    pub async fn rollback(&self, revision: &str) -> Result<()> {
        self.helm.run(["rollback", HOME, revision, "--namespace", HOME]).await?;
        self.until_rolled_out().await
    }

    pub async fn uninstall(&self) -> Result<()> {
        self.helm.run(["uninstall", HOME, "--namespace", HOME, "--wait"]).await?;
        eventually(SOON, "the operator's pod is gone", async || {
            let left = self.operators().await?.len();
            ensure!(left == 0, "{left} pods");
            Ok(())
        })
        .await
    }

    async fn until_rolled_out(&self) -> Result<()> {
        let status = ["rollout", "status", "deployment/secrets-distributor", "--namespace", HOME, "--timeout=90s"];
        self.cluster.kubectl(status).succeed().await?;
        eventually(SOON, "only its own pods are left", async || {
            let pods = self.operators().await?;
            let leaving = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
            ensure!(leaving == 0, "{leaving} are leaving");
            Ok(())
        })
        .await
    }

    /// The pods of the operator.
    pub async fn operators(&self) -> Result<Vec<Pod>> {
        let pods = Api::<Pod>::namespaced(self.cluster.client().await?, HOME);
        Ok(pods.list(&Default::default()).await?.items)
    }

    /// The version of the Secret that was distributed.
    pub async fn version(&self) -> Result<String> {
        let secrets = Api::<Secret>::namespaced(self.cluster.client().await?, TENANT);
        secrets.get("wildcard-tls-secret").await?.metadata.resource_version.context("no version")
    }

    pub async fn until_ready(&self, request: &str) -> Result<()> {
        let wait = ["wait", "--for=condition=Ready", request, "--namespace", TENANT, "--timeout=90s"];
        self.cluster.kubectl(wait).succeed().await.map(drop)
    }

    /// Waits until a new request is served, and so each older one has been looked at: the status of those may be of an
    /// operator that is gone.
    pub async fn until_at_work(&self, name: &str) -> Result<()> {
        self.cluster.apply_yaml(&example(name)?.to_string()).await?;
        self.until_ready(&format!("sd/{name}")).await
    }

    /// Creates so many more requests like that of the documentation, and waits until all are Ready.
    pub async fn distribute(&self, count: usize) -> Result<()> {
        let requests = Api::<SecretsDistribution>::namespaced(self.cluster.client().await?, TENANT);
        let requests = &requests;
        let created = stream::iter(0..count).map(|number| async move {
            let request = serde_json::from_value(example(&format!("{MASS}{number}"))?)?;
            anyhow::Ok(requests.create(&PostParams::default(), &request).await?)
        });
        created.buffer_unordered(16).try_for_each(|_| std::future::ready(Ok(()))).await?;
        eventually(LATER, "all are Ready", async || {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let all = requests.list(&ListParams::default()).await?.items;
            let ready = all.iter().filter(|request| request.status.as_ref().is_some_and(is_ready)).count();
            ensure!(ready > count, "{ready} are Ready");
            Ok(())
        })
        .await?;
        self.nobody_was_killed().await
    }

    /// Waits until all of those hold this pair.
    pub async fn until_rotated(&self, count: usize, pair: &Pair) -> Result<()> {
        let secrets = Api::<Secret>::namespaced(self.cluster.client().await?, TENANT);
        eventually(LATER, "all are rotated", async || {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let all = secrets.list(&ListParams::default()).await?.items;
            let holds = |secret: &Secret| secret.data.iter().flatten().any(|(_, value)| value.0 == pair.key.as_bytes());
            let rotated = all.iter().filter(|secret| secret.name_any().starts_with(MASS) && holds(secret)).count();
            ensure!(rotated == count, "{rotated} are rotated");
            Ok(())
        })
        .await
    }

    /// No container of the operator had to be started again, for instance since it took too much memory.
    pub async fn nobody_was_killed(&self) -> Result<()> {
        let pods = self.operators().await?;
        let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
        let restarted: Vec<_> = statuses.filter(|status| status.restart_count > 0).collect();
        ensure!(restarted.is_empty(), "{restarted:#?}");
        Ok(())
    }

    /// Starts Jaeger as the documentation has it; answers where the operator sends its traces, and where they are.
    pub async fn jaeger(&self) -> Result<(String, SocketAddr)> {
        self.cluster.apply_path(&repository().join("deploy/jaeger/jaeger.yaml")).await?;
        let status = ["rollout", "status", "deployment/jaeger", "--namespace", "jaeger", "--timeout=90s"];
        self.cluster.kubectl(status).succeed().await?;
        let address = ["get", "service", "jaeger", "--namespace", "jaeger", "-o", "jsonpath={.spec.clusterIP}"];
        // Nothing resolves names here.
        let address: IpAddr = self.cluster.kubectl(address).succeed().await?.parse()?;
        Ok((format!("http://{address}:4318"), SocketAddr::new(address, 16686)))
    }

    /// Waits until Jaeger has the trace that the status of the request names.
    pub async fn until_traced(&self, jaeger: SocketAddr, request: &str) -> Result<()> {
        let id = ["get", request, "--namespace", TENANT, "-o", "jsonpath={.status.traceID}"];
        eventually(SOON, "Jaeger has the trace", async || {
            let id = self.cluster.kubectl(id).succeed().await?;
            let (status, trace) = self.node.get(jaeger, &format!("/api/traces/{id}")).await?;
            ensure!(status == 200 && trace.contains("distribute"), "{id}: {status} {trace}");
            Ok(())
        })
        .await
    }

    /// Starts a pod that tells what it sees of the Secret, as a volume and as its environment.
    pub async fn consumer(&self, name: &str) -> Result<()> {
        let variable = |name: &str, key: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": "wildcard-tls-secret", "key": key } } });
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": TENANT },
            "spec": {
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": true,
                    "runAsUser": 65532,
                    "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "guest",
                    "image": Node::GUEST,
                    "imagePullPolicy": "Never",
                    "args": ["look", "/tls", "TLS_"],
                    "env": [variable("TLS_CRT", "tls.crt"), variable("TLS_KEY", "tls.key")],
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                    "volumeMounts": [{ "name": "tls", "mountPath": "/tls", "readOnly": true }],
                }],
                "volumes": [{ "name": "tls", "secret": { "secretName": "wildcard-tls-secret" } }],
            },
        });
        self.cluster.apply_yaml(&pod.to_string()).await
    }

    /// Waits until the newest thing that the consumer tells is that.
    pub async fn until_seen(&self, consumer: &str, files: &Pair, variables: &Pair) -> Result<()> {
        let files = files.seen("file", ["tls.crt", "tls.key"]);
        let expected = format!("{files} {}", variables.seen("variable", ["TLS_CRT", "TLS_KEY"]));
        eventually(SOON, &format!("{consumer} sees {expected}"), async || {
            let log = self.node.log(TENANT, consumer, "guest")?;
            ensure!(log.lines().last() == Some(&expected), "{log}");
            Ok(())
        })
        .await
    }

    /// What a person would look at who asks why.
    pub async fn state(&self) -> String {
        let mut state = String::new();
        for what in ["pods", "events", "secretsdistributions"] {
            let told = self.cluster.kubectl(["get", what, "--all-namespaces", "-o", "wide"]).run().await;
            state += &told.map_or_else(|error| error.to_string(), |output| output.stdout + &output.stderr);
        }
        let log = self.node.log(HOME, "secrets-distributor", "operator");
        state += &log.unwrap_or_else(|error| format!("{error:#}"));
        format!("{state}\nkubelet:\n{}", self.node.program_log("kubelet"))
    }
}
