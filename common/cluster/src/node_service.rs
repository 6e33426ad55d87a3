//! The server side of the `Node` service: tells watchers how this node is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use headwater_proto::v1;
use headwater_proto::v1::node_server::{Node, NodeServer};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::cluster::{Cluster, LocalState};

/// Bounds of the heartbeat interval that a watcher may ask for.
const INTERVAL: std::ops::RangeInclusive<u32> = 50..=10_000;

/// Where the numbers come from. Asked at every heartbeat of every watcher: has to be cheap.
pub trait LoadSource: Send + Sync + 'static {
    /// How much the node has to do.
    fn load(&self) -> v1::Load;

    /// Streams that still have to be handed over while the node drains. By default, those that are published here.
    fn remaining_streams(&self) -> u32 {
        self.load().published_streams
    }
}

impl<F: Fn() -> v1::Load + Send + Sync + 'static> LoadSource for F {
    fn load(&self) -> v1::Load {
        self()
    }
}

/// The `Node` service of this node.
#[derive(Clone)]
pub struct NodeService {
    cluster: Cluster,
    load: Arc<dyn LoadSource>,
}

impl std::fmt::Debug for NodeService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeService")
            .field("node", self.cluster.id())
            .finish_non_exhaustive()
    }
}

impl NodeService {
    /// Speaks for the node of `cluster`.
    pub fn new(cluster: Cluster, load: impl LoadSource) -> Self {
        Self {
            cluster,
            load: Arc::new(load),
        }
    }

    /// The service to add to a server.
    pub fn into_server(self) -> NodeServer<Self> {
        NodeServer::new(self)
    }

    fn status_now(&self) -> v1::NodeStatus {
        self.cluster.status(self.load.load())
    }
}

/// One watcher. Statuses are made when the transport takes them: a watcher that does not read costs nothing.
struct Heartbeats {
    service: NodeService,
    states: watch::Receiver<LocalState>,
    interval: Duration,
    next: Instant,
}

impl Heartbeats {
    async fn next(mut self) -> Option<(Result<v1::NodeStatus, Status>, Self)> {
        let shutdown = self.service.cluster.shutdown_token().clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return None,
            changed = self.states.changed() => changed.ok()?,
            () = tokio::time::sleep_until(self.next) => {}
        }
        self.next = Instant::now() + self.interval;
        Some((Ok(self.service.status_now()), self))
    }
}

#[tonic::async_trait]
impl Node for NodeService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::NodeStatus, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let interval = request
            .interval_ms
            .clamp(*INTERVAL.start(), *INTERVAL.end());
        tracing::debug!(watcher = ?request.node.chars().take(80).collect::<String>(), interval, "watched");
        let heartbeats = Heartbeats {
            service: self.clone(),
            states: self.cluster.state_changes(),
            interval: Duration::from_millis(u64::from(interval)),
            // The first at once.
            next: Instant::now(),
        };
        Ok(Response::new(Box::pin(stream::unfold(
            heartbeats,
            Heartbeats::next,
        ))))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        Ok(Response::new(self.status_now()))
    }

    async fn drain(
        &self,
        _: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        self.cluster.set_state(LocalState::Draining);
        Ok(Response::new(v1::DrainResponse {
            remaining_streams: self.load.remaining_streams(),
        }))
    }
}
