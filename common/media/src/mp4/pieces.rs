//! Where a file is cut into pieces.

use super::boxes::invalid;
use super::merge::{Frames, Merge};
use crate::file::{FileError, Grid};
use crate::frame::FrameKind;

/// Most pieces of a file: a tebibyte of full ones.
const MAX_PIECES: usize = 1 << 20;

/// Most frames of a piece, so that empty frames do not make one without bounds. Two seconds have a few hundred.
const MAX_FRAMES: u32 = 8_192;

/// No piece, or no time.
const NONE: u32 = u32::MAX;

/// Where one piece begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Numbers of the next samples of both tracks.
    pub(super) video: u32,
    pub(super) audio: u32,
    /// Of its first frame.
    pub(super) start_ms: u32,
    /// Of the first frame in it at which a decoder can start, or [`NONE`].
    first_start_ms: u32,
    /// The newest piece before it that has such a frame, or [`NONE`].
    start_before: u32,
}

impl Cut {
    /// How many samples there are before it, counted from the beginning of both tracks.
    pub(super) fn number(&self) -> u64 {
        u64::from(self.video) + u64::from(self.audio)
    }
}

/// All pieces of a file, in order.
pub(super) struct Plan {
    cuts: Vec<Cut>,
}

impl Plan {
    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.cuts[..])
    }

    /// Goes through all frames. Tells `key_frame` the time and the place of each video key frame.
    pub(super) fn make(
        frames: &Frames,
        grid: Grid,
        mut key_frame: impl FnMut(u64, u64),
    ) -> Result<Self, FileError> {
        let every = grid.every_ms.max(1);
        let has_video = frames.video.is_some();
        let mut cuts: Vec<Cut> = Vec::new();
        // The next multiple of the grid that no piece began at yet.
        let mut due = 0;
        let mut bytes = 0_usize;
        let mut count = 0;
        let mut newest_start = NONE;
        let mut merge = Merge::start(frames)?;
        loop {
            let (video, audio) = merge.place();
            let Some(frame) = merge.next()? else {
                break;
            };
            let is_start = frame.is_key() && (frame.kind == FrameKind::Video || !has_video);
            let is_due = is_start && frame.ms >= due;
            let length = frame.whole_length();
            let is_full = bytes.saturating_add(length) > grid.max_bytes || count == MAX_FRAMES;
            // Frames lie below `MAX_DURATION_MS`.
            let ms = u32::try_from(frame.ms).unwrap_or(NONE - 1);
            if cuts.is_empty() || is_due || is_full {
                if cuts.len() == MAX_PIECES {
                    let what = format!("more than {MAX_PIECES} pieces");
                    return Err(invalid(frame.sample.offset, what));
                }
                cuts.push(Cut {
                    video,
                    audio,
                    start_ms: ms,
                    first_start_ms: NONE,
                    start_before: newest_start,
                });
                bytes = 0;
                count = 0;
            }
            if is_due {
                due = (frame.ms / every).saturating_add(1).saturating_mul(every);
            }
            if is_start {
                newest_start = (cuts.len() - 1) as u32;
                if let Some(cut) = cuts.last_mut() {
                    cut.first_start_ms = cut.first_start_ms.min(ms);
                }
                if has_video {
                    key_frame(frame.ms, frame.sample.offset);
                }
            }
            bytes = bytes.saturating_add(length);
            count += 1;
        }
        cuts.shrink_to_fit();
        Ok(Self { cuts })
    }

    pub(super) fn piece(&self, number: usize) -> Option<&Cut> {
        self.cuts.get(number)
    }

    /// The piece that begins with so many samples before it. In a file without samples, one is said to begin at 0.
    pub(super) fn at_number(&self, number: u64) -> Option<usize> {
        if self.cuts.is_empty() && number == 0 {
            return Some(0);
        }
        self.cuts.binary_search_by_key(&number, Cut::number).ok()
    }

    /// The piece with the newest frame at or before `ms` at which a decoder can start, or the first one.
    pub(super) fn at_time(&self, ms: u64) -> usize {
        let after = self
            .cuts
            .partition_point(|cut| u64::from(cut.start_ms) <= ms);
        let Some(number) = after.checked_sub(1) else {
            return 0;
        };
        match self.cuts.get(number) {
            Some(cut) if cut.first_start_ms != NONE && u64::from(cut.first_start_ms) <= ms => {
                number
            }
            Some(cut) if cut.start_before != NONE => cut.start_before as usize,
            _ => 0,
        }
    }
}
