//! The answer as a value: what `-o json` prints, and what people are told is made of it.

use std::{collections::BTreeSet, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;

use super::fix::{self, Fix};
use crate::{
    api::{DecisionResult, DecisionStatus, TargetState, TargetStatus, conditions::Reason},
    cli::view::{Status, View},
    core::{
        explain::{ExplainedMapping, Explanation, RuleRef, Tried},
        index::Origin,
        name::{NamespaceName, RequestKey, SecretName, SecretType},
        request::Request,
    },
};

/// Why a request is granted or not, and what the operator has done about it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Namespace of the request.
    pub namespace: NamespaceName,
    /// Name of the request.
    pub name: SecretName,
    /// Name of the Secret that it asks for.
    pub secret_name: SecretName,
    /// Type of the Secret that it asks for.
    pub secret_type: SecretType,
    /// What the answer is made of.
    pub basis: Basis,
    /// The instant of the decision, RFC 3339; for the basis Status that of the question.
    pub at: String,
    /// Whether it is permitted in each of its destinations that it names.
    pub permitted: bool,
    /// Its destinations, by name.
    pub destinations: Vec<Destination>,
    /// What the operator has told; absent if it has not looked at the request, or no cluster was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<Told>,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Basis {
    /// The policies: it was decided anew.
    Policies,
    /// What the operator has told in the request's status: the caller may not read the policies.
    Status,
}

/// A request in one destination.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Destination {
    /// The namespace.
    pub namespace: NamespaceName,
    /// Whether the Secret may be written there.
    pub permitted: bool,
    /// Whether only the namespaceSelector of the request leads there: if it is not permitted, the operator does not
    /// mention it.
    pub selected: bool,
    /// The quota of the destination, if older requests fill it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_full: Option<u32>,
    /// Each mapping, in the order of the request. For the basis Status only those of which something is known.
    pub mappings: Vec<MappingAnswer>,
    /// The older request that writes the same Secret, `namespace/name`: this one gets TargetConflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_by: Option<String>,
    /// What the operator has done there; absent if its status does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    /// What would help: any one of them.
    pub fixes: Vec<Fix>,
}

/// One mapping of a request in one destination.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MappingAnswer {
    /// Its source.
    pub from: String,
    /// Its key.
    pub to: String,
    /// Whether it is granted.
    pub permitted: bool,
    /// The policy that decides: that grants it, or whose Deny refuses it. Absent if none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The rule of that policy: its place in `spec.rules`, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<usize>,
    /// Why it is refused, the most important reason first; empty if it is granted.
    pub reasons: BTreeSet<Reason>,
    /// Every Allow rule that grants it.
    pub granted_by: Vec<RuleRef>,
    /// Every rule of the policies that speak about the destination, and what became of it.
    pub rules: Vec<Tried>,
}

/// What the operator has told about a request.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Whether that is about the request as it is now.
    pub current: bool,
    /// Permitted, Synced and Ready.
    pub conditions: Vec<ConditionAnswer>,
    /// When a Secret of the request was last written, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<String>,
    /// When the operator acts again by itself, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<String>,
    /// Trace of the last attempt.
    #[serde(rename = "traceID", skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Where people open it, if --trace-url says.
    #[serde(rename = "traceURL", skip_serializing_if = "Option::is_none")]
    pub trace_url: Option<String>,
}

/// A condition.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ConditionAnswer {
    /// Permitted, Synced or Ready.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// Why.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What the operator has done in one destination.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Synced, Pending, Denied, Failed or Retained.
    pub state: TargetState,
    /// A reason of the Permitted or Synced condition; absent when synced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the operator last wrote the Secret, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_written: Option<String>,
}

impl Answer {
    /// Decides the request by what is known.
    pub fn of(view: &View, request: &Arc<Request>) -> Self {
        let status = view.status(&request.key);
        let destinations = view.world.requests.destinations(&request.key);
        let destinations: Vec<_> = destinations
            .map(|(name, origin)| {
                let explanation = view.world.explain(request, name, view.at);
                Destination::of(view, request, origin, explanation, status)
            })
            .collect();
        let named = destinations.iter().filter(|destination| !destination.selected);
        Self {
            permitted: named.clone().all(|destination| destination.permitted)
                && destinations.iter().any(|destination| destination.permitted),
            destinations,
            operator: status.filter(|status| !status.told.conditions.is_empty()).map(Told::of),
            ..Self::about(request, Basis::Policies, view.at.to_string())
        }
    }

    /// What the operator has told: for who may not read the policies.
    pub fn told(request: &Request, status: &Status, at: String) -> Self {
        let granted = status.told.conditions.iter().any(|c| c.type_ == "Permitted" && c.status == "True");
        let targets = status.told.targets.iter();
        let only_one = targets.len() == 1;
        let destinations = targets.filter_map(|target| {
            let decisions = status.told.decisions.iter().filter(|_| only_one || granted);
            Destination::told(request, target, granted, decisions)
        });
        Self {
            permitted: granted,
            destinations: destinations.collect(),
            operator: Some(Told::of(status)).filter(|told| !told.conditions.is_empty()),
            ..Self::about(request, Basis::Status, at)
        }
    }

    fn about(request: &Request, basis: Basis, at: String) -> Self {
        Self {
            namespace: request.key.namespace.clone(),
            name: request.key.name.clone(),
            secret_name: request.secret_name.clone(),
            secret_type: request.secret_type.clone(),
            basis,
            at,
            permitted: false,
            destinations: Vec::new(),
            operator: None,
        }
    }

    /// Namespace and name of the request.
    pub fn key(&self) -> RequestKey {
        RequestKey { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl Destination {
    fn of(
        view: &View,
        request: &Arc<Request>,
        origin: Origin,
        explanation: Explanation,
        status: Option<&Status>,
    ) -> Self {
        let target = request.target(&explanation.namespace);
        let senior = view.world.senior(request, &target, view.at).filter(|_| explanation.permitted);
        let targets = status.into_iter().flat_map(|status| &status.told.targets);
        let done = targets.into_iter().find(|told| told.namespace == explanation.namespace.as_str()).map(Done::of);
        let selected = origin == Origin::Selected;
        let mut fixes = if selected { Vec::new() } else { fix::of_refusal(view, request, &explanation) };
        fixes.extend(done.as_ref().filter(|_| explanation.permitted).and_then(fix::of_delegation));
        Self {
            namespace: explanation.namespace,
            permitted: explanation.permitted,
            selected,
            quota_full: explanation.quota_full,
            mappings: explanation.mappings.into_iter().map(MappingAnswer::of).collect(),
            written_by: senior.map(|key| key.to_string()),
            done,
            fixes,
        }
    }

    fn told<'a>(
        request: &Request,
        target: &TargetStatus,
        granted: bool,
        decisions: impl Iterator<Item = &'a DecisionStatus>,
    ) -> Option<Self> {
        let revoking = [Reason::RevocationPending, Reason::RevocationBlocked].map(Reason::as_str);
        let withdrawn = target.reason.as_deref().is_some_and(|reason| revoking.contains(&reason));
        let refused = withdrawn || matches!(target.state, TargetState::Denied | TargetState::Retained);
        let done = Done::of(target);
        Some(Self {
            namespace: NamespaceName::parse(&target.namespace).ok()?,
            permitted: granted || !refused,
            selected: !request.destinations.contains(target.namespace.as_str()),
            quota_full: None,
            mappings: decisions.map(MappingAnswer::told).collect(),
            written_by: None,
            fixes: fix::of_delegation(&done).into_iter().collect(),
            done: Some(done),
        })
    }
}

impl MappingAnswer {
    fn of(mapping: ExplainedMapping) -> Self {
        let denying = || mapping.rules.iter().find(|tried| tried.denies()).map(|tried| &tried.rule);
        let decisive = mapping.granted_by.first().or_else(denying).cloned();
        Self {
            from: mapping.from.to_string(),
            to: mapping.to.to_string(),
            permitted: mapping.reasons.is_empty(),
            policy: decisive.as_ref().map(|rule| rule.policy.to_string()),
            rule: decisive.map(|rule| rule.rule),
            reasons: mapping.reasons,
            granted_by: mapping.granted_by,
            rules: mapping.rules,
        }
    }

    fn told(decision: &DecisionStatus) -> Self {
        let known = |reason: &&Reason| decision.reason.as_deref() == Some(reason.as_str());
        Self {
            from: decision.from.clone(),
            to: decision.to.clone(),
            permitted: decision.result == DecisionResult::Granted,
            policy: decision.policy.clone(),
            rule: None,
            reasons: Reason::ALL.iter().filter(known).copied().collect(),
            granted_by: Vec::new(),
            rules: Vec::new(),
        }
    }
}

impl Told {
    fn of(status: &Status) -> Self {
        let conditions = status.told.conditions.iter().map(|condition| ConditionAnswer {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        });
        Self {
            current: status.is_current(),
            conditions: conditions.collect(),
            last_sync_time: status.told.last_sync_time.as_ref().map(|time| time.0.to_string()),
            retry_at: status.told.retry_at.as_ref().map(|time| time.0.to_string()),
            trace_id: status.told.trace_id.clone(),
            trace_url: None,
        }
    }
}

impl Done {
    fn of(target: &TargetStatus) -> Self {
        Self {
            state: target.state,
            reason: target.reason.clone(),
            message: target.message.clone(),
            last_written: target.last_written.as_ref().map(|time| time.0.to_string()),
        }
    }
}
