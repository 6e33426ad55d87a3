//! When what has come is sent to viewers.
//!
//! A send costs the kernel some four microseconds however little it carries, so what fan-out costs is the number of sends and
//! not the bytes. Frames therefore wait for company where nobody notices:
//! - a picture is sent as it comes, and everything that waits goes with it;
//! - audio waits for the next picture, for [`FlushPolicy::beside_video`] at most;
//! - in a stream without video, audio waits for [`FlushPolicy::alone`] at most;
//! - an application may have everything wait for a time of its own;
//! - what happens to the stream (a publisher comes or goes) never waits.
//!
//! [`Pace`] is for the other reason to wait: a worker that has no time. The next walk over the viewers begins only after a
//! rest that grows with the time that the last one took, so that on a busy processor frames gather, each send carries more of
//! them, and there is time left for everything else.

use std::time::{Duration, Instant};

use headwater_media::frame::FrameKind;

use crate::config::FanoutSection;
use crate::hub::Entry;
use headwater_application::ApplicationSection;

/// The rest after a walk is this part of the time that the walk took: walks take four fifths of the time at most.
const REST: u32 = 4;
/// The longest rest. A walk that takes so long that this matters has a worse problem.
const LONGEST_REST: Duration = Duration::from_millis(100);

/// How long frames of a stream may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlushPolicy {
    /// How long everything waits, if the application says so.
    together: Option<Duration>,
    /// How long audio waits for a picture.
    beside_video: Duration,
    /// How long audio waits in a stream without video.
    alone: Duration,
}

impl FlushPolicy {
    pub(crate) fn new(application: &ApplicationSection, fanout: &FanoutSection) -> Self {
        let flush = Duration::from_millis(application.flush_ms);
        Self {
            together: (!flush.is_zero()).then_some(flush),
            beside_video: Duration::from_millis(fanout.audio_wait_ms),
            alone: Duration::from_millis(fanout.audio_only_wait_ms),
        }
    }
}

/// What has come and was not sent yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// When the oldest of it came.
    since: Option<Instant>,
    /// Some of it does not wait.
    urgent: bool,
}

impl Held {
    /// An entry came.
    pub(crate) fn add(&mut self, policy: &FlushPolicy, entry: &Entry, now: Instant) {
        self.since.get_or_insert(now);
        self.urgent |= match entry {
            Entry::Published | Entry::Unpublished => true,
            Entry::Frame(entry) => {
                let picture = entry.frame.kind == FrameKind::Video && !entry.frame.is_header();
                picture && policy.together.is_none()
            }
        };
    }

    /// When the oldest of it came, if there is anything.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// When it is to be sent. `None` if there is nothing; a time that has passed means now.
    pub(crate) fn due(&self, policy: &FlushPolicy, has_video: bool) -> Option<Instant> {
        let since = self.since?;
        if self.urgent {
            return Some(since);
        }
        let wait = match policy.together {
            Some(together) => together,
            None if has_video => policy.beside_video,
            None => policy.alone,
        };
        Some(since + wait)
    }
}

/// How soon one walk may follow another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    rested: Option<Instant>,
}

impl Pace {
    /// A walk began and ended at these times.
    pub(crate) fn walked(&mut self, begun: Instant, ended: Instant) {
        let rest = ended.saturating_duration_since(begun) / REST;
        self.rested = Some(ended + rest.min(LONGEST_REST));
    }

    /// When a walk that is due may begin.
    pub(crate) fn after_rest(&self, due: Instant) -> Instant {
        self.rested.map_or(due, |rested| rested.max(due))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use headwater_media::frame::{Frame, FrameFlags, Offset};

    use super::*;
    use crate::hub::{StreamEntry, WireFrame};

    fn policy(flush_ms: u64) -> FlushPolicy {
        FlushPolicy::new(
            &ApplicationSection {
                flush_ms,
                ..ApplicationSection::default()
            },
            &FanoutSection {
                audio_wait_ms: 50,
                audio_only_wait_ms: 60,
                ..FanoutSection::default()
            },
        )
    }

    fn entry(kind: FrameKind, flags: FrameFlags) -> Entry {
        let frame = Frame {
            offset: Offset::default(),
            timestamp: 0,
            kind,
            flags,
            payload: Bytes::from_static(&[0x27, 1, 0, 0, 0]),
        };
        Entry::Frame(StreamEntry {
            frame: Arc::new(WireFrame::new(&frame, 65_536)),
            preface: Arc::default(),
        })
    }

    /// How long after the first of these entries, which come 10 ms apart, they are sent.
    fn wait(flush_ms: u64, has_video: bool, entries: &[Entry]) -> Option<u64> {
        let policy = policy(flush_ms);
        let start = Instant::now();
        let mut held = Held::default();
        for (number, entry) in (0..).zip(entries) {
            held.add(&policy, entry, start + Duration::from_millis(10) * number);
        }
        let due = held.due(&policy, has_video)?;
        Some((due - start).as_millis() as u64)
    }

    #[test]
    fn frames_wait_where_nobody_notices() {
        let audio = || entry(FrameKind::Audio, FrameFlags::empty());
        let video = || entry(FrameKind::Video, FrameFlags::empty());
        let header = || entry(FrameKind::Video, FrameFlags::HEADER);
        let data = || entry(FrameKind::Data, FrameFlags::empty());
        // The application's bound, whether there is video, what came: how long it waits.
        let cases = [
            (0, true, vec![], None),
            (0, true, vec![video()], Some(0)),
            (0, true, vec![audio()], Some(50)),
            (0, true, vec![audio(), audio()], Some(50)),
            (0, true, vec![audio(), video()], Some(0)),
            (0, true, vec![header()], Some(50)),
            (0, true, vec![data(), audio()], Some(50)),
            (0, false, vec![audio(), audio()], Some(60)),
            (350, true, vec![video(), audio()], Some(350)),
            (350, false, vec![audio()], Some(350)),
            (20, true, vec![audio(), video()], Some(20)),
            (350, true, vec![video(), Entry::Unpublished], Some(0)),
            (0, false, vec![Entry::Published], Some(0)),
        ];
        for (flush_ms, has_video, entries, expected) in cases {
            assert_eq!(
                wait(flush_ms, has_video, &entries),
                expected,
                "{flush_ms} ms, video {has_video}: {entries:?}"
            );
        }
    }

    #[test]
    fn a_long_walk_is_followed_by_a_rest() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.after_rest(at(5)), at(5));
        pace.walked(at(0), at(8));
        assert_eq!(pace.after_rest(at(33)), at(33), "there was time enough");
        pace.walked(at(0), at(40));
        assert_eq!(pace.after_rest(at(33)), at(50));
        pace.walked(at(0), at(4_000));
        assert_eq!(pace.after_rest(at(33)), at(4_100));
    }
}
