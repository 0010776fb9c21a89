//! A thousand namespaces that have delegated their Secrets: each is watched by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::Result;
use e2e::{Operator, eventually, site::Site};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Namespace, Secret},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use secrets_distributor::{
    access::SecretsAccess,
    api::{SecretsDistribution, names},
    rbac,
};
use serde_json::json;

const NAMESPACES: usize = 1000;

/// Namespaces in which somebody edits the Secret.
const EDITED: usize = 20;

/// Generous: what is counted does not depend on it.
const CONVERGED_WITHIN: Duration = Duration::from_secs(120);

/// MiB of a debug build; measured were some 80, of which 40 KiB for each watch.
const MOST_MEMORY: u64 = 160;

#[tokio::test]
async fn a_thousand_delegated_namespaces_are_watched_each_by_itself() -> Result<()> {
    let begun = Instant::now();
    let site = Site::start().await?;
    let Some(audit) = site.cluster.audit() else { panic!("this test counts in the audit log of its own API server") };
    let client = site.cluster.client().await?;
    site.sources.set(&[("Source", b"right")])?;
    let rule = json!({ "effect": "Allow", "sources": ["Source"] });
    site.policy("watches", json!({ "namespaces": { "names": ["watched-*"] }, "rules": [rule] })).await?;
    let tell = |what: &str| println!("{what}: after {:.1} s", begun.elapsed().as_secs_f32());
    tell("the operator runs");
    for_each_namespace(|name| tenant(client.clone(), name)).await?;
    tell(&format!("{NAMESPACES} namespaces, delegated, with a request each"));
    site.until_all_ready(NAMESPACES, CONVERGED_WITHIN).await?;
    tell("all are Ready");
    all_watched(&site).await?;
    tell("all are watched");

    let memory = site.operator_memory()? / 1024;
    println!("resident memory of the operator: {memory} MiB");
    assert!(memory < MOST_MEMORY, "{memory} MiB");

    let edited: Vec<_> = (0..EDITED).map(|i| i * NAMESPACES / EDITED).collect();
    stream::iter(&edited)
        .map(|i| an_edit_is_repaired(&client, *i))
        .buffer_unordered(EDITED)
        .try_collect::<()>()
        .await?;
    tell(&format!("edits of {EDITED} Secrets are repaired"));

    site.kill_operator()?;
    eventually(CONVERGED_WITHIN, "no watch is open", async || match site.open_watches("secrets").await {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let restart = audit.mark().await?;
    site.start_operator().await?;
    all_watched(&site).await?;
    // What came in before this has been seen to when it is through: namespaces take turns.
    request(&client, NAMESPACES - 1, "last").await?;
    site.until_all_ready(NAMESPACES + 1, CONVERGED_WITHIN).await?;
    tell("watched again after a restart");
    let calls = audit.since(restart).await?.user(Operator::USER).writes().without_leases();
    let about: BTreeSet<_> = calls.iter().map(|call| format!("{} {}", call.verb, call.request_uri)).collect();
    let last = ["/secrets?", "/secretsdistributions/last/status", "/distributionpolicies/watches/status"];
    let unexpected: Vec<_> = about.iter().filter(|uri| !last.iter().any(|known| uri.contains(known))).collect();
    assert!(unexpected.is_empty(), "a restart writes nothing: {unexpected:#?}");
    assert_eq!(calls.clone().resource("secrets").len(), 1, "the last request's alone");
    Ok(())
}

fn namespace(i: usize) -> String {
    format!("watched-{i}")
}

async fn for_each_namespace<F: Future<Output = Result<()>>>(work: impl Fn(usize) -> F) -> Result<()> {
    stream::iter(0..NAMESPACES).map(work).buffer_unordered(32).try_collect().await
}

/// A namespace that lets the operator in and asks for a Secret.
async fn tenant(client: Client, i: usize) -> Result<()> {
    let metadata = ObjectMeta { name: Some(namespace(i)), ..ObjectMeta::default() };
    let object = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
    let (operator, account) = (Operator::NAMESPACE, Operator::SERVICE_ACCOUNT);
    let binding = rbac::delegation(SecretsAccess::Watch, Some(&namespace(i)), operator, account);
    Api::<RoleBinding>::namespaced(client.clone(), &namespace(i)).create(&PostParams::default(), &binding).await?;
    request(&client, i, "r").await
}

async fn request(client: &Client, i: usize, name: &str) -> Result<()> {
    let object = json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": "SecretsDistribution",
        "metadata": { "name": name },
        "spec": { "secrets": [{ "from": "Source", "to": "k" }] },
    });
    let requests: Api<SecretsDistribution> = Api::namespaced(client.clone(), &namespace(i));
    requests.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

async fn all_watched(site: &Site) -> Result<()> {
    eventually(CONVERGED_WITHIN, "each delegated namespace is watched", async || {
        match site.open_watches("secrets").await {
            Ok(NAMESPACES) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Edits a Secret, and waits until it is as it shall be and the status has told it.
async fn an_edit_is_repaired(client: &Client, i: usize) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace(i));
    let requests: Api<SecretsDistribution> = Api::namespaced(client.clone(), &namespace(i));
    let edit = Patch::Merge(json!({ "stringData": { "k": "wrong" } }));
    secrets.patch("r", &PatchParams::default(), &edit).await?;
    eventually(CONVERGED_WITHIN, &format!("the edit in {} is repaired", namespace(i)), async || {
        let secret = secrets.get("r").await.map_err(|error| error.to_string())?;
        let content = secret.data.unwrap_or_default().remove("k").map(|content| content.0);
        if content.as_deref() != Some(b"right") {
            return Err("it is as edited".to_owned());
        }
        let ours = secret
            .metadata
            .managed_fields
            .into_iter()
            .flatten()
            .filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
        let written = ours.filter_map(|entry| entry.time).max();
        let request = requests.get("r").await.map_err(|error| error.to_string())?;
        let told = request.status.and_then(|status| status.last_sync_time);
        if told == written { Ok(()) } else { Err(format!("written {written:?}, told {told:?}")) }
    })
    .await
}
