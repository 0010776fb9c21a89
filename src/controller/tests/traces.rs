//! What an attempt leaves in a trace.

use std::collections::BTreeSet;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use super::*;
use crate::{
    api::names::{TRACE_ID, TRACEPARENT},
    core::name::SourceName,
    telemetry::traces::{
        names::*,
        tests::{Recorded, Recorder},
    },
};

/// It is the second rule that grants A.
const SECOND_RULE: &str = r#"{ "namespaces": { "names": ["ns"] }, "rules": [
    { "effect": "Allow", "sources": ["Other"] }, { "effect": "Allow", "sources": ["A"] }
], "rateLimit": { "writes": 100000, "per": "1s" } }"#;

/// One write of a Secret in an hour, and none yet.
const STRICT: &str = r#"{ "namespaces": { "names": ["ns"] }, "rules": [{ "effect": "Allow", "sources": ["A"] }],
    "rateLimit": { "writes": 1, "per": "1h" } }"#;

fn bench(policy: &str) -> Bench {
    Bench::new().grants(serde_json::from_str(policy).unwrap())
}

fn cause() -> Cause {
    Cause::new(CauseKind::Request)
}

/// The tree, one line for each span, in the order in which they end.
fn tree(spans: &[Recorded]) -> Vec<String> {
    spans.iter().map(|span| format!("{} < {}", span.name, span.within)).collect()
}

fn find<'a>(spans: &'a [Recorded], name: &str) -> &'a Recorded {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

const STATUS_CALL: &str = "PATCH /apis/xlscsde.nhs.uk/v1/namespaces/{namespace}/secretsdistributions/{name}/status";

#[tokio::test]
async fn a_write_is_one_trace_with_its_steps_and_their_figures() {
    let recorder = Recorder::start();
    let bench = bench(SECOND_RULE).asks(json!({}));
    assert_eq!(bench.attempt(&cause()).await, Ended::Written);
    let spans = recorder.spans();
    let expected = [
        "decide < distribute".to_string(),
        "read < distribute".into(),
        "render < target".into(),
        "GET /apis/xlscsde.nhs.uk/v1/distributionpolicies < confirm".into(),
        "confirm < apply".into(),
        "limit < apply".into(),
        "POST /api/v1/namespaces/{namespace}/secrets < apply".into(),
        "apply < target".into(),
        "target < distribute".into(),
        format!("{STATUS_CALL} < status"),
        "status < distribute".into(),
        "distribute < ".into(),
    ];
    assert_eq!(tree(&spans), expected);
    assert!(spans.iter().all(|span| span.trace == spans[0].trace && !span.is_error), "{spans:#?}");
    let root = find(&spans, "distribute");
    let said = [REQUEST, NAMESPACE, CAUSE, ATTEMPT, RESULT, REASON].map(|attribute| root.get(attribute));
    assert_eq!(said, ["ns/r", "ns", "request", "1", "written", ""]);
    let target = find(&spans, "target");
    let said = [TARGET, NAMESPACE, RESULT, GRANTED_BY].map(|attribute| target.get(attribute));
    assert_eq!(said, ["ns/r", "ns", "written", "[\"p rules[1]\"]"]);
    let read = find(&spans, "read");
    assert_eq!([read.get(SOURCES), read.get(BYTES)], ["[\"A\"]", "7"]);
    let render = find(&spans, "render");
    assert_eq!([render.get(KEYS), render.get(BYTES)], ["1", "7"]);
    assert_eq!(find(&spans, "limit").get(THROTTLE_DELAY), "0");
    assert_eq!(find(&spans, STATUS_CALL).get(RESOURCE), "secretsdistributions/status");
    assert!(!format!("{spans:?}").contains("hunter2"));
    let status = bench.api.last("/status").unwrap();
    assert_eq!(status["status"]["traceID"], root.trace.to_string());
}

#[tokio::test]
async fn an_attempt_that_finds_nothing_to_do_leaves_nothing_and_no_other_trace_in_the_status() {
    let recorder = Recorder::start();
    let bench = Bench::new().asks(json!({}));
    assert_eq!(bench.attempt(&cause()).await, Ended::Denied);
    let told = (recorder.spans().len(), bench.api.sent.lock().unwrap().len());
    assert_eq!(bench.attempt(&cause()).await, Ended::Unchanged);
    assert_eq!((recorder.spans().len(), bench.api.sent.lock().unwrap().len()), told);
}

/// Also within the same second, in which the status has nothing else to say.
#[tokio::test]
async fn the_status_names_the_last_attempt_that_changed_a_secret() {
    let recorder = Recorder::start();
    let bench = bench(SECOND_RULE).asks(json!({}));
    for _ in 0..2 {
        // The server of this test forgets what it was sent: the Secret is made anew each time.
        assert_eq!(bench.attempt(&cause()).await, Ended::Written);
        let roots: Vec<_> = recorder.spans().into_iter().filter(|span| span.name == "distribute").collect();
        let status = bench.api.last("/status").unwrap();
        assert_eq!(status["status"]["traceID"], roots.last().unwrap().trace.to_string());
        let target = crate::core::name::Target { namespace: key().namespace, name: key().name };
        bench.context.world_mut().delete_secret(&target);
    }
}

#[tokio::test]
async fn a_denial_is_told_and_is_no_error() {
    let recorder = Recorder::start();
    let bench = Bench::new().asks(json!({}));
    assert_eq!(bench.attempt(&cause()).await, Ended::Denied);
    let spans = recorder.spans();
    let event_call = "POST /apis/events.k8s.io/v1/namespaces/{namespace}/events";
    let expected = [
        "decide < distribute".to_string(),
        "target < distribute".into(),
        format!("{STATUS_CALL} < status"),
        format!("{event_call} < status"),
        "status < distribute".into(),
        "distribute < ".into(),
    ];
    assert_eq!(tree(&spans), expected);
    let root = find(&spans, "distribute");
    assert_eq!([root.get(RESULT), root.get(REASON)], ["denied", "NoPolicyForNamespace"]);
    assert!(!root.is_error && root.get(ERROR_TYPE).is_empty());
    let event = bench.api.last("/events").unwrap();
    let trace = root.trace.to_string();
    assert_eq!(event["metadata"]["annotations"][TRACE_ID], trace);
    assert!(event["note"].as_str().unwrap().ends_with(&format!("; see https://jaeger/trace/{trace}")), "{event}");
}

#[tokio::test]
async fn a_throttled_write_tells_how_long_it_waits() {
    let recorder = Recorder::start();
    let bench = bench(STRICT).asks(json!({}));
    assert_eq!(bench.attempt(&cause()).await, Ended::Throttled);
    let spans = recorder.spans();
    let delay: f64 = find(&spans, "limit").get(THROTTLE_DELAY).parse().unwrap();
    assert!((3000.0..3601.0).contains(&delay), "{delay}");
    let root = find(&spans, "distribute");
    assert_eq!([root.get(RESULT), root.get(REASON), root.get(ERROR_TYPE)], ["throttled", "Throttled", ""]);
    assert!(!spans.iter().any(|span| span.name.contains("secrets < ")));
}

#[tokio::test]
async fn a_failure_is_an_error_from_the_call_to_the_root_also_when_it_is_no_news() {
    let recorder = Recorder::start();
    let bench = bench(SECOND_RULE).asks(json!({}));
    *bench.api.refuses.lock().unwrap() = Some(500);
    for attempt in [cause(), cause().again()] {
        assert_eq!(bench.attempt(&attempt).await, Ended::Failed);
    }
    let spans = recorder.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "distribute").collect();
    assert_eq!([roots[0].get(ATTEMPT), roots[1].get(ATTEMPT)], ["1", "2"]);
    for span in roots.into_iter().chain([find(&spans, "target")]) {
        assert!(span.is_error);
        assert_eq!([span.get(RESULT), span.get(REASON), span.get(ERROR_TYPE)], ["failed", "ApiError", "status"]);
    }
    let call = find(&spans, "POST /api/v1/namespaces/{namespace}/secrets");
    assert_eq!((call.is_error, call.get(STATUS_CODE)), (true, "500".into()));
}

fn elsewhere(number: u8) -> SpanContext {
    let (trace, span) = (TraceId::from_bytes([number; 16]), SpanId::from_bytes([number; 8]));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

#[tokio::test]
async fn an_attempt_is_linked_to_its_causes_and_to_the_pipeline() {
    let recorder = Recorder::start();
    let pipeline = "0af7651916cd43dd8448eb211c80319c";
    let bench = Bench::new().asks(json!({ TRACEPARENT: format!("00-{pipeline}-b7ad6b7169203331-01") }));
    bench.attempt(&Cause { links: vec![elsewhere(1), elsewhere(2)], ..cause() }).await;
    let spans = recorder.spans();
    let root = find(&spans, "distribute");
    let links: Vec<_> = root.links.iter().map(ToString::to_string).collect();
    assert_eq!(links, ["01".repeat(16), "02".repeat(16), pipeline.into()]);
    assert_eq!([root.get(CAUSE_TRACE_ID), root.get(PIPELINE_TRACE_ID)], ["01".repeat(16), pipeline.into()]);
    assert_eq!(root.events, [(CAUSE_TRACE_ID.key.to_string(), "02".repeat(16))]);
}

#[tokio::test]
async fn a_malformed_traceparent_changes_nothing() {
    let recorder = Recorder::start();
    let bench = Bench::new().asks(json!({ TRACEPARENT: "nonsense" }));
    bench.attempt(&cause()).await;
    assert!(find(&recorder.spans(), "distribute").links.is_empty());
}

#[tokio::test]
async fn what_wakes_requests_is_a_trace_that_they_link_to() {
    let recorder = Recorder::start();
    let changed: BTreeSet<_> = ["A", "B"].map(|name| SourceName::parse(name).unwrap()).into();
    let rotation = traced::rotation(&changed, 20, Instant::now());
    let policy = traced::Changed { name: "p".into(), generation: Some(3), change: "deleted" };
    let policy = traced::change(&policy, 2, Cause::new(CauseKind::Policy));
    let namespace = traced::Changed { name: "ns".into(), generation: None, change: "applied" };
    let namespace = traced::change(&namespace, 1, Cause::new(CauseKind::Namespace));
    let spans = recorder.spans();
    let traces: Vec<_> = [rotation, policy, namespace].iter().map(|cause| cause.links[0].trace_id()).collect();
    assert_eq!(traces, spans.iter().map(|span| span.trace).collect::<Vec<_>>());
    let [rotation, policy, namespace] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!([rotation.get(SOURCES), rotation.get(REQUESTS)], ["[\"A\",\"B\"]", "20"]);
    let said = [POLICY, GENERATION, CHANGE, REQUESTS].map(|attribute| policy.get(attribute));
    assert_eq!(said, ["p", "3", "deleted", "2"]);
    assert_eq!([namespace.get(NAMESPACE), namespace.get(CHANGE)], ["ns", "applied"]);
}

#[tokio::test]
async fn without_a_collector_nothing_is_said_of_traces() {
    let bench = Bench::new().asks(json!({}));
    bench.attempt(&cause()).await;
    assert!(bench.api.last("/status").unwrap()["status"].get("traceID").is_none_or(Value::is_null));
    let event = bench.api.last("/events").unwrap();
    assert!(event["metadata"].get("annotations").is_none() && !event.to_string().contains("jaeger"), "{event}");
}
