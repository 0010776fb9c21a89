//! What breaks if I merge this policy?

use anyhow::Result;
use e2e::site::Site;
use serde_json::{Value, json};

use super::transcript::{Transcript, site};

/// The policy of two warehouses, with more fields.
fn warehouses(more: &str) -> String {
    format!(
        "\
apiVersion: xlscsde.nhs.uk/v1
kind: DistributionPolicy
metadata: {{name: warehouses}}
spec:
  namespaces: {{names: [warehouse-north, warehouse-south]}}
  rules:
  - {{effect: Allow, sources: [stock/reader], keys: [password]}}
{more}"
    )
}

#[tokio::test]
async fn the_transcript_of_plan() -> Result<()> {
    let site = site().await?;
    site.sources.set(&[("stock/reader", b"r"), ("stock/writer", b"w")])?;
    let both = json!([{ "effect": "Allow", "sources": ["stock/*"] }]);
    warehouse_policy(site, "warehouses", both.clone(), json!({ "revocation": { "gracePeriod": "30m" } })).await?;
    let stock = |source: &str| json!({ "secrets": [{ "from": format!("stock/{source}"), "to": "password" }] });
    let north = site.named_tenant("warehouse-north", json!({})).await?;
    let south = site.named_tenant("warehouse-south", json!({})).await?;
    north.delegate().await?;
    for source in ["reader", "writer"] {
        north.request(source, stock(source)).await?;
        north.until_ready(source).await?;
    }
    south.request("writer", stock("writer")).await?;
    south.until_condition("writer", "Synced", "False", "NotDelegated").await?;
    let mut told = Transcript::new(site, "plan")?;
    let plan =
        |options: &str, more: &str| format!("kubectl distribute plan -f - {options}<< 'EOF'\n{}EOF", warehouses(more));

    told.say("A policy is narrowed. What would be taken away, and when? The grace period is that on the Secret.");
    told.run(&plan("", "")).await?;

    told.say("The same policy, with an end and with limits. Before the end nothing is revoked.");
    let until = "  - {effect: Allow, sources: [stock/writer], keys: [password]}
  limits: {distributions: 10}
  rateLimit: {writes: 6, per: 1m}
  notAfter: 2099-01-01T00:00:00Z
";
    told.run(&plan("", until)).await?;

    told.say("For a pipeline that shall stop on anything, and for a program. docs/plan.schema.json describes it.");
    told.run(&plan("--fail-on any -o json ", "")).await?;

    told.say("A policy is deleted, and one that is not there.");
    told.run("kubectl distribute plan --delete warehouses").await?;
    told.run("kubectl distribute plan --delete warehouse").await?;

    told.say("Who may not list Secrets is told what the statuses of requests say.");
    let role = "--clusterrole=secrets-distributor-policy-viewer";
    let bind = ["create", "clusterrolebinding", "petra", role, "--serviceaccount=warehouse-north:petra"];
    site.cluster.kubectl(bind).succeed().await?;
    told.act_as(&north, "petra", "view").await?;
    told.run("kubectl distribute plan --delete warehouses").await?;

    told.say("An app team may not ask for the whole cluster.");
    told.act_as(&north, "ada", "edit").await?;
    told.run("kubectl distribute plan --delete warehouses").await?;

    told.say("What the plan says comes about.");
    warehouse_policy(site, "warehouses", json!([{ "effect": "Allow", "sources": ["stock/reader"] }]), json!({}))
        .await?;
    north.until_condition("writer", "Synced", "False", "RevocationPending").await?;
    north.until_ready("reader").await?;
    told.finish();
    Ok(())
}

async fn warehouse_policy(site: &Site, name: &str, rules: Value, more: Value) -> Result<()> {
    let mut spec = json!({ "namespaces": { "names": ["warehouse-north", "warehouse-south"] }, "rules": rules });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    site.policy(name, spec).await
}
