//! Who may do what: each verb of each role for each kind, as the API server answers. What is not in the tables is
//! forbidden.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use e2e::{
    Operator, eventually,
    site::{SOON, Site, Tenant},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

const OURS: &str = "xlscsde.nhs.uk";
const VERBS: [&str; 11] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
];

/// Group and resource, with the subresource or the name of an object.
const KINDS: [(&str, &str); 20] = [
    ("", "secrets"),
    (OURS, "secretsdistributions"),
    (OURS, "secretsdistributions/status"),
    (OURS, "distributionpolicies"),
    (OURS, "distributionpolicies/status"),
    ("", "namespaces"),
    ("", "namespaces/status"),
    ("", "events"),
    ("events.k8s.io", "events"),
    ("coordination.k8s.io", "leases"),
    ("coordination.k8s.io", "leases=secrets-distributor"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "users"),
    ("", "configmaps"),
    ("", "pods"),
    ("", "pods/exec"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
];

/// A right as `verb resource.group`.
type Rights = BTreeSet<String>;

/// Lines of `verb,verb resource.group`.
fn rights(table: &[&str]) -> Rights {
    let line = |line: &&str| {
        let (verbs, resource) = line.split_once(' ').expect("verbs and a resource");
        verbs.split(',').map(|verb| format!("{verb} {resource}")).collect::<Vec<_>>()
    };
    table.iter().flat_map(line).collect()
}

const READ_REQUESTS: &str = "get,list,watch secretsdistributions.xlscsde.nhs.uk";
const WRITE_REQUESTS: &str = "create,update,patch,delete,deletecollection secretsdistributions.xlscsde.nhs.uk";

/// In the whole cluster.
const OF_THE_OPERATOR: [&str; 4] = [
    "list,watch secretsdistributions.xlscsde.nhs.uk",
    "list,watch distributionpolicies.xlscsde.nhs.uk",
    "list,watch namespaces.",
    "create,patch events.events.k8s.io",
];
const OF_ITS_STATUS: [&str; 2] =
    ["patch secretsdistributions/status.xlscsde.nhs.uk", "patch distributionpolicies/status.xlscsde.nhs.uk"];
const AT_HOME: [&str; 2] =
    ["create leases.coordination.k8s.io", "get,update,create leases=secrets-distributor.coordination.k8s.io"];
const DELEGATED: [&str; 1] = ["get,list,watch,create,patch,delete secrets."];
const DELEGATED_WRITE_ONLY: [&str; 1] = ["create,patch,delete secrets."];

async fn asked(client: &Client, user: &str, namespace: &str, verb: &str, kind: (&str, &str)) -> Result<bool> {
    let (group, resource) = kind;
    let (resource, name) = resource.split_once('=').unwrap_or((resource, ""));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({ "namespace": namespace, "verb": verb, "group": group, "resource": resource,
        "subresource": subresource, "name": name });
    let review = json!({ "spec": { "user": user, "resourceAttributes": attributes } });
    let reviews = Api::<SubjectAccessReview>::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
    Ok(answer.status.context("no answer")?.allowed)
}

/// Every verb of every kind, in a namespace; in all of them, if it has no name.
async fn found(client: &Client, user: &str, namespace: &str) -> Result<Rights> {
    let all = KINDS.into_iter().flat_map(|kind| VERBS.into_iter().map(move |verb| (verb, kind)));
    let answers = stream::iter(all).map(|(verb, kind)| async move {
        let allowed = asked(client, user, namespace, verb, kind).await?;
        anyhow::Ok(allowed.then(|| format!("{verb} {}.{}", kind.1, kind.0)))
    });
    let answers: Vec<_> = answers.buffer_unordered(8).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn bind(tenant: &Tenant<'_>, role: &str, user: &str) -> Result<()> {
    let subject = match user {
        Operator::USER => "--serviceaccount=secrets-distributor:secrets-distributor".to_owned(),
        user => format!("--user={user}"),
    };
    let role = format!("--clusterrole={role}");
    let create = ["create", "rolebinding", "bound", "--namespace", &tenant.namespace, &role, &subject];
    tenant.site.cluster.kubectl(create).succeed().await.map(drop)
}

async fn until_in_force(client: &Client, user: &str, namespace: &str, expected: &[&[&str]]) -> Result<()> {
    let expected: Rights = expected.iter().flat_map(|table| rights(table)).collect();
    eventually(SOON, &format!("the rights of {user} in {namespace:?}"), async || {
        let found = found(client, user, namespace).await?;
        let (more, less): (Vec<_>, Vec<_>) =
            (found.difference(&expected).collect(), expected.difference(&found).collect());
        anyhow::ensure!(more.is_empty() && less.is_empty(), "too much: {more:?}; missing: {less:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operator_may_do_what_it_does_and_nothing_else() -> Result<()> {
    let site = Site::prepare_write_only("1h").await?;
    let client = site.cluster.client().await?;
    let [watched, written, outside] =
        [site.undelegated_tenant("watched"), site.undelegated_tenant("written"), site.undelegated_tenant("outside")];
    let (watched, written, outside) = (watched.await?, written.await?, outside.await?);
    bind(&watched, "secrets-distributor-tenant", Operator::USER).await?;
    bind(&written, "secrets-distributor-tenant-write-only", Operator::USER).await?;
    let everywhere: [&[&str]; 2] = [&OF_THE_OPERATOR, &OF_ITS_STATUS];
    let places: [(&str, &[&str]); 6] = [
        ("", &[]),
        ("kube-system", &[]),
        (&outside.namespace, &[]),
        (Operator::NAMESPACE, &AT_HOME),
        (&watched.namespace, &DELEGATED),
        (&written.namespace, &DELEGATED_WRITE_ONLY),
    ];
    for (namespace, more) in places {
        until_in_force(&client, Operator::USER, namespace, &[everywhere[0], everywhere[1], more]).await?;
    }
    Ok(())
}

/// The cluster's own roles have more than that for other kinds: of them only what is ours is looked at.
#[tokio::test]
async fn each_role_of_people_may_do_what_it_is_for_and_nothing_else() -> Result<()> {
    let site = Site::prepare().await?;
    let client = site.cluster.client().await?;
    let roles: [(&str, &[&str]); 5] = [
        ("secrets-distributor-view", &[READ_REQUESTS]),
        ("secrets-distributor-edit", &[WRITE_REQUESTS]),
        ("view", &[READ_REQUESTS]),
        ("edit", &[READ_REQUESTS, WRITE_REQUESTS]),
        ("admin", &[READ_REQUESTS, WRITE_REQUESTS]),
    ];
    for (role, expected) in roles {
        let tenant = site.undelegated_tenant("people").await?;
        bind(&tenant, role, role).await?;
        let expected = rights(expected);
        eventually(SOON, &format!("the rights of {role}"), async || {
            let mut found = found(&client, role, &tenant.namespace).await?;
            found.retain(|right| right.ends_with(OURS));
            anyhow::ensure!(found == expected, "{found:?}");
            Ok(())
        })
        .await?;
        until_in_force(&client, role, "", &[]).await?;
    }
    let policies = "get,list,watch,create,update,patch,delete,deletecollection distributionpolicies.xlscsde.nhs.uk";
    let viewer = [
        "get,list,watch distributionpolicies.xlscsde.nhs.uk",
        "get,list,watch namespaces.",
        "get,list,watch secretsdistributions.xlscsde.nhs.uk",
    ];
    for (role, expected) in [("policy-author", &[policies][..]), ("policy-viewer", &viewer[..])] {
        let role = format!("--clusterrole=secrets-distributor-{role}");
        let create = ["create", "clusterrolebinding", "everywhere", &role, "--user=ann"];
        site.cluster.kubectl(create).succeed().await?;
        until_in_force(&client, "ann", "", &[expected]).await?;
        site.cluster.kubectl(["delete", "clusterrolebinding", "everywhere"]).succeed().await?;
    }
    until_in_force(&client, "nobody", "", &[]).await
}
