//! Which frames wait for company on their way to the owner.
//!
//! A message between nodes costs much the same whatever it carries. Viewers get audio with the next picture (see
//! `fanout::flush`), so audio may as well travel with it, and a stream of 30 pictures and 47 pieces of sound a second is 30
//! messages a second on every node that it comes through. Only audio waits, only while there are pictures, and not for long.

use std::time::Duration;

use headwater_media::frame::{FrameFlags, FrameKind};
use tokio::time::Instant;

/// A stream without a picture for this long has none to wait for.
const PICTURE_WITHIN: Duration = Duration::from_millis(250);

/// What waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Company {
    longest: Duration,
    last_picture: Option<Instant>,
    /// Since when something waits.
    since: Option<Instant>,
    /// Something that came does not wait.
    complete: bool,
}

impl Company {
    /// Audio waits for `longest` at most.
    pub(crate) const fn new(longest: Duration) -> Self {
        Self {
            longest,
            last_picture: None,
            since: None,
            complete: false,
        }
    }

    /// A frame came.
    pub(crate) fn came(&mut self, kind: FrameKind, flags: FrameFlags, now: Instant) {
        self.since.get_or_insert(now);
        let plain = flags.is_empty();
        match kind {
            FrameKind::Audio if plain && self.expects_picture(now) => {}
            FrameKind::Video => {
                self.last_picture = Some(now);
                self.complete = true;
            }
            FrameKind::Audio | FrameKind::Data => self.complete = true,
        }
    }

    /// When what is unsent is to be sent; a time that has passed means now. What nobody announced does not wait.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        match self.since {
            Some(since) if !self.complete => since + self.longest,
            _ => now,
        }
    }

    /// Everything was sent.
    pub(crate) fn left(&mut self) {
        self.since = None;
        self.complete = false;
    }

    fn expects_picture(&self, now: Instant) -> bool {
        self.last_picture
            .is_some_and(|last| now.saturating_duration_since(last) < PICTURE_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: FrameFlags = FrameFlags::empty();

    #[test]
    fn audio_waits_for_a_picture_that_will_come() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut company = Company::new(Duration::from_millis(50));
        assert_eq!(company.due(at(0)), at(0), "left over from a break");
        company.came(FrameKind::Audio, NONE, at(0));
        assert_eq!(company.due(at(0)), at(0), "no picture yet");
        company.left();
        company.came(FrameKind::Video, FrameFlags::KEY, at(10));
        assert_eq!(company.due(at(10)), at(10));
        company.left();
        company.came(FrameKind::Audio, NONE, at(20));
        company.came(FrameKind::Audio, NONE, at(40));
        assert_eq!(company.due(at(40)), at(70));
        company.came(FrameKind::Video, NONE, at(43));
        assert_eq!(company.due(at(43)), at(43));
        company.left();
        // The picture is gone.
        company.came(FrameKind::Audio, NONE, at(300));
        assert_eq!(company.due(at(300)), at(300));
    }

    #[test]
    fn headers_and_data_do_not_wait() {
        let now = Instant::now();
        for (kind, flags) in [
            (FrameKind::Audio, FrameFlags::HEADER),
            (FrameKind::Data, NONE),
            (FrameKind::Data, FrameFlags::METADATA),
        ] {
            let mut company = Company::new(Duration::from_millis(50));
            company.came(FrameKind::Video, NONE, now);
            company.left();
            company.came(kind, flags, now);
            assert_eq!(company.due(now), now, "{kind:?}");
        }
    }
}
