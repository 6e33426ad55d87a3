//! What an operator or an application may set about a server session, and the bounds on what a peer can make it hold.

use std::time::Duration;

use crate::command::EnhancedCapabilities;
use crate::session::SessionLimits;

/// Settings of a [`ServerSession`](super::ServerSession). The defaults are those of Adobe Media Server where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// `WindowAckSize` sent to the client, in bytes: how much it may receive before it must acknowledge. Also how much we
    /// receive between two acknowledgements of our own until the client states its window.
    pub window_ack_size: u32,
    /// `SetPeerBandwidth` sent to the client (limit type dynamic), in bytes.
    pub peer_bandwidth: u32,
    /// Chunk size of what we send, in bytes, announced when the connection is accepted. Large, so that most video frames are
    /// one chunk; 1 to 16,777,215.
    pub chunk_size: u32,
    /// The property `fmsVer` of the answer to `connect`. Clients look at the numbers to tell what a server can do.
    pub fms_version: String,
    /// The property `data.version` of the answer to `connect`.
    pub data_version: String,
    /// What we declare of Enhanced RTMP to a client that declares something itself.
    pub enhanced: EnhancedCapabilities,
    /// Whether the session answers `checkBandwidth` by itself, with `onBWDone` and no measurement. If not, the caller answers
    /// [`ServerEvent::CheckBandwidth`](super::ServerEvent::CheckBandwidth).
    pub answer_check_bandwidth: bool,
    /// How long a client may take for the handshake.
    pub handshake_timeout: Duration,
    /// How long a client may take from the handshake to its `connect` command.
    pub connect_timeout: Duration,
    /// How long a client may be silent before it is pinged. `None`: never.
    pub ping_interval: Option<Duration>,
    /// How long a client may stay silent after a ping before the session fails.
    pub ping_timeout: Duration,
    /// Bounds on what a client can make the session hold.
    pub limits: SessionLimits,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            window_ack_size: 2_500_000,
            peer_bandwidth: 2_500_000,
            chunk_size: 65_536,
            fms_version: "FMS/5,0,17,0".to_owned(),
            data_version: "5,0,17,0".to_owned(),
            enhanced: EnhancedCapabilities::relay(),
            answer_check_bandwidth: true,
            handshake_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            ping_interval: Some(Duration::from_secs(15)),
            ping_timeout: Duration::from_secs(15),
            limits: SessionLimits::default(),
        }
    }
}
