//! What a namespace looks like in the end: a function of what people asked for, without UIDs, versions and times.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrets_distributor::api::{SecretsDistribution, names};

use crate::site::{Tenant, condition};

/// Each distributed Secret and each request of a namespace, in a line of text. Namespaces are called by the names
/// that `called` gives them.
///
/// A Secret: `secret A/name type {key=value} of A/request (owned)`. A request: `request A/name True Ready [A/name]`,
/// with the destinations that have their Secret; one whose status is not about its current generation is `stale`.
pub async fn state(tenant: &Tenant<'_>, called: &[(&str, &str)]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for secret in tenant.secrets().list(&Default::default()).await?.items {
        if secret.labels().contains_key(names::OWNER_UID) {
            lines.push(secret_line(&secret)?);
        }
    }
    for request in tenant.requests().list(&Default::default()).await?.items {
        lines.push(request_line(&request));
    }
    lines.sort();
    let renamed = |line: String| called.iter().fold(line, |line, (name, called)| line.replace(name, called));
    Ok(lines.into_iter().map(renamed).collect())
}

fn secret_line(secret: &Secret) -> Result<String> {
    let values = secret.data.iter().flatten();
    let data: BTreeMap<_, _> = values.map(|(key, value)| (key, String::from_utf8_lossy(&value.0))).collect();
    let data: Vec<_> = data.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let request = secret.annotations().get(names::REQUEST).context("a label and no record of the request")?;
    let revoked = secret.annotations().contains_key(names::REVOKED_AT);
    Ok(format!(
        "secret {}/{} {} {{{}}} of {request}{}{}",
        secret.namespace().unwrap_or_default(),
        secret.name_any(),
        secret.type_.as_deref().unwrap_or_default(),
        data.join(" "),
        if secret.owner_references().is_empty() { "" } else { " (owned)" },
        if revoked { " (revoked)" } else { "" },
    ))
}

fn request_line(request: &SecretsDistribution) -> String {
    let at = format!("request {}/{}", request.namespace().unwrap_or_default(), request.name_any());
    let Some(status) = request.status.as_ref().filter(|s| s.observed_generation == request.metadata.generation) else {
        return format!("{at} stale");
    };
    let (ready, reason) =
        condition(status, "Ready").map_or(("", ""), |ready| (ready.status.as_str(), ready.reason.as_str()));
    let written = status.targets.iter().filter(|target| format!("{:?}", target.state) == "Synced");
    let written: Vec<_> = written.map(|target| format!("{}/{}", target.namespace, target.name)).collect();
    format!("{at} {ready} {reason} [{}]", written.join(" "))
}
