use std::time::Duration;

use bytes::Bytes;
use headwater_rtmp::control::{Control, UserControl};
use headwater_rtmp::message::{Message, MessageType};

use super::*;
use crate::flow::{Config, FlowSet, Header, Opening, Outgoing, Priority, ReceiveId, SendId};

/// Both ends of a session without a network.
struct Ends {
    now: Duration,
    client: FlowSet,
    server: FlowSet,
    inbox: Inbox,
}

fn chunks(packet: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = packet;
    let mut chunks = Vec::new();
    while let Some((header, behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([header[1], header[2]]));
        let (body, next) = behind.split_at(length);
        chunks.push((header[0], body));
        rest = next;
    }
    chunks
}

impl Ends {
    fn new() -> Self {
        Self {
            now: Duration::from_secs(1),
            client: FlowSet::new(Config::default()),
            server: FlowSet::new(Config::default()),
            inbox: Inbox::default(),
        }
    }

    fn exchange(&mut self) -> Vec<Incoming> {
        let mut came = Vec::new();
        for _ in 0..20 {
            let mut packet = Vec::new();
            while self
                .client
                .poll_transmit(self.now, 1_160, &mut packet)
                .is_some()
            {
                let header = Header::default();
                self.server
                    .handle_packet(self.now, &header, chunks(&packet));
                packet.clear();
            }
            while let Some(incoming) = self.inbox.poll(self.now, &mut self.server) {
                came.push(incoming);
            }
            while self
                .server
                .poll_transmit(self.now, 1_160, &mut packet)
                .is_some()
            {
                let header = Header::default();
                self.client
                    .handle_packet(self.now, &header, chunks(&packet));
                packet.clear();
            }
            while self.client.poll_event().is_some() {}
            self.now += Duration::from_millis(20);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
        came
    }

    fn open(&mut self, metadata: &[u8], association: Option<ReceiveId>) -> SendId {
        let opening = Opening {
            metadata,
            association,
            priority: Priority::DATA,
            time_critical: false,
        };
        self.client.open(&opening).unwrap()
    }

    fn stream(&mut self, stream_id: u32) -> SendId {
        let order = Order::InOrder;
        self.open(&Metadata { stream_id, order }.to_bytes(), None)
    }

    fn send(&mut self, flow: SendId, message: &Message) {
        let body = body(message.kind, message.timestamp, message.payload.clone());
        self.client.send(self.now, flow, body).unwrap();
    }
}

fn audio(stream_id: u32, timestamp: u32) -> Message {
    Message {
        kind: MessageType::AUDIO,
        timestamp,
        stream_id,
        payload: Bytes::from_static(b"\xaf\x01sound"),
    }
}

#[test]
fn metadata_are_those_of_the_specification() {
    let cases: [(&[u8], u32, Order); 4] = [
        (b"TC\x04\x00", 0, Order::InOrder),
        (b"TC\x04\x05", 5, Order::InOrder),
        (b"TC\x05\x05", 5, Order::Network),
        (b"TC\x04\xfa\x89\x01", 2_000_001, Order::InOrder),
    ];
    for (bytes, stream_id, order) in cases {
        let metadata = Metadata { stream_id, order };
        assert_eq!(Metadata::read(bytes), Ok(metadata));
        assert_eq!(metadata.to_bytes(), bytes);
    }
    for bytes in [&b"GC"[..], b"T", b"", b"tc\x04\x00"] {
        assert_eq!(Metadata::read(bytes), Err(MetadataError::Signature));
    }
    for bytes in [
        &b"TC"[..],
        b"TC\x00\x05",
        b"TC\x04",
        b"TC\x04\x90\x80\x80\x80\x00",
    ] {
        assert_eq!(
            Metadata::read(bytes),
            Err(MetadataError::Stream),
            "{bytes:?}"
        );
    }
}

#[test]
fn events_are_those_of_the_specification() {
    let sync = FlowSync { id: 7, count: 2 };
    let message = sync.to_message();
    assert_eq!(message.kind, MessageType::USER_CONTROL);
    assert_eq!(message.payload[..], [0, 34, 0, 0, 0, 7, 0, 0, 0, 2]);
    assert_eq!(FlowSync::read(&message), Some(sync));
    assert_eq!(Keepalive::read(&message), None);
    // As a server sent it: see RFC 7425 section 5.3.4.
    let keepalive = Keepalive {
        server: Duration::from_secs(15),
        peer: Duration::from_secs(10),
    };
    let message = keepalive.to_message();
    assert_eq!(
        message.payload[..],
        [0, 41, 0, 0, 0x3a, 0x98, 0, 0, 0x27, 0x10]
    );
    assert_eq!(Keepalive::read(&message), Some(keepalive));
    assert_eq!(FlowSync::read(&message), None);
    let short = event(SET_KEEPALIVE, 1, 60_000);
    let read = Keepalive::read(&short).unwrap();
    assert_eq!(read.server, LEAST_KEEPALIVE);
    let cut = Message {
        payload: message.payload.slice(..9),
        ..message
    };
    assert_eq!(Keepalive::read(&cut), None);
    let begin = Control::from(UserControl::StreamBegin { stream_id: 1 }).to_message();
    assert_eq!(FlowSync::read(&begin), None);
}

#[test]
fn messages_come_with_the_stream_of_their_flow() {
    let mut ends = Ends::new();
    let flow = ends.stream(5);
    ends.send(flow, &audio(5, 0x0102_0304));
    // Set Chunk Size has no place here, and a message without a header is none.
    let chunk_size = Control::SetChunkSize(4_096).to_message();
    ends.send(flow, &chunk_size);
    let short = Outgoing::from(Body::from(Bytes::from_static(&[8, 0, 0, 0])));
    ends.client.send(ends.now, flow, short).unwrap();
    let keepalive = Keepalive {
        server: Duration::from_secs(15),
        peer: Duration::from_secs(10),
    };
    ends.send(flow, &keepalive.to_message());
    ends.client.close(flow);
    let received = ReceiveId(flow.0);
    assert_eq!(
        ends.exchange(),
        [
            Incoming::Opened {
                flow: received,
                stream_id: 5,
                association: None
            },
            Incoming::Message {
                flow: received,
                message: audio(5, 0x0102_0304)
            },
            Incoming::Keepalive(keepalive),
            Incoming::Ended {
                flow: received,
                orderly: true
            },
        ]
    );
    assert_eq!(ends.inbox.malformed(), 1);
    assert_eq!(ends.inbox.stream(received), None);
}

#[test]
fn flows_of_something_else_are_passed_on_and_nameless_ones_rejected() {
    let mut ends = Ends::new();
    let group = ends.open(b"GC", None);
    let join = Bytes::from_static(b"\x01\x21\x15");
    let join_body = Body::from(join.clone());
    ends.client.send(ends.now, group, join_body).unwrap();
    let nameless = ends.open(b"TC\x00", None);
    ends.send(nameless, &audio(0, 0));
    let came = ends.exchange();
    let flow = ReceiveId(group.0);
    assert_eq!(
        came,
        [
            Incoming::OpenedForeign {
                flow,
                metadata: Bytes::from_static(b"GC"),
                association: None
            },
            Incoming::Foreign {
                flow,
                payload: join
            },
        ]
    );
    assert!(!ends.client.is_sending(nameless));
    assert!(ends.client.is_sending(group));
}

#[test]
fn flows_wait_for_one_another() {
    let mut ends = Ends::new();
    let control = ends.stream(0);
    ends.send(control, &audio(0, 1));
    ends.exchange();
    let answer = Opening {
        metadata: b"TC\x04\x00",
        association: Some(ReceiveId(control.0)),
        priority: Priority::CONTROL,
        time_critical: false,
    };
    let answer = ends.server.open(&answer).unwrap();
    let hello = body(MessageType::COMMAND_AMF0, 0, Bytes::new());
    ends.server.send(ends.now, answer, hello).unwrap();
    ends.exchange();
    let return_to = Some(ReceiveId(answer.0));
    let one = ends.open(b"TC\x04\x01", return_to);
    let two = ends.open(b"TC\x04\x01", return_to);
    let alone = ends.open(b"TC\x04\x02", None);
    let sync = FlowSync { id: 1, count: 2 }.to_message();
    for (flow, timestamp) in [(one, 10), (alone, 30)] {
        ends.send(flow, &audio(1, timestamp));
        ends.send(flow, &sync);
        ends.send(flow, &audio(1, timestamp + 1));
    }
    let timestamps = |came: &[Incoming]| -> Vec<u32> {
        let timestamp = |incoming: &Incoming| match incoming {
            Incoming::Message { message, .. } => Some(message.timestamp),
            _ => None,
        };
        came.iter().filter_map(timestamp).collect()
    };
    // The one without the association is in a tree of its own, and does not count.
    assert_eq!(timestamps(&ends.exchange()), [10, 30]);
    ends.send(two, &audio(1, 20));
    ends.send(two, &sync);
    ends.send(two, &audio(1, 21));
    let mut came = timestamps(&ends.exchange());
    came.sort_unstable();
    assert_eq!(came, [11, 20, 21]);
    // The one that waits alone goes on after a while.
    ends.now += Duration::from_secs(3);
    assert_eq!(timestamps(&ends.exchange()), [31]);
    assert_eq!(ends.inbox.poll_timeout(), None);
}

#[test]
fn waiting_has_bounds() {
    let mut sync = Synchronizer::new(Duration::from_secs(3));
    let now = Duration::from_secs(1);
    let tree = Tree::Far(ReceiveId(1));
    let released = Arrival::Release(Vec::new());
    let flow = ReceiveId(2);
    for id in 0..32 {
        let two = FlowSync { id, count: 2 };
        assert_eq!(sync.arrived(now, tree, flow, two), Arrival::Hold);
    }
    let more = FlowSync { id: 99, count: 2 };
    assert_eq!(sync.arrived(now, tree, flow, more), released);
    let many = FlowSync { id: 0, count: 33 };
    assert_eq!(sync.arrived(now, tree, flow, many), released);
    for count in [0, 1] {
        let mut sync = Synchronizer::new(Duration::from_secs(3));
        let own = FlowSync { id: 0, count };
        assert_eq!(sync.arrived(now, tree, flow, own), released);
    }
    assert_eq!(sync.poll_timeout(), Some(Duration::from_secs(4)));
    assert_eq!(sync.handle_timeout(Duration::from_millis(3_999)), []);
    assert_eq!(sync.handle_timeout(Duration::from_secs(4)), [flow; 32]);
    assert_eq!(sync.arrived(now, tree, flow, more), Arrival::Hold);
    sync.closed(flow);
    assert_eq!(sync.poll_timeout(), None);
}
