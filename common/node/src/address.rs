//! Listen addresses and bound sockets.
//!
//! `1935` and `:1935` listen on every address of both families, `127.0.0.1:1935` and `[::]:1935` on that one, and
//! `host:1935` on the first address of the name that can be bound.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::{Field, Shape};

/// How many connections may wait to be accepted, unless a listener says otherwise. The kernel caps it at
/// `net.core.somaxconn`, 4096 on current systems.
pub const DEFAULT_BACKLOG: i32 = 4096;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// Every address of both families.
    Port(u16),
    /// One address.
    Socket(SocketAddr),
    /// A name that is looked up when the socket is bound.
    Host(String, u16),
}

/// Why an address cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is no listen address.
    #[error(
        "`{text}` is no listen address: write a port (1935), an address with a port (127.0.0.1:1935, [::1]:1935) or a name with a port"
    )]
    Malformed {
        /// The text.
        text: String,
    },
    /// Somebody else listens there.
    #[error("`{key}`: {address} is in use by another process")]
    InUse {
        /// The key of the configuration that holds the address.
        key: String,
        /// The address.
        address: String,
    },
    /// Binding failed otherwise.
    #[error("`{key}`: cannot listen on {address}: {message}")]
    Bind {
        /// The key of the configuration that holds the address.
        key: String,
        /// The address.
        address: String,
        /// What the operating system said.
        message: String,
    },
}

impl ListenAddress {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Port(port) | Self::Host(_, port) => *port,
            Self::Socket(address) => address.port(),
        }
    }

    /// The same address with another port: for further `SO_REUSEPORT` sockets after the first one was bound to port 0.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Port(_) => Self::Port(port),
            Self::Host(host, _) => Self::Host(host.clone(), port),
            Self::Socket(address) => Self::Socket(SocketAddr::new(address.ip(), port)),
        }
    }

    /// Whether only processes on the same machine can reach it. A name counts as reachable from elsewhere, but for
    /// `localhost`.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Socket(address) => address.ip().is_loopback(),
            Self::Host(host, _) => host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(formatter, "{port}"),
            Self::Socket(address) => write!(formatter, "{address}"),
            Self::Host(host, port) => write!(formatter, "{host}:{port}"),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let malformed = || AddressError::Malformed {
            text: text.to_owned(),
        };
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
        // `parse` alone would take a sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let port = port.parse().map_err(|_| malformed())?;
        if host.is_empty() || host == "*" {
            return Ok(Self::Port(port));
        }
        let looks_like_a_name = host.len() <= 253
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
            && host.bytes().any(|byte| byte.is_ascii_alphabetic());
        looks_like_a_name
            .then(|| Self::Host(host.to_owned(), port))
            .ok_or_else(malformed)
    }
}

impl Field for ListenAddress {
    fn shape() -> Shape {
        Shape::Text
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressVisitor)
    }
}

/// Takes a text, and a bare number as a port.
struct AddressVisitor;

impl Visitor<'_> for AddressVisitor {
    type Value = ListenAddress;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a listen address such as \"1935\" or \"127.0.0.1:1935\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ListenAddress, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, port: i64) -> Result<ListenAddress, E> {
        u16::try_from(port)
            .map(ListenAddress::Port)
            .map_err(|_| E::custom(format_args!("{port} is no port, must be 0 to 65535")))
    }

    fn visit_u64<E: Error>(self, port: u64) -> Result<ListenAddress, E> {
        u16::try_from(port)
            .map(ListenAddress::Port)
            .map_err(|_| E::custom(format_args!("{port} is no port, must be 0 to 65535")))
    }
}

/// Binds a listener, non-blocking, ready for `tokio::net::TcpListener::from_std`.
///
/// `key` is the key of the configuration, for the error. With `reuse_port` several sockets of this process may listen
/// on the same address and the kernel spreads connections over them (`SO_REUSEPORT`). `backlog` is how many connections
/// may wait to be accepted; see [`DEFAULT_BACKLOG`]. A host name is looked up, which may block.
///
/// # Errors
/// [`AddressError::InUse`] and [`AddressError::Bind`], naming address and key.
pub fn bind_tcp(
    address: &ListenAddress,
    key: &str,
    reuse_port: bool,
    backlog: i32,
) -> Result<TcpListener, AddressError> {
    bind(address, key, |address, both_families| {
        listen(address, both_families, reuse_port, backlog)
    })
}

/// Binds a UDP socket, non-blocking, in the same way. With `reuse_port` the kernel spreads senders over the sockets.
///
/// # Errors
/// As [`bind_tcp`].
pub fn bind_udp(
    address: &ListenAddress,
    key: &str,
    reuse_port: bool,
) -> Result<UdpSocket, AddressError> {
    bind(address, key, |address, both_families| {
        receive(address, both_families, reuse_port)
    })
}

/// Binds whatever `open` opens, told whether an IPv6 socket is for IPv4, too.
fn bind<T>(
    address: &ListenAddress,
    key: &str,
    open: impl Fn(SocketAddr, bool) -> io::Result<T>,
) -> Result<T, AddressError> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => AddressError::InUse {
            key: key.to_owned(),
            address: address.to_string(),
        },
        _ => AddressError::Bind {
            key: key.to_owned(),
            address: address.to_string(),
            message: error.to_string(),
        },
    };
    match address {
        ListenAddress::Socket(address) => open(*address, false).map_err(|error| failed(&error)),
        ListenAddress::Port(port) => {
            let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), *port);
            match open(both, true) {
                Ok(listener) => Ok(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(failed(&error)),
                // No IPv6 on this machine.
                Err(_) => {
                    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), *port);
                    open(v4, false).map_err(|error| failed(&error))
                }
            }
        }
        ListenAddress::Host(host, port) => {
            let found = (host.as_str(), *port)
                .to_socket_addrs()
                .map_err(|error| failed(&error))?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in found {
                match open(candidate, false) {
                    Ok(listener) => return Ok(listener),
                    Err(error) => last = error,
                }
            }
            Err(failed(&last))
        }
    }
}

fn listen(
    address: SocketAddr,
    both_families: bool,
    reuse_port: bool,
    backlog: i32,
) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    // A restart must not wait for connections of the process before it to time out.
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn receive(address: SocketAddr, both_families: bool, reuse_port: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn texts_and_what_they_mean() {
        let socket = |text: &str| ListenAddress::Socket(text.parse().unwrap());
        for (text, expected) in [
            ("1935", ListenAddress::Port(1935)),
            (":1935", ListenAddress::Port(1935)),
            ("*:1935", ListenAddress::Port(1935)),
            ("0", ListenAddress::Port(0)),
            (" 127.0.0.1:1935 ", socket("127.0.0.1:1935")),
            ("[::]:1935", socket("[::]:1935")),
            ("[::1]:0", socket("[::1]:0")),
            (
                "localhost:443",
                ListenAddress::Host("localhost".to_owned(), 443),
            ),
            (
                "edge-1.example.com:1935",
                ListenAddress::Host("edge-1.example.com".to_owned(), 1935),
            ),
        ] {
            let parsed: ListenAddress = text.parse().unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{text}");
        }
    }

    #[test]
    fn texts_that_mean_nothing() {
        for text in [
            "",
            ":",
            "host",
            "host:",
            "70000",
            ":-1",
            "+80",
            "::1:80x",
            "::1",
            "1.2.3:80",
            "a b:80",
            "rtmp://host:1935",
            "host:+80",
        ] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_port_alone_serves_both_families() {
        let listener = bind_tcp(
            &ListenAddress::Port(0),
            "rtmp.listen",
            false,
            DEFAULT_BACKLOG,
        )
        .unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6()
            && TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
        {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_names_address_and_key() {
        let first: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let listener = bind_tcp(&first, "rtmp.listen", false, 16).unwrap();
        let taken = first.with_port(listener.local_addr().unwrap().port());
        let error = bind_tcp(&taken, "rtmp.listen", false, 16).unwrap_err();
        assert_eq!(
            error,
            AddressError::InUse {
                key: "rtmp.listen".to_owned(),
                address: taken.to_string()
            }
        );
        assert!(
            bind_tcp(&ListenAddress::Port(taken.port()), "http.listen", false, 16).is_err(),
            "both families clash"
        );
    }

    #[test]
    fn several_sockets_share_a_port() {
        let any: ListenAddress = "localhost:0".parse().unwrap();
        let first = bind_tcp(&any, "rtmp.listen", true, 16).unwrap();
        let same = ListenAddress::Socket(first.local_addr().unwrap());
        let second = bind_tcp(&same, "rtmp.listen", true, 16).unwrap();
        assert_eq!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let elsewhere: ListenAddress = "192.0.2.1:0".parse().unwrap();
        let error = bind_tcp(&elsewhere, "admin.listen", false, 16).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`admin.listen`: cannot listen on 192.0.2.1:0: "),
            "{error}"
        );
    }
}
