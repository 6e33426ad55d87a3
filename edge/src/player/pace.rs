//! How far ahead of its viewer a recorded stream is sent.
//!
//! The viewer's clock runs from where playback began, was sought to or went on. Media is sent whenever less of it than the
//! viewer's buffer lies before that clock, and then a whole piece of it: so the viewer always has as much as it asked for, sends are
//! few and large, and nothing is asked for before it is needed. A viewer that could not be served in time is not chased: its
//! clock waits.

use std::time::Duration;

/// What an operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pacing {
    /// How far ahead media is sent at least, whatever the client asks for.
    pub(crate) least: Duration,
    /// How far ahead at most.
    pub(crate) most: Duration,
}

/// The clock of one viewer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// Media time in milliseconds that the viewer was at, and when.
    media: u64,
    since: Duration,
}

impl Clock {
    /// The viewer is here now.
    pub(super) const fn start(now: Duration, media: u64) -> Self {
        Self { media, since: now }
    }

    /// Where the viewer is, in milliseconds.
    pub(super) fn position(&self, now: Duration) -> u64 {
        let passed = milliseconds(now.saturating_sub(self.since));
        self.media.saturating_add(passed)
    }

    /// Media was sent up to `until`: if the viewer's clock has passed that, the viewer ran dry there and waits.
    pub(super) fn wait_at(&mut self, now: Duration, until: u64) {
        if self.position(now) > until {
            *self = Self::start(now, until);
        }
    }

    /// When less than `ahead` of what is sent up to `until` lies before the viewer.
    pub(super) fn due(&self, until: u64, ahead: Duration) -> Duration {
        let left = until.saturating_sub(self.media);
        let wait = left.saturating_sub(milliseconds(ahead));
        self.since.saturating_add(Duration::from_millis(wait))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn media_is_due_when_less_than_the_buffer_is_left() {
        let clock = Clock::start(ms(50_000), 10_000);
        assert_eq!(clock.position(ms(51_500)), 11_500);
        for (until, ahead, due) in [
            (10_000, 2_000, 50_000),
            (12_000, 2_000, 50_000),
            (14_000, 2_000, 52_000),
            (14_000, 3_600_000, 50_000),
            (9_000, 0, 50_000),
            (70_000, 0, 110_000),
        ] {
            assert_eq!(
                clock.due(until, ms(ahead)),
                ms(due),
                "{until} ms sent, {ahead} ms of buffer"
            );
        }
    }

    #[test]
    fn a_viewer_that_ran_dry_waits() {
        let mut clock = Clock::start(ms(0), 0);
        clock.wait_at(ms(3_000), 4_000);
        assert_eq!(clock.position(ms(3_000)), 3_000, "it has a second left");
        clock.wait_at(ms(9_000), 4_000);
        assert_eq!(clock.position(ms(9_000)), 4_000);
        assert_eq!(clock.due(6_500, ms(2_000)), ms(9_500));
    }

    #[test]
    fn no_number_is_too_large() {
        let clock = Clock::start(ms(5), u64::MAX - 1);
        assert_eq!(clock.position(ms(500)), u64::MAX);
        assert_eq!(
            Clock::start(ms(5), 0).due(u64::MAX, ms(0)).as_millis(),
            u128::from(u64::MAX) + 5
        );
    }
}
