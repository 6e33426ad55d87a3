//! UDP sockets that take and send many datagrams with one call, where the kernel can.
//!
//! What goes to one address is cut into datagrams by the kernel (UDP segmentation offload): all of the same length, but the last. What
//! comes may be several datagrams in one piece, too.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::net::UdpSocket;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// Bytes of the longest piece that comes: several datagrams, or the longest that there is.
const LONGEST: usize = 65_535;

/// Bytes that are sent with one call, at most: the most that IP takes.
const MOST: usize = 60_000;

/// Pieces that are taken with one call, at most. Those of a viewer hold some 50 datagrams each.
const PIECES: usize = if BATCH_SIZE < 4 { BATCH_SIZE } else { 4 };

/// A socket that never blocks. Its buffers are those that the system gives.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// Where datagrams are put that come.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffers: Box<[u8]>,
    metas: [RecvMeta; PIECES],
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: vec![0; LONGEST * PIECES].into(),
            metas: [RecvMeta::default(); PIECES],
        }
    }
}

/// What was found in a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Nothing.
    Nothing,
    /// All that was there.
    All,
    /// As much as is taken at once; there may be more.
    Some,
}

impl Udp {
    /// Binds a socket to an address.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, state })
    }

    /// A socket to talk to `far` from, for the client of that number.
    ///
    /// Servers limit what they spend on a network. So that this program can stand for clients of many networks, those of a server on
    /// this machine, at an address of 127.0.0.0/8, are each in a network of their own: 127.0.1.1, 127.0.2.1 and so on, up to 65,535 of
    /// them. Where the system has no such addresses they share one.
    pub(crate) fn toward(far: SocketAddr, number: u32) -> io::Result<Self> {
        let any = match far.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        if far.is_ipv4() && far.ip().is_loopback() {
            let [.., high, low] = (number % u32::from(u16::MAX) + 1).to_be_bytes();
            let own = IpAddr::V4(Ipv4Addr::new(127, high, low, 1));
            if let Ok(socket) = Self::bind((own, 0).into()) {
                return Ok(socket);
            }
        }
        Self::bind((any, 0).into())
    }

    /// The socket, to be waited for.
    pub(crate) fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// Where it is.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Asks for so many bytes of room for what comes. The system may give less.
    pub(crate) fn set_receive_buffer(&self, bytes: usize) {
        let socket = UdpSockRef::from(&self.socket);
        // With less, more is lost where there is much at once; that shows.
        let _less = self.state.set_recv_buffer_size(socket, bytes);
    }

    /// The same for what goes out.
    pub(crate) fn set_send_buffer(&self, bytes: usize) {
        let socket = UdpSockRef::from(&self.socket);
        let _less = self.state.set_send_buffer_size(socket, bytes);
    }

    /// Sends one datagram. One that the kernel does not take now is lost, as it may be on its way.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) {
        let _lost = self.socket.send_to(datagram, to);
    }

    /// Sends a batch with one call; false if the kernel does not take it.
    pub(crate) fn send_batch(&self, batch: &Batch) -> bool {
        let Some(to) = batch.to else {
            return true;
        };
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: &batch.bytes,
            segment_size: (batch.segment < batch.bytes.len()).then_some(batch.segment),
            src_ip: None,
        };
        let socket = UdpSockRef::from(&self.socket);
        self.state.try_send(socket, &transmit).is_ok()
    }

    /// A batch for this socket.
    pub(crate) fn batch(&self) -> Batch {
        Batch {
            to: None,
            segment: 0,
            bytes: Vec::new(),
            most: self.state.max_gso_segments().max(1),
            count: 0,
            is_closed: false,
        }
    }

    /// Gives the datagrams that have come to `take`: those of one call.
    pub(crate) fn receive(
        &self,
        inbox: &mut Inbox,
        mut take: impl FnMut(SocketAddr, &mut [u8]),
    ) -> io::Result<Received> {
        let Inbox { buffers, metas } = inbox;
        let mut pieces = buffers.chunks_mut(LONGEST);
        let mut slices: [IoSliceMut<'_>; PIECES] =
            std::array::from_fn(|_| IoSliceMut::new(pieces.next().unwrap_or_default()));
        let socket = UdpSockRef::from(&self.socket);
        let count = match self.state.recv(socket, &mut slices, metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Received::Nothing);
            }
            // Somebody who got a datagram does not listen: that says nothing of what else there is.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(Received::Some);
            }
            Err(error) => return Err(error),
        };
        for (meta, slice) in metas.iter().zip(&mut slices).take(count) {
            let piece = slice.get_mut(..meta.len).unwrap_or_default();
            for datagram in piece.chunks_mut(meta.stride.max(1)) {
                take(meta.addr, datagram);
            }
        }
        Ok(if count < PIECES {
            Received::All
        } else {
            Received::Some
        })
    }
}

/// Datagrams for one address.
#[derive(Debug)]
pub(crate) struct Batch {
    to: Option<SocketAddr>,
    /// Bytes of each datagram but the last.
    segment: usize,
    bytes: Vec<u8>,
    most: usize,
    count: usize,
    /// The last one was shorter: nothing can follow it.
    is_closed: bool,
}

impl Batch {
    /// Begins anew, for this address.
    pub(crate) fn begin(&mut self, to: SocketAddr) {
        self.to = Some(to);
        self.bytes.clear();
        self.segment = 0;
        self.count = 0;
        self.is_closed = false;
    }

    /// Whether a datagram of so many bytes can follow.
    pub(crate) fn fits(&self, length: usize) -> bool {
        self.count == 0
            || !self.is_closed
                && length <= self.segment
                && self.count < self.most
                && self.bytes.len() + length <= MOST
    }

    /// Has `write` append a datagram, of a length that [`fits`](Self::fits).
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        let length = self.bytes.len() - before;
        if self.count == 0 {
            self.segment = length;
        }
        self.is_closed = length < self.segment;
        self.count += 1;
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all of them.
    pub(crate) const fn length(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn datagrams_come_as_they_were_sent() {
        let any = || Udp::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (here, there) = (any(), any());
        let to = there.address().unwrap();
        let sent: Vec<Vec<u8>> = (0..5)
            .map(|n| vec![n; if n == 4 { 70 } else { 100 }])
            .collect();
        let mut batch = here.batch();
        batch.begin(to);
        for datagram in &sent {
            if !batch.fits(datagram.len()) {
                assert!(here.send_batch(&batch));
                batch.begin(to);
            }
            batch.append(|out| out.extend_from_slice(datagram));
        }
        assert!(!batch.fits(50), "behind a shorter one");
        assert!(batch.count() > 0 && batch.length() >= 70);
        assert!(here.send_batch(&batch));
        here.send(b"alone", to);
        let (mut inbox, mut received) = (Inbox::default(), Vec::new());
        let begun = Instant::now();
        while received.len() <= sent.len() && begun.elapsed().as_secs() < 20 {
            let take = |_, datagram: &mut [u8]| received.push(datagram.to_vec());
            there.receive(&mut inbox, take).unwrap();
        }
        assert_eq!(received[..sent.len()], sent);
        assert_eq!(received[sent.len()], b"alone");
        let nothing = there.receive(&mut inbox, |_, _| {}).unwrap();
        assert_eq!(nothing, Received::Nothing);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn clients_of_a_server_on_this_machine_are_in_networks_of_their_own() {
        let far: SocketAddr = "127.0.0.1:1935".parse().unwrap();
        for (number, ip) in [(0, "127.0.1.1"), (254, "127.0.255.1"), (255, "127.1.0.1")] {
            let socket = Udp::toward(far, number).unwrap();
            assert_eq!(socket.address().unwrap().ip().to_string(), ip);
        }
        let elsewhere = Udp::toward("192.0.2.1:1".parse().unwrap(), 0).unwrap();
        assert!(elsewhere.address().unwrap().ip().is_unspecified());
    }
}
