//! How long a packet takes there and back: RFC 7016 section 3.5.2.2.
//!
//! Each packet may carry the sender's time, in ticks of four milliseconds, and an echo of the far end's time to which the time is added
//! that it waited here: so an echo measures the way alone. An echo is sent only where it differs from the one sent before. A time that does
//! not differ says nothing to the far end, and is sent all the same: some peers drop packets without one.

use std::time::Duration;

/// The unit of timestamps.
const TICK: Duration = Duration::from_millis(4);

/// An echo of a time that is older says nothing.
const ECHO_EXPIRY: Duration = Duration::from_secs(128);

/// A difference of more ticks than this is one into the past: the clock of sixteen bits went round.
const MAX_TICKS: u16 = 32_767;

/// The retransmission timeout until something was measured.
const INITIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// The measured timeout until something was measured, and the least effective one.
const LEAST_TIMEOUT: Duration = Duration::from_millis(250);

/// What the measured timeout is above the round trip and its variation: the far end's delayed acknowledgement.
const DELAYED_ACKNOWLEDGEMENT: Duration = Duration::from_millis(200);

/// The timeout does not grow beyond this by itself.
const MAX_TIMEOUT: Duration = Duration::from_secs(10);

/// The same where what is under way is worth little when it is late: a packet or two each second hurt no network.
const MAX_URGENT_TIMEOUT: Duration = Duration::from_secs(1);

/// The least time beyond the round trip after which an answer that should have come is not waited for: clients that draw 30 pictures each
/// second look at their socket as often.
const PATIENCE: Duration = Duration::from_millis(40);

/// Packets that come in another order are not further apart than this, at the least.
const LEAST_DISORDER: Duration = Duration::from_millis(4);

/// Times of packets, and what follows from them.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    sent_echo: Option<u16>,
    received: Option<(u16, Duration)>,
    received_echo: Option<u16>,
    smoothed: Option<Duration>,
    variation: Duration,
    measured: Duration,
    effective: Duration,
}

impl Default for RoundTrip {
    fn default() -> Self {
        Self {
            sent_echo: None,
            received: None,
            received_echo: None,
            smoothed: None,
            variation: Duration::ZERO,
            measured: LEAST_TIMEOUT,
            effective: INITIAL_TIMEOUT,
        }
    }
}

/// The clock of sixteen bits.
fn ticks(time: Duration) -> u16 {
    (time.as_millis() / TICK.as_millis()) as u16
}

impl RoundTrip {
    /// The times of the next packet: the timestamp, and the echo.
    pub fn stamp(&mut self, now: Duration) -> (u16, Option<u16>) {
        (ticks(now), self.echo(now))
    }

    fn echo(&mut self, now: Duration) -> Option<u16> {
        let (time, at) = self.received?;
        let elapsed = now.saturating_sub(at);
        if elapsed > ECHO_EXPIRY {
            self.received = None;
            self.sent_echo = None;
            return None;
        }
        let echo = time.wrapping_add(ticks(elapsed));
        let differs = self.sent_echo != Some(echo);
        self.sent_echo = Some(echo);
        differs.then_some(echo)
    }

    /// The times of a packet that came.
    pub fn received(&mut self, now: Duration, timestamp: Option<u16>, echo: Option<u16>) {
        if let Some(timestamp) = timestamp
            && self.received.is_none_or(|(last, _)| last != timestamp)
        {
            self.received = Some((timestamp, now));
        }
        let Some(echo) = echo.filter(|echo| self.received_echo != Some(*echo)) else {
            return;
        };
        self.received_echo = Some(echo);
        let elapsed = ticks(now).wrapping_sub(echo);
        if elapsed <= MAX_TICKS {
            self.measure(TICK * u32::from(elapsed));
        }
    }

    fn measure(&mut self, round_trip: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => {
                self.variation = round_trip / 2;
                round_trip
            }
            Some(smoothed) => {
                self.variation = (3 * self.variation + smoothed.abs_diff(round_trip)) / 4;
                (7 * smoothed + round_trip) / 8
            }
        });
        self.measured =
            self.smoothed.unwrap_or_default() + 4 * self.variation + DELAYED_ACKNOWLEDGEMENT;
        self.effective = self.measured.max(LEAST_TIMEOUT);
    }

    /// Nothing came back in time. What is urgent is tried at least each second.
    pub fn back_off(&mut self, urgent: bool) {
        let longer = self.effective.mul_f64(std::f64::consts::SQRT_2);
        let most = if urgent {
            MAX_URGENT_TIMEOUT
        } else {
            MAX_TIMEOUT
        };
        // What was longer before is not made shorter by this.
        self.effective = longer.min(most).max(self.effective.min(MAX_TIMEOUT));
    }

    /// Whether the timeout has grown because nothing came back.
    #[must_use]
    pub fn is_backed_off(&self) -> bool {
        self.smoothed.is_some() && self.effective > self.measured_timeout()
    }

    /// The timeout without what it has grown.
    #[must_use]
    pub fn measured_timeout(&self) -> Duration {
        self.measured.max(LEAST_TIMEOUT)
    }

    /// The far end is heard again: the timeout is what was measured.
    pub fn restore(&mut self) {
        self.effective = self.measured_timeout();
    }

    /// The way has changed, and what was measured on the old one says nothing. The times themselves go on.
    pub fn forget(&mut self) {
        self.smoothed = None;
        self.variation = Duration::ZERO;
        self.measured = LEAST_TIMEOUT;
        self.effective = INITIAL_TIMEOUT;
    }

    /// The smoothed round trip, once there was one.
    #[must_use]
    pub fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// After what time an acknowledgement that the far end does not delay should have come, once anything was measured and unless the
    /// timeout has grown.
    #[must_use]
    pub fn patience(&self) -> Option<Duration> {
        let smoothed = self.smoothed.filter(|_| !self.is_backed_off())?;
        Some(smoothed + (4 * self.variation).max(PATIENCE))
    }

    /// How much later than another one a packet may be sent and come before it.
    #[must_use]
    pub fn disorder(&self) -> Option<Duration> {
        Some((self.smoothed? / 8).max(LEAST_DISORDER))
    }

    /// After what time without an acknowledgement everything counts as lost.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.effective
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_time_is_sent_always_and_its_echo_once_with_the_waiting_added() {
        let mut here = RoundTrip::default();
        assert_eq!(here.stamp(ms(4_000)), (1_000, None));
        assert_eq!(here.stamp(ms(4_003)), (1_000, None), "the same tick");
        here.received(ms(4_004), Some(65_535), None);
        here.received(ms(4_104), Some(65_535), None);
        assert_eq!(
            here.stamp(ms(4_012)),
            (1_003, Some(1)),
            "8 ms after it came"
        );
        assert_eq!(here.stamp(ms(4_015)), (1_003, None), "the same echo");
        assert_eq!(
            here.stamp(ms(4_004) + ECHO_EXPIRY).1,
            Some(65_535_u16.wrapping_add(32_000))
        );
        assert_eq!(here.stamp(ms(4_005) + ECHO_EXPIRY).1, None, "too old");
        here.received(ms(200_000), Some(65_535), None);
        assert_eq!(here.stamp(ms(200_000)).1, Some(65_535), "came anew");
    }

    #[test]
    fn the_round_trip_is_smoothed_and_the_timeout_follows() {
        let mut here = RoundTrip::default();
        assert_eq!((here.smoothed(), here.timeout()), (None, ms(3_000)));
        let sent = Some(here.stamp(ms(1_000)).0);
        here.received(ms(1_080), None, sent);
        assert_eq!(here.smoothed(), Some(ms(80)));
        assert_eq!(here.timeout(), ms(80 + 4 * 40 + 200));
        here.received(ms(2_000), None, sent);
        assert_eq!(
            here.smoothed(),
            Some(ms(80)),
            "a repeated echo says nothing"
        );
        let sent = Some(here.stamp(ms(2_000)).0);
        here.received(ms(2_160), None, sent);
        assert_eq!(here.smoothed(), Some(ms(90)));
        assert_eq!(here.timeout(), ms(90 + 4 * 50 + 200));
        here.received(ms(2_160), None, Some(ticks(ms(2_160)) + 2));
        assert_eq!(
            here.smoothed(),
            Some(ms(90)),
            "an echo from the future says nothing"
        );
    }

    #[test]
    fn the_timeout_grows_to_its_bound_and_a_measurement_ends_that() {
        let mut here = RoundTrip::default();
        for _ in 0..20 {
            here.back_off(false);
        }
        assert_eq!(here.timeout(), MAX_TIMEOUT);
        here.back_off(true);
        assert_eq!(here.timeout(), MAX_TIMEOUT, "it does not get shorter");
        let sent = Some(here.stamp(ms(400)).0);
        here.received(ms(420), None, sent);
        assert_eq!(here.timeout(), ms(20 + 40 + 200));
        assert_eq!(here.patience(), Some(ms(20 + 40)));
        here.back_off(false);
        assert!(here.timeout() > ms(360) && here.timeout() < ms(370));
        assert_eq!(here.patience(), None, "nothing comes anyway");
        (0..20).for_each(|_| here.back_off(true));
        assert_eq!(here.timeout(), MAX_URGENT_TIMEOUT);
        here.forget();
        assert_eq!((here.smoothed(), here.timeout()), (None, INITIAL_TIMEOUT));
    }

    #[test]
    fn clocks_that_go_round_measure_all_the_same() {
        let mut here = RoundTrip::default();
        let round = TICK * 65_536;
        let sent = Some(here.stamp(round - TICK).0);
        assert_eq!(sent, Some(65_535));
        here.received(round + ms(36), None, sent);
        assert_eq!(here.smoothed(), Some(ms(40)));
    }
}
