use bytes::{Bytes, BytesMut};
use headwater_amf::{Properties, Value};

use crate::chunk::ChunkError;
use crate::client::{ClientConfig, ClientEvent, ConnectParameters};
use crate::command::{
    CAPS_EX_RECONNECT, CommandError, EnhancedCapabilities, FOURCC_CAN_DECODE, ObjectEncoding,
    TransactionId,
};
use crate::handshake::ClientForm;
use crate::message::MessageType;
use crate::server::{ConnectAnswer, ConnectRejection, ServerConfig, ServerEvent, ServerSession};
use crate::session::SessionError;
use crate::session::pair::{
    Pair, SERVER_RANDOM, command, commands, messages, object, parameters, seconds, text,
};
use crate::status::{Level, Status, StatusCode};

#[test]
fn a_request_is_taken_apart() {
    let mut pair = Pair::new();
    let mut parameters = parameters();
    parameters.app = "live/room?key=1".to_owned();
    parameters.swf_url = Some("http://h/p.swf".to_owned());
    parameters.object_encoding = ObjectEncoding::Amf3;
    parameters.enhanced = EnhancedCapabilities {
        fourcc_list: vec!["av01".to_owned()],
        video_fourcc: vec![("hvc1".to_owned(), FOURCC_CAN_DECODE)],
        audio_fourcc: Vec::new(),
        caps_ex: CAPS_EX_RECONNECT,
    };
    parameters.arguments = vec![text("user"), Value::Boolean(true)];
    pair.client.connect(&parameters).unwrap();
    pair.drive();
    let events = pair.take_server_events();
    let [ServerEvent::Connect(request)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(request.transaction, TransactionId::new(1.0));
    assert_eq!(request.path.app, "live");
    assert_eq!(request.path.instance.as_deref(), Some("room"));
    assert_eq!(request.path.query.as_deref(), Some("key=1"));
    assert_eq!(request.vhost, "media.example");
    assert_eq!(request.tc_url, "rtmp://media.example/live/room");
    assert_eq!(request.swf_url.as_deref(), Some("http://h/p.swf"));
    assert_eq!(request.page_url, None);
    assert_eq!(request.object_encoding, ObjectEncoding::Amf3);
    assert_eq!((request.audio_codecs, request.video_codecs), (3575, 252));
    assert_eq!(request.enhanced, parameters.enhanced);
    assert_eq!(request.arguments, parameters.arguments);
    assert!(!pair.server.is_connected());
}

#[test]
fn the_answer_is_that_of_adobe_media_server_byte_by_byte() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    let before = pair.server_sent.len();
    assert_eq!(before, 1 + 2 * 1536);
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    pair.drive();

    let mut expected: Vec<u8> = Vec::new();
    // Window acknowledgement size 2,500,000.
    expected.extend(b"\x02\x00\x00\x00\x00\x00\x04\x05\x00\x00\x00\x00\x00\x26\x25\xa0");
    // Set peer bandwidth 2,500,000, dynamic.
    expected.extend(b"\x42\x00\x00\x00\x00\x00\x05\x06\x00\x26\x25\xa0\x02");
    // User control StreamBegin of stream 0.
    expected.extend(b"\x42\x00\x00\x00\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00");
    // Set chunk size 65,536.
    expected.extend(b"\x42\x00\x00\x00\x00\x00\x04\x01\x00\x01\x00\x00");
    let mut result: Vec<u8> = Vec::new();
    result.extend(b"\x02\x00\x07_result\x00\x3f\xf0\x00\x00\x00\x00\x00\x00");
    result.extend(b"\x03\x00\x06fmsVer\x02\x00\x0cFMS/5,0,17,0");
    result.extend(b"\x00\x0ccapabilities\x00\x40\x6f\xe0\x00\x00\x00\x00\x00");
    result.extend(b"\x00\x04mode\x00\x3f\xf0\x00\x00\x00\x00\x00\x00\x00\x00\x09");
    result.extend(b"\x03\x00\x05level\x02\x00\x06status");
    result.extend(b"\x00\x04code\x02\x00\x1dNetConnection.Connect.Success");
    result.extend(b"\x00\x0bdescription\x02\x00\x15Connection succeeded.");
    result.extend(b"\x00\x0eobjectEncoding\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    result.extend(b"\x00\x04data\x08\x00\x00\x00\x01\x00\x07version\x02\x00\x085,0,17,0");
    result.extend(b"\x00\x00\x09\x00\x00\x09");
    expected.extend(b"\x03\x00\x00\x00\x00");
    expected.extend(u16::try_from(result.len()).unwrap().to_be_bytes());
    expected.extend(b"\x14\x00\x00\x00\x00");
    expected.extend(result);
    assert_eq!(pair.server_sent[before..], expected);
    assert_eq!(pair.server.chunk_size_out(), 65_536);
}

#[test]
fn both_handshakes_lead_to_a_connection() {
    for handshake in [ClientForm::Simple, ClientForm::Digest] {
        let client = ClientConfig {
            handshake,
            ..ClientConfig::default()
        };
        let mut pair = Pair::with(ServerConfig::default(), client);
        pair.client.connect(&parameters()).unwrap();
        pair.drive();
        pair.server
            .accept_connect(ConnectAnswer {
                description: Some("welcome".to_owned()),
                client_id: Some("c7".to_owned()),
                properties: vec![("extra".to_owned(), Value::Number(4.0))],
            })
            .unwrap();
        pair.drive();
        let events = pair.take_client_events();
        let [
            ClientEvent::StreamBegin { stream_id: 0 },
            ClientEvent::Connected {
                properties,
                status,
                enhanced,
            },
        ] = &events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(properties.get("fmsVer"), Some(&text("FMS/5,0,17,0")));
        let expected = Status::new(StatusCode::ConnectSuccess)
            .describe("welcome")
            .with("objectEncoding", 0.0)
            .with("data", Properties::new().with("version", "5,0,17,0"))
            .with("clientid", "c7")
            .with("extra", 4.0);
        assert_eq!(*status, expected);
        assert!(enhanced.is_empty());
    }
}

#[test]
fn enhanced_rtmp_is_answered_only_to_those_who_know_it() {
    let mut parameters = parameters();
    parameters.enhanced.caps_ex = CAPS_EX_RECONNECT;
    let mut pair = Pair::new();
    pair.client.connect(&parameters).unwrap();
    pair.drive();
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    pair.drive();
    let Some(ClientEvent::Connected {
        properties,
        status,
        enhanced,
        ..
    }) = pair.take_client_events().pop()
    else {
        panic!();
    };
    assert_eq!(enhanced, EnhancedCapabilities::relay());
    // Clients look into either object.
    assert_eq!(EnhancedCapabilities::from_value(&properties), enhanced);
    assert_eq!(
        EnhancedCapabilities::from_value(&status.to_value()),
        enhanced
    );
}

#[test]
fn an_amf3_client_is_answered_in_type_17_after_connect() {
    let mut parameters = parameters();
    parameters.object_encoding = ObjectEncoding::Amf3;
    let mut pair = Pair::connected_with(ServerConfig::default(), &parameters);
    pair.create_stream();
    let kinds: Vec<MessageType> = messages(&pair.server_sent)
        .iter()
        .map(|message| message.kind)
        .filter(|kind| !kind.is_protocol_control() && *kind != MessageType::USER_CONTROL)
        .collect();
    assert_eq!(
        kinds,
        [MessageType::COMMAND_AMF0, MessageType::COMMAND_AMF3]
    );
    let kinds: Vec<MessageType> = messages(&pair.client_sent)
        .iter()
        .map(|message| message.kind)
        .filter(|kind| !kind.is_protocol_control())
        .collect();
    assert_eq!(
        kinds,
        [MessageType::COMMAND_AMF0, MessageType::COMMAND_AMF3]
    );
}

#[test]
fn a_refused_client_hears_why_and_where_to_go() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    pair.server
        .reject_connect(ConnectRejection {
            description: Some("not here".to_owned()),
            redirect: Some("rtmp://there/live".to_owned()),
            application: Some(object(&[("reason", text("full"))])),
            ..ConnectRejection::new(StatusCode::ConnectRejected)
        })
        .unwrap();
    assert!(
        !pair.server.should_close(),
        "the last words are not drained"
    );
    pair.drive();
    assert!(pair.server.should_close());
    let ex = object(&[
        ("code", Value::Number(302.0)),
        ("redirect", text("rtmp://there/live")),
    ]);
    let status = Status::new(StatusCode::ConnectRejected)
        .describe("not here")
        .with("ex", ex)
        .with("application", object(&[("reason", text("full"))]));
    assert_eq!(
        pair.take_client_events(),
        [
            ClientEvent::ConnectRejected {
                status,
                redirect: Some("rtmp://there/live".to_owned()),
            },
            ClientEvent::Closed,
        ]
    );
    assert!(pair.client.should_close());
    // What is still on its way is taken and forgotten.
    let mut input = BytesMut::from(&b"anything"[..]);
    pair.server.handle_input(pair.now, &mut input).unwrap();
    assert!(input.is_empty());
    pair.server.handle_disconnect();
    pair.server.handle_disconnect();
    assert_eq!(pair.server.poll_event(), Some(ServerEvent::Closed));
    assert_eq!(pair.server.poll_event(), None);
}

#[test]
fn commands_of_a_pending_client_wait() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.client.create_stream().unwrap();
    pair.client
        .publish(1, "early", crate::command::PublishMode::Live)
        .unwrap();
    pair.drive();
    assert!(matches!(
        pair.take_server_events()[..],
        [ServerEvent::Connect(_)]
    ));
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    pair.drive();
    let events = pair.take_server_events();
    assert!(
        matches!(
            &events[..],
            [ServerEvent::StreamCreated { stream_id: 1 }, ServerEvent::Publish(publish)]
                if publish.name == "early"
        ),
        "{events:?}"
    );
}

#[test]
fn a_pending_client_may_not_send_for_ever() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    for _ in 0..65 {
        pair.client.notify(0, "more", Vec::new()).unwrap();
    }
    assert_eq!(pair.try_drive(), Err(SessionError::TooMuchDeferred));

    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    let long = text(&"x".repeat(600 * 1024));
    for _ in 0..2 {
        pair.client.notify(0, "more", vec![long.clone()]).unwrap();
    }
    assert_eq!(pair.try_drive(), Err(SessionError::TooMuchDeferred));
}

#[test]
fn a_stranger_is_held_to_small_messages() {
    let mut media = command(0, "x", 0.0, Vec::new());
    media.kind = MessageType::AUDIO;
    media.payload = Bytes::from(vec![0; 1024 * 1024 + 1]);
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.client.send_message(&media).unwrap();
    let outcome = pair.try_drive();
    assert!(
        matches!(
            outcome,
            Err(SessionError::Chunk(ChunkError::MessageTooLong { .. }))
        ),
        "{outcome:?}"
    );

    let mut pair = Pair::connected();
    pair.client.send_message(&media).unwrap();
    pair.drive();
    assert!(pair.server.is_connected());
}

#[test]
fn connect_comes_first() {
    let mut pair = Pair::new();
    pair.client.create_stream().unwrap();
    assert_eq!(
        pair.try_drive(),
        Err(SessionError::CommandBeforeConnect(
            "createStream".to_owned()
        ))
    );
    let events = pair.take_client_events();
    let [
        ClientEvent::CallResult {
            result: Err(error), ..
        },
        ClientEvent::Closed,
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(error.get("code"), Some(&text("NetConnection.Call.Failed")));
    assert!(pair.server.should_close());

    let mut pair = Pair::new();
    let mut media = command(0, "x", 0.0, Vec::new());
    media.kind = MessageType::AUDIO;
    pair.client.send_message(&media).unwrap();
    assert_eq!(
        pair.try_drive(),
        Err(SessionError::MessageBeforeConnect(MessageType::AUDIO))
    );
    // The error comes again.
    assert_eq!(
        pair.server.handle_input(pair.now, &mut BytesMut::new()),
        Err(SessionError::MessageBeforeConnect(MessageType::AUDIO))
    );
    assert_eq!(
        pair.server.handle_timeout(pair.now + seconds(100)),
        Err(SessionError::MessageBeforeConnect(MessageType::AUDIO))
    );
}

#[test]
fn a_connect_without_an_application_is_refused() {
    for rest in [
        command(0, "connect", 1.0, Vec::new()),
        // A command object without names.
        {
            let mut command =
                crate::command::Command::call("connect", TransactionId::new(1.0), Vec::new());
            command.object = object(&[("flashVer", text("x"))]);
            command.to_message(ObjectEncoding::Amf0, 0).unwrap()
        },
    ] {
        let mut pair = Pair::new();
        pair.client.send_message(&rest).unwrap();
        assert_eq!(
            pair.try_drive(),
            Err(SessionError::Connect(CommandError::MissingArgument {
                command: "connect",
                argument: "app"
            }))
        );
        assert_eq!(pair.take_client_events(), [ClientEvent::Closed]);
    }
}

#[test]
fn the_application_may_stand_in_the_address_only() {
    let mut pair = Pair::new();
    pair.client
        .connect(&ConnectParameters {
            app: String::new(),
            tc_url: "rtmps://[::1]:443/vod/_definst_?a=b".to_owned(),
            ..parameters()
        })
        .unwrap();
    pair.drive();
    let Some(ServerEvent::Connect(request)) = pair.take_server_events().pop() else {
        panic!();
    };
    assert_eq!(request.path.app, "vod");
    assert_eq!(request.path.instance.as_deref(), Some("_definst_"));
    assert_eq!(request.tc_url_query.as_deref(), Some("a=b"));
    assert_eq!(request.vhost, "::1");
}

#[test]
fn a_second_connect_is_a_failed_call() {
    let mut pair = Pair::connected();
    pair.client
        .send_message(&command(0, "connect", 9.0, vec![Value::Null]))
        .unwrap();
    pair.drive();
    let (_, last) = commands(&pair.server_sent).pop().unwrap();
    assert_eq!(last.name, "_error");
    assert_eq!(last.transaction, TransactionId::new(9.0));
    assert!(pair.server.is_connected());
}

#[test]
fn a_value_that_cannot_be_written_leaves_the_connection_pending() {
    let mut pair = Pair::new();
    pair.client.connect(&parameters()).unwrap();
    pair.drive();
    let outcome = pair.server.accept_connect(ConnectAnswer {
        properties: vec![("cycle".to_owned(), Value::Ancestor(9))],
        ..ConnectAnswer::default()
    });
    assert!(
        matches!(outcome, Err(SessionError::Encode(_))),
        "{outcome:?}"
    );
    assert_eq!(pair.server.poll_transmit(), None);
    pair.server
        .accept_connect(ConnectAnswer::default())
        .unwrap();
    pair.drive();
    assert!(pair.client.is_connected());
}

#[test]
fn the_server_says_why_it_closes() {
    let mut pair = Pair::connected();
    pair.server
        .close(&Status::new(StatusCode::ConnectAppShutdown))
        .unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::Status {
            stream_id: 0,
            status,
        },
        ClientEvent::Closed,
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(status.code, "NetConnection.Connect.AppShutdown");
    assert_eq!(status.level, Level::Error);
    assert!(pair.server.should_close());

    let mut idle = ServerSession::new(ServerConfig::default(), SERVER_RANDOM, seconds(0));
    idle.close(&Status::new(StatusCode::ConnectAppShutdown))
        .unwrap();
    assert!(idle.should_close());
}

#[test]
fn a_reconnect_request_goes_to_those_who_understand_it() {
    let mut pair = Pair::connected();
    assert_eq!(pair.server.reconnect_request(None, None), Ok(false));
    pair.drive();
    assert_eq!(pair.take_client_events(), []);

    let mut parameters = parameters();
    parameters.enhanced.caps_ex = CAPS_EX_RECONNECT;
    let mut pair = Pair::connected_with(ServerConfig::default(), &parameters);
    assert_eq!(
        pair.server
            .reconnect_request(Some("//other/live"), Some("update")),
        Ok(true)
    );
    pair.drive();
    assert_eq!(
        pair.take_client_events(),
        [ClientEvent::ReconnectRequest {
            tc_url: Some("//other/live".to_owned()),
            description: "update".to_owned(),
        }]
    );
    assert!(pair.server.is_connected());
}
