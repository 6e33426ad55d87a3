//! When the frames of a window came, told roughly: for how long each has been there.
//!
//! A publisher that was cut off sends what it held all at once, minutes of media in a second. Media time alone would let go of
//! most of it before any reader had a chance, so a window that is told the time keeps a frame for as long as it keeps media.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time that is kept is told in so many steps at least.
const STEPS: u32 = 32;

/// Marks in the sequence of frames.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals {
    /// The time now. `None`: nobody tells.
    now: Option<Instant>,
    /// Absolute index of a frame and the time when it was the next to come, oldest first.
    marks: VecDeque<(u64, Instant)>,
    /// Every frame before this index has been there for long enough.
    settled: u64,
}

impl Arrivals {
    /// It is now this late, and the frame with the absolute index `next` will be the next to come. Frames are to be kept for
    /// `keep`.
    pub(super) fn tick(&mut self, now: Instant, next: u64, keep: Duration) {
        self.now = Some(now);
        self.settle(keep);
        let newest = self.marks.back().map(|(_, marked)| *marked);
        if newest.is_none_or(|marked| now.saturating_duration_since(marked) >= keep / STEPS) {
            self.marks.push_back((next, now));
        }
    }

    /// Frames are to be kept for `keep` from now on.
    pub(super) fn settle(&mut self, keep: Duration) {
        let Some(now) = self.now else {
            return;
        };
        // What came before a mark came no later than it.
        while let Some((index, _)) = self
            .marks
            .pop_front_if(|(_, marked)| now.saturating_duration_since(*marked) >= keep)
        {
            self.settled = index;
        }
        let most = STEPS as usize * 2;
        while self.marks.len() > most {
            // The time to keep was longer before. Forgetting a mark settles nothing too early.
            self.marks.pop_front();
        }
    }

    /// Whether the frames before this absolute index need not be kept for the time's sake.
    pub(super) fn allow(&self, index: u64, keep: Duration) -> bool {
        self.now.is_none() || keep.is_zero() || index <= self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_settle_when_they_have_been_there_for_long_enough() {
        let keep = Duration::from_secs(4);
        let start = Instant::now();
        let mut arrivals = Arrivals::default();
        assert!(arrivals.allow(9, keep), "nobody tells the time");
        // Ten frames a second.
        let mut next = 0;
        for step in 0..100 {
            arrivals.tick(start + Duration::from_millis(100 * step), next, keep);
            next += 1;
            let settled = (0..=next)
                .rev()
                .find(|index| arrivals.allow(*index, keep))
                .unwrap();
            let due = step.saturating_sub(40);
            assert!(settled <= due, "{settled} of {due}");
            assert!(settled + 3 >= due, "{settled} of {due}");
            assert!(arrivals.marks.len() <= 40);
        }
        assert!(arrivals.allow(next, Duration::ZERO));
    }

    #[test]
    fn a_burst_stays() {
        let keep = Duration::from_secs(4);
        let start = Instant::now();
        let mut arrivals = Arrivals::default();
        for next in 0..1_000 {
            arrivals.tick(start, next, keep);
        }
        assert_eq!(arrivals.marks.len(), 1);
        arrivals.tick(start + Duration::from_millis(3_999), 1_000, keep);
        assert!(!arrivals.allow(1, keep));
        arrivals.tick(start + Duration::from_millis(4_200), 1_001, keep);
        arrivals.tick(start + Duration::from_millis(8_000), 1_002, keep);
        assert!(arrivals.allow(1_000, keep) && !arrivals.allow(1_002, keep));
    }
}
