//! One accepted connection: its bytes, who is at the other end, and the cut that ends it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
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

/// How long a connection may stay without a byte. An HTTP/2 client speaks first and at once; after that it is pinged.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads fail once it is cut; that ends the HTTP/2 connection and its calls.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    was_cut: bool,
    /// Until the first byte has come.
    first_byte: Option<Pin<Box<Sleep>>>,
    /// Counts against the listener's bound.
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) fn new(
        io: Io,
        peer: Peer,
        cut: CancellationToken,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            io,
            peer,
            cut: Box::pin(cut.cancelled_owned()),
            was_cut: false,
            first_byte: Some(Box::pin(tokio::time::sleep(FIRST_BYTE_TIMEOUT))),
            _place: place,
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
        let Some(mut deadline) = self.first_byte.take() else {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        };
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        if outcome.is_pending() {
            if deadline.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.first_byte = Some(deadline);
        }
        outcome
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::*;

    fn connection() -> (Connection, DuplexStream, CancellationToken) {
        let (near, far) = tokio::io::duplex(64);
        let cut = CancellationToken::new();
        let connection = Connection::new(
            Io::Local(near),
            Peer::new(None, Vec::new()),
            cut.clone(),
            None,
        );
        (connection, far, cut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_says_nothing_is_sent_away() {
        let (mut connection, _far, _cut) = connection();
        let start = Instant::now();
        let outcome = connection.read_u8().await;
        assert_eq!(
            outcome.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
        assert!(start.elapsed() >= FIRST_BYTE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_has_spoken_may_be_silent() {
        let (mut connection, mut far, _cut) = connection();
        far.write_u8(7).await.expect("write");
        assert_eq!(connection.read_u8().await.expect("read"), 7);
        let waiting = tokio::time::timeout(FIRST_BYTE_TIMEOUT * 10, connection.read_u8()).await;
        assert!(waiting.is_err(), "still waits: {waiting:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_ends_a_waiting_read_and_all_after_it() {
        let (mut connection, mut far, cut) = connection();
        far.write_u8(7).await.expect("write");
        assert_eq!(connection.read_u8().await.expect("read"), 7);
        let (outcome, ()) = tokio::join!(connection.read_u8(), async { cut.cancel() });
        assert_eq!(
            outcome.map_err(|error| error.kind()),
            Err(io::ErrorKind::ConnectionAborted)
        );
        far.write_u8(8).await.expect("write");
        assert!(connection.read_u8().await.is_err());
    }
}
