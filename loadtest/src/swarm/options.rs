//! What a swarm is to do.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::negotiation::Protection;
use headwater_rtmp::session::SessionError;

use crate::target::Target;

/// Most threads of a swarm.
pub const MAX_SWARM_THREADS: usize = 256;

/// Where a light client goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmTarget {
    /// A stream on a server, by plain RTMP or by RTMFP.
    Rtmp(Target),
    /// A bare sender: neither handshake nor commands, but a server's chunk stream from the first byte on, with a chunk size of 65,536.
    Floor(SocketAddr),
    /// A bare sender of RTMFP's packets: neither handshake, commands nor acknowledgements, but a server's media, encrypted for each.
    SealedFloor(SocketAddr),
}

impl fmt::Display for SwarmTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(target) => write!(f, "{target}"),
            Self::Floor(address) => write!(f, "floor://{address}"),
            Self::SealedFloor(address) => write!(f, "floor+rtmfp://{address}"),
        }
    }
}

/// How light clients speak RTMFP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtmfpManner {
    /// In which group they agree on keys. All clients of a swarm have one key in it, in certificates of their own, so that each costs one
    /// power here, where a server needs two.
    pub group: Group,
    /// What they want of MACs and packet numbers.
    pub protection: Protection,
}

impl Default for RtmfpManner {
    /// Group 2, as Flash Player; MACs and numbers where the server asks for them.
    fn default() -> Self {
        Self {
            group: Group::Modp1024,
            protection: Protection::Compatible,
        }
    }
}

impl RtmfpManner {
    /// Parses the number of a group.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn group_of(text: &str) -> Result<Group, String> {
        let group = text.parse().ok().and_then(Group::from_id);
        group.ok_or_else(|| format!("{text} is not 2, 5 or 14"))
    }

    /// Parses what is wanted of MACs and numbers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn protection_of(text: &str) -> Result<Protection, String> {
        match text {
            "never" => Ok(Protection::Never),
            "compatible" => Ok(Protection::Compatible),
            "prefer" => Ok(Protection::Prefer),
            "require" => Ok(Protection::Require),
            _ => Err(format!(
                "{text} is not never, compatible, prefer or require"
            )),
        }
    }
}

/// The last viewers stop reading their sockets and stay connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopReading {
    /// How many.
    pub viewers: usize,
    /// When, from the start of the swarm.
    pub after: Duration,
}

/// What a [`Swarm`](super::Swarm) plays, and how.
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// One for each viewer.
    pub targets: Vec<SwarmTarget>,
    /// Viewers that are started each second; 0 starts all at once.
    pub ramp: u32,
    /// Threads, 1 to [`MAX_SWARM_THREADS`] (else the nearest); viewers are dealt to them in turn.
    pub threads: usize,
    /// Processors that the threads may run on; empty for those of the thread that starts them.
    pub cpus: Vec<usize>,
    /// The buffer that servers are told of.
    pub buffer: Duration,
    /// How often threads look at their sockets. 0: whenever something has come. More saves processor time, and makes latencies look
    /// longer by up to as much.
    pub look_every: Duration,
    /// Viewers that become slow.
    pub stop_reading: Option<StopReading>,
    /// How they speak RTMFP, where they do.
    pub rtmfp: RtmfpManner,
    /// How long each step up to `play` may take.
    pub timeout: Duration,
}

impl SwarmOptions {
    /// One thread, 500 viewers per second, a buffer of 100 ms, 10 s for each step.
    #[must_use]
    pub fn new(targets: Vec<SwarmTarget>) -> Self {
        Self {
            targets,
            ramp: 500,
            threads: 1,
            cpus: Vec::new(),
            buffer: Duration::from_millis(100),
            look_every: Duration::ZERO,
            stop_reading: None,
            rtmfp: RtmfpManner::default(),
            timeout: Duration::from_secs(10),
        }
    }
}

/// How [`Arrivals`](super::Arrivals) come.
#[derive(Clone, Debug)]
pub struct ArrivalOptions {
    /// Where to, in turn.
    pub targets: Vec<SwarmTarget>,
    /// How many connections are made.
    pub count: u64,
    /// Connections that are begun each second; 0 begins one whenever fewer than `in_flight` are open.
    pub rate: u32,
    /// Most connections that are open at once, in all threads; at least one for each thread. With a rate, those that do not fit are
    /// begun late.
    pub in_flight: usize,
    /// Whether a connection waits for the first audio or video frame; otherwise it leaves when it is told that playing begins.
    pub first_frame: bool,
    /// Whether connections play nothing: they have what they came for with the answer to `connect`.
    pub is_idle: bool,
    /// Whether those of RTMFP that play nothing let others be introduced to them, and answer these.
    pub is_introducible: bool,
    /// How long a connection stays that has what it came for. It does not count as one of those that are open at once.
    pub hold: Duration,
    /// How they speak RTMFP, where they do.
    pub rtmfp: RtmfpManner,
    /// Threads, 1 to [`MAX_SWARM_THREADS`] (else the nearest).
    pub threads: usize,
    /// Processors that the threads may run on; empty for those of the thread that starts them.
    pub cpus: Vec<usize>,
    /// The buffer that servers are told of.
    pub buffer: Duration,
    /// How long each step of a connection may take.
    pub timeout: Duration,
}

impl ArrivalOptions {
    /// 1,000 connections, at most 100 at once, on one thread, until playing begins.
    #[must_use]
    pub fn new(targets: Vec<SwarmTarget>) -> Self {
        Self {
            targets,
            count: 1_000,
            rate: 0,
            in_flight: 100,
            first_frame: false,
            is_idle: false,
            is_introducible: false,
            hold: Duration::ZERO,
            rtmfp: RtmfpManner::default(),
            threads: 1,
            cpus: Vec::new(),
            buffer: Duration::from_millis(100),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why a swarm cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwarmError {
    /// Nowhere to go.
    #[error("there is no stream to play")]
    NoTarget,
    /// A name means nothing here.
    #[error("cannot resolve {host}: {cause}")]
    Resolve {
        /// The host.
        host: String,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Light clients speak plain RTMP and RTMFP only.
    #[error("{url}: light viewers do not speak tls")]
    Tls {
        /// The stream.
        url: String,
    },
    /// A name is longer than AMF can say.
    #[error("{url}: {cause}")]
    Encode {
        /// The stream.
        url: String,
        /// What cannot be written.
        cause: SessionError,
    },
    /// The system gives no thread or event queue, or not the processors that were asked for.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manners_of_rtmfp_are_words_and_numbers() {
        assert_eq!(RtmfpManner::group_of("14"), Ok(Group::Modp2048));
        assert_eq!(
            RtmfpManner::protection_of("require"),
            Ok(Protection::Require)
        );
        for text in ["1", "x", ""] {
            assert!(RtmfpManner::group_of(text).is_err(), "{text}");
            assert!(RtmfpManner::protection_of(text).is_err(), "{text}");
        }
    }
}
