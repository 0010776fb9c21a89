//! What `plan` says comes about: random edits of policies are planned and then made, and the operator revokes the Secrets
//! that the plan names, and no other.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use e2e::{
    ControlPlane, eventually,
    site::{SOON, Site},
};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use proptest::{
    collection::vec,
    prelude::{Strategy, prop_oneof},
    sample::select,
    strategy::ValueTree,
    test_runner::TestRunner,
};
use secrets_distributor::{
    api::{DistributionPolicy, DistributionPolicySpec, SecretsDistribution, SecretsDistributionStatus},
    core::policy::Policy,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command};

use super::worlds::{
    agree, explained,
    generate::{Quotas, policy, world},
    in_our_time,
    model::{Model, NAMESPACES, OPERATOR},
    realize, settle,
};

/// How many worlds, if EDITED_WORLDS does not say.
const WORLDS: usize = 30;
const OWNER_UID: &str = "xlscsde.nhs.uk/owner-uid";

/// What shall become of policies.
type Edits = Vec<Result<DistributionPolicy, &'static str>>;

/// A Secret and its request: namespace, name, `namespace/name`.
type Which = (String, String, String);

#[tokio::test]
async fn the_operator_revokes_what_was_planned() -> Result<()> {
    let site = Site::start().await?;
    let client = site.cluster.client().await?;
    settle(&client).await;
    for name in NAMESPACES.into_iter().filter(|name| is_delegated(name)) {
        site.cluster.delegate(name).await?;
        // A policy may open kube-system by its name; then the namespace must say so as well.
        let label = ["label", "namespace", name, "xlscsde.nhs.uk/distribution=allowed"];
        site.cluster.kubectl(label).succeed().await?;
    }
    site.sources.set(&[("cert", b"c"), ("prod/db", b"p"), ("dev/db", b"d"), ("prod/a/b", b"a")])?;
    let mut runner = TestRunner::deterministic();
    let mut draw = |what: &str| -> Result<(Model, Edits)> {
        let drawn = (world(Quotas::Some), edits()).new_tree(&mut runner);
        let (changes, edits) = drawn.map_err(|error| anyhow::anyhow!("{what}: {error}"))?.current();
        Ok((generous(Model::of(changes)), edits))
    };
    let worlds = std::env::var("EDITED_WORLDS").map_or(Ok(WORLDS), |worlds| worlds.parse())?;
    let (mut edited, mut revoked, mut written) = (0, 0, 0);
    for number in 0..worlds {
        let (model, edits) = draw("a world")?;
        clear(&client).await?;
        let requests = realize(&client, &model).await?;
        let before = Known::of(&site.cluster, &client, &requests).await.context(format!("step {number}"))?;
        let planned = planned(&site.cluster, &edits).await?;
        edited += last_of_each(&edits).count();
        make(&client, edits).await?;
        let after = Known::of(&site.cluster, &client, &requests).await.context(format!("step {number}"))?;
        let lost = before.lost(&after);
        ensure!(lost == planned, "step {number}: planned {planned:?}, revoked {lost:?}");
        revoked += lost.len();
        written += before.secrets.len();
    }
    println!("{worlds} worlds, {edited} edits of policies: {revoked} of {written} Secrets revoked, as planned");
    ensure!(revoked >= worlds / 2 && revoked < written, "{revoked} of {written} Secrets: a poor mixture");
    Ok(())
}

/// Most worlds are so strict that little is written in them: in this one what can be written is granted by p0, which
/// every other edit is about.
fn generous(mut model: Model) -> Model {
    let all = json!({ "names": ["*"] });
    let rule = json!({ "effect": "Allow", "sources": ["*", "*/*", "*/*/*"], "requestedFrom": all });
    let spec = json!({ "namespaces": all, "rules": [rule], "revocation": { "gracePeriod": "1h" } });
    let mut spec: DistributionPolicySpec = serde_json::from_value(spec).expect("a policy");
    if let Some(replaced) = model.policies.get("p0") {
        spec.revocation = replaced.spec.revocation.clone();
    }
    model.policies.insert("p0".into(), DistributionPolicy::new("p0", spec));
    for request in model.requests.values_mut() {
        (request.spec.suspend, request.spec.type_) = (false, None);
    }
    model
}

/// The operator's own namespace stays closed, as it mostly does, and those that are not the world's.
fn is_delegated(namespace: &str) -> bool {
    NAMESPACES.contains(&namespace) && namespace != OPERATOR
}

fn edits() -> impl Strategy<Value = Edits> {
    let compiles = |policy: &DistributionPolicy| Policy::parse(policy).is_ok();
    let changed = policy(Quotas::Some).prop_filter("compiles", compiles).prop_map(|policy| Ok(in_our_time(&policy)));
    let gone = select(vec!["p0", "p0", "p0", "p1", "p2", "p3", "p4"]).prop_map(Err);
    vec(prop_oneof![1 => changed, 1 => gone], 1..4)
}

/// Removes what an earlier step has left: also Secrets that stay when their request goes.
async fn clear(client: &Client) -> Result<()> {
    let (delete, labelled) = (DeleteParams::default(), ListParams::default().labels(OWNER_UID));
    for name in NAMESPACES {
        let requests = Api::<SecretsDistribution>::namespaced(client.clone(), name);
        requests.delete_collection(&delete, &ListParams::default()).await?;
    }
    eventually(SOON, "no Secret is left", async || {
        let secrets = Api::<Secret>::all(client.clone()).list(&labelled).await?.items;
        for secret in &secrets {
            let namespace = secret.namespace().context("no namespace")?;
            let _ = Api::<Secret>::namespaced(client.clone(), &namespace).delete(&secret.name_any(), &delete).await;
        }
        ensure!(secrets.is_empty(), "{} Secrets", secrets.len());
        anyhow::Ok(())
    })
    .await
}

/// What the binary says would be revoked at once.
async fn planned(cluster: &ControlPlane, edits: &Edits) -> Result<BTreeSet<Which>> {
    let (mut changed, mut gone) = (Vec::new(), BTreeSet::new());
    for edit in last_of_each(edits) {
        match edit {
            Ok(policy) => changed.push(serde_json::to_string(&policy)?),
            Err(name) => drop(gone.insert(*name)),
        }
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_demo")).with_file_name("secrets-distributor");
    let mut command = Command::new(binary);
    command.args(["plan", "-o", "json", "-f", "-"]).env("KUBECONFIG", cluster.kubeconfig()).kill_on_drop(true);
    let known = Api::<DistributionPolicy>::all(cluster.client().await?).list(&ListParams::default()).await?;
    for policy in known.iter().map(ResourceExt::name_any).filter(|name| gone.contains(name.as_str())) {
        command.args(["--delete", &policy]);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(changed.join("\n---\n").as_bytes()).await?;
    let output = child.wait_with_output().await?;
    let answer: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let revoked = answer["revoked"].as_array().context("no list")?;
    ensure!(output.status.code() == Some(if revoked.is_empty() { 0 } else { 2 }), "{}", output.status);
    let text = |told: &Value, field: &str| told[field].as_str().unwrap_or_default().to_owned();
    let which = |told: &Value| (text(told, "namespace"), text(told, "secret"), text(told, "request"));
    Ok(revoked.iter().filter(|told| told["from"].is_null()).map(which).collect())
}

/// Of several edits of a policy the last one.
fn last_of_each(edits: &Edits) -> impl Iterator<Item = &Result<DistributionPolicy, &'static str>> {
    let name =
        |edit: &Result<DistributionPolicy, &str>| edit.as_ref().map_or_else(|name| name.to_string(), |p| p.name_any());
    let last = move |(i, edit): &(usize, &Result<_, _>)| edits[i + 1..].iter().all(|later| name(later) != name(edit));
    edits.iter().enumerate().filter(last).map(|(_, edit)| edit)
}

async fn make(client: &Client, edits: Edits) -> Result<()> {
    let policies = Api::<DistributionPolicy>::all(client.clone());
    for edit in last_of_each(&edits).cloned() {
        match edit {
            Err(name) => drop(policies.delete(name, &DeleteParams::default()).await),
            Ok(policy) => match policies.get_opt(&policy.name_any()).await? {
                None => drop(policies.create(&PostParams::default(), &policy).await?),
                // Whatever the operator writes into the status meanwhile.
                Some(_) => {
                    let spec = json!([{ "op": "replace", "path": "/spec", "value": policy.spec }]);
                    let patch = Patch::<()>::Json(serde_json::from_value(spec)?);
                    policies.patch(&policy.name_any(), &PatchParams::default(), &patch).await?;
                }
            },
        }
    }
    Ok(())
}

/// The Secrets of requests, and what is granted of them.
struct Known {
    secrets: Vec<Secret>,
    granted: BTreeSet<Which>,
}

impl Known {
    /// Once the operator has seen to every request as it is decided now.
    async fn of(cluster: &ControlPlane, client: &Client, requests: &[SecretsDistribution]) -> Result<Self> {
        let answers = try_join_all(requests.iter().map(|request| explained(cluster, request))).await?;
        for (request, answer) in requests.iter().zip(&answers) {
            let what = format!("{} is seen to: {answer}", request.name_any());
            eventually(SOON, &what, async || {
                agree(client, request, answer).await?;
                let namespace = request.namespace().context("no namespace")?;
                let found = Api::<SecretsDistribution>::namespaced(client.clone(), &namespace);
                is_settled(&found.get(&request.name_any()).await?.status.unwrap_or_default())
            })
            .await?;
        }
        let secrets = Api::<Secret>::all(client.clone()).list(&ListParams::default().labels(OWNER_UID)).await?.items;
        let mut granted = BTreeSet::new();
        for (request, answer) in requests.iter().zip(&answers) {
            let destinations = answer["destinations"].as_array().into_iter().flatten();
            for told in destinations.filter(|told| told["permitted"] == true) {
                let namespace = told["namespace"].as_str().unwrap_or_default().to_owned();
                let name = request.spec.name.clone().unwrap_or(request.name_any());
                let key = format!("{}/{}", request.namespace().unwrap_or_default(), request.name_any());
                granted.insert((namespace, name, key));
            }
        }
        Ok(Self { secrets, granted })
    }

    /// The Secrets of granted requests that are granted no more, and that are gone, marked, or to be retained.
    fn lost(&self, after: &Self) -> BTreeSet<Which> {
        let which = |secret: &Secret| {
            let request = secret.annotations().get("xlscsde.nhs.uk/request").cloned().unwrap_or_default();
            (secret.namespace().unwrap_or_default(), secret.name_any(), request)
        };
        let is_revoked = |secret: &&Secret| {
            let owner = |secret: &Secret| secret.labels().get(OWNER_UID).cloned();
            let now = after.secrets.iter().find(|now| now.uid() == secret.uid() && owner(now) == owner(secret));
            let annotated = |now: &Secret, key: &str, value: &str| {
                now.annotations().get(key).is_some_and(|found| value.is_empty() || found == value)
            };
            now.is_none_or(|now| {
                annotated(now, "xlscsde.nhs.uk/revoked-at", "") || annotated(now, "xlscsde.nhs.uk/revocation", "Retain")
            })
        };
        let lost = self.secrets.iter().filter(|secret| self.granted.contains(&which(secret)));
        lost.filter(|secret| !after.granted.contains(&which(secret))).filter(is_revoked).map(which).collect()
    }
}

/// Nothing is under way: what is not as it should be stays so by itself.
fn is_settled(status: &SecretsDistributionStatus) -> Result<()> {
    for target in &status.targets {
        let message = target.message.as_deref().unwrap_or_default();
        let passes = match target.reason.as_deref() {
            Some("TargetConflict") => !message.contains("older request"),
            Some("NotDelegated" | "RevocationBlocked") => is_delegated(&target.namespace),
            Some("Throttled" | "ApiError" | "WriteRefused" | "SourcesNotReady") => true,
            _ => false,
        };
        ensure!(!passes, "{}: {message}", target.namespace);
    }
    Ok(())
}
