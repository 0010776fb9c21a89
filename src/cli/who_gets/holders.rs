//! The Secrets that hold a source: as the requests' statuses tell, and as the Secrets' own metadata does.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::{DecisionResult, TargetState, TargetStatus, names},
    cli::{
        secrets::Found,
        view::{Status, View},
    },
    core::{
        index::Stored,
        name::{NamespaceName, SecretName, SourceName},
        request::Request,
    },
};

/// A Secret that holds a source.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub secret: SecretName,
    /// The keys that hold the source.
    pub keys: Vec<String>,
    /// The request that it was written for, `namespace/name`.
    pub request: String,
    /// The policies that granted it when it was last written.
    pub policies: Vec<String>,
    /// Since when it exists, RFC 3339; absent where Secrets may not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it was last written, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_written: Option<String>,
    /// What the status says of it; absent if it does not mention it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TargetState>,
}

/// The Secrets that hold the source, by namespace and name.
pub fn of(view: &View, source: &SourceName, secrets: Option<&[Found]>) -> Vec<Holder> {
    let mut holders = BTreeMap::new();
    for key in view.world.requests.using(source) {
        let (Some(Stored::Valid(request)), Some(status)) = (view.world.requests.get(key), view.status(key)) else {
            continue;
        };
        let told = status.told.targets.iter().filter(|target| holds(target, secrets.is_some()));
        for target in told {
            let Some(holder) = by_status(request, source, status, target) else { continue };
            holders.insert((holder.namespace.clone(), holder.secret.clone()), holder);
        }
    }
    let mut listed = BTreeSet::new();
    for found in secrets.into_iter().flatten() {
        let Some(mut holder) = by_metadata(view, source, found) else { continue };
        let place = (holder.namespace.clone(), holder.secret.clone());
        holder.state = holders.get(&place).and_then(|told| told.state);
        listed.insert(place.clone());
        holders.insert(place, holder);
    }
    if secrets.is_some() {
        // What a status tells of and nobody finds is gone.
        holders.retain(|place, _| listed.contains(place));
    }
    holders.into_values().collect()
}

/// Whether a status tells of a Secret that is there. It may be, also where something failed: what was written before.
fn holds(target: &TargetStatus, is_looked_at: bool) -> bool {
    let stays = matches!(target.state, TargetState::Synced | TargetState::Retained);
    stays || target.last_written.is_some() || is_looked_at
}

fn by_status(request: &Request, source: &SourceName, status: &Status, target: &TargetStatus) -> Option<Holder> {
    let granted = status.told.decisions.iter().filter(|decision| decision.result == DecisionResult::Granted);
    let policies = granted.filter(|decision| decision.from == source.as_str()).filter_map(|d| d.policy.clone());
    Some(Holder {
        namespace: NamespaceName::parse(&target.namespace).ok()?,
        secret: SecretName::parse(&target.name).ok()?,
        keys: keys(request, source),
        request: request.key.to_string(),
        policies: policies.collect::<BTreeSet<_>>().into_iter().collect(),
        since: None,
        last_written: target.last_written.as_ref().map(|time| time.0.to_string()),
        state: Some(target.state),
    })
}

/// A Secret does not say of which sources it is made: its request does.
fn by_metadata(view: &View, source: &SourceName, found: &Found) -> Option<Holder> {
    let key = found.observed.recorded_request(&found.target)?;
    let Some(Stored::Valid(request)) = view.world.requests.get(&key) else { return None };
    let policies = found.observed.annotations.get(names::POLICIES).unwrap_or_default();
    Some(Holder {
        namespace: found.target.namespace.clone(),
        secret: found.target.name.clone(),
        keys: keys(request, source),
        request: key.to_string(),
        policies: policies.split(',').filter(|policy| !policy.is_empty()).map(str::to_string).collect(),
        since: found.created.clone(),
        last_written: found.observed.written.map(|time| time.to_string()),
        state: None,
    })
    .filter(|holder| !holder.keys.is_empty())
}

fn keys(request: &Request, source: &SourceName) -> Vec<String> {
    request.mappings.iter().filter(|mapping| mapping.from == *source).map(|mapping| mapping.to.to_string()).collect()
}
