//! A flow that comes from the far end: RFC 7016 section 3.6.3.
//!
//! Always: what is held back costs at most the window, and the open message at most its own bound; a sequence number is in the set of
//! those that came only if its data were taken, were abandoned, or are not wanted, so what found no room will be sent again.

mod assembly;
mod sequence;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use self::assembly::{Assembly, Item, OVERHEAD};
use self::sequence::{Seen, SequenceSet};
use super::{Order, SendId};
use crate::wire::acknowledgement::{self, BLOCK};
use crate::wire::user_data::UserData;

/// A window of fewer blocks than this was nearly closed: what comes then is acknowledged at once.
const NARROW: u64 = 2;

/// What the application is to be told next of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Opened {
        metadata: Bytes,
        association: Option<SendId>,
    },
    Message(Bytes),
    Gap,
    Finished,
    Broken,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is part of the flow now, or was before.
    Yes,
    /// There was no room. It will be sent again.
    NoRoom,
    /// A message is longer than may be: the flow is to be rejected.
    TooLong,
    /// It contradicts what came before.
    Nonsense,
}

/// Bounds for a fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes that one flow may hold back.
    pub(super) window: usize,
    /// The longest message, in bytes.
    pub(super) message: usize,
    /// Bytes that are left for the whole session.
    pub(super) session: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Rejected(u64),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct ReceiveFlow {
    state: State,
    set: SequenceSet,
    last: Option<u64>,
    assembly: Assembly,
    /// What nobody has taken yet.
    ready: VecDeque<Told>,
    ready_bytes: usize,
    suspended: bool,
    /// The same, for the synchronisation of flows.
    held: bool,
    /// Whether an acknowledgement is due. Kept by the set of flows.
    pub(super) acknowledge: bool,
    /// Blocks that the last acknowledgement offered.
    offered: u64,
    /// When a fragment came last.
    pub(super) active: Duration,
}

impl ReceiveFlow {
    pub(super) fn new(metadata: Bytes, association: Option<SendId>) -> Self {
        Self {
            state: State::Open,
            set: SequenceSet::default(),
            last: None,
            assembly: Assembly::new(Order::InOrder),
            ready: VecDeque::from([Told::Opened {
                metadata,
                association,
            }]),
            ready_bytes: 0,
            suspended: false,
            held: false,
            acknowledge: false,
            offered: u64::MAX,
            active: Duration::ZERO,
        }
    }

    /// A flow that the application never hears of.
    pub(super) fn rejected(code: u64) -> Self {
        let mut flow = Self::new(Bytes::new(), None);
        flow.reject(code);
        flow
    }

    /// Gives back memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.ready.shrink_to_fit();
        self.assembly.shrink();
    }

    /// The exception of a flow that is not wanted.
    pub(super) fn exception(&self) -> Option<u64> {
        match self.state {
            State::Open => None,
            State::Rejected(code) => Some(code),
        }
    }

    /// Bytes that the flow keeps in memory.
    pub(super) fn buffered(&self) -> usize {
        self.assembly.open_bytes() + self.assembly.held_bytes() + self.ready_bytes
    }

    /// Everything up to this number has come.
    pub(super) fn cumulative(&self) -> u64 {
        self.set.cumulative()
    }

    /// Whether all that there will ever be has come.
    pub(super) fn is_complete(&self) -> bool {
        self.last.is_some_and(|last| self.set.cumulative() >= last)
    }

    /// Whether the application has yet to take something.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many things the application has yet to take.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn set_order(&mut self, order: Order) {
        self.assembly.set_order(order);
        self.collect();
    }

    /// Takes a fragment: whether it was taken, and whether it is to be acknowledged at once.
    pub(super) fn handle(&mut self, chunk: &UserData<'_>, room: &Room) -> (Taken, bool) {
        if self.last.is_some_and(|last| chunk.sequence > last) {
            return (Taken::Nonsense, false);
        }
        let mut at_once = self.state != State::Open || self.offered < NARROW || chunk.abandoned;
        if chunk.last && self.last.is_none() {
            if self.set.greatest() > chunk.sequence {
                return (Taken::Nonsense, false);
            }
            self.last = Some(chunk.sequence);
            at_once = true;
        }
        let before = self.set.cumulative();
        let had_gaps = self.set.has_gaps();
        let (taken, news) = self.take(chunk, room);
        at_once |= !news;
        let missing = self.set.forward(chunk.forward);
        let lost = missing > 0 || (news && chunk.abandoned);
        if self.state == State::Open && (self.set.cumulative() > before || lost) {
            self.assembly.advance(self.set.cumulative(), lost);
            self.collect();
        }
        // A hole is told of at once, and so is its end.
        at_once |= had_gaps || self.set.has_gaps();
        if self.is_complete() && self.state == State::Open && !self.finished() {
            self.assembly.clear();
            self.ready.push_back(Told::Finished);
        }
        (taken, at_once)
    }

    fn finished(&self) -> bool {
        self.ready.back() == Some(&Told::Finished)
    }

    /// Whether the fragment has been taken, and whether it is a new one.
    fn take(&mut self, chunk: &UserData<'_>, room: &Room) -> (Taken, bool) {
        let number = chunk.sequence;
        match self.set.look(number) {
            Seen::New => {}
            Seen::Before => return (Taken::Yes, false),
            Seen::NoRoom => return (Taken::NoRoom, true),
        }
        if self.state == State::Open && !chunk.abandoned {
            let admitted = self.admit(number, chunk.data.len(), room);
            if admitted != Taken::Yes {
                return (admitted, true);
            }
            self.assembly.store(number, chunk.part, chunk.data);
        }
        self.set.insert(number);
        (Taken::Yes, true)
    }

    /// Whether a new fragment has room.
    fn admit(&self, number: u64, length: usize, room: &Room) -> Taken {
        let kept_back = self.assembly.held_bytes() + self.ready_bytes;
        let cost = length.saturating_add(OVERHEAD);
        if number != self.set.cumulative() + 1 {
            let fits = kept_back.saturating_add(cost) <= room.window && cost <= room.session;
            return if fits { Taken::Yes } else { Taken::NoRoom };
        }
        // The next one is what everything else waits for: it has room unless the application is the one to blame.
        if self.assembly.open_bytes().saturating_add(length) > room.message {
            Taken::TooLong
        } else if self.ready_bytes > room.window {
            Taken::NoRoom
        } else if cost <= room.session {
            Taken::Yes
        } else if self.ready_bytes > 0 {
            Taken::NoRoom
        } else if self.assembly.open_bytes() == 0 {
            // One fragment of each flow beyond the bound: it may set free what is held behind it.
            Taken::Yes
        } else {
            Taken::TooLong
        }
    }

    /// Moves what is whole to where the application takes it.
    fn collect(&mut self) {
        while let Some(item) = self.assembly.next_item() {
            self.ready_bytes += item.cost();
            self.ready.push_back(match item {
                Item::Gap => Told::Gap,
                Item::Message(payload) => Told::Message(payload),
            });
        }
    }

    /// The next thing for the application; nothing while it has suspended the flow.
    pub(super) fn next_told(&mut self) -> Option<Told> {
        let kept_back = self.suspended || self.held;
        if kept_back && !matches!(self.ready.front(), Some(Told::Opened { .. })) {
            return None;
        }
        let told = self.ready.pop_front()?;
        if let Told::Message(payload) = &told {
            self.ready_bytes -= payload.len() + OVERHEAD;
        }
        Some(told)
    }

    /// Whether the far end should hear that there is room again, after the application took something.
    pub(super) fn has_news_of_room(&self, room: &Room) -> bool {
        let blocks = self.blocks(room);
        let half = (room.window / BLOCK / 2) as u64;
        blocks > self.offered && (self.offered < NARROW || blocks - self.offered > half)
    }

    pub(super) fn set_suspended(&mut self, suspended: bool) {
        self.suspended = suspended;
    }

    pub(super) fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Nothing of the flow is wanted. What was not taken is lost.
    pub(super) fn reject(&mut self, code: u64) {
        if self.state == State::Open {
            self.state = State::Rejected(code);
            self.assembly.clear();
            self.ready = VecDeque::new();
            self.ready_bytes = 0;
        }
    }

    /// It cannot go on; the application hears of it.
    pub(super) fn break_off(&mut self) {
        self.reject(0);
        self.ready.push_back(Told::Broken);
    }

    /// Free buffer in blocks. The message that is open does not count: it has a bound of its own, and a window that it filled would let
    /// it grow by a block in each round trip.
    fn blocks(&self, room: &Room) -> u64 {
        let kept_back = self.assembly.held_bytes() + self.ready_bytes;
        let free = room.window.saturating_sub(kept_back).min(room.session);
        let blocks = free.div_ceil(BLOCK) as u64;
        // A fragment that all wait for must find a place, however much is kept back.
        let least = u64::from(!self.suspended && !self.held && self.ready_bytes <= room.window);
        blocks.max(least)
    }

    /// Writes the payload of an acknowledgement, and returns the type of its chunk; `None` where it does not fit.
    pub(super) fn put_acknowledgement(
        &mut self,
        id: u64,
        room: &Room,
        space: usize,
        out: &mut Vec<u8>,
    ) -> Option<u8> {
        let blocks = self.blocks(room);
        let cumulative = self.set.cumulative();
        let kind = acknowledgement::put(id, blocks, cumulative, self.set.runs(), space, out)?;
        self.offered = blocks;
        Some(kind)
    }
}
