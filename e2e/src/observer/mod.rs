//! What must hold at every moment, checked over everything that happened.
//!
//! An [`Observer`] records every version of every Secret and of every request; [`History`] is what it saw, in the
//! order of the store's revisions, and each check is a function of that.

mod history;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams, WatchEvent, WatchParams};
use kube::{Client, Resource, ResourceExt};
use secrets_distributor::api::SecretsDistribution;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use history::{History, Object, Seen};

use crate::ControlPlane;

const SEEN_WITHIN: Duration = Duration::from_secs(30);
/// Before a watch that could not begin is begun again.
const REST: Duration = Duration::from_millis(100);
const BARRIER: &str = "observer-barrier-";

/// Watches all Secrets and, if it is told to, all requests of a cluster, from its start on.
pub struct Observer {
    client: Client,
    seen: Arc<Mutex<Vec<Seen>>>,
    secrets: Following,
    requests: Option<Following>,
}

/// A watch, and the revision that it has reached.
type Following = (JoinHandle<Result<()>>, watch::Receiver<u64>);

impl Observer {
    /// Starts, in the current runtime. What exists already is the first version of each object.
    pub async fn start(cluster: &ControlPlane) -> Result<Self> {
        let mut observer = Self::of_secrets(cluster).await?;
        let requests = Api::<SecretsDistribution>::all(observer.client.clone());
        let requests = follow(requests, &observer.seen, |request| Object::Request(Box::new(request))).await?;
        observer.requests = Some(requests);
        Ok(observer)
    }

    /// The same of Secrets alone, for a cluster where the kind of the requests is about to change.
    pub async fn of_secrets(cluster: &ControlPlane) -> Result<Self> {
        let client = cluster.client().await?;
        let seen = Arc::default();
        let secrets = Api::<Secret>::all(client.clone());
        let secrets = follow(secrets, &seen, |secret| Object::Secret(Box::new(secret))).await?;
        Ok(Self { client, seen, secrets, requests: None })
    }

    /// Everything that has happened until now.
    pub async fn history(&mut self) -> Result<History> {
        self.catch_up().await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        seen.retain(|seen| !seen.name().starts_with(BARRIER));
        seen.sort_by_key(|seen| seen.revision);
        Ok(History::new(seen))
    }

    /// Waits until the watches have shown what there is now. A Secret of its own shows that for Secrets; a request
    /// would be answered by the operator, so that of those the newest version must do.
    async fn catch_up(&mut self) -> Result<()> {
        let metadata = ObjectMeta { generate_name: Some(BARRIER.to_owned()), ..ObjectMeta::default() };
        let secrets = Api::<Secret>::namespaced(self.client.clone(), "default");
        let secret = secrets.create(&PostParams::default(), &Secret { metadata, ..Secret::default() }).await?;
        until(&mut self.secrets, revision(&secret)?).await?;
        if let Some(requests) = &mut self.requests {
            let list = Api::<SecretsDistribution>::all(self.client.clone()).list(&ListParams::default()).await?;
            until(requests, list.items.iter().flat_map(revision).max().unwrap_or(0)).await?;
        }
        secrets.delete(&secret.name_any(), &DeleteParams::default()).await?;
        Ok(())
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        [Some(&self.secrets), self.requests.as_ref()].into_iter().flatten().for_each(|(task, _)| task.abort());
    }
}

/// Waits until the watch has reached the revision.
async fn until((task, reached): &mut Following, revision: u64) -> Result<()> {
    let caught_up = reached.wait_for(|reached| *reached >= revision);
    match tokio::time::timeout(SEEN_WITHIN, caught_up).await.context("a watch is behind")? {
        Ok(_) => Ok(()),
        Err(_ended) => task.await?.and(Err(anyhow!("a watch has ended"))),
    }
}

/// Lists once, then records every change; an ended watch is resumed where it ended, so that none is missed.
async fn follow<K>(
    api: Api<K>,
    seen: &Arc<Mutex<Vec<Seen>>>,
    object: impl Fn(K) -> Object + Send + 'static,
) -> Result<Following>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let list = api.list(&ListParams::default()).await?;
    let start = list.metadata.resource_version.context("a list without a revision")?;
    let (sender, reached) = watch::channel(start.parse::<u64>()?);
    let seen = seen.clone();
    let record = move |item: K, deleted: bool| -> Result<u64> {
        let revision = revision(&item)?;
        let at = SystemTime::now();
        let one = Seen { revision, at, deleted, object: object(item) };
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        Ok(revision)
    };
    for item in list.items {
        record(item, false)?;
    }
    let task = tokio::spawn(async move {
        loop {
            let from = sender.borrow().to_string();
            let mut events = match api.watch(&WatchParams::default().timeout(290), &from).await {
                Ok(events) => Box::pin(events),
                Err(kube::Error::Api(status)) => bail!("the watch was refused: {status:?}"),
                Err(_) => {
                    // Where nobody listens any more the answer comes at once: without a rest this never gives way, and
                    // the end of the test, which takes this task away, would wait for ever.
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            while let Ok(Some(event)) = events.try_next().await {
                let revision = match event {
                    WatchEvent::Added(item) | WatchEvent::Modified(item) => record(item, false)?,
                    WatchEvent::Deleted(item) => record(item, true)?,
                    WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version.parse()?,
                    WatchEvent::Error(status) => bail!("versions may have been missed: {status:?}"),
                };
                sender.send_replace(revision);
            }
        }
    });
    Ok((task, reached))
}

/// The revision of the store at which the object was last written.
pub fn revision(object: &impl ResourceExt) -> Result<u64> {
    Ok(object.resource_version().context("no resource version")?.parse()?)
}
