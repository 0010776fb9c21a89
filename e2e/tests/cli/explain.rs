//! Why was this denied?

use anyhow::Result;
use serde_json::json;

use super::transcript::{Transcript, site};

const APPLY: &str = "kubectl apply -f";

#[tokio::test]
async fn the_transcript_of_explain() -> Result<()> {
    let site = site().await?;
    let tenant = site.named_tenant("test-application-1", json!({})).await?;
    site.named_tenant("test-application-2", json!({})).await?;
    let pair = rcgen_pair();
    site.sources.set(&[("WildcardCertificate", pair.0.as_bytes()), ("WildcardCertificateKey", pair.1.as_bytes())])?;
    let mut told = Transcript::new(site, "explain")?;

    told.say("Before a request is created: what would the operator do with it?");
    told.run("kubectl distribute explain -f docs/examples/wildcard-tls-distribution.yaml").await?;

    told.say("It is created. The namespace has not let the operator in.");
    told.run(&format!("{APPLY} docs/examples/wildcard-tls-distribution.yaml")).await?;
    tenant.until_condition("wildcard-tls-distribution", "Synced", "False", "NotDelegated").await?;
    told.run("kubectl distribute explain wildcard-tls-distribution -n test-application-1").await?;

    told.say("It does now.");
    tenant.delegate().await?;
    tenant.until_ready("wildcard-tls-distribution").await?;
    told.run("kubectl distribute explain wildcard-tls-distribution -n test-application-1").await?;

    told.say("A source that nobody granted. What is proposed has been tried: under that policy it would be granted.");
    told.run(&format!("{APPLY} docs/examples/payroll.yaml")).await?;
    tenant.until_condition("payroll", "Permitted", "False", "SourceNotPermitted").await?;
    told.run("kubectl distribute explain payroll -n test-application-1").await?;

    told.say("The same for a program. docs/explain.schema.json describes it.");
    told.run("kubectl distribute explain payroll -n test-application-1 -o json").await?;

    told.say("A grant that is over, and one that lacks a source; then a Deny, which no grant overcomes.");
    told.run(&format!("{APPLY} e2e/tests/cli/policies.yaml")).await?;
    for name in ["admin", "notes", "master"] {
        told.run(&format!("kubectl distribute explain {name} -f e2e/tests/cli/requests.yaml")).await?;
    }

    told.say("An app team, with its own token: it may read its requests, and no policy.");
    told.act_as(&tenant, "ada", "edit").await?;
    told.run("kubectl distribute explain payroll -n test-application-1").await?;
    told.run("kubectl distribute explain -f docs/examples/payroll.yaml").await?;
    told.run("kubectl distribute explain payroll -n kube-system").await?;

    told.say("Without a cluster.");
    told.run("kubectl distribute explain -f docs/examples/payroll.yaml --policies policies/ --at 2026-01-15T12:00:00Z")
        .await?;
    told.run("kubectl distribute explain nobody -n test-application-1 --kubeconfig /nonexistent").await?;
    told.finish();
    Ok(())
}

/// A certificate and its key, in PEM.
fn rcgen_pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["*.example.org".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}
