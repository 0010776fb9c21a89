//! Events: what a person should notice. A routine success has none.

use jiff::Timestamp;

use crate::{
    api::{
        SecretsDistributionStatus,
        conditions::{ConditionType, Reason},
        events::{EventReason, is_told},
    },
    core::name::{Target, Uid},
};

/// Something to notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Normal or Warning: the event's `type`.
    pub severity: &'static str,
    /// Short name of what happened: the event's `reason`.
    pub reason: String,
    /// What the operator was doing: the event's `action`.
    pub action: &'static str,
    /// For people.
    pub text: String,
    /// The Secret it is also told about: whoever uses it need not know the request.
    pub secret: Option<(Target, Uid)>,
}

impl Note {
    fn of(reason: EventReason, action: &'static str, text: String) -> Self {
        let severity = match reason {
            EventReason::Adopted | EventReason::Pruned => "Normal",
            EventReason::RevocationPending | EventReason::Revoked => "Warning",
        };
        Self { severity, reason: reason.as_str().into(), action, text, secret: None }
    }

    /// A Secret was taken over.
    pub fn adopted(target: &Target) -> Self {
        let text = format!("Secret {target} existed already and belongs to this request now");
        Self::of(EventReason::Adopted, "Write", text)
    }

    /// A Secret that is not wanted any more was deleted.
    pub fn pruned(target: &Target) -> Self {
        let text = format!("Secret {target} is not part of this request any more: deleted");
        Self::of(EventReason::Pruned, "Delete", text)
    }

    /// A grace period has begun.
    pub fn revoking(target: &Target, secret: &Uid, until: Timestamp) -> Self {
        let text = format!("the grant of Secret {target} is gone: it is deleted at {until} unless the grant returns");
        Self { secret: about(target, secret), ..Self::of(EventReason::RevocationPending, "Revoke", text) }
    }

    /// A Secret was deleted because its grant is gone.
    pub fn revoked(target: &Target, secret: &Uid) -> Self {
        let text = format!("the grant of Secret {target} is gone: deleted");
        Self { secret: about(target, secret), ..Self::of(EventReason::Revoked, "Revoke", text) }
    }
}

fn about(target: &Target, secret: &Uid) -> Option<(Target, Uid)> {
    Some((target.clone(), secret.clone()))
}

/// What the new status says for the first time: a refusal, or what is in the way of the Secret. The same reason
/// again is not news.
pub fn news(previous: &SecretsDistributionStatus, status: &SecretsDistributionStatus) -> Vec<Note> {
    let reason_of = |status: &SecretsDistributionStatus, kind: ConditionType| {
        let found = status.conditions.iter().find(|condition| condition.type_ == kind.as_str());
        found.map(|condition| (condition.status.clone(), condition.reason.clone(), condition.message.clone()))
    };
    let mut notes = Vec::new();
    for (kind, action) in [(ConditionType::Permitted, "Decide"), (ConditionType::Synced, "Write")] {
        let Some((now, reason, message)) = reason_of(status, kind) else { continue };
        let known = reason_of(previous, kind).is_some_and(|(_, before, _)| before == reason);
        let quiet = Reason::ALL.iter().any(|known| known.as_str() == reason && !is_told(*known));
        if now == "False" && !known && !quiet {
            notes.push(Note { severity: "Warning", reason, action, text: message, secret: None });
        }
    }
    notes
}
