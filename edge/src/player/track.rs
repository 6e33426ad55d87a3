//! Where a viewer is in a stored stream.

use std::time::Duration;

use headwater_media::frame::Offset;

use super::feed::Mark;
use super::pace::Clock;
use crate::recorded::Stored;

/// A stored stream that is being played.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) stored: Stored,
    pub(super) clock: Clock,
    /// Where the piece begins that is needed next, and its first frame that was not sent.
    pub(super) next: Offset,
    pub(super) from: Offset,
    /// The viewer's decoder knows nothing of what comes before that frame.
    pub(super) fresh: bool,
    /// Media time up to which was sent, in milliseconds.
    pub(super) position: u64,
    /// Media time at which the entry begins and ends for this viewer.
    pub(super) begin: u64,
    pub(super) until: Option<u64>,
    pub(super) mark: Option<Mark>,
    /// Since when a piece cannot be had.
    pub(super) failing: Option<Duration>,
    pub(super) replaced: u8,
}

impl Track {
    pub(super) fn new(stored: Stored, begin: u64, until: Option<u64>) -> Self {
        Self {
            stored,
            clock: Clock::start(Duration::ZERO, begin),
            next: Offset::default(),
            from: Offset::default(),
            fresh: false,
            position: begin,
            begin,
            until,
            mark: None,
            failing: None,
            replaced: 0,
        }
    }

    /// Milliseconds of media from the entry's beginning to its end.
    pub(super) fn duration_ms(&self) -> u64 {
        let end = self.until.unwrap_or(u64::MAX);
        let stored = self.stored.end_ms.max(self.position);
        end.min(stored).saturating_sub(self.begin)
    }

    pub(super) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| self.position >= until)
    }
}
