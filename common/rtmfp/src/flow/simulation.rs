//! Two sets of flows and a network between them, with seeds and a time that nobody waits for.

mod congested;
mod network;
mod repair;
mod scenarios;

use std::time::Duration;

use bytes::Bytes;

use self::network::{Link, Path};
use super::set::{Config, Event, FlowSet, Header};
use super::{Outgoing, ReceiveId, SendId};

/// What packets have for chunks.
const SPACE: usize = 1_160;

/// The chunks in a packet; panics where they are not well formed, for what is written here has to be.
pub(super) fn chunks(packet: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = packet;
    let mut chunks = Vec::new();
    while let Some((header, behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
        let (body, next) = behind.split_at(length);
        chunks.push((header[0], body));
        rest = next;
    }
    assert!(rest.is_empty(), "chunks fill the packet");
    chunks
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Bytes that say where they are, so that nothing can be in the wrong place.
fn pattern(length: usize, number: u64) -> Bytes {
    (0..length)
        .map(|at| (at as u64 ^ number.wrapping_mul(7) ^ (at as u64 >> 8)) as u8)
        .collect()
}

fn reliable(payload: Bytes) -> Outgoing {
    Outgoing {
        body: payload.into(),
        ..Outgoing::default()
    }
}

/// Keeps a flow full for some time, and says how many bytes came in it.
fn fill(pair: &mut Pair, flow: SendId, time: Duration) -> usize {
    let end = pair.now + time;
    let before = received(pair, flow);
    let payload = pattern(20_000, 0);
    while pair.now < end {
        while pair.here.flows.send_state(flow).unwrap().bytes < 2_000_000 {
            let message = reliable(payload.clone());
            pair.here.flows.send(pair.now, flow, message).unwrap();
        }
        pair.run_for(ms(10));
    }
    received(pair, flow) - before
}

fn received(pair: &Pair, flow: SendId) -> usize {
    let messages = pair.there.messages(flow.0);
    messages.iter().map(|(_, payload)| payload.len()).sum()
}

/// One end.
struct End {
    flows: FlowSet,
    link: Link<(Header, Vec<u8>)>,
    events: Vec<(Duration, Event)>,
    /// Bytes of packets that were sent.
    sent: usize,
}

impl End {
    fn new(config: Config, path: Path, seed: u64) -> Self {
        Self {
            flows: FlowSet::new(config),
            link: Link::new(path, seed),
            events: Vec::new(),
            sent: 0,
        }
    }

    fn drain(&mut self, now: Duration) {
        while let Some(event) = self.flows.poll_event() {
            self.events.push((now, event));
        }
        loop {
            let mut out = Vec::new();
            let Some(header) = self.flows.poll_transmit(now, SPACE, &mut out) else {
                assert!(out.is_empty());
                break;
            };
            assert!(out.len() <= SPACE, "{} bytes in a packet", out.len());
            self.sent += out.len();
            let size = out.len() + 40;
            self.link.send(now, size, (header, out));
        }
    }

    /// Messages of a flow, and when they came.
    fn messages(&self, flow: u64) -> Vec<(Duration, Bytes)> {
        let of_flow = |(at, event): &(Duration, Event)| match event {
            Event::Message {
                flow: from,
                payload,
            } if *from == ReceiveId(flow) => Some((*at, payload.clone())),
            _ => None,
        };
        self.events.iter().filter_map(of_flow).collect()
    }
}

/// Two ends.
struct Pair {
    start: Duration,
    now: Duration,
    here: End,
    there: End,
}

impl Pair {
    fn new(config: &Config, path: &Path, seed: u64) -> Self {
        Self {
            start: Duration::from_secs(1),
            now: Duration::from_secs(1),
            here: End::new(config.clone(), path.clone(), seed),
            there: End::new(config.clone(), path.clone(), seed ^ 0x5555),
        }
    }

    fn drain(&mut self) {
        self.here.drain(self.now);
        self.there.drain(self.now);
    }

    /// Lets the time pass, up to this one.
    fn run_until(&mut self, until: Duration) {
        let mut steps = 0_u64;
        loop {
            self.drain();
            let times = [
                self.here.link.next_arrival(),
                self.there.link.next_arrival(),
                self.here.flows.poll_timeout(),
                self.there.flows.poll_timeout(),
            ];
            let next = times.into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            // A time that has passed already is handled now, but no time may be so for ever.
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < 10_000, "the time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            while let Some((header, packet)) = self.here.link.arrival(self.now) {
                let chunks = chunks(&packet);
                self.there.flows.handle_packet(self.now, &header, chunks);
                self.there.drain(self.now);
            }
            while let Some((header, packet)) = self.there.link.arrival(self.now) {
                let chunks = chunks(&packet);
                self.here.flows.handle_packet(self.now, &header, chunks);
                self.here.drain(self.now);
            }
            self.here.flows.handle_timeout(self.now);
            self.there.flows.handle_timeout(self.now);
        }
    }

    fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }
}

/// A flow for bytes.
fn open(flows: &mut FlowSet, priority: super::Priority) -> SendId {
    let opening = super::Opening {
        metadata: b"test",
        association: None,
        priority,
        time_critical: priority >= super::Priority::VIDEO,
    };
    flows.open(&opening).unwrap()
}
