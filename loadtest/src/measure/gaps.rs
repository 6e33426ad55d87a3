//! How evenly frames came: the time from each to the next.

use std::time::Duration;

/// A gap above which a viewer's picture has likely stopped.
pub const STALL: Duration = Duration::from_millis(500);

/// A gap above which the viewer has likely left.
pub const LONG_STALL: Duration = Duration::from_secs(2);

/// Gaps that are kept one by one. Those that come later are counted only.
pub const MAX_GAPS: usize = 1024;

/// The account of gaps. Times are nanoseconds of one clock.
#[derive(Clone, Debug)]
pub struct Gaps {
    /// From what length on gaps are kept one by one.
    keep_from: Duration,
    /// When the last frame came.
    last: Option<u64>,
    kept: Vec<Duration>,
    longest: Duration,
    stalls: u64,
    long_stalls: u64,
    /// Whether the stream said that it ended after the last frame.
    has_ended: bool,
}

/// The gaps of one track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GapReport {
    /// The gaps that are long enough to be kept, in order, at most [`MAX_GAPS`].
    pub gaps: Vec<Duration>,
    /// The longest gap of all.
    pub longest: Duration,
    /// Gaps longer than [`STALL`].
    pub stalls: u64,
    /// Gaps longer than [`LONG_STALL`], which are among the stalls.
    pub long_stalls: u64,
}

impl Gaps {
    /// An account that keeps gaps from this length on one by one.
    #[must_use]
    pub const fn new(keep_from: Duration) -> Self {
        Self {
            keep_from,
            last: None,
            kept: Vec::new(),
            longest: Duration::ZERO,
            stalls: 0,
            long_stalls: 0,
            has_ended: false,
        }
    }

    /// A frame came at `now`.
    pub fn record(&mut self, now: u64) {
        self.close(now);
        self.last = Some(now);
        self.has_ended = false;
    }

    /// The stream said that nothing more comes for now: waiting is no gap. If frames come all the same, it was one.
    pub const fn end(&mut self) {
        self.has_ended = true;
    }

    /// Gaps longer than [`STALL`] so far, without one that is still open.
    #[must_use]
    pub const fn stalls(&self) -> u64 {
        self.stalls
    }

    /// Forgets what was seen.
    pub fn restart(&mut self) {
        *self = Self::new(self.keep_from);
    }

    /// The gaps up to `now`, with the one that is still open.
    #[must_use]
    pub fn report(&self, now: u64) -> GapReport {
        let mut account = self.clone();
        if !account.has_ended {
            account.close(now);
        }
        GapReport {
            gaps: account.kept,
            longest: account.longest,
            stalls: account.stalls,
            long_stalls: account.long_stalls,
        }
    }

    fn close(&mut self, now: u64) {
        let Some(last) = self.last else {
            return;
        };
        let gap = Duration::from_nanos(now.saturating_sub(last));
        self.longest = self.longest.max(gap);
        self.stalls += u64::from(gap > STALL);
        self.long_stalls += u64::from(gap > LONG_STALL);
        if gap >= self.keep_from && self.kept.len() < MAX_GAPS {
            self.kept.push(gap);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn milliseconds(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn gaps_stalls_and_the_open_gap_are_told() {
        let mut gaps = Gaps::new(milliseconds(100));
        assert_eq!(gaps.report(9), GapReport::default());
        for at in [1_000, 1_040, 1_140, 1_141, 1_641, 2_200, 4_300] {
            gaps.record(at * MS);
        }
        let report = gaps.report(4_301 * MS);
        assert_eq!(report.gaps, [100, 500, 559, 2_100].map(milliseconds));
        assert_eq!(report.longest, milliseconds(2_100));
        // Exactly half a second is none yet.
        assert_eq!((report.stalls, report.long_stalls), (2, 1));
        let open = gaps.report(9_000 * MS);
        assert_eq!(open.longest, milliseconds(4_700));
        assert_eq!((open.stalls, open.long_stalls), (3, 2));
        assert_eq!(gaps.report(4_301 * MS), report);
    }

    #[test]
    fn after_the_end_of_a_stream_nobody_waits() {
        let mut gaps = Gaps::new(milliseconds(100));
        gaps.record(0);
        gaps.record(40 * MS);
        gaps.end();
        assert_eq!(gaps.report(5_000 * MS).stalls, 0);
        // It went on: the viewer did wait.
        gaps.record(3_000 * MS);
        assert_eq!(gaps.report(3_000 * MS).longest, milliseconds(2_960));
        assert_eq!(gaps.report(4_000 * MS).stalls, 2);
    }

    #[test]
    fn kept_gaps_are_bounded() {
        let mut gaps = Gaps::new(Duration::ZERO);
        for number in 0..(MAX_GAPS as u64 * 2) {
            gaps.record(number * 600 * MS);
        }
        let report = gaps.report(0);
        assert_eq!(report.gaps.len(), MAX_GAPS);
        assert_eq!(report.stalls, MAX_GAPS as u64 * 2 - 1);
    }
}
