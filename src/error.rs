//! What the API server's answers mean to the operator: a closed set. The server's own words are not kept: they
//! may quote what was sent.

use std::time::Duration;

/// Why a write was not sent, or was given up: another replica leads, or may soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead")]
pub struct NotLeader;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiFailure {
    /// 409 on a create.
    #[error("it exists already")]
    AlreadyExists,
    /// 409 on a change or a delete: it is not what it was.
    #[error("it has changed meanwhile")]
    Conflict,
    /// 404.
    #[error("it does not exist")]
    NotFound,
    /// 403 by RBAC.
    #[error("the operator has no right to do this")]
    NotAllowed,
    /// 403 because the namespace is being deleted.
    #[error("the namespace is being deleted")]
    Terminating,
    /// 403 by a ResourceQuota.
    #[error("a ResourceQuota of the namespace is used up")]
    QuotaExceeded,
    /// Refused by an admission policy or a webhook.
    #[error("an admission policy of the cluster refuses it")]
    Refused,
    /// 422: a field is wrong, or must not change. Its path, never its value.
    #[error("the API server refuses the field {0}")]
    Invalid(String),
    /// The API server asks to come back later.
    #[error("the API server is busy")]
    Busy(Duration),
    /// No call was made: the policies it was decided by are not the cluster's any more, or not known to be.
    #[error("the policies have changed, or cannot be confirmed")]
    Outdated,
    /// It is being deleted, and a finalizer holds it.
    #[error("a finalizer holds it")]
    Held,
    /// No call was made: the operator runs in Audit. What would have become of the Secret.
    #[error("the operator runs in Audit, else it would be {0}")]
    NotEnforced(&'static str),
    /// No answer, or none within the time.
    #[error("the API server does not answer")]
    Unreachable,
    /// Another HTTP status.
    #[error("the API server answered {0}")]
    Status(u16),
    /// This replica does not lead: nothing was sent, or it was given up. No news for anybody.
    #[error("this replica does not lead")]
    NotLeader,
    /// An answer that cannot be read.
    #[error("the API server's answer cannot be read")]
    Garbled,
}

impl From<kube::Error> for ApiFailure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(&status),
            kube::Error::Service(error) if error.is::<NotLeader>() => Self::NotLeader,
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Garbled,
            _ => Self::Unreachable,
        }
    }
}

impl From<NotLeader> for ApiFailure {
    fn from(NotLeader: NotLeader) -> Self {
        Self::NotLeader
    }
}

impl ApiFailure {
    /// One word for the kind, for `error.type` of spans.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::NotAllowed => "not_allowed",
            Self::Terminating => "terminating",
            Self::QuotaExceeded => "quota_exceeded",
            Self::Refused => "refused",
            Self::Invalid(_) => "invalid",
            Self::Busy(_) => "busy",
            Self::Outdated => "outdated",
            Self::Held => "held",
            Self::NotEnforced(_) => "not_enforced",
            Self::Unreachable => "unreachable",
            Self::Status(_) => "status",
            Self::NotLeader => "not_leader",
            Self::Garbled => "garbled",
        }
    }

    fn of_status(status: &kube::core::Status) -> Self {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        match status.code {
            _ if is_denial_of_admission(&status.message) => Self::Refused,
            409 if status.reason == "AlreadyExists" => Self::AlreadyExists,
            409 => Self::Conflict,
            404 => Self::NotFound,
            403 if causes.clone().any(|cause| cause.reason == "NamespaceTerminating") => Self::Terminating,
            403 if status.message.contains("exceeded quota") => Self::QuotaExceeded,
            // RBAC is the one that names the user and the verb; admission plugins have many voices.
            403 if status.message.contains("\" cannot ") => Self::NotAllowed,
            403 => Self::Refused,
            422 => Self::Invalid(causes.map(|cause| cause.field.as_str()).next().unwrap_or_default().to_string()),
            429 | 503 => {
                let seconds = status.details.as_ref().map_or(1, |details| details.retry_after_seconds);
                Self::Busy(Duration::from_secs(u64::from(seconds.clamp(1, 60))))
            }
            code => Self::Status(code),
        }
    }
}

/// Whether a policy or a webhook speaks: each chooses the code of its refusal itself, 422 if it does not.
fn is_denial_of_admission(message: &str) -> bool {
    let of_policy = message.contains("ValidatingAdmissionPolicy '") && message.contains(" denied request");
    of_policy || (message.contains("admission webhook \"") && message.contains(" denied the request"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn of(code: u16, reason: &str, message: &str) -> ApiFailure {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Default::default() };
        kube::Error::Api(status.boxed()).into()
    }

    #[test]
    fn the_kinds_of_403_and_409_are_told_apart() {
        let rbac = r#"secrets is forbidden: User "system:serviceaccount:a:b" cannot create resource "secrets""#;
        assert_eq!(of(403, "Forbidden", rbac), ApiFailure::NotAllowed);
        assert_eq!(of(403, "Forbidden", "secrets \"x\" is forbidden: exceeded quota: q"), ApiFailure::QuotaExceeded);
        let policy = r#"secrets "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: you "a" cannot do"#;
        let webhook = r#"admission webhook "w.example.org" denied the request: no"#;
        for code in [400, 403, 409, 413, 422] {
            assert_eq!(of(code, "", policy), ApiFailure::Refused, "{code}");
            assert_eq!(of(code, "", webhook), ApiFailure::Refused, "{code}");
        }
        assert_eq!(of(409, "AlreadyExists", ""), ApiFailure::AlreadyExists);
        assert_eq!(of(409, "Conflict", ""), ApiFailure::Conflict);
        assert_eq!(of(500, "", ""), ApiFailure::Status(500));
    }

    #[test]
    fn a_long_retry_after_is_bounded() {
        let status = serde_json::json!({ "code": 429, "details": { "retryAfterSeconds": 3600 } });
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!(ApiFailure::of_status(&status), ApiFailure::Busy(Duration::from_secs(60)));
    }
}
