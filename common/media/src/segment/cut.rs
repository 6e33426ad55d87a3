//! Where pieces begin: the grid, frame by frame.
//!
//! See [`Grid`]. Beyond what is said there: every frame counts some bytes more than its payload; the first frame of an epoch begins a piece (codec headers are in force for one epoch),
//! and what counts as a start in a stream without pictures is judged by the epoch's frames so far, never by later ones, so that a
//! recording that still grows is cut as the same one is when it is complete.

use super::summary::Point;
use crate::file::Grid;
use crate::frame::{Epoch, Frame, FrameFlags, FrameKind};

/// What a frame counts beyond its payload, in bytes, so that frames without any do not make an endless piece.
const FRAME_COST: usize = 64;

/// Longest time that the last frame of a track is taken to last, in milliseconds: what is longer is a pause.
const MAX_FRAME_MS: u64 = 1_000;

/// Latest media time that is told apart, in milliseconds: the one after it stands for none where segments are stored.
const LAST_MS: u64 = u64::MAX - 1;

/// What a cutter must know to go on at the beginning of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CutState {
    /// Number of the grid's last multiple that a piece was begun for.
    pub cell: u64,
    /// The epoch has had audio before this piece.
    pub audio: bool,
    /// The epoch has had video before this piece.
    pub video: bool,
}

/// What a frame means for the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Set where the frame begins a piece: what to go on with from here.
    pub begins: Option<CutState>,
    /// A decoder can start here.
    pub starts: bool,
    /// Media time, in milliseconds, never less than that of the frame before it.
    pub ms: u64,
    /// Where the recording ends if this is its last frame, in milliseconds. Never less than before.
    pub end_ms: u64,
}

/// Cuts the frames of one recording into pieces.
#[derive(Clone, Debug)]
pub struct Cutter {
    grid: Grid,
    /// Media time of the recording's first frame.
    origin_ms: Option<u64>,
    epoch: Option<Epoch>,
    state: CutState,
    /// Payload bytes of the piece so far, and [`FRAME_COST`] for each frame.
    bytes: usize,
    high_ms: u64,
    end_ms: u64,
    /// Last timestamp and last distance of audio, video and data.
    tracks: [Track; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Track {
    last: Option<u64>,
    distance: u64,
}

impl Cutter {
    /// At the beginning of a recording.
    #[must_use]
    pub fn new(grid: Grid) -> Self {
        Self {
            grid: Grid {
                every_ms: grid.every_ms.max(1),
                ..grid
            },
            origin_ms: None,
            epoch: None,
            state: CutState::default(),
            bytes: 0,
            high_ms: 0,
            end_ms: 0,
            tracks: Default::default(),
        }
    }

    /// At the beginning of a piece: the next frame to [`step`](Self::step) over is its first one. `origin_ms` is the media time of the
    /// recording's first frame, `end_ms` where the recording ends so far.
    #[must_use]
    pub fn resume(grid: Grid, origin_ms: u64, point: &Point, end_ms: u64) -> Self {
        Self {
            origin_ms: Some(origin_ms),
            epoch: Some(point.offset.epoch),
            state: point.state,
            high_ms: point.ms,
            end_ms,
            ..Self::new(grid)
        }
    }

    /// Goes past the next frame.
    pub fn step(&mut self, frame: &Frame) -> Step {
        let origin = *self.origin_ms.get_or_insert(frame.timestamp);
        let new_epoch = self.epoch != Some(frame.offset.epoch);
        if new_epoch {
            self.epoch = Some(frame.offset.epoch);
            self.state.audio = false;
            self.state.video = false;
            self.tracks = Default::default();
        }
        let starts = self.starts(frame);
        // What lies before the beginning counts as the beginning.
        let cell = frame.timestamp.saturating_sub(origin) / self.grid.every_ms;
        let cost = frame.payload.len().saturating_add(FRAME_COST);
        let full = self.bytes > 0 && self.bytes.saturating_add(cost) > self.grid.max_bytes;
        let due = starts && cell > self.state.cell;
        if due || new_epoch {
            self.state.cell = self.state.cell.max(cell);
        }
        let begins = (new_epoch || due || full).then_some(self.state);
        if begins.is_some() {
            self.bytes = 0;
        }
        self.bytes = self.bytes.saturating_add(cost);
        if !frame.flags.contains(FrameFlags::HEADER) {
            self.state.audio |= frame.kind == FrameKind::Audio;
            self.state.video |= frame.kind == FrameKind::Video;
        }
        self.high_ms = self.high_ms.max(frame.timestamp.min(LAST_MS));
        self.end_ms = self.end_ms.max(self.end_of(frame)).max(self.high_ms);
        Step {
            begins,
            starts,
            ms: self.high_ms,
            end_ms: self.end_ms,
        }
    }

    fn starts(&self, frame: &Frame) -> bool {
        let is_header = frame.flags.contains(FrameFlags::HEADER);
        match frame.kind {
            FrameKind::Video => frame.flags.contains(FrameFlags::KEY) && !is_header,
            FrameKind::Audio => !self.state.video && !is_header,
            FrameKind::Data => !self.state.video && !self.state.audio,
        }
    }

    /// A frame lasts as long as the one before it of its kind did.
    fn end_of(&mut self, frame: &Frame) -> u64 {
        let track = match frame.kind {
            FrameKind::Audio => 0,
            FrameKind::Video => 1,
            // Has no length.
            FrameKind::Data => return frame.timestamp,
        };
        if frame.flags.contains(FrameFlags::HEADER) {
            return frame.timestamp;
        }
        let Some(track) = self.tracks.get_mut(track) else {
            return frame.timestamp;
        };
        if let Some(last) = track.last.replace(frame.timestamp)
            && frame.timestamp > last
        {
            track.distance = (frame.timestamp - last).min(MAX_FRAME_MS);
        }
        frame.timestamp.saturating_add(track.distance)
    }
}
