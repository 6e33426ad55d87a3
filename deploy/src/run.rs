//! A node from its start to its end, whatever its role: an origin, an edge, or both.
//!
//! Start: telemetry, then the admin listener (probes want an answer early), the cluster, the origin, the edge; what cannot
//! be bound or written ends the process before it serves anyone. End: not ready any more, clients and streams leave within
//! the grace period, then calls between nodes are cut, then the last spans are sent, then the admin listener goes.
//!
//! A standalone node calls its own origin through the same services, over a pipe in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_cluster::server::{Listen, ServerError};
use headwater_cluster::{Cluster, ClusterError, Identity, Local, local, server};
use headwater_edge::config::RtmpSection;
use headwater_edge::{Edge, EdgeError, EdgeNode, SPARE_FILES};
use headwater_node::address::{AddressError, DEFAULT_BACKLOG, ListenAddress, bind_tcp};
use headwater_node::admin::{Admin, AdminParts};
use headwater_node::config::EXIT_BAD_CONFIG;
use headwater_node::limits;
use headwater_node::metrics::Metrics;
use headwater_node::readiness::Readiness;
use headwater_node::shutdown::Shutdown;
use headwater_node::telemetry::{self, Telemetry, TelemetryError};
use headwater_origin::{AdminSlot, Origin, OriginSection, StoreError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Role, Settings};
use crate::report::{Report, reachable};

/// The key of the address for other nodes.
const RPC_KEY: &str = "rpc.listen";

/// How long calls between nodes get to end once nobody needs them.
const CALLS_GRACE: Duration = Duration::from_millis(500);

/// How long the last spans may take to reach the collector.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// How long tasks of the runtime get when everything is over.
const RUNTIME_GRACE: Duration = Duration::from_millis(500);

/// Part of the grace period that is left for cutting what did not leave.
const CUT_RESERVE: Duration = Duration::from_millis(250);

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("`{key}`: {0}", key = .0.key())]
    Store(#[from] StoreError),
    #[error(transparent)]
    Edge(#[from] EdgeError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error("`{RPC_KEY}`: {0}")]
    Server(#[from] ServerError),
    #[error("the process cannot be set up: {0}")]
    Process(#[from] std::io::Error),
}

impl RunError {
    /// As in `sysexits.h`: 64 is a matter of configuration, 69 an address or a store that refuses, 73 a folder, 70 anything else.
    pub(crate) fn exit_code(&self) -> u8 {
        const UNAVAILABLE: u8 = 69;
        const SOFTWARE: u8 = 70;
        const CANNOT_CREATE: u8 = 73;
        match self {
            Self::Address(_) | Self::Edge(EdgeError::Address(_)) => UNAVAILABLE,
            Self::Store(StoreError::Section { .. }) => EXIT_BAD_CONFIG,
            Self::Store(StoreError::Refused(_) | StoreError::NotConditional) => UNAVAILABLE,
            Self::Store(_) => CANNOT_CREATE,
            Self::Cluster(ClusterError::NoRuntime) => SOFTWARE,
            Self::Cluster(_)
            | Self::Telemetry(_)
            | Self::Server(ServerError::Config(_))
            | Self::Edge(EdgeError::Tls(_) | EdgeError::NoListener) => EXIT_BAD_CONFIG,
            Self::Edge(_) | Self::Server(_) | Self::Process(_) => SOFTWARE,
        }
    }
}

/// Runs a node until it is told to end.
///
/// # Errors
/// It could not be started, or it could not go on.
pub(crate) fn run(settings: Settings, ready_file: Option<PathBuf>) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("headwater")
        .build()?;
    let outcome = runtime.block_on(node(settings, Report::new(ready_file)));
    runtime.shutdown_timeout(RUNTIME_GRACE);
    outcome
}

async fn node(settings: Settings, mut report: Report) -> Result<(), RunError> {
    let shutdown = Shutdown::from_section(&settings.shutdown);
    // First of all: a signal while the node starts must not be lost.
    shutdown.listen_for_signals()?;
    let identity = telemetry::Identity {
        node: settings.id.to_string(),
        role: settings.role.as_str().to_owned(),
    };
    let telemetry = telemetry::init(&settings.log, &settings.telemetry, &identity)?;
    let outcome = serve(settings, &shutdown, &telemetry, &mut report).await;
    if let Err(error) = &outcome {
        tracing::error!(%error, "the node cannot run");
    }
    telemetry.shutdown(LAST_SPANS).await;
    outcome
}

async fn serve(
    settings: Settings,
    shutdown: &Shutdown,
    telemetry: &Telemetry,
    report: &mut Report,
) -> Result<(), RunError> {
    raise_file_limit(&settings);
    let metrics = Metrics::with_section(
        settings.id.as_str(),
        settings.role.as_str(),
        &settings.metrics,
    );
    telemetry.register(&metrics);
    let readiness = Readiness::new();
    // Not ready before everything below has started.
    let started = readiness.check("started");
    let parts = AdminParts {
        node: settings.id.to_string(),
        role: settings.role.as_str().to_owned(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        config: settings.printed.clone(),
    };
    let recordings = AdminSlot::default();
    let mut admin = Admin::bind(&settings.admin.listen, parts)?;
    if settings.origin.is_some() {
        admin = admin.merge(recordings.routes());
    }
    let admin_address = admin.local_addr();
    let last = CancellationToken::new();
    let admin = tokio::spawn(admin.serve(last.clone()));

    // Streams and calls end before the cluster is left.
    let cluster_stop = CancellationToken::new();
    let cluster = Cluster::start(
        settings.cluster.clone(),
        Local {
            id: settings.id.clone(),
            role: match settings.role {
                Role::Edge => headwater_cluster::Role::Edge,
                Role::Origin | Role::Standalone => headwater_cluster::Role::Origin,
            },
        },
        settings.identity.clone(),
        cluster_stop.clone(),
    )?;
    if let Some(identity) = &settings.identity {
        shutdown.spawn(reload_identity(identity.clone(), shutdown.clone()));
    }

    let origin = match &settings.origin {
        Some(section) => {
            Some(start_origin(section, &settings, &cluster, &metrics, shutdown, report).await?)
        }
        None => None,
    };
    if let Some(running) = &origin {
        running.origin.administer(&recordings);
    }
    let mut urls = Vec::new();
    if let Some(config) = &settings.edge {
        let node = EdgeNode {
            id: settings.id.to_string(),
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            shutdown: shutdown.clone(),
        };
        let edge = Edge::start(config.clone(), node)?;
        for listening in edge.listening() {
            report.listening(listening.protocol, listening.address);
            let address = reachable(listening.address);
            urls.extend(
                config
                    .applications
                    .keys()
                    .map(|app| format!("{}://{address}/{app}/NAME", listening.protocol)),
            );
        }
    }
    report.listening("admin", admin_address);
    let admin_url = reachable(admin_address);
    urls.push(format!("http://{admin_url}/healthz"));
    urls.push(format!("http://{admin_url}/metrics"));
    for url in urls {
        report.url(&url);
    }
    started.set(true, "");
    tracing::info!(node = %settings.id, role = settings.role.as_str(), version = headwater_node::VERSION, "started");

    let draining = shutdown.draining();
    if draining
        .run_until_cancelled(readiness.ready())
        .await
        .is_some()
    {
        report.ready();
    }
    draining.cancelled().await;
    readiness.drain();
    let outcome = shutdown.drain().await;
    tracing::info!(?outcome, "drained");
    let served = match origin {
        Some(origin) => origin.stop().await,
        None => Ok(()),
    };
    cluster_stop.cancel();
    cluster.stopped().await;
    last.cancel();
    // An error means that the task panicked, which was logged where it happened.
    let _ = admin.await;
    served
}

/// An origin that serves.
struct RunningOrigin {
    origin: Origin,
    stop: CancellationToken,
    server: JoinHandle<Result<(), ServerError>>,
}

impl RunningOrigin {
    /// Cuts the calls that are left, and waits for the end of everything.
    async fn stop(self) -> Result<(), RunError> {
        self.stop.cancel();
        self.origin.stopped().await;
        match self.server.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(RunError::Process(std::io::Error::other(error))),
        }
    }
}

async fn start_origin(
    section: &OriginSection,
    settings: &Settings,
    cluster: &Cluster,
    metrics: &Metrics,
    shutdown: &Shutdown,
    report: &mut Report,
) -> Result<RunningOrigin, RunError> {
    let stop = CancellationToken::new();
    let origin = Origin::new(section, cluster.clone(), metrics, stop.clone()).await?;
    let listen = match &settings.rpc {
        Some(address) => {
            let listener = bind_rpc(address)?;
            let bound = listener.local_addr()?;
            if settings.identity.is_none() {
                cluster
                    .config()
                    .allow_plain_listener(bound)
                    .map_err(ServerError::from)?;
            }
            report.listening("rpc", bound);
            Listen {
                tcp: Some(listener),
                local: None,
            }
        }
        None => {
            let (connector, incoming) = local::pair();
            cluster.register_local(settings.id.clone(), connector);
            Listen {
                tcp: None,
                local: Some(incoming),
            }
        }
    };
    // Who serves before it knows the others takes streams that are not its own.
    cluster.ready().await;
    let server = tokio::spawn(serve_calls(
        origin.clone(),
        listen,
        settings.identity.clone(),
        cluster.clone(),
        stop.clone(),
        shutdown.clone(),
    ));
    // A standalone node has nobody to hand over to: its streams end with the clients of its edge.
    if settings.edge.is_none() {
        shutdown.spawn(hand_over(origin.clone(), shutdown.clone()));
    }
    Ok(RunningOrigin {
        origin,
        stop,
        server,
    })
}

fn bind_rpc(address: &ListenAddress) -> Result<TcpListener, AddressError> {
    let listener = bind_tcp(address, RPC_KEY, false, DEFAULT_BACKLOG)?;
    TcpListener::from_std(listener).map_err(|error| AddressError::Bind {
        key: RPC_KEY.to_owned(),
        address: address.to_string(),
        message: error.to_string(),
    })
}

/// Serves other nodes until `stop`. A server that fails takes the node down with it: an origin that nobody can call is none.
async fn serve_calls(
    origin: Origin,
    listen: Listen,
    identity: Option<Identity>,
    cluster: Cluster,
    stop: CancellationToken,
    shutdown: Shutdown,
) -> Result<(), ServerError> {
    let routes = origin.routes();
    let config = cluster.config();
    let result = server::serve(routes, listen, identity, config, stop.clone(), CALLS_GRACE).await;
    if result.is_err() && !stop.is_cancelled() {
        shutdown.stop_now("the server for other nodes failed");
    }
    result
}

/// When the node drains: gives its streams to other origins, as far as there is time.
async fn hand_over(origin: Origin, shutdown: Shutdown) {
    shutdown.draining().cancelled().await;
    let limit = shutdown.grace().saturating_sub(CUT_RESERVE);
    let stopping = shutdown.stopping();
    let Some(left) = stopping.run_until_cancelled(origin.drain(limit)).await else {
        return;
    };
    if left.publishers > 0 || left.readers > 0 {
        tracing::warn!(
            publishers = left.publishers,
            readers = left.readers,
            "streams are left that no other origin took"
        );
    }
}

/// Reads the certificate of the node anew at every `SIGHUP`.
async fn reload_identity(identity: Identity, shutdown: Shutdown) {
    let identity = Arc::new(identity);
    let mut requests = shutdown.reload();
    let draining = shutdown.draining();
    while let Some(Ok(())) = draining.run_until_cancelled(requests.changed()).await {
        let reloading = Arc::clone(&identity);
        match tokio::task::spawn_blocking(move || reloading.reload()).await {
            Ok(Ok(())) => tracing::info!("the certificate of the node was read again"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the certificate of the node stays as it was");
            }
            Err(error) => tracing::error!(%error, "reading the certificate failed"),
        }
    }
}

/// A connection is a file: takes as many as the system gives, and says so when they do not suffice.
fn raise_file_limit(settings: &Settings) {
    if let Err(error) = limits::raise_open_files() {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
    let Some(edge) = &settings.edge else {
        return;
    };
    let connections = edge.rtmp.max_connections;
    let files = connections.saturating_add(SPARE_FILES);
    let wanted = u64::try_from(files).unwrap_or(u64::MAX);
    if let Some(warning) = limits::require_files(wanted) {
        // The built-in number is a bound, and nobody's wish.
        if connections == RtmpSection::default().max_connections {
            tracing::info!("{warning}");
        } else {
            tracing::warn!("{warning}");
        }
    }
}
