//! What tests need to look at spans.

use opentelemetry::trace::{SpanId, Status, TraceId};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SimpleSpanProcessor, SpanData};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt;

use super::{
    keep::{Keep, Ledger},
    names::{ATTRIBUTES, Attribute, CALL, SPANS},
    parse_traceparent, setup,
};
use crate::telemetry::Metrics;

/// Records the spans of this thread that would be exported.
pub(crate) struct Recorder {
    exported: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _default: DefaultGuard,
}

/// A span, as text.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub name: String,
    /// Name of its parent; empty for a root.
    pub within: String,
    pub kind: String,
    pub attributes: BTreeMap<String, String>,
    pub links: Vec<TraceId>,
    /// Attributes of its events.
    pub events: Vec<(String, String)>,
    pub is_error: bool,
    pub trace: TraceId,
}

impl Recorded {
    pub fn get(&self, attribute: Attribute) -> String {
        self.attributes.get(attribute.key).cloned().unwrap_or_default()
    }
}

impl Recorder {
    pub fn start() -> Self {
        let exported = InMemorySpanExporter::default();
        let keep =
            Keep::new(SimpleSpanProcessor::new(exported.clone()), 10_000, Arc::new(Ledger::new(Metrics::new(true))));
        let provider = SdkTracerProvider::builder().with_span_processor(keep).build();
        let subscriber = tracing_subscriber::registry().with(setup::layer(&provider));
        let default = tracing::subscriber::set_default(subscriber);
        Self { exported, _provider: provider, _default: default }
    }

    /// What was exported, in the order in which it ended. Each span is one that the reference knows.
    pub fn spans(&self) -> Vec<Recorded> {
        let spans = self.exported.get_finished_spans().unwrap();
        let names: HashMap<_, _> =
            spans.iter().map(|span| (span.span_context.span_id(), span.name.to_string())).collect();
        let recorded: Vec<_> = spans.iter().map(|span| recorded(span, &names)).collect();
        recorded.iter().for_each(assert_documented);
        recorded
    }
}

fn recorded(span: &SpanData, names: &HashMap<SpanId, String>) -> Recorded {
    let text = |key: &opentelemetry::Key, value: &opentelemetry::Value| (key.to_string(), value.to_string());
    Recorded {
        name: span.name.to_string(),
        within: names.get(&span.parent_span_id).cloned().unwrap_or_default(),
        kind: format!("{:?}", span.span_kind),
        attributes: span.attributes.iter().map(|a| text(&a.key, &a.value)).collect(),
        links: span.links.iter().map(|link| link.span_context.trace_id()).collect(),
        events: span.events.iter().flat_map(|e| &e.attributes).map(|a| text(&a.key, &a.value)).collect(),
        is_error: matches!(span.status, Status::Error { .. }),
        trace: span.span_context.trace_id(),
    }
}

fn assert_documented(span: &Recorded) {
    let known = SPANS.iter().find(|known| known.name == span.name).unwrap_or(&CALL);
    assert_eq!(span.kind.to_lowercase(), known.kind, "{span:#?}");
    let within = known.within.contains(&span.within.as_str()) || known.within.is_empty() && span.within.is_empty();
    assert!(within || *known == CALL, "{span:#?}");
    for key in span.attributes.keys().chain(span.events.iter().map(|(key, _)| key)) {
        assert!(known.attributes.iter().any(|attribute| attribute.key == key), "{key} of {span:#?}");
    }
}

#[test]
fn every_attribute_is_one_of_a_span_and_every_parent_is_a_span() {
    for attribute in ATTRIBUTES {
        assert!(SPANS.iter().any(|span| span.attributes.contains(attribute)), "{}", attribute.key);
    }
    for parent in SPANS.iter().flat_map(|span| span.within) {
        assert!(SPANS.iter().any(|span| span.name == *parent), "{parent}");
    }
}

#[test]
fn a_traceparent_is_understood_or_ignored() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parsed = parse_traceparent(&format!("00-{trace}-b7ad6b7169203331-01")).unwrap();
    assert_eq!(parsed.trace_id().to_string(), trace);
    for malformed in ["", "nonsense", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
        assert!(parse_traceparent(malformed).is_none(), "{malformed}");
    }
}
