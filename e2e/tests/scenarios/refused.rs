//! The cluster itself refuses a write: by a quota, or by an admission policy of somebody else.

use anyhow::Result;
use e2e::{
    eventually,
    site::{SOON, Site, Tenant, version},
};
use kube::api::PostParams;
use serde_json::json;

fn one(source: &str) -> serde_json::Value {
    json!({ "secrets": [{ "from": source, "to": "k" }] })
}

async fn limit_secrets(tenant: &Tenant<'_>, most: u32) -> Result<()> {
    let quota = json!({
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": { "name": "q", "namespace": tenant.namespace },
        "spec": { "hard": { "count/secrets": most.to_string() } },
    });
    tenant.site.cluster.apply_yaml(&quota.to_string()).await?;
    let namespace = format!("--namespace={}", tenant.namespace);
    let enforced = format!("--for=jsonpath={{.status.hard.count/secrets}}={most}");
    let wait = ["wait", "quota/q", "--timeout=20s", &namespace, &enforced];
    tenant.site.cluster.kubectl(wait).succeed().await?;
    Ok(())
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_told_and_heals_when_it_is_raised() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("quota").await?;
    site.sources.set(&[("QuotaSource", b"1")])?;
    tenant.grant(&["QuotaSource"]).await?;
    limit_secrets(&tenant, 1).await?;
    tenant.request("first", one("QuotaSource")).await?;
    tenant.until_ready("first").await?;
    tenant.request("second", one("QuotaSource")).await?;
    let message = tenant.until_condition("second", "Synced", "False", "WriteRefused").await?;
    assert!(message.contains("a ResourceQuota of the namespace is used up"), "{message}");
    assert_eq!(tenant.until_event("second", "WriteRefused").await?, message);
    site.sources.set(&[("QuotaSource", b"2")])?;
    tenant.until_content("first", "k", b"2").await?;

    limit_secrets(&tenant, 2).await?;
    tenant.until_content("second", "k", b"2").await?;
    tenant.until_ready("second").await?;
    Ok(())
}

/// Refuses to write Secrets with this label in this namespace, and to delete any that the operator made, with that reason.
async fn forbid(tenant: &Tenant<'_>, reason: &str) -> Result<()> {
    let name = &tenant.namespace;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } },
                "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE", "DELETE"],
                    "resources": ["secrets"],
                }],
            },
            "validations": [{
                "expression": "request.operation != 'DELETE' && object.metadata.?labels.forbidden.orValue('no') == 'no'",
                "messageExpression": "'QuotedByThePolicy ' + string((object != null ? object : oldObject).data)",
                "message": "QuotedByThePolicy",
                "reason": reason,
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": [policy, binding] });
    tenant.site.cluster.apply_yaml(&list.to_string()).await?;
    let secret = serde_json::from_value(json!({ "metadata": { "name": "probe", "labels": { "forbidden": "yes" } } }))?;
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    eventually(SOON, "the admission policy is in force", async || match tenant.secrets().create(&dry, &secret).await {
        Err(kube::Error::Api(status)) if status.message.contains("QuotedByThePolicy") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

#[tokio::test]
async fn an_admission_policy_that_refuses_is_told_without_its_words() -> Result<()> {
    let site = Site::shared().await?;
    site.sources.set(&[("PolicedSource", b"1")])?;
    for (prefix, reason) in [("invalid", "Invalid"), ("forbidden", "Forbidden")] {
        let tenant = site.tenant(prefix).await?;
        tenant.grant(&["PolicedSource"]).await?;
        tenant.request("old", one("PolicedSource")).await?;
        let old = version(&tenant.until_content("old", "k", b"1").await?)?;
        forbid(&tenant, reason).await?;
        let labels = json!({ "labels": { "forbidden": "yes" } });
        let mut spec = one("PolicedSource");
        spec["metadata"] = labels.clone();
        tenant.request("new", spec).await?;
        tenant.change("old", json!({ "metadata": labels })).await?;
        for request in ["new", "old"] {
            let message = tenant.until_condition(request, "Synced", "False", "WriteRefused").await?;
            assert!(message.contains("an admission policy of the cluster refuses it"), "{message}");
            assert!(!message.contains("Quoted") && !message.contains("MQ=="), "{message}");
        }
        assert!(tenant.secret("new").await?.is_none());
        assert_eq!(version(&tenant.secret("old").await?.unwrap())?, old, "the last Secret stays");
        site.cluster.kubectl(["delete", "validatingadmissionpolicybinding", &tenant.namespace]).succeed().await?;
        tenant.until_ready("new").await?;
        tenant.until_ready("old").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_deletion_that_is_refused_is_told_as_a_revocation_that_is_blocked() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("KeptByForce", b"1").await?;
    tenant.request("r", one("KeptByForce")).await?;
    tenant.until_ready("r").await?;
    forbid(&tenant, "Forbidden").await?;
    site.delete_policy(&tenant.namespace).await?;
    let told = tenant.until_condition("r", "Ready", "False", "RevocationBlocked").await?;
    assert!(told.starts_with("the grant is gone, and what was written stays: Secret "), "{told}");
    assert!(told.contains("an admission policy of the cluster refuses it") && !told.contains("Quoted"), "{told}");
    let ns = ("namespace", tenant.namespace.as_str());
    let blocked = [ns, ("reason", "RevocationBlocked")];
    site.until_metric("secrets_distributor_requests", &blocked, |count| count == 1.0).await?;
    tenant.until_content("r", "k", b"1").await?;

    site.cluster.kubectl(["delete", "validatingadmissionpolicybinding", &tenant.namespace]).succeed().await?;
    tenant.until_gone("r").await?;
    tenant.until_condition("r", "Ready", "False", "NoPolicyForNamespace").await.map(drop)
}
