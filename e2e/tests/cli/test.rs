//! Do the policies do what their tables say?

use std::fs;

use anyhow::Result;
use e2e::repository;

use super::transcript::{Transcript, site};

#[tokio::test]
async fn the_transcript_of_test() -> Result<()> {
    let mut told = Transcript::new(site().await?, "test")?;

    told.say("The tables beside the policies, without a cluster.");
    told.run("kubectl distribute test").await?;

    told.say("Somebody widens a policy. Its table says what it was meant for.");
    for file in ["break-glass.yaml", "break-glass.cases.yaml", "node-agent.yaml"] {
        let text = fs::read_to_string(repository().join("policies").join(file))?;
        told.file(file, &text.replace("[incident-4711]", "[incident-4711, \"pay*\"]"))?;
    }
    told.run("kubectl distribute test $FOLDER").await?;

    told.say("The same for GitHub, which shows it at the line; as JUnit; and for programs.");
    told.run("kubectl distribute test -o github $FOLDER").await?;
    told.run("kubectl distribute test -o junit $FOLDER").await?;
    told.run("kubectl distribute test -o json $FOLDER | head -20").await?;

    told.say("What is no table is told.");
    told.run("kubectl distribute test $FOLDER/node-agent.yaml").await?;
    told.run("kubectl distribute test docs/examples/").await?;
    told.finish();
    Ok(())
}
