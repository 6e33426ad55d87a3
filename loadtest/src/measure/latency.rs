//! End-to-end latency, from the stamp in a frame to the read that brought it.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;

/// The largest latency that is taken as one. A stamp of another machine's clock is almost always further off, in one direction or the other.
pub const MAX_LATENCY: Duration = Duration::from_secs(600);

/// A histogram that any number of clients fill: microseconds with three digits, some 150 kB.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    shared: Arc<Mutex<Latencies>>,
}

/// The same histogram for one thread: without a lock.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
    foreign: u64,
}

/// The distribution in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyReport {
    /// Frames that were timed.
    pub count: u64,
    /// Frames whose stamps are of another clock.
    pub foreign_clock: u64,
    /// The least.
    pub min_us: u64,
    /// The arithmetic mean.
    pub mean_us: f64,
    /// Half of the frames took no longer.
    pub p50_us: u64,
    /// Nine of ten frames took no longer.
    pub p90_us: u64,
    /// 99 of 100 frames took no longer.
    pub p99_us: u64,
    /// The most.
    pub max_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        let most = u64::try_from(MAX_LATENCY.as_micros()).unwrap_or(u64::MAX);
        // These bounds are in the range that the histogram allows; `new` is the same, growing as it needs.
        let histogram = Histogram::new_with_bounds(1, most, 3).or_else(|_| Histogram::new(3));
        Self {
            #[expect(clippy::expect_used, reason = "three digits are always allowed")]
            histogram: histogram.expect("a histogram of three digits"),
            foreign: 0,
        }
    }
}

impl Latencies {
    /// A frame that was sent at one time came at another, in nanoseconds of the same clock.
    pub fn record(&mut self, sent_at: u64, came_at: u64) {
        match came_at.checked_sub(sent_at) {
            Some(latency) if latency <= MAX_LATENCY.as_nanos() as u64 => {
                self.histogram.saturating_record((latency / 1_000).max(1));
            }
            _ => self.foreign = self.foreign.saturating_add(1),
        }
    }

    /// Takes in what another histogram holds.
    pub fn merge(&mut self, other: &Self) {
        // Nothing of the other lies outside the bounds, which are those of every histogram here.
        let _fits = self.histogram.add(&other.histogram);
        self.foreign = self.foreign.saturating_add(other.foreign);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.histogram.reset();
        self.foreign = 0;
    }

    /// The distribution so far.
    #[must_use]
    pub fn report(&self) -> LatencyReport {
        let histogram = &self.histogram;
        if histogram.is_empty() {
            return LatencyReport {
                foreign_clock: self.foreign,
                ..LatencyReport::default()
            };
        }
        // The histogram names the top of the step that a value lies in, which may be above the largest value.
        let quantile = |q| histogram.value_at_quantile(q).min(histogram.max());
        LatencyReport {
            count: histogram.len(),
            foreign_clock: self.foreign,
            min_us: histogram.min(),
            mean_us: histogram.mean(),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: histogram.max(),
        }
    }
}

impl Latency {
    /// A frame that was sent at one time came at another, in nanoseconds of the same clock.
    pub fn record(&self, sent_at: u64, came_at: u64) {
        self.shared.lock().record(sent_at, came_at);
    }

    /// The distribution so far.
    #[must_use]
    pub fn report(&self) -> LatencyReport {
        self.shared.lock().report()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_told_in_microseconds() {
        let latency = Latency::default();
        assert_eq!(latency.report(), LatencyReport::default());
        for microseconds in 1..=1_000_u64 {
            latency.clone().record(5_000, 5_000 + microseconds * 1_000);
        }
        let report = latency.report();
        assert_eq!(
            (
                report.count,
                report.min_us,
                report.p50_us,
                report.p90_us,
                report.p99_us,
                report.max_us
            ),
            (1_000, 1, 500, 900, 990, 1_000)
        );
        assert!((report.mean_us - 500.5).abs() < 0.01);
    }

    #[test]
    fn stamps_of_another_clock_are_counted_apart() {
        let latency = Latency::default();
        latency.record(10, 9);
        latency.record(0, u64::MAX);
        latency.record(0, 601_000_000_000);
        latency.record(0, 599_000_000_000);
        let report = latency.report();
        assert_eq!((report.count, report.foreign_clock), (1, 3));
        assert!(report.max_us.abs_diff(599_000_000) < 600_000);
    }

    #[test]
    fn histograms_are_put_together_and_forgotten() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        one.record(0, 1_000_000);
        other.record(0, 3_000_000);
        other.record(5, 4);
        one.merge(&other);
        let report = one.report();
        assert_eq!((report.count, report.foreign_clock), (2, 1));
        assert_eq!((report.min_us, report.p50_us), (1_000, 1_000));
        assert!((3_000..3_010).contains(&report.max_us));
        one.clear();
        assert_eq!(one.report(), LatencyReport::default());
    }
}
