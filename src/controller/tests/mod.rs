//! The controller against an API server of a few lines.

mod order;
mod queueing;
mod traces;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use clap::Parser;
use http::{Method, Request, Response};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Client, api::DynamicObject, client::Body};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::{Layer, service_fn};

use super::*;
use crate::{
    core::{
        index::{Delegation, Gate},
        name::{NamespaceName, PolicyName, SecretName},
        policy::Namespace,
    },
    settings::Args,
    telemetry::traces::{client_layer, names::Ended},
};

#[tokio::test]
async fn a_panic_is_caught_and_what_it_said_is_dropped() {
    let outcome = attempt(async { panic!("hunter2") as u8 }).await;
    assert_eq!(outcome, Err(Panicked));
    assert_eq!(attempt(async { 7 }).await, Ok(7));
}

#[tokio::test]
async fn a_panic_is_told_on_the_object() {
    let bench = Bench::new().asks(json!({}));
    bench.context.report_panic(&key()).await;
    let told = bench.api.last("/r/status").unwrap()["status"]["conditions"].to_string();
    assert_eq!(told.matches(r#""reason":"InternalError""#).count(), 2, "{told}");
}

#[test]
fn an_instant_that_has_passed_is_not_waited_for() {
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(until(at(7), at(5)), Duration::from_secs(2));
    assert_eq!(until(at(5), at(63)), Duration::ZERO);
}

/// The request and its Secret go with the namespace in a moment.
#[tokio::test]
async fn what_goes_with_its_namespace_is_neither_written_nor_told() {
    let bench = Bench::new().grants(serde_json::from_str(GENEROUS).unwrap()).asks(json!({}));
    bench.context.world_mut().apply_namespace(Namespace { terminating: true, ..Namespace::unknown(&key().namespace) });
    assert_eq!(bench.attempt(&Cause::new(CauseKind::Namespace)).await, Ended::Unchanged);
    assert_eq!(*bench.api.sent.lock().unwrap(), []);
    bench.context.world_mut().apply_namespace(Namespace::unknown(&key().namespace));
    assert_eq!(
        bench.attempt(&Cause::new(CauseKind::Namespace)).await,
        Ended::Written,
        "of the same, in one that stays"
    );
}

/// Every write of the source A at once.
const GENEROUS: &str = r#"{ "namespaces": { "names": ["ns"] }, "rules": [{ "effect": "Allow", "sources": ["A"] }],
    "rateLimit": { "writes": 100000, "per": "1s" } }"#;

const TRACE_URL: &str = "https://jaeger/trace/{traceID}";

/// An operator that has read one namespace, `ns`, which has delegated its Secrets.
struct Bench {
    context: Arc<Context>,
    api: Api,
    _folder: TempDir,
}

/// What was sent to the API server, and what it answers to creates of Secrets.
#[derive(Clone, Default)]
struct Api {
    sent: Arc<Mutex<Vec<(String, Value)>>>,
    refuses: Arc<Mutex<Option<u16>>>,
}

impl Api {
    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let body: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default();
        let path = parts.uri.path().to_string();
        let (status, answer) = match parts.method {
            Method::POST if path.ends_with("/secrets") => match *self.refuses.lock().unwrap() {
                Some(code) => (code, json!({ "kind": "Status", "code": code, "status": "Failure", "message": "no" })),
                None => {
                    let mut written = json!({ "metadata": body["metadata"] });
                    written["metadata"]["uid"] = "s".into();
                    written["metadata"]["resourceVersion"] = "7".into();
                    (201, written)
                }
            },
            Method::GET if path.ends_with("/distributionpolicies") => {
                let policy = json!({ "metadata": { "name": "p", "uid": "p", "generation": 1 } });
                (200, json!({ "kind": "PartialObjectMetadataList", "metadata": {}, "items": [policy] }))
            }
            _ => {
                let metadata = json!({ "name": "r", "namespace": "ns", "uid": "u", "resourceVersion": "8" });
                (200, json!({ "apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata }))
            }
        };
        self.sent.lock().unwrap().push((format!("{} {path}", parts.method), body));
        Ok(Response::builder().status(status).body(Body::from(answer.to_string().into_bytes())).unwrap())
    }

    /// The calls that write, as methods and the last word of their paths.
    fn writes(&self) -> Vec<String> {
        let sent = self.sent.lock().unwrap();
        let writes = sent.iter().filter(|(call, _)| !call.starts_with("GET"));
        writes.map(|(call, _)| format!("{} {}", &call[..4], call.rsplit('/').next().unwrap())).collect()
    }

    /// The body of the last call whose method and path have the fragment.
    fn last(&self, fragment: &str) -> Option<Value> {
        let sent = self.sent.lock().unwrap();
        sent.iter().rev().find(|(call, _)| call.contains(fragment)).map(|(_, body)| body.clone())
    }
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
        std::fs::write(file("key"), [7; 32]).unwrap();
        std::fs::create_dir_all(file("sources/..1")).unwrap();
        std::fs::write(file("sources/..1/A"), "hunter2").unwrap();
        std::os::unix::fs::symlink("..1", file("sources/..data")).unwrap();
        let (key, sources) = (file("key"), file("sources"));
        let arguments = ["run", "--digest-key-file", &key, "--secrets-path", &sources, "--trace-url", TRACE_URL];
        let settings = Settings::try_from(Args::parse_from(arguments)).unwrap();
        let api = Api::default();
        let server = api.clone();
        let service = service_fn(move |request| server.clone().answer(request));
        let client = Client::new(client_layer(&"https://api:6443".parse().unwrap()).layer(service), "default");
        let leadership = Leadership::for_an_hour();
        let context = Context::new(client, &settings, Gates::of_the_operator(), leadership, Metrics::new(true));
        context.limits.begin(context.leadership.check().unwrap().number());
        let ns = NamespaceName::parse("ns").unwrap();
        let namespace = Namespace { name: ns.clone(), labels: Default::default(), terminating: false };
        let mut world = context.world_mut();
        world.apply_namespace(namespace);
        world.set_delegation(&ns, Delegation::Granted);
        Gate::ALL.into_iter().for_each(|gate| drop(world.open(gate)));
        drop(world);
        Self { context: Arc::new(context), api, _folder: folder }
    }

    /// There is one policy, `p`.
    fn grants(self, spec: Value) -> Self {
        let object = object("DistributionPolicy", json!({ "name": "p", "uid": "p", "generation": 1 }), spec);
        let policy = crate::core::object::policy(&object).unwrap();
        let meta: ObjectMeta = object.metadata.clone();
        self.context.policy_reports.seen(&PolicyName::admitted("p"), &meta, None);
        self.context.world_mut().apply_policy(PolicyName::admitted("p"), Ok(Arc::new(policy)));
        self
    }

    /// There is a request `r` for the source A, with these annotations.
    fn asks(self, annotations: Value) -> Self {
        self.asks_as("r", annotations)
    }

    fn asks_as(self, name: &str, annotations: Value) -> Self {
        let meta = json!({ "name": name, "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "5", "annotations": annotations });
        let spec = json!({ "secrets": [{ "from": "A", "to": "k" }] });
        let (key, stored, known) = parse::request(object("SecretsDistribution", meta, spec)).unwrap();
        self.context.reports.seen(&key, known);
        self.context.world_mut().apply_request(key, stored);
        self
    }

    /// One attempt at `r`, as a worker makes it.
    async fn attempt(&self, cause: &Cause) -> Ended {
        let key = key();
        let span = traced::begin(&key, cause);
        let Progress::Over(attempt) = self.context.attempt(&key, cause).instrument(span.clone()).await else {
            panic!("put off, and there is nothing else to do");
        };
        traced::conclude(&span, &key, &attempt);
        attempt.ended
    }
}

fn key() -> RequestKey {
    RequestKey { namespace: NamespaceName::parse("ns").unwrap(), name: SecretName::parse("r").unwrap() }
}

fn object(kind: &str, metadata: Value, spec: Value) -> DynamicObject {
    let object = json!({ "apiVersion": "xlscsde.nhs.uk/v1", "kind": kind, "metadata": metadata, "spec": spec });
    serde_json::from_value(object).unwrap()
}
