//! The fragments of a stream that a publisher has for its neighbours: numbered without a gap, the newest at the end.
//!
//! Always: no fragment is older than the time that it was made for, and all together have no more bytes than was allowed. What goes first is
//! the oldest. A neighbour that wants more than there is gets nothing for it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use headwater_rtmp::message::Message;

use super::message::Fragment;

/// Bytes of a message in one fragment, where it is not too long for that: with all that is around it a fragment is one datagram.
const FRAGMENT: usize = 959;

/// Fragments of one message: the number of those that follow is one byte.
const MOST_FRAGMENTS: usize = 256;

/// What a kept fragment costs beside its bytes.
const OVERHEAD: usize = 64;

#[derive(Debug)]
struct Entry {
    since: Duration,
    message: Bytes,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    /// The number of the next fragment.
    next: u64,
    bytes: usize,
    for_long: Duration,
    most_bytes: usize,
}

impl Kept {
    pub(super) fn new(for_long: Duration, most_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            next: 1,
            bytes: 0,
            for_long,
            most_bytes,
        }
    }

    /// Cuts a message up. An empty one is left out: nobody could tell it from none.
    pub(super) fn push(&mut self, now: Duration, message: &Message) {
        let size = message.payload.len().div_ceil(MOST_FRAGMENTS).max(FRAGMENT);
        let count = message.payload.len().div_ceil(size);
        for (at, data) in message.payload.chunks(size).enumerate() {
            let fragment = Fragment {
                number: self.next,
                left: u8::try_from(count - at - 1).unwrap_or(u8::MAX),
                head: (at == 0).then_some((message.kind, message.timestamp)),
                data,
            };
            let message = fragment.to_message();
            self.next += 1;
            self.bytes += message.len() + OVERHEAD;
            self.entries.push_back(Entry {
                since: now,
                message,
            });
        }
        self.forget(now);
    }

    /// Lets go of what is too old, or too much.
    pub(super) fn forget(&mut self, now: Duration) {
        while let Some(oldest) = self.entries.front()
            && (self.bytes > self.most_bytes || now >= oldest.since + self.for_long)
        {
            self.bytes -= oldest.message.len() + OVERHEAD;
            self.entries.pop_front();
        }
    }

    /// The oldest and the newest number that there are.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        let count = u64::try_from(self.entries.len()).ok()?;
        (count > 0).then(|| (self.next - count, self.next - 1))
    }

    /// The number of the newest fragment that there was; 0 before there was one.
    pub(super) fn newest(&self) -> u64 {
        self.next - 1
    }

    /// A fragment as a message.
    pub(super) fn get(&self, number: u64) -> Option<&Bytes> {
        let (oldest, _) = self.range()?;
        let at = usize::try_from(number.checked_sub(oldest)?).ok()?;
        self.entries.get(at).map(|entry| &entry.message)
    }
}

#[cfg(test)]
mod tests {
    use headwater_rtmp::message::MessageType;

    use super::super::message::Said;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn video(length: usize) -> Message {
        Message {
            kind: MessageType::VIDEO,
            timestamp: 40,
            stream_id: 1,
            payload: (0..length).map(|at| at as u8).collect(),
        }
    }

    fn fragment(kept: &Kept, number: u64) -> Fragment<'_> {
        match Said::read(kept.get(number).unwrap()) {
            Ok(Said::Fragment(fragment)) => fragment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_cut_so_that_each_fragment_says_how_many_follow() {
        for (length, count) in [
            (1, 1),
            (FRAGMENT, 1),
            (FRAGMENT + 1, 2),
            (FRAGMENT * 3, 3),
            (FRAGMENT * 256, 256),
            // Longer ones have longer fragments.
            (FRAGMENT * 256 + 1, 256),
            (1_000_000, 256),
        ] {
            let mut kept = Kept::new(SECOND, usize::MAX);
            let message = video(length);
            kept.push(SECOND, &message);
            assert_eq!(kept.range(), Some((1, count)), "{length}");
            let mut whole = Vec::new();
            for number in 1..=count {
                let fragment = fragment(&kept, number);
                assert_eq!(u64::from(fragment.left), count - number);
                let head = (number == 1).then_some((MessageType::VIDEO, 40));
                assert_eq!((fragment.number, fragment.head), (number, head));
                whole.extend_from_slice(fragment.data);
            }
            assert_eq!(whole, message.payload);
        }
        let mut kept = Kept::new(SECOND, usize::MAX);
        kept.push(SECOND, &video(0));
        assert_eq!((kept.range(), kept.newest()), (None, 0));
    }

    #[test]
    fn what_is_old_or_too_much_goes_and_numbers_stay() {
        let mut kept = Kept::new(SECOND * 10, 3_000);
        for second in 1..=5 {
            kept.push(SECOND * second, &video(500));
        }
        assert_eq!(kept.range(), Some((1, 5)));
        kept.push(SECOND * 6, &video(500));
        assert_eq!(kept.range(), Some((2, 6)), "too many bytes");
        assert!(kept.get(1).is_none() && kept.get(7).is_none() && kept.get(2).is_some());
        kept.forget(SECOND * 14);
        assert_eq!(kept.range(), Some((5, 6)), "too old");
        kept.forget(SECOND * 60);
        assert_eq!((kept.range(), kept.newest(), kept.bytes), (None, 6, 0));
        kept.push(SECOND * 60, &video(1));
        assert_eq!(kept.range(), Some((7, 7)));
        // One message alone is more than may be kept: its end is.
        kept.push(SECOND * 60, &video(10_000));
        assert!(kept.bytes <= 3_000);
        assert_eq!(kept.range().unwrap().1, kept.newest());
    }
}
