//! Origins in one process whose stores, files and recordings are made up.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_cluster::node_service::{LoadSource, NodeService};
use headwater_cluster::server::{Listen, serve};
use headwater_cluster::{Availability, Cluster, ClusterConfig, Local, NodeId, Role, local};
use headwater_media::name::StreamName;
use headwater_node::metrics::Metrics;
use headwater_proto::v1::recordings_client::RecordingsClient;
use headwater_proto::v1::stream_log_client::StreamLogClient;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::Channel;

use super::*;
use crate::log::table::LogTable;
use crate::metrics::OriginMetrics;
use crate::record::recordings::NoRecordings;
use crate::rpc::StreamLogService;
use crate::rpc::recordings::{Recording, RecordingIndex, RecordingsService, Rejection};
use crate::rpc::tests::bench::section;
use crate::vod::library::tests::fakes::{FakeFormats, FakeStore};
use crate::vod::library::{FileStore, Library, OpenMedia};
use crate::vod::metrics::VodMetrics;

/// Longer than anything that a test waits for; the clock is paused, so waiting costs nothing.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Node {
    id: NodeId,
    pub(super) cluster: Cluster,
    pub(super) store: Arc<FakeStore>,
    pub(super) formats: Arc<FakeFormats>,
    pub(super) index: Arc<FakeIndex>,
    pub(super) stop: CancellationToken,
    metrics: Metrics,
    connector: local::LocalConnector,
}

pub(super) struct Bench {
    pub(super) nodes: BTreeMap<&'static str, Node>,
    edge: Cluster,
    _stop: tokio_util::sync::DropGuard,
}

impl Bench {
    pub(super) async fn one() -> Self {
        Self::start(&["a"], VodSection::default()).await
    }

    /// Nodes that can reach each other, and an edge that can reach them all.
    pub(super) async fn start(ids: &[&'static str], vod: VodSection) -> Self {
        let stop = CancellationToken::new();
        let config = ClusterConfig {
            // Nothing listens there: nodes meet in memory.
            members: ids.iter().map(|id| format!("{id}=127.0.0.1:1")).collect(),
            ..ClusterConfig::default()
        };
        let start = |id: &str, role, stop: &CancellationToken| {
            let id = NodeId::new(id).unwrap();
            Cluster::start(config.clone(), Local { id, role }, None, stop.clone()).unwrap()
        };
        let edge = start("edge", Role::Edge, &stop.child_token());
        let mut nodes = BTreeMap::new();
        for id in ids {
            let stop = stop.child_token();
            let node = Node::start(id, start(id, Role::Origin, &stop), &config, &vod, stop);
            edge.register_local(node.id.clone(), node.connector.clone());
            nodes.insert(*id, node);
        }
        for node in nodes.values() {
            for other in nodes.values().filter(|other| other.id != node.id) {
                other
                    .cluster
                    .register_local(node.id.clone(), node.connector.clone());
            }
        }
        for node in nodes.values() {
            let mut changes = node.cluster.changes();
            let met = async {
                while !nodes.values().all(|other| {
                    node.cluster.view().availability(&other.id) == Availability::Available
                }) {
                    changes.changed().await.unwrap();
                }
            };
            tokio::time::timeout(PATIENCE, met).await.unwrap();
        }
        tokio::time::timeout(PATIENCE, edge.ready()).await.unwrap();
        Self {
            nodes,
            edge,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) fn client(&self, id: &str) -> RecordingsClient<Channel> {
        RecordingsClient::new(self.edge.channel(&self.nodes[id].id, 0).unwrap())
    }

    pub(super) fn streams(&self, id: &str) -> StreamLogClient<Channel> {
        StreamLogClient::new(self.edge.channel(&self.nodes[id].id, 0).unwrap())
    }

    pub(super) fn stream_of(&self, id: &str) -> StreamName {
        let view = self.edge.view();
        let mut names = (0..1_000).map(|number| name(&format!("stream-{number}")));
        let found = names.find(|name| view.candidates(name)[0].id.as_str() == id);
        found.unwrap()
    }

    pub(super) async fn describe(
        &self,
        node: &str,
        request: v1::DescribeRequest,
    ) -> Result<Described, Status> {
        let answer = self.client(node).describe(request).await?;
        Ok(answer.into_inner().response.unwrap())
    }

    pub(super) async fn fetch(
        &self,
        node: &str,
        request: v1::FetchRequest,
    ) -> Result<Fetched, Status> {
        let answer = self.client(node).fetch(request).await?;
        Ok(answer.into_inner().response.unwrap())
    }

    pub(super) async fn description(&self, node: &str, name: &StreamName) -> v1::StreamDescription {
        match self.describe(node, describe(name)).await.unwrap() {
            Described::Description(description) => description,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(super) async fn generation(&self, node: &str, name: &StreamName) -> u64 {
        let description = self.description(node, name).await;
        description.stored.unwrap().generation
    }

    pub(super) async fn piece(&self, node: &str, request: v1::FetchRequest) -> v1::Piece {
        match self.fetch(node, request).await.unwrap() {
            Fetched::Piece(piece) => piece,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn rejected(
        &self,
        node: &str,
        request: v1::FetchRequest,
    ) -> v1::RecordingRejected {
        match self.fetch(node, request).await.unwrap() {
            Fetched::Rejected(rejected) => rejected,
            other => panic!("{other:?}"),
        }
    }

    /// The value of a metric without labels of its own.
    pub(super) fn metric(&self, node: &str, metric: &str) -> String {
        let text = self.nodes[node].metrics.encode();
        let start = format!("headwater_origin_{metric}{{node=");
        let line = text.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no {metric} in\n{text}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

impl Node {
    fn start(
        id: &str,
        cluster: Cluster,
        config: &ClusterConfig,
        vod: &VodSection,
        stop: CancellationToken,
    ) -> Self {
        let metrics = Metrics::new(id, "origin");
        let tasks = TaskTracker::new();
        let logs = LogTable::new(
            &section(),
            OriginMetrics::new(&metrics),
            tasks.clone(),
            stop.clone(),
        );
        let streams = StreamLogService {
            cluster: cluster.clone(),
            logs,
            recordings: Arc::new(NoRecordings),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let (store, formats, index) = (
            Arc::new(FakeStore::default()),
            Arc::new(FakeFormats::default()),
            Arc::new(FakeIndex::default()),
        );
        let vod_metrics = VodMetrics::new(&metrics);
        let library = Library::new(
            vod,
            Arc::clone(&store) as Arc<dyn FileStore>,
            Arc::clone(&formats) as Arc<dyn OpenMedia>,
            vod_metrics.clone(),
            &tasks,
            stop.clone(),
        );
        let recordings = RecordingsService::new(
            streams.clone(),
            Some(Arc::clone(&index) as Arc<dyn RecordingIndex>),
            library,
            vod_metrics,
            vod.max_calls,
        );
        let node = NodeService::new(cluster.clone(), NoLoad);
        let routes = Routes::new(streams.into_server())
            .add_service(recordings.into_server())
            .add_service(node.into_server());
        let (connector, incoming) = local::pair();
        let listen = Listen {
            tcp: None,
            local: Some(incoming),
        };
        let (config, until) = (config.clone(), stop.clone());
        tokio::spawn(async move { serve(routes, listen, None, &config, until, PATIENCE).await });
        Self {
            id: NodeId::new(id).unwrap(),
            cluster,
            store,
            formats,
            index,
            stop,
            metrics,
            connector,
        }
    }
}

struct NoLoad;

impl LoadSource for NoLoad {
    fn load(&self) -> v1::Load {
        v1::Load::default()
    }
}

pub(super) fn describe(name: &StreamName) -> v1::DescribeRequest {
    v1::DescribeRequest {
        name: Some(wire_name(name)),
        edge: "edge".to_owned(),
        ..v1::DescribeRequest::default()
    }
}

pub(super) fn fetch(name: &StreamName, generation: u64, position: Position) -> v1::FetchRequest {
    v1::FetchRequest {
        name: Some(wire_name(name)),
        generation,
        position: Some(position),
        edge: "edge".to_owned(),
        ..v1::FetchRequest::default()
    }
}

/// Recordings that a test has put there.
#[derive(Default)]
pub(super) struct FakeIndex {
    recordings: Mutex<HashMap<StreamName, Arc<FakeRecording>>>,
    infos: Mutex<HashMap<StreamName, v1::StreamInfo>>,
    failing: AtomicBool,
    hanging: AtomicBool,
}

struct FakeRecording {
    generation: u64,
    growing: bool,
}

impl FakeIndex {
    pub(super) fn put(&self, name: &StreamName, generation: u64, growing: bool) {
        let recording = FakeRecording {
            generation,
            growing,
        };
        self.recordings
            .lock()
            .insert(name.clone(), Arc::new(recording));
    }

    pub(super) fn remove(&self, name: &StreamName) {
        self.recordings.lock().remove(name).unwrap();
    }

    pub(super) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    pub(super) fn hang(&self) {
        self.hanging.store(true, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl RecordingIndex for FakeIndex {
    async fn find(&self, name: &StreamName) -> Result<Option<Arc<dyn Recording>>, Rejection> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Rejection::new(RecordingReason::Unavailable, "on purpose"));
        }
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let found = self.recordings.lock().get(name).cloned();
        Ok(found.map(|found| found as Arc<dyn Recording>))
    }

    async fn info(&self, name: &StreamName) -> Result<Option<v1::StreamInfo>, Rejection> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Rejection::new(RecordingReason::Unavailable, "on purpose"));
        }
        if self.hanging.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok(self.last_info(name))
    }

    fn last_info(&self, name: &StreamName) -> Option<v1::StreamInfo> {
        self.infos.lock().get(name).copied()
    }

    async fn set_info(&self, name: &StreamName, info: &v1::StreamInfo) -> Result<(), Rejection> {
        if self.failing.load(Ordering::Relaxed) {
            return Err(Rejection::new(RecordingReason::Unavailable, "on purpose"));
        }
        self.infos.lock().insert(name.clone(), *info);
        Ok(())
    }
}

#[tonic::async_trait]
impl Recording for FakeRecording {
    fn stored(&self) -> v1::Stored {
        v1::Stored {
            generation: self.generation,
            start_ms: 10_000,
            end_ms: 12_000,
            bytes: 100,
            growing: self.growing,
            has_audio: true,
            has_video: true,
        }
    }

    async fn piece(&self, _: Position) -> Result<v1::Piece, Rejection> {
        Ok(v1::Piece {
            generation: self.generation,
            follows: Follows::Live.into(),
            start_ms: 10_000,
            end_ms: 12_000,
            ..v1::Piece::default()
        })
    }
}
