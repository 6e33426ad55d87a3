//! The clock of the stamps: `CLOCK_MONOTONIC`, which all processes of a machine share.
//!
//! `std::time::Instant` counts on the same clock but does not show its value, so it cannot be written into a frame.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since an arbitrary moment that is the same for every process of this machine until it is started again.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part is negative on this clock, and 2^64 ns are 584 years.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let first = now_ns();
        assert!(first > 0);
        assert!(now_ns() >= first);
    }
}
