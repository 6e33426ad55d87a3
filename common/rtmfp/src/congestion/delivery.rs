//! How fast what is sent arrives.
//!
//! Each transmission takes a [`Mark`] with it: what had arrived by then, and when. When it is acknowledged, what has arrived since, by the
//! time that went by, is the rate. The time is that in which it was sent or that in which it came, whichever is longer: so neither
//! acknowledgements that come all at once nor a burst make a way look faster than it is.
//!
//! Who had less to send than might be under way learns only that the way is at least so fast: such samples are marked.

use std::time::Duration;

/// What is kept of a transmission until it is acknowledged. Times are microseconds, to be small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    sent: u64,
    /// When the last one that was acknowledged before had been sent.
    first_sent: u64,
    delivered: u64,
    delivered_at: u64,
    limited: bool,
    again: bool,
}

impl Mark {
    /// When it was sent.
    #[must_use]
    pub fn sent(&self) -> Duration {
        Duration::from_micros(self.sent)
    }
}

/// What the acknowledgement of a transmission says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes each second; nothing where no time went by.
    pub rate: Option<u64>,
    /// The time in which they came.
    pub interval: Duration,
    /// There was not enough to send: the way may be faster.
    pub limited: bool,
    /// It was sent after everything that the sample before the last of these told of: a round trip is over.
    pub round: bool,
    /// From when it was sent until now, if it was sent but once. The far end's wait before it answered is in it.
    pub round_trip: Option<Duration>,
}

/// Bytes that arrived in a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivery {
    delivered: u64,
    delivered_at: u64,
    first_sent: u64,
    /// What is sent until so much was delivered was sent by somebody who had nothing more to send.
    limited_until: u64,
    /// What is sent after so much was delivered belongs to the next round trip.
    round_until: u64,
    /// The least round trips of two times, and when the second of them began.
    least: [Option<u64>; 2],
    least_since: u64,
}

/// So long the least round trip is remembered, and up to as long again, in microseconds.
const LEAST_LIVES: u64 = 10_000_000;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Delivery {
    /// Something is sent while `outstanding` bytes are under way, `again` if it was sent before.
    pub fn sent(&mut self, now: Duration, outstanding: usize, again: bool) -> Mark {
        let now = micros(now);
        if outstanding == 0 {
            // The time in which nothing was under way says nothing of it.
            self.first_sent = now;
            self.delivered_at = now;
        }
        Mark {
            sent: now,
            first_sent: self.first_sent,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            limited: self.delivered < self.limited_until,
            again,
        }
    }

    /// What was sent after this time cannot have been answered yet: an acknowledgement of it is for another time that it was sent.
    #[must_use]
    pub fn answered_until(&self, now: Duration) -> Duration {
        let least = self.least.iter().flatten().min();
        now.saturating_sub(Duration::from_micros(*least.unwrap_or(&0)))
    }

    fn measure(&mut self, now: u64, mark: &Mark) -> Option<Duration> {
        if mark.again {
            return None;
        }
        if now.saturating_sub(self.least_since) > LEAST_LIVES {
            self.least = [self.least[1], None];
            self.least_since = now;
        }
        let round_trip = now.saturating_sub(mark.sent);
        let least = self.least[1].map_or(round_trip, |least| least.min(round_trip));
        self.least[1] = Some(least);
        Some(Duration::from_micros(round_trip))
    }

    /// There is nothing more to send, although more might be under way.
    pub fn limited(&mut self, outstanding: usize) {
        let until = self.delivered.saturating_add(outstanding as u64);
        self.limited_until = until.max(1);
    }

    /// So many bytes came, the latest of them with this mark.
    pub fn acknowledged(
        &mut self,
        now: Duration,
        bytes: usize,
        latest: Option<Mark>,
    ) -> Option<Sample> {
        let now = micros(now);
        self.delivered = self.delivered.saturating_add(bytes as u64);
        self.delivered_at = self.delivered_at.max(now);
        let mark = latest?;
        let round_trip = self.measure(now, &mark);
        self.first_sent = self.first_sent.max(mark.sent);
        let sending = mark.sent.saturating_sub(mark.first_sent);
        let coming = now.saturating_sub(mark.delivered_at);
        let interval = sending.max(coming);
        let came = u128::from(self.delivered.saturating_sub(mark.delivered));
        let rate = (came * 1_000_000).checked_div(interval.into());
        let round = mark.delivered >= self.round_until;
        if round {
            self.round_until = self.delivered.max(1);
        }
        Some(Sample {
            rate: rate.map(|rate| u64::try_from(rate).unwrap_or(u64::MAX)),
            interval: Duration::from_micros(interval),
            limited: mark.limited,
            round,
            round_trip,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_rate_is_what_came_by_the_longer_of_both_times() {
        let mut delivery = Delivery::default();
        // Ten in ten milliseconds, of which two come each ten: the way is slower than the sender.
        let marks: Vec<Mark> = (0..10)
            .map(|number| delivery.sent(ms(1_000 + number), number as usize * 1_000, false))
            .collect();
        let mut samples = Vec::new();
        for (number, pair) in (0..).zip(marks.chunks(2)) {
            let at = ms(1_100 + 10 * number);
            samples.extend(delivery.acknowledged(at, 2_000, Some(pair[1])));
        }
        assert_eq!(samples[0].rate, Some(20_000), "2 kB in 100 ms");
        assert_eq!(samples[4].rate, Some(71_428), "10 kB in 140 ms");
        let mark = delivery.sent(ms(1_140), 5_000, false);
        // All at once, a moment later: 6 kB were sent in the 131 ms since the ninth.
        let sample = delivery.acknowledged(ms(1_141), 6_000, Some(mark)).unwrap();
        assert_eq!(sample.interval, ms(131));
        assert!(sample.rate.unwrap() < 50_000);
    }

    #[test]
    fn who_has_nothing_to_send_is_limited_until_that_has_come() {
        let mut delivery = Delivery::default();
        let first = delivery.sent(ms(0), 0, false);
        delivery.limited(1_000);
        let second = delivery.sent(ms(1), 1_000, false);
        let came = |delivery: &mut Delivery, at, mark| {
            let sample = delivery.acknowledged(ms(at), 1_000, Some(mark)).unwrap();
            (sample.limited, sample.round)
        };
        assert_eq!(came(&mut delivery, 100, first), (false, true));
        assert_eq!(came(&mut delivery, 101, second), (true, false));
        let third = delivery.sent(ms(102), 0, false);
        assert_eq!(came(&mut delivery, 202, third), (false, true));
    }

    #[test]
    fn a_pause_is_no_slow_way() {
        let mut delivery = Delivery::default();
        let mark = delivery.sent(ms(1_000), 0, false);
        let sample = delivery.acknowledged(ms(1_100), 1_000, Some(mark)).unwrap();
        assert_eq!(sample.rate, Some(10_000));
        let mark = delivery.sent(ms(60_000), 0, false);
        let sample = delivery
            .acknowledged(ms(60_100), 1_000, Some(mark))
            .unwrap();
        assert_eq!(sample.rate, Some(10_000));
        let mark = delivery.sent(ms(60_200), 0, false);
        let sample = delivery
            .acknowledged(ms(60_200), usize::MAX, Some(mark))
            .unwrap();
        assert_eq!(sample.rate, None, "no time went by");
    }
    #[test]
    fn what_was_sent_twice_measures_nothing() {
        let mut delivery = Delivery::default();
        let first = delivery.sent(ms(1_000), 0, false);
        let again = delivery.sent(ms(1_200), 0, true);
        assert_eq!(
            delivery.answered_until(ms(1_201)),
            ms(1_201),
            "nothing is known"
        );
        let sample = delivery
            .acknowledged(ms(1_201), 1_000, Some(again))
            .unwrap();
        assert_eq!(sample.round_trip, None);
        let sample = delivery.acknowledged(ms(1_250), 0, Some(first)).unwrap();
        assert_eq!(sample.round_trip, Some(ms(250)));
        assert_eq!(delivery.answered_until(ms(1_300)), ms(1_050));
        for at in [11_300, 21_400] {
            let mark = delivery.sent(ms(at), 0, false);
            delivery.acknowledged(ms(at + 300), 1_000, Some(mark));
        }
        assert_eq!(
            delivery.answered_until(ms(22_000)),
            ms(21_700),
            "it is forgotten"
        );
    }
}
