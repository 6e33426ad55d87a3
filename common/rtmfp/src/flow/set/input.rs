//! What comes from the far end.

use std::time::Duration;

use bytes::Bytes;

use super::super::receive::{ReceiveFlow, Taken};
use super::super::send::{Negative, give_back};
use super::super::{ReceiveId, SendId};
use super::linger::{LINGER, Reply};
use super::{Event, FlowSet, Header, is_recent};
use crate::congestion::Feedback;
use crate::wire::acknowledgement::{Acknowledgement, BITMAP, RANGES};
use crate::wire::flow_control::{BUFFER_PROBE, BufferProbe, FLOW_EXCEPTION_REPORT, FlowException};
use crate::wire::user_data::{NEXT_USER_DATA, USER_DATA, UserData};

/// How long an acknowledgement may wait for another one, or for data in whose packet it fits.
const DELAY: Duration = Duration::from_millis(200);

/// With so many packets of data there is no more waiting.
const PACKETS: u32 = 2;

/// What a packet acknowledged, in all flows.
#[derive(Default)]
struct Acknowledgements {
    any: bool,
    /// Where something was sent again with this transmission or a later one, it is an earlier one that came.
    before: u64,
    bytes: usize,
    transmission: Option<u64>,
}

impl FlowSet {
    /// Takes a packet: its header, and the type and payload of its chunks, in their order. Chunks that do not belong to flows are passed
    /// over; the session looks at them.
    pub fn handle_packet<'a>(
        &mut self,
        now: Duration,
        header: &Header,
        chunks: impl IntoIterator<Item = (u8, &'a [u8])>,
    ) {
        // Before an echo in this packet lets the timeout forget that it has grown.
        let was_lost = self.was_silent(now);
        self.round_trip.received(now, header.timestamp, header.echo);
        if header.time_critical {
            self.time_critical.received = Some(now);
        }
        if header.time_critical_reverse {
            self.time_critical.reverse = Some(now);
        }
        let outstanding = self.outstanding;
        let answered = self.delivery.answered_until(now);
        let first_later = self
            .in_flight
            .partition_point(|it| it.mark.sent() <= answered);
        let first_later = self.in_flight.get(first_later);
        let mut acknowledgements = Acknowledgements {
            before: first_later.map_or(u64::MAX, |it| it.transmission),
            ..Acknowledgements::default()
        };
        let mut previous: Option<UserData<'a>> = None;
        let mut data = false;
        for (kind, body) in chunks {
            let sense = match kind {
                USER_DATA | NEXT_USER_DATA => {
                    previous = read_data(kind, body, previous.as_ref());
                    previous.is_some_and(|chunk| {
                        data = true;
                        self.handle_data(now, &chunk)
                    })
                }
                BITMAP | RANGES => Acknowledgement::read(kind, body)
                    .map(|ack| self.handle_acknowledgement(&ack, &mut acknowledgements))
                    .is_ok(),
                BUFFER_PROBE => BufferProbe::read(body)
                    .map(|probe| self.handle_probe(probe.flow))
                    .is_ok(),
                FLOW_EXCEPTION_REPORT => FlowException::read(body)
                    .map(|exception| self.handle_exception(&exception))
                    .is_ok(),
                _ => true,
            };
            self.counters.malformed += u64::from(!sense);
        }
        if acknowledgements.any {
            self.conclude(now, &acknowledgements, outstanding);
        } else if was_lost && self.timeout_at.is_some() {
            self.round_trip.restore();
            self.timeout_at = Some(now);
        }
        self.heard = now;
        if data {
            self.data_packets += 1;
            if self.data_packets >= PACKETS {
                self.acknowledge_now = true;
            }
        }
        if !self.acknowledge.is_empty() && !self.acknowledge_now {
            self.acknowledge_at.get_or_insert(now + DELAY);
        }
        debug_assert!(self.is_consistent());
    }

    /// Whether the far end says something after a time in which nothing came back. What was sent meanwhile is lost, and there is no need
    /// to wait until the time is over that has grown with each attempt. A far end that goes on talking and acknowledges nothing is not
    /// sent more for it.
    fn was_silent(&self, now: Duration) -> bool {
        let silent = now.saturating_sub(self.heard);
        self.round_trip.is_backed_off() && silent >= self.round_trip.measured_timeout()
    }

    /// Takes a fragment. Whether it makes sense.
    fn handle_data(&mut self, now: Duration, chunk: &UserData<'_>) -> bool {
        self.counters.received += 1;
        let id = chunk.flow;
        if let Some((last, exception)) = self.lingering.get(id) {
            self.reply(Reply {
                flow: id,
                exception,
                cumulative: last,
                also: None,
            });
            return true;
        }
        if !self.receiving.contains_key(&id) && !self.accept(chunk) {
            return true;
        }
        let room = self.room();
        let taken = self.change(ReceiveId(id), |flow| {
            flow.active = now;
            let (taken, at_once) = flow.handle(chunk, &room);
            if taken == Taken::TooLong {
                flow.break_off();
            }
            (taken, at_once)
        });
        let Some((taken, at_once)) = taken else {
            return true;
        };
        self.acknowledge(id);
        self.acknowledge_now |= at_once;
        match taken {
            Taken::Yes => {}
            Taken::NoRoom => self.counters.no_room += 1,
            Taken::TooLong => {
                self.counters.refused += 1;
                self.acknowledge_now = true;
            }
            Taken::Nonsense => return false,
        }
        self.retire_if_over(id);
        true
    }

    /// Begins to receive a flow, or refuses to; whether it exists now.
    fn accept(&mut self, chunk: &UserData<'_>) -> bool {
        if self.receiving.len() >= self.config.receiving_flows {
            self.counters.refused += 1;
            // As little as possible is said about what came, and nothing is kept.
            let follows = chunk.forward.checked_add(1) == Some(chunk.sequence);
            self.reply(Reply {
                flow: chunk.flow,
                exception: Some(0),
                cumulative: if follows {
                    chunk.sequence
                } else {
                    chunk.forward
                },
                also: (!follows && chunk.sequence > chunk.forward).then_some(chunk.sequence),
            });
            return false;
        }
        let startup = chunk.startup.unwrap_or_default();
        let association = startup.association.map(SendId);
        let known = association.is_none_or(|flow| self.is_sending(flow));
        let flow = match startup.metadata {
            Some(metadata) if startup.fault.is_none() && known => {
                self.told.push_back(chunk.flow);
                ReceiveFlow::new(Bytes::copy_from_slice(metadata), association)
            }
            _ => {
                self.counters.refused += 1;
                ReceiveFlow::rejected(0)
            }
        };
        self.receiving.insert(chunk.flow, Box::new(flow));
        true
    }

    fn handle_probe(&mut self, id: u64) {
        if let Some((last, exception)) = self.lingering.get(id) {
            self.reply(Reply {
                flow: id,
                exception,
                cumulative: last,
                also: None,
            });
        } else if self.receiving.contains_key(&id) {
            self.acknowledge(id);
            self.acknowledge_now = true;
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.replies.add(reply);
        self.acknowledge_now = true;
    }

    /// Notes that a flow is to be acknowledged.
    pub(super) fn acknowledge(&mut self, id: u64) {
        if let Some(flow) = self.receiving.get_mut(&id)
            && !std::mem::replace(&mut flow.acknowledge, true)
        {
            self.acknowledge.push_back(id);
        }
    }

    /// Reduces a flow of which all has come, and was taken, to what lingers.
    pub(super) fn retire_if_over(&mut self, id: u64) {
        let flow = self.receiving.get(&id);
        let Some(flow) = flow.filter(|flow| flow.is_complete() && !flow.has_ready()) else {
            return;
        };
        let (last, exception, active) = (flow.cumulative(), flow.exception(), flow.active);
        let acknowledge = flow.acknowledge;
        self.received_bytes -= flow.buffered();
        self.receiving.remove(&id);
        self.lingering.add(active, id, last, exception);
        if acknowledge {
            self.acknowledge.retain(|other| *other != id);
            self.reply(Reply {
                flow: id,
                exception,
                cumulative: last,
                also: None,
            });
        }
    }

    /// Forgets rejected flows that the far end has forgotten to close.
    pub(super) fn forget_idle(&mut self, now: Duration) {
        self.receiving.retain(|_, flow| {
            flow.exception().is_none()
                || flow.has_ready()
                || now.saturating_sub(flow.active) < LINGER
        });
        let receiving = &self.receiving;
        self.acknowledge.retain(|id| receiving.contains_key(id));
    }

    fn handle_acknowledgement(
        &mut self,
        ack: &Acknowledgement<'_>,
        acknowledgements: &mut Acknowledgements,
    ) {
        acknowledgements.any = true;
        let Some(flow) = self.sending.get_mut(&ack.flow) else {
            return;
        };
        let acknowledged = flow.acknowledged(ack, acknowledgements.before);
        self.outstanding -= acknowledged.bytes;
        acknowledgements.bytes += acknowledged.bytes;
        acknowledgements.transmission =
            acknowledgements.transmission.max(acknowledged.transmission);
        self.remove_if_over(ack.flow);
    }

    fn handle_exception(&mut self, exception: &FlowException) {
        let flow = self.sending.get_mut(&exception.flow);
        let Some(abandoned) = flow.and_then(|flow| flow.rejected()) else {
            return;
        };
        self.counters.abandoned += abandoned;
        self.events.push_back(Event::Rejected {
            flow: SendId(exception.flow),
            code: exception.code,
        });
        self.remove_if_over(exception.flow);
    }

    /// What all acknowledgements of a packet mean: for what was passed over, and for the window.
    fn conclude(&mut self, now: Duration, acknowledgements: &Acknowledgements, outstanding: usize) {
        let mut lost = 0;
        let mut negative = false;
        let mut latest_sent = None;
        if let Some(latest) = acknowledgements.transmission {
            let place = self
                .in_flight
                .binary_search_by_key(&latest, |it| it.transmission);
            latest_sent = place
                .ok()
                .and_then(|place| self.in_flight.get(place))
                .copied();
            let disorder = self.round_trip.disorder();
            let too_old = latest_sent
                .zip(disorder)
                .and_then(|(it, disorder)| it.mark.sent().checked_sub(disorder));
            let mut waiting = Vec::new();
            while let Some(sent) = self
                .in_flight
                .pop_front_if(|sent| sent.transmission <= latest)
            {
                let late = too_old.is_some_and(|at| sent.mark.sent() < at);
                let flow = self.sending.get_mut(&sent.flow);
                let passed =
                    flow.map(|flow| flow.passed_over(sent.sequence, sent.transmission, late));
                match passed.unwrap_or(Negative::Stale) {
                    Negative::Stale => {}
                    Negative::Waiting => {
                        negative = true;
                        waiting.push(sent);
                    }
                    Negative::Lost(size) => {
                        negative = true;
                        lost += size;
                        self.outstanding -= size;
                        self.counters.lost += 1;
                    }
                }
            }
            for sent in waiting.into_iter().rev() {
                self.in_flight.push_front(sent);
            }
        }
        let time_critical = is_recent(self.time_critical.sent, now);
        let gives_way = time_critical
            || is_recent(self.time_critical.reverse, now)
            || is_recent(self.time_critical.sent_elsewhere, now);
        let mark = latest_sent.map(|it| it.mark);
        self.congestion.acknowledged(&Feedback {
            now,
            acknowledged: acknowledgements.bytes,
            lost,
            negative,
            outstanding,
            sample: self
                .delivery
                .acknowledged(now, acknowledgements.bytes, mark),
            full: self.held_back || outstanding >= self.congestion.window(),
            time_critical,
            fast: !gives_way,
        });
        // What came makes room for as much: where one acknowledgement stands for many packets, the next ones are no burst.
        self.burst = 0;
        self.replaced = (acknowledgements.bytes / self.config.segment.max(1)) as u32;
        self.held_back = false;
        self.unanswered = (self.outstanding > 0).then_some(now);
        if self.timeout_at.is_some() {
            self.timeout_at = Some(now + self.round_trip.timeout());
        }
        if acknowledgements.bytes > 0 {
            self.was_overdue = false;
            self.expect_answer(now);
        }
        give_back(&mut self.in_flight);
        for flow in self.sending.values_mut() {
            flow.give_back();
        }
    }
}

/// Reads a fragment; `None` for one that makes no sense, or follows one that made none.
fn read_data<'a>(
    kind: u8,
    body: &'a [u8],
    previous: Option<&UserData<'_>>,
) -> Option<UserData<'a>> {
    if kind == USER_DATA {
        UserData::read(body).ok()
    } else {
        UserData::read_next(body, previous?).ok()
    }
}
