//! The windowed algorithm of RFC 7016 appendix A.2, with what its text leaves out: the flag that acknowledgements came is cleared for each
//! packet like its neighbours, because it is an argument here.
//!
//! Each loss counts as a sign of congestion. On a way that loses packets by itself (5 % of them, at a round trip of 160 ms) it is left with
//! some kilobytes for each round trip.

use super::{Congestion, Feedback};

/// The window at the beginning and the least after a loss, in bytes.
const INITIAL_WINDOW: usize = 4_380;

/// Above this many bytes under way a loss costs an eighth and not a half.
const LARGE_WINDOW: usize = 67_200;

/// How far the threshold of growth goes up: so that a large window grows by as much in a round trip as a small one.
const MAX_STEP: usize = 4_800;

/// The same where this session sends what is time-critical: it may grow twice as fast as those that have to give way.
const MAX_STEP_TIME_CRITICAL: usize = 2_400;

/// The least threshold of growth, in acknowledged bytes.
const MIN_STEP: usize = 64;

/// A window beyond this is no limit any more, in bytes; sums stay far below their types.
const MAX_WINDOW: usize = 1 << 30;

/// The algorithm of appendix A.2.
#[derive(Clone, Debug)]
pub struct Windowed {
    window: usize,
    threshold: usize,
    accumulated: usize,
    segment: usize,
}

impl Windowed {
    /// For packets of `segment` bytes.
    #[must_use]
    pub fn new(segment: usize) -> Self {
        Self {
            window: INITIAL_WINDOW,
            threshold: usize::MAX,
            accumulated: 0,
            segment,
        }
    }

    /// What a window that is beyond slow start grows by.
    fn linear(&mut self, acknowledged: usize, max_step: usize, increment: usize) -> usize {
        self.accumulated += acknowledged;
        let step = (self.window / 16).max(MIN_STEP).min(max_step);
        let times = self.accumulated / step;
        self.accumulated %= step;
        times * increment
    }
}

impl Congestion for Windowed {
    fn window(&self) -> usize {
        self.window
    }

    fn acknowledged(&mut self, feedback: &Feedback) {
        let Feedback {
            acknowledged,
            outstanding,
            time_critical,
            fast,
            ..
        } = *feedback;
        if feedback.lost > 0 {
            let gentle = time_critical || (outstanding > LARGE_WINDOW && fast);
            let rest = if gentle {
                outstanding / 8 * 7
            } else {
                outstanding / 2
            };
            self.threshold = rest.max(INITIAL_WINDOW);
            self.window = self.threshold.min(MAX_WINDOW);
            self.accumulated = 0;
            return;
        }
        if feedback.negative || !feedback.full {
            return;
        }
        let slow_start = self.window < self.threshold;
        let increment = match (fast, slow_start) {
            (true, true) => acknowledged,
            (true, false) => self.linear(acknowledged, MAX_STEP, 48),
            (false, true) if time_critical => acknowledged.div_ceil(4),
            (false, _) => {
                let step = if time_critical {
                    MAX_STEP_TIME_CRITICAL
                } else {
                    MAX_STEP
                };
                self.linear(acknowledged, step, 24)
            }
        };
        let grown = self.window + increment.min(self.segment);
        self.window = grown.clamp(INITIAL_WINDOW, MAX_WINDOW);
    }

    fn timed_out(&mut self, loss: bool) {
        self.threshold = self.threshold.max(self.window / 4 * 3);
        self.accumulated = 0;
        self.window = if loss { self.segment } else { INITIAL_WINDOW };
    }

    fn path_changed(&mut self) {
        *self = Self::new(self.segment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(acknowledged: usize, outstanding: usize) -> Feedback {
        Feedback {
            acknowledged,
            outstanding,
            full: true,
            fast: true,
            ..Feedback::default()
        }
    }

    fn lossy(outstanding: usize) -> Feedback {
        Feedback {
            lost: 1_200,
            negative: true,
            ..acks(0, outstanding)
        }
    }

    #[test]
    fn the_window_opens_by_what_is_acknowledged_until_the_first_loss() {
        let mut control = Windowed::new(1_200);
        assert_eq!(control.window(), 4_380);
        control.acknowledged(&Feedback {
            full: false,
            ..acks(1_200, 4_379)
        });
        assert_eq!(control.window(), 4_380, "the window was not used");
        control.acknowledged(&acks(1_000, 4_380));
        assert_eq!(control.window(), 5_380);
        control.acknowledged(&acks(2_400, 5_380));
        assert_eq!(control.window(), 6_580, "by no more than a segment");
        control.acknowledged(&Feedback {
            negative: true,
            ..acks(1_200, 6_580)
        });
        assert_eq!(control.window(), 6_580, "something was passed over");
        control.acknowledged(&lossy(20_000));
        assert_eq!(control.window(), 10_000, "half of what was under way");
        control.acknowledged(&lossy(10));
        assert_eq!(control.window(), 4_380, "the least after a loss");
    }

    #[test]
    fn after_a_loss_it_grows_by_steps() {
        let mut control = Windowed::new(1_200);
        control.acknowledged(&lossy(32_000));
        assert_eq!(control.window(), 16_000);
        // A sixteenth of the window makes 48 bytes more: three quarters of a kilobyte for each window.
        let mut acknowledged = 0;
        while acknowledged < 16_000 {
            control.acknowledged(&acks(1_000, 17_000));
            acknowledged += 1_000;
        }
        assert!((16_700..16_800).contains(&control.window()), "{control:?}");
    }

    #[test]
    fn who_must_give_way_grows_slowly_and_who_is_urgent_loses_little() {
        let slow = Feedback {
            fast: false,
            ..acks(1_600, 5_000)
        };
        let mut control = Windowed::new(1_200);
        control.acknowledged(&slow);
        assert_eq!(control.window(), 4_380 + 5 * 24, "no slow start");
        let urgent = Feedback {
            time_critical: true,
            ..slow
        };
        let mut control = Windowed::new(1_200);
        control.acknowledged(&urgent);
        assert_eq!(control.window(), 4_380 + 400);
        control.acknowledged(&Feedback {
            time_critical: true,
            ..lossy(16_000)
        });
        assert_eq!(control.window(), 14_000, "an eighth is lost");
        let mut control = Windowed::new(1_200);
        control.acknowledged(&lossy(80_000));
        assert_eq!(control.window(), 70_000, "and so of a large window");
        control.acknowledged(&Feedback {
            fast: false,
            ..lossy(80_000)
        });
        assert_eq!(control.window(), 40_000, "unless it has to give way");
    }

    #[test]
    fn a_timeout_goes_back_to_one_segment() {
        let mut control = Windowed::new(1_200);
        control.acknowledged(&lossy(32_000));
        control.timed_out(true);
        assert_eq!(control.window(), 1_200);
        control.acknowledged(&acks(600, 1_200));
        assert_eq!(
            control.window(),
            4_380,
            "an acknowledgement opens it to the least"
        );
        control.acknowledged(&acks(1_200, 4_380));
        assert_eq!(control.window(), 5_580, "up to the threshold as at first");
        control.timed_out(false);
        assert_eq!(control.window(), 4_380, "nothing was under way");
        control.path_changed();
        assert_eq!(control.window(), 4_380);
    }

    #[test]
    fn no_acknowledgement_breaks_it() {
        let mut control = Windowed::new(1_200);
        for _ in 0..2_000_000 {
            control.acknowledged(&acks(usize::MAX / 2, usize::MAX / 2));
        }
        assert_eq!(control.window(), MAX_WINDOW);
        control.acknowledged(&lossy(usize::MAX));
        assert!(control.window() <= MAX_WINDOW);
    }
}
