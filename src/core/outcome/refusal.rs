//! A refusal in words.

use crate::{
    api::conditions::Reason,
    core::{
        decide::Denial,
        name::Target,
        request::{Mapping, Request},
    },
};

/// The most mappings a message lists.
const MAX_IN_MESSAGE: usize = 3;

/// The refusal in words about the request alone: nothing of a policy that did not grant it.
pub fn explain(request: &Request, target: &Target, denial: &Denial) -> String {
    let namespace = &target.namespace;
    let refused: Vec<_> =
        request.mappings.iter().zip(&denial.reasons).filter(|(_, reasons)| !reasons.is_empty()).collect();
    let leading = denial.leading();
    let whole = match leading {
        Reason::ReservedType => Some(format!(
            "type {} is reserved: a cluster component would turn it into a live credential",
            request.secret_type
        )),
        Reason::NamespaceExcluded => {
            Some(format!("namespace {namespace} is excluded, unless a policy without a selector names it literally"))
        }
        Reason::NoPolicyForNamespace => Some(format!("no policy grants anything to namespace {namespace}")),
        Reason::QuotaExceeded => Some(format!(
            "namespace {namespace} already has the {} distributions that its policies allow, all older than this one",
            denial.quota.unwrap_or_default()
        )),
        _ => None,
    };
    let text = whole.unwrap_or_else(|| {
        let mut parts: Vec<_> = refused
            .iter()
            .take(MAX_IN_MESSAGE)
            .map(|(mapping, reasons)| refusal(request, mapping, namespace.as_str(), reasons.iter()))
            .collect();
        if refused.len() > MAX_IN_MESSAGE {
            parts.push(format!("{} more mappings, see status.decisions", refused.len() - MAX_IN_MESSAGE));
        }
        parts.join("; ")
    });
    format!("{text}; {}", advice(leading))
}

/// What helps, if anything does: of several reasons the leading one has to go first.
fn advice(leading: Reason) -> &'static str {
    match leading {
        Reason::ReservedType => "choose another spec.type, since no policy can grant this one",
        Reason::NamespaceExcluded => {
            "ask the platform team for one that does, and for the label xlscsde.nhs.uk/distribution=allowed of the \
             namespace"
        }
        Reason::QuotaExceeded => {
            "delete a distribution that is not needed, or ask the platform team to raise limits.distributions"
        }
        Reason::DeniedByRule => {
            "a Deny wins over every grant: do without it, or ask the platform team to narrow the rule"
        }
        _ => "ask the platform team for a DistributionPolicy that grants it",
    }
}

fn refusal<'a>(
    request: &Request,
    mapping: &Mapping,
    namespace: &str,
    reasons: impl Iterator<Item = &'a Reason>,
) -> String {
    let source = &mapping.from;
    let parts: Vec<_> = reasons
        .map(|reason| match reason {
            Reason::DeniedByRule => format!("is denied to namespace {namespace}"),
            Reason::GrantExpired => format!("was granted to namespace {namespace}, and the grant has expired"),
            Reason::KeyNotPermitted => format!("is not granted for key {}", mapping.to),
            Reason::TypeNotPermitted => format!("is not granted for type {}", request.secret_type),
            Reason::NameNotPermitted => format!("is not granted for a Secret named {}", request.secret_name),
            Reason::RequesterNotPermitted => {
                format!("is not granted in {namespace} to requests from {}", request.key.namespace)
            }
            _ => format!("is not granted to namespace {namespace}"),
        })
        .collect();
    format!("source {source} {}", parts.join(" and "))
}
