//! The answer of `plan`, as programs read it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    api::conditions::Reason,
    core::{
        forecast::{Change, Edited, Forecast, Limits, Standing},
        name::{NamespaceName, PolicyName, RequestKey, SecretName, Target},
        policy::Rate,
        settle::Revoking,
    },
};

/// What other policies would change.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The instant that is compared, RFC 3339.
    pub at: String,
    /// Whether the Secrets were listed. If not, those that statuses tell, or that policies grant, count as written.
    pub secrets_listed: bool,
    /// The policies that become others.
    pub policies: Vec<PolicyEdit>,
    /// The Secrets whose grant goes.
    pub revoked: Vec<Revoked>,
    /// What is granted no more, and was not written.
    pub refused: Vec<Refused>,
    /// What is granted, and is not now.
    pub granted: Vec<Granted>,
    /// The namespaces that get other limits.
    pub limits: Vec<LimitChange>,
}

/// A policy that becomes another.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PolicyEdit {
    /// Its name.
    pub name: PolicyName,
    /// Created, Changed or Deleted.
    pub edit: EditKind,
}

/// What becomes of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum EditKind {
    /// There was none of that name.
    Created,
    /// It says something else.
    Changed,
    /// It goes.
    Deleted,
}

/// A Secret of a request.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Which {
    /// Namespace of the Secret.
    pub namespace: NamespaceName,
    /// Its name.
    pub secret: SecretName,
    /// The request, `namespace/name`.
    pub request: String,
    /// From when on, RFC 3339, if not at once: when a policy comes into force or leaves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Until when, RFC 3339, if a policy says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A Secret whose grant goes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// Which.
    #[serde(flatten)]
    pub which: Which,
    /// Why, the most important reason first.
    pub reasons: BTreeSet<Reason>,
    /// When it is deleted, RFC 3339; absent: it is retained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// The grace period in seconds that lies between, as it was stamped on the Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_seconds: Option<i64>,
}

/// What is granted no more, and was not written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Refused {
    /// Which.
    #[serde(flatten)]
    pub which: Which,
    /// Why, the most important reason first.
    pub reasons: BTreeSet<Reason>,
}

/// What is granted, and is not now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Granted {
    /// Which.
    #[serde(flatten)]
    pub which: Which,
    /// By which policies.
    pub policies: BTreeSet<PolicyName>,
}

/// A namespace that gets other limits.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LimitChange {
    /// The namespace.
    pub namespace: NamespaceName,
    /// What holds now.
    pub before: Limit,
    /// What would hold.
    pub after: Limit,
}

/// How much may be written into a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// How fast; absent: as the operator itself is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many distributions; absent: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distributions: Option<u32>,
}

impl Answer {
    /// What a forecast says.
    pub fn of(forecast: Forecast, at: Timestamp, secrets_listed: bool) -> Self {
        let edit = |(name, edited): (&PolicyName, &Edited)| PolicyEdit { name: name.clone(), edit: (*edited).into() };
        let mut answer = Self {
            at: at.to_string(),
            secrets_listed,
            policies: forecast.policies.iter().map(edit).collect(),
            revoked: Vec::new(),
            refused: Vec::new(),
            granted: Vec::new(),
            limits: forecast.limits.into_iter().map(LimitChange::of).collect(),
        };
        for ((request, target), change) in forecast.grants {
            answer.take_in(Which::of(&request, &target, &change, at), change);
        }
        answer
    }

    /// Whether nothing becomes another.
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty() && self.refused.is_empty() && self.granted.is_empty() && self.limits.is_empty()
    }

    fn take_in(&mut self, which: Which, change: Change) {
        match change.standing {
            Standing::Granted(policies) => self.granted.push(Granted { which, policies }),
            Standing::Refused { reasons, revoking: None } => self.refused.push(Refused { which, reasons }),
            Standing::Refused { reasons, revoking: Some(revoking) } => {
                let deleted_at = match revoking {
                    Revoking::Retain => None,
                    Revoking::Delete => Some(change.from),
                    Revoking::Mark { until } | Revoking::Wait { until } => Some(until),
                };
                let grace_seconds = deleted_at.map(|at| at.duration_since(change.from).as_secs());
                let deleted_at = deleted_at.map(|at| at.to_string());
                self.revoked.push(Revoked { which, reasons, deleted_at, grace_seconds });
            }
        }
    }
}

impl Which {
    fn of(request: &RequestKey, target: &Target, change: &Change, at: Timestamp) -> Self {
        Self {
            namespace: target.namespace.clone(),
            secret: target.name.clone(),
            request: request.to_string(),
            from: (change.from > at).then(|| change.from.to_string()),
            until: change.until.map(|until| until.to_string()),
        }
    }
}

impl LimitChange {
    fn of((namespace, (before, after)): (NamespaceName, (Limits, Limits))) -> Self {
        Self { namespace, before: Limit::of(before), after: Limit::of(after) }
    }
}

impl Limit {
    fn of(limits: Limits) -> Self {
        Self { rate: limits.rate.map(told), distributions: limits.quota }
    }
}

fn told(rate: Rate) -> String {
    format!("one write each {:?}, {} at once", rate.interval, rate.burst)
}

impl From<Edited> for EditKind {
    fn from(edited: Edited) -> Self {
        match edited {
            Edited::Created => Self::Created,
            Edited::Changed => Self::Changed,
            Edited::Deleted => Self::Deleted,
        }
    }
}
