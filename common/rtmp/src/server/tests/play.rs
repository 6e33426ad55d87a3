use headwater_amf::Value;
use headwater_media::frame::FrameKind;

use crate::client::ClientEvent;
use crate::command::{
    Play2Parameters, PlayLength, PlayRequest, PlayReset, PlayStart, TransactionId,
};
use crate::control::UserControl;
use crate::message::MessageType;
use crate::server::{ConnectAnswer, PlayAnswer, ServerEvent};
use crate::session::pair::{Pair, command, messages, parameters, text};
use crate::status::{Level, Status, StatusCode};

#[test]
fn a_player_asks_and_is_told_in_order() {
    let mut pair = Pair::connected();
    let stream_id = pair.create_stream();
    pair.client
        .play(
            stream_id,
            "mp4:film.f4v?key=1",
            PlayStart::At(1500),
            PlayLength::Milliseconds(9000),
            PlayReset::Reset,
        )
        .unwrap();
    pair.client.set_buffer_length(stream_id, 3000).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [
            ServerEvent::Play(PlayRequest {
                stream_id,
                name: "mp4:film.f4v".to_owned(),
                query: Some("key=1".to_owned()),
                start: PlayStart::At(1500),
                length: PlayLength::Milliseconds(9000),
                reset: PlayReset::Reset,
                transaction: TransactionId::NONE,
            }),
            ServerEvent::BufferLength {
                stream_id,
                milliseconds: 3000
            }
        ]
    );
    pair.server
        .play_started(
            stream_id,
            &PlayAnswer {
                name: "mp4:film.f4v".to_owned(),
                reset: true,
                recorded: true,
                sample_access: (true, false),
            },
        )
        .unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::StreamIsRecorded { stream_id: a },
        ClientEvent::StreamBegin { stream_id: b },
        ClientEvent::Status { status: reset, .. },
        ClientEvent::Status { status: start, .. },
        ClientEvent::Media { frame, .. },
        ClientEvent::PlayStatus { status: data, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*a, *b), (stream_id, stream_id));
    assert_eq!(reset.code, "NetStream.Play.Reset");
    assert_eq!(start.code, "NetStream.Play.Start");
    assert_eq!(
        start.properties,
        [("details".to_owned(), text("mp4:film.f4v"))]
    );
    assert_eq!(frame.kind, FrameKind::Data);
    assert_eq!(
        &frame.payload[..],
        b"\x02\x00\x11|RtmpSampleAccess\x01\x01\x01\x00"
    );
    assert_eq!(data.code, "NetStream.Data.Start");

    pair.server
        .play_complete(stream_id, "mp4:film.f4v", 12.5, 4096)
        .unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::Status { status: stop, .. },
        ClientEvent::StreamEof { .. },
        ClientEvent::PlayStatus {
            status: complete, ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(stop.code, "NetStream.Play.Stop");
    assert_eq!(
        *complete,
        Status::new(StatusCode::PlayComplete)
            .with("duration", 12.5)
            .with("bytes", 4096.0)
    );
}

#[test]
fn a_seek_and_a_playlist_are_told_in_order() {
    let mut pair = Pair::connected();
    let stream_id = pair.play("film");
    let answer = PlayAnswer {
        name: "film".to_owned(),
        // Of no meaning after a seek.
        reset: true,
        recorded: true,
        sample_access: (false, true),
    };
    pair.server.seek_done(stream_id, &answer, 61_500).unwrap();
    let switch = Status::new(StatusCode::PlaySwitch).with("details", "next");
    pair.server.play_status(stream_id, &switch).unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::StreamEof { stream_id: a },
        ClientEvent::StreamIsRecorded { stream_id: b },
        ClientEvent::StreamBegin { stream_id: c },
        ClientEvent::Status { status: sought, .. },
        ClientEvent::Status { status: start, .. },
        ClientEvent::Media { frame, .. },
        ClientEvent::PlayStatus { status: data, .. },
        ClientEvent::PlayStatus { status: next, .. },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!([*a, *b, *c], [stream_id; 3]);
    assert_eq!(sought.code, "NetStream.Seek.Notify");
    assert_eq!(sought.description, "Seeking 61500 (stream ID: 1).");
    assert_eq!(start.code, "NetStream.Play.Start");
    assert!(
        frame
            .payload
            .ends_with(b"|RtmpSampleAccess\x01\x00\x01\x01")
    );
    assert_eq!(data.code, "NetStream.Data.Start");
    assert_eq!(*next, switch);

    // A client that has stopped hears nothing any more.
    pair.client.stop(stream_id).unwrap();
    pair.drive();
    pair.server.seek_done(stream_id, &answer, 0).unwrap();
    pair.server.play_status(stream_id, &switch).unwrap();
    assert_eq!(pair.server.poll_transmit(), None);
}

#[test]
fn a_live_player_is_told_less() {
    let mut pair = Pair::connected();
    let stream_id = pair.play("cam");
    pair.server
        .play_started(
            stream_id,
            &PlayAnswer {
                name: "cam".to_owned(),
                ..PlayAnswer::default()
            },
        )
        .unwrap();
    pair.server.publish_notify(stream_id, "cam").unwrap();
    pair.server.unpublish_notify(stream_id, "cam").unwrap();
    pair.drive();
    let codes = pair.take_codes();
    assert_eq!(
        codes,
        [
            "NetStream.Play.Start",
            "NetStream.Play.PublishNotify",
            "NetStream.Play.UnpublishNotify"
        ]
        .map(|code| (stream_id, code.to_owned()))
    );
    let recorded = messages(&pair.server_sent)
        .iter()
        .filter(|message| message.kind == MessageType::USER_CONTROL)
        .any(|message| message.payload.starts_with(&[0, 4]));
    assert!(!recorded);
}

#[test]
fn players_use_their_controls() {
    let mut pair = Pair::connected();
    let stream_id = pair.play("cam");
    pair.client.pause(stream_id, true, 1234.0).unwrap();
    pair.client.pause(stream_id, false, 1234.5).unwrap();
    pair.client
        .notify(
            stream_id,
            "pauseRaw",
            vec![Value::Boolean(true), Value::Number(7.0)],
        )
        .unwrap();
    pair.client.seek(stream_id, 60_000.0).unwrap();
    pair.client.seek(stream_id, -5.0).unwrap();
    pair.client.receive_audio(stream_id, false).unwrap();
    pair.client.receive_video(stream_id, true).unwrap();
    pair.client
        .notify(stream_id, "receiveVideo", vec![Value::Number(12.0)])
        .unwrap();
    pair.drive();
    let pause = |paused, at| ServerEvent::Pause {
        stream_id,
        paused,
        at,
    };
    let seek = |to| ServerEvent::Seek { stream_id, to };
    assert_eq!(
        pair.take_server_events(),
        [
            pause(true, 1234.0),
            pause(false, 1234.5),
            pause(true, 7.0),
            seek(60_000.0),
            seek(0.0),
            ServerEvent::ReceiveAudio {
                stream_id,
                wanted: false
            },
            ServerEvent::ReceiveVideo {
                stream_id,
                wanted: true,
                frame_rate: None
            },
            ServerEvent::ReceiveVideo {
                stream_id,
                wanted: true,
                frame_rate: Some(12.0)
            },
        ]
    );
}

#[test]
fn a_player_switches() {
    let mut pair = Pair::connected();
    let stream_id = pair.play("low");
    let parameters = Play2Parameters {
        stream_name: "high".to_owned(),
        old_stream_name: Some("low".to_owned()),
        transition: "switch".to_owned(),
        start: PlayStart::LiveOrRecorded,
        length: PlayLength::All,
        offset: Some(12.0),
    };
    pair.client.play2(stream_id, &parameters).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::Play2 {
            stream_id,
            parameters
        }]
    );
}

#[test]
fn a_player_stops_once() {
    type Stop = fn(&mut Pair, u32);
    let ways: [(&str, Stop); 3] = [
        ("play(false)", |pair, id| pair.client.stop(id).unwrap()),
        ("closeStream", |pair, id| {
            pair.client.close_stream(id).unwrap();
        }),
        ("deleteStream", |pair, id| {
            pair.client.delete_stream(id).unwrap();
        }),
    ];
    for (name, stop) in ways {
        let mut pair = Pair::connected();
        let stream_id = pair.play("cam");
        // A playlist of two.
        pair.client
            .play(
                stream_id,
                "next",
                PlayStart::LiveOrRecorded,
                PlayLength::All,
                PlayReset::Append,
            )
            .unwrap();
        pair.drive();
        let events = pair.take_server_events();
        assert!(
            matches!(&events[..], [ServerEvent::Play(play)] if !play.reset.resets()),
            "{events:?}"
        );
        stop(&mut pair, stream_id);
        pair.drive();
        assert_eq!(
            pair.take_server_events(),
            [ServerEvent::PlayStopped { stream_id }],
            "{name}"
        );
        // Answers that come late are not sent.
        pair.server
            .play_started(stream_id, &PlayAnswer::default())
            .unwrap();
        pair.server.unpublish_notify(stream_id, "cam").unwrap();
        pair.server.play_complete(stream_id, "cam", 1.0, 1).unwrap();
        pair.server
            .play_failed(stream_id, StatusCode::PlayFailed, "cam", "")
            .unwrap();
        assert_eq!(pair.server.poll_transmit(), None, "{name}");
    }
}

#[test]
fn a_failed_player_hears_why() {
    let mut pair = Pair::connected();
    let stream_id = pair.play("none");
    pair.server
        .play_failed(
            stream_id,
            StatusCode::PlayStreamNotFound,
            "none",
            "no such stream",
        )
        .unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [ClientEvent::Status { status, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(status.level, Level::Error);
    assert_eq!(status.code, "NetStream.Play.StreamNotFound");
    assert_eq!(status.description, "no such stream");
    pair.server.handle_disconnect();
    assert_eq!(pair.server.poll_event(), Some(ServerEvent::Closed));
}

#[test]
fn out_of_order_players_are_told() {
    let mut pair = Pair::connected();
    let publisher = pair.publish("cam");
    let play = |pair: &mut Pair, id| {
        pair.client
            .play(
                id,
                "cam",
                PlayStart::Live,
                PlayLength::All,
                PlayReset::Reset,
            )
            .unwrap();
    };
    play(&mut pair, publisher);
    play(&mut pair, 9);
    let options = Play2Parameters::default();
    pair.client.play2(9, &options).unwrap();
    pair.client.seek(publisher, 1.0).unwrap();
    // No name.
    pair.client.notify(publisher, "play", Vec::new()).unwrap();
    pair.client.notify(publisher, "seek", Vec::new()).unwrap();
    pair.client.notify(publisher, "play2", Vec::new()).unwrap();
    pair.drive();
    let failed = |id| (id, "NetStream.Play.Failed".to_owned());
    let unsought = (publisher, "NetStream.Seek.Failed".to_owned());
    assert_eq!(
        pair.take_codes(),
        [
            failed(publisher),
            failed(9),
            failed(9),
            unsought.clone(),
            failed(publisher),
            unsought,
            failed(publisher),
        ]
    );
    assert_eq!(pair.take_server_events(), []);
}

/// What known clients send, in the order in which they send it.
#[test]
fn known_players_are_understood() {
    let play = |transaction: f64, rest: &[Value]| {
        let arguments = [&[text("cam")], rest].concat();
        command(1, "play", transaction, arguments)
    };
    let millis = Value::Number;
    for (client, first, play, start, length) in [
        // FFmpeg: WindowAckSize, createStream, FCSubscribe for live; then getStreamLength if not live, play, SetBufferLength.
        (
            "FFmpeg, live",
            vec![
                command(0, "createStream", 2.0, vec![]),
                command(0, "FCSubscribe", 3.0, vec![text("cam")]),
            ],
            play(4.0, &[millis(-1000.0)]),
            PlayStart::Live,
            PlayLength::All,
        ),
        (
            "FFmpeg, any",
            vec![
                command(0, "createStream", 2.0, vec![]),
                command(0, "getStreamLength", 3.0, vec![text("cam")]),
            ],
            play(4.0, &[millis(-2000.0)]),
            PlayStart::LiveOrRecorded,
            PlayLength::All,
        ),
        // librtmp: buffer length of stream 0, createStream, FCSubscribe, play, buffer length.
        (
            "librtmp, live=1",
            vec![
                command(0, "createStream", 2.0, vec![]),
                command(0, "FCSubscribe", 3.0, vec![text("cam")]),
            ],
            play(4.0, &[millis(-1000.0)]),
            PlayStart::Live,
            PlayLength::All,
        ),
        (
            "librtmp, start and stop",
            vec![command(0, "createStream", 2.0, vec![])],
            play(3.0, &[millis(2000.0), millis(500.0)]),
            PlayStart::At(2000),
            PlayLength::Milliseconds(500),
        ),
        // Flash Player's NetStream.play(name).
        (
            "Flash Player",
            vec![command(0, "createStream", 2.0, vec![])],
            play(0.0, &[]),
            PlayStart::LiveOrRecorded,
            PlayLength::All,
        ),
        // By the text of the specification.
        (
            "specification",
            vec![command(0, "createStream", 2.0, vec![])],
            play(0.0, &[millis(-1.0), millis(-1.0), Value::Boolean(true)]),
            PlayStart::Live,
            PlayLength::All,
        ),
    ] {
        let mut pair = Pair::new();
        pair.client.connect(&parameters()).unwrap();
        pair.client.set_buffer_length(0, 300).unwrap();
        pair.drive();
        pair.server
            .accept_connect(ConnectAnswer::default())
            .unwrap();
        for message in first {
            pair.client.send_message(&message).unwrap();
        }
        pair.client.send_message(&play).unwrap();
        pair.client.set_buffer_length(1, 3000).unwrap();
        pair.drive();
        let events = pair.take_server_events();
        let requests: Vec<&PlayRequest> = events
            .iter()
            .filter_map(|event| match event {
                ServerEvent::Play(request) => Some(request),
                _ => None,
            })
            .collect();
        let [request] = requests[..] else {
            panic!("{client}: {events:?}");
        };
        assert_eq!((request.start, request.length), (start, length), "{client}");
        assert_eq!(request.reset, PlayReset::Reset, "{client}");
        assert_eq!(
            events.last(),
            Some(&ServerEvent::BufferLength {
                stream_id: 1,
                milliseconds: 3000
            }),
            "{client}"
        );
    }
}

#[test]
fn statuses_of_streams_carry_the_client_id() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    pair.server
        .accept_connect(ConnectAnswer {
            client_id: Some("c1".to_owned()),
            ..ConnectAnswer::default()
        })
        .unwrap();
    pair.drive();
    pair.take_server_events();
    pair.take_client_events();
    let stream_id = pair.play("cam");
    let status = Status::new(StatusCode::PauseNotify).with("details", "cam");
    pair.server.status(stream_id, status.clone()).unwrap();
    pair.server.status(9, status.clone()).unwrap();
    pair.server
        .user_control(UserControl::BufferEmpty { stream_id })
        .unwrap();
    pair.server.stream_eof(stream_id).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_client_events(),
        [
            ClientEvent::Status {
                stream_id,
                status: status.with("clientid", "c1")
            },
            ClientEvent::StreamEof { stream_id }
        ]
    );
}
