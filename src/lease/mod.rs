//! Of several replicas one writes: whoever holds the Lease.
//!
//! Invariants: nothing that changes the cluster is sent but through [`gate`], which asks [`Leadership`] first; a
//! leader that cannot renew stops by itself before another may take the Lease, and then not a byte of a write leaves
//! the process ([`fence`]), not even if it leads again later. What has left it can arrive late all the same, as with
//! any lease: so a write of a Secret or a status is bound to the version that it was decided on, and harms nothing
//! then.

mod elector;
mod fence;
pub mod gate;
mod leadership;
#[cfg(test)]
mod simulation;

use std::future::Future;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::elector::{Elector, Move};
pub use self::{
    elector::{Identity, MAX_DURATION, Pace},
    leadership::{Leadership, Term},
};
use crate::{
    admin::{Gate, Gates},
    api::names,
    error::ApiFailure,
    rbac::RESTORE,
};

/// Name of the gate that tells who leads.
pub const GATE: &str = "leader";

/// Takes part in the election.
pub struct Candidate {
    api: Api<Lease>,
    namespace: String,
    pace: Pace,
    elector: Elector,
    leadership: Leadership,
    gates: Gates,
    trouble: Option<ApiFailure>,
}

impl Candidate {
    /// For the Lease in `namespace`. `client` is not one that `leadership` guards.
    pub fn new(
        client: Client,
        namespace: &str,
        identity: Identity,
        pace: Pace,
        leadership: Leadership,
        gates: Gates,
    ) -> Self {
        tracing::info!(identity = identity.holder(), "taking part in the election of a leader");
        let elector = Elector::new(identity, pace, Instant::now());
        let api = Api::namespaced(client, namespace);
        Self { api, namespace: namespace.into(), pace, elector, leadership, gates, trouble: None }
    }

    /// Takes the Lease as soon as it is free, and renews it. Releases it at `stop`, which must come after the last
    /// write.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.elector.next(Instant::now(), Timestamp::now()) {
                Move::Rest(until) => tokio::select! { () = stop.cancelled() => {}, () = sleep_until(until) => {} },
                Move::Look => self.look().await,
                Move::Create(lease) => self.create(&lease).await,
                Move::Replace(lease) => self.replace(&lease).await,
            }
            self.tell();
        }
        self.release().await;
    }

    async fn look(&mut self) {
        match self.bounded(self.api.get_opt(names::LEASE)).await {
            Ok(lease) => {
                // That there is none may be the trouble itself.
                self.trouble.take_if(|_| lease.is_some());
                self.elector.saw(lease, Instant::now());
            }
            Err(failure) => self.failed(failure),
        }
    }

    async fn create(&mut self, lease: &Lease) {
        match self.bounded(self.api.create(&PostParams::default(), lease)).await {
            Ok(lease) => self.elector.saw(Some(lease), Instant::now()),
            Err(ApiFailure::AlreadyExists) => self.elector.conflicted(Instant::now()),
            Err(failure) => self.failed(failure),
        }
    }

    async fn replace(&mut self, lease: &Lease) {
        // Before it is sent: nobody else can count from an earlier instant.
        let sent = Instant::now();
        match self.bounded(self.api.replace(names::LEASE, &PostParams::default(), lease)).await {
            Ok(lease) => {
                self.trouble = None;
                self.elector.wrote(lease, sent, Instant::now());
            }
            Err(ApiFailure::Conflict | ApiFailure::NotFound) => self.elector.conflicted(Instant::now()),
            Err(failure) => self.failed(failure),
        }
    }

    async fn bounded<T>(&self, call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiFailure> {
        match timeout(self.pace.patience, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(ApiFailure::Unreachable),
        }
    }

    fn failed(&mut self, failure: ApiFailure) {
        self.elector.failed(Instant::now());
        if self.trouble.as_ref() != Some(&failure) {
            let namespace = &self.namespace;
            tracing::warn!(%namespace, lease = names::LEASE, "the Lease cannot be read or written: {failure}");
        }
        self.trouble = Some(failure);
    }

    /// Tells everybody who asks whether this replica leads.
    fn tell(&self) {
        self.leadership.set(self.elector.leads_until());
        let namespace = &self.namespace;
        match &self.trouble {
            _ if self.leadership.check().is_ok() => self.gates.set(GATE, Gate::Leading),
            Some(ApiFailure::NotAllowed) => {
                let advice = format!("the operator may not use its Lease in namespace {namespace}");
                self.gates.close(GATE, format!("{advice}: {RESTORE}"));
            }
            Some(ApiFailure::NotFound) => {
                let advice = format!("namespace {namespace}, where the operator's Lease belongs, does not exist");
                self.gates.close(GATE, format!("{advice}: create it, or correct --namespace [env POD_NAMESPACE]"));
            }
            _ if !self.elector.has_seen() => {}
            _ => self.gates.set(GATE, Gate::Standby),
        }
    }

    /// Lets another replica take over at once.
    async fn release(mut self) {
        self.leadership.set(None);
        // Twice: what was written last may have had no answer, or somebody may have put a label on it.
        for _ in 0..2 {
            let Some(lease) = self.elector.release(Timestamp::now()) else { return };
            match self.bounded(self.api.replace(names::LEASE, &PostParams::default(), &lease)).await {
                Ok(_) => return tracing::info!("the Lease is released"),
                Err(ApiFailure::Conflict) => self.look().await,
                Err(failure) => return tracing::warn!("the Lease is not released, and runs out: {failure}"),
            }
        }
    }
}
