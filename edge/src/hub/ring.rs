//! The entries of a hub: frames in wire form and, between them, what happened to the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::window::{Preface as InForce, WindowItem as _};

use super::{Preface, WireFrame};

/// What a ring may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingLimits {
    /// How far a viewer may be behind, in milliseconds: media time that is kept beyond the newest key frame, and time for which
    /// everything is kept that has come. A publisher that sends a minute at once is no reason to take from viewers what they
    /// had no time to get.
    pub(crate) duration_ms: u64,
    /// Most bytes of wire forms.
    pub(crate) bytes: usize,
    /// Most entries.
    pub(crate) entries: usize,
}

/// One step of a stream, in the order in which every viewer sees it.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Frame(StreamEntry),
    /// A publisher began: `NetStream.Play.PublishNotify`.
    Published,
    /// The publisher left: `NetStream.Play.UnpublishNotify`.
    Unpublished,
}

/// A frame, and what a decoder that starts here needs first.
#[derive(Clone, Debug)]
pub(crate) struct StreamEntry {
    pub(crate) frame: Arc<WireFrame>,
    pub(crate) preface: Preface,
}

/// The result of [`Ring::pull`].
#[derive(Debug)]
pub(crate) struct Pulled {
    /// Number of the oldest entry that the ring still holds.
    pub(crate) base: u64,
    /// Number of the first entry in `entries`.
    pub(crate) first: u64,
    pub(crate) entries: Vec<Entry>,
}

struct Slot {
    /// Media time of the entry; a status has that of the frame before it.
    time: u64,
    arrived: Instant,
    entry: Entry,
}

/// The bounded tail of a stream's log in wire form.
pub(crate) struct Ring {
    limits: RingLimits,
    /// The time now, as far as the ring was told.
    now: Instant,
    entries: VecDeque<Slot>,
    base: u64,
    bytes: usize,
    /// Media time of the newest frame, in milliseconds.
    newest_time: u64,
    /// Numbers of the key frames held, oldest first.
    keys: VecDeque<u64>,
    has_video: bool,
    in_force: InForce<Arc<WireFrame>>,
    preface: Preface,
    /// The next offset to ask the origin for. None before the first frame.
    next_offset: Option<Offset>,
    /// The publisher's run that the newest entries are of.
    epoch: Option<Epoch>,
    publishing: bool,
    /// Whether the origin ever answered.
    opened: bool,
}

impl Ring {
    pub(crate) fn new(limits: RingLimits) -> Self {
        Self {
            limits,
            now: Instant::now(),
            entries: VecDeque::new(),
            base: 0,
            bytes: 0,
            newest_time: 0,
            keys: VecDeque::new(),
            has_video: false,
            in_force: InForce::new(),
            preface: Preface::default(),
            next_offset: None,
            epoch: None,
            publishing: false,
            opened: false,
        }
    }

    /// Tells the ring what time it is. What comes next comes now.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.now = now;
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn next_offset(&self) -> Option<Offset> {
        self.next_offset
    }

    pub(crate) fn publishing(&self) -> bool {
        self.publishing
    }

    /// Whether the publisher has sent video.
    pub(crate) fn has_video(&self) -> bool {
        self.has_video
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opened
    }

    /// Where a viewer that joins now starts: the newest key frame; without video the newest frame; else the tail.
    pub(crate) fn live_start(&self) -> u64 {
        if !self.publishing {
            return self.next_number();
        }
        if let Some(&key) = self.keys.back() {
            return key;
        }
        if self.has_video {
            return self.next_number();
        }
        let newest = self
            .entries
            .iter()
            .rposition(|slot| matches!(slot.entry, Entry::Frame(_)));
        newest.map_or_else(|| self.next_number(), |index| self.base + index as u64)
    }

    /// Number of the entry with which a reader goes on that has every frame before this offset. `None` if the ring does not hold
    /// that frame any more, has not come so far, or never had it: frames may have been lost to this edge.
    pub(crate) fn place_of(&self, offset: Offset) -> Option<u64> {
        if self.next_offset.is_none_or(|next| next < offset) {
            return None;
        }
        let number = |index: usize| self.base + index as u64;
        let frame = |slot: &Slot| match &slot.entry {
            Entry::Frame(entry) => Some(entry.frame.offset),
            Entry::Published | Entry::Unpublished => None,
        };
        // From the back: who asks is near the tail.
        let before = |slot: &Slot| frame(slot).filter(|it| *it < offset);
        let last = self.entries.iter().enumerate().rev();
        let mut last = last.filter_map(|(index, slot)| Some((index, before(slot)?)));
        if let Some((index, last)) = last.next() {
            let next = self.entries.range(index + 1..).find_map(frame);
            let next = next.or(self.next_offset)?;
            // The run of a publisher ends anywhere; the next one is whole if it is there from its beginning.
            let is_next_run =
                next.epoch > offset.epoch && next.sequence == 0 && last.next() == offset;
            return (next == offset || is_next_run).then(|| number(index + 1));
        }
        match self.entries.iter().find_map(frame) {
            Some(oldest) if oldest > offset => None,
            Some(_) => {
                let first = |slot: &Slot| frame(slot).is_some();
                self.entries.iter().position(first).map(number)
            }
            None => (self.next_offset == Some(offset)).then(|| self.next_number()),
        }
    }

    /// The origin answered a read: whether somebody publishes, in which epoch, and the codec headers and metadata from
    /// before the first frame that will follow (none where the read goes on without a gap).
    pub(crate) fn open(
        &mut self,
        publishing: bool,
        epoch: Epoch,
        preface: &[Frame],
        chunk_size: u32,
    ) {
        let first = !self.opened;
        self.opened = true;
        if publishing && first {
            // Viewers asked for a stream that is there: nothing happened that they need to be told. Where it starts for
            // them, the first frame says.
            self.publishing = true;
            self.epoch = Some(epoch);
        } else if publishing {
            self.set_published(epoch);
        }
        // Nobody publishing says nothing: after a failover the publisher may be about to come back, and the origin tells
        // when it gave up waiting.
        if !preface.is_empty() {
            self.install_preface(preface, chunk_size);
        }
    }

    /// Frames up to `to` are lost to this edge; `to` is a key frame and needs these headers.
    pub(crate) fn skip_to(&mut self, to: Offset, preface: &[Frame], chunk_size: u32) {
        self.set_published(to.epoch);
        if self.next_offset.is_none_or(|next| next < to) {
            self.next_offset = Some(to);
        }
        self.install_preface(preface, chunk_size);
    }

    fn install_preface(&mut self, frames: &[Frame], chunk_size: u32) {
        self.in_force = InForce::new();
        self.preface = Preface::default();
        for frame in frames {
            self.learn(&Arc::new(WireFrame::new(frame, chunk_size)));
        }
    }

    /// Appends a frame. A frame that is already here is dropped: a read may begin a little early after a break.
    ///
    /// Returns whether it was new.
    pub(crate) fn push(&mut self, frame: &Frame, chunk_size: u32) -> bool {
        if self.next_offset.is_some_and(|next| frame.offset < next) {
            return false;
        }
        if self.epoch.is_none_or(|epoch| epoch < frame.offset.epoch) {
            self.begin_epoch(frame.offset.epoch);
        }
        self.next_offset = Some(frame.offset.next());
        let wire = Arc::new(WireFrame::new(frame, chunk_size));
        // Taken before the frame itself is learnt: a viewer that starts here gets the frame anyway.
        let preface = Arc::clone(&self.preface);
        self.learn(&wire);
        if frame.kind == FrameKind::Video {
            self.has_video = true;
        }
        if wire.is_key() && !frame.flags.contains(FrameFlags::HEADER) {
            self.keys.push_back(self.next_number());
        }
        self.append(Entry::Frame(StreamEntry {
            frame: wire,
            preface,
        }));
        true
    }

    /// A publisher is there. Viewers are told if they were not.
    pub(crate) fn set_published(&mut self, epoch: Epoch) {
        if self.epoch.is_none_or(|known| known < epoch) {
            self.begin_epoch(epoch);
            // A viewer that waited sees the stream from its first frame on, also if the call breaks before that.
            self.next_offset
                .get_or_insert(Offset { epoch, sequence: 0 });
        } else if !self.publishing {
            self.publishing = true;
            self.append(Entry::Published);
        }
    }

    /// The place in the log is of no use any more: the stream's present owner knows no such epoch. The next read starts live.
    pub(crate) fn forget_place(&mut self) {
        self.epoch = None;
        self.next_offset = None;
    }

    /// The publisher is gone.
    pub(crate) fn set_unpublished(&mut self) {
        if self.publishing {
            self.publishing = false;
            self.append(Entry::Unpublished);
        }
    }

    /// Copies what came since `from`.
    pub(crate) fn pull(&self, from: u64) -> Pulled {
        let first = from.clamp(self.base, self.next_number());
        let skip = usize::try_from(first - self.base).unwrap_or(usize::MAX);
        Pulled {
            base: self.base,
            first,
            entries: self
                .entries
                .iter()
                .skip(skip)
                .map(|slot| slot.entry.clone())
                .collect(),
        }
    }

    fn begin_epoch(&mut self, epoch: Epoch) {
        self.epoch = Some(epoch);
        // Another publisher brings codec headers of its own; a late joiner must not get the old ones.
        self.in_force = InForce::new();
        self.preface = Preface::default();
        self.keys.clear();
        self.has_video = false;
        if self.publishing {
            self.append(Entry::Unpublished);
        }
        self.publishing = true;
        self.append(Entry::Published);
    }

    fn learn(&mut self, wire: &Arc<WireFrame>) {
        if let Some(slot) = wire.own_slot() {
            self.in_force.apply(slot, wire);
            self.preface = Arc::new(self.in_force.clone().frames(wire.offset.epoch));
        }
    }

    fn append(&mut self, entry: Entry) {
        if let Entry::Frame(entry) = &entry {
            self.bytes += entry.frame.size();
            self.newest_time = entry.frame.timestamp;
        }
        self.entries.push_back(Slot {
            time: self.newest_time,
            arrived: self.now,
            entry,
        });
        self.evict();
    }

    /// Drops the oldest entries that nobody may ask for any more.
    fn evict(&mut self) {
        while let Some(oldest) = self.entries.front() {
            let over = self.bytes > self.limits.bytes || self.entries.len() > self.limits.entries;
            let key = self.keys.back().is_some_and(|&key| key <= self.base);
            let kept = Duration::from_millis(self.limits.duration_ms);
            let young = self.newest_time.saturating_sub(oldest.time) <= self.limits.duration_ms
                || self.now.saturating_duration_since(oldest.arrived) <= kept;
            if !over && (key || young) {
                break;
            }
            if let Some(Entry::Frame(entry)) = self.entries.pop_front().map(|slot| slot.entry) {
                self.bytes = self.bytes.saturating_sub(entry.frame.size());
            }
            if self.keys.front() == Some(&self.base) {
                self.keys.pop_front();
            }
            self.base += 1;
        }
        if self.entries.capacity() > 256 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests;
