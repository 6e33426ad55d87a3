//! RTMFP: the chunks of flows, and a set of flows as a sequence of operations.

use std::time::Duration;

use bytes::Bytes;
use headwater_rtmfp::flow::{
    Config, Event, FlowSet, Header, Opening, Order, Outgoing, Priority, ReceiveId, SendId,
};
use headwater_rtmfp::message::{FlowSync, Keepalive, Metadata, read};
use headwater_rtmfp::wire::acknowledgement::{self, Acknowledgement};
use headwater_rtmfp::wire::flow_control::{
    BUFFER_PROBE, BufferProbe, FLOW_EXCEPTION_REPORT, FlowException,
};
use headwater_rtmfp::wire::user_data::{NEXT_USER_DATA, Part, USER_DATA, UserData};

/// The payload of one chunk; the first byte is its type.
pub fn rtmfp_chunks(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match *kind {
        USER_DATA => {
            if let Ok(chunk) = UserData::read(body) {
                survives(&chunk);
            }
        }
        NEXT_USER_DATA => {
            let previous = UserData {
                flow: 3,
                sequence: 7,
                forward: 2,
                part: Part::Whole,
                abandoned: false,
                last: false,
                startup: None,
                data: &[],
            };
            if let Ok(chunk) = UserData::read_next(body, &previous) {
                survives(&chunk);
            }
        }
        BUFFER_PROBE => {
            if let Ok(probe) = BufferProbe::read(body) {
                let mut out = Vec::new();
                probe.put(&mut out);
                assert_eq!(BufferProbe::read(&out), Ok(probe));
            }
        }
        FLOW_EXCEPTION_REPORT => {
            if let Ok(exception) = FlowException::read(body) {
                let mut out = Vec::new();
                exception.put(&mut out);
                assert_eq!(FlowException::read(&out), Ok(exception));
            }
        }
        _ => acknowledgements(*kind, body),
    }
    if let Some(message) = read(0, Bytes::copy_from_slice(body)) {
        let _ = (FlowSync::read(&message), Keepalive::read(&message));
    }
    if let Ok(metadata) = Metadata::read(body) {
        assert_eq!(Metadata::read(&metadata.to_bytes()), Ok(metadata));
    }
}

/// What was read can be written, and read again.
fn survives(chunk: &UserData<'_>) {
    let startup = chunk.startup.filter(|startup| startup.fault.is_none());
    // Options that may be ignored are not written, and metadata always are.
    let chunk = UserData {
        startup: startup.filter(|startup| startup.metadata.is_some()),
        ..*chunk
    };
    let mut out = Vec::new();
    chunk.put_header(&mut out);
    out.extend_from_slice(chunk.data);
    let again = UserData::read(&out).expect("what was written can be read");
    assert_eq!(chunk, again);
}

fn acknowledgements(kind: u8, body: &[u8]) {
    let Ok(ack) = Acknowledgement::read(kind, body) else {
        return;
    };
    let mut last = ack.cumulative;
    let mut ranges = Vec::new();
    for range in ack.ranges() {
        let (first, end) = range.into_inner();
        assert!(
            first - last >= 2 && end >= first,
            "ranges ascend, with holes"
        );
        last = end;
        ranges.push((first, end));
    }
    let mut out = Vec::new();
    let all = ranges.iter().copied();
    let kind = acknowledgement::put(ack.flow, ack.blocks, ack.cumulative, all, 1 << 20, &mut out);
    let kind = kind.expect("there is room");
    let again = Acknowledgement::read(kind, &out).expect("what was written can be read");
    let again = again.ranges().map(|range| range.into_inner());
    assert_eq!(again.collect::<Vec<_>>(), ranges);
}

/// Operations of one input. More of them find nothing that these do not, and take long.
const OPERATIONS: usize = 200;

/// Bounds that a short input can reach.
fn config() -> Config {
    Config {
        sending_flows: 4,
        receiving_flows: 6,
        send_bytes: 60_000,
        send_messages: 40,
        receive_window: 8 << 10,
        receive_bytes: 24 << 10,
        message_bytes: 16 << 10,
        ..Config::default()
    }
}

/// What operations read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Chunks for a packet, or as many of them as there are.
    fn chunks(&mut self) -> Vec<(u8, &'a [u8])> {
        let count = self.byte().unwrap_or(0) % 16;
        let mut chunks = Vec::new();
        for _ in 0..count {
            let (Some(kind), Some(length)) = (self.byte(), self.byte()) else {
                break;
            };
            chunks.push((kind, self.bytes(length.into())));
        }
        chunks
    }
}

/// Two ends, of which the first also gets what no far end would send.
struct Session {
    now: Duration,
    here: FlowSet,
    there: FlowSet,
    sending: Vec<SendId>,
}

/// A set of flows: the input says what the application does, what time it is, and what comes from the network.
pub fn rtmfp_flows(data: &[u8]) {
    let mut session = Session {
        now: Duration::from_secs(1),
        here: FlowSet::new(config()),
        there: FlowSet::new(config()),
        sending: Vec::new(),
    };
    let mut input = Input(data);
    for _ in 0..OPERATIONS {
        let Some(operation) = input.byte() else {
            break;
        };
        session.operate(operation, &mut input);
        session.check();
    }
    // Left alone it comes to rest: what waits for nothing is due at no time that has passed.
    for _ in 0..200 {
        session.exchange(true);
        let Some(due) = session.here.poll_timeout() else {
            break;
        };
        session.now = session.now.max(due);
        session.here.handle_timeout(session.now);
        session.check();
    }
}

impl Session {
    fn operate(&mut self, operation: u8, input: &mut Input<'_>) {
        let mut argument = || input.byte().unwrap_or(0);
        match operation % 10 {
            0 => {
                let header = Header::default();
                self.here.handle_packet(self.now, &header, input.chunks());
            }
            1 => self.open(argument()),
            2 => {
                let (flow, length) = (argument(), usize::from(argument()) * 40);
                let message = Outgoing {
                    body: Bytes::from(vec![flow; length]).into(),
                    start_by: (flow & 0x40 != 0).then_some(self.now + Duration::from_millis(50)),
                    finish_by: (flow & 0x80 != 0).then_some(self.now + Duration::from_millis(90)),
                };
                if let Some(flow) = self.sending(flow) {
                    let _ = self.here.send(self.now, flow, message);
                }
            }
            3 => {
                let flow = self.sending(argument());
                if let Some(flow) = flow
                    && let Ok(id) = self.here.send(self.now, flow, Outgoing::default())
                {
                    self.here.abandon_before(flow, id);
                    self.here.abandon(flow, id);
                }
            }
            4 => {
                if let Some(flow) = self.sending(argument()) {
                    self.here.close(flow);
                }
            }
            5 => {
                self.now += Duration::from_millis(u64::from(argument()) * 4);
                self.here.handle_timeout(self.now);
                self.there.handle_timeout(self.now);
            }
            6 => {
                let flow = ReceiveId(argument().into());
                self.here.suspend(flow, argument() & 1 != 0);
            }
            7 => {
                let flow = ReceiveId(argument().into());
                let code = argument();
                self.here.set_order(flow, Order::Network);
                if code & 1 != 0 {
                    self.here.reject(flow, code.into());
                }
            }
            8 => self.here.path_changed(),
            _ => self.exchange(argument() & 1 == 0),
        }
    }

    fn sending(&self, number: u8) -> Option<SendId> {
        let count = self.sending.len().max(1);
        self.sending.get(usize::from(number) % count).copied()
    }

    fn open(&mut self, priority: u8) {
        let opening = Opening {
            metadata: b"TC\x04\x00",
            association: (priority & 0x80 != 0).then_some(ReceiveId(7)),
            priority: Priority(priority & 7),
            time_critical: priority & 0x40 != 0,
        };
        if let Ok(flow) = self.here.open(&opening) {
            self.sending.push(flow);
        }
    }

    /// Packets go there, and back unless they are lost.
    fn exchange(&mut self, back: bool) {
        for round in 0..1_000 {
            let mut packet = Vec::new();
            let there = self.here.poll_transmit(self.now, 1_160, &mut packet);
            if let Some(header) = &there {
                assert!(packet.len() <= 1_160, "{} bytes", packet.len());
                let chunks = chunks(&packet);
                self.there.handle_packet(self.now, header, chunks);
            }
            while self.there.poll_event().is_some() {}
            packet.clear();
            let here = self.there.poll_transmit(self.now, 1_160, &mut packet);
            if let Some(header) = here.as_ref().filter(|_| back) {
                let chunks = chunks(&packet);
                self.here.handle_packet(self.now, header, chunks);
            }
            if there.is_none() && here.is_none() {
                return;
            }
            assert!(round < 999, "packets without end");
        }
    }

    fn check(&mut self) {
        let mut events = 0;
        while let Some(event) = self.here.poll_event() {
            events += 1;
            assert!(events < 10_000, "events without end");
            if let Event::Message { payload, .. } = event {
                assert!(payload.len() <= config().message_bytes);
            }
        }
        let config = config();
        // One fragment of each flow may be beyond the bound, and one message.
        let most = config.receive_bytes + config.receiving_flows * 1_024 + config.message_bytes;
        assert!(self.here.received_bytes() <= most);
        assert!(self.here.receiving() <= config.receiving_flows);
        let (bytes, messages) = self.here.waiting();
        assert!(messages <= config.send_messages);
        assert!(bytes <= config.send_bytes + messages * 64 + 1_024);
    }
}

/// The chunks of a packet that was written here, and so is well formed.
fn chunks(packet: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = packet;
    let mut chunks = Vec::new();
    while let Some((&[kind, high, low], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        assert!(behind.len() >= length, "a chunk ends with its packet");
        let (body, next) = behind.split_at(length);
        chunks.push((kind, body));
        rest = next;
    }
    assert!(rest.is_empty(), "chunks fill a packet");
    chunks
}
