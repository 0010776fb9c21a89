//! What is said in traces, and in the log, about an attempt and its parts.

use std::{collections::BTreeSet, time::Instant};

use opentelemetry::{Array, Value};
use tracing::Span;

use super::{
    cause::{Cause, CauseKind},
    done::{Attempt, Done},
};
use crate::{
    core::{
        explain::RuleRef,
        name::{RequestKey, SourceName, Target},
        request::Request,
    },
    source::{Contents, MountError},
    telemetry::traces::{
        Traced,
        names::{
            ATTEMPT, BYTES, CAUSE, CAUSE_AGE, CAUSE_TRACE_ID, CHANGE, DISTRIBUTE, Ended, GENERATION, GRANTED_BY,
            NAMESPACE, NAMESPACE_CHANGE, PIPELINE_TRACE_ID, POLICY, POLICY_CHANGE, REASON, REQUEST, REQUESTS, RESULT,
            ROTATION, SEE_TO, SOURCES, TARGET,
        },
        parse_traceparent,
    },
};

/// The most names in one attribute.
const MAX_NAMES: usize = 64;

/// An attempt at a request begins.
pub fn begin(key: &RequestKey, cause: &Cause) -> Span {
    let span = DISTRIBUTE.start_root();
    if span.is_disabled() {
        return span;
    }
    span.set(REQUEST, key.to_string());
    span.set(NAMESPACE, key.namespace.to_string());
    span.set(CAUSE, cause.kind.as_str());
    span.set(CAUSE_AGE, cause.since.elapsed().as_secs_f64());
    span.set(ATTEMPT, i64::from(cause.attempt));
    for (i, link) in cause.links.iter().enumerate() {
        span.link(link);
        let trace = link.trace_id().to_string();
        match i {
            0 => span.set(CAUSE_TRACE_ID, trace),
            _ => span.also("cause", CAUSE_TRACE_ID, trace),
        }
    }
    span
}

/// Links the attempt to the trace of whoever applied the request.
pub fn link_pipeline(span: &Span, request: &Request) {
    let Some(text) = request.traceparent.as_deref().filter(|_| !span.is_disabled()) else { return };
    match parse_traceparent(text) {
        Some(pipeline) => {
            span.link(&pipeline);
            span.set(PIPELINE_TRACE_ID, pipeline.trace_id().to_string());
        }
        None => tracing::debug!(request = %request.key, "its traceparent is none: ignored"),
    }
}

/// An attempt is over. One line in the log, unless it found nothing to do.
pub fn conclude(span: &Span, key: &RequestKey, attempt: &Attempt) {
    span.set(RESULT, attempt.ended.as_str());
    if let Some(reason) = attempt.reason {
        span.set(REASON, reason.as_str());
    }
    if let Some(failure) = attempt.failure {
        span.fail(failure);
    }
    if attempt.ended != Ended::Unchanged {
        let (result, reason) = (attempt.ended.as_str(), attempt.reason.map(tracing::field::display));
        span.in_scope(|| tracing::info!(request = %key, result, reason, "distributed"));
    }
}

/// The work at one destination begins.
pub fn target(target: &Target) -> Span {
    let span = SEE_TO.start();
    if !span.is_disabled() {
        span.set(NAMESPACE, target.namespace.to_string());
        span.set(TARGET, target.to_string());
    }
    span
}

/// The work at one destination is over. `rules` finds out which rules grant it, where anybody wants to know.
pub fn done(span: &Span, done: &Done, rules: impl FnOnce() -> Vec<RuleRef>) {
    if span.is_disabled() {
        return;
    }
    let (ended, reason) = done.ended();
    ended_as(span, ended, done.failure.filter(|_| ended == Ended::Failed));
    if let Some(reason) = reason {
        span.set(REASON, reason.as_str());
    }
    if !done.granted_by.is_empty() && ended != Ended::Unchanged {
        let rules: BTreeSet<_> = rules().iter().map(|rule| format!("{} rules[{}]", rule.policy, rule.rule)).collect();
        span.set(GRANTED_BY, texts(rules.into_iter().take(MAX_NAMES)));
    }
}

/// How it ended, and what failed if anything did.
pub fn ended_as(span: &Span, ended: Ended, failure: Option<&'static str>) {
    span.set(RESULT, ended.as_str());
    if let Some(failure) = failure {
        span.fail(failure);
    }
}

/// Sources were read.
pub fn read(span: &Span, contents: &Result<Contents, MountError>) {
    match contents {
        Ok(contents) => {
            span.set(SOURCES, sources(contents.keys()));
            let bytes = contents.values().flatten().map(|content| content.len()).sum();
            span.set(BYTES, count(bytes));
        }
        Err(_) => span.set(BYTES, 0),
    }
}

/// Names of sources: they are no secret.
fn sources<'a>(names: impl Iterator<Item = &'a SourceName>) -> Value {
    texts(names.take(MAX_NAMES).map(ToString::to_string))
}

/// A number.
pub fn count(number: usize) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

/// Sources have changed. The span is one trace with those that it causes links to.
pub fn rotation(changed: &BTreeSet<SourceName>, requests: usize, since: Instant) -> Cause {
    let span = ROTATION.start_root();
    span.set(SOURCES, sources(changed.iter()));
    span.set(CAUSE_AGE, since.elapsed().as_secs_f64());
    caused_by(span, Cause::since(CauseKind::Rotation, since), requests)
}

/// An object of the cluster that requests depend on.
pub struct Changed {
    pub name: String,
    pub generation: Option<i64>,
    /// `applied` or `deleted`.
    pub change: &'static str,
}

/// It has changed. Requests have a trace of their own.
pub fn change(changed: &Changed, requests: usize, cause: Cause) -> Cause {
    let span = match cause.kind {
        CauseKind::Policy => {
            let span = POLICY_CHANGE.start_root();
            span.set(POLICY, changed.name.clone());
            span.set(GENERATION, changed.generation.unwrap_or_default());
            span
        }
        CauseKind::Namespace => {
            let span = NAMESPACE_CHANGE.start_root();
            span.set(NAMESPACE, changed.name.clone());
            span
        }
        _ => return cause,
    };
    span.set(CHANGE, changed.change);
    caused_by(span, cause, requests)
}

fn caused_by(span: Span, cause: Cause, requests: usize) -> Cause {
    span.set(REQUESTS, count(requests));
    Cause { links: span.exported().into_iter().collect(), ..cause }
}

fn texts(texts: impl Iterator<Item = String>) -> Value {
    Value::Array(Array::String(texts.map(Into::into).collect()))
}
