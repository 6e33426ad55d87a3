//! A bare sender: a stream of its own, and one `send` per receiver and flush.
//!
//! Nothing is asked, nobody is answered: whoever comes gets the stream of a server to a viewer, from its first byte on. One thread sleeps
//! until something is due, makes it, sends it to one receiver after the other through an [outlet](super::outlet), takes new ones, and
//! sleeps again.
//!
//! # Stamps
//! A frame says that it was sent when the thread woke for it, as one of a publisher does that wakes for it; but if the thread was still
//! busy with what was before, when it was due. So a sender that is behind shows in the latency, as a server does.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use headwater_media::frame::FrameKind;
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::{Deserialize, Serialize};

use super::crowd::Crowd;
use super::outlet::Outlet;
use super::sealed::Receivers;
use super::{FloorError, Flush, SenderReport};
use crate::clock::now_ns;
use crate::source::{Source, SourceOptions};

/// Longest sleep, so that the end and new sockets are seen in time.
const LONGEST_SLEEP: u64 = 100_000_000;

/// How exactly to wake, in nanoseconds, instead of the 50 us that Linux allows itself.
const TIMER_SLACK: u64 = 1_000;

/// What a sender that is late puts together for one flush at most, in bytes.
const MAX_TOGETHER: usize = 1 << 20;

/// How long audio waits at most for a video frame that does not come, in milliseconds.
const MAX_WAIT: u64 = 1_000;

const MILLISECOND: u64 = 1_000_000;

/// What a sender sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloorProtocol {
    /// The chunk stream of RTMP over TCP, the same bytes for all.
    #[default]
    Rtmp,
    /// The packets of RTMFP over UDP, encrypted for each receiver.
    Rtmfp,
}

/// What a sender is to do.
#[derive(Clone, Debug)]
pub struct SenderOptions {
    /// Where to be reached; port 0 for any.
    pub listen: SocketAddr,
    /// What to send.
    pub protocol: FloorProtocol,
    /// How often to send.
    pub flush: Flush,
    /// The stream.
    pub source: SourceOptions,
    /// End after this time.
    pub seconds: Option<Duration>,
}

impl Default for SenderOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            protocol: FloorProtocol::Rtmp,
            flush: Flush::Frame,
            source: SourceOptions::default(),
            seconds: None,
        }
    }
}

/// A sender that can be connected to and has not begun.
#[derive(Debug)]
pub struct Sender {
    outlet: Box<dyn Outlet>,
    address: SocketAddr,
    flush: Flush,
    source: Source,
    length: Option<Duration>,
    report: SenderReport,
}

impl Sender {
    /// Opens the port. From now on one can connect; the stream begins with [`run`](Self::run).
    ///
    /// # Errors
    /// [`FloorError`] if the address cannot be listened on, or there is no such source.
    pub fn bind(options: &SenderOptions) -> Result<Self, FloorError> {
        let source = Source::new(&options.source)?;
        let listened = match options.protocol {
            FloorProtocol::Rtmp => Crowd::listen(options.listen),
            FloorProtocol::Rtmfp => Receivers::listen(options.listen),
        };
        let (outlet, address) = listened.map_err(|cause| FloorError::Listen {
            address: options.listen,
            cause,
        })?;
        Ok(Self {
            outlet,
            address,
            flush: options.flush,
            source,
            length: options.seconds,
            report: SenderReport {
                flush: options.flush.to_string(),
                ..SenderReport::default()
            },
        })
    }

    /// Where it can be reached.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends on this thread until `stop` is set, which is seen within a tenth of a second, or the time is over.
    #[must_use]
    pub fn run(mut self, stop: &AtomicBool) -> SenderReport {
        wake_exactly();
        let cpu = thread_cpu();
        let begun = now_ns();
        let end = self.length.map(|length| after(begun, length));
        let clock = Clock { begun, end, stop };
        let (mut sending, mut longest) = (0_u64, 0_u64);
        while self.fill(&clock) {
            if self.outlet.pending() == 0 {
                continue;
            }
            let from = now_ns();
            self.outlet.flush(from);
            let took = now_ns().saturating_sub(from);
            sending += took;
            longest = longest.max(took);
            self.report.flushes += 1;
            self.outlet.accept(&mut self.report);
        }
        let figures = self.outlet.figures();
        SenderReport {
            seconds: now_ns().saturating_sub(begun) as f64 / 1e9,
            sends: figures.sends,
            datagrams: figures.datagrams,
            full: figures.full,
            bytes: figures.bytes,
            left: figures.left,
            cut_off: figures.cut_off,
            send_us: sending as f64 / 1e3 / figures.sends.max(1) as f64,
            longest_flush_ms: longest as f64 / 1e6,
            cpu_seconds: thread_cpu().saturating_sub(cpu).as_secs_f64(),
            ..self.report
        }
    }

    /// Waits for what makes the next flush, and makes it. False if it is time to end.
    fn fill(&mut self, clock: &Clock<'_>) -> bool {
        match self.flush {
            Flush::Message => self.next(clock).is_some(),
            Flush::Frame => self.fill_to_frame(clock),
            Flush::Every(interval) => self.fill_to_tick(clock, interval),
        }
    }

    fn fill_to_frame(&mut self, clock: &Clock<'_>) -> bool {
        let mut first = None;
        let mut is_ready = false;
        loop {
            let Some((kind, timestamp)) = self.next(clock) else {
                return false;
            };
            let first = *first.get_or_insert(timestamp);
            is_ready |= kind == Some(FrameKind::Video)
                // No video, or none any more.
                || (kind == Some(FrameKind::Audio) && !self.outlet.has_video())
                || timestamp.saturating_sub(first) >= MAX_WAIT;
            let is_next_due = clock.due(self.source.next_timestamp()) <= now_ns();
            if self.outlet.pending() >= MAX_TOGETHER || (is_ready && !is_next_due) {
                return true;
            }
        }
    }

    fn fill_to_tick(&mut self, clock: &Clock<'_>, interval: Duration) -> bool {
        let interval = nanoseconds(interval).max(1);
        // Ticks do not depend on how late the last one was.
        let passed = now_ns().saturating_sub(clock.begun) / interval;
        let mut tick = clock.begun.saturating_add(interval.saturating_mul(passed));
        // Something of the last tick may be left: it was too much, or this thread too late.
        if clock.due(self.source.next_timestamp()) > tick {
            tick = tick.saturating_add(interval);
        }
        if self.wait(tick, clock).is_none() {
            return false;
        }
        let mut is_first = true;
        while clock.due(self.source.next_timestamp()) <= tick
            && self.outlet.pending() < MAX_TOGETHER
        {
            let due = clock.due(self.source.next_timestamp());
            let _made = self.make(due);
            if std::mem::take(&mut is_first) {
                // It waits for the next tick at the longest.
                self.behind(now_ns().saturating_sub(due).saturating_sub(interval));
            }
        }
        true
    }

    /// Waits until the next frame is due and makes it. Tells its kind, if it is media, and its time.
    fn next(&mut self, clock: &Clock<'_>) -> Option<(Option<FrameKind>, u64)> {
        let due = clock.due(self.source.next_timestamp());
        let has_waited = self.wait(due, clock)?;
        let now = now_ns();
        self.behind(now.saturating_sub(due));
        Some(self.make(if has_waited { now } else { due }))
    }

    fn make(&mut self, sent_at: u64) -> (Option<FrameKind>, u64) {
        let frame = self.source.next_frame(sent_at);
        self.outlet.add(&frame);
        self.report.messages += 1;
        let kind = (!frame.is_header).then_some(frame.kind);
        self.report.video_frames += u64::from(kind == Some(FrameKind::Video));
        (kind, frame.timestamp)
    }

    fn behind(&mut self, nanoseconds: u64) {
        let most = &mut self.report.most_behind_ms;
        *most = most.max(nanoseconds as f64 / 1e6);
    }

    /// Waits until then and takes new sockets meanwhile. Tells whether there was anything to wait for, or nothing if it is time to end.
    fn wait(&mut self, until: u64, clock: &Clock<'_>) -> Option<bool> {
        let mut has_waited = false;
        loop {
            let now = now_ns();
            if clock.is_over(now) {
                return None;
            }
            if now >= until {
                return Some(has_waited);
            }
            if has_waited {
                self.outlet.accept(&mut self.report);
            }
            has_waited = true;
            sleep_until(until.min(now.saturating_add(LONGEST_SLEEP)));
        }
    }
}

/// The life of a run on the clock of the stamps.
struct Clock<'a> {
    begun: u64,
    end: Option<u64>,
    stop: &'a AtomicBool,
}

impl Clock<'_> {
    /// When a frame with this timestamp in milliseconds is due.
    const fn due(&self, timestamp: u64) -> u64 {
        let from_start = timestamp.saturating_mul(MILLISECOND);
        self.begun.saturating_add(from_start)
    }

    fn is_over(&self, now: u64) -> bool {
        self.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| now >= end)
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn after(begun: u64, time: Duration) -> u64 {
    begun.saturating_add(nanoseconds(time))
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(u64::try_from(tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(tv_nsec).unwrap_or(0))
}

/// Asks for timers that are more exact than usual, for this thread.
fn wake_exactly() {
    #[cfg(target_os = "linux")]
    {
        // Without it the stream is some microseconds later, and nothing else is lost.
        let _unchanged = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK));
    }
}

/// Sleeps, or returns earlier if a signal comes.
#[cfg(target_os = "linux")]
fn sleep_until(moment: u64) {
    const SECOND: u64 = 1_000_000_000;
    let until = Timespec {
        tv_sec: i64::try_from(moment / SECOND).unwrap_or(i64::MAX),
        // Less than a second.
        tv_nsec: (moment % SECOND) as _,
    };
    let _interrupted = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &until);
}

/// Sleeps, or returns earlier.
#[cfg(not(target_os = "linux"))]
fn sleep_until(moment: u64) {
    std::thread::park_timeout(Duration::from_nanos(moment.saturating_sub(now_ns())));
}

#[cfg(test)]
mod tests;
