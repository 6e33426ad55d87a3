//! The `[cluster]` section of a node's configuration.
//!
//! Every key has a default. With nothing written a node is alone: an origin that is its only member. All nodes of a cluster
//! need the same members, weights and number of partitions; the rest may differ.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::identity::{Identity, IdentityError};
use crate::member::{Address, MAX_MEMBERS, Member, NodeId};
use crate::ring::{DEFAULT_PARTITIONS, MAX_PARTITIONS};

/// Where the list of origins comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembershipKind {
    /// `members`, as written.
    #[default]
    Static,
    /// The addresses behind `dns_name`, asked again and again.
    Dns,
}

/// The `[cluster]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Parts of the key space, 1 to 4096, the same on every node and fixed for the life of a cluster: another number places
    /// every stream anew. Default 256.
    pub partitions: u32,
    /// Where the list of origins comes from: `static` (default) or `dns`.
    pub membership: MembershipKind,
    /// With `static`: the origins, each `id=host:port` or `id=host:port*weight` (weight 1 to 16, default 1), the same list on
    /// every node. Empty (default): an origin is alone, an edge has none.
    pub members: Vec<String>,
    /// With `dns`: `host:port` of a name that resolves to one address per origin, such as a headless service.
    pub dns_name: Option<String>,
    /// With `dns`: milliseconds between two look-ups, 500 to 300,000. Default 3,000.
    pub dns_interval_ms: u64,
    /// `host:port` under which other nodes reach this origin. Only needed with `dns`, and for an origin that is alone but called
    /// from outside; with `static` the member list says it.
    pub advertise: Option<String>,
    /// Allows plain text between nodes outside the loopback interface: only for a private network. Default false.
    pub insecure: bool,
    /// Certificates of this node. None (default): plain text.
    pub tls: Option<TlsFiles>,
    /// How fast a dead node is noticed.
    pub liveness: LivenessConfig,
    /// Connections to other nodes.
    pub channel: ChannelConfig,
}

/// The `[cluster.tls]` section: PEM files for mutual TLS between nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate of the authority that signs every node of the cluster.
    pub ca: PathBuf,
    /// This node's certificate, with intermediate certificates after it if there are any.
    pub certificate: PathBuf,
    /// The private key of `certificate`.
    pub key: PathBuf,
}

/// The `[cluster.liveness]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LivenessConfig {
    /// Milliseconds between two heartbeats that this node asks its peers for, 50 to 10,000. Default 200.
    pub heartbeat_ms: u64,
    /// A peer that was silent for this many milliseconds hangs, 100 to 60,000 and at least twice `heartbeat_ms`. Default 700:
    /// three heartbeats may be lost to a busy machine, and a hung origin is left behind within a second.
    pub silence_ms: u64,
    /// A peer that comes back has to send heartbeats without a gap for this many milliseconds before streams go there again,
    /// 0 to 60,000. Default 500.
    pub settle_ms: u64,
    /// First wait before a lost peer is dialled again, in milliseconds, 10 to 10,000. Doubles with each attempt. Default 50.
    pub redial_min_ms: u64,
    /// Longest wait between two dials, in milliseconds, 10 to 60,000, not below `redial_min_ms`. Default 250: when an
    /// origin comes back its streams return as soon as every edge has seen it, so this is the longest that one waits for another.
    pub redial_max_ms: u64,
}

/// The `[cluster.channel]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelConfig {
    /// TCP connections to each node, 1 to 16: streams are spread over them, so a lost packet delays only a part. Default 2.
    pub connections: usize,
    /// Milliseconds until a connection has to stand, and again until its TLS handshake is done, 50 to 30,000. Default 500.
    pub connect_timeout_ms: u64,
    /// HTTP/2 window of one call in bytes, 64 KiB to 64 MiB. Default 4 MiB: 320 Mbit/s for one stream at 100 ms round trip.
    pub stream_window: u32,
    /// HTTP/2 window of one connection in bytes, from `stream_window` to 256 MiB. Default 32 MiB: 2.6 Gbit/s at 100 ms.
    pub connection_window: u32,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            partitions: DEFAULT_PARTITIONS,
            membership: MembershipKind::Static,
            members: Vec::new(),
            dns_name: None,
            dns_interval_ms: 3_000,
            advertise: None,
            insecure: false,
            tls: None,
            liveness: LivenessConfig::default(),
            channel: ChannelConfig::default(),
        }
    }
}

impl Default for LivenessConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 200,
            silence_ms: 700,
            settle_ms: 500,
            redial_min_ms: 50,
            redial_max_ms: 250,
        }
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connections: 2,
            connect_timeout_ms: 500,
            stream_window: 4 << 20,
            connection_window: 32 << 20,
        }
    }
}

/// Where members come from, checked.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Static(Vec<Member>),
    Dns { name: Address, interval: Duration },
}

impl ClusterConfig {
    /// Checks every key without opening a file or a socket. [`crate::Cluster::start`] does it, too.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.source(self.tls.is_some()).map(drop)
    }

    /// Loads the certificates of `[cluster.tls]`, if there are any.
    ///
    /// # Errors
    /// [`IdentityError`] that names the file and what is wrong with it.
    pub fn load_identity(&self) -> Result<Option<Identity>, IdentityError> {
        self.tls
            .as_ref()
            .map(|files| Identity::load(&files.ca, &files.certificate, &files.key))
            .transpose()
    }

    /// Whether a listener at this address may speak without TLS.
    ///
    /// # Errors
    /// [`ConfigError::PlainText`] for an address outside the loopback interface, unless `insecure` is set.
    pub fn allow_plain_listener(&self, address: SocketAddr) -> Result<(), ConfigError> {
        if self.insecure || address.ip().is_loopback() {
            return Ok(());
        }
        Err(ConfigError::PlainText {
            what: "the node listener",
            address: address.to_string(),
        })
    }

    pub(crate) fn source(&self, encrypted: bool) -> Result<Source, ConfigError> {
        self.check_ranges()?;
        let plain = !encrypted && !self.insecure;
        if let Some(advertise) = &self.advertise {
            Address::parse(advertise).map_err(|source| ConfigError::Member {
                key: "advertise",
                source,
            })?;
        }
        match self.membership {
            MembershipKind::Static => {
                let members = parse_members(&self.members)?;
                if plain {
                    refuse_plain(&members)?;
                }
                Ok(Source::Static(members))
            }
            MembershipKind::Dns => {
                let name = self.dns_name.as_deref().ok_or(ConfigError::Missing {
                    key: "dns_name",
                    reason: "membership = \"dns\" looks the origins up under it, as host:port",
                })?;
                let name = Address::parse(name).map_err(|source| ConfigError::Member {
                    key: "dns_name",
                    source,
                })?;
                if plain && !name.is_loopback() {
                    return Err(ConfigError::PlainText {
                        what: "cluster.dns_name",
                        address: name.to_string(),
                    });
                }
                Ok(Source::Dns {
                    name,
                    interval: Duration::from_millis(self.dns_interval_ms),
                })
            }
        }
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        let LivenessConfig {
            heartbeat_ms,
            silence_ms,
            settle_ms,
            redial_min_ms,
            redial_max_ms,
        } = self.liveness;
        let ChannelConfig {
            connections,
            connect_timeout_ms,
            stream_window,
            connection_window,
        } = self.channel;
        let stream_window = u64::from(stream_window);
        let silence_min = heartbeat_ms.saturating_mul(2).max(100);
        for (key, value, min, max) in [
            (
                "partitions",
                u64::from(self.partitions),
                1,
                u64::from(MAX_PARTITIONS),
            ),
            ("dns_interval_ms", self.dns_interval_ms, 500, 300_000),
            ("liveness.heartbeat_ms", heartbeat_ms, 50, 10_000),
            ("liveness.silence_ms", silence_ms, silence_min, 60_000),
            ("liveness.settle_ms", settle_ms, 0, 60_000),
            ("liveness.redial_min_ms", redial_min_ms, 10, 10_000),
            (
                "liveness.redial_max_ms",
                redial_max_ms,
                redial_min_ms,
                60_000,
            ),
            ("channel.connections", connections as u64, 1, 16),
            ("channel.connect_timeout_ms", connect_timeout_ms, 50, 30_000),
            ("channel.stream_window", stream_window, 64 << 10, 64 << 20),
            (
                "channel.connection_window",
                u64::from(connection_window),
                stream_window,
                256 << 20,
            ),
        ] {
            if !(min..=max).contains(&value) {
                return Err(ConfigError::Range {
                    key,
                    value,
                    min,
                    max,
                });
            }
        }
        Ok(())
    }
}

impl LivenessConfig {
    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn silence(&self) -> Duration {
        Duration::from_millis(self.silence_ms)
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_millis(self.settle_ms)
    }
}

impl ChannelConfig {
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

pub(crate) fn parse_members(entries: &[String]) -> Result<Vec<Member>, ConfigError> {
    if entries.len() > MAX_MEMBERS {
        return Err(ConfigError::TooManyMembers {
            count: entries.len(),
            limit: MAX_MEMBERS,
        });
    }
    let mut ids = BTreeSet::new();
    let mut members = Vec::with_capacity(entries.len());
    for entry in entries {
        let member: Member = entry.parse().map_err(|source| ConfigError::Member {
            key: "members",
            source,
        })?;
        if !ids.insert(member.id.clone()) {
            return Err(ConfigError::Duplicate(member.id));
        }
        members.push(member);
    }
    Ok(members)
}

pub(crate) fn refuse_plain(members: &[Member]) -> Result<(), ConfigError> {
    for member in members {
        if !Address::parse(&member.address).is_ok_and(|address| address.is_loopback()) {
            return Err(ConfigError::PlainText {
                what: "a member's address",
                address: member.address.clone(),
            });
        }
    }
    Ok(())
}

/// The member that an origin is to itself when no list names it.
pub(crate) fn alone(id: &NodeId, advertise: Option<&str>) -> Arc<Member> {
    Arc::new(Member {
        id: id.clone(),
        address: advertise.unwrap_or_default().to_owned(),
        weight: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn the_default_is_valid() {
        assert_eq!(ClusterConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_section_is_read_strictly() {
        let config: ClusterConfig = toml::from_str(
            r#"
            membership = "dns"
            dns_name = "origins.default.svc:7400"
            [tls]
            ca = "ca.pem"
            certificate = "o1.pem"
            key = "o1-key.pem"
            [liveness]
            silence_ms = 900
            "#,
        )
        .expect("a section");
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.membership, MembershipKind::Dns);
        assert_eq!(
            (config.liveness.silence_ms, config.liveness.heartbeat_ms),
            (900, 200)
        );
        let written = toml::to_string(&config).expect("text");
        assert_eq!(
            toml::from_str::<ClusterConfig>(&written).expect("read again"),
            config
        );
        for wrong in [
            "member = []",
            "[liveness]\nsilence = 1",
            "[channel]\nwindow = 1",
            "[tls]\nca = \"x\"",
            "membership = \"gossip\"",
        ] {
            assert!(toml::from_str::<ClusterConfig>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        type Edit = fn(&mut ClusterConfig);
        let cases: [(&str, Edit); 14] = [
            ("cluster.partitions is 0", |c| c.partitions = 0),
            ("cluster.partitions is 4097", |c| c.partitions = 4_097),
            ("cluster.liveness.heartbeat_ms is 49", |c| {
                c.liveness.heartbeat_ms = 49
            }),
            (
                "cluster.liveness.silence_ms is 399, it has to be from 400",
                |c| c.liveness.silence_ms = 399,
            ),
            ("cluster.liveness.redial_max_ms is 40", |c| {
                c.liveness.redial_max_ms = 40
            }),
            ("cluster.channel.connections is 0", |c| {
                c.channel.connections = 0
            }),
            ("cluster.channel.connection_window is 65536", |c| {
                c.channel.connection_window = 1 << 16
            }),
            ("cluster.members: member \"o1\"", |c| {
                c.members = members(&["o1"])
            }),
            ("the node id o1 stands there twice", |c| {
                c.members = members(&["o1=127.0.0.1:1", "o1=127.0.0.1:2"]);
            }),
            ("257 members", |c| {
                c.members = (0..257).map(|n| format!("o{n}=127.0.0.1:1")).collect()
            }),
            ("cluster.dns_name is missing", |c| {
                c.membership = MembershipKind::Dns
            }),
            ("cluster.dns_name: address", |c| {
                c.membership = MembershipKind::Dns;
                c.dns_name = Some("origins".to_owned());
            }),
            ("cluster.advertise: address", |c| {
                c.advertise = Some("here".to_owned())
            }),
            ("10.0.0.1:7400 is not on the loopback interface", |c| {
                c.members = members(&["o1=10.0.0.1:7400"]);
            }),
        ];
        for (expected, edit) in cases {
            let mut config = ClusterConfig::default();
            edit(&mut config);
            let error = config.validate().expect_err(expected).to_string();
            assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        }
    }

    #[test]
    fn plain_text_needs_loopback_or_a_word() {
        let mut config = ClusterConfig {
            members: members(&["o1=127.0.0.1:1", "o2=localhost:2", "o3=[::1]:3"]),
            ..ClusterConfig::default()
        };
        assert_eq!(config.validate(), Ok(()));
        config.members.push("o4=origin.example:4".to_owned());
        let error = config.validate().expect_err("plain text to a network");
        assert!(
            error.to_string().contains("cluster.insecure = true"),
            "{error}"
        );
        assert!(config.source(true).is_ok(), "with certificates");
        config.insecure = true;
        assert_eq!(config.validate(), Ok(()));
        config.insecure = false;
        let listener =
            |address: &str| config.allow_plain_listener(address.parse().expect("address"));
        assert!(listener("127.0.0.1:7400").is_ok());
        assert!(listener("[::1]:7400").is_ok());
        assert!(listener("0.0.0.0:7400").is_err());
        let dns = ClusterConfig {
            membership: MembershipKind::Dns,
            dns_name: Some("origins.default.svc:7400".to_owned()),
            ..ClusterConfig::default()
        };
        assert!(matches!(dns.validate(), Err(ConfigError::PlainText { .. })));
    }
}
