//! The live log of one stream: a pure state machine.
//!
//! The log gives epochs to publishers, keeps the tail of their frames in a [`Window`], and tells each reader what stands at
//! its position. Calls that can have effects elsewhere leave [`Event`]s behind; drain them with [`Log::poll_event`] after
//! each call. [`Log::poll_timeout`] says when [`Log::handle_timeout`] has something to do. Readers are not told of changes:
//! compare [`Log::version`] before and after.
//!
//! ```text
//!               open                     connection lost
//!   Nobody ------------> Attached ------------------------> Lost
//!     ^                   |   ^  \                           | |
//!     |  close, grace over|   |   \ probe (another wants     | |
//!     +-------------------+   |    \ the name)               | |
//!     ^                       +-----+------- open -----------+ |
//!     +------------------------- grace over -------------------+
//! ```
//!
//! # Runs
//! A *run* is a stretch of one epoch during which readers know the stream as published. Readers walk from run to run, and
//! meet `PUBLISHED` where a run starts and `UNPUBLISHED` where it ends for good; a run that is cut off by the next publisher
//! ends without `UNPUBLISHED`. A publisher that comes back with its old epoch after readers were told that it is gone starts
//! another run of the same epoch.
//!
//! # Invariants
//! - One publisher at most is attached; the epoch of a publisher is greater than any epoch before it.
//! - A reader gets every frame once and in order; where it cannot, it is told of a gap first.
//! - Memory is bounded by the window's retention, [`MAX_RUNS`], and one waiting publisher.
//!
//! # What it does not do
//! It knows no sockets, clocks or tasks, nothing of the ring, and it does not record: a stream that is not recorded has no
//! durable frames other than the accepted ones.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use headwater_media::frame::{Epoch, Frame, Offset};
use headwater_media::window::{Pushed, Retention, Window};

mod publisher;
mod reader;
mod run;
pub(crate) mod table;

pub(crate) use publisher::{CloseHow, OpenRequest, PublisherId, Resume};
use publisher::{Publisher, Waiting};
pub(crate) use reader::{Item, Opened, Reader, Start};
use run::Runs;

/// Most frames in one batch of a publisher: seconds of a busy stream, and what an edge sends after a failover in one go.
pub(crate) const MAX_BATCH_FRAMES: usize = 4_096;

/// Largest payload of a frame, in bytes: one RTMP message has a 24-bit length.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;

/// Most codec headers and metadata frames that a resuming publisher may bring along.
pub(crate) const MAX_PREFACE_FRAMES: usize = 256;

/// How far ahead of this node's wall clock an epoch given elsewhere may be. Epochs are wall-clock milliseconds at their
/// lowest, so a greater one is nonsense, and taking it would leave no room for epochs after it.
pub(crate) const MAX_EPOCH_LEAD_MS: u64 = 24 * 60 * 60 * 1_000;

/// Runs that a log remembers, the current one included. A reader that is further behind than that has a gap to jump anyway.
pub(crate) const MAX_RUNS: usize = 64;

/// How long after it was asked to move a publisher is asked again: its edge may have found the new owner not ready.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a log needs to know beyond what callers tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogConfig {
    pub(crate) retention: Retention,
    /// How long a publisher whose connection broke may stay away before readers are told that it is gone.
    pub(crate) publisher_grace: Duration,
    /// How long a client must be silent before somebody else may take its name: sent to its edge in a probe.
    pub(crate) takeover_silence: Duration,
    /// How long the edge of a probed publisher may take for its answer beyond `takeover_silence`.
    pub(crate) probe_slack: Duration,
    /// How long a publisher may take to move to the stream's new owner before its readers are sent there without it.
    pub(crate) handover: Duration,
}

/// One publisher's connection, unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// The node that has a stream now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) node: String,
    /// `host:port`.
    pub(crate) address: String,
}

/// Why a publisher was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else publishes and is alive.
    Busy,
    /// Another publisher opened the same name at the same moment.
    BusyOpening,
    /// A later epoch exists.
    Stale,
    /// The epoch is further ahead of the clock than any node could have given.
    EpochFromTheFuture,
}

/// What a publisher's connection is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PublisherEvent {
    /// The connection is the publisher's now.
    Accepted {
        epoch: Epoch,
        /// Milliseconds.
        timeline: Option<u64>,
        next_sequence: u64,
    },
    /// The connection is of no more use.
    Rejected(Refusal),
    /// Answer with [`Log::probed`].
    Probe { token: u64, timeout: Duration },
    /// Another publisher has the name.
    Replaced,
    /// The same publisher came back on another connection.
    Superseded,
    /// Hand over to this node, then close with [`CloseHow::Moved`].
    Move(Target),
    /// The stream goes elsewhere, without this connection: open again, wherever the ring says then.
    Unavailable,
}

/// Something to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// A publisher was given an epoch.
    Epoch,
    /// A silent publisher lost its name to another one.
    Takeover,
    /// A publisher went to another owner with its stream.
    HandedOver,
    /// A publisher did not go in time.
    HandoverTimedOut,
}

/// What a call had for effects elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Publisher(ConnectionId, PublisherEvent),
    Count(Counted),
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AppendError {
    /// The connection lost the stream; it has been told why.
    #[error("the connection does not publish this stream any more")]
    NotAttached,
    /// Frames of an epoch that is not the publisher's.
    #[error("frames of epoch {got}, but the publisher's is {expected}")]
    WrongEpoch {
        /// The publisher's epoch.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// A frame is missing.
    #[error("frame {got} came where {expected} was due")]
    Hole {
        /// The sequence that was due.
        expected: u64,
        /// What came.
        got: u64,
    },
}

/// Where the stream goes, if it is to go.
#[derive(Clone, Debug)]
struct Departure {
    target: Target,
    /// When readers go without the publisher.
    deadline: Instant,
    /// When the publisher was asked to go.
    asked: Instant,
    /// The publisher is there already.
    handed_over: bool,
}

/// The live log of one stream. See the [module](self).
#[derive(Debug)]
pub(crate) struct Log {
    config: LogConfig,
    window: Window<Frame>,
    runs: Runs,
    publisher: Publisher,
    /// Who waits for the answer to a probe.
    waiting: Option<Waiting>,
    departure: Option<Departure>,
    /// Timestamp of the newest frame, and when it came.
    newest: Option<(u64, Instant)>,
    next_token: u64,
    version: u64,
    events: VecDeque<Event>,
}

impl Log {
    pub(crate) fn new(config: LogConfig) -> Self {
        Self {
            window: Window::new(config.retention),
            config,
            runs: Runs::default(),
            publisher: Publisher::Nobody,
            waiting: None,
            departure: None,
            newest: None,
            next_token: 0,
            version: 0,
            events: VecDeque::new(),
        }
    }

    /// The next effect of the calls so far.
    #[must_use]
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] is due. Changes with every call.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let probe = self.waiting.as_ref().map(|waiting| waiting.deadline);
        let grace = match self.publisher {
            Publisher::Lost { since, .. } => Some(since + self.config.publisher_grace),
            Publisher::Nobody | Publisher::Attached { .. } => None,
        };
        let handover = match (&self.departure, self.is_published()) {
            (Some(departure), true) => Some(departure.deadline),
            _ => None,
        };
        [probe, grace, handover].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.waiting.as_ref().is_some_and(|it| it.deadline <= now) {
            self.take_over(now);
        }
        if let Publisher::Lost { since, .. } = self.publisher
            && since + self.config.publisher_grace <= now
        {
            self.unpublish();
        }
        let late = |departure: &Departure| departure.deadline <= now;
        if let Publisher::Attached { connection, .. } = self.publisher
            && self.departure.as_ref().is_some_and(late)
        {
            self.tell(connection, PublisherEvent::Unavailable);
            self.count(Counted::HandoverTimedOut);
            self.disconnected(now, connection);
        }
    }

    /// Grows whenever readers may find something new.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether a publisher's connection is there.
    #[must_use]
    pub(crate) fn is_published(&self) -> bool {
        matches!(self.publisher, Publisher::Attached { .. })
    }

    /// Whether viewers take the stream to be published: somebody publishes, or is expected back.
    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        self.runs.current().is_some_and(|run| run.begun)
    }

    /// Whether nothing would be lost with this log but history: no publisher is there or expected, no readers counted.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        let expected = matches!(self.publisher, Publisher::Lost { .. });
        !self.is_published() && self.waiting.is_none() && (!expected || self.departure.is_some())
    }

    /// Whether the stream goes, or went, to another node.
    #[must_use]
    pub(crate) fn is_departing(&self) -> bool {
        self.departure.is_some()
    }

    /// Whether the publisher has gone to another node. Readers are sent after it.
    #[must_use]
    pub(crate) fn is_handed_over(&self) -> bool {
        self.departure.as_ref().is_some_and(|it| it.handed_over)
    }

    /// W3C traceparent of the publisher's span in the newest run of `epoch`; empty if there is none.
    #[must_use]
    pub(crate) fn trace_of(&self, epoch: Epoch) -> &str {
        self.runs.newest_of(epoch).map_or("", |run| &run.trace)
    }

    /// Bytes of frames held.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.window.bytes()
    }

    /// Takes a batch of the attached publisher: frames that are there already are dropped. Gives the first sequence that is
    /// not yet accepted.
    ///
    /// # Errors
    /// [`AppendError`]; frames before the one at fault are taken.
    pub(crate) fn append(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        epoch: Epoch,
        frames: impl IntoIterator<Item = Frame>,
    ) -> Result<u64, AppendError> {
        if self.publisher.connection() != Some(connection) {
            return Err(AppendError::NotAttached);
        }
        let Some(run) = self.runs.current_mut() else {
            return Err(AppendError::NotAttached);
        };
        if run.epoch != epoch {
            return Err(AppendError::WrongEpoch {
                expected: run.epoch.0,
                got: epoch.0,
            });
        }
        self.window.tick(now);
        for frame in frames {
            let got = frame.offset.sequence;
            if got < run.head {
                continue;
            }
            if got > run.head {
                return Err(AppendError::Hole {
                    expected: run.head,
                    got,
                });
            }
            run.head = run.head.saturating_add(1);
            self.newest = Some((frame.timestamp, now));
            if let Pushed::Restarted { .. } = self.window.push(frame) {
                run.start = got;
            }
            self.version += 1;
        }
        Ok(run.head)
    }

    /// The first sequence of `epoch` that is not yet accepted, also after its run has ended.
    #[must_use]
    pub(crate) fn accepted_of(&self, epoch: Epoch) -> u64 {
        self.runs.newest_of(epoch).map_or(0, |run| run.head)
    }

    /// The first sequence of the newest run of `epoch` that this log took without a hole.
    #[must_use]
    pub(crate) fn start_of(&self, epoch: Epoch) -> Option<u64> {
        self.runs.newest_of(epoch).map(|run| run.start)
    }

    /// The first sequence of `epoch` that is still here, of whichever run.
    #[must_use]
    pub(crate) fn oldest_of(&self, epoch: Epoch) -> Option<u64> {
        let mut offsets = self.window.iter().map(|frame| frame.offset);
        let oldest = offsets.find(|offset| offset.epoch == epoch);
        oldest.map(|offset| offset.sequence)
    }

    /// Whether a run of `epoch` goes on, with its publisher there or expected back.
    #[must_use]
    pub(crate) fn publishes(&self, epoch: Epoch) -> bool {
        self.runs.current().is_some_and(|run| run.epoch == epoch)
    }

    /// Codec headers and metadata in force at `offset` and older than it.
    #[must_use]
    pub(crate) fn preface_before(&self, offset: Offset) -> Vec<Frame> {
        self.window.preface_at(offset)
    }

    /// The stream belongs to another node: the publisher is asked to go there, readers without one are sent there. Saying so
    /// again asks the publisher again if it has been [`ASK_AGAIN`] since.
    pub(crate) fn depart(&mut self, now: Instant, target: Target) {
        let known = self.departure.as_ref();
        if known
            .is_some_and(|it| it.handed_over || (it.target == target && now < it.asked + ASK_AGAIN))
        {
            return;
        }
        let deadline = known.map_or(now + self.config.handover, |it| it.deadline);
        if let Some(waiting) = self.waiting.take() {
            self.tell(waiting.connection(), PublisherEvent::Unavailable);
        }
        if let Publisher::Attached { connection, .. } = self.publisher {
            self.tell(connection, PublisherEvent::Move(target.clone()));
        }
        self.departure = Some(Departure {
            target,
            deadline,
            asked: now,
            handed_over: false,
        });
        self.version += 1;
    }

    /// The stream belongs to this node after all. Where the publisher has gone already, readers still follow it: the node
    /// that it went to sends it back if need be.
    pub(crate) fn stay(&mut self) {
        self.departure.take_if(|departure| !departure.handed_over);
    }

    /// Keeps more or less from now on.
    pub(crate) fn set_retention(&mut self, retention: Retention) {
        if retention != self.window.retention() {
            self.window.set_retention(retention);
        }
    }

    fn tell(&mut self, connection: ConnectionId, event: PublisherEvent) {
        self.events.push_back(Event::Publisher(connection, event));
    }

    fn count(&mut self, counted: Counted) {
        self.events.push_back(Event::Count(counted));
    }

    /// Readers learn that nobody publishes any more.
    fn unpublish(&mut self) {
        self.publisher = Publisher::Nobody;
        self.runs.end_current(run::End::Unpublished);
        self.version += 1;
    }

    /// Where the timeline stands: the newest timestamp and the time since.
    fn timeline(&self, now: Instant) -> Option<u64> {
        self.newest.map(|(timestamp, came)| {
            let since = now.saturating_duration_since(came).as_millis();
            timestamp.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
        })
    }
}

fn offset(epoch: Epoch, sequence: u64) -> Offset {
    Offset { epoch, sequence }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
