//! When the next packet may leave, where congestion control gives a rate.
//!
//! Who sent nothing for a while may send a burst at once; beyond that packets leave at the rate. They are let go some at a time, so that a
//! timer serves for more than one, and several go to the socket together.

use std::time::Duration;

/// Bursts are as long as what the rate gives in this time, where that is more than the configured burst; timers are not exact.
const BURST: Duration = Duration::from_millis(10);

/// Who had to wait, waits for what the rate gives in this time.
const LEAST_WAIT: Duration = Duration::from_millis(4);

/// No packet has to wait longer for its time, however slow the way seems to be.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When what was sent is paid off at the rate.
    even_at: Duration,
    /// Bytes each second, as they were at the last packet; 0 without a rate.
    rate: u64,
    /// When something that had to wait may be sent.
    due: Option<Duration>,
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    let micros = bytes.saturating_mul(1_000_000) / rate.max(1);
    Duration::from_micros(micros).min(MAX_WAIT)
}

impl Pace {
    /// Whether a packet may leave now at `rate` bytes each second; notes when it may, if not. What is `urgent` need not wait, as long as that
    /// is no more than another burst.
    pub(super) fn may_send(&mut self, now: Duration, rate: u64, burst: u64, urgent: bool) -> bool {
        self.rate = rate.max(1);
        let burst = time_of(burst, self.rate).max(BURST);
        self.even_at = self.even_at.max(now.saturating_sub(burst));
        let latest = if urgent { now + burst } else { now };
        let may = self.even_at <= latest;
        if !may {
            let due = self.even_at.saturating_sub(latest - now) + LEAST_WAIT;
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        }
        may
    }

    /// A packet was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        if self.rate > 0 {
            self.even_at += time_of(bytes as u64, self.rate);
        }
    }

    /// When something that had to wait may be sent.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        self.due = self.due.filter(|due| *due > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Packets of a kilobyte that leave at once.
    fn leave(pace: &mut Pace, now: Duration, urgent: bool) -> usize {
        let mut count = 0;
        while count < 1_000 && pace.may_send(now, 100_000, 6_000, urgent) {
            pace.sent(1_000);
            count += 1;
        }
        count
    }

    #[test]
    fn after_a_burst_packets_leave_at_the_rate() {
        let mut pace = Pace::default();
        let start = ms(10_000);
        assert_eq!(leave(&mut pace, start, false), 7);
        assert_eq!(pace.due(), Some(start + ms(10 + 4)));
        assert_eq!(
            leave(&mut pace, start, true),
            6,
            "what is urgent need not wait"
        );
        assert_eq!(leave(&mut pace, start, true), 0, "up to a bound");
        pace.handle_timeout(start + ms(14));
        assert_eq!(pace.due(), None);
        let mut count = 0;
        let mut now = start;
        while now < start + ms(1_000) {
            now += ms(5);
            count += leave(&mut pace, now, false);
        }
        assert_eq!(count + 13, 107, "100 each second, and the first burst");
    }

    #[test]
    fn no_rate_breaks_it() {
        let mut pace = Pace::default();
        for rate in [0, 1, u64::MAX] {
            assert!(pace.may_send(ms(5_000), rate, u64::MAX, false));
            pace.sent(usize::MAX);
            assert!(pace.even_at <= ms(8_000), "{pace:?}");
            pace.even_at = Duration::ZERO;
        }
    }
}
