//! Origins in one process over the in-process transport, and the calls of an edge, written by hand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use headwater_cluster::config::ChannelConfig;
use headwater_cluster::server::{Listen, serve};
use headwater_cluster::{Cluster, ClusterConfig, Local, NodeId, Placement, Role, local};
use headwater_media::name::StreamName;
use headwater_node::metrics::Metrics;
use headwater_proto::v1;
use headwater_proto::v1::append_response::Response as Answer;
use headwater_proto::v1::application_client::ApplicationClient;
use headwater_proto::v1::peers_client::PeersClient;
use headwater_proto::v1::read_response::Response as Found;
use headwater_proto::v1::recordings_client::RecordingsClient;
use headwater_proto::v1::stream_log_client::StreamLogClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::{Origin, OriginSection};

/// Longer than anything that a test waits for; the clock is paused, so waiting costs nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// What every publisher's call says of its trace.
pub(super) const TRACEPARENT: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) origin: Origin,
    pub(super) cluster: Cluster,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
    connector: local::LocalConnector,
    pub(super) data: tempfile::TempDir,
}

/// Nodes that can reach each other, and an edge that can reach them all.
pub(super) struct Bench {
    pub(super) nodes: BTreeMap<&'static str, Node>,
    edge: Cluster,
    _stop: tokio_util::sync::DropGuard,
}

fn config(ids: &[&str]) -> ClusterConfig {
    ClusterConfig {
        // Nothing listens there: nodes meet in memory or not at all.
        members: ids.iter().map(|id| format!("{id}=127.0.0.1:1")).collect(),
        // Small, so that a caller that does not read is soon noticed.
        channel: ChannelConfig {
            stream_window: 64 << 10,
            connection_window: 8 << 20,
            ..ChannelConfig::default()
        },
        ..ClusterConfig::default()
    }
}

pub(super) fn section() -> OriginSection {
    OriginSection {
        retention_ms: 1_000,
        retention_bytes: 1 << 20,
        ..OriginSection::default()
    }
}

impl Bench {
    pub(super) async fn one() -> Self {
        Self::start(&["a"], section()).await
    }

    pub(super) async fn start(ids: &[&'static str], section: OriginSection) -> Self {
        let bench = Self::apart(ids, section).await;
        for id in ids {
            bench.connect(id);
        }
        for node in bench.nodes.values() {
            let all = || {
                let view = node.cluster.view();
                ids.iter().all(|id| {
                    let id = NodeId::new(id).unwrap();
                    view.availability(&id) == headwater_cluster::Availability::Available
                })
            };
            let mut changes = node.cluster.changes();
            let met = async {
                while !all() {
                    changes.changed().await.unwrap();
                }
            };
            tokio::time::timeout(PATIENCE, met)
                .await
                .expect("the nodes did not meet");
        }
        bench
    }

    /// Nodes of one cluster that only the edge can reach.
    pub(super) async fn apart(ids: &[&'static str], section: OriginSection) -> Self {
        let stop = CancellationToken::new();
        let config = config(ids);
        let mut nodes = BTreeMap::new();
        let edge = Local {
            id: NodeId::new("edge").unwrap(),
            role: Role::Edge,
        };
        let edge = Cluster::start(config.clone(), edge, None, stop.child_token()).unwrap();
        for id in ids {
            let stop = stop.child_token();
            let data = tempfile::tempdir().unwrap();
            let local = Local {
                id: NodeId::new(id).unwrap(),
                role: Role::Origin,
            };
            let cluster =
                Cluster::start(config.clone(), local.clone(), None, stop.clone()).unwrap();
            let metrics = Metrics::new(id, "origin");
            let section = OriginSection {
                data_dir: data.path().to_owned(),
                ..section.clone()
            };
            let origin = Origin::new(&section, cluster.clone(), &metrics, stop.clone())
                .await
                .unwrap();
            let (connector, incoming) = local::pair();
            let listen = Listen {
                tcp: None,
                local: Some(incoming),
            };
            let serving = {
                let (routes, config, stop) = (origin.routes(), config.clone(), stop.clone());
                async move { serve(routes, listen, None, &config, stop, PATIENCE).await }
            };
            tokio::spawn(serving);
            edge.register_local(local.id.clone(), connector.clone());
            nodes.insert(
                *id,
                Node {
                    id: local.id,
                    origin,
                    cluster,
                    metrics,
                    stop,
                    connector,
                    data,
                },
            );
        }
        tokio::time::timeout(PATIENCE, edge.ready()).await.unwrap();
        Self {
            nodes,
            edge,
            _stop: stop.drop_guard(),
        }
    }

    /// Every other node can reach this one from now on.
    pub(super) fn connect(&self, id: &str) {
        let node = &self.nodes[id];
        for other in self.nodes.values().filter(|other| other.id != node.id) {
            other
                .cluster
                .register_local(node.id.clone(), node.connector.clone());
        }
    }

    /// Streams that belong to this node while all are there.
    pub(super) fn streams_of(&self, id: &str) -> Vec<StreamName> {
        let view = self.edge.view();
        (0..1_000)
            .map(|number| name(&format!("stream-{number}")))
            .filter(|name| view.candidates(name)[0].id.as_str() == id)
            .collect()
    }

    pub(super) fn stream_of(&self, id: &str) -> StreamName {
        self.streams_of(id).swap_remove(0)
    }

    pub(super) fn client(&self, id: &str) -> StreamLogClient<Channel> {
        let channel = self.edge.channel(&self.nodes[id].id, 0).unwrap();
        StreamLogClient::new(channel).max_decoding_message_size(32 << 20)
    }

    pub(super) fn recordings(&self, id: &str) -> RecordingsClient<Channel> {
        let channel = self.edge.channel(&self.nodes[id].id, 0).unwrap();
        RecordingsClient::new(channel).max_decoding_message_size(32 << 20)
    }

    pub(super) fn peers(&self, id: &str) -> PeersClient<Channel> {
        let channel = self.edge.channel(&self.nodes[id].id, 0).unwrap();
        PeersClient::new(channel)
    }

    pub(super) fn applications(&self, id: &str) -> ApplicationClient<Channel> {
        let channel = self.edge.channel(&self.nodes[id].id, 0).unwrap();
        ApplicationClient::new(channel).max_decoding_message_size(32 << 20)
    }

    /// The node that a stream belongs to while all are there.
    pub(super) fn owner_of(&self, name: &StreamName) -> NodeId {
        self.edge.view().candidates(name)[0].id.clone()
    }

    pub(super) async fn publish(&self, node: &str, name: &StreamName, publisher: u8) -> Publisher {
        Publisher::open(self.client(node), append_open(name, publisher)).await
    }

    pub(super) async fn read(&self, node: &str, name: &StreamName) -> Viewer {
        Viewer::open(self.client(node), read_open(name)).await
    }

    pub(super) async fn placed_at(&self, node: &str, name: &StreamName, owner: &str) {
        let cluster = &self.nodes[node].cluster;
        let mut changes = cluster.changes();
        let moved = async {
            loop {
                match cluster.view().placement(name, &[]) {
                    Placement::Elsewhere(member) if member.id.as_str() == owner => return,
                    Placement::Own if node == owner => return,
                    _ => changes.changed().await.unwrap(),
                }
            }
        };
        tokio::time::timeout(PATIENCE, moved)
            .await
            .expect("the view did not change");
    }

    /// The value of a metric without labels of its own.
    pub(super) fn metric(&self, node: &str, metric: &str) -> String {
        self.metric_of(node, "origin", metric)
    }

    /// The same of another room.
    pub(super) fn metric_of(&self, node: &str, room: &str, metric: &str) -> String {
        let text = self.nodes[node].metrics.encode();
        let start = format!("headwater_{room}_{metric}{{node=");
        let line = text.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no {metric} in\n{text}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }
}

pub(super) fn name(stream: &str) -> StreamName {
    StreamName::new("_defaultVHost_", "live", "_definst_", stream).unwrap()
}

pub(super) fn wire_name(name: &StreamName) -> v1::StreamName {
    v1::StreamName {
        vhost: name.vhost.clone(),
        app: name.app.clone(),
        instance: name.instance.clone(),
        stream: name.stream.clone(),
    }
}

pub(super) fn append_open(name: &StreamName, publisher: u8) -> v1::AppendOpen {
    v1::AppendOpen {
        name: Some(wire_name(name)),
        mode: v1::PublishMode::Live.into(),
        publisher_id: vec![publisher; 16].into(),
        edge: "edge".to_owned(),
        ..v1::AppendOpen::default()
    }
}

pub(super) fn resume(
    name: &StreamName,
    publisher: u8,
    epoch: u64,
    sequence: u64,
) -> v1::AppendOpen {
    v1::AppendOpen {
        resume: Some(v1::Offset { epoch, sequence }),
        ..append_open(name, publisher)
    }
}

pub(super) fn read_open(name: &StreamName) -> v1::ReadOpen {
    v1::ReadOpen {
        name: Some(wire_name(name)),
        position: Some(v1::read_open::Position::Live(v1::LivePosition {})),
        edge: "edge".to_owned(),
        ..v1::ReadOpen::default()
    }
}

/// A codec header first, then a video frame every 40 ms with a key frame every ten.
pub(super) fn frame(sequence: u64, size: usize) -> v1::Frame {
    let flags = match sequence {
        0 => 2,
        _ if sequence % 10 == 1 => 1,
        _ => 0,
    };
    v1::Frame {
        sequence,
        timestamp: sequence * 40,
        kind: v1::FrameKind::Video.into(),
        flags,
        payload: Bytes::from(vec![u8::try_from(sequence % 256).unwrap(); size]),
    }
}

pub(super) struct Publisher {
    requests: Option<mpsc::Sender<v1::AppendRequest>>,
    answers: Streaming<v1::AppendResponse>,
    pub(super) epoch: u64,
}

impl Publisher {
    pub(super) async fn open(client: StreamLogClient<Channel>, open: v1::AppendOpen) -> Self {
        Self::start(client, v1::append_request::Request::Open(open)).await
    }

    pub(super) async fn start(
        mut client: StreamLogClient<Channel>,
        request: v1::append_request::Request,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(64);
        let mut call = Request::new(ReceiverStream::new(receiver));
        call.metadata_mut()
            .insert("traceparent", TRACEPARENT.parse().unwrap());
        let publisher = Self {
            requests: Some(requests),
            answers: client.append(call).await.unwrap().into_inner(),
            epoch: 0,
        };
        publisher.send(request).await;
        publisher
    }

    pub(super) async fn send(&self, request: v1::append_request::Request) {
        let request = v1::AppendRequest {
            request: Some(request),
        };
        // The call may have ended.
        let _ = self.requests.as_ref().unwrap().send(request).await;
    }

    /// The next answer, acknowledgements included; `None` at the end.
    pub(super) async fn answer(&mut self) -> Result<Option<Answer>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        Ok(next
            .expect("no answer")?
            .map(|answer| answer.response.unwrap()))
    }

    /// The next answer that is no acknowledgement.
    pub(super) async fn told(&mut self) -> Answer {
        loop {
            match self.answer().await.unwrap().expect("the call has ended") {
                Answer::Acknowledged(_) => {}
                answer => return answer,
            }
        }
    }

    pub(super) async fn accepted(&mut self) -> v1::AppendAccepted {
        match self.told().await {
            Answer::Accepted(accepted) => {
                self.epoch = accepted.epoch;
                accepted
            }
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub(super) async fn rejected(&mut self) -> v1::RejectReason {
        match self.told().await {
            Answer::Rejected(rejected) => {
                assert!(!rejected.description.is_empty());
                assert_eq!(
                    self.answer().await.unwrap(),
                    None,
                    "a rejection is the last answer"
                );
                rejected.reason()
            }
            other => panic!("not rejected: {other:?}"),
        }
    }

    /// How the call ends.
    pub(super) async fn end(&mut self) -> Status {
        loop {
            match self.answer().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    pub(super) async fn push(&self, range: Range<u64>) {
        self.push_sized(range, 100).await;
    }

    pub(super) async fn push_sized(&self, range: Range<u64>, size: usize) {
        let batch = v1::FrameBatch {
            epoch: self.epoch,
            frames: range.map(|sequence| frame(sequence, size)).collect(),
        };
        self.send(v1::append_request::Request::Frames(batch)).await;
    }

    /// Waits until all frames before `sequence` are accepted.
    pub(super) async fn acknowledged(&mut self, sequence: u64) {
        loop {
            match self.answer().await.unwrap().expect("the call has ended") {
                Answer::Acknowledged(it) => {
                    assert_eq!(it.accepted, it.durable);
                    assert!(it.accepted <= sequence);
                    if it.accepted == sequence {
                        return;
                    }
                }
                other => panic!("not acknowledged: {other:?}"),
            }
        }
    }

    pub(super) async fn close(&self, reason: v1::CloseReason, moved: Option<v1::Moved>) {
        let close = v1::AppendClose {
            reason: reason.into(),
            moved,
        };
        self.send(v1::append_request::Request::Close(close)).await;
    }
}

pub(super) struct Viewer {
    found: Streaming<v1::ReadResponse>,
    pub(super) opened: v1::ReadOpened,
    /// The next frame.
    pub(super) next: v1::Offset,
    _requests: mpsc::Sender<v1::ReadRequest>,
}

impl Viewer {
    pub(super) async fn open(client: StreamLogClient<Channel>, open: v1::ReadOpen) -> Self {
        let mut viewer = Self::start(client, v1::read_request::Request::Open(open)).await;
        match viewer.find().await {
            Found::Opened(opened) => viewer.opened = opened,
            other => panic!("not opened: {other:?}"),
        }
        viewer
    }

    pub(super) async fn start(
        mut client: StreamLogClient<Channel>,
        request: v1::read_request::Request,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(4);
        let request = v1::ReadRequest {
            request: Some(request),
        };
        requests.send(request).await.unwrap();
        Self {
            found: client
                .read(ReceiverStream::new(receiver))
                .await
                .unwrap()
                .into_inner(),
            opened: v1::ReadOpened::default(),
            next: v1::Offset::default(),
            _requests: requests,
        }
    }

    pub(super) async fn try_find(&mut self) -> Result<Option<Found>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.found.message()).await;
        Ok(next
            .expect("nothing to read")?
            .map(|found| found.response.unwrap()))
    }

    pub(super) async fn find(&mut self) -> Found {
        self.try_find().await.unwrap().expect("the call has ended")
    }

    /// Reads frames until the one before `end`; gives the sequence of the first. There must be no hole and nothing else.
    pub(super) async fn frames_until(&mut self, end: u64) -> u64 {
        let mut first = None;
        loop {
            match self.find().await {
                Found::Frames(batch) => {
                    for frame in &batch.frames {
                        let due = v1::Offset {
                            epoch: batch.epoch,
                            sequence: frame.sequence,
                        };
                        if first.is_some() || self.next.epoch == batch.epoch {
                            assert_eq!(due, self.next);
                        }
                        first.get_or_insert(frame.sequence);
                        self.next = v1::Offset {
                            sequence: frame.sequence + 1,
                            ..due
                        };
                    }
                    if self.next.sequence >= end {
                        assert_eq!(self.next.sequence, end);
                        return first.unwrap();
                    }
                }
                other => panic!("no frames: {other:?}"),
            }
        }
    }

    pub(super) async fn status(&mut self) -> (v1::StreamState, u64) {
        match self.find().await {
            Found::Status(status) => (status.state(), status.epoch),
            other => panic!("no status: {other:?}"),
        }
    }

    pub(super) async fn moved(&mut self) -> v1::Moved {
        match self.find().await {
            Found::Moved(moved) => {
                assert_eq!(
                    self.try_find().await.unwrap(),
                    None,
                    "moved is the last answer"
                );
                moved
            }
            other => panic!("not moved: {other:?}"),
        }
    }
}
