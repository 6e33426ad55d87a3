//! One accepted connection: its bytes, who is at the other end, and the cut that ends it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::channel::Io;

/// Who is at the other end of a connection. In the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    address: Option<SocketAddr>,
    names: Arc<[String]>,
}

impl Peer {
    pub(super) fn new(address: Option<SocketAddr>, names: Vec<String>) -> Self {
        Self {
            address,
            names: names.into(),
        }
    }

    /// Its address; none for a call from this process.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The names in its certificate, the node id among them; empty without TLS.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the call came from this process.
    pub fn is_local(&self) -> bool {
        self.address.is_none()
    }
}

/// Reads fail once it is cut; that ends the HTTP/2 connection and its calls.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    was_cut: bool,
}

impl Connection {
    pub(super) fn new(io: Io, peer: Peer, cut: CancellationToken) -> Self {
        Self {
            io,
            peer,
            cut: Box::pin(cut.cancelled_owned()),
            was_cut: false,
        }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.was_cut || self.cut.as_mut().poll(context).is_ready() {
            self.was_cut = true;
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the node stops",
            ));
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection always waits for bytes, so this is also where it wakes up to be cut.
        self.check(context)?;
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
