//! When a frame is due.
//!
//! A schedule is absolute: a frame that was late does not make the next one late, and rounding does not add up. What could not be
//! sent in time is sent as soon as it can be.

use std::time::Duration;

use tokio::time::Instant;

/// Maps the timestamps of a stream to moments.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    start: Instant,
}

impl Schedule {
    /// A schedule on which timestamp 0 is due at `start`.
    #[must_use]
    pub const fn new(start: Instant) -> Self {
        Self { start }
    }

    /// When a frame with this timestamp, in milliseconds, is to be sent.
    #[must_use]
    pub fn due(&self, timestamp: u64) -> Instant {
        // A time that the clock cannot say is never reached; a day later is as good.
        self.start
            .checked_add(Duration::from_millis(timestamp))
            .unwrap_or_else(|| self.start + Duration::from_secs(86_400))
    }

    /// How long ago a frame with this timestamp should have been sent.
    #[must_use]
    pub fn lateness(&self, now: Instant, timestamp: u64) -> Duration {
        now.saturating_duration_since(self.due(timestamp))
    }
}

/// How long after the first of `count` clients the one with this number (from 0) begins, at `rate` clients per second (0: all at once).
#[must_use]
pub fn ramp(number: usize, rate: u32) -> Duration {
    if rate == 0 {
        return Duration::ZERO;
    }
    let nanoseconds = (number as u64).saturating_mul(1_000_000_000) / u64::from(rate);
    Duration::from_nanos(nanoseconds)
}

/// By how much the schedule of one of `count` publishers with `fps` frames per second is moved, so that they do not all send at once.
#[must_use]
pub fn phase(number: usize, count: usize, fps: u32) -> Duration {
    let interval = Duration::from_secs(1) / fps.max(1);
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let number = u32::try_from(number).unwrap_or(u32::MAX) % count;
    interval.mul_f64(f64::from(number) / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_absolute() {
        let start = Instant::now();
        let schedule = Schedule::new(start);
        for timestamp in [0, 33, 66, 100, 3_600_000] {
            assert_eq!(
                schedule.due(timestamp) - start,
                Duration::from_millis(timestamp)
            );
        }
        let late = start + Duration::from_millis(70);
        assert_eq!(schedule.lateness(late, 66), Duration::from_millis(4));
        assert_eq!(schedule.lateness(late, 100), Duration::ZERO);
        assert!(schedule.due(u64::MAX) > start);
    }

    #[test]
    fn a_ramp_is_even() {
        assert_eq!(ramp(7, 0), Duration::ZERO);
        assert_eq!(ramp(0, 100), Duration::ZERO);
        assert_eq!(ramp(250, 100), Duration::from_millis(2500));
        assert_eq!(ramp(1, 3), Duration::from_nanos(333_333_333));
    }

    #[test]
    fn phases_spread_over_one_frame() {
        assert_eq!(phase(0, 1, 25), Duration::ZERO);
        assert_eq!(phase(1, 4, 25), Duration::from_millis(10));
        assert_eq!(phase(3, 4, 25), Duration::from_millis(30));
        assert!(phase(9, 10, 30) < Duration::from_secs(1) / 30);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_leave_when_they_are_due_however_late_one_was() {
        let start = Instant::now();
        let schedule = Schedule::new(start);
        let mut left = Vec::new();
        for number in 0..6_u64 {
            tokio::time::sleep_until(schedule.due(number * 40)).await;
            left.push(start.elapsed().as_millis());
            if number == 1 {
                // The server took its time.
                tokio::time::sleep(Duration::from_millis(95)).await;
            }
        }
        assert_eq!(left, [0, 40, 135, 135, 160, 200]);
    }
}
