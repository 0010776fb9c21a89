//! A namespace lets the operator in, and out again: by its own admin, without anybody else's help.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::{
    ControlPlane, KubectlOutput, Operator, eventually,
    site::{SOON, Site, Tenant},
};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

/// What people are promised.
const HEALED_WITHIN: Duration = Duration::from_secs(5);

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn spec(source: &str) -> serde_json::Value {
    json!({ "secrets": [{ "from": source, "to": "k" }] })
}

/// Makes somebody admin, edit or view of the namespace, and nothing else.
async fn appoint(tenant: &Tenant<'_>, user: &str, role: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": { "name": format!("{user}-{role}"), "namespace": tenant.namespace },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    tenant.site.cluster.apply_yaml(&binding.to_string()).await
}

/// Runs the command that the message tells, to the letter, as that user.
async fn obey(cluster: &ControlPlane, message: &str, user: &str) -> Result<KubectlOutput> {
    let (_, command) = message.split_once("kubectl ").context("the message has no command")?;
    cluster.kubectl(command.split(' ')).as_user(user).run().await
}

#[tokio::test]
async fn the_message_is_the_command_by_which_an_admin_of_the_namespace_delegates() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.undelegated_tenant("delegated").await?;
    site.sources.set(&[("DelegatedSource", b"1")])?;
    tenant.grant(&["DelegatedSource"]).await?;
    tenant.request("r", spec("DelegatedSource")).await?;
    let message = tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    assert_eq!(tenant.until_event("r", "NotDelegated").await?, message);
    appoint(&tenant, "edward", "edit").await?;
    appoint(&tenant, "ada", "admin").await?;

    let refused = obey(&site.cluster, &message, "edward").await?;
    assert!(!refused.success() && refused.stderr.contains("\"edward\" cannot create resource \"rolebindings\""));
    let escaped = ["create", "clusterrolebinding", "x", "--clusterrole=secrets-distributor-tenant", "--user=ada"];
    let escaped = site.cluster.kubectl(escaped).as_user("ada").run().await?;
    assert!(!escaped.success() && escaped.stderr.contains("\"ada\" cannot create resource \"clusterrolebindings\""));

    let asked = obey(&site.cluster, &message, "ada").await?;
    let delegated = Instant::now();
    assert!(asked.success(), "{}", asked.stderr);
    tenant.until_content("r", "k", b"1").await?;
    tenant.until_ready("r").await?;
    assert!(delegated.elapsed() < HEALED_WITHIN, "healed only after {:?}", delegated.elapsed());
    Ok(())
}

#[tokio::test]
async fn the_manifest_delegates_as_well_and_a_delegation_can_end_and_begin_again() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.undelegated_tenant("again").await?;
    site.sources.set(&[("AgainSource", b"1")])?;
    tenant.grant(&["AgainSource"]).await?;
    tenant.request("r", spec("AgainSource")).await?;
    tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    appoint(&tenant, "ada", "admin").await?;
    let manifest = format!("{REPOSITORY}/rbac/delegation/");
    let apply = ["--namespace", &tenant.namespace, "apply", "-f", &manifest];
    site.cluster.kubectl(apply).as_user("ada").succeed().await?;
    tenant.until_content("r", "k", b"1").await?;
    tenant.until_ready("r").await?;

    tenant.request("goes", spec("AgainSource")).await?;
    tenant.until_ready("goes").await?;

    tenant.undelegate().await?;
    site.sources.set(&[("AgainSource", b"2")])?;
    tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    tenant.delete_request("goes").await?;
    tenant.until_gone("goes").await?;
    tenant.until_condition("r", "Permitted", "True", "Granted").await?;
    tenant.until_content("r", "k", b"1").await?;

    site.cluster.kubectl(apply).as_user("ada").succeed().await?;
    let delegated = Instant::now();
    tenant.until_content("r", "k", b"2").await?;
    tenant.until_ready("r").await?;
    assert!(delegated.elapsed() < HEALED_WITHIN, "healed only after {:?}", delegated.elapsed());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_revoked_is_told_and_goes_when_it_can() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("BeyondReach", b"1").await?;
    for name in ["r", "never"] {
        tenant.request(name, spec(if name == "r" { "BeyondReach" } else { "NeverGranted" })).await?;
    }
    tenant.until_ready("r").await?;
    tenant.undelegate().await?;
    // It is seen at the next write.
    site.sources.set(&[("BeyondReach", b"2")])?;
    tenant.until_condition("r", "Synced", "False", "NotDelegated").await?;
    site.delete_policy(&tenant.namespace).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    let told = tenant.until_condition("r", "Ready", "False", "RevocationBlocked").await?;
    assert!(told.starts_with("what is not granted any more may still be there"), "{told}");
    assert_eq!(tenant.until_event("r", "RevocationBlocked").await?, told);
    let status = tenant.until("r", "a status", |status| Some(status.clone())).await?;
    assert!(status.targets[0].last_written.is_some(), "an auditor still sees who has it: {status:?}");
    tenant.until_condition("never", "Synced", "False", "NotPermitted").await?;
    tenant.until_content("r", "k", b"1").await?;

    tenant.delegate().await?;
    tenant.until_gone("r").await?;
    tenant.until_condition("r", "Synced", "False", "NotPermitted").await.map(drop)
}

/// Nobody wanted to write there when it was seen first, so that nobody asks again for minutes.
#[tokio::test]
async fn a_namespace_that_comes_to_be_wanted_heals_as_fast() -> Result<()> {
    let site = Site::shared().await?;
    let (asking, late) = (site.tenant("asking").await?, site.undelegated_tenant("late").await?);
    site.sources.set(&[("WantedSource", b"1")])?;
    let granting = json!({
        "namespaces": { "names": [late.namespace] },
        "rules": [{
            "effect": "Allow",
            "sources": ["WantedSource"],
            "requestedFrom": { "names": [asking.namespace] },
        }],
    });
    site.policy(&late.namespace, granting).await?;
    let by_label = json!({
        "secrets": [{ "from": "WantedSource", "to": "k" }],
        "namespaceSelector": { "matchLabels": { "wanted": asking.namespace } },
        "namespaces": [asking.namespace],
    });
    asking.grant(&["WantedSource"]).await?;
    asking.request("r", by_label).await?;
    asking.until_ready("r").await?;

    let label = format!("wanted={}", asking.namespace);
    site.cluster.kubectl(["label", "namespace", &late.namespace, &label]).succeed().await?;
    let message = asking.until_condition("r", "Synced", "False", "NotDelegated").await?;
    late.delegate().await?;
    let delegated = Instant::now();
    late.until_content("r", "k", b"1").await?;
    asking.until_ready("r").await?;
    assert!(delegated.elapsed() < HEALED_WITHIN, "healed only after {:?}", delegated.elapsed());
    assert!(message.contains(&format!("--namespace={}", late.namespace)), "{message}");
    Ok(())
}

/// Those that read, and those that write.
const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

#[tokio::test]
async fn the_operator_has_no_right_on_secrets_but_where_it_was_given() -> Result<()> {
    let site = Site::shared().await?;
    let (inside, outside) = (site.tenant("inside").await?, site.undelegated_tenant("outside").await?);
    let client = site.cluster.client_for_service_account(Operator::NAMESPACE, Operator::SERVICE_ACCOUNT).await?;
    eventually(SOON, "the delegation is in force", async || {
        may(&client, &inside.namespace, "list", "secrets", "").await.ok().filter(|may| *may)
    })
    .await?;
    for verb in VERBS {
        for namespace in [&outside.namespace, Operator::NAMESPACE, "kube-system", "default", ""] {
            assert!(!may(&client, namespace, verb, "secrets", "").await?, "{verb} secrets in {namespace:?}");
        }
        let given = !["update", "deletecollection"].contains(&verb);
        assert_eq!(may(&client, &inside.namespace, verb, "secrets", "").await?, given, "{verb} secrets inside");
    }
    let operator = site.cluster.service_account_kubeconfig(Operator::NAMESPACE, Operator::SERVICE_ACCOUNT).await?;
    for (namespace, line) in [(&outside.namespace, false), (&inside.namespace, true)] {
        let list = ["auth", "can-i", "--list", "--namespace", namespace];
        let list = site.cluster.kubectl_with(&operator, list).succeed().await?;
        assert_eq!(list.lines().any(|line| line.starts_with("secrets ")), line, "{list}");
        assert!(!list.lines().any(|line| line.starts_with("*")), "{list}");
        for never in ["impersonate", "escalate", "bind ", "serviceaccounts/token", "pods"] {
            assert!(!list.contains(never), "{never}: {list}");
        }
    }
    Ok(())
}

/// Who may do what with both kinds: read (get, list, watch), write, and write of the status.
#[tokio::test]
async fn people_have_the_rights_of_their_role_and_nobody_writes_a_status() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.undelegated_tenant("roles").await?;
    for role in ["view", "edit", "admin"] {
        appoint(&tenant, role, role).await?;
    }
    let author = ["create", "clusterrolebinding", "author", "--clusterrole=secrets-distributor-policy-author"];
    site.cluster.kubectl(author).arg("--user=author").run().await?;
    for (user, requests_read, requests_write, policies) in [
        ("view", true, false, false),
        ("edit", true, true, false),
        ("admin", true, true, false),
        ("author", false, false, true),
        ("nobody", false, false, false),
    ] {
        let client = site.cluster.client_for_user(user, &[]).await?;
        for verb in VERBS {
            let of_requests = if VERBS[..3].contains(&verb) { requests_read } else { requests_write };
            for (resource, expected) in [("secretsdistributions", of_requests), ("distributionpolicies", policies)] {
                let found = may(&client, &tenant.namespace, verb, resource, "").await?;
                assert_eq!(found, expected, "{user} {verb} {resource}");
                let status = may(&client, &tenant.namespace, verb, resource, "status").await?;
                assert!(!status, "{user} {verb} {resource}/status");
            }
        }
    }
    Ok(())
}

/// Whether the API server lets the client do it. An empty namespace is all of them.
async fn may(client: &Client, namespace: &str, verb: &str, resource: &str, subresource: &str) -> Result<bool> {
    let group = if resource == "secrets" { "" } else { "xlscsde.nhs.uk" };
    let attributes = json!({
        "namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource,
    });
    let review = serde_json::from_value(json!({ "spec": { "resourceAttributes": attributes } }))?;
    let reviews = Api::<SelfSubjectAccessReview>::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The status that somebody wrote who may is put right, and never believed.
#[tokio::test]
async fn a_forged_status_is_not_believed() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("forged").await?;
    tenant.request("r", spec("NobodyGrantsThis")).await?;
    tenant.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime":
        "2026-01-01T00:00:00Z" }]);
    let forged = json!({ "status": { "conditions": ready } }).to_string();
    let patch = ["patch", "sd", "r", "--subresource=status", "--type=merge", "-n", &tenant.namespace, "-p", &forged];
    site.cluster.kubectl(patch).succeed().await?;
    assert!(tenant.secret("r").await?.is_none());
    tenant.until_condition("r", "Ready", "False", "NoPolicyForNamespace").await?;
    Ok(())
}
