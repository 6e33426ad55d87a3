//! Whether the peer still lives: pings, and what it said last.

use std::time::Duration;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// A ping with this timestamp is to be sent; it was already noted.
    Ping(u32),
    /// The peer did not react to the last ping for this long.
    Dead(Duration),
}

/// The clock of one peer. Times are those of the caller, from an arbitrary start.
#[derive(Debug)]
pub(crate) struct Liveness {
    interval: Option<Duration>,
    timeout: Duration,
    last_heard: Duration,
    /// The ping that waits for any sign of life: when it was sent.
    waiting: Option<Duration>,
    /// The ping that waits for its answer: when it was sent, and what it carries.
    unanswered: Option<(Duration, u32)>,
}

impl Liveness {
    pub(crate) const fn new(interval: Option<Duration>, timeout: Duration, now: Duration) -> Self {
        Self {
            interval,
            timeout,
            last_heard: now,
            waiting: None,
            unanswered: None,
        }
    }

    pub(crate) const fn last_heard(&self) -> Duration {
        self.last_heard
    }

    /// The peer sent something, whatever it is.
    pub(crate) fn heard(&mut self, now: Duration) {
        self.last_heard = now;
        self.waiting = None;
    }

    /// Notes a ping; gives the timestamp it carries: the caller's milliseconds, which wrap.
    pub(crate) fn ping(&mut self, now: Duration) -> u32 {
        let timestamp = wrapping_milliseconds(now);
        self.waiting.get_or_insert(now);
        self.unanswered = Some((now, timestamp));
        timestamp
    }

    /// The answer to a ping came. Gives the round trip if it is the last one's.
    pub(crate) fn answered(&mut self, now: Duration, timestamp: u32) -> Option<Duration> {
        let (sent, expected) = self.unanswered?;
        if timestamp != expected {
            return None;
        }
        self.unanswered = None;
        Some(now.saturating_sub(sent))
    }

    /// When something is due next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.waiting {
            Some(sent) => Some(sent.saturating_add(self.timeout)),
            None => Some(self.last_heard.saturating_add(self.interval?)),
        }
    }

    /// What is due now.
    pub(crate) fn due(&mut self, now: Duration) -> Due {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Due::Nothing;
        }
        if self.waiting.is_some() {
            Due::Dead(now.saturating_sub(self.last_heard))
        } else {
            Due::Ping(self.ping(now))
        }
    }
}

/// The low 32 bits of a time in milliseconds.
pub(crate) fn wrapping_milliseconds(time: Duration) -> u32 {
    // The mask makes it fit.
    u32::try_from(time.as_millis() & u128::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_peer_is_pinged_then_given_up() {
        let mut peer = Liveness::new(Some(s(10)), s(5), s(100));
        assert_eq!(peer.deadline(), Some(s(110)));
        assert_eq!(peer.due(s(109)), Due::Nothing);
        assert_eq!(peer.due(s(111)), Due::Ping(111_000));
        assert_eq!(peer.deadline(), Some(s(116)));
        assert_eq!(peer.due(s(115)), Due::Nothing);
        assert_eq!(peer.due(s(116)), Due::Dead(s(16)));
    }

    #[test]
    fn any_byte_is_a_sign_of_life() {
        let mut peer = Liveness::new(Some(s(10)), s(5), s(0));
        assert_eq!(peer.due(s(10)), Due::Ping(10_000));
        peer.heard(s(12));
        assert_eq!(peer.deadline(), Some(s(22)));
        // The answer may come later still.
        assert_eq!(peer.answered(s(13), 9), None);
        assert_eq!(peer.answered(s(13), 10_000), Some(s(3)));
        assert_eq!(peer.answered(s(13), 10_000), None);
    }

    #[test]
    fn without_an_interval_only_asked_pings_are_watched() {
        let mut peer = Liveness::new(None, s(5), s(0));
        assert_eq!(peer.deadline(), None);
        assert_eq!(peer.ping(s(50)), 50_000);
        // A second ping does not extend the patience with the first.
        peer.ping(s(52));
        assert_eq!(peer.deadline(), Some(s(55)));
        assert_eq!(peer.due(s(55)), Due::Dead(s(55)));
    }

    #[test]
    fn timestamps_wrap() {
        assert_eq!(wrapping_milliseconds(Duration::from_millis(1 << 32)), 0);
        assert_eq!(wrapping_milliseconds(Duration::MAX), u32::MAX);
    }
}
