//! The harness itself: what every other test takes for granted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use e2e::{ControlPlane, Mount, Operator, OperatorConfig, eventually};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Resource};
use secrets_distributor::api::SecretsDistribution;
use serde_json::{from_value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SOON: Duration = Duration::from_secs(60);

fn config_map(name: &str) -> ConfigMap {
    from_value(json!({ "metadata": { "name": name } })).unwrap()
}

#[tokio::test]
async fn kubectl_works_and_tells_why_it_does_not() {
    let cluster = ControlPlane::shared().await.unwrap();
    let namespaces = cluster.kubectl(["get", "namespaces", "-o", "name"]).succeed().await.unwrap();
    assert!(namespaces.contains("namespace/kube-system"), "{namespaces}");
    let error = cluster.kubectl(["get", "nonsense"]).succeed().await.unwrap_err().to_string();
    assert!(error.contains("nonsense") && error.contains("doesn't have a resource type"), "{error}");
    let denied = cluster.kubectl(["get", "nodes"]).as_user("alice").as_group("devs").run().await.unwrap();
    assert!(!denied.success() && denied.stderr.contains("\"alice\" cannot list"), "{}", denied.stderr);
}

#[tokio::test]
async fn the_dependents_of_a_deleted_request_are_collected() {
    let cluster = ControlPlane::shared().await.unwrap();
    cluster.install().await.unwrap();
    let namespace = cluster.namespace("gc").await.unwrap();
    let client = cluster.client().await.unwrap();
    let requests = Api::<SecretsDistribution>::namespaced(client.clone(), &namespace);
    let spec = json!({ "secrets": [{ "from": "a", "to": "a" }] });
    let request = from_value(json!({ "metadata": { "name": "owner" }, "spec": spec })).unwrap();
    let owner = requests.create(&PostParams::default(), &request).await.unwrap();
    let config_maps = Api::<ConfigMap>::namespaced(client, &namespace);
    let mut dependent = config_map("dependent");
    dependent.metadata.owner_references = Some(vec![owner.controller_owner_ref(&()).unwrap()]);
    config_maps.create(&PostParams::default(), &dependent).await.unwrap();
    requests.delete("owner", &DeleteParams::background()).await.unwrap();
    let gone = eventually(SOON, "the dependent is gone", async || match config_maps.get_opt("dependent").await {
        Ok(None) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    gone.await.unwrap();
}

#[tokio::test]
async fn a_deleted_namespace_ends() {
    let cluster = ControlPlane::shared().await.unwrap();
    let namespace = cluster.namespace("short-lived").await.unwrap();
    let client = cluster.client().await.unwrap();
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    config_maps.create(&PostParams::default(), &config_map("content")).await.unwrap();
    let namespaces = Api::<Namespace>::all(client);
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    let gone = eventually(SOON, "the namespace is gone", async || match namespaces.get_opt(&namespace).await {
        Ok(None) => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    gone.await.unwrap();
}

/// A ServiceAccount that may read, but no Secrets.
const VIEWER: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: app, namespace: NAMESPACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: app, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: app, namespace: NAMESPACE}]
";

#[tokio::test]
async fn a_service_account_has_the_rights_that_rbac_gives_and_no_other() {
    let cluster = ControlPlane::shared().await.unwrap();
    let namespace = cluster.namespace("account").await.unwrap();
    cluster.apply_yaml(&VIEWER.replace("NAMESPACE", &namespace)).await.unwrap();
    let client = cluster.client_for_service_account(&namespace, "app").await.unwrap();
    let review = Api::<SelfSubjectReview>::all(client.clone());
    let review = review.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let user = review.status.unwrap().user_info.unwrap().username.unwrap();
    assert_eq!(user, format!("system:serviceaccount:{namespace}:app"));
    let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
    config_maps.list(&ListParams::default()).await.unwrap();
    let secrets = Api::<Secret>::namespaced(client, &namespace).list(&ListParams::default()).await;
    assert!(matches!(&secrets, Err(kube::Error::Api(status)) if status.code == 403), "{secrets:?}");
}

#[tokio::test]
async fn another_process_can_be_the_service_account() {
    let cluster = ControlPlane::shared().await.unwrap();
    let namespace = cluster.namespace("account").await.unwrap();
    let kubeconfig = eventually(SOON, "the default ServiceAccount", async || {
        cluster.service_account_kubeconfig(&namespace, "default").await
    });
    let whoami = cluster.kubectl_with(&kubeconfig.await.unwrap(), ["auth", "whoami"]).succeed().await.unwrap();
    assert!(whoami.contains(&format!("system:serviceaccount:{namespace}:default")), "{whoami}");
}

#[tokio::test]
async fn the_audit_log_tells_who_wrote_what() {
    let cluster = ControlPlane::shared().await.unwrap();
    let audit = cluster.audit().expect("an existing cluster shows no audit log: unset E2E_KUBECONFIG");
    let namespace = cluster.namespace("audited").await.unwrap();
    let mark = audit.mark().await.unwrap();
    let client = cluster.client_for_user("bob", &["system:masters"]).await.unwrap();
    let config_maps = Api::<ConfigMap>::namespaced(client, &namespace);
    config_maps.create(&PostParams::default(), &config_map("seen")).await.unwrap();
    config_maps.get("seen").await.unwrap();
    config_maps.create(&PostParams::default(), &config_map("seen")).await.unwrap_err();
    let entries = audit.since(mark).await.unwrap().user("bob").resource("configmaps").namespace(&namespace);
    assert_eq!(entries.iter().map(|entry| entry.verb.as_str()).collect::<Vec<_>>(), ["create", "get", "create"]);
    assert_eq!(entries.clone().verb("get").name("seen").len(), 1);
    let codes: Vec<_> = entries.writes().iter().map(|entry| entry.code()).collect();
    assert_eq!(codes, [Some(201), Some(409)]);
    let later = audit.mark().await.unwrap();
    assert!(audit.since(later).await.unwrap().namespace(&namespace).user("bob").is_empty());
}

/// Says where it listens, as the operator does, and ends on SIGTERM after a last word.
const STAND_IN: &str = r#"#!/bin/sh
echo "arguments: $*"
echo "environment: $(env | cut -d= -f1 | sort | tr '\n' ' ')"
trap 'echo "last word"; exit 0' TERM
echo '{"level":"INFO","fields":{"message":"admin server listening","address":"ADDRESS"}}'
while :; do sleep 0.05; done
"#;

/// Answers every request with 200, in place of an operator's admin server.
async fn answering() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nready").await;
        }
    });
    address
}

async fn stand_in(cluster: &ControlPlane, mount: &Mount) -> Operator {
    let script = mount.path().parent().unwrap().join("stand-in");
    std::fs::write(&script, STAND_IN.replace("ADDRESS", &answering().await.to_string())).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let mut config = OperatorConfig::new(mount.path()).argument("--poll-interval=1s");
    config.kubeconfig = Some(cluster.kubeconfig().to_owned());
    config.binary = Some(script);
    Operator::start(cluster, config).await.unwrap()
}

#[tokio::test]
async fn the_operator_gets_the_arguments_of_its_contract_and_nothing_of_our_environment() {
    let cluster = ControlPlane::shared().await.unwrap();
    let mount = Mount::new().unwrap();
    let mut operator = stand_in(cluster, &mount).await;
    operator.wait_ready(SOON).await.unwrap();
    assert_eq!(operator.get("/readyz").await.unwrap(), (200, "ready".to_owned()));
    let logs = operator.logs();
    let path = mount.path().display();
    for part in
        [&format!("run --secrets-path {path} --digest-key-file /"), "--listen 127.0.0.1:0", "--poll-interval=1s"]
    {
        assert!(logs.contains(part), "{part}: {logs}");
    }
    assert!(logs.contains("environment: KUBECONFIG POD_NAME PWD "), "{logs}");
    let exit = operator.terminate(SOON).await.unwrap();
    assert!(exit.status.success() && operator.logs().ends_with("last word\n"), "{exit:?} {}", operator.logs());
}

#[tokio::test]
async fn an_operator_that_ends_instead_of_getting_ready_is_told_with_its_log() {
    let cluster = ControlPlane::shared().await.unwrap();
    let mount = Mount::new().unwrap();
    let mut operator = stand_in(cluster, &mount).await;
    operator.wait_ready(SOON).await.unwrap();
    assert_eq!(operator.kill().unwrap().code(), None);
    assert!(!operator.logs().contains("last word"));
    let error = operator.wait_ready(SOON).await.unwrap_err().to_string();
    assert!(error.contains("was ended by signal 9") && error.contains("arguments: run"), "{error}");
}

#[tokio::test]
async fn a_dropped_operator_is_gone() {
    let cluster = ControlPlane::shared().await.unwrap();
    let mount = Mount::new().unwrap();
    let operator = stand_in(cluster, &mount).await;
    let process = PathBuf::from(format!("/proc/{}", operator.id()));
    assert!(process.exists());
    drop(operator);
    assert!(!process.exists());
}

#[tokio::test]
async fn the_operator_sees_the_secrets_of_no_namespace_that_does_not_delegate() {
    let cluster = ControlPlane::shared().await.unwrap();
    cluster.install().await.unwrap();
    cluster.install().await.expect("what is installed can be installed again");
    let (delegated, other) = tokio::try_join!(cluster.namespace("delegated"), cluster.namespace("other")).unwrap();
    cluster.delegate(&delegated).await.unwrap();
    let list = async |namespace: &str| {
        let list = cluster.kubectl(["get", "secrets", "--namespace", namespace]);
        list.as_user(Operator::USER).run().await.unwrap()
    };
    let granted = async || match list(&delegated).await {
        output if output.success() => Ok(()),
        output => Err(output.stderr),
    };
    eventually(SOON, "the delegation has an effect", granted).await.unwrap();
    let refused = list(&other).await;
    assert!(refused.stderr.contains("forbidden"), "{refused:?}");
}
