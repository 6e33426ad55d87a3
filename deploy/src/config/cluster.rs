//! The `[cluster]` section as operators write it, and what [`headwater_cluster`] makes of it.
//!
//! The cluster crate knows nothing of files and environment variables; here its keys get their documentation.

use std::path::PathBuf;

use headwater_cluster::config::{
    ChannelConfig, ClusterConfig, LivenessConfig, MembershipKind, TlsFiles,
};
use headwater_node::{choice, section};

choice! {
    /// Where the list of origins comes from.
    pub(crate) enum Membership {
        /// From `cluster.members`.
        Static = "static",
        /// From the addresses behind `cluster.dns_name`.
        Dns = "dns",
    }
}

section! {
    /// The cluster that this node is part of. All nodes need the same members, weights and number of partitions.
    pub(crate) struct ClusterSection {
        /// Where the list of origins comes from: `members` as written here, or the addresses behind `dns_name`.
        pub(crate) membership: Membership = Membership::Static,
        /// With static membership: the origins, each `id=host:port` or `id=host:port*weight` (weight 1 to 16, 1 unless
        /// written), the same list on every node. Empty: an origin is alone, an edge has none.
        pub(crate) members: Vec<String> = Vec::new(),
        /// With dns membership: `host:port` of a name with one address for each origin, such as a headless service.
        pub(crate) dns_name: Option<String> = None,
        /// With dns membership: how often the name is looked up, milliseconds.
        pub(crate) dns_interval_ms: u64 = 3_000 => 500..=300_000,
        /// `host:port` under which other nodes reach this origin. Needed with dns membership, and for an origin that is
        /// alone but called from outside; a static list says it.
        pub(crate) advertise: Option<String> = None,
        /// Parts that the streams are divided into. Fixed for the life of a cluster: another number places every stream anew.
        pub(crate) partitions: u32 = 256 => 1..=4_096,
        /// Whether nodes may speak plain text outside the loopback interface. Only for a private network.
        pub(crate) insecure: bool = false,
        pub(crate) tls: ClusterTlsSection = ClusterTlsSection::default(),
        pub(crate) liveness: LivenessSection = LivenessSection::default(),
        pub(crate) channel: ChannelSection = ChannelSection::default(),
    }
    validate |section, problems| {
        match (section.membership, &section.dns_name) {
            (Membership::Dns, None) => problems.push("dns_name", "must be set for membership = \"dns\""),
            (Membership::Dns, Some(_)) if !section.members.is_empty() => {
                problems.push("members", "must be empty for membership = \"dns\"");
            }
            _ => {}
        }
    }
}

section! {
    /// The certificate of this node towards other nodes, PEM files. Unset: plain text.
    pub(crate) struct ClusterTlsSection {
        /// The certificate of the authority that signs every node of the cluster.
        pub(crate) ca: Option<PathBuf> = None,
        /// The certificate of this node, with its id as a DNS name, then intermediate certificates if there are any.
        pub(crate) certificate: Option<PathBuf> = None,
        /// The private key of the certificate.
        pub(crate) key: Option<PathBuf> = None,
    }
    validate |section, problems| {
        let files = [("ca", &section.ca), ("certificate", &section.certificate), ("key", &section.key)];
        if files.iter().any(|(_, file)| file.is_some()) {
            for (key, _) in files.iter().filter(|(_, file)| file.is_none()) {
                problems.push(key, "must be set, too: ca, certificate and key go together");
            }
        }
    }
}

section! {
    /// How fast a dead node is noticed.
    pub(crate) struct LivenessSection {
        /// Time between two heartbeats that this node asks others for, milliseconds.
        pub(crate) heartbeat_ms: u64 = 200 => 50..=10_000,
        /// A node that is silent for so long hangs, milliseconds. At least twice heartbeat_ms.
        pub(crate) silence_ms: u64 = 700 => 100..=60_000,
        /// How long a node that comes back must send heartbeats without a gap before streams go there again, milliseconds.
        pub(crate) settle_ms: u64 = 500 => 0..=60_000,
        /// First wait before a lost node is dialled again, milliseconds. Doubles with each attempt.
        pub(crate) redial_min_ms: u64 = 50 => 10..=10_000,
        /// Longest wait between two dials, milliseconds. When an origin returns, edges notice it this much apart at most.
        pub(crate) redial_max_ms: u64 = 250 => 10..=60_000,
    }
    validate |section, problems| {
        if section.silence_ms < section.heartbeat_ms.saturating_mul(2) {
            problems.push("silence_ms", "must be at least twice heartbeat_ms");
        }
        if section.redial_max_ms < section.redial_min_ms {
            problems.push("redial_max_ms", "must not be below redial_min_ms");
        }
    }
}

section! {
    /// Connections to other nodes.
    pub(crate) struct ChannelSection {
        /// TCP connections to each node. Streams are spread over them, so that a lost packet delays only a part.
        pub(crate) connections: usize = 2 => 1..=16,
        /// How long a connection may take to stand, and again its TLS handshake, milliseconds.
        pub(crate) connect_timeout_ms: u64 = 500 => 50..=30_000,
        /// Window of one call in bytes. 4 MiB carry 320 Mbit/s for one stream at 100 ms round trip.
        pub(crate) stream_window_bytes: u32 = 4 << 20 => 64 << 10..=64 << 20,
        /// Window of one connection in bytes, not below that of a call. 32 MiB carry 2.6 Gbit/s at 100 ms.
        pub(crate) connection_window_bytes: u32 = 32 << 20 => 64 << 10..=256 << 20,
    }
    validate |section, problems| {
        if section.connection_window_bytes < section.stream_window_bytes {
            problems.push("connection_window_bytes", "must not be below stream_window_bytes");
        }
    }
}

impl ClusterSection {
    /// As the cluster crate takes it.
    pub(crate) fn to_config(&self) -> ClusterConfig {
        let ClusterTlsSection {
            ca,
            certificate,
            key,
        } = self.tls.clone();
        ClusterConfig {
            partitions: self.partitions,
            membership: match self.membership {
                Membership::Static => MembershipKind::Static,
                Membership::Dns => MembershipKind::Dns,
            },
            members: self.members.clone(),
            dns_name: self.dns_name.clone(),
            dns_interval_ms: self.dns_interval_ms,
            advertise: self.advertise.clone(),
            insecure: self.insecure,
            tls: match (ca, certificate, key) {
                (Some(ca), Some(certificate), Some(key)) => Some(TlsFiles {
                    ca,
                    certificate,
                    key,
                }),
                _ => None,
            },
            liveness: LivenessConfig {
                heartbeat_ms: self.liveness.heartbeat_ms,
                silence_ms: self.liveness.silence_ms,
                settle_ms: self.liveness.settle_ms,
                redial_min_ms: self.liveness.redial_min_ms,
                redial_max_ms: self.liveness.redial_max_ms,
            },
            channel: ChannelConfig {
                connections: self.channel.connections,
                connect_timeout_ms: self.channel.connect_timeout_ms,
                stream_window: self.channel.stream_window_bytes,
                connection_window: self.channel.connection_window_bytes,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_cluster() {
        assert_eq!(
            ClusterSection::default().to_config(),
            ClusterConfig::default()
        );
    }
}
