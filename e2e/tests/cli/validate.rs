//! Is it written as it is meant?

use anyhow::Result;

use super::transcript::{Transcript, site};

const WEB: &str = "\
apiVersion: xlscsde.nhs.uk/v1
kind: DistributionPolicy
metadata: {name: web}
spec:
  namespaces: {names: ['*']}
  rules:
  - effect: Allow
    sources: ['web/*']
    keys: [tls.crt, tls.key]
  - effect: Allow
    sources: [web/certificate]
    keys: ['tls.*']
    requestedFrom: {names: [platform-]}
---
apiVersion: xlscsde.nhs.uk/v1
kind: DistributionPolicy
metadata: {name: web-not-yet}
spec:
  namespaces:
    selector: {matchLabels: {example.com/web: 'no'}}
  rules:
  - effect: Deny
    source: ['web/*']
---
apiVersion: xlscsde.nhs.uk/v1
kind: DistributionPolicy
metadata: {name: nothing-for-guests}
spec:
  namespaces: {names: ['*']}
  rules:
  - effect: Deny
    sources: ['*', '*/*']
  revocation: {action: Retain, gracePeriod: 1h}
---
apiVersion: xlscsde.nhs.uk/v1
kind: SecretsDistribution
metadata: {name: web, namespace: shop}
spec:
  type: kubernetes.io/tls
  secrets:
  - {from: web/certificate, to: tls.crt}
";

#[tokio::test]
async fn the_transcript_of_validate() -> Result<()> {
    let mut told = Transcript::new(site().await?, "validate")?;

    told.say("The samples: nothing that cannot work, and what is worth knowing.");
    told.run("kubectl distribute validate -f policies/ -f docs/examples/ --at 2026-01-15T12:00:00Z").await?;

    told.say("A file with mistakes of every kind.");
    told.run(&format!("cat << 'EOF' > $FOLDER/web.yaml\n{WEB}EOF")).await?;
    told.run("kubectl distribute validate -f $FOLDER/web.yaml").await?;
    told.run("kubectl distribute validate -f $FOLDER/web.yaml -o github").await?;
    told.run("kubectl distribute validate -f $FOLDER/web.yaml -o json | head -20").await?;

    told.say("Warnings fail it, too, if they shall.");
    told.run("kubectl distribute validate -f policies/registry-pull.yaml").await?;
    told.run("kubectl distribute validate -f policies/registry-pull.yaml --strict").await?;
    told.finish();
    Ok(())
}
