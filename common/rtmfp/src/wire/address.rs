//! Addresses with their origin: RFC 7016 section 2.1.5.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::BufMut;

use super::field::{Fields, Malformed};

/// Set in the first byte of an IPv6 address.
const IPV6: u8 = 0x80;

/// Where an address is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Origin {
    /// Unknown, or something else.
    Unknown = 0,
    /// The endpoint says that it is one of its own.
    Reported = 1,
    /// Packets of the endpoint come from it.
    Observed = 2,
    /// A relay, a proxy or an introducer.
    Relay = 3,
}

/// An address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Where to send to.
    pub socket: SocketAddr,
    /// Where it is known from.
    pub origin: Origin,
}

impl Address {
    /// An address that packets come from.
    #[must_use]
    pub fn observed(socket: SocketAddr) -> Self {
        Self {
            socket,
            origin: Origin::Observed,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn read(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let flags = fields.u8()?;
        let ip = if flags & IPV6 == 0 {
            IpAddr::from(Ipv4Addr::from(fields.array::<4>()?))
        } else {
            IpAddr::from(Ipv6Addr::from(fields.array::<16>()?))
        };
        let origin = match flags & 0x03 {
            1 => Origin::Reported,
            2 => Origin::Observed,
            3 => Origin::Relay,
            _ => Origin::Unknown,
        };
        Ok(Self {
            socket: SocketAddr::new(ip, fields.u16()?),
            origin,
        })
    }

    /// Writes it; an IPv4 address in the clothes of IPv6 as what it is.
    pub fn put(&self, out: &mut impl BufMut) {
        match self.socket.ip().to_canonical() {
            IpAddr::V4(ip) => {
                out.put_u8(self.origin as u8);
                out.put_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.put_u8(self.origin as u8 | IPV6);
                out.put_slice(&ip.octets());
            }
        }
        out.put_u16(self.socket.port());
    }
}

/// An address in a form in which each has the same length, to be hashed: an IPv6 address, mapped if need be, and a port.
pub(crate) fn bytes_of(address: SocketAddr) -> [u8; 18] {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    let (start, port) = bytes.split_at_mut(16);
    start.copy_from_slice(&ip.octets());
    port.copy_from_slice(&address.port().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_the_specification_says() {
        let cases: [(&str, Origin, &[u8]); 3] = [
            (
                "127.0.0.1:1935",
                Origin::Observed,
                &[0x02, 0x7f, 0, 0, 1, 0x07, 0x8f],
            ),
            (
                "[::1]:80",
                Origin::Reported,
                &[
                    0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x50,
                ],
            ),
            ("10.0.0.1:1", Origin::Unknown, &[0, 10, 0, 0, 1, 0, 1]),
        ];
        for (socket, origin, bytes) in cases {
            let address = Address {
                socket: socket.parse().unwrap(),
                origin,
            };
            let mut out = Vec::new();
            address.put(&mut out);
            assert_eq!(out, bytes, "{socket}");
            assert_eq!(Address::read(&mut Fields::new(bytes)), Ok(address));
            for short in 0..bytes.len() {
                assert!(Address::read(&mut Fields::new(&bytes[..short])).is_err());
            }
        }
        let mapped = Address::observed("[::ffff:10.0.0.1]:1".parse().unwrap());
        let mut out = Vec::new();
        mapped.put(&mut out);
        assert_eq!(out, [2, 10, 0, 0, 1, 0, 1]);
    }
}
