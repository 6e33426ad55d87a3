//! The tail of a stream log, kept in memory.
//!
//! One structure for the owner's live log, for what the publishing edge keeps to append again after a failover, and for
//! the hub of a viewing edge.
//!
//! # Invariants
//! - Offsets only go up. Within an epoch the window has no hole; two epochs stand side by side only where the later one was
//!   pushed from its sequence 0, so a reader can pass from the end of one to the start of the next.
//! - The newest frame is always held. Beyond it the window stays within [`Retention::max_bytes`] and
//!   [`Retention::max_frames`], whatever a publisher sends.
//! - Codec headers and metadata that leave the window stay in force as its preface (bounded, see [`MAX_PREFACE_SLOTS`] and
//!   [`MAX_PREFACE_BYTES`]). A new epoch starts with an empty preface: its publisher sends headers of its own.
//!
//! # Reading
//! A reader holds the offset that it needs next, and asks [`Window::read_from`]. A [`Read::Frames`] never spans two epochs. The
//! reader's next position is the offset after the last frame it took; where that epoch has ended, the same call gives frames
//! of the next epoch, and the reader knows by the epoch of their offsets.
//!
//! # What it does not do
//! It does not wake readers, reads no clock (its durations are media time; one that is told the time by [`Window::tick`] keeps frames
//! for that long after they came, too), and judges no payload.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::time::{Duration, Instant};

mod arrivals;
mod item;
mod preface;

use arrivals::Arrivals;
pub use item::WindowItem;
pub use preface::{HeaderPart, MAX_PREFACE_BYTES, MAX_PREFACE_SLOTS, Preface, Slot};

use crate::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};

/// Media time without any video frame after which a stream counts as one without video, in milliseconds: a late joiner is
/// then not sent back to the last key frame. Longer than any frame interval or reordering of a stream that has pictures.
pub const VIDEO_SILENCE_MS: u64 = 10_000;

/// How much of a log a window keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// At least this much media time, in milliseconds, within the two bounds below, and by a window that is told the time what
    /// came within so much of it. What is older goes by whole GOPs (the
    /// newest GOP always stays), or by frames if the window holds no key frame.
    pub min_duration_ms: u64,
    /// Most bytes, as told by [`WindowItem::size`]. Past it the oldest frames go one by one, even out of the newest GOP:
    /// readers that follow closely still find their next frame, and late joiners start at the newest frame, that is without
    /// pictures until the next key frame. The newest frame stays, however large.
    pub max_bytes: usize,
    /// Most frames, at least 1. As for `max_bytes`.
    pub max_frames: usize,
}

impl Default for Retention {
    /// 10 seconds, 64 MiB, 16,384 frames: several GOPs of a 20 Mbit/s stream.
    fn default() -> Self {
        Self {
            min_duration_ms: 10_000,
            max_bytes: 64 << 20,
            max_frames: 16_384,
        }
    }
}

/// What became of a pushed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is the next frame of its epoch, or the first one that the window ever saw.
    Appended,
    /// It is frame 0 of a later epoch: the log goes on with it.
    EpochStarted,
    /// The window is past that offset already; the frame was dropped.
    Duplicate,
    /// There is a hole before it: the window holds this frame only. Headers and metadata of the same epoch stay in force,
    /// until [`Window::install_preface`] tells better.
    Restarted {
        /// The offset that was due.
        expected: Offset,
    },
}

impl Pushed {
    /// Whether the frame is in the window now.
    #[must_use]
    pub fn is_new(self) -> bool {
        self != Self::Duplicate
    }
}

/// What a reader finds at its position.
#[derive(Clone, Debug)]
pub enum Read<'a, F> {
    /// One frame or more, of one epoch, without a hole.
    Frames(vec_deque::Iter<'a, F>),
    /// The frame has not been pushed yet. That is also so for a reader that is ahead of the log, as after a failover: the
    /// publishing edge appends again what the new owner lacks.
    NotYet,
    /// The frame is not held any more.
    Gap {
        /// Where to go on: the next key frame in the window, or the first frame if the window holds no key frame.
        /// [`Window::preface_at`] tells the headers in force there.
        to: Offset,
    },
}

/// A run of frames of one epoch.
#[derive(Clone, Copy, Debug)]
struct Run {
    epoch: Epoch,
    /// Sequence and absolute index of its first frame (which may have left the window).
    first_sequence: u64,
    first_index: u64,
}

/// The tail of one stream log. See the [module](self).
///
/// Frames have an absolute index, the count of frames pushed before, so that the indexes of key frames and headers stay
/// true while frames leave at the front. Pushing is O(1) amortised, reading O(log n) to find the position, by binary search
/// over the epochs held.
#[derive(Clone, Debug)]
pub struct Window<F = Frame> {
    retention: Retention,
    /// Frames from here on are old only when the bounds say so.
    held_from: Option<Offset>,
    frames: VecDeque<F>,
    /// Absolute index of `frames[0]`.
    first_index: u64,
    arrivals: Arrivals,
    bytes: usize,
    /// Epochs held, oldest first; the last one is that of the newest frame.
    runs: VecDeque<Run>,
    /// Absolute indexes of the key frames held.
    keys: VecDeque<u64>,
    /// Absolute indexes and slots of the frames held that have a slot.
    headers: VecDeque<(u64, Slot)>,
    /// In force before `frames[0]`.
    preface: Preface<F>,
    /// A reader at this offset or later misses nothing by going on at `frames[0]`.
    complete_from: Offset,
    /// The offset after the newest frame that was ever pushed.
    next: Option<Offset>,
    /// Timestamp of the newest video frame.
    last_video: Option<u64>,
}

impl<F: WindowItem> Window<F> {
    /// An empty window.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self {
            retention,
            held_from: None,
            frames: VecDeque::new(),
            first_index: 0,
            arrivals: Arrivals::default(),
            bytes: 0,
            runs: VecDeque::new(),
            keys: VecDeque::new(),
            headers: VecDeque::new(),
            preface: Preface::new(),
            complete_from: Offset::default(),
            next: None,
            last_video: None,
        }
    }

    /// How much the window keeps.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Keeps more or less from now on: what is too much goes at once.
    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
        self.arrivals.settle(self.keep());
        self.retain();
    }

    /// Keeps frames from `offset` on however old they are, until they are too many or too much. `None`: only for as long as
    /// retention says.
    pub fn hold_from(&mut self, offset: Option<Offset>) {
        self.held_from = offset;
        self.retain();
    }

    /// It is now this late. A window that is told so before it gets frames keeps them for as long as it keeps media time: what
    /// a publisher sends all at once stays until readers had time for it.
    pub fn tick(&mut self, now: Instant) {
        let next = self.absolute(self.frames.len());
        self.arrivals.tick(now, next, self.keep());
    }

    /// How long a frame stays after it came.
    fn keep(&self) -> Duration {
        Duration::from_millis(self.retention.min_duration_ms)
    }

    /// Appends a frame, and lets go of frames that retention does not ask for.
    pub fn push(&mut self, frame: F) -> Pushed {
        let offset = frame.offset();
        let pushed = match self.next {
            Some(next) if offset < next => return Pushed::Duplicate,
            Some(next) if offset == next => Pushed::Appended,
            Some(next) if offset.epoch > next.epoch && offset.sequence == 0 => Pushed::EpochStarted,
            Some(next) if !self.frames.is_empty() => {
                self.evict(self.frames.len());
                Pushed::Restarted { expected: next }
            }
            // Restarted already, by `restart`.
            Some(_) | None => Pushed::Appended,
        };
        if self.frames.is_empty() {
            self.complete_from = offset;
        }
        self.append(offset, frame);
        self.retain();
        pushed
    }

    /// Says what is in force before the first frame, as after a failover: replaces the preface. Frames that are not older
    /// than the window's first frame, or have no slot, are skipped. All are taken to be of the epoch of the last one.
    pub fn install_preface(&mut self, frames: impl IntoIterator<Item = F>) {
        let first = self.first_offset();
        self.preface = Preface::new();
        for frame in frames {
            if has_slot(frame.flags()) && first.is_none_or(|first| frame.offset() < first) {
                self.preface.apply(&frame.slot(), &frame);
            }
        }
    }

    /// Drops all frames and says what is in force before the next one: a reader of a log does this where it is told of a gap.
    /// The next frame is taken wherever it stands, unless it is older than the last one pushed.
    pub fn restart(&mut self, preface: impl IntoIterator<Item = F>) {
        self.evict(self.frames.len());
        self.install_preface(preface);
    }

    /// The offset after the newest frame ever pushed; `None` before the first. A frame of a later epoch may come instead.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        self.next
    }

    /// The offset of the oldest frame held.
    #[must_use]
    pub fn first_offset(&self) -> Option<Offset> {
        self.frames.front().map(WindowItem::offset)
    }

    /// The newest frame.
    #[must_use]
    pub fn last(&self) -> Option<&F> {
        self.frames.back()
    }

    /// Frames held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether no frame is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes held, the preface included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.preface.bytes()
    }

    /// All frames held, oldest first; epochs may change on the way.
    pub fn iter(&self) -> vec_deque::Iter<'_, F> {
        self.frames.iter()
    }

    /// The frame at exactly this offset.
    #[must_use]
    pub fn get(&self, offset: Offset) -> Option<&F> {
        self.frames
            .get(self.position(offset)?)
            .filter(|frame| frame.offset() == offset)
    }

    /// What stands at `offset`: at most `max_frames` frames and `max_bytes` bytes, but at least one frame where there is one.
    #[must_use]
    pub fn read_from(&self, offset: Offset, max_frames: usize, max_bytes: usize) -> Read<'_, F> {
        let Some(first) = self.frames.front() else {
            return Read::NotYet;
        };
        if offset < self.complete_from {
            let to = self.keys.front().and_then(|&index| self.at(index));
            return Read::Gap {
                to: to.unwrap_or(first).offset(),
            };
        }
        let Some(start) = self.position(offset) else {
            return Read::NotYet;
        };
        let run_end = self.run_end(start);
        let longest = run_end.min(start.saturating_add(max_frames.max(1)));
        let mut bytes = 0_usize;
        let mut end = start;
        for frame in self.frames.range(start..longest) {
            bytes = bytes.saturating_add(frame.size());
            if bytes > max_bytes && end > start {
                break;
            }
            end += 1;
        }
        Read::Frames(self.frames.range(start..end))
    }

    /// Where a late joiner starts: the newest key frame. The newest frame of any kind where no key frame of the current epoch
    /// is held, or no video was seen for [`VIDEO_SILENCE_MS`].
    #[must_use]
    pub fn live_start(&self) -> Option<Offset> {
        let newest = self.frames.back()?;
        let silent = self
            .last_video
            .is_none_or(|video| newest.timestamp().saturating_sub(video) > VIDEO_SILENCE_MS);
        let key = self.keys.back().and_then(|&index| self.at(index));
        let start = key
            .filter(|key| !silent && key.offset().epoch == newest.offset().epoch)
            .unwrap_or(newest);
        Some(start.offset())
    }

    /// The newest key frame at or before `offset`, in any epoch held.
    #[must_use]
    pub fn key_at_or_before(&self, offset: Offset) -> Option<Offset> {
        let keys = self.keys_before(|key| key <= offset);
        let &index = self.keys.get(keys.checked_sub(1)?)?;
        self.at(index).map(WindowItem::offset)
    }

    /// The oldest key frame at or after `offset`, in any epoch held: where a reader that has skipped frames goes on.
    #[must_use]
    pub fn key_at_or_after(&self, offset: Offset) -> Option<Offset> {
        let &index = self.keys.get(self.keys_before(|key| key < offset))?;
        self.at(index).map(WindowItem::offset)
    }

    /// Codec headers and metadata in force at the frame at `offset` (that frame excluded), one per slot: metadata, then
    /// video, then audio, each in the order in which the slots were first seen. All are of that frame's epoch.
    ///
    /// Where `offset` is the end of an epoch and the next one has begun, this is about the next one's first frame.
    /// Costs O(slots + header frames in the window).
    #[must_use]
    pub fn preface_at(&self, offset: Offset) -> Vec<F> {
        let position = self.position(offset);
        let (end, epoch) = match position.and_then(|at| Some((at, self.frames.get(at)?))) {
            Some((at, frame)) => (self.absolute(at), frame.offset().epoch),
            None => (u64::MAX, offset.epoch),
        };
        let mut preface = self.preface.clone();
        for (index, slot) in &self.headers {
            if *index >= end {
                break;
            }
            if let Some(frame) = self.at(*index) {
                preface.apply(slot, frame);
            }
        }
        preface.frames(epoch)
    }

    fn append(&mut self, offset: Offset, frame: F) {
        let index = self.absolute(self.frames.len());
        if self.runs.back().is_none_or(|run| run.epoch != offset.epoch) {
            self.runs.push_back(Run {
                epoch: offset.epoch,
                first_sequence: offset.sequence,
                first_index: index,
            });
        }
        if frame.kind() == FrameKind::Video {
            self.last_video = Some(frame.timestamp());
            if frame.flags().contains(FrameFlags::KEY) {
                self.keys.push_back(index);
            }
        }
        if has_slot(frame.flags()) {
            self.headers.push_back((index, frame.slot()));
        }
        self.bytes += frame.size();
        self.next = Some(offset.next());
        self.frames.push_back(frame);
    }

    /// Lets go of what retention does not ask for, never of the newest frame.
    fn retain(&mut self) {
        let Some(newest) = self.frames.back().map(WindowItem::timestamp) else {
            return;
        };
        let keep = self.retention.min_duration_ms;
        let old = |frame: &F| newest.saturating_sub(frame.timestamp()) >= keep;
        while let Some(cut) = self.next_cut() {
            if !self.frames.get(cut).is_some_and(old) || !self.may_go(cut) {
                break;
            }
            self.evict(cut);
        }
        while self.keys.is_empty() && self.frames.get(1).is_some_and(old) && self.may_go(1) {
            self.evict(1);
        }
        while self.frames.len() > 1
            && (self.bytes > self.retention.max_bytes
                || self.frames.len() > self.retention.max_frames)
        {
            self.evict(1);
        }
        self.give_back();
    }

    /// Whether the `count` oldest frames were there long enough, and are not held.
    fn may_go(&self, count: usize) -> bool {
        let newest = count.checked_sub(1).and_then(|it| self.frames.get(it));
        let held = |frame: &F| self.held_from.is_some_and(|from| frame.offset() >= from);
        !newest.is_some_and(held) && self.arrivals.allow(self.absolute(count), self.keep())
    }

    /// Position of the next frame after the first one where the log may be cut: a key frame, or the start of an epoch.
    fn next_cut(&self) -> Option<usize> {
        let key = self
            .keys
            .iter()
            .take(2)
            .find(|&&index| index > self.first_index);
        let epoch = self.runs.get(1).map(|run| &run.first_index);
        let cut = key.into_iter().chain(epoch).min()?;
        usize::try_from(cut - self.first_index).ok()
    }

    /// Drops the `count` oldest frames; what they leave in force goes to the preface.
    fn evict(&mut self, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.frames.pop_front() else {
                break;
            };
            let index = self.first_index;
            self.first_index += 1;
            self.bytes -= frame.size();
            self.keys.pop_front_if(|key| *key == index);
            if let Some((_, slot)) = self.headers.pop_front_if(|(header, _)| *header == index) {
                self.preface.apply(&slot, &frame);
            }
            self.complete_from = frame.offset().next();
        }
        while self
            .runs
            .get(1)
            .is_some_and(|run| run.first_index <= self.first_index)
        {
            self.runs.pop_front();
        }
        if self.frames.is_empty() {
            self.runs.clear();
        }
    }

    /// Gives memory back after a peak. Halving keeps pushing O(1) amortised.
    fn give_back(&mut self) {
        shrink(&mut self.frames);
        shrink(&mut self.keys);
        shrink(&mut self.headers);
        shrink(&mut self.runs);
    }

    /// Position of the first frame at or after `offset`; `None` past the newest. Right for offsets from `complete_from` on.
    fn position(&self, offset: Offset) -> Option<usize> {
        let run_number = self.runs.partition_point(|run| run.epoch < offset.epoch);
        let run = self.runs.get(run_number)?;
        let index = if run.epoch == offset.epoch {
            let end = match self.runs.get(run_number + 1) {
                Some(next) => next.first_index,
                None => self.absolute(self.frames.len()),
            };
            run.first_index
                .saturating_add(offset.sequence.saturating_sub(run.first_sequence))
                .min(end)
        } else {
            run.first_index
        };
        let position = usize::try_from(index.saturating_sub(self.first_index)).ok()?;
        (position < self.frames.len()).then_some(position)
    }

    /// Position after the last frame of the run that holds `position`.
    fn run_end(&self, position: usize) -> usize {
        let index = self.absolute(position);
        let later = self.runs.partition_point(|run| run.first_index <= index);
        self.runs
            .get(later)
            .and_then(|run| usize::try_from(run.first_index - self.first_index).ok())
            .unwrap_or(self.frames.len())
    }

    fn absolute(&self, position: usize) -> u64 {
        self.first_index + position as u64
    }

    fn at(&self, index: u64) -> Option<&F> {
        let position = usize::try_from(index.checked_sub(self.first_index)?).ok()?;
        self.frames.get(position)
    }

    /// How many key frames, from the oldest on, have an offset that `before` holds for.
    fn keys_before(&self, before: impl Fn(Offset) -> bool) -> usize {
        self.keys
            .partition_point(|&index| self.at(index).is_some_and(|frame| before(frame.offset())))
    }
}

fn has_slot(flags: FrameFlags) -> bool {
    flags.intersects(FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA)
}

fn shrink<T>(queue: &mut VecDeque<T>) {
    const SMALL: usize = 64;
    if queue.capacity() > SMALL && queue.capacity() / 4 > queue.len() {
        queue.shrink_to(queue.capacity() / 2);
    }
}

#[cfg(test)]
mod tests;
