//! Node ids and the members of a cluster.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest node id in bytes. The id stands in the node's certificate as a DNS name, and that is their limit.
pub const MAX_NODE_ID_LENGTH: usize = 253;

/// Largest weight of a member. Bounds the points of the ring.
pub const MAX_WEIGHT: u32 = 16;

/// Most members of a cluster. Bounds the ring, the watches and the channels.
pub const MAX_MEMBERS: usize = 256;

/// The name of a node, stable over restarts: letters, digits, `-`, `_` and `.`, in the shape of a DNS name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

/// Why a node id, an address or a member entry was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// Empty, too long, or with characters that no DNS name has.
    #[error(
        "node id {0:?} is not made of 1 to {MAX_NODE_ID_LENGTH} letters, digits, '-', '_' and single '.' between them"
    )]
    Id(String),
    /// No `=` between id and address.
    #[error("member {0:?} is not of the form id=host:port or id=host:port*weight")]
    Form(String),
    /// Not `host:port`.
    #[error("address {0:?} is not host:port, with a port from 1 to 65535")]
    Address(String),
    /// Not a number, or out of range.
    #[error("weight {0:?} is not a whole number from 1 to {MAX_WEIGHT}")]
    Weight(String),
}

impl NodeId {
    /// Checks the id.
    ///
    /// # Errors
    /// [`MemberError::Id`] where it could not stand in a certificate.
    pub fn new(id: &str) -> Result<Self, MemberError> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if id.len() > MAX_NODE_ID_LENGTH || !id.split('.').all(label) {
            return Err(MemberError::Id(id.chars().take(80).collect()));
        }
        Ok(Self(id.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

impl AsRef<str> for NodeId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = MemberError;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::new(id)
    }
}

impl TryFrom<String> for NodeId {
    type Error = MemberError;

    fn try_from(id: String) -> Result<Self, Self::Error> {
        Self::new(&id)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0.as_ref().to_owned()
    }
}

/// An origin of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// `host:port` of its gRPC listener, as other nodes call it.
    pub address: String,
    /// Share of the ring, 1 to [`MAX_WEIGHT`].
    pub weight: u32,
}

impl FromStr for Member {
    type Err = MemberError;

    /// Reads `id=host:port` or `id=host:port*weight`.
    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        let Some((id, rest)) = entry.split_once('=') else {
            return Err(MemberError::Form(entry.chars().take(80).collect()));
        };
        let (address, weight) = match rest.split_once('*') {
            None => (rest, 1),
            Some((address, text)) => {
                let weight = text
                    .trim()
                    .parse()
                    .ok()
                    .filter(|w| (1..=MAX_WEIGHT).contains(w));
                (
                    address,
                    weight.ok_or_else(|| MemberError::Weight(text.chars().take(80).collect()))?,
                )
            }
        };
        Ok(Self {
            id: NodeId::new(id.trim())?,
            address: Address::parse(address)?.to_string(),
            weight,
        })
    }
}

/// A checked `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name or an address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    pub(crate) fn parse(text: &str) -> Result<Self, MemberError> {
        let refused = || MemberError::Address(text.chars().take(80).collect());
        let (host, port) = text.trim().rsplit_once(':').ok_or_else(refused)?;
        let port = port.parse().ok().filter(|p| *p != 0).ok_or_else(refused)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => inner
                .parse::<Ipv6Addr>()
                .map_err(|_| refused())?
                .to_string(),
            // A name of digits and dots that is no address would only fail later, and less clearly.
            None if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
                host.parse::<IpAddr>().map_err(|_| refused())?.to_string()
            }
            None => NodeId::new(host).map_err(|_| refused())?.to_string(),
        };
        Ok(Self { host, port })
    }

    /// Whether traffic to it stays on this machine. `localhost` counts: no sane machine resolves it elsewhere.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_entries_are_read() {
        let long = "x".repeat(64);
        for (entry, expected) in [
            ("o1=10.0.0.1:7400", Some(("o1", "10.0.0.1:7400", 1))),
            (" o1 = 10.0.0.1:7400 * 3", Some(("o1", "10.0.0.1:7400", 3))),
            (
                "o-2.eu=origin.example:1*16",
                Some(("o-2.eu", "origin.example:1", 16)),
            ),
            ("o3=[::1]:65535", Some(("o3", "[::1]:65535", 1))),
            ("o1", None),
            ("=10.0.0.1:1", None),
            ("o 1=10.0.0.1:1", None),
            ("-o=10.0.0.1:1", None),
            ("a..b=10.0.0.1:1", None),
            (&format!("{long}=10.0.0.1:1"), None),
            ("o1=10.0.0.1", None),
            ("o1=10.0.0.1:0", None),
            ("o1=10.0.0.1:65536", None),
            ("o1=10.0.0:7400", None),
            ("o1=::1:7400", None),
            ("o1=:7400", None),
            ("o1=host:1*0", None),
            ("o1=host:1*17", None),
            ("o1=host:1*x", None),
        ] {
            let read = entry.parse::<Member>().ok();
            let read = read
                .as_ref()
                .map(|m| (m.id.as_str(), m.address.as_str(), m.weight));
            assert_eq!(read, expected, "{entry:?}");
        }
    }

    #[test]
    fn loopback_is_recognised() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("10.0.0.1:1", false),
            ("localhost.example:1", false),
            ("[::2]:1", false),
        ] {
            assert_eq!(
                Address::parse(address).expect("address").is_loopback(),
                expected,
                "{address}"
            );
        }
    }
}
