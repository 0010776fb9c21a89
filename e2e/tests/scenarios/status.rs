//! What people see: status, columns and events.

use anyhow::Result;
use e2e::{
    eventually,
    site::{SOON, Site, Tenant, condition},
};
use serde_json::json;

fn one(source: &str) -> serde_json::Value {
    json!({ "secrets": [{ "from": source, "to": "k" }] })
}

/// The columns of a table of kubectl.
fn columns(table: &str) -> Vec<&str> {
    let head = table.lines().next().unwrap_or_default();
    head.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect()
}

#[tokio::test]
async fn kubectl_shows_and_waits_for_what_matters() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("columns").await?;
    let kubectl = |arguments: &[&str]| site.cluster.kubectl(arguments).args(["--namespace", &tenant.namespace]);
    site.sources.set(&[("ColumnSource", b"1")])?;
    let named = json!({ "name": "the-secret", "secrets": [{ "from": "ColumnSource", "to": "k" }] });
    tenant.request("r", named).await?;
    kubectl(&["wait", "sd/r", "--for=condition=Ready=false", "--timeout=20s"]).succeed().await?;
    let denied = kubectl(&["get", "sd", "r"]).succeed().await?;
    assert!(denied.contains("False") && denied.contains("NoPolicyForNamespace"), "{denied}");
    tenant.grant(&["ColumnSource"]).await?;
    kubectl(&["wait", "sd/r", "--for=condition=Ready", "--timeout=20s"]).succeed().await?;

    let usage = "xlscsde.nhs.uk/secretUsage=Wildcard Certificate";
    kubectl(&["annotate", "sd", "r", usage]).succeed().await?;
    let table = kubectl(&["get", "sd"]).succeed().await?;
    assert_eq!(columns(&table), ["NAME", "SECRET", "READY", "REASON", "LAST SYNC", "AGE"], "{table}");
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["r", "the-secret", "True", "Ready"], "{table}");
    let wide = kubectl(&["get", "sd", "-o", "wide"]).succeed().await?;
    assert_eq!(columns(&wide)[6..], ["TYPE", "USAGE", "TRACE"], "{wide}");
    assert!(wide.contains("Wildcard Certificate"), "{wide}");

    site.until_policy(&tenant.namespace, "counted", |status| (status.granted == Some(1)).then_some(())).await?;
    let policy = site.cluster.kubectl(["get", "dp", &tenant.namespace]).succeed().await?;
    let expected = ["NAME", "ENFORCEMENT", "ACCEPTED", "NAMESPACES", "GRANTED", "DENIED", "AGE"];
    assert_eq!(columns(&policy), expected, "{policy}");
    let row: Vec<_> = policy.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..6], ["Enforce", "True", "1", "1", "0"], "{policy}");
    Ok(())
}

#[tokio::test]
async fn a_status_is_about_one_generation_and_says_everything_about_it() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("generation").await?;
    site.sources.set(&[("FirstSource", b"1"), ("SecondSource", b"2")])?;
    tenant.grant(&["FirstSource"]).await?;
    tenant.request("r", one("FirstSource")).await?;
    let status = tenant.until_ready("r").await?;
    assert_eq!(status.secret_name.as_deref(), Some("r"));
    assert_eq!((status.targets_total, status.targets_synced), (Some(1), Some(1)));
    assert_eq!(status.targets[0].namespace, tenant.namespace);
    assert!(status.targets[0].last_written.is_some() && status.last_sync_time.is_some());
    assert_eq!(status.decisions[0].policy.as_ref(), Some(&tenant.namespace));

    let both = json!([{ "from": "FirstSource", "to": "k" }, { "from": "SecondSource", "to": "l" }]);
    let changed = tenant.change("r", json!({ "secrets": both })).await?;
    let message = tenant.until_condition("r", "Permitted", "False", "SourceNotPermitted").await?;
    assert!(message.contains("source SecondSource is not granted to namespace"), "{message}");
    let refused = tenant.until("r", "refused", |status| Some(status.clone())).await?;
    assert_eq!(refused.observed_generation, changed.metadata.generation);
    for kind in ["Permitted", "Synced", "Ready"] {
        assert_eq!(condition(&refused, kind).unwrap().observed_generation, refused.observed_generation, "{kind}");
        assert_eq!(condition(&refused, kind).unwrap().status, "False", "{kind}");
    }
    let decisions: Vec<_> =
        refused.decisions.iter().map(|d| (d.to.as_str(), format!("{:?}", d.result), d.reason.as_deref())).collect();
    let expected = [("k", "Granted".to_owned(), None), ("l", "Refused".to_owned(), Some("SourceNotPermitted"))];
    assert_eq!(decisions, expected);
    Ok(())
}

#[tokio::test]
async fn an_event_tells_each_new_reason_once() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("events").await?;
    site.sources.set(&[("EventSource", b"1")])?;
    tenant.request("r", one("EventSource")).await?;
    tenant.until_event("r", "NoPolicyForNamespace").await?;
    tenant.grant(&["AnotherSource"]).await?;
    tenant.until_event("r", "SourceNotPermitted").await?;
    tenant.grant(&["EventSource"]).await?;
    tenant.until_ready("r").await?;
    site.sources.remove("EventSource")?;
    let note = tenant.until_event("r", "SourceMissing").await?;
    assert_eq!(note, tenant.until_condition("r", "Synced", "False", "SourceMissing").await?);
    // Looked at again for several reasons, and each time it is as it was.
    tenant.grant(&["EventSource", "AnotherSource"]).await?;
    tenant.change("r", json!({ "metadata": { "labels": { "a": "b" } } })).await?;
    tenant.until_condition("r", "Synced", "False", "SourceMissing").await?;
    passed(&tenant).await?;

    let reasons: Vec<_> = tenant.events("r").await?.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(reasons, ["NoPolicyForNamespace", "SourceNotPermitted", "SourceMissing"]);
    assert_eq!(tenant.events("barrier").await?, [], "a routine success is no event");
    Ok(())
}

#[tokio::test]
async fn an_event_tells_what_is_the_case_now_also_of_a_long_name() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("notes").await?;
    site.sources.set(&[("NotePresent", b"1")])?;
    tenant.grant(&["Note*"]).await?;
    // A request that comes before its policy has been read is told so, which would be one more event.
    site.until_accepted(&tenant.namespace, "True", "InForce").await?;
    let name = "n".repeat(253);
    tenant.request(&name, one("NotePresent")).await?;
    for (source, events) in [("NoteOne", 1), ("NoteTwo", 2), ("NoteOne", 2)] {
        tenant.until_ready(&name).await?;
        tenant.change(&name, one(source)).await?;
        // The third time there is no new event to wait for.
        tenant.until_condition(&name, "Synced", "False", "SourceMissing").await?;
        eventually(SOON, &format!("an event about {source}"), async || {
            let told = tenant.events(&name).await?;
            let about = told.iter().filter(|(reason, note)| reason == "SourceMissing" && note.contains(source));
            anyhow::ensure!(about.count() == 1 && told.len() == events, "{told:?}");
            Ok(())
        })
        .await?;
        tenant.change(&name, one("NotePresent")).await?;
    }
    let counts = ["get", "events", "-n", &tenant.namespace, "-o", "jsonpath={.items[*].series.count}"];
    let counted = eventually(SOON, "the same again is counted up", async || {
        let counts = site.cluster.kubectl(counts).succeed().await?;
        anyhow::ensure!(counts == "2", "{counts:?}");
        Ok(())
    });
    counted.await
}

/// Everything that was due in the namespace before has been seen to.
async fn passed(tenant: &Tenant<'_>) -> Result<()> {
    tenant.site.sources.set(&[("BarrierSource", b"1")])?;
    let granting = json!({
        "namespaces": { "names": [tenant.namespace] },
        "rules": [{ "effect": "Allow", "sources": ["BarrierSource"] }],
    });
    let policy = format!("{}-barrier", tenant.namespace);
    tenant.site.policy(&policy, granting).await?;
    tenant.site.until_accepted(&policy, "True", "InForce").await?;
    tenant.request("barrier", one("BarrierSource")).await?;
    tenant.until_ready("barrier").await?;
    Ok(())
}

#[tokio::test]
async fn a_policy_says_whether_it_is_in_force_and_what_it_is_about() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("audited").await?;
    let name = tenant.namespace.as_str();
    site.sources.set(&[("AuditSource", b"1")])?;
    tenant.request("r", one("AuditSource")).await?;
    let rules = |effect: &str| json!([{ "effect": effect, "sources": ["AuditSource"] }]);
    let named = json!({ "names": [name] });

    site.policy(name, json!({ "enforcement": "Audit", "namespaces": named, "rules": rules("Allow") })).await?;
    let message = site.until_accepted(name, "True", "AuditOnly").await?;
    assert!(message.contains("it does nothing"), "{message}");
    let counts = |status: &secrets_distributor::api::DistributionPolicyStatus| {
        (status.matched_namespaces, status.granted, status.denied)
    };
    let counted = async |what: &str, expected: (i32, i32, i32)| {
        let expected = (Some(expected.0), Some(expected.1), Some(expected.2));
        site.until_policy(name, what, |status| (counts(status) == expected).then_some(())).await
    };
    counted("would grant one", (1, 1, 0)).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    assert!(tenant.secret("r").await?.is_none(), "an audit grants nothing");

    site.policy(name, json!({ "enforcement": "Enforce", "namespaces": named, "rules": rules("Allow") })).await?;
    site.until_accepted(name, "True", "InForce").await?;
    tenant.until_ready("r").await?;
    let denying = format!("{name}-deny");
    site.policy(&denying, json!({ "enforcement": "Audit", "namespaces": named, "rules": rules("Deny") })).await?;
    site.until_policy(&denying, "would deny one", |s| (counts(s) == (Some(1), Some(0), Some(1))).then_some(())).await?;
    tenant.until_ready("r").await?;

    let by = |label: &str| json!({ "selector": { "matchLabels": { label: name } } });
    site.policy(&denying, json!({ "namespaces": by("team"), "rules": rules("Allow") })).await?;
    let message = site.until_accepted(&denying, "True", "SelectorOnMutableLabel").await?;
    assert!(message.contains("kubernetes.io/metadata.name"), "{message}");
    site.policy(&denying, json!({ "namespaces": by("kubernetes.io/metadata.name"), "rules": rules("Allow") })).await?;
    site.until_accepted(&denying, "True", "InForce").await?;
    Ok(())
}
