//! Each value, and what it is seen by.

use std::fs;

use anyhow::Result;
use e2e::helm::Helm;
use serde_json::{Value, json};

use crate::{find, helm};

/// An object, a place in it, and what is there; null: nothing is.
type Fact = (&'static str, &'static str, Value);

const SPEC: &str = "/spec/template/spec";
const RUNBOOK: &str = "/spec/groups/0/rules/0/annotations/runbook_url";

struct Case {
    values: Value,
    facts: Vec<Fact>,
}

/// About the pod: places are below its spec.
fn pod(values: Value, facts: &[(&'static str, Value)]) -> Case {
    let facts = facts.iter().map(|(place, value)| ("Pod", *place, value.clone())).collect();
    Case { values, facts }
}

fn case(values: Value, facts: &[Fact]) -> Case {
    Case { values, facts: facts.to_vec() }
}

/// A variable of the operator.
fn env(values: Value, name: &'static str, value: Value) -> Case {
    Case { values, facts: vec![("Env", name, value)] }
}

fn of_the_pod() -> Vec<Case> {
    let toleration = json!([{ "key": "k", "operator": "Exists" }]);
    let spread = json!([{ "maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" }]);
    let affinity = json!({ "nodeAffinity": {} });
    let resources = json!({ "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "memory": "1Gi" } });
    let volume = json!([{ "name": "v", "emptyDir": {} }]);
    let mount = json!([{ "name": "v", "mountPath": "/mnt/secrets" }]);
    vec![
        case(json!({ "replicas": 3 }), &[("Deployment", "/spec/replicas", json!(3))]),
        case(json!({ "replicas": 1 }), &[("PodDisruptionBudget", "", Value::Null)]),
        pod(
            json!({ "image": "r.example.org/x@sha256:0" }),
            &[("/containers/0/image", json!("r.example.org/x@sha256:0"))],
        ),
        pod(json!({ "imagePullPolicy": "Never" }), &[("/containers/0/imagePullPolicy", json!("Never"))]),
        pod(json!({ "imagePullSecrets": [{ "name": "r" }] }), &[("/imagePullSecrets/0/name", json!("r"))]),
        pod(json!({ "nodeSelector": { "a": "b" } }), &[("/nodeSelector", json!({ "a": "b" }))]),
        pod(json!({ "tolerations": toleration }), &[("/tolerations", toleration.clone())]),
        pod(json!({ "affinity": affinity }), &[("/affinity", affinity.clone())]),
        pod(json!({ "priorityClassName": "high" }), &[("/priorityClassName", json!("high"))]),
        pod(json!({ "topologySpreadConstraints": spread }), &[("/topologySpreadConstraints", spread.clone())]),
        pod(json!({ "resources": resources }), &[("/containers/0/resources/requests/cpu", json!("1"))]),
        // As values of the first chart said it.
        pod(
            json!({ "volumes": volume, "volumeMounts": mount }),
            &[("/volumes/2", volume[0].clone()), ("/containers/0/volumeMounts/2", mount[0].clone())],
        ),
        case(
            json!({ "podLabels": { "a": "b" }, "podAnnotations": { "c": "d" } }),
            &[
                ("Deployment", "/spec/template/metadata/labels/a", json!("b")),
                ("Deployment", "/spec/template/metadata/annotations/c", json!("d")),
                ("Deployment", "/spec/selector/matchLabels/a", Value::Null),
            ],
        ),
        case(json!({ "podDisruptionBudget": { "enabled": false } }), &[("PodDisruptionBudget", "", Value::Null)]),
    ]
}

fn of_the_sources() -> Vec<Case> {
    let one = |source: Value| json!({ "sources": [source] });
    let csi = json!({ "driver": "d", "readOnly": true, "volumeAttributes": { "secretProviderClass": "kv" },
        "nodePublishSecretRef": { "name": "s" } });
    let (first, second) = ("/containers/0/volumeMounts/2/mountPath", "/containers/0/volumeMounts/3/mountPath");
    vec![
        pod(
            one(json!({ "csi": { "secretProviderClass": "kv", "driver": "d", "nodePublishSecret": "s" } })),
            &[(first, json!("/mnt/secrets")), ("/volumes/2/csi", csi)],
        ),
        pod(
            one(json!({ "csi": { "secretProviderClass": "kv" } })),
            &[("/volumes/2/csi/driver", json!("secrets-store.csi.k8s.io"))],
        ),
        pod(one(json!({ "secret": { "name": "s" } })), &[("/volumes/2/secret/secretName", json!("s"))]),
        pod(one(json!({ "hostPath": { "path": "/srv" } })), &[("/volumes/2/hostPath/path", json!("/srv"))]),
        pod(one(json!({ "volume": { "emptyDir": {} } })), &[("/volumes/2/emptyDir", json!({}))]),
        pod(
            json!({ "sources": [
                { "folder": "aws", "secret": { "name": "a" } }, { "folder": "azure/kv", "secret": { "name": "b" } },
            ] }),
            &[(first, json!("/mnt/secrets/aws")), (second, json!("/mnt/secrets/azure/kv"))],
        ),
    ]
}

fn of_the_operator() -> Vec<Case> {
    let headers = json!({ "secretKeyRef": { "name": "h", "key": "k" } });
    let traced = json!({ "tracing": { "endpoint": "http://c:4318", "protocol": "grpc",
        "headersSecret": { "name": "h", "key": "k" } } });
    vec![
        env(json!({ "secretsAccess": "writeOnly" }), "SECRETS_ACCESS", json!("writeOnly")),
        env(json!({ "enforcement": "Audit" }), "ENFORCEMENT", json!("Audit")),
        env(json!({ "resyncInterval": "1m" }), "RESYNC_INTERVAL", json!("1m")),
        env(json!({ "lease": { "duration": "20s" } }), "LEASE_DURATION", json!("20s")),
        env(json!({ "log": { "format": "text", "level": "debug" } }), "LOG_FORMAT", json!("text")),
        env(json!({ "log": { "level": "debug" } }), "LOG_LEVEL", json!("debug")),
        env(json!({ "metrics": { "namespaceLabel": false } }), "METRICS_NAMESPACE_LABEL", json!("false")),
        env(json!({ "managedBy": "another" }), "MANAGED_BY", json!("another")),
        env(json!({ "env": [{ "name": "RATE_LIMIT", "value": "1/1m" }] }), "RATE_LIMIT", json!("1/1m")),
        env(json!({ "env": [{ "name": "LOG_LEVEL", "value": "trace" }] }), "LOG_LEVEL", json!("trace")),
        env(traced.clone(), "OTEL_EXPORTER_OTLP_ENDPOINT", json!("http://c:4318")),
        env(traced.clone(), "OTEL_EXPORTER_OTLP_PROTOCOL", json!("grpc")),
        env(traced, "OTEL_EXPORTER_OTLP_HEADERS", headers),
        env(json!({}), "OTEL_EXPORTER_OTLP_ENDPOINT", Value::Null),
        env(json!({ "tracing": { "url": "https://j/{traceID}" } }), "TRACE_URL", json!("https://j/{traceID}")),
    ]
}

fn of_rights_and_rules() -> Vec<Case> {
    let (policy, managed_by) =
        ("ValidatingAdmissionPolicy/secrets-distributor-operator", "/spec/variables/3/expression");
    let offered = |by: &str| json!(format!("TEXT orValue('') == '{by}')"));
    let (author, secret_author) = (
        "ValidatingAdmissionPolicy/secrets-distributor-author",
        "ValidatingAdmissionPolicy/secrets-distributor-secret-author",
    );
    let (role, name) = ("/roleRef/name", "secrets-distributor-tenant");
    vec![
        case(json!({ "admission": { "operator": false } }), &[(policy, "", Value::Null)]),
        case(json!({ "admission": { "author": false } }), &[(author, "", Value::Null)]),
        case(
            json!({ "admission": { "requireSecretCreate": true } }),
            &[(secret_author, "/spec/failurePolicy", json!("Fail"))],
        ),
        case(json!({}), &[(secret_author, "", Value::Null), (policy, managed_by, offered("secrets-distributor"))]),
        case(json!({ "managedBy": "another" }), &[(policy, managed_by, offered("another"))]),
        case(json!({ "env": [{ "name": "MANAGED_BY", "value": "third" }] }), &[(policy, managed_by, offered("third"))]),
        case(json!({ "crds": { "install": false } }), &[("CustomResourceDefinition", "", Value::Null)]),
        case(json!({ "tenants": ["a", "b"] }), &[("RoleBinding", role, json!("secrets-distributor"))]),
        case(json!({}), &[("ClusterRoleBinding/secrets-distributor-tenant", "", Value::Null)]),
        case(
            json!({ "rbac": { "scope": "cluster" } }),
            &[("ClusterRoleBinding/secrets-distributor-tenant", role, json!(name))],
        ),
        case(
            json!({ "digestKey": { "secretName": "mine", "key": "k" } }),
            &[
                ("Secret", "", Value::Null),
                ("Deployment", "/spec/template/spec/volumes/0/secret/secretName", json!("mine")),
                ("Deployment", "/spec/template/spec/volumes/0/secret/items/0/key", json!("k")),
            ],
        ),
        case(
            json!({ "serviceAccount": { "annotations": { "a": "b" }, "labels": { "c": "d" }, "tokenExpirationSeconds": 700 } }),
            &[
                ("ServiceAccount", "/metadata/annotations/a", json!("b")),
                ("ServiceAccount", "/metadata/labels/c", json!("d")),
                ("Pod", "/volumes/1/projected/sources/0/serviceAccountToken/expirationSeconds", json!(700)),
            ],
        ),
    ]
}

fn of_the_surroundings() -> Vec<Case> {
    let monitoring =
        json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }]);
    let dashboard = "ConfigMap/secrets-distributor-dashboard-platform";
    vec![
        case(
            json!({}),
            &[("ServiceMonitor", "", Value::Null), ("PrometheusRule", "", Value::Null), (dashboard, "", Value::Null)],
        ),
        case(
            json!({
                "metrics": { "serviceMonitor": { "enabled": true, "interval": "7s", "labels": { "a": "b" } } },
                "networkPolicy": { "metricsFrom": monitoring },
            }),
            &[
                ("ServiceMonitor", "/spec/endpoints/0/interval", json!("7s")),
                ("ServiceMonitor", "/spec/endpoints/0/relabelings/0/action", json!("labeldrop")),
                ("ServiceMonitor", "/metadata/labels/a", json!("b")),
                ("NetworkPolicy", "/spec/ingress/0/from", monitoring.clone()),
            ],
        ),
        case(
            json!({ "metrics": { "prometheusRule": { "enabled": true, "labels": { "a": "b" } } } }),
            &[
                ("PrometheusRule", "/metadata/labels/a", json!("b")),
                ("PrometheusRule", "/spec/groups/0/name", json!("secrets-distributor-availability")),
                ("PrometheusRule", RUNBOOK, json!("docs/runbooks.md#secretsdistributorabsent")),
            ],
        ),
        case(
            json!({ "metrics": { "prometheusRule": { "enabled": true, "runbooks": "https://e.org/r.md" } } }),
            &[("PrometheusRule", RUNBOOK, json!("https://e.org/r.md#secretsdistributorabsent"))],
        ),
        case(
            json!({ "metrics": { "dashboards": { "enabled": true, "labels": { "a": "b" } } } }),
            &[
                (dashboard, "/metadata/labels/a", json!("b")),
                ("ConfigMap/secrets-distributor-dashboard-tenant", "/kind", json!("ConfigMap")),
            ],
        ),
        case(json!({ "networkPolicy": { "enabled": false } }), &[("NetworkPolicy", "", Value::Null)]),
        case(
            json!({ "networkPolicy": { "apiServer": { "cidrs": ["10.0.0.1/32"], "ports": [8443] } } }),
            &[
                ("NetworkPolicy", "/spec/ingress", json!([])),
                ("NetworkPolicy", "/spec/egress/0/to/0/ipBlock/cidr", json!("10.0.0.1/32")),
                ("NetworkPolicy", "/spec/egress/0/ports", json!([{ "protocol": "TCP", "port": 8443 }])),
                ("NetworkPolicy", "/spec/egress/1", Value::Null),
            ],
        ),
        case(
            json!({ "tracing": { "endpoint": "https://c/otlp" }, "networkPolicy": { "collectorTo": monitoring } }),
            &[
                ("NetworkPolicy", "/spec/egress/1/ports/0/port", json!(443)),
                ("NetworkPolicy", "/spec/egress/1/to", monitoring.clone()),
                ("NetworkPolicy", "/spec/egress/2/ports/0/port", json!(53)),
            ],
        ),
        case(json!({}), &[("FlowSchema", "", Value::Null), ("PriorityLevelConfiguration", "", Value::Null)]),
        case(
            json!({ "flowControl": { "enabled": true, "concurrencyShares": 7 } }),
            &[
                ("FlowSchema", "/spec/distinguisherMethod/type", json!("ByNamespace")),
                ("PriorityLevelConfiguration", "/spec/limited/nominalConcurrencyShares", json!(7)),
            ],
        ),
    ]
}

fn cases() -> Vec<Case> {
    [of_the_pod(), of_the_sources(), of_the_operator(), of_rights_and_rules(), of_the_surroundings()]
        .into_iter()
        .flatten()
        .collect()
}

/// What is at the place of a fact.
fn seen(objects: &[Value], (which, place, _): &Fact) -> Value {
    let deployment = || find(objects, "Deployment").unwrap();
    let found = match *which {
        "Env" => {
            let variables = deployment().pointer(&format!("{SPEC}/containers/0/env")).unwrap().as_array().unwrap();
            let mut named = variables.iter().filter(|variable| variable["name"] == *place);
            let (first, second) = (named.next(), named.next());
            assert!(second.is_none(), "{place} is there twice");
            return first.map_or(Value::Null, |first| first.get("value").unwrap_or(&first["valueFrom"]).clone());
        }
        "Pod" => deployment().pointer(&format!("{SPEC}{place}")),
        which => find(objects, which).and_then(|object| object.pointer(place)),
    };
    found.cloned().unwrap_or_default()
}

/// Of an expression only the end is told.
fn is_so(seen: &Value, expected: &Value) -> bool {
    let end = expected.as_str().and_then(|text| text.strip_prefix("TEXT "));
    end.map_or(seen == expected, |end| seen.as_str().is_some_and(|seen| seen.ends_with(end)))
}

#[tokio::test]
async fn each_value_is_seen_where_it_shall_be() -> Result<()> {
    let (helm, _folder) = helm().await?;
    let mut wrong = Vec::new();
    for Case { values, facts } in cases() {
        let objects = helm.render("secrets-distributor", &values).await?;
        for fact in facts {
            let seen = seen(&objects, &fact);
            if !is_so(&seen, &fact.2) {
                wrong.push(format!("{values}: {} {} is {seen}, not {}", fact.0, fact.1, fact.2));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// A place for each value that can be set: what is an empty object or list may hold anything.
fn places(values: &Value, at: &str, all: &mut Vec<String>) {
    match values.as_object().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), all)),
        None => all.push(at.to_owned()),
    }
}

#[test]
fn no_value_is_left_out() {
    let values: Value =
        serde_yaml_ng::from_str(&fs::read_to_string(Helm::chart().join("values.yaml")).unwrap()).unwrap();
    let (cases, mut all) = (cases(), Vec::new());
    places(&values, "", &mut all);
    assert!(all.len() > 40, "{all:?}");
    let of_a_map = |place: &str| place.ends_with("/grafana_dashboard");
    let covered = |place: &String| cases.iter().any(|case| case.values.pointer(place).is_some());
    let left: Vec<_> = all.iter().filter(|place| !of_a_map(place) && !covered(place)).collect();
    assert!(left.is_empty(), "no case sets {left:?}");
}
