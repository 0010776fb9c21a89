//! Traces: what happened in one attempt, and how long each step took.
//!
//! Code makes spans with [`SpanName::start`] and says things about them with [`Traced`]; with no collector set, both
//! do nothing. [`Keep`](keep) holds the spans of a trace back until its root ends, and drops those of an attempt that
//! found nothing to do.

mod client;
mod deliver;
mod environment;
mod keep;
pub mod names;
mod setup;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod url;

use std::collections::HashMap;

use opentelemetry::{
    Context, KeyValue, Value,
    propagation::TextMapPropagator,
    trace::{SpanContext, Status, TraceContextExt, TraceId},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use self::names::{Attribute, ERROR_TYPE, SpanName};
pub use self::{
    client::{ClientLayer, TracedClient, client_layer},
    environment::{BadVariables, Settings, VARIABLES, Variable},
    setup::{Replica, Traces},
    url::TraceUrl,
};

/// The target of every span that is exported: no directive for logs concerns it.
const TARGET: &str = concat!(env!("CARGO_CRATE_NAME"), "::spans");

/// All spans are of one callsite, under names of their own.
macro_rules! span {
    ($name:expr, $kind:expr $(, parent: $parent:expr)?) => {
        tracing::info_span!(target: TARGET, $(parent: $parent,)? "span", otel.name = $name, otel.kind = $kind)
    };
}

impl SpanName {
    /// Starts it, within the current one.
    pub fn start(self) -> Span {
        span!(self.name, self.kind)
    }

    /// Starts it within that one.
    pub fn start_in(self, parent: &Span) -> Span {
        span!(self.name, self.kind, parent: parent)
    }

    /// Starts it under a name that says more.
    fn start_as(self, name: &str) -> Span {
        span!(name, self.kind)
    }

    /// Starts it as the root of a trace.
    pub fn start_root(self) -> Span {
        span!(self.name, self.kind, parent: None)
    }
}

/// What can be said about a span.
pub trait Traced {
    /// Says something about it.
    fn set(&self, attribute: Attribute, value: impl Into<Value>);

    /// Something failed in it: of what kind.
    fn fail(&self, kind: &'static str);

    /// A span of another trace has led to it.
    fn link(&self, other: &SpanContext);

    /// A further value of an attribute that has one already: as a span event, which is searched as attributes are.
    fn also(&self, event: &'static str, attribute: Attribute, value: impl Into<Value>);

    /// The span as another trace can link to it, if it is one that is exported.
    fn exported(&self) -> Option<SpanContext>;
}

impl Traced for Span {
    fn set(&self, attribute: Attribute, value: impl Into<Value>) {
        self.set_attribute(attribute.key, value);
    }

    fn fail(&self, kind: &'static str) {
        self.set(ERROR_TYPE, kind);
        self.set_status(Status::error(""));
    }

    fn link(&self, other: &SpanContext) {
        self.add_link(other.clone());
    }

    fn also(&self, event: &'static str, attribute: Attribute, value: impl Into<Value>) {
        self.add_event(event, vec![KeyValue::new(attribute.key, value)]);
    }

    fn exported(&self) -> Option<SpanContext> {
        exported(&self.context())
    }
}

fn exported(context: &Context) -> Option<SpanContext> {
    let span = context.span();
    let context = span.span_context();
    (context.is_valid() && context.is_sampled()).then(|| context.clone())
}

/// The span that a W3C `traceparent` names.
pub fn parse_traceparent(text: &str) -> Option<SpanContext> {
    let carrier = HashMap::from([("traceparent".to_string(), text.to_string())]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let span = context.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// The trace that the current span is in, if it is exported.
pub fn current_trace() -> Option<TraceId> {
    exported(&Context::current()).map(|context| context.trace_id())
}
