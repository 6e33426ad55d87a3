//! The hub's ring as one worker sees it: shared pointers to the same entries, looked at without a lock.
//!
//! Entries come in with [`Mirror::refresh`] and are held until [`Mirror::release`]: viewers get only what is released, all of
//! them the same, so that one walk serves them with one send each.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use headwater_media::frame::FrameKind;
use headwater_rtmp::message::Message;

use super::flush::{FlushPolicy, Held};
use crate::hub::{Entry, Hub};

/// Most entries, and most bytes, of a [`Portion`]. What is more is not from one flush: whoever needs it is behind.
const PORTION_ENTRIES: u64 = 128;
const PORTION_BYTES: usize = 128 * 1024;

/// What one worker knows of a stream.
pub(crate) struct Mirror {
    policy: FlushPolicy,
    base: u64,
    /// The entries, and when they came to this worker.
    entries: VecDeque<(Entry, Instant)>,
    /// Number of the first entry that viewers do not get yet.
    released: u64,
    held: Held,
    /// Media time of the newest frame that is released, in milliseconds.
    newest_time: u64,
    /// Where a viewer that joins or jumps starts.
    live_start: u64,
    /// What these two will be when all is released.
    next_time: u64,
    next_start: u64,
    has_video: bool,
}

impl Mirror {
    pub(super) fn new(policy: FlushPolicy) -> Self {
        Self {
            policy,
            base: 0,
            entries: VecDeque::new(),
            released: 0,
            held: Held::default(),
            newest_time: 0,
            live_start: 0,
            next_time: 0,
            next_start: 0,
            has_video: false,
        }
    }

    /// Number of the oldest entry.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Number of the first entry that viewers do not get yet.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    pub(crate) fn live_start(&self) -> u64 {
        self.live_start.max(self.base)
    }

    pub(crate) fn newest_time(&self) -> u64 {
        self.newest_time
    }

    /// A released entry, and when it came to this worker.
    pub(crate) fn entry(&self, number: u64) -> Option<&(Entry, Instant)> {
        if number >= self.released {
            return None;
        }
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.entries.get(index)
    }

    /// Takes over what is new in the hub's ring, and holds it.
    pub(super) fn refresh(&mut self, hub: &Hub) {
        let known = self.base + self.entries.len() as u64;
        let (pulled, live_start, has_video) =
            hub.look(|ring| (ring.pull(known), ring.live_start(), ring.has_video()));
        if pulled.first != known {
            // The ring has moved past this worker: its viewers fall out and jump.
            self.entries.clear();
            self.base = pulled.first;
        }
        while self.base < pulled.base && self.entries.pop_front().is_some() {
            self.base += 1;
        }
        let now = Instant::now();
        for entry in pulled.entries {
            if let Entry::Frame(frame) = &entry {
                self.next_time = frame.frame.timestamp;
            }
            self.held.add(&self.policy, &entry, now);
            self.entries.push_back((entry, now));
        }
        self.next_start = live_start;
        self.has_video = has_video;
        if self.entries.capacity() > 256 && self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    /// When what is held is to be released. `None` if nothing is.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.released == 0 {
            // The first viewers wait for a picture, and nobody has anything yet that this could be sent together with.
            return self.held.since();
        }
        self.held.due(&self.policy, self.has_video)
    }

    /// Lets viewers have everything that has come.
    pub(super) fn release(&mut self) {
        self.released = self.base + self.entries.len() as u64;
        self.newest_time = self.next_time;
        self.live_start = self.next_start;
        self.held = Held::default();
    }

    /// Everything that is released from an entry on, in one piece. `None` if there is nothing, or if that is not for all
    /// viewers alike: a status in between, or so much that they have to be looked at one by one.
    fn portion(&self, first: u64) -> Option<Portion> {
        let count = self.released.checked_sub(first)?;
        if first < self.base || count == 0 || count > PORTION_ENTRIES {
            return None;
        }
        let skip = usize::try_from(first - self.base).ok()?;
        let frames = || {
            let taken = self.entries.iter().skip(skip).take(count as usize);
            taken.map(|(entry, _)| match entry {
                Entry::Frame(entry) => Some(&entry.frame),
                Entry::Published | Entry::Unpublished => None,
            })
        };
        let (mut length, mut pictures) = (0_usize, 0);
        for frame in frames() {
            let frame = frame?;
            length = length.saturating_add(frame.wire_length());
            pictures += u64::from(frame.kind == FrameKind::Video && !frame.is_header());
        }
        if length > PORTION_BYTES {
            return None;
        }
        let bytes = if count == 1 {
            frames().flatten().next()?.shared().clone()
        } else {
            let mut bytes = BytesMut::with_capacity(length);
            for frame in frames().flatten() {
                bytes.extend_from_slice(frame.shared());
            }
            bytes.freeze()
        };
        Some(Portion {
            first,
            end: self.released,
            pictures,
            bytes,
            messages: OnceCell::new(),
        })
    }
}

/// What viewers that are up to date get next: the same bytes for all of them.
pub(crate) struct Portion {
    first: u64,
    end: u64,
    pictures: u64,
    bytes: Bytes,
    messages: OnceCell<Vec<Message>>,
}

impl Portion {
    /// Number of the first entry after it.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// How many frames it has.
    pub(crate) fn frames(&self) -> u64 {
        self.end - self.first
    }

    /// How many of them are pictures.
    pub(crate) fn pictures(&self) -> u64 {
        self.pictures
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The messages that the bytes are the chunks of. Made when they are asked for, once; `mirror` is the one that it is of.
    pub(crate) fn messages(&self, mirror: &Mirror) -> &[Message] {
        self.messages.get_or_init(|| {
            let entries = (self.first..self.end).filter_map(|number| mirror.entry(number));
            let messages = entries.filter_map(|(entry, _)| match entry {
                Entry::Frame(entry) => Some(entry.frame.message()),
                Entry::Published | Entry::Unpublished => None,
            });
            messages.collect()
        })
    }
}

/// The portion that was asked for last: nearly all viewers of a walk need the same.
#[derive(Default)]
pub(crate) struct Portions {
    /// From which entry on, and up to which; and the first one that was there, because messages are made later than bytes.
    asked: Option<(u64, u64, u64)>,
    portion: Option<Portion>,
}

impl Portions {
    /// What is released from an entry on, see [`Mirror::portion`].
    pub(crate) fn get(&mut self, mirror: &Mirror, first: u64) -> Option<&Portion> {
        let asked = Some((first, mirror.released, first.max(mirror.base)));
        if self.asked != asked {
            self.asked = asked;
            self.portion = mirror.portion(first);
        }
        self.portion.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_media::frame::{Epoch, Frame, FrameFlags, Offset};
    use headwater_media::name::StreamName;

    use super::*;
    use crate::config::FanoutSection;
    use crate::hub::RingLimits;
    use headwater_application::ApplicationSection;

    const LIMITS: RingLimits = RingLimits {
        duration_ms: 4_000,
        bytes: 1 << 20,
        entries: 1_000,
    };

    fn hub() -> Hub {
        let hub = Hub::new(StreamName::new("v", "live", "i", "s").unwrap(), LIMITS);
        hub.update(|ring| ring.open(true, Epoch(1), &[], 65_536));
        hub
    }

    fn push(hub: &Hub, sequence: u64, kind: FrameKind) {
        let frame = Frame {
            offset: Offset {
                epoch: Epoch(1),
                sequence,
            },
            timestamp: sequence * 20,
            kind,
            flags: if sequence == 0 {
                FrameFlags::KEY
            } else {
                FrameFlags::empty()
            },
            payload: Bytes::from(vec![sequence as u8; 100]),
        };
        hub.update(|ring| ring.push(&frame, 65_536));
    }

    fn mirror(flush_ms: u64) -> Mirror {
        let application = ApplicationSection {
            flush_ms,
            ..ApplicationSection::default()
        };
        Mirror::new(FlushPolicy::new(&application, &FanoutSection::default()))
    }

    #[test]
    fn viewers_get_what_is_released_and_nothing_else() {
        let hub = hub();
        let mut mirror = mirror(0);
        push(&hub, 0, FrameKind::Video);
        mirror.refresh(&hub);
        assert!(mirror.entry(0).is_none());
        mirror.release();
        assert!(mirror.entry(0).is_some());
        push(&hub, 1, FrameKind::Audio);
        mirror.refresh(&hub);
        assert!(mirror.entry(1).is_none() && mirror.released() == 1);
        assert!(mirror.due().is_some_and(|due| due > Instant::now()));
        push(&hub, 2, FrameKind::Video);
        mirror.refresh(&hub);
        assert!(mirror.due().is_some_and(|due| due <= Instant::now()));
    }

    #[test]
    fn the_first_of_a_stream_is_not_held() {
        let hub = hub();
        let mut mirror = mirror(350);
        assert_eq!(mirror.due(), None);
        push(&hub, 0, FrameKind::Video);
        mirror.refresh(&hub);
        assert!(mirror.due().is_some_and(|due| due <= Instant::now()));
        mirror.release();
        push(&hub, 1, FrameKind::Video);
        mirror.refresh(&hub);
        let in_a_while = Instant::now() + Duration::from_millis(200);
        assert!(mirror.due().is_some_and(|due| due > in_a_while));
    }

    #[test]
    fn a_portion_is_the_wire_form_of_what_is_released() {
        let hub = hub();
        let mut mirror = mirror(0);
        for (sequence, kind) in [FrameKind::Video, FrameKind::Audio, FrameKind::Video]
            .into_iter()
            .enumerate()
        {
            push(&hub, sequence as u64, kind);
        }
        mirror.refresh(&hub);
        mirror.release();
        let wire: Vec<u8> = (0..3)
            .flat_map(|number| match mirror.entry(number) {
                Some((Entry::Frame(entry), _)) => entry.frame.shared().to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        let mut portions = Portions::default();
        let portion = portions.get(&mirror, 0).expect("a portion");
        assert_eq!(portion.bytes()[..], wire[..]);
        assert_eq!(
            (portion.end(), portion.frames(), portion.pictures()),
            (3, 3, 2)
        );
        let last = portions.get(&mirror, 2).expect("a portion");
        assert!(wire.ends_with(last.bytes()));
        assert!(portions.get(&mirror, 3).is_none(), "nothing is left");
        // A status is not the same for all.
        hub.update(|ring| ring.set_unpublished());
        mirror.refresh(&hub);
        mirror.release();
        assert!(portions.get(&mirror, 2).is_none());
    }

    #[test]
    fn a_portion_of_which_the_beginning_has_gone_is_none() {
        let hub = hub();
        let mut mirror = mirror(0);
        for sequence in 0..3 {
            push(&hub, sequence, FrameKind::Video);
        }
        mirror.refresh(&hub);
        mirror.release();
        let mut portions = Portions::default();
        let portion = portions.get(&mirror, 0).expect("three frames");
        assert_eq!(portion.frames(), 3);
        for sequence in 3..1_500 {
            push(&hub, sequence, FrameKind::Video);
        }
        mirror.refresh(&hub);
        assert!(mirror.base() > 0);
        assert!(portions.get(&mirror, 0).is_none());
    }
}
