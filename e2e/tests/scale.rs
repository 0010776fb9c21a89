//! What a thousand distributions cost: counted in the API server's audit log, not timed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use e2e::{AuditEntries, Operator, eventually, site::Site};
use futures::{StreamExt, TryStreamExt, stream};
use kube::Api;
use serde_json::json;

const NAMESPACES: usize = 20;
const EACH: usize = 50;
const ALL: usize = NAMESPACES * EACH;

/// Generous: what is counted does not depend on it.
const CONVERGED_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_thousand_distributions_cost_one_write_each_and_a_restart_costs_none() -> Result<()> {
    let site = Site::start().await?;
    let Some(audit) = site.cluster.audit() else { panic!("this test counts in the audit log of its own API server") };
    site.sources.set(&[("A", b"a"), ("B", b"b"), ("C", b"c")])?;
    let spec = json!({
        "namespaces": { "names": ["scale-*"] },
        "rules": [{ "effect": "Allow", "sources": ["A", "B", "C"] }],
        // Nobody shall wait for a token here: that would be one more word in the status.
        "rateLimit": { "writes": 100_000, "per": "1s" },
    });
    site.policy("scale", spec).await?;
    let mut tenants = Vec::new();
    for _ in 0..NAMESPACES {
        tenants.push(site.tenant("scale").await?);
    }

    let start = audit.mark().await?;
    let requests = tenants.iter().flat_map(|tenant| (0..EACH).map(move |i| (tenant, format!("r{i}"))));
    stream::iter(requests)
        .map(|(tenant, name)| async move {
            let mappings = ["A", "B", "C"].map(|source| json!({ "from": source, "to": source }));
            tenant.request(&name, json!({ "secrets": mappings })).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    site.until_all_ready(ALL, CONVERGED_WITHIN).await?;
    let calls = audit.since(start).await?.user(Operator::USER);
    assert_eq!(count(&calls, "secrets", "create"), ALL, "one write of each Secret");
    assert_eq!(count(&calls, "secrets", "patch") + count(&calls, "secrets", "get"), 0, "{}", summary(&calls));
    assert_eq!(count(&calls, "secretsdistributions", "patch"), ALL, "one write of each status: {}", summary(&calls));
    assert_eq!(count(&calls, "events", "create"), 0, "a routine success is no event");
    println!("{ALL} new distributions: {}", summary(&calls));

    let policy_counts = || async {
        let policies: Api<secrets_distributor::api::DistributionPolicy> = Api::all(site.cluster.client().await?);
        Ok::<_, anyhow::Error>(policies.get("scale").await?.status.and_then(|status| status.granted))
    };
    eventually(CONVERGED_WITHIN, "the policy counts every Secret", async || match policy_counts().await {
        Ok(Some(granted)) if granted as usize == ALL => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;

    site.kill_operator()?;
    let restart = audit.mark().await?;
    site.start_operator().await?;
    // The queue is first in, first out: once this one is done, all that were there at the start have been seen to.
    let last = tenants[0].request("last", json!({ "secrets": [{ "from": "A", "to": "a" }] })).await?;
    tenants[0].until_ready("last").await?;
    let calls = audit.since(restart).await?.user(Operator::USER).without_leases();
    let others = calls.only(|call| call.object_ref.name != last.metadata.name.clone().unwrap_or_default());
    println!("restart with {ALL} converged: {}", summary(&others));
    let written = |call: &&e2e::AuditEntry| call.is_write() && call.object_ref.name != "scale";
    let writes: Vec<_> =
        others.iter().filter(written).map(|call| format!("{} {}", call.verb, call.request_uri)).collect();
    // The one create is that of `last`, which has no name in its path.
    let unexpected: Vec<_> = writes.iter().filter(|write| !write.starts_with("create /api/v1")).collect();
    assert!(unexpected.is_empty() && writes.len() <= 1, "a restart writes nothing: {writes:?}");
    assert_eq!(count(&others, "secrets", "get"), 0, "and reads no Secret by itself");
    Ok(())
}

fn count(calls: &AuditEntries, resource: &str, verb: &str) -> usize {
    calls.iter().filter(|call| call.object_ref.resource == resource && call.verb == verb).count()
}

fn summary(calls: &AuditEntries) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls.iter() {
        let object = &call.object_ref;
        *counts.entry(format!("{} {}/{}", call.verb, object.resource, object.subresource)).or_default() += 1;
    }
    format!("{counts:?}")
}
