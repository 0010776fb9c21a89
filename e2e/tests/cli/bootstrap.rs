//! Which policies would grant what is there?

use anyhow::Result;
use serde_json::json;

use super::transcript::{Transcript, site};

#[tokio::test]
async fn the_transcript_of_bootstrap() -> Result<()> {
    let site = site().await?;
    site.sources.set(&[("harbour/ca", b"c"), ("harbour/user", b"u"), ("harbour/password", b"p")])?;
    let east = site.named_tenant("harbour-east", json!({})).await?;
    let west = site.named_tenant("harbour-west", json!({})).await?;
    east.delegate().await?;
    let database = json!({
        "type": "kubernetes.io/basic-auth",
        "secrets": [{ "from": "harbour/user", "to": "username" }, { "from": "harbour/password", "to": "password" }],
    });
    east.request("database", database.clone()).await?;
    west.request("database", database).await?;
    let ca = json!({
        "secrets": [{ "from": "harbour/ca", "to": "ca.crt" }], "namespaces": ["harbour-east", "harbour-west"],
    });
    east.request("ca", ca).await?;
    let mut told = Transcript::new(site, "bootstrap")?;

    told.say("A platform that had no policies. What its requests ask for, as policies: each in Audit, for review.");
    told.run("for n in east west; do kubectl get sd -n harbour-$n -o yaml; echo ---; done > $FOLDER/requests.yaml")
        .await?;
    told.run("kubectl distribute bootstrap -f $FOLDER/requests.yaml | tee $FOLDER/policies.yaml").await?;

    told.say("Of one namespace, from the cluster.");
    told.run("kubectl distribute bootstrap -n harbour-west").await?;

    told.say("What would they do? In Audit nothing; then everything that is asked for.");
    told.run("kubectl distribute validate -f $FOLDER/policies.yaml").await?;
    told.run("kubectl distribute plan -f $FOLDER/policies.yaml").await?;
    told.run("sed -i s/Audit/Enforce/ $FOLDER/policies.yaml").await?;
    told.run("kubectl distribute plan -f $FOLDER/policies.yaml").await?;
    told.run("kubectl apply -f $FOLDER/policies.yaml").await?;
    east.until_ready("database").await?;

    told.say("An app team, for its own namespace: it may not list the namespaces of the cluster.");
    told.act_as(&east, "ada", "edit").await?;
    told.run("kubectl distribute bootstrap -n harbour-east").await?;
    told.finish();
    Ok(())
}
