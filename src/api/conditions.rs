//! Condition types and reasons: an API of its own. `docs/reference.md` has them as a table.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

closed_set! {
    /// Condition types of a `SecretsDistribution`, and `Accepted` of a `DistributionPolicy`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    ConditionType {
        /// Whether policies grant the request.
        Permitted,
        /// Whether every permitted Secret is as it should be.
        Synced,
        /// The roll-up for Flux, Argo CD and `kubectl wait`: Permitted and Synced, of this generation.
        Ready,
        /// Whether a policy could be compiled and is in force.
        Accepted,
    }
}

closed_set! {
    /// Why a condition has its status.
    ///
    /// The order is the order of importance: of several reasons the first is shown in a condition.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
    Reason {
        /// Permitted=Unknown: policies, namespaces or requests have not been read yet; nothing is granted and nothing revoked. Only in explanations: a status is not written then.
        PoliciesNotReady,
        /// Permitted=False: the object in the API server cannot be understood; the message says which field.
        InvalidRequest,
        /// Permitted=False: the type is reserved, whatever a policy says.
        ReservedType,
        /// Permitted=False: the destination is a system namespace, or the operator's own, and no policy names it literally.
        NamespaceExcluded,
        /// Permitted=False: a Deny rule matches; it wins over every Allow.
        DeniedByRule,
        /// Permitted=False: a policy that granted this is past its notAfter.
        GrantExpired,
        /// Permitted=False: no policy speaks about the destination namespace.
        NoPolicyForNamespace,
        /// Permitted=False: no Allow rule for the destination names the source.
        SourceNotPermitted,
        /// Permitted=False: the source is granted, but not to this key.
        KeyNotPermitted,
        /// Permitted=False: the source is granted, but not for a Secret of this type.
        TypeNotPermitted,
        /// Permitted=False: the source is granted, but not for a Secret of this name.
        NameNotPermitted,
        /// Permitted=False: the source is granted, but not to requests from this namespace.
        RequesterNotPermitted,
        /// Permitted=False: the namespace has as many distributions as its policies allow, and this one is younger.
        QuotaExceeded,
        /// Synced=False: the grant is gone, and the Secret could not be deleted, or its namespace lets nobody see whether it is there; the message says what is in the way.
        RevocationBlocked,
        /// Synced=False: spec.suspend is true; nothing is written, and nothing deleted but what is no longer granted.
        Suspended,
        /// Synced=False: the operator runs with --enforcement Audit; the message is what it would do to the Secret.
        NotEnforced,
        /// Synced=False: the grant is gone; the Secret is deleted at status.retryAt unless the grant returns.
        RevocationPending,
        /// Synced=False: the destination namespace does not exist.
        NamespaceNotFound,
        /// Synced=False: the destination namespace is being deleted.
        NamespaceTerminating,
        /// Synced=False: the namespace has not delegated its Secrets; the message is the command that does.
        NotDelegated,
        /// Synced=Unknown: the mount is empty or cannot be read; Secrets stay as they are.
        SourcesNotReady,
        /// Synced=False: a granted source does not exist in the mount; the last Secret stays.
        SourceMissing,
        /// Synced=False: a granted source exists but is not a readable, regular, non-empty file below the mount.
        SourceUnreadable,
        /// Synced=False: the sources are larger than 1 MiB in sum.
        SourceTooLarge,
        /// Synced=False: the content does not fit the type of the Secret; the last good Secret stays.
        InvalidForType,
        /// Synced=False: a Secret of that name belongs to somebody else, is immutable, or an older request writes it.
        TargetConflict,
        /// Synced=False: the namespace's rate limit is used up; the Secret is written at status.retryAt.
        Throttled,
        /// Synced=False: a ResourceQuota or an admission policy of the cluster refused the write.
        WriteRefused,
        /// Synced=False: the API server could not be reached or failed; retried with backoff.
        ApiError,
        /// Synced=False: the operator failed on this request by a fault of its own, told in its log; retried with backoff.
        InternalError,
        /// Synced=False: nothing is written, because the request is not permitted.
        NotPermitted,
        /// Permitted=True: policies grant every mapping in every destination.
        Granted,
        /// Synced=True: every Secret is as it should be.
        UpToDate,
        /// Ready=True: permitted and synced.
        Ready,
        /// Accepted=True: the policy is compiled and in force.
        InForce,
        /// Accepted=True: the policy is compiled; in Audit it grants and denies nothing.
        AuditOnly,
        /// Accepted=True: the policy is in force; it selects namespaces by labels that tenants may be able to set.
        SelectorOnMutableLabel,
        /// Accepted=False: the policy cannot be compiled, and grants nothing; the message says which field.
        InvalidPolicy,
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
