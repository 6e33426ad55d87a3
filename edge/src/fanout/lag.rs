//! How far a viewer is behind by its own fault.
//!
//! Two clocks have to agree. By media time a viewer is behind by what lies between its next frame and the newest one; but after
//! an origin has failed, seconds of the stream come at once, and then every viewer is. By the time for which its next frame has
//! been on this edge it is behind only if it did not take it; but a viewer that joins gets frames that were here long before
//! it. So each is counted from the least that it ever was, and the smaller one holds.

use std::time::{Duration, Instant};

/// The least that a viewer ever was behind, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lag {
    least_media: u64,
    least_age: u64,
}

impl Lag {
    /// Nothing is known yet: the next frame is where the viewer starts.
    pub(crate) const fn new() -> Self {
        Self {
            least_media: u64::MAX,
            least_age: u64::MAX,
        }
    }

    /// How far the viewer is behind, in milliseconds: `media` is from its next frame to the newest one in media time,
    /// milliseconds; `arrived` is when the next frame came to this worker.
    pub(crate) fn of(&mut self, media: u64, arrived: Instant, now: Instant) -> u64 {
        let age = milliseconds(now.saturating_duration_since(arrived));
        self.least_media = self.least_media.min(media);
        self.least_age = self.least_age.min(age);
        (media - self.least_media).min(age - self.least_age)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_that_does_not_take_its_frame_is_behind() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut lag = Lag::new();
        assert_eq!(lag.of(0, at(0), at(0)), 0);
        assert_eq!(lag.of(1_960, at(40), at(2_000)), 1_960);
        assert_eq!(lag.of(40, at(2_000), at(2_040)), 40, "it has caught up");
    }

    #[test]
    fn nobody_is_to_blame_for_frames_that_come_late_and_all_at_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut lag = Lag::new();
        assert_eq!(lag.of(0, at(0), at(0)), 0);
        // Two seconds of the stream came after two seconds of nothing.
        assert_eq!(lag.of(2_000, at(2_000), at(2_001)), 1);
        assert_eq!(lag.of(1_000, at(2_000), at(2_010)), 10);
        // One that does not take them now is slow.
        assert_eq!(lag.of(3_500, at(2_000), at(4_500)), 2_500);
    }

    #[test]
    fn a_viewer_that_joins_at_an_old_key_frame_is_not_behind() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // The edge has had the stream for long.
        let mut lag = Lag::new();
        assert_eq!(lag.of(10_000, at(0), at(10_000)), 0);
        assert_eq!(lag.of(9_500, at(1_000), at(10_500)), 0);
        // The edge has opened the stream for this viewer, which takes it a little faster than it runs.
        let mut lag = Lag::new();
        assert_eq!(lag.of(10_000, at(0), at(0)), 0);
        assert_eq!(lag.of(8_000, at(0), at(8_000)), 0);
    }
}
