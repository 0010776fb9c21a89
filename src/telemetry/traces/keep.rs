//! What is kept of the spans that end: whole traces, of attempts that came to something.
//!
//! Whether an attempt has come to something is known for certain at its end. So the spans of a trace wait here until its
//! root ends, and then go on to the exporter together, or not at all. An attempt whose end is put off can wait long: once
//! a span says that a Secret has changed, which makes the trace worth keeping, those that have ended go on before, but
//! only while half of the exporter's queue is empty: the rest is for the ends, so that a trace is not torn.
//!
//! Invariants: what waits is bounded, for each trace and in all, whatever never ends; what is handed on never exceeds the
//! exporter's queue; every span that was worth keeping and could not be is counted.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    Context, Value,
    trace::{SpanId, TraceId},
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};

use super::names::{Ended, RESULT};
use crate::telemetry::Metrics;

/// The most spans of one trace: a request with hundreds of destinations is told in part.
const MAX_OF_A_TRACE: usize = 1024;

/// The most spans that wait, in all.
const MAX_WAITING: usize = 16 * MAX_OF_A_TRACE;

/// What the parts between span and collector know of each other.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Spans that were handed on, and did not reach the exporter yet.
    queued: AtomicUsize,
    dropped: AtomicU64,
    metrics: Metrics,
}

impl Ledger {
    pub fn new(metrics: Metrics) -> Self {
        Self { queued: AtomicUsize::new(0), dropped: AtomicU64::new(0), metrics }
    }

    /// Spans that were worth keeping and are lost.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn drop_spans(&self, count: usize) {
        if count > 0 {
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
            self.metrics.spans_dropped(count as u64);
        }
    }

    /// The exporter has taken them from its queue.
    pub fn taken(&self, count: usize) {
        self.queued.fetch_sub(count, Ordering::AcqRel);
    }

    /// Makes room in the queue of that size, if there is.
    fn reserve(&self, count: usize, size: usize) -> bool {
        let fits = |queued: usize| queued.checked_add(count).filter(|queued| *queued <= size);
        self.queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }
}

/// Stands before the processor that exports.
#[derive(Debug)]
pub(super) struct Keep<P> {
    next: P,
    /// How many spans the queue of `next` takes.
    queue_size: usize,
    ledger: Arc<Ledger>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    traces: HashMap<TraceId, Trace>,
    /// In the order in which they began to wait; ids of traces that have gone stay until they come to the front.
    order: VecDeque<TraceId>,
    spans: usize,
}

/// A trace whose root has not ended.
#[derive(Debug, Default)]
struct Trace {
    waiting: Vec<SpanData>,
    /// How many of its spans have gone on before.
    gone_on: usize,
}

impl<P: SpanProcessor> Keep<P> {
    pub fn new(next: P, queue_size: usize, ledger: Arc<Ledger>) -> Self {
        Self { next, queue_size, ledger, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a span whose root has not ended; if it makes the trace worth keeping, what has waited so far can go on.
    fn wait(&self, span: SpanData) {
        let (id, settles) = (span.span_context.trace_id(), has_changed_a_secret(&span));
        let mut waiting = self.waiting();
        let gone = waiting.add(span);
        let beginning = match settles && self.ledger.reserve(waiting.count(id), self.queue_size / 2) {
            true => waiting.let_go(id),
            false => Vec::new(),
        };
        drop(waiting);
        self.ledger.drop_spans(gone);
        self.hand_on(beginning);
    }

    fn end(&self, root: SpanData) {
        let mut spans = self.waiting().take(root.span_context.trace_id());
        if found_nothing_to_do(&root) {
            return;
        }
        spans.push(root);
        match self.ledger.reserve(spans.len(), self.queue_size) {
            true => self.hand_on(spans),
            false => self.ledger.drop_spans(spans.len()),
        }
    }

    /// There is room for them.
    fn hand_on(&self, spans: Vec<SpanData>) {
        spans.into_iter().for_each(|span| self.next.on_end(span));
    }
}

impl Waiting {
    /// Adds a span, and answers how many had to go for it.
    fn add(&mut self, span: SpanData) -> usize {
        let id = span.span_context.trace_id();
        let order = &mut self.order;
        let trace = self.traces.entry(id).or_insert_with(|| {
            order.push_back(id);
            Trace::default()
        });
        if trace.waiting.len() + trace.gone_on >= MAX_OF_A_TRACE {
            return 1;
        }
        trace.waiting.push(span);
        self.spans += 1;
        self.forget_the_oldest()
    }

    /// Those that wait longest are of roots that never end.
    fn forget_the_oldest(&mut self) -> usize {
        let before = self.spans;
        while self.spans > MAX_WAITING || self.order.len() > MAX_WAITING {
            let Some(oldest) = self.order.pop_front() else { break };
            self.take(oldest);
        }
        before - self.spans
    }

    fn count(&self, id: TraceId) -> usize {
        self.traces.get(&id).map_or(0, |trace| trace.waiting.len())
    }

    /// Those that wait go; more of the trace will come.
    fn let_go(&mut self, id: TraceId) -> Vec<SpanData> {
        let Some(trace) = self.traces.get_mut(&id) else { return Vec::new() };
        trace.gone_on += trace.waiting.len();
        self.spans -= trace.waiting.len();
        std::mem::take(&mut trace.waiting)
    }

    /// The whole trace goes.
    fn take(&mut self, id: TraceId) -> Vec<SpanData> {
        let spans = self.traces.remove(&id).unwrap_or_default().waiting;
        self.spans -= spans.len();
        while self.order.front().is_some_and(|id| !self.traces.contains_key(id)) {
            self.order.pop_front();
        }
        spans
    }
}

fn found_nothing_to_do(root: &SpanData) -> bool {
    ended_as(root, Ended::Unchanged)
}

/// An attempt that has changed a Secret is never one that found nothing to do.
fn has_changed_a_secret(span: &SpanData) -> bool {
    ended_as(span, Ended::Written) || ended_as(span, Ended::Deleted)
}

fn ended_as(span: &SpanData, ended: Ended) -> bool {
    let result = span.attributes.iter().find(|attribute| attribute.key.as_str() == RESULT.key);
    result.is_some_and(|result| result.value == Value::from(ended.as_str()))
}

impl<P: SpanProcessor> SpanProcessor for Keep<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        match span.parent_span_id == SpanId::INVALID {
            true => self.end(span),
            false => self.wait(span),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::{
        KeyValue,
        trace::{Span as _, Tracer, TracerProvider},
    };
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracer, SdkTracerProvider, SimpleSpanProcessor};

    struct Bench {
        tracer: SdkTracer,
        exported: InMemorySpanExporter,
        ledger: Arc<Ledger>,
    }

    /// Nothing takes from the queue: it fills up.
    fn bench(queue_size: usize) -> Bench {
        let (exported, ledger) = (InMemorySpanExporter::default(), Arc::new(Ledger::new(Metrics::new(true))));
        let keep = Keep::new(SimpleSpanProcessor::new(exported.clone()), queue_size, ledger.clone());
        let tracer = SdkTracerProvider::builder().with_span_processor(keep).build().tracer("test");
        Bench { tracer, exported, ledger }
    }

    impl Bench {
        fn root(&self, name: &'static str) -> Context {
            use opentelemetry::trace::TraceContextExt;
            Context::new().with_span(self.tracer.start_with_context(name, &Context::new()))
        }

        fn children(&self, root: &Context, count: usize) {
            (0..count).for_each(|_| self.tracer.start_with_context("child", root).end());
        }

        fn target(&self, root: &Context, result: Ended) {
            let mut span = self.tracer.start_with_context("target", root);
            span.set_attribute(KeyValue::new(RESULT.key, result.as_str()));
            span.end();
        }

        fn end(&self, root: Context, result: Ended) {
            use opentelemetry::trace::TraceContextExt;
            root.span().set_attribute(KeyValue::new(RESULT.key, result.as_str()));
            root.span().end();
        }

        fn names(&self) -> Vec<String> {
            let spans = self.exported.get_finished_spans().unwrap();
            spans.iter().map(|span| span.name.to_string()).collect()
        }
    }

    #[test]
    fn a_trace_goes_on_as_a_whole_when_its_root_ends_and_not_before() {
        let bench = bench(100);
        let (one, other) = (bench.root("one"), bench.root("other"));
        bench.children(&one, 2);
        bench.children(&other, 1);
        assert_eq!(bench.names(), [""; 0]);
        bench.end(one, Ended::Written);
        assert_eq!(bench.names(), ["child", "child", "one"]);
        bench.end(other, Ended::Denied);
        assert_eq!(bench.names().len(), 5);
        assert_eq!(bench.ledger.dropped(), 0);
    }

    #[test]
    fn what_has_ended_goes_on_once_a_secret_has_changed_while_half_of_the_queue_is_empty() {
        let bench = bench(6);
        let (one, other) = (bench.root("one"), bench.root("other"));
        bench.children(&one, 1);
        bench.target(&one, Ended::Unchanged);
        assert_eq!(bench.names(), [""; 0], "nothing has changed");
        bench.target(&one, Ended::Written);
        assert_eq!(bench.names(), ["child", "target", "target"]);
        bench.target(&other, Ended::Deleted);
        assert_eq!(bench.names().len(), 3, "the rest is for the ends");
        bench.end(one, Ended::Written);
        bench.end(other, Ended::Deleted);
        assert_eq!(bench.names()[3..], ["one", "target", "other"]);
        assert_eq!(bench.ledger.dropped(), 0);
    }

    #[test]
    fn of_an_attempt_that_found_nothing_to_do_nothing_goes_on_and_nothing_is_lost() {
        let bench = bench(100);
        let root = bench.root("idle");
        bench.children(&root, 3);
        bench.end(root, Ended::Unchanged);
        assert_eq!((bench.names().len(), bench.ledger.dropped()), (0, 0));
    }

    #[test]
    fn a_full_queue_takes_no_part_of_a_trace_and_what_is_lost_is_counted() {
        let bench = bench(5);
        for _ in 0..3 {
            let root = bench.root("root");
            bench.children(&root, 2);
            bench.end(root, Ended::Written);
        }
        assert_eq!((bench.names().len(), bench.ledger.dropped()), (3, 6));
        bench.ledger.taken(3);
        let root = bench.root("again");
        bench.end(root, Ended::Written);
        assert_eq!(bench.names().len(), 4);
    }

    #[test]
    fn a_trace_that_grows_without_end_is_told_in_part() {
        let bench = bench(10_000);
        let root = bench.root("large");
        bench.children(&root, MAX_OF_A_TRACE + 10);
        bench.end(root, Ended::Written);
        assert_eq!((bench.names().len(), bench.ledger.dropped()), (MAX_OF_A_TRACE + 1, 10));

        let root = bench.root("of many targets");
        (0..MAX_OF_A_TRACE + 10).for_each(|_| bench.target(&root, Ended::Written));
        bench.end(root, Ended::Written);
        assert_eq!((bench.names().len(), bench.ledger.dropped()), (2 * (MAX_OF_A_TRACE + 1), 20));
    }

    #[test]
    fn roots_that_never_end_hold_no_more_than_the_bound() {
        let (exported, ledger) = (InMemorySpanExporter::default(), Arc::new(Ledger::new(Metrics::new(true))));
        let keep = Arc::new(Keep::new(SimpleSpanProcessor::new(exported), 100, ledger.clone()));
        let shared = Shared(keep.clone());
        let tracer = SdkTracerProvider::builder().with_span_processor(shared).build().tracer("test");
        let bench = Bench { tracer, exported: InMemorySpanExporter::default(), ledger };
        let open: Vec<_> = (0..40).map(|_| bench.root("open")).collect();
        open.iter().for_each(|root| bench.children(root, MAX_OF_A_TRACE));
        let spans = keep.waiting().spans;
        assert!(spans <= MAX_WAITING, "{spans}");
        assert_eq!(bench.ledger.dropped() as usize + spans, 40 * MAX_OF_A_TRACE);
        drop(open);
        let waiting = keep.waiting();
        assert!(waiting.traces.is_empty() && waiting.order.is_empty() && waiting.spans == 0);
    }

    #[derive(Debug)]
    struct Shared(Arc<Keep<SimpleSpanProcessor<InMemorySpanExporter>>>);

    impl SpanProcessor for Shared {
        fn on_start(&self, span: &mut Span, context: &Context) {
            self.0.on_start(span, context);
        }
        fn on_end(&self, span: SpanData) {
            self.0.on_end(span);
        }
        fn force_flush(&self) -> OTelSdkResult {
            self.0.force_flush()
        }
        fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
            self.0.shutdown_with_timeout(timeout)
        }
    }
}
