//! May my namespace have this?

use anyhow::Result;
use serde_json::json;

use super::transcript::{Transcript, site};

#[tokio::test]
async fn the_transcript_of_can_i() -> Result<()> {
    let site = site().await?;
    let tenant = site.named_tenant("payments-test", json!({})).await?;
    let mut told = Transcript::new(site, "can-i")?;

    told.say("May a namespace receive a source? As kubectl auth can-i: the exit code is the answer, too.");
    told.run("kubectl distribute can-i --from test/payments/database-password -n payments-test").await?;
    told.run("kubectl distribute can-i --from test/research/database-password -n payments-test").await?;
    told.run(
        "kubectl distribute can-i --from test/payments/database-password --type kubernetes.io/tls -n payments-test",
    )
    .await?;
    told.run("kubectl distribute can-i --from production/payments/database-password -n payments-test").await?;
    told.run(
        "kubectl distribute can-i --from test/payments/database-password --requester-namespace default -n payments-test",
    )
    .await?;
    told.run("kubectl distribute can-i -q --from test/payments/database-password -n payments-test && echo it may")
        .await?;

    told.say("All that it may request.");
    told.run("kubectl distribute can-i --list -n payments-test").await?;
    told.run("kubectl distribute can-i --list -n payments-test -o wide").await?;

    told.say("The same before the policies are merged, without a cluster.");
    told.run("kubectl distribute can-i --list -n incident-4711 --policies policies/ --at 2026-01-15T21:00:00Z").await?;

    told.say("What makes no sense is told.");
    told.run("kubectl distribute can-i --from ../etc/passwd -n payments-test").await?;
    told.run("kubectl distribute can-i -n payments-test").await?;

    told.say("An app team may not read policies, and is told who may.");
    told.act_as(&tenant, "ada", "edit").await?;
    told.run("kubectl distribute can-i --from test/payments/database-password -n payments-test").await?;
    told.finish();
    Ok(())
}
