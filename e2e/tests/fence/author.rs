//! Who asks for a Secret in somebody else's namespace.

use anyhow::Result;
use e2e::site::{SOON, Site, Tenant};
use e2e::{asks, eventually};
use kube::Client;
use serde_json::{Value, json};

use crate::{Attempt, RefusedBy, call, try_all};

const FENCE: RefusedBy = RefusedBy::Policy("secrets-distributor-author");
const SECRETS: RefusedBy = RefusedBy::Policy("secrets-distributor-secret-author");

/// As many other namespaces as are asked for one by one.
const MOST: usize = secrets_distributor::admission::MOST_NAMESPACES;

fn requests(tenant: &Tenant<'_>) -> String {
    format!("/apis/xlscsde.nhs.uk/v1/namespaces/{}/secretsdistributions", tenant.namespace)
}

/// A request that is made and not kept.
fn ask(from: &Tenant<'_>, what: &'static str, spec: Value, refused_by: RefusedBy) -> Attempt {
    let object = json!({
        "apiVersion": "xlscsde.nhs.uk/v1",
        "kind": "SecretsDistribution",
        "metadata": { "name": "asked" },
        "spec": asks("S", spec),
    });
    Attempt { what, verb: "POST", path: format!("{}?dryRun=All", requests(from)), body: object, refused_by }
}

fn change(at: &Tenant<'_>, what: &'static str, patch: Value, refused_by: RefusedBy) -> Attempt {
    Attempt { what, verb: "MERGE", path: format!("{}/r", requests(at)), body: patch, refused_by }
}

/// Gives the ClusterRole to the user, in these namespaces.
async fn appoint(user: &str, role: &str, tenants: &[&Tenant<'_>]) -> Result<()> {
    let bindings = tenants.iter().map(|tenant| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": { "name": user, "namespace": tenant.namespace },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
        })
    });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": bindings.collect::<Vec<_>>() });
    tenants[0].site.cluster.apply_yaml(&list.to_string()).await
}

async fn until(client: &Client, attempt: impl Fn() -> Attempt) -> Result<()> {
    eventually(SOON, "the policies and the roles are in force", async || {
        let attempt = attempt();
        let answer = call(client, attempt.verb, &attempt.path, &attempt.body).await?;
        anyhow::ensure!(RefusedBy::of(&answer) == Ok(attempt.refused_by), "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_request_for_another_namespace_needs_a_say_there() -> Result<()> {
    let site = Site::shared().await?;
    let (home, near, far) =
        (site.tenant("home").await?, site.undelegated_tenant("near").await?, site.undelegated_tenant("far").await?);
    appoint("alice", "edit", &[&home, &near]).await?;
    let alice = site.cluster.client_for_user("alice", &[]).await?;
    let selector = json!({ "namespaceSelector": { "matchLabels": { "team": "a" } } });
    until(&alice, || ask(&near, "", json!({ "namespaces": [home.namespace] }), RefusedBy::Nobody)).await?;
    until(&alice, || ask(&home, "", json!({ "namespaces": [far.namespace] }), FENCE)).await?;

    let to = |namespaces: &[&Tenant<'_>]| json!({ "namespaces": namespaces.iter().map(|t| &t.namespace).collect::<Vec<_>>() });
    let attempts = vec![
        ask(&home, "ask for the own namespace", json!({}), RefusedBy::Nobody),
        ask(&home, "ask for the own namespace by its name", to(&[&home]), RefusedBy::Nobody),
        ask(&home, "ask for another where she may ask, too", to(&[&home, &near]), RefusedBy::Nobody),
        ask(&home, "ask for one where she may not", to(&[&far]), FENCE),
        ask(&home, "hide it among others", to(&[&near, &home, &far]), FENCE),
        ask(&home, "ask for a namespace that does not exist", json!({ "namespaces": ["nowhere"] }), FENCE),
        ask(&home, "ask for whatever has a label", selector.clone(), FENCE),
    ];
    try_all(&alice, attempts).await?;
    let answer = call(&alice, "POST", &requests(&home), &ask(&home, "", to(&[&near, &far]), FENCE).body).await?;
    let told = answer.unwrap_err();
    assert!(
        told.ends_with(&format!(
            "alice may not create secretsdistributions in namespace {}, which the request is for",
            far.namespace
        )),
        "{told}"
    );

    let everywhere = ["create", "clusterrolebinding", "bob", "--clusterrole=secrets-distributor-edit", "--user=bob"];
    site.cluster.kubectl(everywhere).succeed().await?;
    let bob = site.cluster.client_for_user("bob", &[]).await?;
    until(&bob, || ask(&home, "", json!({}), RefusedBy::Nobody)).await?;
    let many: Vec<_> = (0..256).map(|number| format!("n{number}")).collect();
    let attempts = vec![
        ask(&home, "ask for whatever has a label, with the right everywhere", selector, RefusedBy::Nobody),
        ask(
            &home,
            "ask for 256 namespaces, with the right everywhere",
            json!({ "namespaces": many }),
            RefusedBy::Nobody,
        ),
    ];
    try_all(&bob, attempts).await
}

/// Each question costs, and the API server grants a policy a budget.
#[tokio::test]
async fn as_many_namespaces_as_promised_are_asked_for_one_by_one() -> Result<()> {
    let site = Site::shared().await?;
    let home = site.undelegated_tenant("many").await?;
    let mut others = Vec::new();
    for number in 0..=MOST {
        others.push(site.undelegated_tenant(&format!("many-{number}")).await?);
    }
    let tenants: Vec<_> = others.iter().chain([&home]).collect();
    appoint("carol", "edit", &tenants).await?;
    let carol = site.cluster.client_for_user("carol", &[]).await?;
    let to = |count: usize| json!({ "namespaces": others[..count].iter().map(|t| &t.namespace).collect::<Vec<_>>() });
    until(&carol, || ask(&home, "", to(MOST), RefusedBy::Nobody)).await?;
    until(&carol, || ask(&home, "", json!({ "namespaces": ["default"] }), FENCE)).await?;
    let mut last = to(MOST);
    last["namespaces"][MOST - 1] = json!("default");
    let attempts = vec![
        ask(&home, "ask for as many as are asked for one by one", to(MOST), RefusedBy::Nobody),
        ask(&home, "ask for as many, and the last is somebody else's", last, FENCE),
        ask(&home, "ask for one more", to(MOST + 1), FENCE),
    ];
    try_all(&carol, attempts).await
}

/// The author of a change answers for all that is asked then; who changes metadata, for nothing.
#[tokio::test]
async fn a_change_of_a_request_needs_what_a_new_one_would() -> Result<()> {
    let site = Site::shared().await?;
    let (home, far) = (site.tenant("changed").await?, site.undelegated_tenant("changed-far").await?);
    appoint("dave", "edit", &[&home]).await?;
    let dave = site.cluster.client_for_user("dave", &[]).await?;
    until(&dave, || ask(&home, "", json!({ "namespaces": [far.namespace] }), FENCE)).await?;
    // Made by the platform team.
    home.request("r", asks("S", json!({ "namespaces": [far.namespace] }))).await?;
    home.until_condition("r", "Permitted", "False", "NoPolicyForNamespace").await?;

    let source = json!({ "spec": { "secrets": [{ "from": "Other", "to": "k" }] } });
    let attempts = vec![
        change(
            &home,
            "label a request for another namespace",
            json!({ "metadata": { "labels": { "a": "b" } } }),
            RefusedBy::Nobody,
        ),
        change(&home, "choose what another namespace receives", source, FENCE),
        change(
            &home,
            "send it to whatever has a label",
            json!({ "spec": { "namespaceSelector": { "matchLabels": { "a": "b" } } } }),
            FENCE,
        ),
        change(&home, "bring it home", json!({ "spec": { "namespaces": null } }), RefusedBy::Nobody),
        change(&home, "send it away again", json!({ "spec": { "namespaces": [far.namespace] } }), FENCE),
    ];
    try_all(&dave, attempts).await
}

#[tokio::test]
async fn who_may_not_create_secrets_makes_nobody_do_it_if_the_platform_team_says_so() -> Result<()> {
    let site = Site::prepare().await?;
    let (home, near) = (site.undelegated_tenant("home").await?, site.undelegated_tenant("near").await?);
    appoint("erin", "secrets-distributor-edit", &[&home, &near]).await?;
    appoint("frank", "edit", &[&home]).await?;
    appoint("frank", "secrets-distributor-edit", &[&near]).await?;
    let optional = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/admission/require-secret-create");
    let erin = site.cluster.client_for_user("erin", &[]).await?;
    until(&erin, || ask(&home, "", json!({ "namespaces": [near.namespace] }), RefusedBy::Nobody)).await?;
    site.cluster.apply_path(optional.as_ref()).await?;
    until(&erin, || ask(&home, "", json!({}), SECRETS)).await?;

    let selector = json!({ "namespaceSelector": { "matchLabels": { "team": "a" } } });
    let frank = site.cluster.client_for_user("frank", &[]).await?;
    let attempts = vec![
        ask(&home, "ask for a Secret that she could not write", json!({}), SECRETS),
        ask(&home, "ask for it by an empty list", json!({ "namespaces": [] }), SECRETS),
    ];
    try_all(&erin, attempts).await?;
    let attempts = vec![
        ask(&home, "ask for a Secret that he could write", json!({}), RefusedBy::Nobody),
        ask(
            &home,
            "ask for one where he may ask, and could not write",
            json!({ "namespaces": [near.namespace] }),
            SECRETS,
        ),
    ];
    try_all(&frank, attempts).await?;
    let everywhere = ["create", "clusterrolebinding", "erin", "--clusterrole=secrets-distributor-edit", "--user=erin"];
    site.cluster.kubectl(everywhere).succeed().await?;
    until(&erin, || ask(&home, "", selector.clone(), SECRETS)).await
}
