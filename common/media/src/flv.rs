//! FLV files and streams: bytes in, tags out, and back.
//!
//! # Specification
//! Adobe Flash Video File Format 10.1, annex E: E.2 (header), E.3 (body), E.4.1 (tags). A tag's body is the body of the RTMP
//! message of the same type.
//!
//! # Invariants
//! - [`FlvReader`] buffers no more than one tag and what it was fed last; a tag is at most as large as its caller allows.
//! - After an error the reader stays at it: FLV has nothing to find the next tag by.
//!
//! # What it does not do
//! It reads no encrypted tags: streams have them with [`Tag::filtered`] set, files end there.

pub mod compose;
mod file;
mod headers;
mod metadata;
mod reader;
mod writer;

pub use file::{FlvFile, MAX_INDEX_ENTRIES, MAX_PIECE_FRAMES};
pub use headers::MAX_HEADER_CHANGES;
pub use reader::{FlvError, FlvReader};
pub use writer::{FLV_HEADER_SIZE, TAG_HEADER_SIZE, write_header, write_tag};

use bytes::Bytes;

use crate::frame::FrameKind;

/// Largest body of a tag, in bytes: its length has 24 bits.
pub const MAX_TAG_BODY: usize = (1 << 24) - 1;

/// What the file header says of the file. Live streams often say more or less than is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlvHeader {
    /// There are audio tags.
    pub has_audio: bool,
    /// There are video tags.
    pub has_video: bool,
}

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Milliseconds, 32 bits, wrapping.
    pub timestamp: u32,
    /// Audio (tag type 8), video (9) or data (18).
    pub kind: FrameKind,
    /// The body is encrypted or otherwise filtered, and no message body.
    pub filtered: bool,
    /// The body.
    pub body: Bytes,
}

/// What a reader found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlvEvent {
    /// The file header, once, before any tag.
    Header(FlvHeader),
    /// The next tag.
    Tag(Tag),
}

fn tag_type(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Audio => 8,
        FrameKind::Video => 9,
        FrameKind::Data => 18,
    }
}

fn kind_of(tag_type: u8) -> Option<FrameKind> {
    match tag_type {
        8 => Some(FrameKind::Audio),
        9 => Some(FrameKind::Video),
        18 => Some(FrameKind::Data),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
