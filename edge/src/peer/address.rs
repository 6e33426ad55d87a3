//! Which addresses of a client are told to whom.
//!
//! Addresses that a client reports are claims: whoever is told of them sends hellos there. So there are at most as many as an initiator
//! has to try (RFC 7016 section 3.5.1.1.1), fewer where this server has each of them cause a packet, and none that no peer can mean.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use headwater_proto::v1;
use headwater_rtmfp::wire::{Address, Origin};

/// Addresses of a client that are kept: REDIRECT_THRESHOLD of RFC 7016.
const MOST: usize = 24;

/// Addresses of an initiator that a wanted peer is told of, each in a packet of its own: where it is seen, and some that it reports.
const MOST_HELLOS: usize = 4;

/// Where a client is: seen at first, then what it reports, each once.
pub(crate) fn here(seen: SocketAddr, reported: &[SocketAddr]) -> Vec<Address> {
    let seen = canonical(seen);
    let mut addresses = vec![Address::observed(seen)];
    for socket in reported {
        let socket = canonical(*socket);
        if addresses.len() < MOST && !addresses.iter().any(|known| known.socket == socket) {
            let origin = Origin::Reported;
            addresses.push(Address { socket, origin });
        }
    }
    addresses
}

/// Those of them that are of use to who is seen at `to`: first those of its own family.
pub(super) fn useful(addresses: &[Address], to: SocketAddr) -> Vec<Address> {
    let to = canonical(to).ip();
    let useful = addresses.iter().filter(|it| is_useful(it.socket, to));
    let mut useful: Vec<Address> = useful.copied().collect();
    // Stable: where it is seen stays first of its family.
    useful.sort_by_key(|it| it.socket.is_ipv4() != to.is_ipv4());
    useful.truncate(MOST);
    useful
}

/// The same of an initiator, for hellos.
pub(super) fn for_hellos(initiator: &[Address], to: SocketAddr) -> Vec<Address> {
    let mut useful = useful(initiator, to);
    useful.truncate(MOST_HELLOS);
    useful
}

fn is_useful(socket: SocketAddr, to: IpAddr) -> bool {
    let ip = socket.ip();
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let is_nobody = ip.is_unspecified() || ip.is_multicast() || is_broadcast;
    // On one machine everything is there.
    socket.port() != 0 && !is_nobody && (!ip.is_loopback() || to.is_loopback())
}

fn canonical(socket: SocketAddr) -> SocketAddr {
    SocketAddr::new(socket.ip().to_canonical(), socket.port())
}

pub(super) fn to_wire(addresses: &[Address]) -> Vec<v1::PeerAddress> {
    let wire = |address: &Address| v1::PeerAddress {
        ip: match address.socket.ip() {
            IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
        },
        port: address.socket.port().into(),
        origin: match address.origin {
            Origin::Unknown => v1::AddressOrigin::Unknown,
            Origin::Reported => v1::AddressOrigin::Reported,
            Origin::Observed => v1::AddressOrigin::Observed,
            Origin::Relay => v1::AddressOrigin::Relay,
        }
        .into(),
    };
    addresses.iter().map(wire).collect()
}

/// What can be read of them.
pub(super) fn from_wire(addresses: &[v1::PeerAddress]) -> Vec<Address> {
    let read = |address: &v1::PeerAddress| {
        let ip = match address.ip.len() {
            4 => IpAddr::from(<[u8; 4]>::try_from(&address.ip[..]).ok()?),
            16 => IpAddr::from(<[u8; 16]>::try_from(&address.ip[..]).ok()?),
            _ => return None,
        };
        let socket = canonical(SocketAddr::new(ip, u16::try_from(address.port).ok()?));
        let origin = match address.origin() {
            v1::AddressOrigin::Unknown => Origin::Unknown,
            v1::AddressOrigin::Reported => Origin::Reported,
            v1::AddressOrigin::Observed => Origin::Observed,
            v1::AddressOrigin::Relay => Origin::Relay,
        };
        Some(Address { socket, origin })
    };
    addresses.iter().take(MOST).filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn shown(addresses: &[Address]) -> Vec<String> {
        let shown = addresses.iter();
        shown.map(|it| it.socket.to_string()).collect()
    }

    #[test]
    fn who_is_told_gets_what_is_of_use_to_it() {
        let reported = [
            "10.0.0.5:1000",
            "[2001:db8::5]:1000",
            "127.0.0.1:1000",
            "0.0.0.0:1000",
            "224.0.0.1:1000",
            "255.255.255.255:1000",
            "10.0.0.6:0",
            "198.51.100.1:4000",
        ]
        .map(socket);
        let all = here(socket("[::ffff:198.51.100.1]:4000"), &reported);
        assert_eq!(all.len(), 8, "where it is seen is there once");
        let told = |to: &str| shown(&useful(&all, socket(to)));
        assert_eq!(
            told("203.0.113.1:1"),
            ["198.51.100.1:4000", "10.0.0.5:1000", "[2001:db8::5]:1000"]
        );
        assert_eq!(
            told("[2001:db8::9]:1"),
            ["[2001:db8::5]:1000", "198.51.100.1:4000", "10.0.0.5:1000"]
        );
        assert!(told("127.0.0.9:1").contains(&"127.0.0.1:1000".to_owned()));
        assert!(told("[::ffff:127.0.0.9]:1").contains(&"127.0.0.1:1000".to_owned()));
    }

    #[test]
    fn there_are_never_more_than_may_be() {
        let reported: Vec<SocketAddr> = (1..100).map(|port| ([10, 0, 0, 1], port).into()).collect();
        let all = here(socket("198.51.100.1:4000"), &reported);
        assert_eq!((all.len(), all[0].origin), (24, Origin::Observed));
        assert!(all[1..].iter().all(|it| it.origin == Origin::Reported));
        let hellos = for_hellos(&all, socket("203.0.113.1:1"));
        assert_eq!(hellos, all[..4]);
        let many = [all.clone(), all].concat();
        assert_eq!(from_wire(&to_wire(&many)).len(), 24);
    }

    #[test]
    fn nodes_tell_each_other_the_same_addresses() {
        let reported = ["[2001:db8::5]:1000", "10.0.0.5:1"].map(socket);
        let all = here(socket("198.51.100.1:4000"), &reported);
        let mut wire = to_wire(&all);
        assert_eq!(from_wire(&wire), all);
        wire[0].ip = Bytes::from_static(b"abcde");
        wire[1].port = 70_000;
        assert_eq!(from_wire(&wire), all[2..]);
    }
}
