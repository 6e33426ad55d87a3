//! What a swarm is to do.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_rtmp::session::SessionError;

use crate::target::Target;

/// Most threads of a swarm.
pub const MAX_SWARM_THREADS: usize = 256;

/// Where a light client goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwarmTarget {
    /// A stream on a server, by plain RTMP.
    Rtmp(Target),
    /// A bare sender: neither handshake nor commands, but a server's chunk stream from the first byte on, with a chunk size of 65,536.
    Floor(SocketAddr),
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
    /// How long each step up to `play` may take.
    pub timeout: Duration,
}

impl SwarmOptions {
    /// One thread, 500 viewers per second, a buffer of 100 ms, 10 s for each step.
    #[must_use]
    pub const fn new(targets: Vec<SwarmTarget>) -> Self {
        Self {
            targets,
            ramp: 500,
            threads: 1,
            cpus: Vec::new(),
            buffer: Duration::from_millis(100),
            look_every: Duration::ZERO,
            stop_reading: None,
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
    pub const fn new(targets: Vec<SwarmTarget>) -> Self {
        Self {
            targets,
            count: 1_000,
            rate: 0,
            in_flight: 100,
            first_frame: false,
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
    /// Light clients speak plain RTMP only.
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
