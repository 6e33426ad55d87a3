//! Nodes to start, kill, hang and bring back.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use headwater_cluster::config::ClusterConfig;
use headwater_cluster::node_service::NodeService;
use headwater_cluster::server::{Listen, ServerError, serve};
use headwater_cluster::{Availability, Cluster, Identity, Local, NodeId, Role};
use headwater_proto::v1;
use headwater_proto::v1::node_server::{Node, NodeServer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// Longest wait for what has to happen at some time. A test that passes waits for less.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn id(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(crate) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Binds the address of a node that was killed a moment ago.
pub(crate) async fn bind_again(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{address}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A configuration whose members are `(id, address)`.
pub(crate) fn config(members: &[(&str, SocketAddr)]) -> ClusterConfig {
    ClusterConfig {
        members: members
            .iter()
            .map(|(id, address)| format!("{id}={address}"))
            .collect(),
        ..ClusterConfig::default()
    }
}

pub(crate) fn edge(
    config: ClusterConfig,
    identity: Option<Identity>,
) -> (Cluster, CancellationToken) {
    let shutdown = CancellationToken::new();
    let local = Local {
        id: id("edge"),
        role: Role::Edge,
    };
    let cluster = Cluster::start(config, local, identity, shutdown.clone()).unwrap();
    (cluster, shutdown)
}

/// An origin that serves nothing but `Node`.
pub(crate) struct Origin {
    pub(crate) cluster: Cluster,
    pub(crate) shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServerError>>,
}

impl Origin {
    pub(crate) fn start(
        name: &str,
        listener: TcpListener,
        config: ClusterConfig,
        identity: Option<Identity>,
    ) -> Self {
        let shutdown = CancellationToken::new();
        let local = Local {
            id: id(name),
            role: Role::Origin,
        };
        let cluster = Cluster::start(config, local, identity.clone(), shutdown.clone()).unwrap();
        let service = NodeService::new(cluster.clone(), || v1::Load {
            published_streams: 3,
            readers: 5,
        });
        let routes = Routes::new(service.into_server());
        let listen = Listen {
            tcp: Some(listener),
            local: None,
        };
        let (config, stop) = (cluster.config().clone(), shutdown.clone());
        let serving = tokio::spawn(async move {
            serve(
                routes,
                listen,
                identity,
                &config,
                stop,
                Duration::from_secs(5),
            )
            .await
        });
        Self {
            cluster,
            shutdown,
            serving,
        }
    }

    /// As SIGKILL: every socket is closed, nobody is told.
    pub(crate) fn kill(self) {
        self.serving.abort();
        self.shutdown.cancel();
    }

    /// As SIGTERM.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        self.cluster.stopped().await;
    }
}

/// A node that can be hung: it then keeps its connections and says nothing.
pub(crate) struct Puppet {
    pub(crate) hung: watch::Sender<bool>,
    serving: JoinHandle<Result<(), ServerError>>,
}

impl Puppet {
    pub(crate) fn start(name: &str, listener: TcpListener) -> Self {
        let hung = watch::Sender::new(false);
        let service = PuppetService {
            name: name.into(),
            hung: hung.subscribe(),
        };
        let routes = Routes::new(NodeServer::new(service));
        let listen = Listen {
            tcp: Some(listener),
            local: None,
        };
        let serving = tokio::spawn(async move {
            let stop = CancellationToken::new();
            serve(
                routes,
                listen,
                None,
                &ClusterConfig::default(),
                stop,
                Duration::ZERO,
            )
            .await
        });
        Self { hung, serving }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct PuppetService {
    name: Arc<str>,
    hung: watch::Receiver<bool>,
}

impl PuppetService {
    async fn status_when_awake(name: &str, mut hung: watch::Receiver<bool>) -> v1::NodeStatus {
        let _ = hung.wait_for(|hung| !hung).await;
        v1::NodeStatus {
            node: name.to_owned(),
            incarnation: 1,
            state: v1::NodeState::Serving.into(),
            ..v1::NodeStatus::default()
        }
    }
}

#[tonic::async_trait]
impl Node for PuppetService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::NodeStatus, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let interval = Duration::from_millis(u64::from(request.into_inner().interval_ms));
        let (name, hung) = (Arc::clone(&self.name), self.hung.clone());
        let heartbeats = stream::iter(0_u32..).then(move |count| {
            let (name, hung) = (Arc::clone(&name), hung.clone());
            async move {
                if count > 0 {
                    tokio::time::sleep(interval).await;
                }
                Ok(Self::status_when_awake(&name, hung).await)
            }
        });
        Ok(Response::new(Box::pin(heartbeats)))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        Ok(Response::new(
            Self::status_when_awake(&self.name, self.hung.clone()).await,
        ))
    }

    async fn drain(
        &self,
        _: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainResponse>, Status> {
        Err(Status::unimplemented("a puppet"))
    }
}

/// Waits until `cluster` sees `node` so, and tells how long that took.
pub(crate) async fn until(cluster: &Cluster, node: &str, wanted: Availability) -> Duration {
    let (start, node) = (Instant::now(), id(node));
    let mut changes = cluster.changes();
    let waiting = async {
        while cluster.view().availability(&node) != wanted {
            changes.changed().await.unwrap();
        }
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(
        found.is_ok(),
        "{node} did not become {wanted:?}, it is {:?}",
        cluster.view().status(&node)
    );
    start.elapsed()
}
