use bytes::{Bytes, BytesMut};
use headwater_amf::Value;
use headwater_media::frame::FrameKind;

use super::*;
use crate::chunk::shared_wire_form;
use crate::command::{
    CAPS_EX_MULTITRACK, CAPS_EX_RECONNECT, DataKind, EnhancedCapabilities, PublishMode,
    shared_object_message,
};
use crate::handshake::HandshakeError;
use crate::message::{Message, MessageType};
use crate::server::{ConnectAnswer, MediaFrame, ServerConfig, ServerEvent};
use crate::session::pair::{
    CLIENT_RANDOM, Pair, bytes, commands, messages, object, parameters, seconds, text,
};
use crate::status::{Status, StatusCode};

#[test]
fn what_is_said_before_the_handshake_is_done_waits_for_it() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.client.create_stream().unwrap();
    let long = MediaFrame {
        kind: FrameKind::Video,
        data: DataKind::Plain,
        timestamp: 0,
        payload: Bytes::from(vec![1; 9000]),
    };
    pair.client.send_media(1, &long).unwrap();
    let hello = pair.client.poll_transmit().unwrap();
    assert_eq!(hello.len(), 1 + 1536);
    assert_eq!(pair.client.poll_transmit(), None);
    let mut input = BytesMut::from(&hello[..]);
    pair.server.handle_input(pair.now, &mut input).unwrap();
    pair.client_sent.extend_from_slice(&hello);
    pair.drive();
    // Not the chunk stream of a broken handshake.
    let kinds: Vec<MessageType> = messages(&pair.client_sent)
        .iter()
        .map(|message| message.kind)
        .collect();
    assert_eq!(
        kinds[..4],
        [
            MessageType::SET_CHUNK_SIZE,
            MessageType::COMMAND_AMF0,
            MessageType::COMMAND_AMF0,
            MessageType::VIDEO
        ]
    );
}

#[test]
fn connect_says_what_flash_player_says() {
    let mut pair = Pair::new();
    let mut parameters = parameters();
    parameters.page_url = Some("http://h/".to_owned());
    parameters.properties = vec![("type".to_owned(), text("nonprivate"))];
    parameters.arguments = vec![Value::Boolean(true)];
    pair.client.connect(&parameters).unwrap();
    pair.drive();
    let (stream_id, connect) = commands(&pair.client_sent).remove(0);
    assert_eq!(stream_id, 0);
    assert_eq!(connect.name, "connect");
    assert_eq!(connect.transaction, TransactionId::new(1.0));
    assert_eq!(
        connect.object,
        object(&[
            ("app", text("live/room")),
            ("flashVer", text("LNX 32,0,0,465")),
            ("pageUrl", text("http://h/")),
            ("tcUrl", text("rtmp://media.example/live/room")),
            ("fpad", Value::Boolean(false)),
            ("capabilities", Value::Number(239.0)),
            ("audioCodecs", Value::Number(3575.0)),
            ("videoCodecs", Value::Number(252.0)),
            ("videoFunction", Value::Number(1.0)),
            ("objectEncoding", Value::Number(0.0)),
            ("type", text("nonprivate")),
        ])
    );
    assert_eq!(connect.arguments, [Value::Boolean(true)]);
}

#[test]
fn what_is_not_rtmp_is_refused() {
    let mut client = ClientSession::new(ClientConfig::default(), CLIENT_RANDOM, seconds(0));
    let mut input = BytesMut::from(&b"HTTP/1.1 400 Bad Request\r\n"[..]);
    assert_eq!(
        client.handle_input(seconds(0), &mut input),
        Err(SessionError::Handshake(HandshakeError::Text {
            first: b'H'
        }))
    );
    assert_eq!(client.poll_timeout(), None);
}

#[test]
fn media_comes_as_it_was_sent() {
    let mut pair = Pair::connected();
    let stream_id = pair.play("cam");
    pair.drive();
    pair.take_client_events();
    // The way of the fan-out: shared wire forms between the session's own bytes.
    let mut input = BytesMut::new();
    let mut expected = Vec::new();
    for (chunk_stream, kind, payload) in [
        (chunk_streams::VIDEO, MessageType::VIDEO, vec![7; 200_000]),
        (chunk_streams::AUDIO, MessageType::AUDIO, vec![8; 10]),
        (chunk_streams::VIDEO, MessageType::VIDEO, vec![9; 10]),
    ] {
        let message = Message {
            kind,
            timestamp: 40,
            stream_id,
            payload: Bytes::from(payload),
        };
        let wire = shared_wire_form(chunk_stream, &message, pair.server.chunk_size_out());
        input.extend_from_slice(&wire.bytes);
        pair.server.unpublish_notify(stream_id, "cam").unwrap();
        while let Some(bytes) = pair.server.poll_transmit() {
            input.extend_from_slice(&bytes);
        }
        expected.push((kind, message.payload));
    }
    pair.client.handle_input(pair.now, &mut input).unwrap();
    let mut frames = Vec::new();
    let mut notices = 0;
    while let Some(event) = pair.client.poll_event() {
        match event {
            ClientEvent::Media {
                stream_id: on,
                frame,
            } => {
                assert_eq!((on, frame.timestamp), (stream_id, 40));
                let kind = match frame.kind {
                    FrameKind::Audio => MessageType::AUDIO,
                    FrameKind::Video => MessageType::VIDEO,
                    FrameKind::Data => MessageType::DATA_AMF0,
                };
                frames.push((kind, frame.payload));
            }
            ClientEvent::Status { .. } => notices += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(frames, expected);
    assert_eq!(notices, 3);
}

#[test]
fn a_server_that_declares_itself_is_heard() {
    let mut pair = Pair::with(
        ServerConfig {
            enhanced: EnhancedCapabilities {
                caps_ex: CAPS_EX_MULTITRACK,
                ..EnhancedCapabilities::default()
            },
            ..ServerConfig::default()
        },
        ClientConfig::default(),
    );
    let mut parameters = parameters();
    parameters.enhanced.caps_ex = CAPS_EX_RECONNECT;
    pair.client.connect(&parameters).unwrap();
    pair.drive();
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    pair.drive();
    let Some(ClientEvent::Connected { enhanced, .. }) = pair.take_client_events().pop() else {
        panic!();
    };
    assert_eq!(enhanced.caps_ex, CAPS_EX_MULTITRACK);
    assert!(!enhanced.can_reconnect());
}

#[test]
fn garbage_from_the_server_is_counted() {
    let mut pair = Pair::connected();
    pair.server
        .notify_client("onStatus", vec![Value::Null])
        .unwrap();
    pair.server.notify_client("onStatus", Vec::new()).unwrap();
    pair.drive();
    assert_eq!(pair.take_client_events(), []);
    assert_eq!(pair.client.ignored_messages(), 2);
    // A data message that looks like a status and is none is data.
    pair.server
        .data(1, &[text("onPlayStatus"), Value::Null])
        .unwrap();
    pair.drive();
    assert!(matches!(
        pair.take_client_events()[..],
        [ClientEvent::Media { .. }]
    ));
}

#[test]
fn the_client_is_done_when_it_says_so() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    pair.client.fc_unpublish("cam").unwrap();
    pair.client.delete_stream(stream_id).unwrap();
    pair.client.close();
    assert!(!pair.client.should_close());
    pair.drive();
    assert!(pair.client.should_close());
    assert_eq!(
        pair.take_server_events(),
        [
            ServerEvent::FcUnpublish {
                name: "cam".to_owned()
            },
            ServerEvent::Unpublish { stream_id }
        ]
    );
    pair.client.handle_disconnect();
    pair.client.handle_disconnect();
    assert_eq!(pair.client.poll_event(), Some(ClientEvent::Closed));
    assert_eq!(pair.client.poll_event(), None);
}

#[test]
fn calls_are_bounded_on_both_sides() {
    let mut config = ClientConfig::default();
    config.limits.outstanding_calls = 2;
    let mut pair = Pair::with(ServerConfig::default(), config);
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    pair.drive();
    for _ in 0..3 {
        pair.server.call("slow", Vec::new()).unwrap();
    }
    pair.drive();
    let refused = pair.take_server_events();
    assert!(
        matches!(
            refused.last(),
            Some(ServerEvent::CallResult { result: Err(_), .. })
        ),
        "{refused:?}"
    );
    pair.client.call("a", Vec::new()).unwrap();
    pair.client.create_stream().unwrap();
    assert_eq!(
        pair.client.call("b", Vec::new()),
        Err(SessionError::TooManyCalls(2))
    );
    assert!(pair.client.is_connected());
}

#[test]
fn a_frame_too_many_is_told() {
    let mut config = ClientConfig::default();
    config.limits.pending_output = 100_000;
    let mut pair = Pair::with(ServerConfig::default(), config);
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    let frame = MediaFrame {
        kind: FrameKind::Video,
        data: DataKind::Plain,
        timestamp: 0,
        payload: Bytes::from(vec![0; 60_000]),
    };
    pair.client.send_media(1, &frame).unwrap();
    while pair.client.poll_transmit().is_some() {}
    pair.client.send_media(1, &frame).unwrap();
    assert_eq!(
        pair.client.send_media(1, &frame),
        Err(SessionError::TooMuchOutput(100_000))
    );
}

#[test]
fn shared_objects_go_both_ways_in_the_encoding_that_was_asked_for() {
    let body = bytes(b"\x00\x04chat\0\0\0\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0");
    for (encoding, kind, first) in [
        (
            ObjectEncoding::Amf0,
            MessageType::SHARED_OBJECT_AMF0,
            &b""[..],
        ),
        (ObjectEncoding::Amf3, MessageType::SHARED_OBJECT_AMF3, &[0]),
    ] {
        let asked = ConnectParameters {
            object_encoding: encoding,
            ..parameters()
        };
        let mut pair = Pair::connected_with(ServerConfig::default(), &asked);
        let message = Message {
            kind,
            timestamp: 0,
            stream_id: 0,
            payload: [first, &body].concat().into(),
        };
        pair.client.shared_object(body.clone()).unwrap();
        pair.drive();
        let came = pair.take_server_events();
        let expected = message.clone();
        assert_eq!(came, [ServerEvent::SharedObject { message: expected }]);
        pair.server.shared_object(body.clone()).unwrap();
        pair.drive();
        let came = pair.take_client_events();
        assert_eq!(came, [ClientEvent::SharedObject { message }]);
    }
}

/// Wire forms of the caller stand on the chunk stream of commands: neither is to build on the other's headers.
#[test]
fn shared_objects_of_the_caller_come_between_commands_of_the_session() {
    let mut pair = Pair::connected();
    let mut expected = Vec::new();
    for number in 0..12_u8 {
        let body = Bytes::from(vec![number; 3 + usize::from(number) * 200]);
        let message = shared_object_message(ObjectEncoding::Amf0, body.clone());
        let mut event = ClientEvent::SharedObject {
            message: message.clone(),
        };
        match number % 4 {
            0 => pair.server.shared_object(body).unwrap(),
            2 => {
                let chunk_size = pair.server.chunk_size_out();
                let form = shared_wire_form(chunk_streams::SHARED_OBJECT, &message, chunk_size);
                pair.deliver_to_client(&form.bytes);
            }
            _ => {
                let arguments = vec![Value::from(f64::from(number))];
                event = ClientEvent::CallRequest {
                    stream_id: 0,
                    name: "count".to_owned(),
                    transaction: TransactionId::NONE,
                    arguments: arguments.clone(),
                };
                pair.server.notify_client("count", arguments).unwrap();
            }
        }
        pair.drive();
        expected.push(event);
    }
    assert_eq!(pair.take_client_events(), expected);
}

#[test]
fn a_closed_connection_takes_no_shared_objects() {
    let mut pair = Pair::connected();
    let status = Status::new(StatusCode::ConnectClosed);
    pair.server.close(&status).unwrap();
    pair.drive();
    pair.take_client_events();
    assert_eq!(pair.server.shared_object(bytes(b"so")), Ok(()));
    pair.drive();
    assert_eq!(pair.take_client_events(), []);
}

#[test]
fn raw_messages_and_statuses_pass() {
    let mut pair = Pair::connected();
    let message = Message {
        kind: MessageType::SHARED_OBJECT_AMF0,
        timestamp: 0,
        stream_id: 0,
        payload: bytes(b"so"),
    };
    pair.client.send_message(&message).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::SharedObject { message }]
    );
    let stream_id = pair.create_stream();
    pair.client
        .publish(stream_id, "cam", PublishMode::Record)
        .unwrap();
    pair.drive();
    let status = Status::new(StatusCode::RecordStart).with("details", "cam");
    pair.server.status(stream_id, status.clone()).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_client_events(),
        [ClientEvent::Status { stream_id, status }]
    );
}
