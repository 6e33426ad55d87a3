use bytes::Bytes;
use headwater_amf::{Value, amf0};
use headwater_media::frame::FrameKind;

use crate::client::ClientEvent;
use crate::command::{DataKind, PublishMode, PublishRequest, TransactionId};
use crate::message::{Message, MessageType};
use crate::server::{MediaFrame, ServerEvent};
use crate::session::pair::{Pair, bytes, command, object, text};
use crate::status::{Level, StatusCode};

fn frame(kind: FrameKind, timestamp: u32, payload: Bytes) -> MediaFrame {
    MediaFrame {
        kind,
        data: DataKind::Plain,
        timestamp,
        payload,
    }
}

#[test]
fn an_encoder_publishes_and_leaves() {
    let mut pair = Pair::connected();
    let stream_id = pair.create_stream();
    pair.client
        .publish(stream_id, "mp4:cam.f4v?key=1&x", PublishMode::Append)
        .unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::Publish(PublishRequest {
            stream_id,
            name: "mp4:cam.f4v".to_owned(),
            query: Some("key=1&x".to_owned()),
            mode: PublishMode::Append,
            transaction: TransactionId::NONE,
        })]
    );
    pair.server.accept_publish(stream_id).unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::Status {
            stream_id: on,
            status,
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*on, &*status.code), (stream_id, "NetStream.Publish.Start"));
    assert_eq!(
        status.properties,
        [("details".to_owned(), text("mp4:cam.f4v"))]
    );

    pair.client.unpublish(stream_id).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::Unpublish { stream_id }]
    );
    assert_eq!(
        pair.take_codes(),
        [(stream_id, "NetStream.Unpublish.Success".to_owned())]
    );
    // The same stream may publish again.
    pair.client
        .publish(stream_id, "again", PublishMode::Live)
        .unwrap();
    pair.drive();
    assert!(matches!(
        pair.take_server_events()[..],
        [ServerEvent::Publish(_)]
    ));
}

#[test]
fn every_way_to_stop_stops_once() {
    type Stop = fn(&mut Pair, u32);
    let ways: [(&str, Stop); 5] = [
        ("publish(false)", |pair, id| {
            pair.client.unpublish(id).unwrap();
        }),
        ("publish()", |pair, id| {
            pair.client.notify(id, "publish", Vec::new()).unwrap();
        }),
        ("closeStream", |pair, id| {
            pair.client.close_stream(id).unwrap();
        }),
        ("deleteStream", |pair, id| {
            pair.client.delete_stream(id).unwrap();
        }),
        ("deleteStream without a number", |pair, id| {
            pair.client.notify(id, "deleteStream", Vec::new()).unwrap();
        }),
    ];
    for (name, stop) in ways {
        let mut pair = Pair::connected();
        let stream_id = pair.publish("cam");
        stop(&mut pair, stream_id);
        pair.drive();
        assert_eq!(
            pair.take_server_events(),
            [ServerEvent::Unpublish { stream_id }],
            "{name}"
        );
        pair.client.delete_stream(stream_id).unwrap();
        pair.drive();
        pair.server.handle_disconnect();
        pair.drive();
        assert_eq!(pair.take_server_events(), [], "{name}");
        assert_eq!(
            pair.server.poll_event(),
            Some(ServerEvent::Closed),
            "{name}"
        );
    }
}

#[test]
fn the_commands_of_encoders_are_answered() {
    let mut pair = Pair::connected();
    pair.client.release_stream("cam").unwrap();
    pair.client.fc_publish("cam").unwrap();
    pair.drive();
    let name = || "cam".to_owned();
    assert_eq!(
        pair.take_server_events(),
        [
            ServerEvent::ReleaseStream { name: name() },
            ServerEvent::FcPublish { name: name() }
        ]
    );
    let events = pair.take_client_events();
    let [
        ClientEvent::CallResult {
            result: Ok(Value::Null),
            ..
        },
        ClientEvent::CallRequest {
            name, arguments, ..
        },
        ClientEvent::CallResult {
            result: Ok(Value::Null),
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(name, "onFCPublish");
    assert_eq!(
        arguments[0].get("code"),
        Some(&text("NetStream.Publish.Start"))
    );
    assert_eq!(arguments[0].get("description"), Some(&text("cam")));

    // FFmpeg and OBS leave with FCUnpublish and deleteStream.
    let stream_id = pair.publish("cam?key=1");
    pair.client.fc_unpublish("cam?key=1").unwrap();
    pair.client.delete_stream(stream_id).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [
            ServerEvent::FcUnpublish {
                name: "cam?key=1".to_owned()
            },
            ServerEvent::Unpublish { stream_id }
        ]
    );
    // One for another stream's name changes nothing.
    let stream_id = pair.publish("cam");
    pair.client.fc_unpublish("other").unwrap();
    pair.drive();
    assert_eq!(pair.take_server_events().len(), 1);
    pair.server.handle_disconnect();
    assert_eq!(
        pair.server.poll_event(),
        Some(ServerEvent::Unpublish { stream_id })
    );
}

#[test]
fn out_of_order_publishers_are_told() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    pair.client
        .publish(stream_id, "other", PublishMode::Live)
        .unwrap();
    // On a stream that was not made, and on the connection.
    pair.client.publish(7, "cam", PublishMode::Live).unwrap();
    pair.client.publish(0, "cam", PublishMode::Live).unwrap();
    pair.drive();
    let bad = |id| (id, "NetStream.Publish.BadName".to_owned());
    assert_eq!(pair.take_codes(), [bad(stream_id), bad(7), bad(0)]);
    assert_eq!(pair.take_server_events(), []);
    // The first goes on.
    let audio = frame(FrameKind::Audio, 1, bytes(b"\xaf\x01x"));
    pair.client.send_media(stream_id, &audio).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::Media {
            stream_id,
            frame: audio
        }]
    );
}

#[test]
fn nameless_publishers_and_players_do_not_publish() {
    let mut pair = Pair::connected();
    let stream_id = pair.create_stream();
    pair.client
        .publish(stream_id, "?key", PublishMode::Live)
        .unwrap();
    pair.drive();
    let bad = |id| (id, "NetStream.Publish.BadName".to_owned());
    assert_eq!(pair.take_codes(), [bad(stream_id)]);
    let stream_id = pair.play("cam");
    pair.client
        .publish(stream_id, "cam", PublishMode::Live)
        .unwrap();
    pair.drive();
    assert_eq!(pair.take_codes(), [bad(stream_id)]);
    assert_eq!(pair.take_server_events(), []);
}

#[test]
fn a_rejected_publisher_may_try_again() {
    let mut pair = Pair::connected();
    let stream_id = pair.create_stream();
    pair.client
        .publish(stream_id, "cam", PublishMode::Live)
        .unwrap();
    pair.drive();
    pair.take_server_events();
    pair.server
        .reject_publish(stream_id, StatusCode::PublishBadName, "taken")
        .unwrap();
    // A late acceptance does nothing.
    pair.server.accept_publish(stream_id).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_codes(),
        [(stream_id, "NetStream.Publish.BadName".to_owned())]
    );
    pair.client
        .publish(stream_id, "cam2", PublishMode::Live)
        .unwrap();
    pair.drive();
    assert!(matches!(
        pair.take_server_events()[..],
        [ServerEvent::Publish(_)]
    ));
}

#[test]
fn frames_come_as_they_were_sent() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    let metadata =
        amf0::encode_all(&[text("onMetaData"), object(&[("width", Value::Number(2.0))])]).unwrap();
    let frames = [
        MediaFrame {
            kind: FrameKind::Data,
            data: DataKind::SetDataFrame,
            timestamp: 0,
            payload: metadata.clone(),
        },
        frame(FrameKind::Video, 0, bytes(b"\x17\x00")),
        frame(FrameKind::Audio, 5, Bytes::new()),
        // Longer than a chunk, than what is copied, and with an extended timestamp.
        frame(FrameKind::Video, 0x0100_0000, Bytes::from(vec![3; 200_000])),
        frame(FrameKind::Video, 0x0100_0028, Bytes::from(vec![4; 30_000])),
        frame(FrameKind::Audio, u32::MAX, bytes(b"\xaf\x01")),
        frame(FrameKind::Data, 7, metadata),
        MediaFrame {
            kind: FrameKind::Data,
            data: DataKind::ClearDataFrame,
            timestamp: 9,
            payload: amf0::encode_all(&[text("onMetaData")]).unwrap(),
        },
    ];
    for frame in &frames {
        pair.client.send_media(stream_id, frame).unwrap();
    }
    pair.drive();
    let expected: Vec<ServerEvent> = frames
        .into_iter()
        .map(|frame| ServerEvent::Media { stream_id, frame })
        .collect();
    assert_eq!(pair.take_server_events(), expected);
    assert_eq!(pair.server.ignored_messages(), 0);
}

#[test]
fn a_long_payload_is_not_copied() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    let payload = Bytes::from(vec![3; 5000]);
    let long = frame(FrameKind::Video, 0, payload.clone());
    pair.client.send_media(stream_id, &long).unwrap();
    let pieces: Vec<Bytes> = std::iter::from_fn(|| pair.client.poll_transmit()).collect();
    assert_eq!(pieces.len(), 2);
    assert_eq!(pieces[1].as_ptr(), payload.as_ptr());
}

#[test]
fn data_of_amf3_encoders_becomes_amf0() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    // A string and an anonymous AMF3 object {a: 1} behind a switch.
    let body =
        b"\x00\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x11\x0a\x0b\x01\x03a\x04\x01\x01";
    pair.client
        .send_message(&Message {
            kind: MessageType::DATA_AMF3,
            timestamp: 3,
            stream_id,
            payload: bytes(body),
        })
        .unwrap();
    pair.drive();
    let payload =
        amf0::encode_all(&[text("onMetaData"), object(&[("a", Value::Number(1.0))])]).unwrap();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::Media {
            stream_id,
            frame: MediaFrame {
                kind: FrameKind::Data,
                data: DataKind::SetDataFrame,
                timestamp: 3,
                payload,
            }
        }]
    );
}

#[test]
fn aggregates_come_apart() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    let mut body = Vec::new();
    for (kind, timestamp, payload) in [(8, 100, b"aa"), (9, 140, b"vv")] {
        body.extend([kind, 0, 0, 2, 0, 0, timestamp, 0, 0, 0, 0]);
        body.extend(payload);
        body.extend([0, 0, 0, 13]);
    }
    body.extend([8, 0, 0]);
    pair.client
        .send_message(&Message {
            kind: MessageType::AGGREGATE,
            timestamp: 1000,
            stream_id,
            payload: Bytes::from(body),
        })
        .unwrap();
    pair.drive();
    let expected = [
        frame(FrameKind::Audio, 1000, bytes(b"aa")),
        frame(FrameKind::Video, 1040, bytes(b"vv")),
    ]
    .map(|frame| ServerEvent::Media { stream_id, frame });
    assert_eq!(pair.take_server_events(), expected);
    // The broken tail is counted, and costs nobody the connection.
    assert_eq!(pair.server.ignored_messages(), 1);
}

#[test]
fn an_aggregate_makes_a_bounded_number_of_events() {
    let mut pair = Pair::connected();
    let stream_id = pair.publish("cam");
    let part = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    pair.client
        .send_message(&Message {
            kind: MessageType::AGGREGATE,
            timestamp: 0,
            stream_id,
            payload: Bytes::from(part.repeat(5000)),
        })
        .unwrap();
    pair.drive();
    assert_eq!(pair.take_server_events().len(), 4096);
}

#[test]
fn media_that_nobody_publishes_is_counted() {
    let mut pair = Pair::connected();
    let stream_id = pair.create_stream();
    for id in [0, stream_id, 9] {
        pair.client
            .send_media(id, &frame(FrameKind::Audio, 0, bytes(b"a")))
            .unwrap();
    }
    pair.drive();
    assert_eq!(pair.take_server_events(), []);
    assert_eq!(pair.server.ignored_messages(), 3);
}

#[test]
fn shared_objects_pass_through() {
    let mut pair = Pair::connected();
    let mut message = command(0, "x", 0.0, Vec::new());
    message.kind = MessageType::SHARED_OBJECT_AMF3;
    pair.client.send_message(&message).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::SharedObject { message }]
    );
}

/// What known encoders send from connect to the end, in the order in which they send it.
#[test]
fn known_encoders_are_understood() {
    let name = || vec![text("cam")];
    let stream_id = Value::Number(1.0);
    for (encoder, commands) in [
        (
            "FFmpeg",
            vec![
                command(0, "releaseStream", 2.0, name()),
                command(0, "FCPublish", 3.0, name()),
                command(0, "createStream", 4.0, vec![]),
                command(0, "_checkbw", 5.0, vec![]),
                command(1, "publish", 6.0, vec![text("cam"), text("live")]),
                command(0, "FCUnpublish", 7.0, name()),
                command(0, "deleteStream", 8.0, vec![stream_id.clone()]),
            ],
        ),
        (
            "OBS Studio and others with librtmp",
            vec![
                command(0, "releaseStream", 2.0, name()),
                command(0, "FCPublish", 3.0, name()),
                command(0, "createStream", 4.0, vec![]),
                command(1, "publish", 5.0, vec![text("cam"), text("live")]),
                command(0, "FCUnpublish", 6.0, name()),
                command(0, "deleteStream", 7.0, vec![stream_id.clone()]),
            ],
        ),
        (
            "Flash Media Live Encoder",
            vec![
                command(0, "releaseStream", 2.0, name()),
                command(0, "FCPublish", 3.0, name()),
                command(0, "createStream", 4.0, vec![]),
                command(1, "publish", 0.0, vec![text("cam"), text("live")]),
                command(0, "FCUnpublish", 5.0, name()),
                command(1, "closeStream", 0.0, vec![]),
                command(0, "deleteStream", 0.0, vec![stream_id.clone()]),
            ],
        ),
        (
            "Flash Player",
            vec![
                command(0, "createStream", 2.0, vec![]),
                command(1, "publish", 0.0, vec![text("cam")]),
                command(1, "publish", 0.0, vec![Value::Boolean(false)]),
                command(0, "deleteStream", 0.0, vec![stream_id]),
            ],
        ),
    ] {
        let mut pair = Pair::connected();
        for message in &commands {
            pair.client.send_message(message).unwrap();
            pair.drive();
            pair.server.accept_publish(1).unwrap();
        }
        pair.drive();
        let events = pair.take_server_events();
        let publishes: Vec<&ServerEvent> = events
            .iter()
            .filter(|event| {
                matches!(
                    event,
                    ServerEvent::Publish(_) | ServerEvent::Unpublish { .. }
                )
            })
            .collect();
        assert!(
            matches!(
                publishes[..],
                [ServerEvent::Publish(publish), ServerEvent::Unpublish { stream_id: 1 }]
                    if publish.name == "cam" && publish.mode == PublishMode::Live
            ),
            "{encoder}: {events:?}"
        );
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, ServerEvent::Call { .. })),
            "{encoder}: {events:?}"
        );
        // FFmpeg gives up on any status of level error.
        let errors: Vec<ClientEvent> = pair
            .take_client_events()
            .into_iter()
            .filter(|event| {
                matches!(event, ClientEvent::Status { status, .. } if status.level == Level::Error)
            })
            .collect();
        assert_eq!(errors, [], "{encoder}");
        assert_eq!(pair.server.ignored_messages(), 0, "{encoder}");
    }
}
