//! Letting the operator in, and out again.

use anyhow::Result;
use serde_json::json;

use super::transcript::{Transcript, site};

#[tokio::test]
async fn the_transcript_of_delegate() -> Result<()> {
    let site = site().await?;
    let tenant = site.named_tenant("orders", json!({})).await?;
    let mut told = Transcript::new(site, "delegate")?;

    told.say("An admin of the namespace, with her own token. Shown only:");
    told.act_as(&tenant, "ada", "admin").await?;
    told.run("kubectl distribute delegate orders").await?;

    told.say("Applied, and checked: the API server is asked what the operator may do now.");
    told.run("kubectl distribute delegate orders --apply").await?;
    told.run("kubectl distribute delegate orders --apply").await?;

    told.say("Taken back. Once more changes nothing.");
    told.run("kubectl distribute undelegate orders --apply").await?;
    told.run("kubectl distribute undelegate orders --apply").await?;

    told.say("Another binding still lets the operator in: it is told.");
    let another = ["create", "rolebinding", "another", "--clusterrole=secrets-distributor-tenant", "-n", "orders"];
    let another = site.cluster.kubectl(another).arg("--serviceaccount=secrets-distributor:secrets-distributor");
    another.succeed().await?;
    told.run("kubectl distribute undelegate orders --apply").await?;
    site.cluster.kubectl(["delete", "rolebinding", "another", "-n", "orders"]).succeed().await?;

    told.say("For an operator that runs with --secrets-access writeOnly; the platform team has not made its role.");
    told.run("kubectl distribute delegate orders --secrets-access writeOnly --apply").await?;

    told.say("Somebody who may edit, and not delegate.");
    told.act_as(&tenant, "edward", "edit").await?;
    told.run("kubectl distribute delegate orders --apply").await?;
    told.run("kubectl distribute delegate Orders").await?;
    told.finish();
    Ok(())
}
