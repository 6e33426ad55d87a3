//! The edge as a whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::{Availability, Cluster};
use headwater_node::address::AddressError;
use headwater_node::limits::open_files;
use headwater_node::metrics::Metrics;
use headwater_node::readiness::{CheckHandle, Readiness};
use headwater_node::shutdown::Shutdown;
use headwater_node::tls::TlsError;
use headwater_rtmp::server::ServerConfig;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::admission::Admission;
use crate::application::VirtualHosts;
use crate::application::attachment::Attachments;
use crate::application::policies::Policies;
use crate::config::EdgeConfig;
use crate::hub::{HubTable, RingLimits};
use crate::listen::{Listener, bind, bind_rtmfp};
use crate::metrics::EdgeMetrics;
use crate::peer::Peers;
use crate::recorded::Recorded;
use crate::rtmfp::KeyPool;
use crate::rtmfp::driver::Share;
use crate::session;
use crate::upstream::Upstream;
use crate::worker;

/// Most entries of a hub's ring, whatever their size: ten minutes of a stream with 100 messages a second.
const RING_ENTRIES: usize = 65_536;
/// How long before the end of the grace period clients that stayed are told to go. Longer than a session's farewell: an encoder
/// that goes on sending is then still ended in order and not cut.
const LAST_CALL: Duration = Duration::from_secs(4);

/// What the process gives the edge.
pub struct EdgeNode {
    /// The node's id.
    pub id: String,
    /// The cluster as this node sees it.
    pub cluster: Cluster,
    /// Where the edge registers its metrics.
    pub metrics: Metrics,
    /// Where the edge says whether it can serve.
    pub readiness: Readiness,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// A bound listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// `rtmp`, `rtmps` or `rtmfp`.
    pub protocol: &'static str,
    /// The address, with the real port.
    pub address: SocketAddr,
}

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// A listen address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Certificate or key of RTMPS.
    #[error("[rtmps]: {0}")]
    Tls(#[from] TlsError),
    /// Nothing to listen on.
    #[error(
        "`rtmp.listen` and `rtmfp.listen` are empty and there is no RTMPS: the edge would serve nobody"
    )]
    NoListener,
    /// A thread or a socket could not be made.
    #[error("cannot start the edge: {0}")]
    Io(#[from] std::io::Error),
}

/// A running edge. It stops when its [`Shutdown`] does.
pub struct Edge {
    listening: Vec<Listening>,
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: EdgeConfig,
    /// The protocol's settings, one copy for all sessions.
    pub(crate) rtmp: Arc<ServerConfig>,
    /// The same for RTMFP, which looks by itself whether a client is there.
    pub(crate) rtmfp: Arc<ServerConfig>,
    pub(crate) upstream: Arc<Upstream>,
    /// What applications allow.
    pub(crate) policies: Policies,
    pub(crate) virtual_hosts: VirtualHosts,
    /// Application instances at their origins.
    pub(crate) attachments: Attachments,
    /// Recordings and media files.
    pub(crate) recorded: Recorded,
    /// RTMFP clients that can be introduced to others.
    pub(crate) peers: Peers,
    /// Room for streams that are fed into groups.
    pub(crate) members: Arc<Semaphore>,
    pub(crate) metrics: EdgeMetrics,
    pub(crate) tasks: Tasks,
    pub(crate) shutdown: Shutdown,
    /// Clients that have not left by now are told to.
    pub(crate) last_call: CancellationToken,
    pub(crate) admission: Arc<Admission>,
}

/// Tasks on the process's shared runtime, started from the workers. Clones share it.
#[derive(Clone)]
pub(crate) struct Tasks {
    runtime: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// On the runtime that this is called within; they end when `stopping` is cancelled.
    pub(crate) fn new(stopping: CancellationToken) -> Self {
        Self {
            runtime: Handle::current(),
            tracker: TaskTracker::new(),
            stopping,
        }
    }

    /// Runs a task until it ends or the process stops.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping.clone();
        let task = async move {
            stopping.run_until_cancelled_owned(task).await;
        };
        self.runtime.spawn(self.tracker.track_future(task));
    }
}

impl Edge {
    /// Binds every address, then starts the workers. Must be called within the process's runtime.
    ///
    /// # Errors
    /// [`EdgeError`], before anything runs.
    pub fn start(config: EdgeConfig, node: EdgeNode) -> Result<Self, EdgeError> {
        let workers = config.edge.fanout.worker_count();
        let listeners = bind(&config, workers, &node.shutdown)?;
        let mut listening: Vec<Listening> = listeners
            .first()
            .map(|sockets| sockets.iter().map(Listener::describe).collect())
            .unwrap_or_default();
        let rtmfp = bind_rtmfp(&config, workers)?;
        listening.extend(rtmfp.iter().map(|(address, _)| Listening {
            protocol: "rtmfp",
            address: *address,
        }));
        if listening.is_empty() {
            return Err(EdgeError::NoListener);
        }
        let metrics = EdgeMetrics::new(&node.metrics);
        let files = open_files().soft;
        let admission = Admission::new(&config.rtmp, files, metrics.connections.clone());
        let fanout = &config.edge.fanout;
        let upstream = Arc::new(Upstream {
            cluster: node.cluster.clone(),
            config: config.edge.upstream.clone(),
            hubs: HubTable::new(
                RingLimits {
                    duration_ms: fanout.window_ms,
                    bytes: fanout.window_bytes,
                    entries: RING_ENTRIES,
                },
                fanout.max_streams,
            ),
            metrics: metrics.clone(),
            chunk_size: config.rtmp.chunk_bytes,
            node: node.id,
        });
        let tasks = Tasks::new(node.shutdown.stopping());
        let policies = Policies::new(
            &config.applications,
            Arc::clone(&upstream),
            Tasks::new(node.shutdown.stopping()),
        );
        policies.start();
        let (attachments, told) = Attachments::new(
            Arc::clone(&upstream),
            tasks.clone(),
            workers,
            node.shutdown.draining(),
        );
        // Tasks of their own: they go on until the process stops, and nothing that drains waits for them.
        let peers = Peers::new(Arc::clone(&upstream), Tasks::new(node.shutdown.stopping()));
        if !rtmfp.is_empty() {
            peers.start();
        }
        let shared = Arc::new(Shared {
            policies: policies.clone(),
            virtual_hosts: VirtualHosts::new(&config.virtual_hosts),
            attachments,
            peers,
            members: Arc::new(Semaphore::new(config.rtmfp.max_members)),
            recorded: Recorded::new(
                &config.edge.recorded,
                policies,
                Arc::clone(&upstream),
                tasks.clone(),
            ),
            rtmp: Arc::new(session::core_config(&config.rtmp)),
            rtmfp: Arc::new(ServerConfig {
                ping_interval: None,
                ..session::core_config(&config.rtmp)
            }),
            config,
            upstream,
            metrics,
            tasks,
            shutdown: node.shutdown.clone(),
            last_call: node.shutdown.stopping().child_token(),
            admission: Arc::new(admission),
        });
        let mut udp: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        if !rtmfp.is_empty() {
            let keys = KeyPool::start(shared.config.rtmfp.key_threads)?;
            for (_, sockets) in rtmfp {
                let shares = Share::of(workers, &keys)?;
                for ((of_worker, socket), share) in udp.iter_mut().zip(sockets).zip(shares) {
                    of_worker.push((socket, share));
                }
            }
        }
        let mut ends = Vec::with_capacity(workers);
        let shares = listeners.into_iter().zip(udp).zip(told);
        for (number, ((sockets, udp), told)) in shares.enumerate() {
            let shared = Arc::clone(&shared);
            ends.push(worker::start(number, sockets, udp, told, shared)?);
        }
        tokio::spawn(last_call(Arc::clone(&shared)));
        node.shutdown.spawn(async move {
            for end in ends {
                // An error means that the worker's thread is gone: that is its end, too.
                let _ = end.await;
            }
            // Streams that ended with their clients still tell their owners.
            shared.tasks.tracker.close();
            shared.tasks.tracker.wait().await;
        });
        // Here and not in the task: nobody may find the edge ready before it was looked at.
        let check = node.readiness.check("origins");
        tokio::spawn(watch_origins(node.cluster, check, node.shutdown));
        Ok(Self { listening })
    }

    /// What it listens on.
    #[must_use]
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }
}

/// Tells the clients that stayed to go, a little before the grace period ends.
async fn last_call(shared: Arc<Shared>) {
    shared.shutdown.draining().cancelled().await;
    let deadline = shared.shutdown.deadline();
    let now = tokio::time::Instant::now();
    let left = deadline.map_or(Duration::ZERO, |deadline| {
        deadline.saturating_duration_since(now)
    });
    // Half of a short grace period, all but the last seconds of a long one.
    tokio::time::sleep(left.saturating_sub(LAST_CALL).max(left / 2)).await;
    shared.last_call.cancel();
}

/// Ready while at least one origin can be reached.
async fn watch_origins(cluster: Cluster, check: CheckHandle, shutdown: Shutdown) {
    let mut changes = cluster.changes();
    let stopping = shutdown.stopping();
    loop {
        let view = cluster.view();
        let members = view.members();
        let available = members
            .iter()
            .filter(|member| view.availability(&member.id) == Availability::Available)
            .count();
        check.set(
            available > 0,
            format!("{available} of {} origins can be reached", members.len()),
        );
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = stopping.cancelled() => {
                info!("the edge has stopped");
                return;
            }
        }
    }
}
