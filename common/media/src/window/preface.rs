//! Codec headers and metadata in force: what a late joiner needs before its first frame.
//!
//! Each header or metadata frame has a [`Slot`]; the newest frame of a slot is the one in force, until the epoch ends.
//! The set is bounded in slots and in bytes, because a publisher chooses both the names and the sizes.

use bytes::Bytes;

use super::WindowItem;
use crate::frame::{Epoch, FrameFlags, FrameKind};
use crate::inspect;

/// Most slots in force at a time. Far above real streams (one metadata object, a few tracks of each kind).
pub const MAX_PREFACE_SLOTS: usize = 64;

/// Most payload bytes in force at a time. Codec headers are a few hundred bytes, `onMetaData` a few thousand.
pub const MAX_PREFACE_BYTES: usize = 1 << 20;

/// What a header or metadata frame is about: a later frame of the same slot replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// Sticky metadata of this name, `onMetaData` for instance (AMF0 string, without its length).
    Metadata(Bytes),
    /// A codec header of this video track.
    Video {
        /// Enhanced RTMP track id, 0 for the only track.
        track: u8,
        /// Which of the track's headers.
        part: HeaderPart,
    },
    /// A codec header of this audio track.
    Audio {
        /// Enhanced RTMP track id, 0 for the only track.
        track: u8,
        /// Which of the track's headers.
        part: HeaderPart,
    },
}

/// A track may have several headers in force at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HeaderPart {
    /// The decoder configuration.
    #[default]
    Configuration,
    /// What goes with it: colour information of video, channel layout of audio.
    Supplement,
}

impl Slot {
    /// The slot of a frame that has one of the flags `HEADER`, `METADATA`, `CLEAR_METADATA`.
    ///
    /// Metadata is looked up by its name whether or not `@setDataFrame` / `@clearDataFrame` still stands before it.
    #[must_use]
    pub fn of(kind: FrameKind, payload: &Bytes) -> Self {
        match kind {
            FrameKind::Data => Self::Metadata(inspect::metadata_name(payload).unwrap_or_default()),
            FrameKind::Video => {
                let (track, part) = inspect::header_slot(kind, payload);
                Self::Video { track, part }
            }
            FrameKind::Audio => {
                let (track, part) = inspect::header_slot(kind, payload);
                Self::Audio { track, part }
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Metadata(_) => 0,
            Self::Video { .. } => 1,
            Self::Audio { .. } => 2,
        }
    }
}

/// The frames in force at one place of the log, all of one epoch. A [`Window`](super::Window) keeps its own; a reader that
/// holds frames in another way can keep one beside them.
#[derive(Clone, Debug)]
pub struct Preface<F> {
    epoch: Epoch,
    /// In the order in which the slots were first filled.
    entries: Vec<(Slot, F)>,
    bytes: usize,
}

impl<F: WindowItem> Default for Preface<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: WindowItem> Preface<F> {
    /// Nothing is in force.
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: Epoch::default(),
            entries: Vec::new(),
            bytes: 0,
        }
    }

    /// Payload bytes in force.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Goes past one frame of the log. Only for frames that have a slot: those with the flag `HEADER`, `METADATA` or
    /// `CLEAR_METADATA`. A frame of another epoch than the one before takes everything else out of force.
    pub fn apply(&mut self, slot: &Slot, frame: &F) {
        let epoch = frame.offset().epoch;
        if epoch != self.epoch {
            *self = Self {
                epoch,
                ..Self::new()
            };
        }
        if frame.flags().contains(FrameFlags::CLEAR_METADATA) {
            self.remove(slot);
        } else {
            self.put(slot, frame);
        }
    }

    /// The frames in force for a frame of `epoch`: metadata, then video, then audio headers.
    #[must_use]
    pub fn frames(self, epoch: Epoch) -> Vec<F> {
        if epoch != self.epoch {
            return Vec::new();
        }
        let mut entries = self.entries;
        entries.sort_by_key(|(slot, _)| slot.rank());
        entries.into_iter().map(|(_, frame)| frame).collect()
    }

    fn put(&mut self, slot: &Slot, frame: &F) {
        let position = self.entries.iter().position(|(held, _)| held == slot);
        let replaced = position
            .and_then(|at| self.entries.get(at))
            .map_or(0, |(_, frame)| frame.size());
        let is_codec_header = slot.rank() > 0;
        if frame.size() > MAX_PREFACE_BYTES {
            // What it would replace is not in force any more either.
            self.remove(slot);
            return;
        }
        if let Some(entry) = position.and_then(|at| self.entries.get_mut(at)) {
            // The slot as well: its name must not keep the old payload in memory.
            *entry = (slot.clone(), frame.clone());
            self.bytes = self.bytes - replaced + frame.size();
        } else {
            if self.entries.len() >= MAX_PREFACE_SLOTS
                && !(is_codec_header && self.drop_newest_metadata())
            {
                return;
            }
            self.entries.push((slot.clone(), frame.clone()));
            self.bytes += frame.size();
        }
        while self.bytes > MAX_PREFACE_BYTES {
            if !(is_codec_header && self.drop_newest_metadata()) {
                self.remove(slot);
            }
        }
    }

    fn remove(&mut self, slot: &Slot) {
        if let Some(at) = self.entries.iter().position(|(held, _)| held == slot) {
            self.bytes -= self.entries.remove(at).1.size();
        }
    }

    /// Makes room: a picture without metadata is better than metadata without a picture.
    fn drop_newest_metadata(&mut self) -> bool {
        let newest = self.entries.iter().rposition(|(slot, _)| slot.rank() == 0);
        if let Some(at) = newest {
            self.bytes -= self.entries.remove(at).1.size();
        }
        newest.is_some()
    }
}
