//! The operator's own token in the wrong hands.

use anyhow::Result;
use e2e::site::{SOON, Site, Tenant};
use e2e::{Operator, asks, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::{Attempt, RefusedBy, call, try_all};

const FENCE: RefusedBy = RefusedBy::Policy("secrets-distributor-operator");
const OWNER_UID: &str = "xlscsde.nhs.uk/owner-uid";
const ADOPTION: &str = "xlscsde.nhs.uk/adoption";

fn secrets(tenant: &Tenant<'_>) -> String {
    format!("/api/v1/namespaces/{}/secrets", tenant.namespace)
}

/// A Secret with all that the operator puts on its own.
fn marked(tenant: &Tenant<'_>, name: &str) -> Value {
    let place = format!("{}/{name}", tenant.namespace);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": { OWNER_UID: "stolen", "app.kubernetes.io/managed-by": "secrets-distributor" },
            "annotations": { "xlscsde.nhs.uk/request": place, "xlscsde.nhs.uk/target": place },
        },
        "stringData": { "k": "of the attacker" },
    })
}

fn with(mut object: Value, parent: &str, key: &str, value: Value) -> Value {
    object.pointer_mut(parent).unwrap()[key] = value;
    object
}

async fn thief(site: &Site) -> Result<Client> {
    site.cluster.client_for_service_account(Operator::NAMESPACE, Operator::SERVICE_ACCOUNT).await
}

/// The API server takes up a new policy a moment after it was made.
async fn until_in_force(client: &Client, tenant: &Tenant<'_>) -> Result<()> {
    let path = format!("{}?dryRun=All", secrets(tenant));
    let unmarked = json!({ "metadata": { "name": "unmarked" } });
    eventually(SOON, "the fence and the delegation are in force", async || {
        let answer = call(client, "POST", &path, &unmarked).await?;
        anyhow::ensure!(RefusedBy::of(&answer) == Ok(FENCE), "{answer:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn with_a_stolen_token_nobody_gets_beyond_the_operators_own_secrets() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant_with("StolenSource", b"ours").await?;
    let outside = site.undelegated_tenant("outside").await?;
    tenant.request("r", asks("StolenSource", json!({}))).await?;
    tenant.until_ready("r").await?;
    let foreign = tenant.foreign_secret("foreign", &[("k", b"theirs")]).await?;
    let beyond = outside.foreign_secret("foreign", &[("k", b"theirs")]).await?;
    let client = thief(site).await?;
    until_in_force(&client, &tenant).await?;

    try_all(&client, without_a_right(&tenant, &outside)).await?;
    try_all(&client, on_foreign_secrets(&tenant)).await?;
    // What is delegated to an operator that watches: the API server asks no policy before it shows something.
    let (what, path) =
        ("read a foreign Secret where the namespace has delegated", format!("{}/foreign", secrets(&tenant)));
    let read = Attempt { what, verb: "GET", path, body: Value::Null, refused_by: RefusedBy::Nobody };
    try_all(&client, vec![read]).await?;
    try_all(&client, with_a_wrong_content(&tenant)).await?;
    tenant.assert_untouched(&foreign).await?;
    outside.assert_untouched(&beyond).await?;
    tenant.until_content("r", "k", b"ours").await?;
    Ok(())
}

/// What RBAC has never given.
fn without_a_right(tenant: &Tenant<'_>, outside: &Tenant<'_>) -> Vec<Attempt> {
    let here = &tenant.namespace;
    let group = "/apis/xlscsde.nhs.uk/v1";
    let home = format!("/api/v1/namespaces/{}", Operator::NAMESPACE);
    let account = format!("{home}/serviceaccounts/{}", Operator::SERVICE_ACCOUNT);
    let token = json!({ "spec": { "audiences": [] } });
    let role =
        json!({ "kind": "ClusterRole", "name": "secrets-distributor-tenant", "apiGroup": "rbac.authorization.k8s.io" });
    let subject = json!({ "kind": "ServiceAccount", "name": "secrets-distributor", "namespace": Operator::NAMESPACE });
    let binding = json!({ "metadata": { "name": "mine" }, "roleRef": role, "subjects": [subject] });
    let bindings = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings", outside.namespace);
    let fence = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/secrets-distributor-operator";
    let grant = json!({ "spec": { "rules": [{ "effect": "Allow", "sources": ["*"] }] } });
    let pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
    let suspend = json!({ "spec": { "suspend": true } });
    let status = json!({ "status": { "phase": "Terminating" } });
    [
        (
            "read a Secret of a namespace that has not delegated",
            "GET",
            format!("{}/foreign", secrets(outside)),
            Value::Null,
        ),
        ("list the Secrets of the cluster", "GET", "/api/v1/secrets".into(), Value::Null),
        ("list the Secrets beside the operator", "GET", format!("{home}/secrets"), Value::Null),
        ("write a Secret where nobody has delegated", "POST", secrets(outside), marked(outside, "new")),
        ("delete a Secret where nobody has delegated", "DELETE", format!("{}/foreign", secrets(outside)), Value::Null),
        ("delegate that namespace to itself", "POST", bindings, binding),
        ("mint a token of its own ServiceAccount", "POST", format!("{account}/token"), token.clone()),
        (
            "mint a token of a tenant's ServiceAccount",
            "POST",
            format!("/api/v1/namespaces/{here}/serviceaccounts/default/token"),
            token,
        ),
        ("run a pod beside itself", "POST", format!("{home}/pods"), pod),
        ("grant itself a source", "MERGE", format!("{group}/distributionpolicies/{here}"), grant.clone()),
        ("make a policy", "POST", format!("{group}/distributionpolicies"), json!({ "metadata": { "name": "mine" } })),
        ("delete a policy", "DELETE", format!("{group}/distributionpolicies/{here}"), Value::Null),
        ("change a request", "MERGE", format!("{group}/namespaces/{here}/secretsdistributions/r"), suspend),
        ("delete a request", "DELETE", format!("{group}/namespaces/{here}/secretsdistributions/r"), Value::Null),
        ("write the status of a namespace", "MERGE", format!("/api/v1/namespaces/{here}/status"), status),
        (
            "open an excluded namespace by its label",
            "MERGE",
            "/api/v1/namespaces/kube-system".into(),
            json!({ "metadata": { "labels": { "xlscsde.nhs.uk/distribution": "allowed" } } }),
        ),
        ("take the fence away", "DELETE", fence.into(), Value::Null),
    ]
    .map(|(what, verb, path, body)| Attempt { what, verb, path, body, refused_by: RefusedBy::Rbac })
    .into()
}

/// What a delegation gives the right to, and the fence keeps.
fn on_foreign_secrets(tenant: &Tenant<'_>) -> Vec<Attempt> {
    let foreign = format!("{}/foreign", secrets(tenant));
    let apply = format!("{foreign}?fieldManager=secrets-distributor&force=true");
    let whole = marked(tenant, "foreign");
    let owner = json!([{ "apiVersion": "xlscsde.nhs.uk/v1", "kind": "SecretsDistribution", "name": "r", "uid": "u" }]);
    let content = json!([{ "op": "add", "path": "/data", "value": {} }]);
    [
        ("see a foreign Secret by a change that changes nothing", "MERGE", &foreign, json!({})),
        ("overwrite a foreign Secret", "MERGE", &foreign, json!({ "stringData": { "k": "x" } })),
        ("overwrite a foreign Secret and put all marks on it", "MERGE", &foreign, whole.clone()),
        ("apply a foreign Secret by force", "APPLY", &apply, whole.clone()),
        ("empty a foreign Secret", "JSON", &foreign, content),
        (
            "label a foreign Secret as its own",
            "MERGE",
            &foreign,
            json!({ "metadata": { "labels": { OWNER_UID: "x" } } }),
        ),
        (
            "make itself the owner of a foreign Secret",
            "MERGE",
            &foreign,
            json!({ "metadata": { "ownerReferences": owner } }),
        ),
        (
            "offer a foreign Secret to itself",
            "MERGE",
            &foreign,
            json!({ "metadata": { "annotations": { ADOPTION: "allowed" } } }),
        ),
        ("delete a foreign Secret", "DELETE", &foreign, Value::Null),
    ]
    .map(|(what, verb, path, body)| Attempt { what, verb, path: path.clone(), body, refused_by: FENCE })
    .into()
}

fn with_a_wrong_content(tenant: &Tenant<'_>) -> Vec<Attempt> {
    let new =
        |parent: &str, key: &str, value| ("POST", secrets(tenant), with(marked(tenant, "new"), parent, key, value));
    let of_type = |name: &str| new("", "type", json!(name));
    // What the type asks for, so that nothing but the fence is in the way.
    let (account, token) = ("kubernetes.io/service-account.name", "kubernetes.io/service-account-token");
    let named = with(marked(tenant, "new"), "/metadata/annotations", account, json!("default"));
    let becomes_a_token = ("POST", secrets(tenant), with(named, "", "type", json!(token)));
    let own = |patch| ("MERGE", format!("{}/r", secrets(tenant)), patch);
    let label = |value| json!({ "metadata": { "labels": { OWNER_UID: value } } });
    let held = json!(["example.org/hold"]);
    [
        ("make a Secret without a mark", new("/metadata", "labels", json!({}))),
        ("make a Secret without a record of where it was written", new("/metadata", "annotations", json!({}))),
        (
            "make a Secret with the record of another",
            new("/metadata/annotations", "xlscsde.nhs.uk/target", json!("a/b")),
        ),
        (
            "make a Secret that says another wrote it",
            new("/metadata/labels", "app.kubernetes.io/managed-by", json!("Helm")),
        ),
        ("make a Secret that becomes a ServiceAccount's token", becomes_a_token),
        ("make a Secret that lets a node join", of_type("bootstrap.kubernetes.io/token")),
        ("make a Secret that is a release of Helm", of_type("helm.sh/release.v1")),
        ("make a Secret that holds its namespace", new("/metadata", "finalizers", held.clone())),
        ("let its own Secret hold its namespace", own(json!({ "metadata": { "finalizers": held } }))),
        ("take the mark off its own Secret", own(label(Value::Null))),
    ]
    .map(|(what, (verb, path, body))| Attempt { what, verb, path, body, refused_by: FENCE })
    .into()
}

/// Delegated by mistake, or by somebody who was asked nicely.
#[tokio::test]
async fn an_excluded_namespace_stays_closed_although_it_was_delegated() -> Result<()> {
    // Not shared: others expect that nothing is delegated there.
    let site = Site::prepare().await?;
    let client = thief(&site).await?;
    for namespace in ["kube-public", Operator::NAMESPACE] {
        let system = site.existing(namespace).await?;
        let role =
            ["--clusterrole=secrets-distributor-tenant", "--serviceaccount=secrets-distributor:secrets-distributor"];
        let delegate = ["create", "rolebinding", "by-mistake", "--namespace", namespace];
        site.cluster.kubectl(delegate).args(role).succeed().await?;
        let write = |what, refused_by| Attempt {
            what,
            verb: "POST",
            path: format!("{}?dryRun=All", secrets(&system)),
            body: marked(&system, "new"),
            refused_by,
        };
        until_in_force(&client, &system).await?;
        try_all(&client, vec![write("write into an excluded namespace", FENCE)]).await?;
        system.label(json!({ "xlscsde.nhs.uk/distribution": "allowed" })).await?;
        eventually(SOON, "the label is seen", async || {
            let attempt = write("", RefusedBy::Nobody);
            call(&client, attempt.verb, &attempt.path, &attempt.body).await?.map_err(anyhow::Error::msg)
        })
        .await?;
        system.label(json!({ "xlscsde.nhs.uk/distribution": null })).await?;
        let binding = ["delete", "rolebinding", "by-mistake", "--namespace", namespace];
        site.cluster.kubectl(binding).succeed().await?;
    }
    Ok(())
}

/// All that the operator does passes, in the form in which it does it: the other tests show the rest.
#[tokio::test]
async fn its_own_secrets_and_those_that_are_offered_are_within_the_fence() -> Result<()> {
    let site = Site::shared().await?;
    let tenant = site.tenant("within").await?;
    let client = thief(site).await?;
    until_in_force(&client, &tenant).await?;
    let place = |name: &str| format!("{}/{name}", secrets(&tenant));
    let offered = json!({ "metadata": { "annotations": { ADOPTION: "allowed" } }, "stringData": { "k": "theirs" } });
    tenant.create_secret("offered", offered).await?;
    let original = json!({ "metadata": { "annotations": { "xlscsde.nhs.uk/managedBy": "secrets-distributor" } } });
    tenant.create_secret("original", original).await?;
    let owner = json!([{ "apiVersion": "xlscsde.nhs.uk/v1", "kind": "SecretsDistribution", "name": "r", "uid": "u" }]);
    let stripped = json!({ "metadata": { "ownerReferences": owner, "finalizers": ["example.org/hold"] } });
    tenant.create_secret("stripped", stripped).await?;
    let attempts = [
        ("make a Secret of its own", "POST", secrets(&tenant), marked(&tenant, "own")),
        ("look at it", "MERGE", place("own"), json!({})),
        ("change it", "MERGE", place("own"), json!({ "stringData": { "k": "y" } })),
        ("delete it", "DELETE", place("own"), Value::Null),
        ("look at a Secret that is offered", "MERGE", place("offered"), json!({})),
        ("take it over", "MERGE", place("offered"), marked(&tenant, "offered")),
        ("look at a Secret of the first operator", "MERGE", place("original"), json!({})),
        ("take it over", "MERGE", place("original"), marked(&tenant, "original")),
        ("look at its own Secret whose marks somebody took off", "MERGE", place("stripped"), json!({})),
        ("put its marks on again, leaving what holds it", "MERGE", place("stripped"), marked(&tenant, "stripped")),
    ];
    let attempts =
        attempts.map(|(what, verb, path, body)| Attempt { what, verb, path, body, refused_by: RefusedBy::Nobody });
    try_all(&client, attempts.into()).await?;
    // An offer is no leave to delete, and ends where somebody else owns the Secret.
    tenant.create_secret("kept", json!({ "metadata": { "annotations": { ADOPTION: "allowed" } } })).await?;
    let maps = Api::<ConfigMap>::namespaced(site.cluster.client().await?, &tenant.namespace);
    let map =
        maps.create(&Default::default(), &serde_json::from_value(json!({ "metadata": { "name": "c" } }))?).await?;
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": map.metadata.uid }]);
    let owned = json!({ "metadata": { "annotations": { ADOPTION: "allowed" }, "ownerReferences": owner } });
    tenant.create_secret("owned", owned).await?;
    let refused = [
        ("delete a Secret that is offered", "DELETE", place("kept"), Value::Null),
        ("take over a Secret that is offered and owned", "MERGE", place("owned"), marked(&tenant, "owned")),
    ];
    let refused = refused.map(|(what, verb, path, body)| Attempt { what, verb, path, body, refused_by: FENCE });
    try_all(&client, refused.into()).await?;
    tenant.patch_secret("stripped", json!({ "metadata": { "finalizers": null } })).await?;
    Ok(())
}

/// What a namespace delegates to an operator that may not read: with its token nobody sees a foreign Secret either.
#[tokio::test]
async fn where_reading_is_not_delegated_a_foreign_secret_is_not_seen_at_all() -> Result<()> {
    let site = Site::prepare_write_only("1h").await?;
    let tenant = site.tenant("unread").await?;
    let foreign = tenant.foreign_secret("foreign", &[("k", b"theirs")]).await?;
    let client = thief(&site).await?;
    until_in_force(&client, &tenant).await?;
    let (all, one) = (secrets(&tenant), format!("{}/foreign", secrets(&tenant)));
    let read = |what, path: &str| Attempt {
        what,
        verb: "GET",
        path: path.into(),
        body: Value::Null,
        refused_by: RefusedBy::Rbac,
    };
    let mut attempts = on_foreign_secrets(&tenant);
    attempts.extend([read("read a foreign Secret", &one), read("list the Secrets", &all)]);
    try_all(&client, attempts).await?;
    tenant.assert_untouched(&foreign).await
}
