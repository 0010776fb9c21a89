//! From an empty cluster to a Secret in a pod, through rotation, upgrade, rollback, uninstall and reinstall.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::{is_full, repository};
use serde_json::{Value, json};

use crate::world::{HOME, Pair, TENANT, World};

/// How many requests there are in the end, and how much memory is enough for them.
struct Load {
    many: usize,
    memory: &'static str,
}

impl Load {
    /// With `FULL=1` more of them than many a cluster has, in a quarter of what the chart gives the operator.
    fn asked_for() -> Self {
        match is_full() {
            true => Self { many: 5000, memory: "64Mi" },
            false => Self { many: 1000, memory: "40Mi" },
        }
    }
}

const REQUEST: &str = "sd/wildcard-tls-distribution";

fn values(collector: &str, memory: &str) -> Value {
    json!({
        "tracing": { "endpoint": collector },
        "imagePullPolicy": "Never",
        "sources": [{ "secret": { "name": "provider" } }],
        "tenants": [TENANT],
        "replicas": 1,
        "resources": { "limits": { "memory": memory }, "requests": { "memory": memory } },
        "env": [{ "name": "RATE_LIMIT", "value": "100000/1s" }],
    })
}

pub async fn story(world: &World) -> Result<()> {
    let (first, second) = (Pair::new(), Pair::new());
    world.provide(&first).await?;
    let (collector, jaeger) = world.jaeger().await?;
    let Load { many, memory } = Load::asked_for();
    let values = values(&collector, memory);
    let started = Instant::now();
    world.release("install", &values).await?;
    the_pod_is_restricted(world).await?;

    // As the documentation has them.
    world.cluster.apply_path(&repository().join("policies/wildcard-tls.yaml")).await?;
    world.cluster.apply_path(&repository().join("docs/examples/wildcard-tls-distribution.yaml")).await?;
    world.until_ready(REQUEST).await?;
    eprintln!("from helm install to the first Secret: {:.1} s", started.elapsed().as_secs_f32());
    world.consumer("early").await?;
    world.until_seen("early", &first, &first).await?;

    // The kubelet changes the mount of the operator, which changes the Secret, which the kubelet brings to the consumer.
    let started = Instant::now();
    world.provide(&second).await?;
    world.until_seen("early", &second, &first).await?;
    eprintln!("from the provider, by two mounts, to the consumer: {:.1} s", started.elapsed().as_secs_f32());
    world.until_traced(jaeger, REQUEST).await?;
    world.consumer("later").await?;
    world.until_seen("later", &second, &second).await?;

    let started = Instant::now();
    world.distribute(many).await?;
    eprintln!("{many} more within {memory}: {:.1} s", started.elapsed().as_secs_f32());
    nothing_is_written_by_a_change_of_the_release(world, &values).await?;
    world.until_seen("later", &second, &second).await?;
    // It still works.
    world.provide(&first).await?;
    world.until_seen("later", &first, &second).await?;
    world.until_rotated(many, &first).await?;
    world.nobody_was_killed().await
}

async fn the_pod_is_restricted(world: &World) -> Result<()> {
    let pods = world.operators().await?;
    let pod = pods.first().and_then(|pod| pod.spec.as_ref()).context("no pod")?;
    let container = pod.containers.first().and_then(|container| container.security_context.as_ref());
    ensure!(container.and_then(|context| context.read_only_root_filesystem) == Some(true), "{pod:?}");
    let namespace = world.cluster.kubectl(["get", "namespace", HOME, "-o", "jsonpath={.metadata.labels}"]);
    ensure!(namespace.succeed().await?.contains(r#""pod-security.kubernetes.io/enforce":"restricted""#));
    Ok(())
}

async fn nothing_is_written_by_a_change_of_the_release(world: &World, values: &Value) -> Result<()> {
    let before = world.version().await?;
    let mut upgraded = values.clone();
    upgraded["replicas"] = json!(2);
    upgraded["log"] = json!({ "level": "debug" });
    world.release("upgrade", &upgraded).await?;
    ensure!(world.operators().await?.len() == 2);
    world.until_at_work("after-upgrade").await?;
    nothing_was_written(world, &before, "upgrade").await?;

    world.rollback("1").await?;
    ensure!(world.operators().await?.len() == 1);
    world.until_at_work("after-rollback").await?;
    nothing_was_written(world, &before, "rollback").await?;

    world.uninstall().await?;
    let kinds = ["get", "crd", "secretsdistributions.xlscsde.nhs.uk", "distributionpolicies.xlscsde.nhs.uk"];
    world.cluster.kubectl(kinds).succeed().await?;
    world.until_ready(REQUEST).await?;
    nothing_was_written(world, &before, "uninstall").await?;

    world.release("install", values).await?;
    world.until_at_work("after-reinstall").await?;
    nothing_was_written(world, &before, "reinstall").await?;
    Ok(())
}

async fn nothing_was_written(world: &World, before: &str, by: &str) -> Result<()> {
    let now = world.version().await?;
    ensure!(now == before, "{by} has written the Secret: its version was {before} and is {now}");
    Ok(())
}
