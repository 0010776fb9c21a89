//! What `validate` finds in policies and requests: codes that are an API of their own. `docs/cli.md` has them as a table.

use serde::Serialize;

closed_set! {
    /// What was found.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
    FindingCode {
        /// The file is no YAML, the object has an unknown field or one of a wrong form, or the API server or the operator would refuse it.
        InvalidObject,
        /// Two objects of a kind have the name: only one of them would count.
        DuplicateName,
        /// A request asks for a type that no policy can grant.
        ReservedType,
        /// The type of the Secret needs a key that the request does not map.
        KeyAbsent,
        /// A glob that no name fits, a selector that contradicts itself, or names that the selector excludes: what they stand for is nothing.
        NeverMatches,
        /// No namespace can ask, as requestedFrom is written: the rule does nothing.
        RequesterUnreachable,
        /// A Deny refuses everything that an Allow grants: the Allow does nothing.
        DenyHidesAllow,
        /// An Allow for every source, or for every namespace.
        MatchesEverything,
        /// Namespaces are selected by labels that tenants may be able to set: prefer names, or kubernetes.io/metadata.name.
        TenantWritableLabels,
        /// notAfter is over: the policy does nothing.
        Expired,
        /// A quota of 0: nothing at all is granted in these namespaces, by whatever policy.
        ZeroQuota,
        /// Another Allow of the same policy grants everything that this one grants.
        Redundant,
        /// The field has no effect where it stands.
        NoEffect,
        /// The policy is in Audit: it grants and denies nothing.
        InAudit,
        /// notBefore is to come: the policy does nothing until then.
        NotYetInForce,
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot work.
    Error,
    /// It can hardly be meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl FindingCode {
    /// How much it matters.
    pub fn severity(self) -> Severity {
        match self {
            Self::InvalidObject | Self::DuplicateName | Self::ReservedType | Self::KeyAbsent => Severity::Error,
            Self::NeverMatches
            | Self::RequesterUnreachable
            | Self::DenyHidesAllow
            | Self::MatchesEverything
            | Self::TenantWritableLabels
            | Self::Expired
            | Self::ZeroQuota => Severity::Warning,
            Self::Redundant | Self::NoEffect | Self::InAudit | Self::NotYetInForce => Severity::Info,
        }
    }
}
