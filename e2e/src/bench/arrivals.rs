//! When objects come about, as a watch shows it.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PartialObjectMeta, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use secrets_distributor::api::{SecretsDistribution, names};

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
        self.secrets_labelled(names::OWNER_UID, count).await
    }

    /// Waits for so many Secrets with a label to be written.
    pub(super) async fn secrets_labelled(&self, label: &str, count: usize) -> Result<Arrivals> {
        self.watch_secrets(label, count, |event| written(event).is_some()).await
    }

    /// Waits for so many Secrets of the operator to be gone.
    pub(super) async fn gone(&self, count: usize) -> Result<Arrivals> {
        self.watch_secrets(names::OWNER_UID, count, |event| matches!(event, WatchEvent::Deleted(_))).await
    }

    async fn watch_secrets(
        &self,
        label: &str,
        count: usize,
        has_come: impl Fn(&WatchEvent<PartialObjectMeta<Secret>>) -> bool,
    ) -> Result<Arrivals> {
        let (api, params) = (Api::<Secret>::all(self.client.clone()), WatchParams::default().labels(label));
        let watch = async |version: &str| Ok(api.watch_metadata(&params, version).await?.boxed());
        collect(&self.version, watch, count, has_come).await
    }

    /// Waits for so many requests to be Ready, of those whose names count.
    pub(super) async fn ready(&self, count: usize, counts: impl Fn(&str) -> bool) -> Result<Arrivals> {
        let (api, params) = (Api::<SecretsDistribution>::all(self.client.clone()), WatchParams::default());
        let watch = async |version: &str| Ok(api.watch(&params, version).await?.boxed());
        let is_ready = |request: &SecretsDistribution| request.status.as_ref().is_some_and(is_ready);
        let counts = |request: &SecretsDistribution| is_ready(request) && counts(&request.name_any());
        collect(&self.version, watch, count, |event| written(event).is_some_and(counts)).await
    }
}

/// The object, if the event is that it was written.
fn written<K>(event: &WatchEvent<K>) -> Option<&K> {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
        _ => None,
    }
}

type Events<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// Waits until what is looked for has come about for so many objects. A watch that ends is resumed: the API server ends
/// those of a kind that it takes up anew, some time after the kind was made.
async fn collect<K: ResourceExt>(
    from: &str,
    watch: impl AsyncFn(&str) -> kube::Result<Events<K>>,
    count: usize,
    has_come: impl Fn(&WatchEvent<K>) -> bool,
) -> Result<Arrivals> {
    let (mut seen, mut version) = (BTreeMap::new(), from.to_owned());
    while seen.len() < count {
        let mut events = watch(&version).await?;
        while seen.len() < count {
            let Some(event) = events.try_next().await? else { break };
            let has_come = has_come(&event);
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                    version = object.resource_version().context("an object without a version")?;
                    if has_come {
                        seen.entry((object.namespace(), object.name_any())).or_insert_with(Instant::now);
                    }
                }
                WatchEvent::Error(status) => bail!("the watch has failed: {}", status.message),
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
            }
        }
    }
    let mut times: Vec<_> = seen.into_values().collect();
    times.sort_unstable();
    Ok(Arrivals(times))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_share_is_counted_from_the_soonest() {
        let begun = Instant::now();
        let arrivals = Arrivals((1..=101).map(|second| begun + Duration::from_secs(second)).collect());
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| arrivals.share(share, begun)), [1.0, 51.0, 100.0, 101.0]);
        assert!(Arrivals(Vec::new()).share(1.0, begun).is_nan());
    }
}
