//! The unit of a stream log: one RTMP audio, video or data message, with its place in the log.
//!
//! A payload is what an RTMP message of that kind carries (the body of an FLV tag; Enhanced RTMP included). It is opaque:
//! what we cannot parse is relayed all the same, with [`FrameFlags`] that say only what was understood.

use std::fmt;

use bitflags::bitflags;
use bytes::Bytes;

/// One run of one publisher on a stream. A later publisher always has a greater epoch.
///
/// Given by the stream's owner when a publisher opens; milliseconds of wall-clock time are its floor, so that an owner
/// without memory still gives a greater one than the owner before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The place of a frame in a stream log: the same frame on every node, before and after a failover.
///
/// Ordered by epoch, then by sequence. The publishing edge counts the sequence from 0 in each epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// The publisher's run.
    pub epoch: Epoch,
    /// Number of the frame within the epoch, from 0, without holes.
    pub sequence: u64,
}

impl Offset {
    /// The offset of the frame after this one in the same epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            epoch: self.epoch,
            sequence: self.sequence.saturating_add(1),
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch.0, self.sequence)
    }
}

/// What a frame carries; the RTMP message types 8, 9 and 18 (15 is turned into 18 where it enters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// RTMP message type 8.
    Audio,
    /// RTMP message type 9.
    Video,
    /// RTMP message type 18: an AMF0 data message, `onMetaData` and friends.
    Data,
}

bitflags! {
    /// What the publishing edge understood of a payload. Travels between nodes: bits are never given a new meaning.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct FrameFlags: u32 {
        /// A decoder can start here: a video key frame.
        const KEY = 1;
        /// A codec configuration (AVC/HEVC/AV1 sequence header, AAC AudioSpecificConfig, Enhanced RTMP sequence start):
        /// sent to late joiners before the first frame, and never dropped.
        const HEADER = 1 << 1;
        /// No other frame refers to this one: the first to go when a viewer is slow.
        const DISPOSABLE = 1 << 2;
        /// Sticky metadata (`@setDataFrame`): sent to late joiners, replaced by the next of the same name.
        const METADATA = 1 << 3;
        /// Removes sticky metadata (`@clearDataFrame`).
        const CLEAR_METADATA = 1 << 4;
    }
}

/// One frame of a stream log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it stands in the log.
    pub offset: Offset,
    /// Media time in milliseconds on the stream's timeline, unwrapped: the low 32 bits are the RTMP timestamp.
    pub timestamp: u64,
    /// Audio, video or data.
    pub kind: FrameKind,
    /// What is known of the payload.
    pub flags: FrameFlags,
    /// The RTMP message body.
    pub payload: Bytes,
}

impl Frame {
    /// Whether a late joiner needs this frame before its first picture.
    #[must_use]
    pub fn is_preface(&self) -> bool {
        self.flags
            .intersects(FrameFlags::HEADER | FrameFlags::METADATA)
    }
}
