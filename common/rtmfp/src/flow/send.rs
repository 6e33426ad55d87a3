//! A flow that this end sends: RFC 7016 section 3.6.2.
//!
//! Messages wait whole; a fragment gets its number when it is cut off for a packet. So a message that is abandoned before that leaves
//! nothing behind but one empty fragment, which tells the far end of the gap, however many messages it was. A message is one pair of a
//! short head and a shared body; fragments are ranges in it, so that a body which goes to thousands of sessions is in memory once, and
//! is copied only into the packet.
//!
//! Always: fragments in the queue have numbers without holes, the first one is not acknowledged; each that is not in flight and not
//! abandoned will be sent again; bytes in flight are those of the fragments that are marked so.

mod fragment;
mod message;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use self::fragment::Fragment;
pub(super) use self::fragment::{Acknowledged, Assembling, Negative, Put};
pub use self::message::{Body, Head, MessageId, Outgoing};
use self::message::{GapWhen, Message};
pub(super) use self::message::{Messages, give_back};
use super::{Priority, ReceiveId};
use crate::wire::acknowledgement::{Acknowledgement, BLOCK};
use crate::wire::user_data::{NEXT_USER_DATA, OPTIONS, Part, USER_DATA, UserData};

/// Type and length of a chunk, in bytes.
pub(super) const CHUNK_HEADER: usize = 3;

/// What the far end can take until it says so, in bytes (section 3.6.2).
const INITIAL_BUFFER: usize = 65_536;

/// So many times a fragment may be passed over before it counts as lost.
const MAX_NEGATIVE: u8 = 3;

/// A message is not cut to fill a rest of a packet that has less room than this, in bytes: each fragment costs at both ends.
const LEAST_CUT: usize = 256;

/// Fields of a header may get longer until a fragment is sent again: room that is left for that, in bytes.
const SLACK: usize = 12;

/// The first pause before a closed window is probed, and the greatest.
const PROBE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    /// Closing, because the far end does not want it.
    Rejected,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SendFlow {
    id: u64,
    /// Metadata and association as they are sent, until anything of the flow was acknowledged.
    startup: Option<Box<[u8]>>,
    /// The packet that had them last.
    startup_packet: u64,
    pub(super) priority: Priority,
    pub(super) time_critical: bool,
    pub(super) association: Option<ReceiveId>,
    /// When it was its turn last, among those of its priority.
    pub(super) served: u64,
    state: State,
    messages: Messages,
    /// Whether anything was sent.
    begun: bool,
    /// Messages that were given up.
    pub(super) abandoned: u64,
    pub(super) newest_abandoned: Option<MessageId>,
    /// Fragments from `first` on.
    queue: VecDeque<Fragment>,
    first: u64,
    /// Everything before this number is in flight, acknowledged, or not worth sending.
    resend_from: u64,
    /// The last number of the flow.
    last: Option<u64>,
    in_flight: usize,
    /// The greatest cumulative number that was acknowledged.
    acknowledged_to: u64,
    /// What the far end can take, in bytes.
    window: usize,
    probe_at: Option<Duration>,
    probe_pause: Duration,
}

/// What is to be sent next.
enum Next {
    /// The fragment at this place of the queue.
    Again(usize),
    /// An empty fragment, for a gap.
    Gap,
    /// A piece of the first message that is not cut up.
    Cut,
    /// An empty fragment, for the end.
    End,
}

impl SendFlow {
    pub(super) fn new(id: u64, startup: Box<[u8]>, priority: Priority, first: u64) -> Self {
        Self {
            id,
            startup: Some(startup),
            startup_packet: 0,
            priority,
            time_critical: false,
            association: None,
            served: 0,
            state: State::Open,
            messages: Messages::default(),
            begun: false,
            abandoned: 0,
            newest_abandoned: None,
            queue: VecDeque::new(),
            first,
            resend_from: first,
            last: None,
            in_flight: 0,
            acknowledged_to: 0,
            window: INITIAL_BUFFER,
            probe_at: None,
            probe_pause: *PROBE.start(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether it is closed and everything has come: nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        let nothing = self.queue.is_empty() && self.messages.is_empty();
        match self.state {
            State::Open => false,
            // Who was never told of the flow need not be told of its end.
            State::Closing | State::Rejected => nothing && (self.last.is_some() || !self.begun),
        }
    }

    pub(super) fn messages(&self) -> &Messages {
        &self.messages
    }

    /// Bytes that are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// What the far end can take beside what is under way, in bytes.
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.in_flight)
    }

    fn next_sequence(&self) -> u64 {
        self.first.saturating_add(self.queue.len() as u64)
    }

    pub(super) fn push(&mut self, message: Outgoing) -> MessageId {
        self.messages.push(message)
    }

    /// Gives a message up. Whether there was anything to give up.
    pub(super) fn abandon(&mut self, id: MessageId) -> bool {
        let abandoned = self.messages.abandon(id);
        if abandoned {
            self.abandoned += 1;
            self.newest_abandoned = self.newest_abandoned.max(Some(id));
        }
        abandoned
    }

    /// Gives up all messages before `id`, and returns how many.
    pub(super) fn abandon_before(&mut self, id: MessageId) -> u64 {
        let ids = self.messages.unfinished();
        ids.filter(|other| *other < id)
            .map(|other| u64::from(self.abandon(other)))
            .sum()
    }

    /// Gives up those before `id` that have a time, and returns how many.
    pub(super) fn abandon_perishable_before(&mut self, id: MessageId) -> u64 {
        let mut count = 0;
        for other in self.messages.unfinished().take_while(|other| *other < id) {
            let message = self.messages.at(other);
            if message.is_some_and(|message| message.expires().is_some()) {
                count += u64::from(self.abandon(other));
            }
        }
        count
    }

    /// Gives up what is too late. Returns how many messages that were.
    pub(super) fn expire(&mut self, now: Duration) -> u64 {
        if self.messages.expires().is_none_or(|at| now < at) {
            return 0;
        }
        let mut count = 0;
        for id in self.messages.expired(now) {
            count += u64::from(self.abandon(id));
        }
        self.messages.note_expiry();
        count
    }

    /// No message will follow. What waits is still sent.
    pub(super) fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Closing;
        }
    }

    /// The far end does not want it. Returns how many messages are given up, or `None` if that was known.
    pub(super) fn rejected(&mut self) -> Option<u64> {
        if self.state == State::Rejected {
            return None;
        }
        self.state = State::Rejected;
        self.probe_at = None;
        Some(self.abandon_before(MessageId::AFTER_ALL))
    }

    fn is_abandoned(&self, fragment: &Fragment) -> bool {
        let message = fragment.message.and_then(|id| self.messages.at(id));
        message.is_none_or(Message::is_abandoned)
    }

    /// Bytes of the fragment as it would be sent.
    fn data_length(&self, fragment: &Fragment) -> usize {
        if self.is_abandoned(fragment) {
            0
        } else {
            usize::from(fragment.length)
        }
    }

    /// Forgets fragments that are acknowledged at the head of the queue.
    fn trim(&mut self) {
        while self
            .queue
            .pop_front_if(|front| front.acknowledged)
            .is_some()
        {
            self.first += 1;
        }
        self.resend_from = self.resend_from.max(self.first);
    }

    /// Whether nobody has to know of the fragment at this place any more, if it is at the head: it came, or it is given up and not under
    /// way.
    fn is_given_up(&self, place: usize) -> bool {
        let fragment = self.queue.get(place);
        fragment.is_some_and(|fragment| {
            fragment.acknowledged || (!fragment.in_flight && self.is_abandoned(fragment))
        })
    }

    /// Forgets what is given up at the head of the queue, but not what stands at `place`. Only before something is sent: its forward
    /// number tells the far end.
    fn forget_given_up(&mut self, place: usize) -> usize {
        let mut place = place;
        while place > 0 && self.is_given_up(0) {
            if let Some(front) = self.queue.pop_front()
                && !front.acknowledged
            {
                self.messages.settle(front.message);
            }
            self.first += 1;
            place -= 1;
        }
        self.resend_from = self.resend_from.max(self.first);
        place
    }

    fn next(&mut self) -> Option<Next> {
        self.trim();
        if let Some(place) = self.find_lost() {
            return Some(Next::Again(place));
        }
        let cut = self.messages.next_uncut().is_some();
        match self.messages.gap() {
            Some(GapWhen::Now) => return Some(Next::Gap),
            Some(GapWhen::WithNext) if cut => return Some(Next::Gap),
            _ => {}
        }
        if cut {
            return Some(Next::Cut);
        }
        if self.state != State::Open && self.last.is_none() && self.begun {
            return Some(Next::End);
        }
        // Nothing else will tell the far end that it need not wait.
        let run = (0..).take_while(|place| self.is_given_up(*place));
        let waiting = |place: &usize| self.queue.get(*place).is_some_and(|it| !it.acknowledged);
        run.filter(waiting).last().map(Next::Again)
    }

    /// The place of the first lost fragment that is worth sending again.
    fn find_lost(&mut self) -> Option<usize> {
        let end = self.next_sequence();
        while self.resend_from < end {
            let place = (self.resend_from - self.first) as usize;
            let fragment = self.queue.get(place)?;
            let worth = self.last == Some(self.resend_from) || !self.is_abandoned(fragment);
            if !fragment.in_flight && !fragment.acknowledged && worth {
                return Some(place);
            }
            self.resend_from += 1;
        }
        None
    }

    /// Whether there is something to send, and the far end can take it.
    pub(super) fn is_ready(&mut self) -> bool {
        let may = self.window > self.in_flight || self.state == State::Rejected;
        may && self.next().is_some()
    }

    /// When the far end is to be asked whether it can take something, if it cannot.
    pub(super) fn probe_at(&mut self, now: Duration) -> Option<Duration> {
        if self.window > 0 || self.state == State::Rejected || self.next().is_none() {
            self.probe_at = None;
            self.probe_pause = *PROBE.start();
        } else if self.probe_at.is_none() {
            self.probe_at = Some(now + self.probe_pause);
        }
        self.probe_at
    }

    /// The time of the next probe, without any change.
    pub(super) fn probe_due(&self) -> Option<Duration> {
        self.probe_at
    }

    /// A probe was sent.
    pub(super) fn probed(&mut self, now: Duration, timeout: Duration) {
        self.probe_pause = (self.probe_pause * 2).clamp(timeout.max(*PROBE.start()), *PROBE.end());
        self.probe_at = Some(now + self.probe_pause);
    }

    /// Puts the next fragment into a packet, with the header of its chunk. `None`, and nothing is changed, where there is none or it finds
    /// no room in `space` bytes; with `alone` it goes out whatever room there is.
    pub(super) fn put(
        &mut self,
        assembling: &mut Assembling,
        transmission: u64,
        space: usize,
        alone: bool,
        out: &mut Vec<u8>,
    ) -> Option<Put> {
        let next = self.next()?;
        let startup = self.startup.as_ref().map_or(0, |options| options.len());
        let (place, again) = match next {
            Next::Again(place) => (place, true),
            _ => (self.queue.len(), false),
        };
        let place = self.forget_given_up(place);
        let sequence = self.first.checked_add(place as u64)?;
        if sequence == u64::MAX {
            return None;
        }
        let header = CHUNK_HEADER + startup + UserData::header_length(self.id, sequence, 0);
        let least = match next {
            Next::Again(_) => header + self.data_length(self.queue.get(place)?),
            _ => header + SLACK,
        };
        if least > space && !alone {
            return None;
        }
        match next {
            Next::Again(_) => {}
            Next::Gap => {
                self.messages.gap_is_told();
                self.append(None, 0, 0, Part::Whole);
            }
            Next::Cut => {
                let most = space.saturating_sub(header + SLACK);
                let (id, offset, length, part) = self.messages.cut(most, LEAST_CUT, alone)?;
                self.append(Some(id), offset, length, part);
                if self.state != State::Open && self.messages.next_uncut().is_none() {
                    self.last = Some(sequence);
                }
            }
            Next::End => {
                self.append(None, 0, 0, Part::Whole);
                self.last = Some(sequence);
            }
        }
        let fragment = *self.queue.get(place)?;
        let abandoned = self.is_abandoned(&fragment);
        let length = self.data_length(&fragment);
        let forward = self.forward();
        let start = out.len();
        let chunk = UserData {
            flow: self.id,
            sequence,
            forward,
            part: fragment.part,
            abandoned,
            last: self.last == Some(sequence),
            startup: None,
            data: &[],
        };
        self.put_headers(&chunk, assembling, out);
        if let Some(message) = fragment.message.and_then(|id| self.messages.at(id))
            && !abandoned
        {
            message.put(fragment.offset as usize, length, out);
        }
        let size = out.len() - start;
        let payload = (size - CHUNK_HEADER) as u16;
        if let Some(field) = out.get_mut(start + 1..start + CHUNK_HEADER) {
            field.copy_from_slice(&payload.to_be_bytes());
        }
        if let Some(fragment) = self.queue.get_mut(place) {
            fragment.in_flight = true;
            fragment.again = again;
            fragment.sent_abandoned = abandoned;
            fragment.negative = 0;
            fragment.size = size as u16;
            fragment.transmission = transmission;
        }
        self.in_flight += size;
        self.begun = true;
        Some(Put {
            sequence,
            size,
            again,
        })
    }

    /// Writes all of a chunk that stands before the data; its length is filled in later.
    fn put_headers(
        &mut self,
        chunk: &UserData<'_>,
        assembling: &mut Assembling,
        out: &mut Vec<u8>,
    ) {
        let startup = self.startup.as_deref().unwrap_or_default();
        let startup = if self.startup_packet == assembling.packet {
            &[]
        } else {
            startup
        };
        self.startup_packet = assembling.packet;
        let follows = chunk
            .sequence
            .checked_sub(1)
            .is_some_and(|before| assembling.previous == Some((chunk.flow, before, chunk.forward)));
        assembling.previous = Some((chunk.flow, chunk.sequence, chunk.forward));
        out.push(if follows { NEXT_USER_DATA } else { USER_DATA });
        out.extend_from_slice(&[0, 0]);
        let flags = out.len();
        if follows {
            chunk.put_next_header(out);
        } else {
            chunk.put_header(out);
        }
        if !startup.is_empty() {
            if let Some(flags) = out.get_mut(flags) {
                *flags |= OPTIONS;
            }
            out.extend_from_slice(startup);
        }
    }

    fn append(&mut self, message: Option<MessageId>, offset: u32, length: u16, part: Part) {
        self.queue.push_back(Fragment {
            message,
            offset,
            length,
            part,
            acknowledged: false,
            in_flight: false,
            again: false,
            sent_abandoned: false,
            negative: 0,
            size: 0,
            transmission: 0,
        });
    }

    /// Nothing up to this number will be sent again.
    fn forward(&self) -> u64 {
        let Some(front) = self.queue.front() else {
            return self.first.saturating_sub(1);
        };
        let told = !front.in_flight || front.sent_abandoned;
        if self.is_abandoned(front) && told {
            self.first
        } else {
            self.first.saturating_sub(1)
        }
    }

    /// What the far end says has come. Numbers that were never sent are passed over; of what was sent again, and not `before` this
    /// transmission, an earlier one came.
    pub(super) fn acknowledged(&mut self, ack: &Acknowledgement<'_>, before: u64) -> Acknowledged {
        self.startup = None;
        let sent = self.next_sequence().saturating_sub(1);
        let to = ack.cumulative.min(sent);
        // One that was overtaken says what was, not what is.
        if to >= self.acknowledged_to {
            self.acknowledged_to = to;
            let blocks = usize::try_from(ack.blocks).unwrap_or(usize::MAX);
            self.window = blocks.saturating_mul(BLOCK);
        }
        let mut result = Acknowledged::default();
        self.acknowledge_run(self.first, ack.cumulative, before, &mut result);
        let end = self.next_sequence();
        for range in ack.ranges() {
            if *range.start() >= end {
                break;
            }
            self.acknowledge_run(*range.start(), *range.end(), before, &mut result);
        }
        self.trim();
        self.messages.drop_finished();
        result
    }

    fn acknowledge_run(&mut self, from: u64, to: u64, before: u64, result: &mut Acknowledged) {
        let Some(last) = self.next_sequence().checked_sub(1) else {
            return;
        };
        let (from, to) = (from.max(self.first), to.min(last));
        if from > to {
            return;
        }
        let places = (from - self.first) as usize..=(to - self.first) as usize;
        for fragment in self.queue.range_mut(places) {
            if fragment.acknowledged {
                continue;
            }
            fragment.acknowledged = true;
            if !fragment.again || fragment.transmission < before {
                result.transmission = result.transmission.max(Some(fragment.transmission));
            }
            self.messages.settle(fragment.message);
            if std::mem::take(&mut fragment.in_flight) {
                self.in_flight -= usize::from(fragment.size);
                result.bytes += usize::from(fragment.size);
            }
        }
    }

    /// Whether the fragment is under way with this transmission.
    pub(super) fn is_under_way(&self, sequence: u64, transmission: u64) -> bool {
        let place = sequence.checked_sub(self.first).map(|place| place as usize);
        let fragment = place.and_then(|place| self.queue.get(place));
        fragment.is_some_and(|found| found.in_flight && found.transmission == transmission)
    }

    /// Something that was sent after this transmission came: `late` if so much after it that they can hardly have changed places. Or
    /// nobody waits for it any longer: that is the same.
    pub(super) fn passed_over(&mut self, sequence: u64, transmission: u64, late: bool) -> Negative {
        if !self.is_under_way(sequence, transmission) {
            return Negative::Stale;
        }
        let place = (sequence - self.first) as usize;
        let Some(fragment) = self.queue.get_mut(place) else {
            return Negative::Stale;
        };
        fragment.negative = fragment.negative.saturating_add(1);
        if fragment.negative < MAX_NEGATIVE && !late {
            return Negative::Waiting;
        }
        fragment.in_flight = false;
        let size = usize::from(fragment.size);
        self.in_flight -= size;
        self.resend_from = self.resend_from.min(sequence);
        Negative::Lost(size)
    }

    /// Gives back most of what a burst took.
    pub(super) fn give_back(&mut self) {
        give_back(&mut self.queue);
        self.messages.give_back();
    }

    /// Gives back memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
        self.messages.shrink();
    }

    /// Nothing is under way any more. Returns how many fragments were.
    pub(super) fn timed_out(&mut self) -> u64 {
        let mut lost = 0;
        for fragment in &mut self.queue {
            lost += u64::from(std::mem::take(&mut fragment.in_flight));
        }
        self.in_flight = 0;
        self.resend_from = self.first;
        lost
    }
}
