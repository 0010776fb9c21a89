//! When objects come about, as a watch shows it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::{TryStreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PartialObjectMeta, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use secrets_distributor::api::{SecretsDistribution, names};
use serde::de::DeserializeOwned;

use crate::is_ready;

/// When each object was seen first, the soonest first.
pub(super) struct Arrivals(Vec<Instant>);

impl Arrivals {
    /// After how many seconds a share of all had come; 1.0: all.
    pub(super) fn share(&self, share: f64, since: Instant) -> f64 {
        let last = self.0.len().saturating_sub(1) as f64;
        let seen = self.0.get((last * share).round() as usize);
        seen.map_or(f64::NAN, |at| at.saturating_duration_since(since).as_secs_f64())
    }
}

/// Everything that is written from here on.
pub(super) struct Place {
    client: Client,
    version: String,
}

impl Place {
    pub(super) async fn now(client: Client) -> Result<Self> {
        let api: Api<SecretsDistribution> = Api::all(client.clone());
        let list = api.list_metadata(&ListParams::default().limit(1)).await?;
        Ok(Self { client, version: list.metadata.resource_version.context("a list without a version")? })
    }

    /// Waits for so many Secrets of the operator to be written.
    pub(super) async fn secrets(&self, count: usize) -> Result<Arrivals> {
        let api: Api<Secret> = Api::all(self.client.clone());
        let ours = WatchParams::default().labels(names::OWNER_UID);
        let events = api.watch_metadata(&ours, &self.version).await?;
        collect(events, count, |_: &PartialObjectMeta<Secret>| true).await
    }

    /// Waits for so many requests to be Ready, of those whose names count.
    pub(super) async fn ready(&self, count: usize, counts: impl Fn(&str) -> bool) -> Result<Arrivals> {
        let api: Api<SecretsDistribution> = Api::all(self.client.clone());
        let events = api.watch(&WatchParams::default(), &self.version).await?;
        let is_ready = |request: &SecretsDistribution| request.status.as_ref().is_some_and(is_ready);
        collect(events, count, |request| is_ready(request) && counts(&request.name_any())).await
    }
}

async fn collect<K: ResourceExt + DeserializeOwned + Debug + Clone>(
    events: impl futures::Stream<Item = kube::Result<WatchEvent<K>>>,
    count: usize,
    has_come: impl Fn(&K) -> bool,
) -> Result<Arrivals> {
    pin_mut!(events);
    let mut seen = BTreeMap::new();
    while seen.len() < count {
        let event = events.try_next().await?.context("the watch has ended")?;
        let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else { continue };
        if has_come(&object) {
            seen.entry((object.namespace(), object.name_any())).or_insert_with(Instant::now);
        }
    }
    let mut times: Vec<_> = seen.into_values().collect();
    times.sort_unstable();
    Ok(Arrivals(times))
}
