//! Against a collector in the same process.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span as ReceivedSpan;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument;
use tracing::instrument::WithSubscriber;

use super::*;

/// Spans with the resource attributes of the process that sent them.
type Received = Arc<Mutex<Vec<(Vec<(String, String)>, ReceivedSpan)>>>;

#[derive(Clone, Default)]
struct Collector {
    received: Received,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for part in request.into_inner().resource_spans {
            let attributes = part
                .resource
                .into_iter()
                .flat_map(|resource| resource.attributes);
            let attributes: Vec<_> = attributes
                .filter_map(|attribute| match attribute.value?.value? {
                    Value::StringValue(text) => Some((attribute.key, text)),
                    _ => None,
                })
                .collect();
            for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.received.lock().push((attributes.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collector() -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let received = Arc::clone(&collector.received);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(collector))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    (endpoint, received)
}

fn section(endpoint: &str) -> TelemetrySection {
    TelemetrySection {
        otlp_endpoint: Some(endpoint.to_owned()),
        sample_ratio: 1.0,
        ..TelemetrySection::default()
    }
}

fn node(name: &str, role: &str, section: &TelemetrySection) -> (tracing::Dispatch, Telemetry) {
    let identity = Identity {
        node: name.to_owned(),
        role: role.to_owned(),
    };
    let log = LogSection {
        filter: "off".to_owned(),
        ..LogSection::default()
    };
    let (subscriber, telemetry) = build(&log, section, &identity).unwrap();
    (tracing::Dispatch::new(subscriber), telemetry)
}

/// What an edge does: a span around a call, its context in the metadata.
async fn call_of_edge(metadata: &mut MetadataMap) {
    async {
        tokio::task::yield_now().await;
        propagation::inject(metadata);
    }
    .instrument(tracing::info_span!("append", stream = "live/a"))
    .await;
}

/// What an origin does with it.
async fn served_by_origin(metadata: &MetadataMap) {
    let span = tracing::info_span!("serve_append");
    propagation::set_parent(&span, metadata);
    async {
        tracing::info_span!("write").in_scope(|| {});
    }
    .instrument(span)
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_of_two_nodes_arrive_as_one_trace() {
    let (endpoint, received) = collector().await;
    let section = section(&endpoint);
    let (edge, edge_telemetry) = node("edge-1", "edge", &section);
    let (origin, origin_telemetry) = node("origin-1", "origin", &section);
    let mut metadata = MetadataMap::new();
    call_of_edge(&mut metadata).with_subscriber(edge).await;
    let header = metadata
        .get("traceparent")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        header.starts_with("00-") && header.ends_with("-01") && header.len() == 55,
        "{header}"
    );
    served_by_origin(&metadata).with_subscriber(origin).await;
    edge_telemetry.shutdown(Duration::from_secs(5)).await;
    origin_telemetry.shutdown(Duration::from_secs(5)).await;

    let received = received.lock();
    let find = |name: &str| {
        received
            .iter()
            .find(|(_, span)| span.name == name)
            .unwrap_or_else(|| panic!("no span {name} in {received:?}"))
    };
    let ((edge_resource, append), (origin_resource, serve), (_, write)) =
        (find("append"), find("serve_append"), find("write"));
    assert_eq!(received.len(), 3, "nothing but our own spans: {received:?}");
    assert_eq!(append.trace_id, serve.trace_id);
    assert_eq!(append.trace_id, write.trace_id);
    assert_eq!(serve.parent_span_id, append.span_id);
    assert_eq!(write.parent_span_id, serve.span_id);
    for (resource, node, role) in [
        (edge_resource, "edge-1", "edge"),
        (origin_resource, "origin-1", "origin"),
    ] {
        for expected in [
            ("service.name", "headwater"),
            ("service.instance.id", node),
            ("headwater.role", role),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert!(
                resource.contains(&expected),
                "{expected:?} is not in {resource:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginner_of_a_trace_decides_whether_it_is_kept() {
    let (endpoint, received) = collector().await;
    let never = TelemetrySection {
        sample_ratio: 0.0,
        ..section(&endpoint)
    };
    let (edge, edge_telemetry) = node("edge-1", "edge", &never);
    let (origin, origin_telemetry) = node("origin-1", "origin", &section(&endpoint));
    let mut metadata = MetadataMap::new();
    call_of_edge(&mut metadata)
        .with_subscriber(edge.clone())
        .await;
    assert!(
        metadata
            .get("traceparent")
            .unwrap()
            .to_str()
            .unwrap()
            .ends_with("-00")
    );
    served_by_origin(&metadata)
        .with_subscriber(origin.clone())
        .await;
    // The other way round: the origin begins, the edge follows though its own ratio is zero.
    let mut metadata = MetadataMap::new();
    call_of_edge(&mut metadata).with_subscriber(origin).await;
    served_by_origin(&metadata).with_subscriber(edge).await;
    edge_telemetry.shutdown(Duration::from_secs(5)).await;
    origin_telemetry.shutdown(Duration::from_secs(5)).await;
    let mut names: Vec<_> = received
        .lock()
        .iter()
        .map(|(_, span)| span.name.clone())
        .collect();
    names.sort();
    assert_eq!(names, ["append", "serve_append", "write"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    // Bound and dropped: nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let section = TelemetrySection {
        queue_spans: 128,
        timeout_ms: 200,
        batch_ms: 10,
        ..section(&format!("http://{nobody}"))
    };
    let (edge, telemetry) = node("edge-1", "edge", &section);
    let metrics = Metrics::new("edge-1", "edge");
    telemetry.register(&metrics);
    let start = tokio::time::Instant::now();
    tracing::dispatcher::with_default(&edge, || {
        for _ in 0..20_000 {
            tracing::info_span!("work").in_scope(|| {});
        }
    });
    let spent = start.elapsed();
    assert!(spent < Duration::from_secs(5), "20000 spans took {spent:?}");
    let start = tokio::time::Instant::now();
    telemetry.shutdown(Duration::from_secs(2)).await;
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "the end took {:?}",
        start.elapsed()
    );
    let text = metrics.encode();
    let lost = text
        .lines()
        .find(|line| line.starts_with("headwater_telemetry_spans_lost_total{"))
        .unwrap();
    assert!(
        lost.rsplit(' ').next().unwrap().parse::<u64>().unwrap() > 0,
        "{lost}"
    );
    assert!(
        text.contains("headwater_telemetry_spans_exported_total{node=\"edge-1\",role=\"edge\"} 0"),
        "{text}"
    );
}

#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_the_end() {
    // The kernel accepts, nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let section = TelemetrySection {
        timeout_ms: 60_000,
        ..section(&format!("http://{}", silent.local_addr().unwrap()))
    };
    let (edge, telemetry) = node("edge-1", "edge", &section);
    tracing::dispatcher::with_default(&edge, || tracing::info_span!("work").in_scope(|| {}));
    let start = tokio::time::Instant::now();
    telemetry.shutdown(Duration::from_millis(300)).await;
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn without_a_collector_nothing_is_propagated() {
    let (edge, telemetry) = node("edge-1", "edge", &TelemetrySection::default());
    let mut metadata = MetadataMap::new();
    call_of_edge(&mut metadata).with_subscriber(edge).await;
    assert!(metadata.is_empty(), "{metadata:?}");
    telemetry.shutdown(Duration::from_secs(1)).await;
}

#[test]
fn malformed_contexts_are_ignored() {
    use opentelemetry::trace::TraceContextExt;

    for text in [
        "",
        "x",
        "00-0-0-01",
        "00-00000000000000000000000000000000-0000000000000000-01",
        "ff-",
        "00-é",
    ] {
        let mut metadata = MetadataMap::new();
        let Ok(value) = tonic::metadata::MetadataValue::try_from(text) else {
            continue;
        };
        metadata.insert("traceparent", value);
        assert!(
            !propagation::parent_from(&metadata)
                .span()
                .span_context()
                .is_valid(),
            "{text}"
        );
        propagation::set_parent(&tracing::info_span!("work"), &metadata);
    }
    let mut metadata = MetadataMap::new();
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    metadata.insert("traceparent", header.parse().unwrap());
    let context = propagation::parent_from(&metadata);
    assert_eq!(
        context.span().span_context().trace_id().to_string(),
        "0af7651916cd43dd8448eb211c80319c"
    );
}

#[test]
fn bad_settings_are_refused_before_anything_starts() {
    let load = |text: &str| {
        crate::config::Loader::new()
            .text("edge.toml", text)
            .load::<TelemetrySection>()
    };
    for (text, key) in [
        ("otlp_endpoint = 'localhost:4317'", "otlp_endpoint"),
        ("otlp_endpoint = 'https://collector:4317'", "otlp_ca_file"),
        ("sample_ratio = 1.5", "sample_ratio"),
        ("filter = 'a=b=c'", "filter"),
        ("queue_spans = 1", "queue_spans"),
    ] {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")), "{text}: {error}");
    }
    load("otlp_endpoint = 'http://localhost:4317'").unwrap();
    let section = section("http://localhost:4317");
    let identity = Identity {
        node: String::new(),
        role: String::new(),
    };
    let outside = build(&LogSection::default(), &section, &identity).map(|_| ());
    assert!(
        matches!(outside, Err(TelemetryError::Exporter { .. })),
        "outside the runtime: {outside:?}"
    );
}
