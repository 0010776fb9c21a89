//! What Helm and kube-score, with all its checks, find in the chart: each finding that stays is explained here.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use e2e::helm::Helm;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::helm;

/// The oldest Kubernetes that the chart is for.
const KUBERNETES: &str = "v1.30";

/// Check, finding, and why it stands.
const EXPLAINED: [(&str, &str, &str); 9] = [
    (
        "container-resources",
        "CPU limit is not set",
        "a limit throttles the operator when it has most to do, and a revocation or the renewal of the Lease would \
         wait; the request alone gives others their share",
    ),
    ("container-cpu-requests-equal-limits", "CPU requests does not match limits", "there is no limit"),
    ("container-resource-requests-equal-limits", "CPU requests does not match limits", "there is no limit"),
    (
        "container-memory-requests-equal-limits",
        "Memory requests does not match limits",
        "what it needs grows with the number of requests: the limit is for thousands, the request for a usual cluster",
    ),
    (
        "container-resource-requests-equal-limits",
        "Memory requests does not match limits",
        "as the check before it, which it repeats",
    ),
    (
        "container-ephemeral-storage-request-and-limit",
        "Ephemeral Storage limit is not set",
        "it can write no file: the root is read-only and no volume is writable; the kubelet rotates the log",
    ),
    (
        "container-ephemeral-storage-request-and-limit",
        "Ephemeral Storage request is not set",
        "it can write no file, and a node that does not account for storage would refuse a pod that asks for it",
    ),
    (
        "container-image-pull-policy",
        "ImagePullPolicy is not set to Always",
        "without other values the image is one that the nodes have, and there is no registry to ask",
    ),
    (
        "deployment-has-host-podantiaffinity",
        "Deployment does not have a host podAntiAffinity set",
        "topologySpreadConstraints spread the replicas over nodes",
    ),
];

/// One check of one object, as kube-score tells it.
#[derive(Deserialize)]
struct Check {
    check: Id,
    grade: u8,
    comments: Option<Vec<Comment>>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Comment {
    summary: String,
}

#[derive(Deserialize)]
struct Object {
    object_name: String,
    checks: Vec<Check>,
}

/// What it gives to a check in which nothing was found.
const ALL_OK: u8 = 10;

impl Check {
    fn findings(&self) -> impl Iterator<Item = (String, String)> {
        let comments = self.comments.iter().flatten().filter(|_| self.grade < ALL_OK);
        comments.map(|comment| (self.check.id.clone(), comment.summary.clone()))
    }
}

/// The objects that kube-score judged, of what the chart makes of these values.
async fn judged(values: &Value) -> Result<Vec<Object>> {
    let (helm, folder) = helm().await?;
    let file = folder.path().join("rendered.yaml");
    fs::write(&file, helm.release("template", "secrets-distributor", values).await?)?;
    let mut score = Command::new(e2e::kube_score().await?);
    score.args(["score", "--all-default-optional", "--kubernetes-version", KUBERNETES, "--output-format", "json"]);
    let output = score.arg(file).output().await.context("kube-score cannot be run")?;
    // It fails when it has found something, too.
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.is_empty(), "{said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn findings(objects: &[Object]) -> BTreeSet<(String, String)> {
    objects.iter().flat_map(|object| &object.checks).flat_map(Check::findings).collect()
}

/// As on a cluster that has everything.
fn full() -> Value {
    let monitoring = json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } });
    json!({
        "replicas": 2,
        "image": "registry.example.org/secrets-distributor:0.1.0",
        "imagePullPolicy": "Always",
        "sources": [
            { "folder": "keyvault", "csi": { "secretProviderClass": "keyvault" } },
            { "folder": "secret", "secret": { "name": "provider" } },
        ],
        "tenants": ["team-a"],
        "rbac": { "scope": "cluster" },
        "metrics": {
            "serviceMonitor": { "enabled": true },
            "prometheusRule": { "enabled": true },
            "dashboards": { "enabled": true },
        },
        "tracing": { "endpoint": "http://jaeger.jaeger:4317", "protocol": "grpc" },
        "networkPolicy": { "metricsFrom": [monitoring], "apiServer": { "cidrs": ["10.0.0.1/32"] } },
        "flowControl": { "enabled": true },
        "priorityClassName": "system-cluster-critical",
    })
}

#[tokio::test]
async fn helm_itself_finds_nothing_to_complain_of() -> Result<()> {
    let (helm, folder) = helm().await?;
    let (chart, values) = (Helm::chart(), folder.path().join("values.yaml"));
    for set in [json!({}), full()] {
        fs::write(&values, set.to_string())?;
        let arguments = ["lint".as_ref(), "--strict".as_ref(), "--values".as_ref(), values.as_os_str()];
        helm.run(arguments.into_iter().chain([chart.as_os_str()])).await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_finding_is_explained_and_each_explanation_is_of_a_finding() -> Result<()> {
    let mut found = BTreeSet::new();
    for values in [json!({}), full()] {
        let objects = judged(&values).await?;
        for kind in ["Deployment/apps/v1", "NetworkPolicy/networking.k8s.io/v1", "PodDisruptionBudget/policy/v1"] {
            let seen = objects.iter().any(|object| object.object_name.starts_with(kind) && !object.checks.is_empty());
            assert!(seen, "kube-score judges no {kind}");
        }
        found.extend(findings(&objects));
    }
    let explained: BTreeSet<_> =
        EXPLAINED.iter().map(|(check, finding, _)| ((*check).into(), (*finding).into())).collect();
    assert_eq!(found, explained);
    Ok(())
}

#[tokio::test]
async fn what_the_values_make_worse_is_found() -> Result<()> {
    for (values, check) in [
        (json!({ "networkPolicy": { "enabled": false } }), "pod-networkpolicy"),
        (json!({ "podDisruptionBudget": { "enabled": false } }), "deployment-has-poddisruptionbudget"),
        (json!({ "resources": { "limits": { "memory": null } } }), "container-resources"),
        (json!({ "image": "registry.example.org/secrets-distributor:latest" }), "container-image-tag"),
    ] {
        let found = findings(&judged(&values).await?);
        let explained = |id: &str, finding: &str| EXPLAINED.iter().any(|known| (known.0, known.1) == (id, finding));
        let unexplained = found.iter().filter(|(id, finding)| !explained(id, finding)).map(|(id, _)| id.as_str());
        assert_eq!(unexplained.collect::<BTreeSet<_>>(), BTreeSet::from([check]), "{values}: {found:?}");
    }
    Ok(())
}
