//! Wrong values.

use anyhow::Result;
use serde_json::{Value, json};

use crate::helm;

#[tokio::test]
async fn a_wrong_value_is_refused_by_its_name_and_with_what_is_expected() -> Result<()> {
    let (helm, _folder) = helm().await?;
    let source = |source: Value| json!({ "sources": [source] });
    for (values, expected) in [
        (json!({ "replica": 3 }), "additional properties 'replica' not allowed"),
        (json!({ "replicas": "three" }), "at '/replicas': got string, want integer"),
        (json!({ "replicas": -1 }), "at '/replicas': minimum: got -1, want 0"),
        (json!({ "secretsAccess": "readOnly" }), "at '/secretsAccess': value must be one of 'watch', 'writeOnly'"),
        (json!({ "enforcement": "audit" }), "at '/enforcement': value must be one of 'Enforce', 'Audit'"),
        (json!({ "rbac": { "scope": "all" } }), "at '/rbac/scope': value must be one of 'namespaced', 'cluster'"),
        (
            json!({ "admission": { "operater": false } }),
            "at '/admission': additional properties 'operater' not allowed",
        ),
        (json!({ "tenants": ["Team_A"] }), "at '/tenants/0': 'Team_A' does not match pattern"),
        (json!({ "lease": { "duration": "soon" } }), "at '/lease/duration': 'soon' does not match pattern"),
        (json!({ "tracing": { "endpoint": "jaeger:4317" } }), "at '/tracing/endpoint': 'jaeger:4317' does not match"),
        (json!({ "tracing": { "protocol": "http" } }), "value must be one of 'http/protobuf', 'grpc'"),
        (json!({ "image": { "tag": "x" } }), "at '/image': got object, want string"),
        (json!({ "env": [{ "value": "x" }] }), "at '/env/0': missing property 'name'"),
        (json!({ "serviceAccount": { "tokenExpirationSeconds": 60 } }), "minimum: got 60, want 600"),
        // It is written into a rule of the API server.
        (json!({ "managedBy": "x' || true || '" }), "at '/managedBy': 'x\\' || true || \\'' does not match pattern"),
        (source(json!({ "csi": {} })), "at '/sources/0/csi': missing property 'secretProviderClass'"),
        (source(json!({ "folder": "../x", "secret": { "name": "s" } })), "at '/sources/0/folder'"),
        (source(json!({ "secret": { "name": "s" }, "hostPath": { "path": "/x" } })), "at '/sources/0': 'oneOf' failed"),
        (
            json!({ "sources": [{ "secret": { "name": "a" } }, { "folder": "b", "secret": { "name": "b" } }] }),
            "sources[0].folder: is required, since there are several sources",
        ),
        (
            json!({ "volumeMounts": [{ "name": "v", "mountPath": "/mnt/secrets/a", "subPath": "a" }] }),
            "volumeMounts: v is mounted by subPath, which never sees a rotation; mount the whole volume",
        ),
        (
            json!({ "env": [{ "name": "MANAGED_BY", "value": "x'y" }] }),
            "env: MANAGED_BY must be 1 to 253 letters, digits, spaces and ._/-",
        ),
        (
            json!({ "metrics": { "serviceMonitor": { "enabled": true } } }),
            "networkPolicy.metricsFrom: is required with metrics.serviceMonitor: say who may scrape",
        ),
    ] {
        let told = helm.render("x", &values).await.expect_err(&format!("{values} passed")).to_string();
        assert!(told.contains(expected), "{values}: {told}");
    }
    Ok(())
}
