//! The command line and the operator agree: over random worlds, made real on the control plane, the answer of the
//! binary is the status that the operator writes.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use e2e::{
    ControlPlane, eventually,
    site::{SOON, Site},
};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use proptest::{strategy::Strategy, strategy::ValueTree, test_runner::TestRunner};
use secrets_distributor::api::{DecisionResult, DistributionPolicy, SecretsDistribution, TargetState, TargetStatus};
use serde_json::{Value, json};
use tokio::process::Command;

use self::{
    generate::{Quotas, world},
    model::{Model, NAMESPACES, now},
};

#[allow(dead_code)]
#[path = "../../../tests/decision/generate.rs"]
pub mod generate;
#[allow(dead_code)]
#[path = "../../../tests/decision/model.rs"]
pub mod model;

const WORLDS: usize = 200;

#[tokio::test]
async fn the_binary_tells_what_the_operator_writes() -> Result<()> {
    let site = Site::start().await?;
    let client = site.cluster.client().await?;
    settle(&client).await;
    let mut runner = TestRunner::deterministic();
    let (mut compared, mut permitted) = (0, 0);
    for number in 0..WORLDS {
        let tree = world(Quotas::Some).new_tree(&mut runner).map_err(|error| anyhow::anyhow!("{error}"))?;
        let model = Model::of(tree.current());
        let requests = realize(&client, &model).await?;
        let answers = requests.iter().map(|request| explained(&site.cluster, request));
        for (request, answer) in requests.iter().zip(try_join_all(answers).await?) {
            let what = format!("world {number}, {}: the status says what was answered: {answer}", request.name_any());
            eventually(SOON, &what, async || agree(&client, request, &answer).await).await?;
            compared += 1;
            permitted += usize::from(answer["permitted"] == true);
        }
    }
    ensure!(
        permitted > compared / 20 && permitted < compared,
        "{permitted} of {compared} are permitted: a poor mixture"
    );
    Ok(())
}

/// Makes the namespaces of all worlds.
pub async fn settle(client: &Client) {
    let namespaces = Api::<Namespace>::all(client.clone());
    for name in NAMESPACES {
        let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
        // Some are there already.
        let _ = namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await;
    }
}

/// Makes the cluster have what the model has, as far as the API server takes it. Answers with the requests.
pub async fn realize(client: &Client, model: &Model) -> Result<Vec<SecretsDistribution>> {
    let (policies, namespaces) =
        (Api::<DistributionPolicy>::all(client.clone()), Api::<Namespace>::all(client.clone()));
    let all = (DeleteParams::default(), ListParams::default());
    for name in NAMESPACES {
        Api::<SecretsDistribution>::namespaced(client.clone(), name).delete_collection(&all.0, &all.1).await?;
        let known = model.namespaces.values().find(|namespace| namespace.name.as_str() == name);
        let label = |key: &str| known.and_then(|namespace| namespace.labels.get(key));
        let wanted = json!({ "tier": label("tier"), "env": label("env") });
        let patch = Patch::Merge(json!({ "metadata": { "labels": wanted } }));
        namespaces.patch(name, &PatchParams::default(), &patch).await?;
    }
    policies.delete_collection(&all.0, &all.1).await?;
    for policy in model.policies.values() {
        // What the schema refuses cannot be there.
        let _ = policies.create(&PostParams::default(), &in_our_time(policy)).await;
    }
    let mut requests = Vec::new();
    for request in model.requests.values() {
        let metadata =
            ObjectMeta { name: Some(request.name_any()), namespace: request.namespace(), ..ObjectMeta::default() };
        let object = SecretsDistribution { metadata, spec: request.spec.clone(), status: None };
        let api = Api::<SecretsDistribution>::namespaced(client.clone(), &request.namespace().context("no namespace")?);
        requests.extend(api.create(&PostParams::default(), &object).await.ok());
    }
    Ok(requests)
}

/// The times of a model are around an instant long ago: past ones are, and those to come are still to come.
pub fn in_our_time(policy: &DistributionPolicy) -> DistributionPolicy {
    let shift = |time: Time| {
        let (then, day) = (time.0.duration_since(now()), SignedDuration::from_hours(24));
        let day = if then.is_positive() { day } else { -day };
        Time(Timestamp::now() + day + then)
    };
    let mut policy = policy.clone();
    policy.spec.not_before = policy.spec.not_before.map(shift);
    policy.spec.not_after = policy.spec.not_after.map(shift);
    policy
}

/// What the binary says about a request.
pub async fn explained(cluster: &ControlPlane, request: &SecretsDistribution) -> Result<Value> {
    let binary = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("secrets-distributor");
    let mut command = Command::new(binary);
    command
        .args(["explain", &request.name_any(), "-o", "json", "-n"])
        .arg(request.namespace().context("no namespace")?);
    let output = command.env("KUBECONFIG", cluster.kubeconfig()).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Whether the status says what the answer says.
pub async fn agree(client: &Client, request: &SecretsDistribution, answer: &Value) -> Result<()> {
    let namespace = request.namespace().context("no namespace")?;
    let now = Api::<SecretsDistribution>::namespaced(client.clone(), &namespace).get(&request.name_any()).await?;
    let status = now.status.context("no status yet")?;
    ensure!(status.observed_generation == now.metadata.generation, "an older status");
    let condition =
        status.conditions.iter().find(|condition| condition.type_ == "Permitted").context("no condition")?;
    ensure!((condition.status == "True") == (answer["permitted"] == true), "Permitted={}", condition.status);

    // Of what a selector matches the operator tells only what is granted.
    let all = answer["destinations"].as_array().context("no destinations")?;
    let told: Vec<_> = all.iter().filter(|told| told["selected"] == false || told["permitted"] == true).collect();
    let answered: BTreeSet<_> = told.iter().map(|told| (text(&told["namespace"]), told["permitted"] == true)).collect();
    let written = status.targets.iter().map(|target| (target.namespace.clone(), is_granted(target)));
    ensure!(answered == written.collect(), "the targets are {:?}", status.targets);

    for decision in &status.decisions {
        let all = told.iter().filter_map(|told| told["mappings"].as_array()).flatten();
        let mappings: Vec<_> = all.filter(|mapping| mapping["to"] == *decision.to).collect();
        let refused = mappings.iter().any(|mapping| mapping["permitted"] == false);
        ensure!((decision.result == DecisionResult::Refused) == refused, "{decision:?}");
        let named = |mapping: &&Value| {
            mapping["reasons"]
                .as_array()
                .is_some_and(|all| all.iter().any(|reason| reason.as_str() == decision.reason.as_deref()))
        };
        ensure!(!refused || mappings.iter().any(named), "{decision:?}");
        let grants = |mapping: &&Value| {
            let rules = mapping["grantedBy"].as_array();
            rules.is_some_and(|rules| rules.iter().any(|rule| rule["policy"].as_str() == decision.policy.as_deref()))
        };
        // While it cannot be written, the status does not say by which policy it is granted.
        ensure!(decision.policy.is_none() || mappings.iter().any(grants), "{decision:?}");
    }
    Ok(())
}

/// Also what is being revoked has been refused.
fn is_granted(target: &TargetStatus) -> bool {
    let refused = matches!(target.state, TargetState::Denied | TargetState::Retained);
    !refused && !matches!(target.reason.as_deref(), Some("RevocationPending" | "RevocationBlocked"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
