//! A client's byte stream: TCP, or TLS over TCP.
//!
//! Writes are polled from two places on the same thread: the session's task, and the worker's walk over the viewers of a
//! stream. Both register the session's waker, so the session goes on when the socket has room again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

/// Bytes asked of the socket at once: a large video frame in one or two reads.
const READ_SIZE: usize = 32 * 1024;

pub(crate) enum Transport {
    Tcp(TcpStream),
    // Boxed: a TLS connection is a kilobyte, and most viewers have none.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Acknowledges what has arrived at once. Clients that leave Nagle's algorithm on, ffmpeg for one, send the commands of
    /// the set-up as several small segments, and each but the first waits for our acknowledgement: 40 ms each, if the kernel
    /// waits for something to send it with. The option does not stick: to be set after each read.
    pub(crate) fn acknowledge_now(&self) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        };
        // A kernel that has no such option is only slower.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(socket).set_tcp_quickack(true);
        #[cfg(not(target_os = "linux"))]
        let _ = socket;
    }

    /// Appends what arrived to `buffer`. `Ok(0)` is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if let Self::Tcp(socket) = self {
            // No buffer is set aside for the many viewers that are silent.
            ready!(socket.poll_read_ready(cx))?;
        }
        buffer.reserve(READ_SIZE);
        match self {
            Self::Tcp(socket) => poll_read_buf(Pin::new(socket), cx, buffer),
            Self::Tls(stream) => poll_read_buf(Pin::new(stream.as_mut()), cx, buffer),
        }
    }

    /// Whether what was written may wait here for [`Self::poll_flush`].
    pub(crate) fn holds_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    /// Pushes out what TLS holds back; nothing to do on plain TCP.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
