//! From the log of a stream to a queue that waits for the store.
//!
//! The intake reads the log as its readers do, in a task of its own that never waits for the store, so the publisher and its
//! viewers never wait for a recording.
//!
//! # Invariants
//! - Every frame of the epoch comes out once and in order, from the first one asked for to the end of the run; or the session has
//!   failed, with a reason.
//! - What waits is bounded: by recording, and by the [`Budget`] of all of them. Frames that were taken out count until they are
//!   [released](Intake::release), because a recorder holds them until they are durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use headwater_media::frame::{Epoch, Frame, Offset};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::session::Session;
use crate::log::table::{LogLease, unix_millis};
use crate::log::{Item, Reader, Start};

/// Frames and bytes that are taken from the log at a time.
const TAKE_FRAMES: usize = 256;
const TAKE_BYTES: usize = 1 << 20;

/// What a frame costs beside its payload, so that empty frames cannot fill the memory.
const FRAME_COST: usize = 128;

/// Why no more frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nobody publishes the epoch any more.
    Unpublished,
    /// The stream went to another node with its publisher.
    Moved,
    /// The session has failed, or the origin stops.
    Cut,
}

/// Bytes that wait for the store in all recordings.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.give_back(bytes);
            return false;
        }
        true
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Where the frames of one session wait. Dropping it ends the reading.
#[derive(Debug)]
pub(crate) struct Intake {
    queue: Arc<Queue>,
    /// Ends the reading when this is dropped.
    _stop: tokio_util::sync::DropGuard,
}

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Notify,
    budget: Arc<Budget>,
    /// Most bytes.
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    /// Of these frames and those that were taken out and not released.
    bytes: usize,
    end: Option<End>,
}

/// What is to be read, and for whom.
pub(crate) struct Source {
    pub(crate) lease: LogLease,
    pub(crate) session: Session,
    /// The first sequence of the session's epoch that is to be read.
    pub(crate) first: u64,
    /// Its publisher was away: what was sent before may be stored already.
    pub(crate) resumes: bool,
}

impl Intake {
    /// The task to be run, and where its frames are to be had.
    pub(crate) fn new(
        source: Source,
        budget: Arc<Budget>,
        limit: usize,
        stop: &CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let queue = Arc::new(Queue {
            state: Mutex::new(State::default()),
            changed: Notify::new(),
            budget,
            limit,
        });
        let stop = stop.child_token();
        let start = Offset {
            epoch: source.session.epoch,
            sequence: source.first,
        };
        let reader = open(&source.lease, start);
        let preface = source.lease.handle.look(|log| log.preface_before(start));
        let reading = Reading {
            source,
            reader,
            preface,
            has_read: false,
            queue: Arc::clone(&queue),
        };
        let intake = Self {
            queue,
            _stop: stop.clone().drop_guard(),
        };
        (intake, reading.run(stop))
    }

    /// The next frames, as many as there are up to `max_bytes`; why there are none any more. Safe to be dropped.
    pub(crate) async fn next(&self, max_bytes: usize) -> Result<Vec<Frame>, End> {
        loop {
            let changed = self.queue.changed.notified();
            if let Some(next) = self.queue.pop(max_bytes) {
                return next;
            }
            changed.await;
        }
    }

    /// A frame that was taken out is not held any more.
    pub(crate) fn release(&self, frame: &Frame) {
        let mut state = self.queue.state.lock();
        let bytes = cost(frame).min(state.bytes);
        state.bytes -= bytes;
        self.queue.budget.give_back(bytes);
    }
}

impl Queue {
    fn push(&self, frames: Vec<Frame>) -> Result<(), Failure> {
        let bytes = frames.iter().map(cost).sum::<usize>();
        let mut state = self.state.lock();
        if state.end.is_some() {
            return Ok(());
        }
        // One batch is always taken: a frame may be larger than the limit.
        if state.bytes > 0 && state.bytes.saturating_add(bytes) > self.limit {
            return Err(Failure::TooSlow(state.bytes));
        }
        if !self.budget.take(bytes) {
            return Err(Failure::Memory);
        }
        state.bytes += bytes;
        state.frames.extend(frames);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn pop(&self, max_bytes: usize) -> Option<Result<Vec<Frame>, End>> {
        let mut state = self.state.lock();
        if state.frames.is_empty() {
            return state.end.map(Err);
        }
        let (mut count, mut bytes) = (0, 0_usize);
        for frame in &state.frames {
            let more = bytes.saturating_add(cost(frame));
            if more > max_bytes && count > 0 {
                break;
            }
            bytes = more;
            count += 1;
        }
        Some(Ok(state.frames.drain(..count).collect()))
    }

    fn end(&self, end: End) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_one();
    }

    fn discard(&self) {
        let mut state = self.state.lock();
        state.frames = VecDeque::new();
        let bytes = std::mem::take(&mut state.bytes);
        self.budget.give_back(bytes);
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.discard();
    }
}

fn cost(frame: &Frame) -> usize {
    frame.payload.len() + FRAME_COST
}

fn open(lease: &LogLease, start: Offset) -> Option<Reader> {
    let wall_clock = unix_millis();
    let opened = lease
        .handle
        .update(|log, now| log.open_reader(now, wall_clock, Start::Offset(start)));
    opened.ok().map(|(reader, _)| reader)
}

/// Frames after those that are in force. They get the time of the frame that they are needed for: theirs may be hours ago.
fn with_preface(mut preface: Vec<Frame>, frames: Vec<Frame>) -> Vec<Frame> {
    let Some(first) = frames.first() else {
        return frames;
    };
    if preface.is_empty() {
        return frames;
    }
    preface.retain(|frame| frame.offset < first.offset && frame.offset.epoch == first.offset.epoch);
    preface.sort_by_key(|frame| frame.offset);
    for frame in &mut preface {
        frame.timestamp = first.timestamp;
    }
    preface.extend(frames);
    preface
}

/// The task's side.
struct Reading {
    source: Source,
    /// `None`: the log did not let it in.
    reader: Option<Reader>,
    /// Codec headers and metadata from before the first frame that is to come, which may be nowhere else.
    preface: Vec<Frame>,
    has_read: bool,
    queue: Arc<Queue>,
}

impl Reading {
    async fn run(mut self, stop: CancellationToken) {
        let end = tokio::select! {
            end = self.read() => end,
            () = stop.cancelled() => End::Cut,
        };
        self.source.session.close_unless(|| false);
        if self.source.session.is_over() {
            self.queue.discard();
        }
        self.queue.end(end);
    }

    /// Until there is no more to read.
    async fn read(&mut self) -> End {
        let mut version = self.source.lease.handle.version();
        loop {
            version.borrow_and_update();
            let wake = loop {
                match self.step() {
                    Step::More => {}
                    Step::End(end) => return end,
                    Step::Wait(wake) => break wake,
                }
            };
            let woken = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = version.changed() => {}
                () = woken => {}
            }
        }
    }

    fn step(&mut self) -> Step {
        let handle = &self.source.lease.handle;
        let Some(reader) = &mut self.reader else {
            self.fail(Failure::Missed {
                from: self.source.first,
                to: self.source.first,
            });
            return Step::End(End::Cut);
        };
        if self.source.session.is_over() {
            return Step::End(End::Cut);
        }
        let now = Instant::now().into_std();
        let epoch = self.source.session.epoch;
        let item = handle.look(|log| log.read(now, reader, TAKE_FRAMES, TAKE_BYTES));
        match item {
            None => Step::Wait(reader.poll_timeout().map(Instant::from_std)),
            Some(Item::Frames(frames)) => {
                self.has_read = true;
                let frames = with_preface(std::mem::take(&mut self.preface), frames);
                match self.queue.push(frames) {
                    Ok(()) => Step::More,
                    Err(failure) => {
                        self.fail(failure);
                        Step::End(End::Cut)
                    }
                }
            }
            Some(Item::Gap { from, to, .. }) => self.gap(from, to, epoch),
            Some(Item::Published(published)) if published == epoch => Step::More,
            Some(Item::Published(_) | Item::Unpublished(_) | Item::Stale) => {
                let still = || handle.look(|log| log.publishes(epoch));
                if self.source.session.close_unless(still) {
                    Step::End(End::Unpublished)
                } else {
                    Step::More
                }
            }
            Some(Item::Moved(_)) => Step::End(End::Moved),
        }
    }

    /// Frames are missing: either they never came to this log, or they came and are gone.
    fn gap(&mut self, from: Offset, to: Offset, epoch: Epoch) -> Step {
        let handle = &self.source.lease.handle;
        let (start, oldest) = handle.look(|log| (log.start_of(epoch), log.oldest_of(epoch)));
        if let Some(oldest) = oldest.filter(|oldest| from.epoch == epoch && from.sequence < *oldest)
            && self.source.resumes
            && !self.has_read
        {
            // It was sent before its publisher was away. Whether it is stored shows where the frames behind it are put.
            self.read_from(epoch, oldest);
            return Step::More;
        }
        match start {
            Some(start) if from.epoch == epoch && from.sequence < start => {
                tracing::warn!(
                    from = from.sequence,
                    to = start,
                    "frames were lost on their way to this origin: the recording has a hole"
                );
                // Readers of the live stream would skip to a key frame; a recording keeps what there is.
                self.read_from(epoch, start);
                Step::More
            }
            _ => {
                self.fail(Failure::Missed {
                    from: from.sequence,
                    to: to.sequence,
                });
                Step::End(End::Cut)
            }
        }
    }

    fn read_from(&mut self, epoch: Epoch, sequence: u64) {
        let start = Offset { epoch, sequence };
        let lease = &self.source.lease;
        self.preface = lease.handle.look(|log| log.preface_before(start));
        self.reader = open(lease, start);
    }

    fn fail(&self, failure: Failure) {
        self.source.session.failed(failure);
    }
}

/// What to do after a look at the log.
enum Step {
    More,
    Wait(Option<Instant>),
    End(End),
}
