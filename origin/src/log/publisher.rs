//! Who publishes: opening, returning, taking over, leaving.

use std::time::Instant;

use headwater_media::frame::{Epoch, Frame};

use super::{
    ConnectionId, Counted, Departure, Log, MAX_EPOCH_LEAD_MS, PublisherEvent, Refusal, Target,
};

/// Random, and the same as long as a client publishes: tells a return from a second publisher.
pub(crate) type PublisherId = [u8; 16];

/// Going on after a break or a move.
#[derive(Clone, Debug)]
pub(crate) struct Resume {
    pub(crate) epoch: Epoch,
    /// The first frame that will be sent again.
    pub(crate) first_sequence: u64,
    /// Codec headers and metadata in force at that frame.
    pub(crate) preface: Vec<Frame>,
}

/// A connection that wants to publish.
#[derive(Clone, Debug)]
pub(crate) struct OpenRequest {
    pub(crate) connection: ConnectionId,
    pub(crate) publisher: PublisherId,
    pub(crate) resume: Option<Resume>,
    /// W3C traceparent of the span that serves the connection, or empty: readers are told of it.
    pub(crate) trace: String,
}

/// How a publisher's connection was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CloseHow {
    Unpublished,
    Moved(Target),
}

#[derive(Clone, Debug)]
pub(super) enum Publisher {
    Nobody,
    Attached {
        connection: ConnectionId,
        publisher: PublisherId,
    },
    /// The connection broke, or a reader came before the publisher after a failover (then it is not known who it is).
    Lost {
        publisher: Option<PublisherId>,
        since: Instant,
    },
}

impl Publisher {
    pub(super) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Attached { connection, .. } => Some(*connection),
            Self::Nobody | Self::Lost { .. } => None,
        }
    }

    fn id(&self) -> Option<PublisherId> {
        match self {
            Self::Attached { publisher, .. } => Some(*publisher),
            Self::Lost { publisher, .. } => *publisher,
            Self::Nobody => None,
        }
    }
}

/// A connection that may become the publisher's.
#[derive(Clone, Debug)]
struct Candidate {
    connection: ConnectionId,
    publisher: PublisherId,
    trace: String,
}

/// A publisher that wants the name of one that has it, while that one is probed.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    candidate: Candidate,
    /// Wall-clock floor of its epoch.
    unix_millis: u64,
    token: u64,
    /// When the silence of the probed edge counts as the silence of its client.
    pub(super) deadline: Instant,
}

impl Waiting {
    pub(super) fn connection(&self) -> ConnectionId {
        self.candidate.connection
    }
}

impl Log {
    /// A connection wants to publish. The answer is an event for it: [`PublisherEvent::Accepted`] or `Rejected`, now or after
    /// the one who has the name was probed.
    ///
    /// `unix_millis` is wall-clock time, the floor of a new epoch.
    pub(crate) fn open(&mut self, now: Instant, unix_millis: u64, request: OpenRequest) {
        // Who opens here was let in by the ring: the stream belongs here, also if its publisher had gone.
        self.departure = None;
        let candidate = Candidate {
            connection: request.connection,
            publisher: request.publisher,
            trace: request.trace,
        };
        match request.resume {
            Some(resume) => self.resume(now, unix_millis, candidate, resume),
            None => self.open_fresh(now, unix_millis, candidate),
        }
    }

    fn open_fresh(&mut self, now: Instant, unix_millis: u64, candidate: Candidate) {
        let Publisher::Attached {
            connection: holder,
            publisher: holder_id,
        } = self.publisher
        else {
            self.start_epoch(now, unix_millis, candidate);
            return;
        };
        if holder_id == candidate.publisher {
            self.tell(holder, PublisherEvent::Superseded);
            self.refuse_waiting(Refusal::Busy);
            self.start_epoch(now, unix_millis, candidate);
            return;
        }
        match &mut self.waiting {
            Some(waiting) if waiting.candidate.publisher == candidate.publisher => {
                let before = std::mem::replace(&mut waiting.candidate, candidate);
                self.tell(before.connection, PublisherEvent::Superseded);
            }
            Some(_) => {
                let refused = PublisherEvent::Rejected(Refusal::BusyOpening);
                self.tell(candidate.connection, refused);
            }
            None => {
                let token = self.next_token;
                self.next_token += 1;
                self.waiting = Some(Waiting {
                    candidate,
                    unix_millis,
                    token,
                    deadline: now + self.config.takeover_silence + self.config.probe_slack,
                });
                let timeout = self.config.takeover_silence;
                self.tell(holder, PublisherEvent::Probe { token, timeout });
            }
        }
    }

    fn resume(&mut self, now: Instant, unix_millis: u64, candidate: Candidate, resume: Resume) {
        let connection = candidate.connection;
        let Resume {
            epoch,
            first_sequence,
            preface,
        } = resume;
        if epoch.0 > unix_millis.saturating_add(MAX_EPOCH_LEAD_MS) {
            self.tell(
                connection,
                PublisherEvent::Rejected(Refusal::EpochFromTheFuture),
            );
            return;
        }
        let known = self.runs.last().map(|run| run.epoch);
        let stranger = self
            .publisher
            .id()
            .is_some_and(|id| id != candidate.publisher);
        if known > Some(epoch) || (known == Some(epoch) && stranger) {
            self.tell(connection, PublisherEvent::Rejected(Refusal::Stale));
            return;
        }
        if let Publisher::Attached {
            connection: holder, ..
        } = self.publisher
        {
            let event = if stranger {
                PublisherEvent::Replaced
            } else {
                PublisherEvent::Superseded
            };
            self.tell(holder, event);
        }
        self.refuse_waiting(Refusal::Busy);
        self.go_on(epoch, first_sequence, preface);
        self.attach(now, candidate);
    }

    /// Makes room for frames of `epoch` from `first_sequence` on, next to what is there already.
    fn go_on(&mut self, epoch: Epoch, first_sequence: u64, preface: Vec<Frame>) {
        let contiguous = match self.runs.last() {
            Some(run) if run.epoch == epoch => first_sequence <= run.head,
            _ => first_sequence == 0,
        };
        if !contiguous {
            self.window.restart(preface);
        }
        let head = match self.runs.last() {
            Some(run) if run.epoch == epoch && contiguous => run.head,
            _ => first_sequence,
        };
        match self.runs.current_mut() {
            Some(run) if run.epoch == epoch => {
                run.begun = true;
                if !contiguous {
                    run.start = head;
                    run.head = head;
                }
            }
            // Another epoch, or the same one after readers were told that it is over.
            _ => self.runs.start(epoch, head),
        }
        self.version += 1;
    }

    fn start_epoch(&mut self, now: Instant, unix_millis: u64, candidate: Candidate) {
        let after = self
            .runs
            .last()
            .map_or(0, |run| run.epoch.0.saturating_add(1));
        self.runs.start(Epoch(after.max(unix_millis)), 0);
        self.version += 1;
        self.count(Counted::Epoch);
        self.attach(now, candidate);
    }

    fn attach(&mut self, now: Instant, candidate: Candidate) {
        let Candidate {
            connection,
            publisher,
            trace,
        } = candidate;
        self.publisher = Publisher::Attached {
            connection,
            publisher,
        };
        let timeline = self.timeline(now);
        let Some(run) = self.runs.current_mut() else {
            return;
        };
        run.trace = trace;
        let accepted = PublisherEvent::Accepted {
            epoch: run.epoch,
            timeline,
            next_sequence: run.head,
        };
        self.tell(connection, accepted);
    }

    /// The edge of the attached publisher answers a probe.
    pub(crate) fn probed(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        token: u64,
        alive: bool,
    ) {
        let asked = self.waiting.as_ref().is_some_and(|it| it.token == token);
        if !asked || self.publisher.connection() != Some(connection) {
            return;
        }
        if alive {
            self.refuse_waiting(Refusal::Busy);
        } else {
            self.take_over(now);
        }
    }

    /// Whoever waits has the name now.
    pub(super) fn take_over(&mut self, now: Instant) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        if let Publisher::Attached { connection, .. } = self.publisher {
            self.tell(connection, PublisherEvent::Replaced);
            self.count(Counted::Takeover);
        }
        self.start_epoch(now, waiting.unix_millis, waiting.candidate);
    }

    fn refuse_waiting(&mut self, refusal: Refusal) {
        if let Some(waiting) = self.waiting.take() {
            self.tell(waiting.connection(), PublisherEvent::Rejected(refusal));
        }
    }

    /// A connection closed on purpose.
    pub(crate) fn close(&mut self, now: Instant, connection: ConnectionId, how: CloseHow) {
        if self.publisher.connection() != Some(connection) {
            self.disconnected(now, connection);
            return;
        }
        match how {
            CloseHow::Unpublished => {
                self.unpublish();
                self.take_over(now);
            }
            CloseHow::Moved(target) => {
                // Whoever waits for the name asks the new owner.
                self.refuse_waiting(Refusal::Busy);
                self.publisher = Publisher::Nobody;
                self.departure = Some(Departure {
                    target,
                    deadline: now,
                    asked: now,
                    handed_over: true,
                });
                self.count(Counted::HandedOver);
                self.version += 1;
            }
        }
    }

    /// A connection is gone, whether or not it had the stream.
    pub(crate) fn disconnected(&mut self, now: Instant, connection: ConnectionId) {
        if self
            .waiting
            .as_ref()
            .is_some_and(|it| it.connection() == connection)
        {
            self.waiting = None;
        }
        let Publisher::Attached {
            connection: holder,
            publisher,
        } = self.publisher
        else {
            return;
        };
        if holder != connection {
            return;
        }
        self.publisher = Publisher::Lost {
            publisher: Some(publisher),
            since: now,
        };
        self.version += 1;
        self.take_over(now);
    }

    /// A reader knows of `epoch`, which this log does not: after a failover readers may come first. Readers are told that the
    /// publisher is gone if it does not come within the grace time. False if that cannot be: somebody publishes an earlier
    /// epoch here.
    pub(super) fn expect(&mut self, now: Instant, epoch: Epoch) -> bool {
        if self.is_published() {
            return false;
        }
        self.runs.expect(epoch);
        self.publisher = Publisher::Lost {
            publisher: None,
            since: now,
        };
        self.version += 1;
        true
    }
}
