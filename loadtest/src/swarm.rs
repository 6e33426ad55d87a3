//! Viewers that cost little: thousands on one thread.
//!
//! A viewer of a swarm says the same to the server as the full one ([`crate::viewer`]) and keeps the same account, but reads past
//! payloads: it looks at the first bytes of each message only, which is where a stamp is. One thread turns all its sockets in one loop
//! and one buffer, without tasks and without locks.
//!
//! | room | what it holds |
//! |---|---|
//! | `chunks` | the chunk stream, of which only the beginnings of messages are kept |
//! | `plan` | where to, and what to say there: once for all viewers of a stream |
//! | `link` | what is between a client and its server |
//! | `rtmfp` | a client's socket and session where it speaks RTMFP |
//! | `sealed` | a receiver of a bare sender of RTMFP's packets |
//! | `watcher` | one client without its socket |
//! | `account` | what it saw |
//! | `crew` | threads, and what is asked of them |
//! | `thread` | sockets and the loop; the jobs of watching and of arriving |
//! | `seconds` | what all threads saw, second by second |
//! | `peers` | whether a server on this machine has closed a connection that nobody reads |
//!
//! # Memory
//! [`BYTES_PER_VIEWER`] for a viewer that plays, which is 1.1 kB, and up to 600 bytes for each message that has come in part, beside what the kernel holds for its socket. A thread has some 1 MB of its own. A session of RTMFP takes some
//! 8 kB, and what is put together of the messages that come.
//!
//! # What it does not do
//! No TLS, no statuses of single viewers, no single gaps.

mod account;
mod arrivals;
mod chunks;
mod crew;
mod link;
mod options;
mod peers;
mod plan;
mod rtmfp;
mod sealed;
mod seconds;
mod thread;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;

pub use arrivals::{ArrivalCounts, Arrivals};
pub use options::{
    ArrivalOptions, MAX_SWARM_THREADS, RtmfpManner, StopReading, SwarmError, SwarmOptions,
    SwarmTarget,
};

pub(crate) use rtmfp::put_startup;

use crate::clock::now_ns;
use crate::measure::Latencies;
use crate::report::{Ending, PlaySummary, Spread, StoppedSummary, Tally};
use account::Sums;
use crew::Crew;
use plan::Manners;
use seconds::Seconds;
use thread::watch::{Order, Published, Stopped, Told, Watch, WatchPlan};
use thread::{Manner, Slot};
use watcher::Goal;

/// Bytes of memory of a viewer that plays: its slot, and the headers of six chunk streams.
pub const BYTES_PER_VIEWER: usize = size_of::<Slot>() + 6 * chunks::BYTES_PER_CHUNK_STREAM;

/// The figures of a progress line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmCounts {
    /// Viewers that saw a frame and have not ended.
    pub playing: u64,
    /// Viewers that have ended.
    pub ended: u64,
    /// Viewers that have stopped reading, ended or not.
    pub stopped: u64,
    /// Video and audio frames of the window. This and what follows is at most half a second old, and without those that stop reading.
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
    /// Viewers that were playing at its end, without those that stop reading.
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
pub struct Swarm {
    crew: Crew<Order>,
    /// Without those that stop reading.
    viewers: usize,
    published: Vec<Arc<Published>>,
    seconds: Arc<Mutex<Seconds>>,
    window_began: Mutex<Instant>,
}

impl Swarm {
    /// Starts them.
    ///
    /// # Errors
    /// [`SwarmError`]: nothing runs.
    pub fn start(options: SwarmOptions) -> Result<Self, SwarmError> {
        if options.targets.is_empty() {
            return Err(SwarmError::NoTarget);
        }
        let viewers = options.targets.len();
        let threads = options.threads.clamp(1, MAX_SWARM_THREADS).min(viewers);
        let manners = Manners {
            buffer: options.buffer,
            rtmfp: options.rtmfp,
            ..Manners::default()
        };
        let plans: Arc<[_]> = plan::plans(&options.targets, &manners)?.into();
        drop(options.targets);
        let manner = Manner {
            goal: Goal::Watch,
            timeout: options.timeout,
            look_every: options.look_every,
        };
        let started = now_ns();
        let stop = options.stop_reading.filter(|stop| stop.viewers > 0);
        let stop = stop.map(|stop| {
            let after = u64::try_from(stop.after.as_nanos()).unwrap_or(u64::MAX);
            let first = viewers.saturating_sub(stop.viewers);
            (first, started.saturating_add(after))
        });
        let seconds = Arc::new(Mutex::new(Seconds::new(threads)));
        let mut crew = Crew::default();
        let mut published = Vec::with_capacity(threads);
        for thread in 0..threads {
            let figures = Arc::new(Published::default());
            published.push(Arc::clone(&figures));
            let plan = WatchPlan {
                plans: Arc::clone(&plans),
                thread,
                threads,
                started,
                ramp: options.ramp,
                stop,
            };
            let seconds = Arc::clone(&seconds);
            crew.start("swarm", manner, &options.cpus, |orders| {
                Watch::new(plan, orders, figures, seconds)
            })?;
        }
        Ok(Self {
            crew,
            viewers: stop.map_or(viewers, |(first, _)| first),
            published,
            seconds,
            window_began: Mutex::new(Instant::now()),
        })
    }

    /// A few figures.
    #[must_use]
    pub fn counts(&self) -> SwarmCounts {
        let mut counts = SwarmCounts::default();
        let mut sums = Sums::default();
        let mut latencies: Option<Latencies> = None;
        for published in &self.published {
            counts.playing += published.playing.load(Ordering::Relaxed);
            counts.ended += published.ended.load(Ordering::Relaxed);
            counts.stopped += published.stopped.load(Ordering::Relaxed);
            let figures = published.figures.lock();
            counts.faults = counts.faults.saturating_add(figures.faults);
            counts.stalls += figures.stalls;
            sums.add(&figures.sums);
            match &mut latencies {
                None => latencies = Some(figures.latencies.clone()),
                Some(all) => all.merge(&figures.latencies),
            }
        }
        counts.frames = sums.video_frames + sums.audio_frames;
        counts.bytes = sums.bytes;
        let latency = latencies.unwrap_or_default().report();
        (counts.p50_us, counts.p99_us) = (latency.p50_us, latency.p99_us);
        counts
    }

    /// Begins to count bytes, frames and latencies anew. What is missing, repeated, stalled or late goes on being counted over the
    /// whole run.
    pub fn begin_window(&self) {
        self.crew.ask(Order::BeginWindow);
        *self.window_began.lock() = Instant::now();
    }

    /// What was seen each second, at most a day's worth. A second appears up to half a second after its end.
    #[must_use]
    pub fn samples(&self) -> Vec<SwarmSample> {
        self.seconds.lock().samples().to_vec()
    }

    /// What was seen up to now. The first call after viewers stopped reading has them read again, and waits some seconds for what
    /// was left for them; the others' account is that of before.
    #[must_use]
    pub fn report(&self) -> PlaySummary {
        let length = self.window_began.lock().elapsed();
        let mut all = Told::default();
        let answers = self.crew.ask(Order::Report);
        let silent = self.published.len() - answers.len();
        for told in answers {
            all.reports.extend(told.reports);
            all.statuses.merge(&told.statuses);
            all.sums.add(&told.sums);
            all.latencies.merge(&told.latencies);
            all.stopped.extend(told.stopped);
        }
        let stopped = (!all.stopped.is_empty()).then(|| summary_of(&all.stopped));
        let mut summary = PlaySummary {
            viewers: self.viewers as u64,
            video_frames: all.sums.video_frames,
            audio_frames: all.sums.audio_frames,
            bytes: all.sums.bytes,
            statuses: all.statuses.sorted(),
            stopped,
            ..PlaySummary::of(&all.reports, length, all.latencies.report())
        };
        if silent > 0 {
            summary.endings.push(Ending {
                what: "a thread of the harness does not answer".to_owned(),
                count: silent as u64,
            });
        }
        summary
    }

    /// Takes leave of the servers within a second.
    pub fn stop(self) {
        self.crew.tell(|| Order::Leave);
        self.crew.join();
    }
}

fn summary_of(stopped: &[Stopped]) -> StoppedSummary {
    let (mut endings, mut statuses) = (Tally::default(), Tally::default());
    let mut summary = StoppedSummary {
        viewers: stopped.len() as u64,
        ..StoppedSummary::default()
    };
    for viewer in stopped {
        summary.had_played += u64::from(viewer.had_played);
        if viewer.is_closed {
            summary.closed += 1;
            let ending = viewer.ending.as_ref().map(ToString::to_string);
            endings.add(
                ending
                    .as_deref()
                    .unwrap_or("closed, with bytes that did not come in time"),
            );
            statuses.add(viewer.last_status.as_deref().unwrap_or("none"));
        }
    }
    let closed_after = stopped.iter().filter_map(|viewer| viewer.closed_after);
    summary.closed_after = Spread::of(closed_after.collect());
    summary.last_statuses = statuses.sorted();
    summary.endings = endings.sorted();
    summary
}

#[cfg(test)]
mod tests;
