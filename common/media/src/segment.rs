//! The stored form of a recording that is not one file yet: segments, the index over them, and the journal before them.
//!
//! A recording is a row of immutable objects, its *segments*, numbered from 0. Each holds frames of the log in their order. Where a
//! piece of the [`Grid`](crate::file::Grid) begins there is a [`Point`]: the codec headers and metadata in force stand there, before
//! the frames, so that a piece is one run of bytes (or a few runs, where segments were cut inside of it).
//!
//! # A segment, version 1
//! All numbers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `HWSEGMNT` |
//! | 2, 4 | version; length of the header fields |
//! | | header fields: [`SegmentHeader`] |
//! | 4 | CRC-32 of everything before it |
//! | | records: length (4), CRC-32 of the body (4), body. The first byte of a body says what it is: a frame in force, a frame |
//! | | footer fields: [`SegmentInfo`], then the points |
//! | 4, 4, 4, 4 | length of the footer fields, their CRC-32, CRC-32 of everything before them, version |
//! | 8 | `HWSEGEND` |
//!
//! A later version may put fields behind the last one of the header, the footer, a point and the head of a frame, and records of other
//! types between the records; a reader skips what it does not know. What it must not skip gets another version number, which is an error.
//!
//! # Invariants
//! - Offsets grow from frame to frame and from segment to segment. Numbers have no hole. Terms never fall from one segment to the next.
//! - Nothing here panics or takes memory out of proportion whatever the bytes are.
//!
//! # What it does not do
//! It stores nothing, and decides nothing about owners: see the origin's archive.

mod cut;
mod index;
mod journal;
mod object;
mod record;
mod summary;
mod wire;

pub use cut::{CutState, Cutter, Step};
pub use index::{Index, Part};
pub use journal::{
    JOURNAL_HEAD, JournalEntry, JournalReader, journal_closed, journal_frame, journal_head,
    journal_opened,
};
pub use object::{
    SegmentBuilder, SegmentHeader, Trailer, read_header, read_segment, read_summary, read_trailer,
};
pub use record::{Decoded, MAX_PAYLOAD, read_frames};
pub use summary::{Point, SegmentFlags, SegmentInfo};

/// What is wrong with stored bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("byte {offset}: {what}")]
pub struct SegmentError {
    /// From the beginning of the object.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

impl SegmentError {
    pub(crate) fn new(offset: u64, what: &'static str) -> Self {
        Self { offset, what }
    }
}

#[cfg(test)]
mod tests;
