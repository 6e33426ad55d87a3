//! What is between a client and its server: a TCP connection, a session of RTMFP, or a bare sender's datagrams.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::account::Counter;
use super::plan::Carrier;
use super::rtmfp::{Kit, RtmfpLink};
use super::sealed::SealedLink;
use super::watcher::{Phase, Watcher};
use crate::client::ClientError;
use crate::clock::now_ns;

/// Reads of one TCP connection before others have their turn.
const READS_PER_TURN: usize = 8;

/// See the [module](self).
#[derive(Debug)]
pub(super) enum Link {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A session of RTMFP.
    Rtmfp(Box<RtmfpLink>),
    /// Datagrams of a bare sender.
    Sealed(Box<SealedLink>),
}

/// What a turn of a link is made with, and what it adds to.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) kit: &'a mut Kit,
    pub(super) buffer: &'a mut [u8],
    pub(super) counter: &'a mut Counter,
    /// Whether whatever comes behind what is here now wakes the thread again.
    pub(super) is_edge: bool,
}

impl Link {
    /// Begins to connect to the address that the watcher is at.
    pub(super) fn connect(
        watcher: &Watcher,
        address: SocketAddr,
        kit: &mut Kit,
        now: u64,
    ) -> io::Result<Self> {
        let plan = watcher.plan();
        match &plan.carrier {
            Carrier::Tcp => {
                let socket = TcpStream::connect(address)?;
                // Without it the small messages at the start wait for each other's acknowledgements.
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            Carrier::Rtmfp(rtmfp) => {
                let link = RtmfpLink::connect(rtmfp, &plan.addresses, &mut kit.tools, now);
                Ok(Self::Rtmfp(Box::new(link?)))
            }
            Carrier::Sealed(manner) => {
                let link = SealedLink::connect(*manner, address, kit, now);
                Ok(Self::Sealed(Box::new(link?)))
            }
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => {
                registry.register(socket, token, Interest::READABLE | Interest::WRITABLE)
            }
            // What they do not take is lost: nothing waits for room.
            Self::Rtmfp(link) => {
                registry.register(link.socket().source(), token, Interest::READABLE)
            }
            Self::Sealed(link) => {
                registry.register(link.socket().source(), token, Interest::READABLE)
            }
        }
    }

    /// Whether there is a TCP connection. The others tell their watchers themselves.
    pub(super) fn finish_connecting(&self) -> io::Result<bool> {
        let Self::Tcp(socket) = self else {
            return Ok(false);
        };
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        match socket.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Both ends of a TCP connection, if there is one.
    pub(super) fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        match self {
            Self::Tcp(socket) => Some((socket.local_addr().ok()?, socket.peer_addr().ok()?)),
            Self::Rtmfp(_) | Self::Sealed(_) => None,
        }
    }

    /// Reads what there is, up to a bound, and does what is due. Gives whether there may be more, and when it read last.
    pub(super) fn turn(&mut self, watcher: &mut Watcher, turn: Turn<'_>, now: u64) -> (bool, u64) {
        match self {
            Self::Tcp(socket) => read(socket, watcher, turn, now),
            Self::Rtmfp(link) => link.turn(turn.kit, watcher, turn.counter, now),
            Self::Sealed(link) => link.turn(turn.kit, watcher, turn.counter, now),
        }
    }

    /// Writes what waits, as far as it is taken.
    pub(super) fn flush(&mut self, watcher: &mut Watcher, kit: &mut Kit, now: u64) {
        match self {
            Self::Tcp(socket) => write(socket, watcher, now),
            Self::Rtmfp(link) => link.flush(watcher, &mut kit.tools, now),
            // A receiver has nothing to say.
            Self::Sealed(_) => watcher.take_sent(usize::MAX),
        }
    }

    /// When something is due, if anything is.
    pub(super) fn due(&self) -> Option<u64> {
        match self {
            Self::Tcp(_) => None,
            Self::Rtmfp(link) => link.due(),
            Self::Sealed(link) => Some(link.due()),
        }
    }

    /// Says that nothing more will be said. False: there is nothing to wait for.
    pub(super) fn shut_down(&mut self, kit: &mut Kit, now: u64) -> bool {
        match self {
            Self::Tcp(socket) => {
                // A socket that is gone needs no good-bye.
                let _gone = socket.shutdown(std::net::Shutdown::Write);
                true
            }
            Self::Rtmfp(link) => {
                link.leave(&mut kit.tools, now);
                false
            }
            Self::Sealed(link) => {
                link.leave();
                false
            }
        }
    }
}

/// If whatever comes behind what is here now wakes the thread again, a read that did not fill the buffer is the last; else the socket has
/// to say that it is empty.
fn read(
    socket: &mut TcpStream,
    watcher: &mut Watcher,
    turn: Turn<'_>,
    mut now: u64,
) -> (bool, u64) {
    for _ in 0..READS_PER_TURN {
        match socket.read(turn.buffer) {
            Ok(0) => watcher.end(ClientError::Closed, now),
            Ok(count) => {
                now = now_ns();
                let input = turn.buffer.get(..count).unwrap_or_default();
                watcher.receive(input, now, turn.counter);
                let is_last = turn.is_edge && count < turn.buffer.len();
                if !is_last && watcher.phase() != Phase::Ended {
                    continue;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => watcher.end(ClientError::io(&error), now),
        }
        return (false, now);
    }
    (true, now)
}

fn write(socket: &mut TcpStream, watcher: &mut Watcher, now: u64) {
    while !watcher.output().is_empty() {
        match socket.write(watcher.output()) {
            Ok(count) => watcher.take_sent(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return watcher.end(ClientError::io(&error), now),
        }
    }
}
