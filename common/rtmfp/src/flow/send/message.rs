//! Messages that wait to be sent, or to be acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::wire::user_data::Part;

/// The longest head of a message, in bytes.
const MAX_HEAD: usize = 16;

/// What a waiting message costs beside its bytes.
const OVERHEAD: usize = 64;

/// The longest message, in bytes: one of RTMP with its header. A longer one cannot be made.
const MAX_LENGTH: usize = 0x00ff_ffff + MAX_HEAD;

/// A message within its flow, in the order in which they were given. Serves to abandon it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    /// Greater than any other.
    pub(crate) const AFTER_ALL: Self = Self(u64::MAX);
}

/// The first bytes of a message, which are not shared: at most 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; MAX_HEAD],
    length: u8,
}

impl Head {
    /// Nothing.
    pub const EMPTY: Self = Self {
        bytes: [0; MAX_HEAD],
        length: 0,
    };

    /// These bytes.
    ///
    /// # Panics
    /// While compiling, where they are more than 16.
    #[must_use]
    pub const fn new<const N: usize>(head: [u8; N]) -> Self {
        const { assert!(N <= MAX_HEAD, "a head has at most 16 bytes") };
        let mut bytes = [0; MAX_HEAD];
        let mut at = 0;
        while at < N {
            bytes[at] = head[at];
            at += 1;
        }
        Self {
            bytes,
            length: N as u8,
        }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

/// The bytes of a message: a head of its own, and a body that others may share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// What comes first.
    pub head: Head,
    /// What comes then. Never copied but into packets.
    pub shared: Bytes,
}

impl Body {
    /// Their length, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.head.length) + self.shared.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no message may be so long.
    pub(in crate::flow) fn is_too_long(&self) -> bool {
        self.len() > MAX_LENGTH
    }
}

impl From<Bytes> for Body {
    fn from(shared: Bytes) -> Self {
        Self {
            head: Head::EMPTY,
            shared,
        }
    }
}

/// A message to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// What it says.
    pub body: Body,
    /// Given up if nothing of it was sent by then.
    pub start_by: Option<Duration>,
    /// Given up if it has not come by then, as far as is known here.
    pub finish_by: Option<Duration>,
}

impl From<Body> for Outgoing {
    fn from(body: Body) -> Self {
        Self {
            body,
            start_by: None,
            finish_by: None,
        }
    }
}

/// When the far end is to be told of messages that were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GapWhen {
    /// Together with the next message.
    WithNext,
    /// At once: a message broke off, and the far end holds the beginning.
    Now,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Message {
    body: Body,
    length: u32,
    /// Bytes that were cut off.
    cut: u32,
    /// Whether anything was: an empty message is one fragment, too.
    begun: bool,
    /// Fragments that are not acknowledged.
    waiting: u32,
    abandoned: bool,
    start_by: Option<Duration>,
    finish_by: Option<Duration>,
}

impl Message {
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    fn is_cut(&self) -> bool {
        self.begun && self.cut >= self.length
    }

    fn is_finished(&self) -> bool {
        self.waiting == 0 && (self.abandoned || self.is_cut())
    }

    fn cost(&self) -> usize {
        self.body.len() + OVERHEAD
    }

    /// When it expires if nothing changes.
    pub(super) fn expires(&self) -> Option<Duration> {
        if self.abandoned || self.is_finished() {
            return None;
        }
        let start_by = self.start_by.filter(|_| !self.begun);
        [start_by, self.finish_by].into_iter().flatten().min()
    }

    /// Writes `length` bytes from `offset` on.
    pub(super) fn put(&self, offset: usize, length: usize, out: &mut Vec<u8>) {
        let head = self.body.head.as_slice();
        let end = offset + length;
        let from_head = head.get(offset..end.min(head.len())).unwrap_or_default();
        out.extend_from_slice(from_head);
        let from = offset.saturating_sub(head.len());
        let to = end.saturating_sub(head.len());
        let from_body = self.body.shared.get(from..to).unwrap_or_default();
        out.extend_from_slice(from_body);
    }
}

/// Gives back most of the room of a queue, if most of it is not used: what a viewer gets at first, a group of pictures, is more than ever
/// waits later.
pub(in crate::flow) fn give_back<T>(queue: &mut VecDeque<T>) {
    const KEPT: usize = 32;

    let wanted = (queue.len() * 2).max(KEPT / 2);
    if queue.capacity() > KEPT && queue.capacity() > wanted * 2 {
        queue.shrink_to(wanted);
    }
}

/// Messages of a flow, in their order.
#[derive(Debug, Default)]
pub(in crate::flow) struct Messages {
    list: VecDeque<Message>,
    first: u64,
    /// Nothing before this one is left to be cut.
    cut_from: u64,
    /// What was given up just before that.
    gap: Option<GapWhen>,
    bytes: usize,
    /// No message expires before.
    expires: Option<Duration>,
}

impl Messages {
    /// How many are not over.
    pub(in crate::flow) fn len(&self) -> usize {
        self.list.len()
    }

    pub(in crate::flow) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What they keep in memory, in bytes.
    pub(in crate::flow) fn bytes(&self) -> usize {
        self.bytes
    }

    /// No message expires before.
    pub(in crate::flow) fn expires(&self) -> Option<Duration> {
        self.expires
    }

    pub(super) fn push(&mut self, message: Outgoing) -> MessageId {
        let id = MessageId(self.first + self.list.len() as u64);
        let message = Message {
            length: message.body.len() as u32,
            body: message.body,
            cut: 0,
            begun: false,
            waiting: 0,
            abandoned: false,
            start_by: message.start_by,
            finish_by: message.finish_by,
        };
        self.bytes += message.cost();
        self.expires = [self.expires, message.expires()]
            .into_iter()
            .flatten()
            .min();
        self.list.push_back(message);
        id
    }

    pub(super) fn at(&self, id: MessageId) -> Option<&Message> {
        self.list.get(self.place(id)?)
    }

    fn place(&self, id: MessageId) -> Option<usize> {
        usize::try_from(id.0.checked_sub(self.first)?).ok()
    }

    fn at_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        let place = self.place(id)?;
        self.list.get_mut(place)
    }

    /// Those that can still be given up.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = MessageId> + use<> {
        (self.first..self.first + self.list.len() as u64).map(MessageId)
    }

    /// Those that are too late.
    pub(super) fn expired(&self, now: Duration) -> Vec<MessageId> {
        let late = |message: &Message| message.expires().is_some_and(|at| at <= now);
        let all = (self.first..).map(MessageId).zip(&self.list);
        all.filter(|(_, message)| late(message))
            .map(|(id, _)| id)
            .collect()
    }

    /// Looks again when the first one expires.
    pub(super) fn note_expiry(&mut self) {
        self.expires = self.list.iter().filter_map(Message::expires).min();
    }

    /// Gives one up; not if it is over, or was given up before.
    pub(super) fn abandon(&mut self, id: MessageId) -> bool {
        let found = self.at_mut(id);
        let Some(message) = found.filter(|found| !found.abandoned && !found.is_finished()) else {
            return false;
        };
        message.abandoned = true;
        // Its bytes will not be sent again.
        let freed = message.body.len();
        message.body = Body::default();
        self.bytes -= freed;
        self.pass_cut();
        self.drop_finished();
        true
    }

    /// The first message of which something was not sent.
    pub(super) fn next_uncut(&self) -> Option<&Message> {
        let message = self.at(MessageId(self.cut_from))?;
        (!message.abandoned && !message.is_cut()).then_some(message)
    }

    /// What was given up just before that message, or at the end.
    pub(super) fn gap(&self) -> Option<GapWhen> {
        self.gap
    }

    /// A fragment tells of it.
    pub(super) fn gap_is_told(&mut self) {
        self.gap = None;
    }

    /// Goes on to the next message of which something may be cut.
    fn pass_cut(&mut self) {
        while let Some(message) = self.at(MessageId(self.cut_from))
            && (message.abandoned || message.is_cut())
        {
            if !message.is_cut() {
                let now = message.begun || self.gap == Some(GapWhen::Now);
                self.gap = Some(if now { GapWhen::Now } else { GapWhen::WithNext });
            }
            self.cut_from += 1;
        }
    }

    /// Cuts at most `most` bytes off that message: whose fragment, from where, of which length, and which part it is. `None` where it is
    /// better to wait for the next packet; with `now` it never is.
    pub(super) fn cut(
        &mut self,
        most: usize,
        least: usize,
        now: bool,
    ) -> Option<(MessageId, u32, u16, Part)> {
        let id = MessageId(self.cut_from);
        let message = self.at_mut(id)?;
        let left = (message.length - message.cut) as usize;
        let most = if now { most.max(least) } else { most };
        let length = left.min(most).min(usize::from(u16::MAX) - 1_024);
        if !now && length < left && length < least {
            return None;
        }
        let offset = message.cut;
        let end = offset + length as u32;
        let part = Part::of(offset as usize, end as usize, message.length as usize);
        message.cut = end;
        message.begun = true;
        message.waiting += 1;
        self.pass_cut();
        Some((id, offset, length as u16, part))
    }

    /// A fragment will not be sent again.
    pub(super) fn settle(&mut self, id: Option<MessageId>) {
        if let Some(message) = id.and_then(|id| self.at_mut(id)) {
            message.waiting = message.waiting.saturating_sub(1);
            if message.is_finished() {
                let freed = message.body.len();
                message.body = Body::default();
                self.bytes -= freed;
            }
        }
        self.drop_finished();
    }

    pub(super) fn give_back(&mut self) {
        give_back(&mut self.list);
    }

    pub(super) fn shrink(&mut self) {
        self.list.shrink_to_fit();
    }

    /// Forgets those at the head that are over.
    pub(super) fn drop_finished(&mut self) {
        while self.list.front().is_some_and(Message::is_finished) {
            if let Some(message) = self.list.pop_front() {
                self.bytes -= message.cost();
            }
            self.first += 1;
        }
    }
}
