//! The gRPC listener of a node: one server for TCP, with or without mutual TLS, and for the in-process transport.
//!
//! - TLS handshakes run beside the accept loop, at most 64 at once and each within three seconds.
//! - A connection that sends nothing for five seconds is closed; one that has spoken is pinged.
//! - Plain text is only served on the loopback interface, unless the configuration says `insecure`.
//! - Stop: no new connections, GOAWAY on the others; calls have the grace period to end, then their connections are cut.
//!   Dropping the future cuts them at once.
//!
//! Services find out who calls by [`Peer`], in the extensions of a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::channel::{
    Io, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, MAX_CONCURRENT_CALLS, MAX_HTTP2_FRAME,
    MAX_PENDING_RESETS,
};
use crate::config::ClusterConfig;
use crate::error::ConfigError;
use crate::identity::{Identity, certificate_names};
use crate::local::LocalIncoming;

mod connection;

use connection::Connection;
pub use connection::Peer;

/// Most TLS handshakes under way. Nodes are few; a flood waits in the kernel's backlog.
const MAX_HANDSHAKES: usize = 64;

/// How long a caller may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Most TCP connections. A node has a few to each origin, so this is some thousand nodes; past it callers wait in the kernel's
/// backlog.
const MAX_CONNECTIONS: usize = 4_096;

/// Connections that are accepted and not yet taken by the HTTP/2 server.
const ACCEPTED: usize = 16;

/// Pause after an error of `accept`, such as no free file descriptor: trying at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a node's server ended, or never began.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The listener would speak plain text on a network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The listener has no address.
    #[error("the node listener is not usable")]
    Listener(#[source] std::io::Error),
    /// The HTTP/2 server gave up.
    #[error("the node server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Where a server takes its connections from. With neither it runs idle until it is stopped.
#[derive(Debug, Default)]
pub struct Listen {
    /// Bound by the caller, so that port 0 can be asked for its number.
    pub tcp: Option<TcpListener>,
    /// From [`crate::local::pair`].
    pub local: Option<LocalIncoming>,
}

/// Serves `routes` until `shutdown`, then for at most `grace` until the open calls have ended.
///
/// # Errors
/// [`ServerError::Config`] for a plain-text listener outside the loopback interface; otherwise if the server cannot go on.
pub async fn serve(
    routes: Routes,
    listen: Listen,
    identity: Option<Identity>,
    config: &ClusterConfig,
    shutdown: CancellationToken,
    grace: Duration,
) -> Result<(), ServerError> {
    let Listen { tcp, local } = listen;
    if let Some(listener) = &tcp
        && identity.is_none()
    {
        config.allow_plain_listener(listener.local_addr().map_err(ServerError::Listener)?)?;
    }
    // Both also when this future is dropped.
    let stop = shutdown.child_token();
    let _stop_guard = stop.clone().drop_guard();
    let cut = CancellationToken::new();
    let cut_guard = cut.clone().drop_guard();
    let (accepted, connections) = mpsc::channel(ACCEPTED);
    let accepting = TaskTracker::new();
    if let Some(listener) = tcp {
        let acceptor = Acceptor {
            identity,
            accepted: accepted.clone(),
            cut: cut.clone(),
            stop: stop.clone(),
            tasks: accepting.clone(),
        };
        accepting.spawn(acceptor.run(listener));
    }
    if let Some(incoming) = local {
        accepting.spawn(accept_local(
            incoming,
            accepted.clone(),
            cut.clone(),
            stop.clone(),
        ));
    }
    let stopped = stop.clone();
    let serving = Server::builder()
        .initial_stream_window_size(config.channel.stream_window)
        .initial_connection_window_size(config.channel.connection_window)
        .max_concurrent_streams(MAX_CONCURRENT_CALLS)
        .max_frame_size(MAX_HTTP2_FRAME)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(None)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(connections).map(Ok::<_, std::convert::Infallible>),
            async move {
                stopped.cancelled().await;
            },
        );
    let cutting = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
        tracing::warn!(
            ?grace,
            "calls between nodes are still open after the grace period: cut"
        );
        cut.cancel();
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = serving => outcome,
        () = cutting => Ok(()),
    };
    // Held until here: the server must not see the end of its connections before it is stopped.
    drop(accepted);
    drop(cut_guard);
    accepting.close();
    stop.cancel();
    accepting.wait().await;
    outcome.map_err(ServerError::Transport)
}

struct Acceptor {
    identity: Option<Identity>,
    accepted: mpsc::Sender<Connection>,
    cut: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let stop = self.stop.clone();
        // The listener is closed with the loop.
        let _: Option<()> = stop.run_until_cancelled(self.accept(listener)).await;
    }

    async fn accept(self, listener: TcpListener) {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            // Neither semaphore is ever closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "node listener cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, %address, "TCP_NODELAY not set");
            }
            let Some(identity) = &self.identity else {
                let peer = Peer::new(Some(address), Vec::new());
                let connection =
                    Connection::new(Io::Tcp(stream), peer, self.cut.clone(), Some(place));
                if self.accepted.send(connection).await.is_err() {
                    return;
                }
                continue;
            };
            let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
                return;
            };
            let handshake = handshake(
                identity.clone(),
                stream,
                address,
                self.accepted.clone(),
                self.cut.clone(),
                place,
            );
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                let _: Option<()> = stop.run_until_cancelled(handshake).await;
                drop(permit);
            });
        }
    }
}

async fn handshake(
    identity: Identity,
    stream: TcpStream,
    address: SocketAddr,
    accepted: mpsc::Sender<Connection>,
    cut: CancellationToken,
    place: OwnedSemaphorePermit,
) {
    let accepting = TlsAcceptor::from(identity.server_config()).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::warn!(%address, %error, "TLS handshake on the node listener failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "TLS handshake on the node listener took too long");
            return;
        }
    };
    let names = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(certificate_names)
        .unwrap_or_default();
    let io = Io::Tls(Box::new(TlsStream::Server(stream)));
    // Nobody is left to take it only when the server has ended.
    let _ = accepted
        .send(Connection::new(
            io,
            Peer::new(Some(address), names),
            cut,
            Some(place),
        ))
        .await;
}

async fn accept_local(
    mut incoming: LocalIncoming,
    accepted: mpsc::Sender<Connection>,
    cut: CancellationToken,
    stop: CancellationToken,
) {
    let accepting = async {
        while let Some(Ok(io)) = incoming.next().await {
            let connection = Connection::new(
                Io::Local(io),
                Peer::new(None, Vec::new()),
                cut.clone(),
                None,
            );
            if accepted.send(connection).await.is_err() {
                return;
            }
        }
    };
    let _: Option<()> = stop.run_until_cancelled(accepting).await;
}
