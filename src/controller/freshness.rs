//! Before something is written: are the policies it was decided by still those of the cluster?
//!
//! A watch may lag, or hang on an API server that has lost its etcd and knows nothing of a revocation. Policies
//! are therefore confirmed by a quorum read that is not older than [`MAX_AGE`]; one read serves all writes of that
//! time, and without writes there is none. A read that hangs or fails means no write.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{ListParams, PartialObjectMeta},
};
use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

use super::Context;
use crate::{
    api::DistributionPolicy,
    core::{decide::Decision, decide::Permit, name::PolicyName},
    error::ApiFailure,
};

/// How old the confirmation may be, counted from before its read was sent.
const MAX_AGE: Duration = Duration::from_secs(2);

/// How long the watch may take to show what the read has shown, before the write is put off.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The policies at one revision of the store.
pub struct Versions {
    /// The revision.
    pub revision: u64,
    /// UID and generation of each policy.
    pub generations: HashMap<PolicyName, (String, i64)>,
}

/// When the policies were last confirmed. The lock is held during a read: whoever comes meanwhile shares it.
pub struct Freshness {
    confirmed: Mutex<Option<Instant>>,
    policies: Api<PartialObjectMeta<DistributionPolicy>>,
    timeout: Duration,
}

impl Freshness {
    /// Nothing is confirmed yet.
    pub fn new(client: Client, timeout: Duration) -> Self {
        Self { confirmed: Mutex::new(None), policies: Api::all(client), timeout }
    }

    /// A list without a resource version: the API server answers from etcd, or from a cache that it has brought up
    /// to etcd's state for this very read.
    async fn read(&self) -> Result<Versions, ApiFailure> {
        let list = timeout(self.timeout, self.policies.list(&ListParams::default())).await;
        let list = list.map_err(|_| ApiFailure::Unreachable)??;
        let version = |policy: PartialObjectMeta<DistributionPolicy>| {
            let meta = policy.metadata;
            let name = PolicyName::admitted(&meta.name.unwrap_or_default());
            (name, (meta.uid.unwrap_or_default(), meta.generation.unwrap_or_default()))
        };
        // Without a revision nothing tells whether the watch is ahead of the read.
        let revision = list.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(u64::MAX);
        Ok(Versions { revision, generations: list.items.into_iter().map(version).collect() })
    }
}

impl Context {
    /// Whether a permit still holds, by policies that were confirmed just now. To be asked before every write.
    pub async fn is_still_permitted(&self, permit: &Permit) -> Result<(), ApiFailure> {
        self.confirm_policies().await?;
        let (request, target) = (permit.request(), permit.target());
        match self.world().decide(request, &target.namespace, jiff::Timestamp::now()) {
            Decision::Permitted(_) => Ok(()),
            Decision::Denied(_) | Decision::Unready => Err(ApiFailure::Outdated),
        }
    }

    async fn confirm_policies(&self) -> Result<(), ApiFailure> {
        let mut confirmed = self.freshness.confirmed.lock().await;
        if confirmed.is_some_and(|at| at.elapsed() < MAX_AGE) {
            return Ok(());
        }
        let asked = Instant::now();
        let versions = self.freshness.read().await?;
        while !self.policy_reports.has_seen(&versions) {
            if asked.elapsed() > CATCH_UP {
                tracing::warn!("the watch of policies lags behind: nothing is written until it has caught up");
                return Err(ApiFailure::Outdated);
            }
            sleep(Duration::from_millis(20)).await;
        }
        *confirmed = Some(asked);
        Ok(())
    }
}
