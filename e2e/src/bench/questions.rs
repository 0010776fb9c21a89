//! How long people wait for an answer about a large platform, against only reading what it is about.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Resource};
use secrets_distributor::api::{DistributionPolicy, SecretsDistribution};
use serde_json::json;
use tokio::process::Command;

use super::figures::Figures;
use super::{AT_A_TIME, ask, spec};
use crate::binaries::sibling;
use crate::progress::narrated;
use crate::site::Site;

/// For all Secrets to be written.
const CONVERGED_WITHIN: Duration = Duration::from_secs(900);

fn namespace(number: usize) -> String {
    format!("team-{}-{number}", number % 10)
}

/// One policy for each namespace: of ten one speaks about all of a team, the others about one.
fn policy(number: usize, sources: &[&str]) -> serde_json::Value {
    let names = match number % 10 {
        0 => format!("team-{}-*", number / 10 % 10),
        _ => namespace(number),
    };
    json!({
        "namespaces": { "names": [names] },
        "rules": [{ "effect": "Allow", "sources": sources }],
        "revocation": { "gracePeriod": "5m" },
    })
}

/// Has the operator write all Secrets, and asks each question several times.
pub(super) async fn measure(namespaces: usize, rounds: usize) -> Result<Figures> {
    let site = Site::prepare().await?.configured(|config| config.argument("--rate-limit").argument("100000/1s"));
    site.sources.set(&[("password", b"p"), ("certificate", b"c")])?;
    narrated("namespaces, delegations and policies", populate(&site, namespaces)).await?;
    site.start_operator().await?;
    let requests = narrated("requests", requests(&site, namespaces)).await?;
    narrated("until all Secrets are written", site.until_all_ready(requests, CONVERGED_WITHIN)).await?;
    site.terminate_operator(Duration::from_secs(10)).await?;

    let proposal = site.sources.mount().path().with_file_name("proposal.yaml");
    let narrower = (0..10).map(|number| {
        let (name, spec) = (format!("policy-{number}"), policy(number, &["password"]));
        let kind = "DistributionPolicy";
        json!({ "apiVersion": "xlscsde.nhs.uk/v1", "kind": kind, "metadata": { "name": name }, "spec": spec })
    });
    std::fs::write(&proposal, narrower.map(|policy| format!("---\n{policy}\n")).collect::<String>())?;
    let proposal = proposal.to_str().context("a path that is no text")?;
    let questions: [(&str, &[&str]); 3] = [
        ("explain one", &["explain", "request-1", "-n", "team-1-1"]),
        ("who-gets a source", &["who-gets", "certificate"]),
        ("plan ten narrower policies", &["plan", "-f", proposal]),
    ];
    let (mut reads, mut answers) = (Vec::new(), questions.map(|_| Vec::new()));
    for _ in 0..rounds {
        reads.push(read(&site).await?);
        for ((_, arguments), took) in questions.iter().zip(&mut answers) {
            took.push(answer(site.cluster.kubeconfig(), arguments).await?);
        }
    }
    let mut figures = Figures::default();
    figures.add(format!("{requests} requests: only reading them"), reads.clone(), "s", None);
    for ((what, _), took) in questions.into_iter().zip(answers) {
        figures.beside(format!("{requests} requests: {what}"), took, reads.clone());
    }
    Ok(figures)
}

async fn populate(site: &Site, namespaces: usize) -> Result<()> {
    let delegated = stream::iter(0..namespaces)
        .map(|number| async move { site.named_tenant(&namespace(number), json!({})).await?.delegate().await });
    delegated.buffer_unordered(AT_A_TIME).try_collect::<Vec<_>>().await?;
    let policies = stream::iter(0..namespaces).map(|number| async move {
        site.policy(&format!("policy-{number}"), policy(number, &["password", "certificate"])).await
    });
    policies.buffer_unordered(AT_A_TIME).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Ten in each namespace.
async fn requests(site: &Site, namespaces: usize) -> Result<usize> {
    let all = (0..10).flat_map(|i| (0..namespaces).map(move |number| (namespace(number), format!("request-{i}"))));
    let spec = spec(&[("password", "password"), ("certificate", "certificate")]);
    Ok(ask(&site.cluster.client().await?, all, &spec).await?.len())
}

/// Policies, namespaces and requests, as JSON.
async fn read(site: &Site) -> Result<f64> {
    let client = site.cluster.client().await?;
    let resources = [
        kube::core::ApiResource::erase::<k8s_openapi::api::core::v1::Namespace>(&()),
        kube::core::ApiResource::erase::<DistributionPolicy>(&()),
        kube::core::ApiResource::erase::<SecretsDistribution>(&()),
    ];
    let begun = Instant::now();
    for resource in resources {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let kind = DynamicObject::kind(&resource).into_owned();
        ensure!(!api.list(&ListParams::default()).await?.items.is_empty(), "there is no {kind}");
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// From the start of the program to its end.
async fn answer(kubeconfig: &Path, arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new(sibling("secrets-distributor")?);
    command.args(arguments).arg("--kubeconfig").arg(kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
    let begun = Instant::now();
    let output = command.output().await?;
    let took = begun.elapsed().as_secs_f64();
    // 2: the plan revokes.
    let failed = !matches!((arguments[0], output.status.code()), (_, Some(0)) | ("plan", Some(2)));
    ensure!(!failed && !output.stdout.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}
