//! What breaks the rules, and what becomes of it.

use bytes::{Bytes, BytesMut};
use headwater_amf::Value;

use crate::chunk::{ChunkError, ChunkReader, ReaderLimits};
use crate::client::ClientEvent;
use crate::command::{CommandError, PublishMode};
use crate::handshake::HandshakeError;
use crate::message::{Message, MessageType};
use crate::server::{ConnectAnswer, PlayAnswer, ServerConfig, ServerEvent, ServerSession};
use crate::session::pair::{Pair, SERVER_RANDOM, bytes, command, parameters, seconds, text};
use crate::session::{SessionError, SessionLimits};
use crate::status::{Status, StatusCode};

fn limited(change: impl FnOnce(&mut SessionLimits)) -> Pair {
    let mut config = ServerConfig::default();
    change(&mut config.limits);
    Pair::connected_with(config, &parameters())
}

fn raw(kind: MessageType, payload: Bytes) -> Message {
    Message {
        kind,
        timestamp: 0,
        stream_id: 0,
        payload,
    }
}

#[test]
fn what_is_not_rtmp_is_refused_at_the_first_byte() {
    let mut server = ServerSession::new(ServerConfig::default(), SERVER_RANDOM, seconds(0));
    let mut input = BytesMut::from(&b"GET / HTTP/1.1\r\n"[..]);
    assert_eq!(
        server.handle_input(seconds(0), &mut input),
        Err(SessionError::Handshake(HandshakeError::Text {
            first: b'G'
        }))
    );
    // The input is whole: the port may be shared.
    assert_eq!(&input[..], b"GET / HTTP/1.1\r\n");
    assert!(server.should_close());
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn garbage_in_a_command_is_told_and_forgiven_a_few_times() {
    let mut pair = limited(|limits| limits.bad_commands = 3);
    for body in [&b"\xff\xff"[..], b"\x00\x00"] {
        pair.client
            .send_message(&raw(
                MessageType::COMMAND_AMF0,
                Bytes::copy_from_slice(body),
            ))
            .unwrap();
        pair.drive();
        assert_eq!(
            pair.take_codes(),
            [(0, "NetConnection.Call.BadVersion".to_owned())]
        );
        assert!(pair.server.is_connected());
    }
    pair.client
        .send_message(&raw(MessageType::COMMAND_AMF3, Bytes::new()))
        .unwrap();
    assert_eq!(
        pair.try_drive(),
        Err(SessionError::TooManyBadCommands(CommandError::Name))
    );
    assert_eq!(pair.take_client_events().last(), Some(&ClientEvent::Closed));
}

#[test]
fn garbage_instead_of_connect_ends_the_session() {
    let mut pair = Pair::new();
    pair.client
        .send_message(&raw(MessageType::COMMAND_AMF0, bytes(b"\xff")))
        .unwrap();
    let outcome = pair.try_drive();
    assert!(
        matches!(outcome, Err(SessionError::Connect(CommandError::Amf(_)))),
        "{outcome:?}"
    );
    assert_eq!(
        pair.take_codes(),
        [(0, "NetConnection.Call.BadVersion".to_owned())]
    );
}

#[test]
fn commands_above_the_limits_count_as_garbage() {
    for change in [
        |limits: &mut SessionLimits| limits.command_size = 1000,
        |limits: &mut SessionLimits| limits.amf.bytes = 4000,
    ] {
        let mut pair = limited(change);
        let long = text(&"x".repeat(5000));
        pair.client.notify(0, "x", vec![long]).unwrap();
        pair.drive();
        assert_eq!(
            pair.take_codes(),
            [(0, "NetConnection.Call.BadVersion".to_owned())]
        );
        assert_eq!(pair.take_server_events(), []);
    }
}

#[test]
fn names_are_bounded() {
    let mut pair = Pair::connected();
    let name = "x".repeat(257);
    pair.client.notify(0, &name, Vec::new()).unwrap();
    pair.drive();
    assert_eq!(pair.take_server_events(), []);
    assert_eq!(pair.take_codes().len(), 1);
}

#[test]
fn messages_above_the_limit_end_the_session() {
    let mut pair = limited(|limits| limits.message_size = 10_000);
    pair.client
        .send_message(&raw(MessageType::AUDIO, Bytes::from(vec![0; 10_001])))
        .unwrap();
    let outcome = pair.try_drive();
    assert!(
        matches!(
            outcome,
            Err(SessionError::Chunk(ChunkError::MessageTooLong {
                length: 10_001,
                limit: 10_000,
                ..
            }))
        ),
        "{outcome:?}"
    );
    assert!(pair.server.should_close());
}

#[test]
fn a_malformed_control_message_ends_the_session() {
    let mut pair = Pair::connected();
    pair.client
        .send_message(&raw(MessageType::WINDOW_ACK_SIZE, bytes(b"\x00")))
        .unwrap();
    let outcome = pair.try_drive();
    assert!(
        matches!(outcome, Err(SessionError::Control(_))),
        "{outcome:?}"
    );
}

#[test]
fn whoever_asks_for_a_stream_is_told_which_it_is_whatever_the_transaction() {
    let mut pair = Pair::connected();
    pair.server_sent.clear();
    let asked = command(0, "createStream", 0.0, vec![Value::Null]);
    pair.client.send_message(&asked).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::StreamCreated { stream_id: 1 }]
    );
    let mut reader = ChunkReader::new(ReaderLimits::default());
    let mut sent = BytesMut::from(&pair.server_sent[..]);
    let answer = reader.handle_input(&mut sent).unwrap().expect("an answer");
    let expected = command(0, "_result", 0.0, vec![Value::Number(1.0)]);
    assert_eq!(answer.payload, expected.payload);
}

#[test]
fn streams_are_bounded() {
    let mut pair = limited(|limits| limits.streams = 2);
    let first = pair.create_stream();
    pair.create_stream();
    pair.client.create_stream().unwrap();
    pair.drive();
    assert!(matches!(
        pair.take_client_events()[..],
        [ClientEvent::CallResult { result: Err(_), .. }]
    ));
    pair.client.delete_stream(first).unwrap();
    pair.drive();
    assert_eq!(pair.create_stream(), first);
}

#[test]
fn missing_arguments_fail_the_call_and_nothing_else() {
    for (name, stream_id) in [
        ("releaseStream", 0),
        ("FCPublish", 0),
        ("FCUnpublish", 0),
        ("FCSubscribe", 0),
        ("FCUnsubscribe", 0),
        ("getStreamLength", 0),
        ("pause", 1),
        ("receiveAudio", 1),
        ("receiveVideo", 1),
    ] {
        let mut pair = Pair::connected();
        pair.play("cam");
        // Wrong types count as missing.
        for rest in [vec![], vec![Value::Null]] {
            pair.client
                .send_message(&command(stream_id, name, 50.0, rest.clone()))
                .unwrap();
            pair.client
                .send_message(&command(stream_id, name, 0.0, rest))
                .unwrap();
        }
        let sent = pair.client_events.len();
        pair.drive();
        assert_eq!(pair.take_server_events(), [], "{name}");
        // The client knows no transaction 50: its answers are counted there.
        assert_eq!(pair.client_events.len(), sent, "{name}");
        assert_eq!(pair.client.ignored_messages(), 2, "{name}");
        assert_eq!(pair.server.ignored_messages(), 4, "{name}");
        assert!(pair.server.is_connected(), "{name}");
    }
}

#[test]
fn commands_for_streams_that_are_not_there_are_counted() {
    let mut pair = Pair::connected();
    pair.client.pause(4, true, 0.0).unwrap();
    pair.client.receive_audio(4, true).unwrap();
    pair.client.receive_video(4, true).unwrap();
    pair.client.close_stream(4).unwrap();
    pair.client.delete_stream(4).unwrap();
    pair.client.stop(4).unwrap();
    pair.drive();
    assert_eq!(pair.take_server_events(), []);
    assert_eq!(pair.take_client_events(), []);
    assert_eq!(pair.server.ignored_messages(), 3);
}

#[test]
fn output_that_nobody_drains_ends_the_session() {
    let mut pair = limited(|limits| limits.pending_output = 10_000);
    let long = || vec![text(&"x".repeat(4000))];
    pair.server.notify_client("a", long()).unwrap();
    pair.server.notify_client("a", long()).unwrap();
    assert_eq!(
        pair.server.notify_client("a", long()),
        Err(SessionError::TooMuchOutput(10_000))
    );
    assert!(!pair.server.should_close());
    while pair.server.poll_transmit().is_some() {}
    assert!(pair.server.should_close());
}

#[test]
fn input_waits_while_events_do() {
    let mut pair = limited(|limits| limits.pending_events = 4);
    for _ in 0..10 {
        pair.client.notify(0, "x", Vec::new()).unwrap();
    }
    let mut input = BytesMut::new();
    while let Some(bytes) = pair.client.poll_transmit() {
        input.extend_from_slice(&bytes);
    }
    let mut taken = Vec::new();
    loop {
        pair.server.handle_input(pair.now, &mut input).unwrap();
        let mut count = 0;
        while let Some(event) = pair.server.poll_event() {
            assert!(matches!(event, ServerEvent::Call { .. }));
            count += 1;
        }
        taken.push(count);
        if !pair.server.has_more_input() {
            break;
        }
    }
    assert_eq!(taken, [4, 4, 2]);
    assert!(input.is_empty());
}

#[test]
fn unknown_messages_are_counted() {
    let mut pair = Pair::connected();
    for kind in [0, 7, 23, 255] {
        pair.client
            .send_message(&raw(MessageType(kind), bytes(b"x")))
            .unwrap();
    }
    pair.drive();
    assert_eq!(pair.take_server_events(), []);
    assert_eq!(pair.server.ignored_messages(), 4);
}

#[test]
fn nothing_is_said_after_the_last_words() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    for _ in 0..100 {
        pair.client.notify(0, "more", Vec::new()).unwrap();
    }
    assert_eq!(pair.try_drive(), Err(SessionError::TooMuchDeferred));
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    assert_eq!(pair.server.poll_transmit(), None);

    let mut pair = Pair::connected();
    let player = pair.play("cam");
    let publisher = pair.create_stream();
    pair.client
        .publish(publisher, "new", PublishMode::Live)
        .unwrap();
    pair.drive();
    pair.server
        .close(&Status::new(StatusCode::ConnectIdleTimeout))
        .unwrap();
    while pair.server.poll_transmit().is_some() {}
    pair.server.accept_publish(publisher).unwrap();
    pair.server
        .play_started(player, &PlayAnswer::default())
        .unwrap();
    pair.server.unpublish_notify(player, "cam").unwrap();
    pair.server.bandwidth_done().unwrap();
    pair.server.ping(pair.now).unwrap();
    assert_eq!(pair.server.poll_transmit(), None);
    assert!(pair.server.should_close());
}
