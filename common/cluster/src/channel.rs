//! Connections to other nodes: HTTP/2 settings, message limits, and the dialler below a gRPC channel.
//!
//! The settings stand here once, for both ends. What they have to hold:
//! - A pulled stream may not be capped by a window on a long line: HTTP/2's defaults stop one connection below a gigabit at
//!   50 ms round trip. So the windows are explicit (see [`crate::config::ChannelConfig`]).
//! - A connection to a machine that vanished has to end by itself: keep-alive pings, also while no call is open. They are the
//!   broom, not the alarm: [`KEEP_ALIVE_TIMEOUT`] is long enough for a busy machine, the watch of a peer is what notices a
//!   hung one within a second, and callers give up their calls when the view says so.
//! - A new call to a node that is down fails at once instead of waiting for a connect timeout: the dialler asks the gate that
//!   the peer's watch opens and closes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::transport::{Channel, Endpoint};

use crate::config::ChannelConfig;
use crate::identity::Identity;
use crate::local::LocalConnector;
use crate::member::NodeId;

/// Largest message in bytes that a client or a server of a node takes or sends: pass it to `max_decoding_message_size` and
/// `max_encoding_message_size` of every generated client and server. An RTMP message ends at 16 MiB, a batch has several frames.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// Most calls at once on one connection. One call per pulled or published stream; the HTTP/2 default of 200 would queue the
/// rest without a word.
pub const MAX_CONCURRENT_CALLS: u32 = 16_384;

/// A connection that was silent this long is pinged.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// A ping without an answer for this long ends the connection and its calls.
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest HTTP/2 frame in bytes: a key frame needs a few of them, and one never holds up an audio frame for long.
pub(crate) const MAX_HTTP2_FRAME: u32 = 64 << 10;

/// Calls that one end gave up at once and the other has not yet heard of. A node that loses a peer, or whose viewers leave
/// together, gives up many: the HTTP/2 library's defaults (some ten) are made against attackers, and would end the whole
/// connection. Nodes trust each other.
pub(crate) const MAX_PENDING_RESETS: usize = 4_096;

/// Why a connection to a node did not come to stand.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("node {0} is known to be down")]
    Down(NodeId),
    #[error("no connection to {address}")]
    Connect { address: String, source: io::Error },
    #[error("no connection to {address} within {limit:?}")]
    Timeout { address: String, limit: Duration },
    #[error("TLS handshake with {address} failed")]
    Handshake { address: String, source: io::Error },
    #[error("no TLS handshake with {address} within {limit:?}")]
    HandshakeTimeout { address: String, limit: Duration },
}

/// Closed while a peer is down. Shared by its watch and its channels.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
}

impl Gate {
    pub(crate) fn set_closed(&self, closed: bool) {
        // Publishes nothing but itself.
        self.closed.store(closed, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// How a node is reached.
#[derive(Clone, Debug)]
pub(crate) enum Transport {
    Tcp {
        /// `host:port`.
        address: String,
        /// With certificates: this node's identity, and the name that the peer's certificate has to hold.
        tls: Option<(Identity, ServerName<'static>)>,
    },
    Local(LocalConnector),
}

/// Makes connections to one node.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    pub(crate) transport: Transport,
    pub(crate) connect_timeout: Duration,
}

impl Dialer {
    async fn dial(self) -> Result<Io, DialError> {
        let (address, tls) = match self.transport {
            Transport::Local(connector) => {
                return connector.connect().await.map(Io::Local).map_err(|source| {
                    DialError::Connect {
                        address: "the local node".to_owned(),
                        source,
                    }
                });
            }
            Transport::Tcp { address, tls } => (address, tls),
        };
        let limit = self.connect_timeout;
        let stream = match tokio::time::timeout(limit, TcpStream::connect(&address)).await {
            Err(_) => return Err(DialError::Timeout { address, limit }),
            Ok(Err(source)) => return Err(DialError::Connect { address, source }),
            Ok(Ok(stream)) => stream,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %address, "TCP_NODELAY not set");
        }
        let Some((identity, name)) = tls else {
            return Ok(Io::Tcp(stream));
        };
        let handshake = TlsConnector::from(identity.client_config()).connect(name, stream);
        match tokio::time::timeout(limit, handshake).await {
            Err(_) => Err(DialError::HandshakeTimeout { address, limit }),
            Ok(Err(source)) => Err(DialError::Handshake { address, source }),
            Ok(Ok(stream)) => Ok(Io::Tls(Box::new(TlsStream::Client(stream)))),
        }
    }

    /// One connection now, for the watch of a peer: its heartbeats share no connection with media.
    pub(crate) async fn connect(
        self,
        settings: &ChannelConfig,
    ) -> Result<Channel, tonic::transport::Error> {
        let connector = tower::service_fn(move |_: Uri| {
            let dialer = self.clone();
            async move { dialer.dial().await.map(TokioIo::new) }
        });
        endpoint(settings).connect_with_connector(connector).await
    }

    /// A channel that connects when it is used, and again after a break.
    pub(crate) fn channel(
        self,
        settings: &ChannelConfig,
        node: NodeId,
        gate: Arc<Gate>,
    ) -> Channel {
        let connector = tower::service_fn(move |_: Uri| {
            let (dialer, node, gate) = (self.clone(), node.clone(), Arc::clone(&gate));
            async move {
                if gate.is_closed() {
                    return Err(DialError::Down(node));
                }
                dialer.dial().await.map(TokioIo::new)
            }
        });
        endpoint(settings).connect_with_connector_lazy(connector)
    }
}

/// The client's half of the HTTP/2 settings. The URI is never resolved: the dialler knows where to go.
fn endpoint(settings: &ChannelConfig) -> Endpoint {
    Endpoint::from_static("http://node.headwater")
        .http2_max_concurrent_reset_streams(MAX_PENDING_RESETS)
        .http2_max_local_error_reset_streams(None)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_frame_size(MAX_HTTP2_FRAME)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// A connection of either end, whatever carries it.
#[derive(Debug)]
pub(crate) enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Local(DuplexStream),
}

macro_rules! each_io {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Io::Tcp($io) => {
                let $io = Pin::new($io);
                $call
            }
            Io::Tls($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
            Io::Local($io) => {
                let $io = Pin::new($io);
                $call
            }
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_io!(self, io => io.poll_read(context, buffer))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each_io!(self, io => io.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_io!(self, io => io.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
            Self::Local(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_io!(self, io => io.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_io!(self, io => io.poll_shutdown(context))
    }
}
