//! Trace context (W3C Trace Context) on its way over the bus.

use std::collections::HashMap;

use opentelemetry::{
    Context,
    propagation::TextMapPropagator as _,
    trace::{TraceContextExt as _, TraceId},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header, and the field of an entry, that carries the context.
pub const TRACEPARENT: &str = "traceparent";

/// The context of the present span, if it has one.
#[must_use]
pub fn current_traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// The trace id of the present span, in hex.
#[must_use]
pub fn current_trace_id() -> Option<String> {
    let id = Span::current().context().span().span_context().trace_id();
    (id != TraceId::INVALID).then(|| id.to_string())
}

/// Makes `span` a child of the span that sent `traceparent`.
pub fn continue_trace(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        // Fails only where no subscriber records traces; then there is nothing to continue.
        let _ = span.set_parent(context(traceparent));
    }
}

/// Links `span` to the span that sent `traceparent`, of which it is no part: a timer fires in a
/// trace of its own.
pub fn link(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        span.add_link(context(traceparent).span().span_context().clone());
    }
}

fn context(traceparent: &str) -> Context {
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract(&carrier)
}
