//! The edge's part of the configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_application::{ApplicationSection, default_applications};
use headwater_node::address::ListenAddress;
use headwater_node::tls::TlsSection;
use headwater_node::{choice, section};

use crate::player::Pacing;

section! {
    /// Clients over plain RTMP, and what holds for RTMP whatever carries it.
    pub struct RtmpSection {
        /// Addresses to listen on: a port (both IPv4 and IPv6), `host:port` or `[address]:port`. Empty: no plain RTMP.
        pub listen: Vec<ListenAddress> = vec![ListenAddress::Port(1935)],
        /// Chunk size of what is sent to clients, in bytes. Large, so that most frames are one chunk.
        pub chunk_bytes: u32 = 65_536 => 128..=16_777_215,
        /// How long a client may take for the handshake, and again for its connect command, in milliseconds.
        pub handshake_timeout_ms: u64 = 10_000 => 100..=600_000,
        /// A client that was silent for this long is pinged, in milliseconds. Viewers are silent by nature: the ping finds the
        /// dead ones.
        pub ping_interval_ms: u64 = 15_000 => 1_000..=3_600_000,
        /// A client that does not answer a ping for this long is closed, in milliseconds.
        pub ping_timeout_ms: u64 = 15_000 => 1_000..=3_600_000,
        /// How long what was sent to a client may stay without acknowledgement before the kernel takes the client for dead
        /// (`TCP_USER_TIMEOUT`), in milliseconds.
        pub dead_after_ms: u64 = 30_000 => 1_000..=3_600_000,
        /// Largest message taken from a client, in bytes. Key frames of high-rate video are the largest honest ones.
        pub message_bytes: usize = 16_777_215 => 65_536..=16_777_215,
        /// Connections of clients at once, all transports together. More are closed as they arrive. Fewer if the process may not
        /// open so many files: the start says so.
        pub max_connections: usize = 100_000 => 1..=10_000_000,
        /// Connections at once of one address (IPv6: of one network of 64 bits). More are closed as they arrive. 0: any number;
        /// whole companies and mobile networks come from one address.
        pub max_connections_per_address: usize = 0 => 0..=10_000_000,
    }
}

section! {
    /// Clients over RTMPS: RTMP within TLS 1.2 or 1.3. Listens only if a certificate is set.
    pub struct RtmpsSection {
        /// Addresses to listen on, as in `[rtmp]`.
        pub listen: Vec<ListenAddress> = vec![ListenAddress::Port(443)],
        /// Its certificate. Without one there is no RTMPS.
        pub tls: TlsSection = TlsSection::default(),
    }
}

section! {
    /// Clients over RTMFP (RFC 7016 and 7425).
    pub struct RtmfpSection {
        /// Addresses to listen on for UDP, as in `[rtmp]`. Empty: no RTMFP.
        pub listen: Vec<ListenAddress> = Vec::new(),
        /// A client that was silent for this long is asked whether it is there, in milliseconds.
        pub keepalive_ms: u64 = 15_000 => 1_000..=3_600_000,
        /// A client that was silent for this long is gone, in milliseconds. An outage that is shorter is survived.
        pub dead_after_ms: u64 = 45_000 => 2_000..=3_600_000,
        /// Sessions at once, those that only introduce peers included.
        pub max_sessions: usize = 100_000 => 1..=10_000_000,
        /// A client whose address changes is asked at the new one, and followed when it answers. Some clients do not answer as they
        /// should: so many packets one after the other from the new address, each with a valid MAC, are taken for an answer. 0: never.
        pub trust_packets: u32 = 0 => 0..=1_000_000,
        /// How it is found out how much the way to a client takes.
        pub congestion: RtmfpCongestion = RtmfpCongestion::Model,
        /// Where clients reach this edge over RTMFP, as `ADDRESS:PORT`: for members of groups at other edges, who are told so that they reach
        /// the member that feeds a stream into their group (see `applications.NAME.multicast`). Empty: the address that is listened on, if
        /// it is not all addresses of the machine.
        pub public: Vec<SocketAddr> = Vec::new(),
        /// Streams that are fed into groups at once.
        pub max_members: usize = 64 => 0..=10_000,
        /// Members of its group that a stream is fed to directly; they pass it on to the others.
        pub member_neighbours: usize = 32 => 1..=1_000,
        /// Most bytes kept of each stream that is fed into a group, for members that fetch what they lack: ten seconds of it, or less.
        pub member_bytes: usize = 16_777_216 => 1_048_576..=1_073_741_824,
        /// Threads that agree on keys with new clients, beside the workers.
        pub key_threads: usize = 1 => 1..=256,
    }
}

section! {
    /// How the edge serves viewers.
    pub struct FanoutSection {
        /// Worker threads, each with its own sockets. 0: one per processor.
        pub workers: usize = 0 => 0..=1024,
        /// How far behind a viewer may be before it jumps to a newer key frame, in milliseconds: media time that is kept of each
        /// stream beyond its newest key frame, and the time for which all that has come is kept, however fast it came.
        pub window_ms: u64 = 4_000 => 0..=60_000,
        /// Most bytes kept of each stream.
        pub window_bytes: usize = 33_554_432 => 1_048_576..=1_073_741_824,
        /// How long audio waits for the next video frame to be sent together with it, in milliseconds. Sends are what viewers
        /// cost; a video frame itself is sent as it comes.
        pub audio_wait_ms: u64 = 50 => 0..=350,
        /// How long audio of a stream without video waits for more of it, in milliseconds.
        pub audio_only_wait_ms: u64 = 60 => 0..=350,
        /// Streams that may be played at once, published or not: each costs a call to its origin.
        pub max_streams: usize = 20_000 => 1..=1_000_000,
        /// A viewer whose socket takes nothing for this long is closed, in milliseconds.
        pub stuck_timeout_ms: u64 = 20_000 => 1_000..=600_000,
    }
}

section! {
    /// How the edge talks to origins.
    pub struct UpstreamSection {
        /// Media time that a publishing edge keeps of each stream although the owner has it, in milliseconds: what the next
        /// owner is given after a failover. Longer than it takes to notice a silent origin. A standalone node that is the only
        /// origin of its cluster has no next owner, and keeps nothing that was acknowledged until another origin joins.
        pub window_ms: u64 = 4_000 => 1_000..=60_000,
        /// Most bytes kept of each published stream. Also what a publisher may send while no origin answers.
        pub window_bytes: usize = 33_554_432 => 1_048_576..=1_073_741_824,
        /// How long audio of a publisher waits for the next video frame to go to the owner together with it, in milliseconds.
        /// Viewers get it with that frame anyway, and each message less is one less on every node.
        pub audio_wait_ms: u64 = 50 => 0..=350,
        /// How long a stream that nobody watches any more is still read, in milliseconds: a viewer that comes back starts at once.
        pub linger_ms: u64 = 3_000 => 0..=600_000,
        /// How long a client that connects waits for an origin to answer, in milliseconds, before it is told
        /// NetConnection.Proxy.NotResponding.
        pub connect_wait_ms: u64 = 2_000 => 0..=60_000,
    }
}

section! {
    /// How the edge gets recordings and media files from origins, and what it keeps of them.
    pub struct RecordedSection {
        /// Most bytes kept of them in memory, shared by all viewers. What was not used for the longest time goes first.
        pub cache_bytes: usize = 268_435_456 => 16_777_216..=1_099_511_627_776,
        /// How long the edge believes what an origin said of a name, in milliseconds: whether something is published or stored
        /// under it.
        pub description_ms: u64 = 1_000 => 50..=60_000,
        /// How long the newest part of a recording that still grows is kept, in milliseconds, before it is asked for again.
        pub growing_ms: u64 = 500 => 50..=10_000,
        /// Most names of which the edge remembers what an origin said.
        pub max_names: usize = 65_536 => 64..=10_000_000,
        /// Most pieces that are fetched at once. More wait.
        pub max_fetches: usize = 256 => 1..=65_536,
        /// Most pieces that are fetched at once from one origin. Less than `max_fetches`, so that an origin that hangs does
        /// not hold up the others.
        pub max_fetches_per_origin: usize = 64 => 1..=65_536,
        /// How long an origin may take for an answer, in milliseconds.
        pub call_timeout_ms: u64 = 3_000 => 100..=60_000,
        /// How long the edge goes on asking, the same origin or another, before a viewer is told that nothing can be had, in
        /// milliseconds.
        pub patience_ms: u64 = 8_000 => 0..=120_000,
    }
}

section! {
    /// A virtual host: applications of its own, under `vhosts/NAME/applications/` in the store, and streams of its own.
    pub struct VirtualHostSection {
        /// Hosts of which clients that connect to them mean this one, as `stream.example.org`, or `*.example.org` for all within a domain. Its
        /// name is one, too. Clients may also name it in their address (`?_fcs_vhost=NAME`). All others are at the default host.
        pub aliases: Vec<String> = Vec::new(),
    }
    validate |section, problems| {
        let is_host = |alias: &str| {
            let host = alias.strip_prefix("*.").unwrap_or(alias);
            !host.is_empty() && !host.contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '*' | '/' | '\\'))
        };
        if let Some(alias) = section.aliases.iter().find(|alias| !is_host(alias)) {
            problems.push("aliases", format!("must be hosts, or `*.` before a domain, which {alias:?} is not"));
        }
    }
}

choice! {
    /// A congestion control of RTMFP.
    pub enum RtmfpCongestion {
        /// By a model of the way: what it delivers, and how long it takes. Losses that come without a queue cost little.
        Model = "model",
        /// As appendix A of RFC 7016 has it: each loss counts as a sign of congestion.
        Window = "window",
    }
}

section! {
    /// How recordings and files are sent to viewers.
    pub struct PlaybackSection {
        /// How far ahead of a viewer's clock media is sent at least, in milliseconds, however little the viewer buffers.
        pub min_buffer_ms: u64 = 2_000 => 100..=600_000,
        /// How far ahead at most, in milliseconds, however much the viewer buffers. Programs that download ask for hours, and get
        /// the whole as fast as they take it.
        pub max_buffer_ms: u64 = 86_400_000 => 100..=604_800_000,
    }
}

section! {
    /// What runs on the edge.
    pub struct EdgeSection {
        /// Viewers.
        pub fanout: FanoutSection = FanoutSection::default(),
        /// Origins.
        pub upstream: UpstreamSection = UpstreamSection::default(),
        /// Playback of recordings and files.
        pub playback: PlaybackSection = PlaybackSection::default(),
        /// Recordings and media files.
        pub recorded: RecordedSection = RecordedSection::default(),
    }
}

/// Everything the edge is configured by.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeConfig {
    /// `[rtmp]`
    pub rtmp: RtmpSection,
    /// `[rtmps]`
    pub rtmps: RtmpsSection,
    /// `[rtmfp]`
    pub rtmfp: RtmfpSection,
    /// `[edge]`
    pub edge: EdgeSection,
    /// `[applications]`, by name: what holds where the store has no `app.toml` of that name.
    pub applications: BTreeMap<String, ApplicationSection>,
    /// `[virtual_hosts]`, by name.
    pub virtual_hosts: BTreeMap<String, VirtualHostSection>,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            rtmp: RtmpSection::default(),
            rtmps: RtmpsSection::default(),
            rtmfp: RtmfpSection::default(),
            edge: EdgeSection::default(),
            applications: default_applications(),
            virtual_hosts: BTreeMap::new(),
        }
    }
}

impl UpstreamSection {
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }
}

impl PlaybackSection {
    pub(crate) fn pacing(&self) -> Pacing {
        let least = Duration::from_millis(self.min_buffer_ms);
        Pacing {
            least,
            most: Duration::from_millis(self.max_buffer_ms).max(least),
        }
    }
}

impl FanoutSection {
    /// The number of workers to start.
    pub(crate) fn worker_count(&self) -> usize {
        if self.workers > 0 {
            return self.workers;
        }
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}
