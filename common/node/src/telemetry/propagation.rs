//! Trace context across gRPC: W3C Trace Context (`traceparent`, `tracestate`) in the metadata of a call.
//!
//! The caller injects, the server makes its span a child before the span is first entered.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{Ascii, KeyRef, MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Writes the context of the current span into the metadata of a call. Without traces it writes nothing.
pub fn inject(metadata: &mut MetadataMap) {
    inject_span(&Span::current(), metadata);
}

/// As [`inject`], for a span that is not the current one.
pub fn inject_span(span: &Span, metadata: &mut MetadataMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Writer(metadata));
}

/// The context that came with a call; an empty one when there is none or it is malformed.
pub fn parent_from(metadata: &MetadataMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Reader(metadata))
}

/// Makes `span` a child of the caller's span. Call it before the span is entered for the first time; later, and
/// without traces, it does nothing.
pub fn set_parent(span: &Span, metadata: &MetadataMap) {
    if metadata.contains_key("traceparent") {
        // Err: no trace layer, the span is filtered out, or it has begun. The span then starts a trace of its own.
        let _ = span.set_parent(parent_from(metadata));
    }
}

struct Writer<'a>(&'a mut MetadataMap);

impl Injector for Writer<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::<Ascii>::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct Reader<'a>(&'a MetadataMap);

impl Extractor for Reader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0
            .keys()
            .map(|key| match key {
                KeyRef::Ascii(key) => key.as_str(),
                KeyRef::Binary(key) => key.as_str(),
            })
            .collect()
    }
}
