//! What goes to the far end.

use std::cmp::Reverse;
use std::time::Duration;

use super::super::Priority;
use super::super::send::{Assembling, CHUNK_HEADER};
use super::{FlowSet, Header, Sent};
use crate::wire::acknowledgement;
use crate::wire::field::variable_length;
use crate::wire::flow_control::{BUFFER_PROBE, BufferProbe, FLOW_EXCEPTION_REPORT, FlowException};

/// An acknowledgement is not squeezed into less room than this, in bytes, but waits for the next packet.
const LEAST_ACKNOWLEDGEMENT: usize = 48;

/// The space that a packet should at least have for chunks, in bytes: what a fragment with the longest metadata takes, and more.
const LEAST_SPACE: usize = 640;

/// So long after audio was sent the next is expected.
const URGENT: Duration = Duration::from_secs(1);

/// Puts type and length before a payload that `write` makes; nothing is left where it makes none.
fn put_chunk(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Option<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; CHUNK_HEADER]);
    let Some(kind) = write(out) else {
        out.truncate(start);
        return false;
    };
    let length = (out.len() - start - CHUNK_HEADER) as u16;
    let [high, low] = length.to_be_bytes();
    if let Some(header) = out.get_mut(start..start + CHUNK_HEADER) {
        header.copy_from_slice(&[kind, high, low]);
    }
    true
}

impl FlowSet {
    /// Puts the chunks of a packet behind what is in `out`, and returns its header; `None`, and `out` is as it was, where there is
    /// nothing to send. Call it until then, each time with the space that a packet has for chunks: at least 640 bytes.
    ///
    /// It is less than `space`, but for one fragment that was cut for larger packets: that goes out in a packet of its own.
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Duration,
        space: usize,
        out: &mut Vec<u8>,
    ) -> Option<Header> {
        let space = space.max(LEAST_SPACE);
        let start = out.len();
        self.expire(now);
        let data = self.choose(now).is_some();
        if self.acknowledge_now || data {
            self.put_acknowledgements(start + space, out);
        }
        self.put_probes(now, start + space, out);
        let time_critical = if data {
            self.put_data(now, start, space, out)
        } else {
            None
        };
        debug_assert!(self.is_consistent());
        if out.len() == start {
            return None;
        }
        if time_critical == Some(true) {
            self.time_critical.sent = Some(now);
        }
        Some(Header {
            time_critical: time_critical == Some(true),
            ..self.stamp(now)
        })
    }

    /// The flow whose turn it is, if anything may be sent.
    ///
    /// While there is audio, the last packet of a burst and the last segment of the window are kept for it: so a key frame does not hold
    /// it up for a round trip. Where packets are paced, it does not wait for its time.
    fn choose(&mut self, now: Duration) -> Option<u64> {
        let ready = self.sending.iter_mut().filter_map(|(id, flow)| {
            let rank = (flow.priority, Reverse(flow.served), Reverse(*id));
            flow.is_ready().then_some((rank, *id))
        });
        let next = ready.max();
        let mut window = self.congestion.window();
        let Some(((priority, ..), id)) = next else {
            if self.outstanding < window {
                self.delivery.limited(self.outstanding);
            }
            return None;
        };
        let mut burst = self.config.burst.saturating_add(self.replaced);
        let urgent = self
            .urgent
            .is_some_and(|at| now.saturating_sub(at) < URGENT);
        if urgent && priority < Priority::AUDIO {
            window = window.saturating_sub(self.config.segment).max(window / 2);
            burst = burst.saturating_sub(1).max(1);
        }
        if self.outstanding >= window {
            self.held_back = true;
            return None;
        }
        let may = match self.congestion.rate() {
            Some(rate) => {
                let burst = u64::from(self.config.burst).max(1) * self.config.segment as u64;
                let urgent = priority >= Priority::AUDIO;
                self.pace.may_send(now, rate, burst, urgent)
            }
            None => self.burst < burst,
        };
        may.then_some(id)
    }

    /// Fills a packet with data. Whether something time-critical is among them; `None` where there are none.
    fn put_data(
        &mut self,
        now: Duration,
        start: usize,
        space: usize,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        self.packet += 1;
        let mut assembling = Assembling {
            packet: self.packet,
            previous: None,
        };
        let mut time_critical = None;
        while let Some(id) = self.choose(now) {
            let alone = out.len() == start;
            let left = (start + space).saturating_sub(out.len());
            let transmission = self.transmission + 1;
            let flow = self.sending.get_mut(&id)?;
            let Some(put) = flow.put(&mut assembling, transmission, left, alone, out) else {
                break;
            };
            self.transmission = transmission;
            self.served += 1;
            flow.served = self.served;
            self.in_flight.push_back(Sent {
                transmission,
                packet: self.packet,
                flow: id,
                sequence: put.sequence,
                mark: self.delivery.sent(now, self.outstanding, put.again),
            });
            self.outstanding += put.size;
            if flow.priority >= Priority::AUDIO {
                self.urgent = Some(now);
            }
            self.counters.sent += 1;
            self.counters.sent_again += u64::from(put.again);
            let urgent = time_critical.unwrap_or(false) || flow.time_critical;
            time_critical = Some(urgent);
        }
        if time_critical.is_some() {
            self.burst += 1;
            self.pace.sent(out.len() - start);
            self.timeout_at = Some(now + self.round_trip.timeout());
            self.unanswered.get_or_insert(now);
            self.expect_answer(now);
        }
        time_critical
    }

    /// Puts what is to be acknowledged into a packet that ends at `end`, with the exception before each of a flow that is not wanted.
    fn put_acknowledgements(&mut self, end: usize, out: &mut Vec<u8>) {
        while let Some(reply) = self.replies.first().copied() {
            let put = put_acknowledgement(reply.flow, reply.exception, end, out, |space, out| {
                let runs = reply.also.map(|number| (number, number)).into_iter();
                acknowledgement::put(reply.flow, 0, reply.cumulative, runs, space, out)
            });
            if !put {
                return;
            }
            self.replies.remove_first();
        }
        let room = self.room();
        while let Some(id) = self.acknowledge.front().copied() {
            if let Some(flow) = self.receiving.get_mut(&id) {
                let exception = flow.exception();
                let put = put_acknowledgement(id, exception, end, out, |space, out| {
                    flow.put_acknowledgement(id, &room, space, out)
                });
                if !put {
                    return;
                }
                flow.acknowledge = false;
            }
            self.acknowledge.pop_front();
        }
        self.acknowledge_now = !self.replies.is_empty();
        self.acknowledge_at = None;
        self.data_packets = 0;
    }

    /// Asks flows with a closed window how they are, if it is time.
    fn put_probes(&mut self, now: Duration, end: usize, out: &mut Vec<u8>) {
        let timeout = self.round_trip.timeout();
        for (id, flow) in self.sending.iter_mut() {
            let due = flow.probe_at(now).is_some_and(|at| at <= now);
            if !due || end.saturating_sub(out.len()) < CHUNK_HEADER + variable_length(*id) {
                continue;
            }
            put_chunk(out, |out| {
                BufferProbe { flow: *id }.put(out);
                Some(BUFFER_PROBE)
            });
            flow.probed(now, timeout);
        }
    }
}

/// Puts an acknowledgement, and the exception before it; nothing where there is too little room.
fn put_acknowledgement(
    flow: u64,
    exception: Option<u64>,
    end: usize,
    out: &mut Vec<u8>,
    write: impl FnOnce(usize, &mut Vec<u8>) -> Option<u8>,
) -> bool {
    let start = out.len();
    if end.saturating_sub(start) < LEAST_ACKNOWLEDGEMENT {
        return false;
    }
    if let Some(code) = exception {
        put_chunk(out, |out| {
            FlowException { flow, code }.put(out);
            Some(FLOW_EXCEPTION_REPORT)
        });
    }
    let space = end.saturating_sub(out.len() + CHUNK_HEADER);
    let put = put_chunk(out, |out| write(space, out));
    if !put {
        out.truncate(start);
    }
    put
}
