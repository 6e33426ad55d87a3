//! A client's byte stream: TCP, TLS over TCP, or what stands for one with an RTMFP client.
//!
//! Writes are polled from two places on the same thread: the session's task, and the worker's walk over the viewers of a
//! stream. Both register the session's waker, so the session goes on when the socket has room again.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use headwater_rtmp::message::Message;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

use crate::rtmfp::tunnel::TunnelEnd;

/// Bytes asked of the socket at once: a large video frame in one or two reads.
const READ_SIZE: usize = 32 * 1024;

/// Bytes that the kernel takes for a client beyond what is under way to it. Enough for a large key frame, and no more: what a
/// slow viewer is behind waits in the hub's ring, which all viewers share and where it can be skipped, and not in megabytes
/// of socket buffer for each.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 256 * 1024;
/// The send buffer of a socket, in bytes, that is to take last words behind what its client did not take. The kernel may give less.
const ROOM: usize = 1024 * 1024;
/// A client that has said nothing for this long is asked by the kernel whether it is there, this often.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Sets the options of clients' sockets.
///
/// `dead_after` is how long what was sent may stay unacknowledged before the kernel takes the client for dead. The sessions'
/// own times, of pings and of sockets that take nothing, find most dead clients sooner; these two are for the rest: a client
/// that vanished while its last words were on their way, or before it had said anything.
///
/// On Linux a connection inherits all of them from the socket that accepts it, so that they cost a newcomer nothing.
pub(crate) fn prepare(socket: SockRef<'_>, dead_after: Duration) -> io::Result<()> {
    // Without it small messages of the set-up wait for the client's delayed acknowledgements.
    socket.set_tcp_nodelay(true)?;
    let (idle, interval) = KEEP_ALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(dead_after))?;
        socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = dead_after;
    Ok(())
}

pub(crate) enum Transport {
    Tcp(TcpStream),
    // Boxed: a TLS connection is a kilobyte, and most viewers have none.
    Tls(Box<TlsStream<TcpStream>>),
    /// The messages of an RTMFP client.
    Rtmfp(TunnelEnd),
}

impl Transport {
    /// Acknowledges what has arrived at once. Clients that leave Nagle's algorithm on, ffmpeg for one, send the commands of
    /// the set-up as several small segments, and each but the first waits for our acknowledgement: 40 ms each, if the kernel
    /// waits for something to send it with. The option does not stick: to be set after each read.
    pub(crate) fn acknowledge_now(&self) {
        // A kernel that has no such option is only slower.
        #[cfg(target_os = "linux")]
        if let Some(socket) = self.socket() {
            let _ = SockRef::from(socket).set_tcp_quickack(true);
        }
    }

    /// Whether what is written from now on is of a live stream, of which nothing need come that is late.
    pub(crate) fn set_live(&self, is_live: bool) {
        if let Self::Rtmfp(tunnel) = self {
            tunnel.set_live(is_live);
        }
    }

    /// The client may meet others, where it can at all.
    pub(crate) fn allow_peers(&self) {
        if let Self::Rtmfp(tunnel) = self {
            tunnel.allow_peers();
        }
    }

    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(socket) => Some(socket),
            Self::Tls(stream) => Some(stream.get_ref().0),
            Self::Rtmfp(_) => None,
        }
    }

    /// Lets the kernel take as much as it has room for, see [`prepare`], and more than it would by itself: for the last words to
    /// a client that does not read.
    pub(crate) fn use_all_room(&self) {
        let Some(socket) = self.socket() else {
            return;
        };
        let socket = SockRef::from(socket);
        // Where there is no such option there is no such bound.
        #[cfg(target_os = "linux")]
        let _ = socket.set_tcp_notsent_lowat(u32::MAX);
        // Setting a size that is less than the kernel has found by itself would take room away.
        if socket.send_buffer_size().is_ok_and(|now| now < ROOM) {
            let _ = socket.set_send_buffer_size(ROOM);
        }
    }

    /// Appends what arrived to `buffer`. `Ok(0)` is the end of the stream. An empty buffer is exchanged for `scratch`, which has
    /// room already, if there is something to read.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        scratch: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        if let Self::Rtmfp(tunnel) = self {
            return tunnel.poll_read(cx, buffer);
        }
        if let Self::Tcp(socket) = self {
            // No buffer is set aside for the many viewers that are silent.
            ready!(socket.poll_read_ready(cx))?;
        }
        if buffer.is_empty() {
            std::mem::swap(buffer, scratch);
        }
        buffer.reserve(READ_SIZE);
        let read = match self {
            Self::Tcp(socket) => poll_read_buf(Pin::new(socket), cx, buffer),
            Self::Tls(stream) => poll_read_buf(Pin::new(stream.as_mut()), cx, buffer),
            Self::Rtmfp(tunnel) => tunnel.poll_read(cx, buffer),
        };
        if buffer.is_empty() {
            std::mem::swap(buffer, scratch);
        }
        read
    }

    /// Whether what is written leaves the edge as it is. Otherwise it is counted where it leaves.
    pub(crate) fn is_wire(&self) -> bool {
        !matches!(self, Self::Rtmfp(_))
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
            Self::Rtmfp(tunnel) => tunnel.poll_write(cx, bytes),
        }
    }

    /// Writes whole messages, to which no part of another is to be added: their bytes, or where there is no byte stream the messages
    /// themselves. Gives how many of the bytes were taken.
    pub(crate) fn poll_write_messages<'a>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        messages: impl FnOnce() -> &'a [Message],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Rtmfp(tunnel) => tunnel.poll_send(cx, messages()).map_ok(|()| bytes.len()),
            Self::Tcp(_) | Self::Tls(_) => self.poll_write(cx, bytes),
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
            // Each piece is copied by itself anyway.
            Self::Rtmfp(tunnel) => match slices.iter().find(|slice| !slice.is_empty()) {
                Some(first) => tunnel.poll_write(cx, first),
                None => Poll::Ready(Ok(0)),
            },
        }
    }

    /// Pushes out what TLS holds back; nothing to do on plain TCP.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) | Self::Rtmfp(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Rtmfp(tunnel) => {
                tunnel.shut();
                Poll::Ready(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_inherit_what_finds_dead_clients() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead_after = Duration::from_secs(25);
        prepare(SockRef::from(&listener), dead_after).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (accepted, _client) = tokio::join!(listener.accept(), client);
        let (stream, _) = accepted.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(dead_after));
        assert!(stream.nodelay().unwrap());
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
        Transport::Tcp(stream).use_all_room();
    }
}
