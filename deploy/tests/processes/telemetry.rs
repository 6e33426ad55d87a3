//! Traces: what is published at one edge and played at another is one trace over three processes, seen by a collector that
//! speaks OTLP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use parking_lot::Mutex;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::cluster::{Cluster, Plan};
use crate::support::wait::{eventually, runtime, until};

/// A span as it came.
#[derive(Clone, Debug)]
struct Seen {
    node: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
}

#[derive(Clone, Default)]
struct Collector {
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for part in request.into_inner().resource_spans {
            let node = part.resource.and_then(node_of).unwrap_or_default();
            for span in part.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.seen.lock().push(Seen {
                    node: node.clone(),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn node_of(resource: Resource) -> Option<String> {
    resource.attributes.into_iter().find_map(|attribute| {
        match (attribute.key.as_str(), attribute.value?.value?) {
            ("service.instance.id", Value::StringValue(node)) => Some(node),
            _ => None,
        }
    })
}

/// A collector on a free port: its address, and what it has seen.
fn collector() -> (String, Collector) {
    let collector = Collector::default();
    let service = TraceServiceServer::new(collector.clone());
    let address = runtime().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its number");
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        address
    });
    (format!("http://{address}"), collector)
}

fn traced(endpoint: &str) -> Plan {
    let keys = [
        format!("telemetry.otlp_endpoint={endpoint}"),
        "telemetry.sample_ratio=1.0".to_owned(),
        "telemetry.batch_ms=100".to_owned(),
        "telemetry.timeout_ms=500".to_owned(),
    ];
    Plan {
        origins: 2,
        edges: 2,
        flags: keys
            .into_iter()
            .flat_map(|key| ["--set".to_owned(), key])
            .collect(),
        ..Plan::default()
    }
}

#[test]
fn publishing_and_playing_are_one_trace_over_three_nodes() {
    let (endpoint, collector) = collector();
    let mut cluster = Cluster::with(&traced(&endpoint));
    let name = &cluster.names(1)[0];
    let viewer = Viewer::start(&cluster.url(1, name));
    let publisher = Publisher::start(&cluster.url(0, name), light());
    viewer.wait_for(30, Duration::from_secs(5));
    publisher.finish();
    until("the end is told", Duration::from_secs(5), || {
        viewer.has_status("NetStream.Play.UnpublishNotify")
    });
    drop(viewer);

    let wanted: BTreeSet<&str> = ["e1", "o1", "e2"].into();
    let spans = eventually(
        "one trace has all three nodes",
        Duration::from_secs(20),
        || {
            let seen = collector.seen.lock().clone();
            let mut traces: BTreeMap<Vec<u8>, Vec<Seen>> = BTreeMap::new();
            for span in seen {
                traces.entry(span.trace.clone()).or_default().push(span);
            }
            traces.into_values().find(|spans| {
                let nodes: BTreeSet<&str> = spans.iter().map(|span| span.node.as_str()).collect();
                nodes.is_superset(&wanted)
            })
        },
    );
    let ids: BTreeSet<_> = spans.iter().map(|span| &span.id).collect();
    let parents_elsewhere = spans
        .iter()
        .filter(|span| ids.contains(&span.parent))
        .count();
    for span in &spans {
        println!("{} {}", span.node, span.name);
    }
    assert!(
        parents_elsewhere >= 2,
        "spans hang together by their parents: {spans:#?}"
    );
}

#[test]
fn a_collector_that_is_not_there_disturbs_nobody() {
    let mut cluster = Cluster::with(&traced("http://127.0.0.1:1"));
    let viewer = Viewer::start(&cluster.url(1, "untraced"));
    let publisher = Publisher::start(&cluster.url(0, "untraced"), light());
    viewer.wait_for(60, Duration::from_secs(5));
    publisher.finish();
    let edge = &mut cluster.edges[0];
    until("spans are counted as lost", Duration::from_secs(10), || {
        edge.metric("headwater_telemetry_spans_lost_total") > 0.0
    });
    edge.terminate();
    assert!(edge.wait_exit(Duration::from_secs(10)).success());
}
