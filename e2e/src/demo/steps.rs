//! The steps of the demo.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use secrets_distributor::api::SecretsDistribution;

use super::stage::Stage;
use super::{NAMESPACE, REQUEST, SECRET};
use crate::site::condition;
use crate::{ControlPlane, Jaeger, Mount, Operator, OperatorConfig};

/// How long a step may take. Generous: nothing is shown about it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn generate() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["*.example.org".to_owned()])?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    fn files(&self) -> [(&str, &str); 2] {
        [("WildcardCertificate", &self.certificate), ("WildcardCertificateKey", &self.key)]
    }

    fn is_in(&self, secret: &Secret) -> bool {
        let holds = |key: &str, text: &str| {
            secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|found| found.0 == text.as_bytes())
        };
        holds("tls.crt", &self.certificate) && holds("tls.key", &self.key)
    }
}

/// The operator at work, and what is needed to show it.
pub(super) struct Show {
    pub(super) mount: Mount,
    stage: Stage,
    client: Client,
    // Dropped: killed, and before Jaeger, which it sends its last traces to.
    operator: Operator,
    pub(super) jaeger: Jaeger,
}

impl Show {
    /// Installs the operator and starts it on a mounted folder; then tells everything.
    pub(super) async fn play(cluster: &ControlPlane) -> Result<Self> {
        cluster.install().await?;
        let first = Pair::generate()?;
        let mount = cluster.mount()?;
        mount.write(&first.files())?;
        let jaeger = Jaeger::start(cluster).await?;
        let mut operator = Operator::start(cluster, jaeger.traced(OperatorConfig::new(mount.path()))).await?;
        operator.wait_ready(PATIENCE).await?;
        let stage = Stage::new(cluster, mount.path())?;
        let show = Self { stage, client: cluster.client().await?, mount, operator, jaeger };
        show.start().await?;
        cluster.kubectl(["create", "namespace", NAMESPACE]).succeed().await?;
        show.ask().await?;
        let advice = show.grant().await?;
        show.delegate(&advice, &first).await?;
        let second = show.rotate().await?;
        show.overreach(&second).await?;
        show.follow().await?;
        show.end()?;
        Ok(show)
    }

    async fn start(&self) -> Result<()> {
        self.stage.title("The main job, on a Kubernetes API server: from a request to a Secret.")?;
        self.stage
            .heading("1. The provider's secrets are a mounted folder. The operator has no right on any Secret.")?;
        self.stage.run("ls -x $SECRETS_PATH").await?;
        self.stage.ask(&format!("kubectl auth can-i create secrets -A --as={}", Operator::USER)).await
    }

    async fn ask(&self) -> Result<()> {
        self.stage
            .heading("2. An app team asks for a Secret in its namespace. No policy grants it: nothing is written.")?;
        self.stage.run("kubectl apply -f docs/examples/wildcard-tls-distribution.yaml").await?;
        self.until_reason(REQUEST, "NoPolicyForNamespace").await?;
        self.tell_why("").await
    }

    /// Answers with the command that the operator advises.
    async fn grant(&self) -> Result<String> {
        self.stage.heading("3. The platform team grants it. The namespace has not let the operator in yet.")?;
        self.stage.run("kubectl apply -f policies/wildcard-tls.yaml").await?;
        let ready = self.until_reason(REQUEST, "NotDelegated").await?;
        self.tell_why("").await?;
        let command = ready.message.find("kubectl create rolebinding ").map(|at| ready.message[at..].to_owned());
        command.with_context(|| format!("no command in {:?}", ready.message))
    }

    async fn delegate(&self, advice: &str, pair: &Pair) -> Result<()> {
        self.stage.heading("4. An admin of the namespace runs that command. The Secret is written.")?;
        self.stage.run(advice).await?;
        self.stage
            .run(&format!("kubectl wait --for=condition=Ready sd/{REQUEST} -n {NAMESPACE} --timeout=30s"))
            .await?;
        self.until_secret_holds(pair).await?;
        self.stage
            .run(&format!("kubectl describe secret {SECRET} -n {NAMESPACE} | grep -E '^Type|bytes$' | sort -f"))
            .await
    }

    async fn rotate(&self) -> Result<Pair> {
        self.stage.heading("5. The provider rotates the certificate and its key. The Secret follows.")?;
        let pair = Pair::generate()?;
        let rotated = Instant::now();
        self.mount.write(&pair.files())?;
        self.until_secret_holds(&pair).await?;
        let passed = rotated.elapsed().as_millis();
        self.stage.say(&format!("The Secret held the new certificate and the new key {passed} ms later."))?;
        Ok(pair)
    }

    async fn overreach(&self, pair: &Pair) -> Result<()> {
        self.stage.heading("6. The app team asks for a source that is mounted for somebody else. It is refused.")?;
        let foreign = ("PayrollDbPassword", "not for everybody");
        self.mount.write(&pair.files().into_iter().chain([foreign]).collect::<Vec<_>>())?;
        self.stage.run("kubectl apply -f docs/examples/payroll.yaml").await?;
        self.until_reason("payroll", "SourceNotPermitted").await?;
        self.tell_why("payroll ").await?;
        self.stage.run(&format!("kubectl get sd -n {NAMESPACE}")).await
    }

    async fn follow(&self) -> Result<()> {
        self.stage.heading("7. Every attempt is a trace in Jaeger. This one carried out the rotation.")?;
        self.stage.run(&format!("kubectl get sd {REQUEST} -n {NAMESPACE} -o jsonpath='{{.status.traceID}}'")).await?;
        let requests: Api<SecretsDistribution> = Api::namespaced(self.client.clone(), NAMESPACE);
        let status = requests.get_status(REQUEST).await?.status;
        let id = status.and_then(|status| status.trace_id).context("the status names no trace")?;
        let trace = self.jaeger.trace(&id).await?;
        trace.tree().iter().try_for_each(|line| self.stage.say(line))?;
        Ok(self.stage.say(&format!("It is at {}", self.jaeger.url(&id)))?)
    }

    fn end(&self) -> Result<()> {
        self.stage.heading(
            "Shown: no policy, no Secret; no delegation, no Secret; a rotation that arrives; a refusal that says why; \
            a trace.",
        )?;
        self.stage.say("`make demo KEEP=1` leaves it running for your own kubectl, `make test` checks it all, README.md explains it.")?;
        Ok(())
    }

    /// Reason and message of the Ready condition, which is the last one.
    async fn tell_why(&self, request: &str) -> Result<()> {
        let path = "{..conditions[-1:].reason}: {..conditions[-1:].message}";
        self.stage.run(&format!("kubectl get sd {request}-n {NAMESPACE} -o jsonpath='{path}'")).await
    }

    /// Waits until Ready has that reason.
    async fn until_reason(&self, request: &str, reason: &str) -> Result<Condition> {
        let requests: Api<SecretsDistribution> = Api::namespaced(self.client.clone(), NAMESPACE);
        let ready = |object: &SecretsDistribution| condition(object.status.as_ref()?, "Ready").cloned();
        let has_reason = |object: Option<&SecretsDistribution>| {
            object.and_then(ready).is_some_and(|condition| condition.reason == reason)
        };
        let what = format!("SecretsDistribution {request} is Ready=False, {reason}");
        let object = self.within_patience(&what, await_condition(requests, request, has_reason)).await?;
        object.as_ref().and_then(ready).with_context(|| format!("{request} is gone"))
    }

    async fn until_secret_holds(&self, pair: &Pair) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let holds = |secret: Option<&Secret>| secret.is_some_and(|secret| pair.is_in(secret));
        let what = format!("Secret {SECRET} holds the mounted certificate and key");
        self.within_patience(&what, await_condition(secrets, SECRET, holds)).await.map(drop)
    }

    async fn within_patience<T>(
        &self,
        what: &str,
        wait: impl Future<Output = Result<T, kube::runtime::wait::Error>>,
    ) -> Result<T> {
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited
            .map_err(|_| {
                let log = self.operator.logs();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(10)..].join("\n");
                anyhow!("not within {PATIENCE:?}: {what}. The operator's log ends with:\n{tail}")
            })?
            .with_context(|| format!("waiting until {what}"))
    }
}
