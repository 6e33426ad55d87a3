//! Whether a server answers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::Identity;
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator;
use headwater_rtmfp::crypto::negotiation::Protection;
use headwater_rtmfp::handshake::{Initiator, InitiatorConfig};
use rand::rngs::StdRng;

use crate::floor::hello::{Hello, Wish};

/// How long one attempt may take while a server gets ready.
const ATTEMPT: Duration = Duration::from_millis(200);

/// The application that a server of RTMFP is asked for. Servers answer whatever it is.
const ANY: &str = "rtmfp://127.0.0.1/ready";

/// An address, and how one finds out whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Connections of TCP are taken.
    Tcp(SocketAddr),
    /// Hellos of RTMFP are answered.
    Rtmfp(SocketAddr),
    /// A bare sender of datagrams answers.
    SealedFloor(SocketAddr),
}

impl Door {
    pub(super) const fn address(self) -> SocketAddr {
        match self {
            Self::Tcp(address) | Self::Rtmfp(address) | Self::SealedFloor(address) => address,
        }
    }

    /// Tries once.
    pub(super) fn is_open(self) -> bool {
        match self {
            Self::Tcp(address) => TcpStream::connect_timeout(&address, ATTEMPT).is_ok(),
            Self::Rtmfp(address) => {
                hello(address).is_some_and(|hello| is_answered(address, &hello).unwrap_or(false))
            }
            Self::SealedFloor(address) => {
                let mut hello = Hello::new(Protection::Never, 1, [0; 48]);
                hello.wish = Wish::Probe;
                is_answered(address, &hello.to_bytes()).unwrap_or(false)
            }
        }
    }
}

/// A hello for a server.
fn hello(to: SocketAddr) -> Option<Vec<u8>> {
    let mut rng: StdRng = rand::make_rng();
    let identity = Identity::ephemeral(&[Group::Modp1024], &mut rng).ok()?;
    let config = InitiatorConfig::new(Arc::new(identity), discriminator::for_uri(ANY));
    let mut initiator = Initiator::new(Duration::ZERO, config, 1, &[to], &mut rng);
    let transmit = initiator.poll_transmit()?;
    Some(transmit.datagram.to_vec())
}

/// Whether anything comes back.
fn is_answered(address: SocketAddr, datagram: &[u8]) -> io::Result<bool> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(ATTEMPT))?;
    // Where nobody listens that is told at once.
    socket.connect(address)?;
    socket.send(datagram)?;
    Ok(socket.recv(&mut [0; 1]).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_open_when_somebody_answers() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        for door in [Door::Rtmfp(address), Door::SealedFloor(address)] {
            assert_eq!(door.address(), address);
            assert!(!door.is_open(), "{door:?}");
            // What has come meanwhile is of the attempt before.
            while socket.set_nonblocking(true).is_ok() && socket.recv(&mut [0; 1]).is_ok() {}
            socket.set_nonblocking(false).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (_, from) = socket.recv_from(&mut [0; 1_500]).unwrap();
                    socket.send_to(b"x", from).unwrap();
                });
                assert!(door.is_open(), "{door:?}");
            });
        }
        drop(socket);
        assert!(!Door::Rtmfp(address).is_open());
        assert!(!Door::Tcp(address).is_open());
    }
}
