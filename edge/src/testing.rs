//! What tests share: origins in one process over the in-process transport, and an edge that can reach them all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::node_service::NodeService;
use headwater_cluster::server::{Listen, serve};
use headwater_cluster::{Cluster, ClusterConfig, Local, NodeId, Role, local};
use headwater_media::name::StreamName;
use headwater_node::metrics::Metrics;
use headwater_proto::v1;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;

use crate::config::UpstreamSection;
use crate::hub::{HubTable, RingLimits};
use crate::metrics::EdgeMetrics;
use crate::upstream::Upstream;

pub(crate) mod application;
pub(crate) mod client;
pub(crate) mod owner;

/// Longer than anything that a test waits for; on a paused clock waiting costs nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Origins, and an edge that can reach them all.
pub(crate) struct Origins {
    pub(crate) upstream: Arc<Upstream>,
    /// Cancelled when this is dropped.
    pub(crate) stop: CancellationToken,
    nodes: BTreeMap<&'static str, CancellationToken>,
    metrics: Metrics,
    _stop: DropGuard,
}

impl Origins {
    /// Starts origins with these ids; `serve_on` adds what they serve beside their own state.
    pub(crate) async fn start(
        ids: &[&'static str],
        section: UpstreamSection,
        serve_on: impl Fn(&'static str, Routes) -> Routes,
    ) -> Self {
        let stop = CancellationToken::new();
        let config = ClusterConfig {
            // Nothing listens there: nodes meet in memory or not at all.
            members: ids.iter().map(|id| format!("{id}=127.0.0.1:1")).collect(),
            ..ClusterConfig::default()
        };
        let start = |id: &str, role, stop| {
            let id = NodeId::new(id).unwrap();
            Cluster::start(config.clone(), Local { id, role }, None, stop).unwrap()
        };
        let cluster = start("edge", Role::Edge, stop.child_token());
        let mut nodes = BTreeMap::new();
        for id in ids {
            let node_stop = stop.child_token();
            let origin = start(id, Role::Origin, node_stop.clone());
            let service = NodeService::new(origin, v1::Load::default);
            let routes = serve_on(id, Routes::new(service.into_server()));
            let (connector, incoming) = local::pair();
            let listen = Listen {
                tcp: None,
                local: Some(incoming),
            };
            let (config, stop) = (config.clone(), node_stop.clone());
            tokio::spawn(async move {
                serve(routes, listen, None, &config, stop, Duration::ZERO).await
            });
            cluster.register_local(NodeId::new(id).unwrap(), connector);
            nodes.insert(*id, node_stop);
        }
        tokio::time::timeout(PATIENCE, cluster.ready())
            .await
            .unwrap();
        let metrics = Metrics::new("edge", "edge");
        let limits = RingLimits {
            duration_ms: 1_000,
            bytes: 1 << 20,
            entries: 1_000,
        };
        let upstream = Arc::new(Upstream {
            cluster,
            config: section,
            hubs: HubTable::new(limits, 10),
            metrics: EdgeMetrics::new(&metrics),
            chunk_size: 4_096,
            node: "edge".to_owned(),
        });
        Self {
            upstream,
            stop: stop.clone(),
            nodes,
            metrics,
            _stop: stop.drop_guard(),
        }
    }

    /// As SIGKILL: its calls are cut.
    pub(crate) fn kill(&self, id: &str) {
        self.nodes[id].cancel();
    }

    /// Streams that belong to this origin while all are there.
    pub(crate) fn streams_of(&self, id: &str) -> impl Iterator<Item = StreamName> {
        let view = self.upstream.cluster.view();
        let wanted = id.to_owned();
        (0..1_000)
            .map(|number| name(&format!("show-{number}")))
            .filter(move |name| view.candidates(name)[0].id.as_str() == wanted)
    }

    pub(crate) fn stream_of(&self, id: &str) -> StreamName {
        self.streams_of(id).next().unwrap()
    }

    /// The value of the first sample of a metric of the edge.
    pub(crate) fn metric(&self, metric: &str) -> f64 {
        let text = self.metrics.encode();
        let start = format!("headwater_edge_{metric}{{");
        let line = text.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no {metric} in\n{text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

pub(crate) fn name(stream: &str) -> StreamName {
    StreamName::new("_defaultVHost_", "vod", "_definst_", stream).unwrap()
}
