//! The operator's clock is set, forward and back, by libfaketime. Run it with `make test-clock`, which brings that; it does
//! not skip where it is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::site::Site;
use e2e::{OperatorConfig, asks};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// A clock that can be set while the operator runs. The one that only runs on is left alone, as it is by whoever sets a
/// clock.
struct Clock(PathBuf);

impl Clock {
    /// Goes right.
    fn new(site: &Site, name: &str) -> Result<Self> {
        let clock = Self(site.cluster.directory().join(name));
        clock.set(SignedDuration::ZERO)?;
        Ok(clock)
    }

    /// Is ahead of the right time by so much.
    fn set(&self, ahead: SignedDuration) -> Result<()> {
        // A file that is half written would be another time.
        let next = self.0.with_extension("next");
        fs::write(&next, format!("{:+}", ahead.as_secs()))?;
        Ok(fs::rename(next, &self.0)?)
    }

    fn environment(&self) -> Result<Vec<(String, String)>> {
        let folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
        let libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
        let library = libraries.into_iter().find(|path| path.exists()).context("no libfaketime: make test-clock")?;
        let variables = [
            ("LD_PRELOAD", library.to_string_lossy().into_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.to_string_lossy().into_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        Ok(variables.map(|(name, value)| (name.to_owned(), value)).to_vec())
    }
}

fn with(site: Site, clock: &Clock) -> Result<Site> {
    let (environment, arguments) = (clock.environment()?, vec!["--lease-duration=4s".to_owned()]);
    Ok(site.configured(|config| OperatorConfig { environment, arguments, ..config }))
}

#[tokio::test]
async fn a_grant_ends_when_the_clock_is_set_past_its_end_and_is_back_with_it() -> Result<()> {
    let site = Site::prepare().await?;
    let clock = Clock::new(&site, "clock")?;
    let site = with(site, &clock)?;
    site.start_operator().await?;
    site.sources.set(&[("Timely", b"t"), ("Timeless", b"x")])?;
    let tenant = site.tenant("clock").await?;
    tenant.grant(&["Timeless"]).await?;
    let spec = json!({
        "namespaces": { "names": [tenant.namespace] },
        "rules": [{ "effect": "Allow", "sources": ["Timely"] }],
        "notAfter": Timestamp::from_second((Timestamp::now() + SignedDuration::from_hours(1)).as_second())?,
    });
    site.policy("for-an-hour", spec).await?;
    tenant.request("timely", asks("Timely", json!({}))).await?;
    tenant.request("timeless", asks("Timeless", json!({}))).await?;
    tenant.until_ready("timely").await?;
    tenant.until_ready("timeless").await?;
    let before = tenant.secret("timeless").await?;

    for ahead in [SignedDuration::from_hours(2), SignedDuration::from_hours(1000)] {
        clock.set(ahead)?;
        tenant.until_gone("timely").await?;
        tenant.until_condition("timely", "Permitted", "False", "GrantExpired").await?;
        // No budget is lost, and nobody waits for an hour: those go by the clock that runs on.
        let name = format!("new-{}", ahead.as_hours());
        tenant.request(&name, asks("Timeless", json!({}))).await?;
        tenant.until_ready(&name).await?;
        clock.set(SignedDuration::ZERO)?;
        tenant.until_ready("timely").await?;
        tenant.until_content("timely", "k", b"t").await?;
    }
    // Before the grant was made it is one, too.
    clock.set(SignedDuration::from_hours(-1000))?;
    site.sources.set(&[("Timely", b"t2"), ("Timeless", b"x")])?;
    tenant.until_content("timely", "k", b"t2").await?;

    assert_eq!(tenant.secret("timeless").await?, before, "nothing was written that did not change");
    site.until_readyz(200, "leader: leading").await?;
    let told = site.operator_logs();
    assert!(told.contains("the clock was set") && !told.contains("panic"), "{told}");
    Ok(())
}

/// The times in a Lease are for people: what counts is how long a replica has seen no sign of life.
#[tokio::test]
async fn a_replica_whose_clock_is_wrong_does_not_take_the_lease() -> Result<()> {
    let site = Site::prepare().await?;
    let (right, wrong) = (Clock::new(&site, "right")?, Clock::new(&site, "wrong")?);
    let site = with(site, &right)?;
    site.start_operator().await?;
    wrong.set(SignedDuration::from_hours(1))?;
    let site = with(site, &wrong)?;
    let standby = site.start_replica("operator-1").await?;
    for ahead in [1, -1, 24] {
        wrong.set(SignedDuration::from_hours(ahead))?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        standby.until_role("standby").await?;
        site.until_readyz(200, "leader: leading").await?;
    }
    // Nor does it keep it from those that may: it takes over when it is its turn.
    site.kill_operator()?;
    standby.until_role("leading").await
}
