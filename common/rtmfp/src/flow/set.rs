//! All flows of one session: see [`FlowSet`].

mod input;
mod linger;
mod output;
mod pace;
mod timing;
mod types;

use std::collections::VecDeque;
use std::time::Duration;

use self::linger::{Lingering, Replies};
use self::pace::Pace;
pub use self::types::{Config, Counters, Event, Header, OpenError, Opening, SendError, SendState};
use super::receive::{ReceiveFlow, Room, Told};
use super::send::SendFlow;
use super::{MessageId, Order, Outgoing, ReceiveId, SendId};
use crate::congestion::{Congestion, Delivery, Mark};
use crate::few::Few;
use crate::round_trip::RoundTrip;
use crate::wire::user_data::{MAX_METADATA, Startup};

/// How long after a time-critical packet all gives way to it (section 3.5.2.1).
const TIME_CRITICAL: Duration = Duration::from_millis(800);

/// All flows of one session; [`flow`](super) says how to use it.
///
/// Always: bytes under way are the sum over the sending flows; what waits to be sent, and what is kept back of what came, is within
/// [`Config`]; a far end that opens flows without end, acknowledges what was never sent, or sends fragments of nothing, is answered in
/// constant memory.
#[derive(Debug)]
pub struct FlowSet {
    config: Config,
    congestion: Box<dyn Congestion>,
    round_trip: RoundTrip,
    counters: Counters,

    sending: Few<u64, Box<SendFlow>>,
    next_flow: u64,
    /// What is under way, by transmission. Some of it may have come since.
    in_flight: VecDeque<Sent>,
    delivery: Delivery,
    outstanding: usize,
    transmission: u64,
    packet: u64,
    served: u64,
    burst: u32,
    /// Packets that may be sent beyond the burst, because as many came.
    replaced: u32,
    pace: Pace,
    /// When something of [`Priority::AUDIO`] or above was sent last.
    urgent: Option<Duration>,
    /// Something waited for room in the window since the last acknowledgements.
    held_back: bool,
    timeout_at: Option<Duration>,
    /// When what is under way should have been answered, if not all of it was lost.
    overdue_at: Option<Duration>,
    /// That was so since the last acknowledgement: the rest is left to the timeout.
    was_overdue: bool,
    unanswered: Option<Duration>,
    /// When anything came last.
    heard: Duration,

    receiving: Few<u64, Box<ReceiveFlow>>,
    received_bytes: usize,
    lingering: Lingering,
    replies: Replies,
    /// Flows of which something is to be acknowledged.
    acknowledge: VecDeque<u64>,
    acknowledge_now: bool,
    acknowledge_at: Option<Duration>,
    /// Packets with data since the last acknowledgements.
    data_packets: u32,

    /// Flows with something for the application, in the order in which it came.
    told: VecDeque<u64>,
    events: VecDeque<Event>,

    time_critical: TimeCritical,
}

/// A transmission of a fragment.
#[derive(Clone, Copy, Debug)]
struct Sent {
    transmission: u64,
    packet: u64,
    flow: u64,
    sequence: u64,
    mark: Mark,
}

/// When there was something time-critical last.
#[derive(Clone, Copy, Debug, Default)]
struct TimeCritical {
    sent: Option<Duration>,
    received: Option<Duration>,
    /// The far end said that it gets some from elsewhere.
    reverse: Option<Duration>,
    sent_elsewhere: Option<Duration>,
    received_elsewhere: Option<Duration>,
}

fn is_recent(at: Option<Duration>, now: Duration) -> bool {
    at.is_some_and(|at| now.saturating_sub(at) < TIME_CRITICAL)
}

impl FlowSet {
    /// No flows.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let congestion = config.congestion.begin(config.segment);
        Self::with_congestion(config, congestion)
    }

    /// No flows, with a congestion control of one's own.
    #[must_use]
    pub fn with_congestion(config: Config, congestion: Box<dyn Congestion>) -> Self {
        Self {
            config,
            congestion,
            round_trip: RoundTrip::default(),
            counters: Counters::default(),
            sending: Few::default(),
            next_flow: 1,
            in_flight: VecDeque::new(),
            delivery: Delivery::default(),
            outstanding: 0,
            transmission: 0,
            packet: 0,
            served: 0,
            burst: 0,
            replaced: 0,
            pace: Pace::default(),
            urgent: None,
            held_back: false,
            timeout_at: None,
            overdue_at: None,
            was_overdue: false,
            unanswered: None,
            heard: Duration::ZERO,
            receiving: Few::default(),
            received_bytes: 0,
            lingering: Lingering::default(),
            replies: Replies::default(),
            acknowledge: VecDeque::new(),
            acknowledge_now: false,
            acknowledge_at: None,
            data_packets: 0,
            told: VecDeque::new(),
            events: VecDeque::new(),
            time_critical: TimeCritical::default(),
        }
    }

    /// Opens a flow. The far end hears of it with its first message.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&mut self, opening: &Opening<'_>) -> Result<SendId, OpenError> {
        self.open_at(opening, 1)
    }

    /// Opens a flow whose numbers begin with `first`.
    fn open_at(&mut self, opening: &Opening<'_>, first: u64) -> Result<SendId, OpenError> {
        if self.sending.len() >= self.config.sending_flows {
            return Err(OpenError::TooMany(self.sending.len()));
        }
        if opening.metadata.len() > MAX_METADATA {
            return Err(OpenError::MetadataTooLong(opening.metadata.len()));
        }
        if let Some(flow) = opening.association
            && !self.is_receiving(flow)
        {
            return Err(OpenError::NotOpen(flow));
        }
        let mut startup = Vec::new();
        Startup {
            metadata: Some(opening.metadata),
            association: opening.association.map(|flow| flow.0),
            fault: None,
        }
        .put(&mut startup);
        let id = self.next_flow;
        self.next_flow += 1;
        let mut flow = SendFlow::new(id, startup.into(), opening.priority, first);
        flow.time_critical = opening.time_critical;
        flow.association = opening.association;
        self.sending.insert(id, Box::new(flow));
        Ok(SendId(id))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &mut self,
        now: Duration,
        flow: SendId,
        message: impl Into<Outgoing>,
    ) -> Result<MessageId, SendError> {
        let message = message.into();
        if message.body.is_too_long() {
            return Err(SendError::TooLong(message.body.len()));
        }
        if !self.sending.get(&flow.0).is_some_and(|flow| flow.is_open()) {
            return Err(SendError::NotOpen(flow));
        }
        if self.is_full(message.body.len()) {
            self.expire(now);
        }
        if self.is_full(message.body.len()) {
            let (bytes, messages) = self.waiting();
            return Err(SendError::Full { bytes, messages });
        }
        let open = self.sending.get_mut(&flow.0);
        let id = open.map(|open| open.push(message));
        id.ok_or(SendError::NotOpen(flow))
    }

    fn is_full(&self, more: usize) -> bool {
        let (bytes, messages) = self.waiting();
        bytes.saturating_add(more) > self.config.send_bytes || messages >= self.config.send_messages
    }

    /// Bytes and messages that wait to be sent or acknowledged.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        let all = self.sending.values().map(|flow| flow.messages());
        all.fold((0, 0), |(bytes, count), messages| {
            (bytes + messages.bytes(), count + messages.len())
        })
    }

    /// Gives up a message. Whether it was not over yet.
    pub fn abandon(&mut self, flow: SendId, message: MessageId) -> bool {
        let flow = self.sending.get_mut(&flow.0);
        let abandoned = flow.is_some_and(|flow| flow.abandon(message));
        self.counters.abandoned += u64::from(abandoned);
        abandoned
    }

    /// Gives up all messages of a flow before this one: those before a new key frame, say. Returns how many were not over.
    pub fn abandon_before(&mut self, flow: SendId, message: MessageId) -> u64 {
        let flow = self.sending.get_mut(&flow.0);
        let count = flow.map_or(0, |flow| flow.abandon_before(message));
        self.counters.abandoned += count;
        count
    }

    /// Gives up those messages of a flow before this one that need not come when they are late. Returns how many were not over.
    pub fn abandon_perishable_before(&mut self, flow: SendId, message: MessageId) -> u64 {
        let flow = self.sending.get_mut(&flow.0);
        let count = flow.map_or(0, |flow| flow.abandon_perishable_before(message));
        self.counters.abandoned += count;
        count
    }

    /// Gives up all messages of a flow. Returns how many were not over.
    pub fn abandon_all(&mut self, flow: SendId) -> u64 {
        self.abandon_before(flow, MessageId::AFTER_ALL)
    }

    fn expire(&mut self, now: Duration) {
        for flow in self.sending.values_mut() {
            self.counters.abandoned += flow.expire(now);
        }
    }

    /// Closes a flow when all that waits was sent; [`Event::Closed`] tells when that is.
    pub fn close(&mut self, flow: SendId) {
        if let Some(open) = self.sending.get_mut(&flow.0) {
            open.close();
            self.remove_if_over(flow.0);
        }
    }

    fn remove_if_over(&mut self, id: u64) {
        if self.sending.get(&id).is_some_and(|flow| flow.is_over()) {
            self.sending.remove(&id);
            self.events.push_back(Event::Closed { flow: SendId(id) });
        }
    }

    /// Whether a flow can take messages.
    #[must_use]
    pub fn is_sending(&self, flow: SendId) -> bool {
        self.sending.get(&flow.0).is_some_and(|flow| flow.is_open())
    }

    /// The flow to which a sending flow is the answer.
    #[must_use]
    pub fn association(&self, flow: SendId) -> Option<ReceiveId> {
        self.sending.get(&flow.0)?.association
    }

    /// How a sending flow stands; `None` when it is gone.
    #[must_use]
    pub fn send_state(&self, flow: SendId) -> Option<SendState> {
        let flow = self.sending.get(&flow.0)?;
        Some(SendState {
            messages: flow.messages().len(),
            bytes: flow.messages().bytes(),
            in_flight: flow.in_flight(),
            room: flow.room(),
            abandoned: flow.abandoned,
            newest_abandoned: flow.newest_abandoned,
        })
    }

    /// Whether the far end has this flow open, and it was not rejected.
    #[must_use]
    pub fn is_receiving(&self, flow: ReceiveId) -> bool {
        let flow = self.receiving.get(&flow.0);
        flow.is_some_and(|flow| flow.exception().is_none())
    }

    /// How many flows the far end has open, rejected ones included.
    #[must_use]
    pub fn receiving(&self) -> usize {
        self.receiving.len()
    }

    /// Chooses the order of a flow. Best at once when it is opened: gaps in what came before are not told precisely.
    pub fn set_order(&mut self, flow: ReceiveId, order: Order) {
        self.change(flow, |flow| flow.set_order(order));
    }

    /// Rejects a flow: no event of it comes any more, and the far end hears of it with the next acknowledgement.
    pub fn reject(&mut self, flow: ReceiveId, code: u64) {
        self.change(flow, |flow| flow.reject(code));
        self.acknowledge(flow.0);
        self.acknowledge_now |= self.receiving.contains_key(&flow.0);
        self.retire_if_over(flow.0);
    }

    /// Keeps back what comes in a flow, as far as it has room, or no longer.
    pub fn suspend(&mut self, flow: ReceiveId, suspended: bool) {
        self.change(flow, |flow| flow.set_suspended(suspended));
        self.resume(flow, !suspended);
    }

    /// The same, whatever the application has suspended.
    pub(crate) fn hold(&mut self, flow: ReceiveId, held: bool) {
        self.change(flow, |flow| flow.set_held(held));
        self.resume(flow, !held);
    }

    fn resume(&mut self, flow: ReceiveId, resumed: bool) {
        if let Some(open) = self.receiving.get(&flow.0).filter(|_| resumed) {
            let waiting = std::iter::repeat_n(flow.0, open.ready());
            self.told.extend(waiting);
        }
        self.tell_of_room(flow.0);
    }

    /// Changes a receiving flow, and what hangs on it.
    fn change<R>(
        &mut self,
        flow: ReceiveId,
        change: impl FnOnce(&mut ReceiveFlow) -> R,
    ) -> Option<R> {
        let open = self.receiving.get_mut(&flow.0)?;
        let (bytes, ready) = (open.buffered(), open.ready());
        let result = change(open);
        self.received_bytes = self.received_bytes + open.buffered() - bytes;
        let new = open.ready().saturating_sub(ready);
        self.told.extend(std::iter::repeat_n(flow.0, new));
        Some(result)
    }

    /// Whether something may have happened that was not asked for.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty() || !self.told.is_empty()
    }

    /// What has happened. Call it until there is nothing.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        loop {
            let id = self.told.pop_front()?;
            let flow = ReceiveId(id);
            let Some(told) = self.change(flow, ReceiveFlow::next_told).flatten() else {
                continue;
            };
            return Some(match told {
                Told::Opened {
                    metadata,
                    association,
                } => Event::Opened {
                    flow,
                    metadata,
                    association,
                },
                Told::Message(payload) => {
                    self.tell_of_room(id);
                    Event::Message { flow, payload }
                }
                Told::Gap => Event::Gap { flow },
                Told::Broken => Event::Broken { flow },
                Told::Finished => {
                    self.retire_if_over(id);
                    Event::Finished { flow }
                }
            });
        }
    }

    /// Acknowledges a flow once more if its window had been closed, or nearly, and is open now.
    fn tell_of_room(&mut self, id: u64) {
        let room = self.room();
        let flow = self.receiving.get(&id);
        if flow.is_some_and(|flow| flow.has_news_of_room(&room)) {
            self.acknowledge(id);
            self.acknowledge_now = true;
        }
    }

    fn room(&self) -> Room {
        Room {
            window: self.config.receive_window,
            message: self.config.message_bytes,
            session: self
                .config
                .receive_bytes
                .saturating_sub(self.received_bytes),
        }
    }

    /// The header of the next packet, if it is not [`poll_transmit`](Self::poll_transmit) that fills it.
    pub fn stamp(&mut self, now: Duration) -> Header {
        let (timestamp, echo) = self.round_trip.stamp(now);
        let reverse =
            self.config.ask_to_give_way && is_recent(self.time_critical.received_elsewhere, now);
        Header {
            time_critical: false,
            time_critical_reverse: reverse,
            timestamp: Some(timestamp),
            echo,
        }
    }

    /// The far end is at another address: measure anew, and send again what was under way to the old one.
    pub fn path_changed(&mut self) {
        self.round_trip.forget();
        self.congestion.path_changed();
        self.delivery = Delivery::default();
        self.pace = Pace::default();
        self.lose_all();
        self.timeout_at = None;
        self.overdue_at = None;
    }

    /// Another session sent something time-critical: this one grows slowly for a while.
    pub fn note_time_critical_sent_elsewhere(&mut self, now: Duration) {
        self.time_critical.sent_elsewhere = Some(now);
    }

    /// Another session got something time-critical: see [`Config::ask_to_give_way`].
    pub fn note_time_critical_received_elsewhere(&mut self, now: Duration) {
        self.time_critical.received_elsewhere = Some(now);
    }

    /// Whether what came is to be acknowledged before more of it is taken. An acknowledgement for each few packets lets the window of the
    /// far end grow as it should, and its bursts go on; one for all that a batch brought does not.
    #[must_use]
    pub fn owes_acknowledgement(&self) -> bool {
        self.acknowledge_now
    }

    /// When this session sent something time-critical last, and when it got something.
    #[must_use]
    pub fn time_critical(&self) -> (Option<Duration>, Option<Duration>) {
        (self.time_critical.sent, self.time_critical.received)
    }

    /// Since when data are under way without any acknowledgement: for the session to judge whether the far end is still there.
    #[must_use]
    pub fn unanswered_since(&self) -> Option<Duration> {
        self.unanswered
    }

    /// Times of packets.
    #[must_use]
    pub fn round_trip(&self) -> &RoundTrip {
        &self.round_trip
    }

    /// Bytes that may be under way, and that are.
    #[must_use]
    pub fn window(&self) -> (usize, usize) {
        (self.congestion.window(), self.outstanding)
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Adds what happened in others.
    pub(crate) fn count(&mut self, others: Counters) {
        self.counters += others;
    }

    /// The same, and they begin anew: for who adds up those of many sessions.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    /// Bytes of what came that are kept in memory.
    #[must_use]
    pub fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    /// Whether the sums are right.
    fn is_consistent(&self) -> bool {
        let in_flight: usize = self.sending.values().map(|flow| flow.in_flight()).sum();
        let buffered: usize = self.receiving.values().map(|flow| flow.buffered()).sum();
        in_flight == self.outstanding && buffered == self.received_bytes
    }
}

#[cfg(test)]
mod tests;
