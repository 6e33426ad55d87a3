//! What is true of many clients: how often each thing happened, and how a time is spread over them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::millis;
use crate::client::Statuses;
use crate::measure::LatencyReport;

/// Kinds that a tally tells apart. What comes after them is counted as `other`.
pub const MAX_KINDS: usize = 64;

/// How often each of several texts came: reasons, status codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    kinds: BTreeMap<String, u64>,
}

/// One line of a tally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// What.
    pub what: String,
    /// How often.
    pub count: u64,
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, what: &str) {
        self.add_many(what, 1);
    }

    /// The most frequent first.
    #[must_use]
    pub fn sorted(&self) -> Vec<Ending> {
        let mut all: Vec<Ending> = self
            .kinds
            .iter()
            .map(|(what, &count)| Ending {
                what: what.clone(),
                count,
            })
            .collect();
        all.sort_by_key(|ending| std::cmp::Reverse(ending.count));
        all
    }

    /// Counts what another tally counted.
    pub fn merge(&mut self, other: &Self) {
        for (what, &count) in &other.kinds {
            self.add_many(what, count);
        }
    }

    fn add_many(&mut self, what: &str, count: u64) {
        let kind = if self.kinds.contains_key(what) || self.kinds.len() < MAX_KINDS {
            what
        } else {
            "other"
        };
        let place = self.kinds.entry(kind.to_owned()).or_default();
        *place = place.saturating_add(count);
    }

    pub(super) fn add_statuses(&mut self, statuses: &Statuses) {
        for status in statuses.seen() {
            self.add(&status.code);
        }
    }
}

/// How a time is spread over clients, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Clients that it was measured on.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// Nine of ten took no longer.
    pub p90_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl From<&LatencyReport> for Spread {
    fn from(times: &LatencyReport) -> Self {
        let [p50_ms, p90_ms, p99_ms, max_ms] =
            [times.p50_us, times.p90_us, times.p99_us, times.max_us].map(|us| us as f64 / 1e3);
        Self {
            count: times.count,
            p50_ms,
            p90_ms,
            p99_ms,
            max_ms,
        }
    }
}

impl Spread {
    /// The spread of these times.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        let quantile = |percent: usize| {
            // The least time that so many are not above.
            let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times
                .get(rank.min(last))
                .map_or(0.0, |time| milliseconds(*time))
        };
        Self {
            count: times.len() as u64,
            p50_ms: quantile(50),
            p90_ms: quantile(90),
            p99_ms: quantile(99),
            max_ms: quantile(100),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("-");
        }
        let [p50, p99, max] = [self.p50_ms, self.p99_ms, self.max_ms].map(millis);
        write!(f, "p50 {p50}, p99 {p99}, max {max}")
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_of_the_sorted_times() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let spread = Spread::of(times);
        assert_eq!(
            (
                spread.count,
                spread.p50_ms,
                spread.p90_ms,
                spread.p99_ms,
                spread.max_ms
            ),
            (200, 100.0, 180.0, 198.0, 200.0)
        );
        assert_eq!(Spread::of(Vec::new()).to_string(), "-");
        let one = Spread::of(vec![Duration::from_micros(1_500)]);
        assert_eq!(one.to_string(), "p50 1.5 ms, p99 1.5 ms, max 1.5 ms");
    }

    #[test]
    fn tallies_are_bounded_and_sorted() {
        let mut tally = Tally::default();
        for number in 0..1_000 {
            tally.add(&format!("reason {number}"));
            tally.add("frequent");
        }
        let sorted = tally.sorted();
        assert_eq!(sorted.len(), MAX_KINDS + 1);
        assert_eq!(sorted[0].what, "frequent");
        assert_eq!(sorted.iter().map(|ending| ending.count).sum::<u64>(), 2_000);
    }
}
