//! Who holds source X?

use anyhow::Result;
use serde_json::json;

use super::transcript::{Transcript, site};

const SOURCE: &str = "shared/api-token";

#[tokio::test]
async fn the_transcript_of_who_gets() -> Result<()> {
    let site = site().await?;
    site.sources.set(&[(SOURCE, b"t")])?;
    let one = site.named_tenant("shop-one", json!({ "example.com/shop": "yes" })).await?;
    let two = site.named_tenant("shop-two", json!({ "example.com/shop": "yes" })).await?;
    site.named_tenant("shop-closed", json!({})).await?;
    let shops = json!({
        "namespaces": { "names": ["shop-*"] },
        "rules": [{ "effect": "Allow", "sources": ["shared/*"], "requestedFrom": { "names": ["shop-*"] } }],
    });
    site.policy("shops", shops).await?;
    let closed = json!({
        "namespaces": { "names": ["shop-closed"] },
        "rules": [{ "effect": "Deny", "sources": ["*/*"] }],
    });
    site.policy("closed-shops", closed).await?;
    one.delegate().await?;
    two.delegate().await?;
    one.request("token", json!({ "secrets": [{ "from": SOURCE, "to": "token" }] })).await?;
    one.until_ready("token").await?;
    let both = json!({
        "name": "pushed",
        "secrets": [{ "from": SOURCE, "to": "token" }, { "from": SOURCE, "to": "copy" }],
        "namespaces": ["shop-one", "shop-two"],
    });
    two.request("push", both).await?;
    two.until_ready("push").await?;
    let mut told = Transcript::new(site, "who-gets")?;

    told.say("Who may receive a source, by which policy; and who holds it. shop-closed is denied it altogether.");
    told.run(&format!("kubectl distribute who-gets {SOURCE}")).await?;
    told.run(&format!("kubectl distribute who-gets {SOURCE} -o wide")).await?;

    told.say("For a spreadsheet.");
    told.run(&format!("kubectl distribute who-gets {SOURCE} -o csv | tr -d '\\r'")).await?;

    told.say("A source that nobody may have, and none at all.");
    told.run("kubectl distribute who-gets not/granted-to/anybody").await?;
    told.run("kubectl distribute who-gets 'shared/*'").await?;

    told.say("An auditor who may read policies, namespaces and requests, and no Secret.");
    let bind = [
        "create",
        "clusterrolebinding",
        "audrey",
        "--clusterrole=secrets-distributor-policy-viewer",
        "--serviceaccount=shop-one:audrey",
    ];
    site.cluster.kubectl(bind).succeed().await?;
    told.act_as(&one, "audrey", "view").await?;
    told.run(&format!("kubectl distribute who-gets {SOURCE}")).await?;

    told.say("An app team may not ask about all namespaces.");
    told.act_as(&one, "ada", "edit").await?;
    told.run(&format!("kubectl distribute who-gets {SOURCE}")).await?;
    told.finish();
    Ok(())
}
