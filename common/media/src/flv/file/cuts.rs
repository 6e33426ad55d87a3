//! Where the pieces of a file begin.
//!
//! A piece begins at a *place*, a frame from which a decoder can start, whose two seconds (of the grid) are not those of the place
//! before it; and wherever a piece would grow too large. So two places in a row are enough to know a cut for certain, and a
//! walk may start in the middle of a file.

use super::tags::{TagHead, TagScanner};
use crate::file::{FileError, Grid, ReadAt};
use crate::frame::{FrameFlags, FrameKind};

/// Most frames of a piece: far above two seconds of any real stream, and a bound on what empty tags can cost.
pub const MAX_PIECE_FRAMES: usize = 4_096;

/// What counts as a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// Video key frames.
    Keys,
    /// Audio, where there is no video.
    Audio,
    /// Anything, where there is neither.
    Any,
}

impl Places {
    pub(super) fn is_place(self, head: &TagHead) -> bool {
        match self {
            Self::Keys => head.kind == FrameKind::Video && head.flags.contains(FrameFlags::KEY),
            Self::Audio => head.kind == FrameKind::Audio && head.coded,
            Self::Any => true,
        }
    }

    /// Whether a later place can only have a later time than this frame.
    pub(super) fn tells_time(self, head: &TagHead) -> bool {
        match self {
            Self::Keys => head.kind == FrameKind::Video && head.coded,
            Self::Audio | Self::Any => self.is_place(head),
        }
    }
}

/// From 32-bit timestamps to the timeline of a file, which begins at `zero`.
///
/// The distance is taken the shorter way round the circle of 2^32 ms, so that files may wrap and step back; what is before the zero
/// is at the zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) zero: u32,
}

impl Clock {
    pub(super) fn time(self, timestamp: u32) -> u64 {
        u64::try_from(timestamp.wrapping_sub(self.zero).cast_signed()).unwrap_or(0)
    }
}

/// Where a walk may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// Of a tag.
    pub(super) position: u64,
    /// Whether a piece begins there, and what is known of what stands before it.
    pub(super) known: Option<Known>,
}

/// What is known where a piece begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Which multiple of the grid the last place before it lies in.
    pub(super) bucket: u64,
    /// Time of that place.
    pub(super) place_ms: u64,
    /// Where the piece begins that holds it.
    pub(super) holder: u64,
    /// Time of the frame before the piece.
    pub(super) before_ms: u64,
}

impl Start {
    /// Of the file.
    pub(super) fn of_file(position: u64) -> Self {
        Self {
            position,
            known: Some(Known {
                bucket: 0,
                place_ms: 0,
                holder: position,
                before_ms: 0,
            }),
        }
    }
}

/// One tag of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) head: TagHead,
    /// On the file's timeline, in milliseconds.
    pub(super) time: u64,
    /// A piece begins here: how to walk from here again.
    pub(super) begins: Option<Start>,
    /// A decoder can start here.
    pub(super) is_place: bool,
}

/// What a walk knows, without the file.
#[derive(Clone, Debug)]
pub(super) struct Cutter {
    grid: Grid,
    places: Places,
    clock: Clock,
    /// Of the next tag.
    position: u64,
    /// The last place, `holder` being the piece that it is in. `None` before the first one of a walk from the middle.
    last: Option<Known>,
    /// Time of the tag before the next one.
    before_ms: u64,
    /// Where the current piece begins; `None` until that is certain.
    piece: Option<u64>,
    forced: bool,
    bytes: usize,
    frames: usize,
}

impl Cutter {
    pub(super) fn new(grid: Grid, places: Places, clock: Clock, start: Start) -> Self {
        Self {
            grid,
            places,
            clock,
            position: start.position,
            last: start.known,
            before_ms: start.known.map_or(0, |known| known.before_ms),
            piece: None,
            forced: start.known.is_some(),
            bytes: 0,
            frames: 0,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Where pieces begin is known.
    pub(super) fn is_certain(&self) -> bool {
        self.piece.is_some()
    }

    pub(super) fn tells_time(&self, head: &TagHead) -> bool {
        self.places.tells_time(head)
    }

    /// Takes the tag at [`position`](Self::position).
    pub(super) fn push(&mut self, head: TagHead) -> Step {
        // Codec headers and metadata often carry no time, in the middle of a file as well.
        let time = if head.has_slot() && head.timestamp == 0 {
            self.before_ms
        } else {
            self.clock.time(head.timestamp)
        };
        let is_place = self.places.is_place(&head);
        let bucket = time / self.grid.every_ms.max(1);
        let before = self.last.map(|last| Known {
            before_ms: self.before_ms,
            ..last
        });
        let on_grid = is_place && before.is_some_and(|last| last.bucket != bucket);
        let is_full = self.frames > 0
            && (self.bytes.saturating_add(head.length) > self.grid.max_bytes
                || self.frames >= MAX_PIECE_FRAMES);
        let begins = self.forced || on_grid || (self.piece.is_some() && is_full);
        if begins {
            self.piece = Some(head.position);
            self.forced = false;
            self.bytes = 0;
            self.frames = 0;
        }
        if is_place {
            self.last = Some(Known {
                bucket,
                place_ms: time,
                holder: self.piece.unwrap_or(head.position),
                before_ms: self.before_ms,
            });
        }
        self.before_ms = time;
        self.bytes = self.bytes.saturating_add(head.length);
        self.frames += 1;
        self.position = head.next;
        Step {
            head,
            time,
            begins: begins.then_some(Start {
                position: head.position,
                known: before,
            }),
            is_place,
        }
    }
}

/// Goes through a file from some place on.
pub(super) struct Walk<'a> {
    pub(super) scanner: TagScanner<'a>,
    pub(super) cutter: Cutter,
}

impl<'a> Walk<'a> {
    pub(super) fn new(source: &'a dyn ReadAt, cutter: Cutter) -> Self {
        Self {
            scanner: TagScanner::new(source),
            cutter,
        }
    }

    /// The next tag; `None` at the end.
    ///
    /// # Errors
    /// [`FileError`], the same one again if called again.
    pub(super) fn step(&mut self) -> Result<Option<Step>, FileError> {
        let head = self.scanner.head(self.cutter.position())?;
        Ok(head.map(|head| self.cutter.push(head)))
    }
}
