//! A UDP socket that takes and sends many datagrams at a time.
//!
//! What goes to one address is sent with one call where the kernel cuts it into datagrams itself (UDP segmentation offload): all of the
//! same length, but the last. What comes in may be several datagrams in one piece, too.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Bytes of the longest datagram there can be.
const LONGEST: usize = 65_535;

/// Bytes that are sent with one call, at most: the most that IP takes.
const MOST: usize = 60_000;

/// Datagrams, or pieces of several, that are read with one call: each costs something even if there are fewer.
const MOST_READ: usize = 16;

/// Bytes that the kernel may hold in each direction. What it does not hold is lost.
const BUFFER: usize = 4 << 20;

pub(crate) struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    is_ipv6: bool,
}

/// Where datagrams are put that come.
pub(crate) struct Inbox {
    buffers: Vec<u8>,
    metas: [RecvMeta; MOST_READ],
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: vec![0; LONGEST * MOST_READ],
            metas: [RecvMeta::default(); MOST_READ],
        }
    }
}

impl Socket {
    /// Must be called on the runtime that it is to be used on.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        for grown in [
            state.set_send_buffer_size(UdpSockRef::from(&socket), BUFFER),
            state.set_recv_buffer_size(UdpSockRef::from(&socket), BUFFER),
        ] {
            if let Err(error) = grown {
                tracing::debug!(%error, "the kernel gives no larger buffer");
            }
        }
        Ok(Self {
            is_ipv6: socket.local_addr()?.is_ipv6(),
            io: UdpSocket::from_std(socket)?,
            state,
        })
    }

    /// The address that it is bound to.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// An address as this socket sends to it: one for both families takes IPv4 in the clothes of IPv6, as peers do not write it.
    pub(crate) fn reachable(&self, to: SocketAddr) -> SocketAddr {
        match to {
            SocketAddr::V4(to) if self.is_ipv6 => {
                SocketAddr::from((to.ip().to_ipv6_mapped(), to.port()))
            }
            to => to,
        }
    }

    /// Waits until there is something to receive.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Gives each datagram that has come to `take`. False: there was none.
    pub(crate) fn receive(
        &self,
        inbox: &mut Inbox,
        mut take: impl FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<bool> {
        let (io, state) = (&self.io, &self.state);
        let metas = &mut inbox.metas;
        let mut chunks = inbox.buffers.chunks_mut(LONGEST);
        let mut slices: [IoSliceMut<'_>; MOST_READ] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let received = io.try_io(Interest::READABLE, || {
            state.recv(UdpSockRef::from(io), &mut slices, metas)
        });
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // Somebody who got a datagram does not listen: that says nothing of the others.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(true),
            Err(error) => return Err(error),
        };
        for (meta, slice) in metas.iter().zip(&mut slices).take(count) {
            let piece = slice.get_mut(..meta.len).unwrap_or_default();
            for datagram in piece.chunks_mut(meta.stride.max(1)) {
                take(meta.addr, datagram);
            }
        }
        Ok(true)
    }

    /// Sends what the kernel takes; the rest is lost, as it may be on any way.
    pub(crate) fn send(&self, batch: &Batch) {
        let Some(to) = batch.to else {
            return;
        };
        let contents = batch.bytes.get(..batch.end).unwrap_or_default();
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: (batch.segment < contents.len()).then_some(batch.segment),
            src_ip: None,
        };
        let sent = self.io.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.io), &transmit)
        });
        if let Err(error) = sent {
            tracing::trace!(%error, %to, "datagrams were not sent");
        }
    }

    /// A batch for this socket.
    pub(crate) fn batch(&self) -> Batch {
        Batch {
            to: None,
            segment: 0,
            bytes: Vec::new(),
            end: 0,
            most: self.state.max_gso_segments().max(1),
            count: 0,
            is_closed: false,
        }
    }
}

/// Datagrams for one address, and one more that may be for another.
pub(crate) struct Batch {
    to: Option<SocketAddr>,
    /// Bytes of each datagram but the last.
    segment: usize,
    bytes: Vec<u8>,
    /// Where that one more begins.
    end: usize,
    most: usize,
    count: usize,
    /// The last one was shorter: nothing can follow it.
    is_closed: bool,
}

impl Batch {
    /// Where the next datagram is to be appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes what was appended as a datagram; false if it does not fit behind the others: once these are sent,
    /// [`clear`](Self::clear) makes room for it.
    pub(crate) fn take(&mut self, to: SocketAddr) -> bool {
        let length = self.bytes.len() - self.end;
        if self.to.is_none() {
            self.to = Some(to);
            self.segment = length;
        } else if self.to != Some(to)
            || self.is_closed
            || length > self.segment
            || self.count >= self.most
            || self.bytes.len() > MOST
        {
            return false;
        }
        self.is_closed = length < self.segment;
        self.count += 1;
        self.end = self.bytes.len();
        true
    }

    /// Bytes of the datagrams that were taken.
    pub(crate) fn length(&self) -> usize {
        self.end
    }

    /// Forgets those that were taken.
    pub(crate) fn clear(&mut self) {
        self.bytes.drain(..self.end);
        self.end = 0;
        self.to = None;
        self.count = 0;
        self.is_closed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_for_both_families_reaches_ipv4() {
        let Ok(both) = std::net::UdpSocket::bind("[::]:0") else {
            // Without IPv6 there is no such socket.
            return;
        };
        let there = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        there
            .set_read_timeout(Some(std::time::Duration::from_secs(10)))
            .unwrap();
        both.set_nonblocking(true).unwrap();
        let socket = Socket::new(both).unwrap();
        let mut batch = socket.batch();
        batch.buffer().extend_from_slice(b"hello");
        let to = there.local_addr().unwrap();
        assert!(batch.take(socket.reachable(to)));
        socket.io.writable().await.unwrap();
        socket.send(&batch);
        let mut received = [0; 16];
        let (count, _) = there.recv_from(&mut received).unwrap();
        assert_eq!(received[..count], *b"hello");
        let v6: SocketAddr = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(socket.reachable(v6), v6);
    }

    #[tokio::test]
    async fn datagrams_come_as_they_were_sent() {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (here, there) = (bind(), bind());
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        let to = there.local_addr().unwrap();
        let from = here.local_addr().unwrap();
        let (here, there) = (Socket::new(here).unwrap(), Socket::new(there).unwrap());
        let mut batch = here.batch();
        let sent: Vec<Vec<u8>> = (0..5)
            .map(|n| vec![n; if n == 4 { 70 } else { 100 }])
            .collect();
        let push = |batch: &mut Batch, to, datagram: &[u8]| {
            batch.buffer().extend_from_slice(datagram);
            batch.take(to)
        };
        for datagram in &sent {
            if !push(&mut batch, to, datagram) {
                here.send(&batch);
                batch.clear();
                assert!(batch.take(to));
            }
        }
        assert!(!push(&mut batch, to, &[0; 50]), "behind a shorter one");
        // Until the runtime has heard that it can send, it does not try to.
        here.io.writable().await.unwrap();
        here.send(&batch);
        let mut received = Vec::new();
        let mut inbox = Inbox::default();
        while received.len() < sent.len() {
            there.readable().await.unwrap();
            let took = there.receive(&mut inbox, |address, datagram| {
                assert_eq!(address, from);
                received.push(datagram.to_vec());
            });
            took.unwrap();
        }
        assert_eq!(received, sent);
        batch.clear();
        assert_eq!(batch.length(), 0);
        assert!(batch.take(to), "it waited");
        assert_eq!(batch.length(), 50);
        assert!(!push(&mut batch, from, &[0; 50]), "for somebody else");
    }
}
