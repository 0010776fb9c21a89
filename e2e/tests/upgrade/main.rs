//! From the release before to this one and back, with 200 distributions: no Secret is written, made or deleted. Run it
//! with `make test-upgrade`, which builds the release before; it does not skip where that is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod landscape;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};

use world::{Release, World};

/// What is upgraded from: its program and its chart.
fn before() -> Release {
    let folder = std::env::var_os("E2E_UPGRADE_FROM").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let folder = folder.expect(
        "E2E_UPGRADE_FROM names no folder with `secrets-distributor` and `chart` of the release before: \
         run `make test-upgrade`, which builds them",
    );
    let (program, chart) = (folder.join("secrets-distributor"), folder.join("chart"));
    assert!(program.is_file() && chart.join("Chart.yaml").is_file(), "not built: run `make test-upgrade`");
    Release { pod: "before", program: Some(program), chart: Some(chart) }
}

#[tokio::test]
async fn an_upgrade_and_its_rollback_write_no_secret() -> Result<()> {
    let (before, now) = (before(), Release { pod: "now", program: None, chart: None });
    let again = Release { pod: "before-again", ..before.clone() };
    let world = World::install(&before).await?;
    let operator = world.start(&before).await?;
    operator.until_role("leading").await?;
    let requests = world.until_all_ready().await?;
    let counted = (requests, world.distributed().await?);
    ensure!(counted == (landscape::DISTRIBUTIONS, landscape::SECRETS), "distributions and Secrets: {counted:?}");

    world.release("upgrade", &now).await?;
    let operator = takes_over(&world, operator, &now).await?;
    world.rollback().await?;
    takes_over(&world, operator, &again).await?;
    Ok(())
}

/// The other release has been installed. Its operator takes over from the one that runs, as in a rolling update, and
/// changes nothing that it finds; then it shows that it is at work.
async fn takes_over(world: &World, mut running: e2e::Operator, release: &Release) -> Result<e2e::Operator> {
    let (begun, secrets) = (Instant::now(), world.secrets().await?);
    let next = world.start(release).await?;
    next.until_role("standby").await?;
    running.terminate(e2e::site::SOON).await?;
    next.until_role("leading").await?;
    world.until_all_seen_to(&next).await?;
    world.unchanged(&secrets, "found by").await?;

    // Each status tells that the request was decided anew and its Secret compared.
    world.touch_all_requests().await?;
    let requests = world.until_all_ready().await?;
    world.unchanged(&secrets, "looked at by").await?;
    println!(
        "{}: {requests} distributions Ready, {} Secrets unchanged, none revoked, made or deleted, after {:.1} s",
        release.pod,
        secrets.len(),
        begun.elapsed().as_secs_f32(),
    );
    // It does write what there is to write.
    world.rotate(release.pod).await?;
    world.until_all_ready().await?;
    Ok(next)
}
