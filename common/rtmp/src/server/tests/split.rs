//! The same bytes in other pieces are the same events.
//!
//! The answers may come in another order: what the caller answers depends on when it looks.

use std::sync::LazyLock;

use bytes::BytesMut;
use headwater_amf::Value;
use headwater_media::frame::FrameKind;
use proptest::prelude::*;

use crate::command::{DataKind, PublishMode};
use crate::server::{
    ConnectAnswer, MediaFrame, PlayAnswer, ServerConfig, ServerEvent, ServerSession,
};
use crate::session::pair::{Pair, SERVER_RANDOM, bytes, seconds, text};

/// A server whose caller says yes to everything.
struct Agreeable {
    session: ServerSession,
    input: BytesMut,
    events: Vec<ServerEvent>,
}

impl Agreeable {
    fn new() -> Self {
        Self {
            session: ServerSession::new(ServerConfig::default(), SERVER_RANDOM, seconds(1000)),
            input: BytesMut::new(),
            events: Vec::new(),
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        self.input.extend_from_slice(piece);
        self.session
            .handle_input(seconds(1000), &mut self.input)
            .unwrap();
        while let Some(event) = self.session.poll_event() {
            match &event {
                ServerEvent::Connect(_) => self
                    .session
                    .accept_connect(ConnectAnswer::default())
                    .unwrap(),
                ServerEvent::Publish(request) => {
                    self.session.accept_publish(request.stream_id).unwrap();
                }
                ServerEvent::Play(request) => self
                    .session
                    .play_started(request.stream_id, &PlayAnswer::default())
                    .unwrap(),
                ServerEvent::Call { transaction, .. } => {
                    self.session.answer_call(*transaction, Value::Null).unwrap()
                }
                _ => {}
            }
            self.events.push(event);
        }
        while self.session.poll_transmit().is_some() {}
    }
}

/// What a client sends that does a bit of everything.
static RECORDED: LazyLock<Vec<u8>> = LazyLock::new(record);

fn record() -> Vec<u8> {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam?k=v");
    for (kind, payload) in [
        (FrameKind::Audio, bytes(b"\xaf\x01audio")),
        (FrameKind::Video, bytes(b"\x17\x01\x00\x00\x00video")),
        (FrameKind::Data, bytes(b"\x02\x00\x02hi")),
    ] {
        let frame = MediaFrame {
            kind,
            data: DataKind::Plain,
            timestamp: 0x0200_0000,
            payload,
        };
        pair.client.send_media(stream_id, &frame).unwrap();
    }
    pair.client.call("method", vec![text("argument")]).unwrap();
    pair.client.ping(pair.now).unwrap();
    pair.client.unpublish(stream_id).unwrap();
    pair.client
        .publish(stream_id, "again", PublishMode::Record)
        .unwrap();
    pair.client.delete_stream(stream_id).unwrap();
    let stream_id = pair.play("cam");
    pair.client.set_buffer_length(stream_id, 100).unwrap();
    pair.drive();
    pair.client_sent
}

#[test]
fn input_may_be_split_anywhere() {
    let recorded = &*RECORDED;
    let mut whole = Agreeable::new();
    whole.feed(recorded);
    assert!(whole.events.len() > 10, "{:?}", whole.events);
    assert!(whole.input.is_empty());

    let after_handshake = 1 + 2 * 1536;
    for split in (0..after_handshake)
        .step_by(97)
        .chain(after_handshake..recorded.len())
    {
        let mut server = Agreeable::new();
        server.feed(&recorded[..split]);
        server.feed(&recorded[split..]);
        assert_eq!(server.events, whole.events, "split at {split}");
    }
}

#[test]
fn input_may_come_byte_by_byte() {
    let recorded = &*RECORDED;
    let mut whole = Agreeable::new();
    whole.feed(recorded);
    let mut server = Agreeable::new();
    for byte in recorded {
        server.feed(&[*byte]);
    }
    assert_eq!(server.events, whole.events);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a client sends, the session gives an error or goes on, and holds no more than its limits.
    #[test]
    fn no_input_is_fatal_to_us(
        changes in prop::collection::vec((3073_usize..4000, any::<u8>()), 1..20),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut input = RECORDED.clone();
        let length = input.len();
        for (place, byte) in changes {
            input[place.min(length - 1)] = byte;
        }
        input.extend(tail);
        let mut session = ServerSession::new(ServerConfig::default(), SERVER_RANDOM, seconds(0));
        let mut buffer = BytesMut::new();
        for piece in input.chunks(333) {
            buffer.extend_from_slice(piece);
            let outcome = session.handle_input(seconds(0), &mut buffer);
            while let Some(event) = session.poll_event() {
                if let ServerEvent::Connect(_) = event {
                    let _ = session.accept_connect(ConnectAnswer::default());
                }
            }
            while session.poll_transmit().is_some() {}
            if outcome.is_err() {
                prop_assert!(session.should_close());
            }
        }
        session.handle_disconnect();
        let last = std::iter::from_fn(|| session.poll_event()).last();
        prop_assert_eq!(last, Some(ServerEvent::Closed));
    }
}
