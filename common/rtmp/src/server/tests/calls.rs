use headwater_amf::Value;

use crate::client::ClientEvent;
use crate::command::{ObjectEncoding, TransactionId};
use crate::server::{ServerConfig, ServerEvent};
use crate::session::pair::{Pair, command, commands, object, parameters, status_of, text};
use crate::session::{SessionError, SessionLimits};

#[test]
fn unknown_commands_are_the_callers() {
    for encoding in [ObjectEncoding::Amf0, ObjectEncoding::Amf3] {
        let mut parameters = parameters();
        parameters.object_encoding = encoding;
        let mut pair = Pair::connected_with(ServerConfig::default(), &parameters);
        let argument = object(&[("a", Value::Number(1.0))]);
        let asked = pair.client.call("sum", vec![argument.clone()]).unwrap();
        pair.client.notify(0, "log", vec![text("x")]).unwrap();
        pair.drive();
        assert_eq!(
            pair.take_server_events(),
            [
                ServerEvent::Call {
                    stream_id: 0,
                    name: "sum".to_owned(),
                    transaction: asked,
                    arguments: vec![argument]
                },
                ServerEvent::Call {
                    stream_id: 0,
                    name: "log".to_owned(),
                    transaction: TransactionId::NONE,
                    arguments: vec![text("x")]
                },
            ]
        );
        pair.server
            .answer_call(asked, object(&[("sum", Value::Number(3.0))]))
            .unwrap();
        // Only once, and never without a question.
        pair.server.answer_call(asked, Value::Null).unwrap();
        pair.server
            .reject_call(TransactionId::NONE, "unknown")
            .unwrap();
        pair.server
            .answer_call(TransactionId::new(77.0), Value::Null)
            .unwrap();
        pair.drive();
        assert_eq!(
            pair.take_client_events(),
            [ClientEvent::CallResult {
                transaction: asked,
                result: Ok(object(&[("sum", Value::Number(3.0))]))
            }]
        );
    }
}

#[test]
fn unknown_methods_fail() {
    let mut pair = Pair::connected();
    let asked = pair.client.call("nothing", Vec::new()).unwrap();
    pair.drive();
    pair.server
        .reject_call(asked, "Method not found (nothing).")
        .unwrap();
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::CallResult {
            transaction,
            result: Err(error),
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(*transaction, asked);
    let status = status_of(error);
    assert_eq!(status.code, "NetConnection.Call.Failed");
    assert_eq!(status.description, "Method not found (nothing).");
}

#[test]
fn a_result_that_cannot_be_written_is_a_failed_call() {
    let mut pair = Pair::connected();
    let asked = pair.client.call("loop", Vec::new()).unwrap();
    pair.drive();
    let outcome = pair.server.answer_call(asked, Value::Ancestor(3));
    assert!(matches!(outcome, Err(SessionError::Encode(_))));
    pair.drive();
    assert!(matches!(
        pair.take_client_events()[..],
        [ClientEvent::CallResult { result: Err(_), .. }]
    ));
    assert!(pair.server.is_connected());
}

#[test]
fn the_server_calls_the_client() {
    let mut pair = Pair::connected();
    let asked = pair.server.call("add", vec![Value::Number(2.0)]).unwrap();
    let other = pair.server.call("none", Vec::new()).unwrap();
    pair.server.notify_client("hello", Vec::new()).unwrap();
    pair.drive();
    let events = pair.take_client_events();
    assert_eq!(
        events[0],
        ClientEvent::CallRequest {
            stream_id: 0,
            name: "add".to_owned(),
            transaction: asked,
            arguments: vec![Value::Number(2.0)]
        }
    );
    assert_eq!(events.len(), 3);
    pair.client.answer_call(asked, Value::Number(4.0)).unwrap();
    pair.client.reject_call(other, "no such method").unwrap();
    // An answer to no question.
    pair.client
        .send_message(&command(0, "_result", 99.0, vec![Value::Null]))
        .unwrap();
    pair.drive();
    let events = pair.take_server_events();
    let [
        ServerEvent::CallResult {
            transaction: a,
            result: Ok(sum),
        },
        ServerEvent::CallResult {
            transaction: b,
            result: Err(error),
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((*a, *b), (asked, other));
    assert_eq!(*sum, Value::Number(4.0));
    assert_eq!(status_of(error).code, "NetConnection.Call.Failed");
    assert_eq!(pair.server.ignored_messages(), 1);
}

#[test]
fn calls_that_wait_are_bounded() {
    let config = ServerConfig {
        limits: SessionLimits {
            outstanding_calls: 2,
            ..SessionLimits::default()
        },
        ..ServerConfig::default()
    };
    let mut pair = Pair::connected_with(config, &parameters());
    for _ in 0..3 {
        pair.client.call("slow", Vec::new()).unwrap();
    }
    pair.drive();
    assert_eq!(pair.take_server_events().len(), 2);
    assert!(matches!(
        pair.take_client_events()[..],
        [ClientEvent::CallResult { result: Err(_), .. }]
    ));
    pair.server.call("a", Vec::new()).unwrap();
    pair.server.call("b", Vec::new()).unwrap();
    assert_eq!(
        pair.server.call("c", Vec::new()),
        Err(SessionError::TooManyCalls(2))
    );
    assert!(pair.server.is_connected());
}

#[test]
fn a_call_needs_a_connection() {
    let mut pair = Pair::new();
    pair.drive();
    assert_eq!(
        pair.server.call("a", Vec::new()),
        Err(SessionError::NotConnected)
    );
}

#[test]
fn bandwidth_checks_end_at_once() {
    let mut pair = Pair::connected();
    // librtmp and FFmpeg ask when they hear onBWDone; stock players ask by themselves.
    pair.server.bandwidth_done().unwrap();
    let check = pair.client.call("checkBandwidth", Vec::new()).unwrap();
    let native = pair.client.call("_checkbw", Vec::new()).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::CheckBandwidth { transaction: check }]
    );
    let done = || ClientEvent::BandwidthDone {
        arguments: Vec::new(),
    };
    let result = |transaction| ClientEvent::CallResult {
        transaction,
        result: Ok(Value::Null),
    };
    assert_eq!(
        pair.take_client_events(),
        [done(), done(), result(check), result(native)]
    );
}

#[test]
fn the_caller_may_measure_bandwidth() {
    let config = ServerConfig {
        answer_check_bandwidth: false,
        ..ServerConfig::default()
    };
    let mut pair = Pair::connected_with(config, &parameters());
    let check = pair.client.call("checkBandwidth", Vec::new()).unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::CheckBandwidth { transaction: check }]
    );
    let first = pair
        .server
        .call("onBWCheck", vec![text("payload")])
        .unwrap();
    let second = pair
        .server
        .call("onBWCheck", vec![text("payload")])
        .unwrap();
    pair.drive();
    let counted = |transaction, count| ServerEvent::CallResult {
        transaction,
        result: Ok(Value::Number(count)),
    };
    assert_eq!(
        pair.take_server_events(),
        [counted(first, 1.0), counted(second, 2.0)]
    );
    pair.server.answer_call(check, Value::Null).unwrap();
    pair.drive();
    assert_eq!(pair.take_client_events().len(), 1);
}

#[test]
fn stream_lengths_are_the_callers() {
    let mut pair = Pair::connected();
    let asked = pair
        .client
        .call("getStreamLength", vec![text("mp4:a.f4v?k=1")])
        .unwrap();
    pair.drive();
    assert_eq!(
        pair.take_server_events(),
        [ServerEvent::GetStreamLength {
            name: "mp4:a.f4v".to_owned(),
            transaction: asked
        }]
    );
    pair.server.answer_call(asked, Value::Number(61.5)).unwrap();
    pair.drive();
    // FFmpeg reads exactly: name, transaction, null, number.
    let (_, last) = commands(&pair.server_sent).pop().unwrap();
    assert_eq!(last.object, Value::Null);
    assert_eq!(last.arguments, [Value::Number(61.5)]);
}

#[test]
fn a_call_fails_with_what_the_caller_says() {
    let mut pair = Pair::connected();
    let asked = pair.client.call("sum", Vec::new()).unwrap();
    pair.drive();
    let why = object(&[("code", text("Mine"))]);
    pair.server.fail_call(asked, why.clone()).unwrap();
    // Only once.
    pair.server.fail_call(asked, why.clone()).unwrap();
    pair.drive();
    let expected = ClientEvent::CallResult {
        transaction: asked,
        result: Err(why),
    };
    assert_eq!(pair.take_client_events(), [expected]);
    // What cannot be written is the usual failure.
    let asked = pair.client.call("sum", Vec::new()).unwrap();
    pair.drive();
    let outcome = pair.server.fail_call(asked, Value::Ancestor(3));
    assert!(
        matches!(outcome, Err(SessionError::Encode(_))),
        "{outcome:?}"
    );
    pair.drive();
    let events = pair.take_client_events();
    let [
        ClientEvent::CallResult {
            result: Err(error), ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(status_of(error).code, "NetConnection.Call.Failed");
}

#[test]
fn a_forgotten_call_makes_room_and_its_answer_is_ignored() {
    let config = ServerConfig {
        limits: SessionLimits {
            outstanding_calls: 1,
            ..SessionLimits::default()
        },
        ..ServerConfig::default()
    };
    let mut pair = Pair::connected_with(config, &parameters());
    let first = pair.server.call("a", Vec::new()).unwrap();
    let refused = pair.server.call("b", Vec::new());
    assert_eq!(refused, Err(SessionError::TooManyCalls(1)));
    pair.server.forget_call(first);
    pair.server.call("c", Vec::new()).unwrap();
    pair.drive();
    pair.take_client_events();
    pair.client.answer_call(first, Value::Null).unwrap();
    pair.drive();
    assert_eq!(pair.take_server_events(), []);
    assert_eq!(pair.server.ignored_messages(), 1);
}

#[test]
fn many_clients_share_a_command() {
    for encoding in [ObjectEncoding::Amf0, ObjectEncoding::Amf3] {
        let mut parameters = parameters();
        parameters.object_encoding = encoding;
        let mut pair = Pair::connected_with(ServerConfig::default(), &parameters);
        let command = crate::command::Command::notice("news", vec![text("x")]);
        let message = command.to_message(encoding, 0).unwrap();
        for _ in 0..2 {
            pair.server.notify_shared(&message).unwrap();
            pair.drive();
            let expected = ClientEvent::CallRequest {
                stream_id: 0,
                name: "news".to_owned(),
                transaction: TransactionId::NONE,
                arguments: vec![text("x")],
            };
            assert_eq!(pair.take_client_events(), [expected]);
        }
    }
}

/// rtmp-client takes a call for an answer where both have the same number.
#[test]
fn numbers_of_our_calls_are_none_of_the_clients() {
    let mut pair = Pair::connected();
    let ours = pair.server.call("ours", Vec::new()).unwrap();
    let theirs: Vec<f64> = (0..100)
        .map(|_| pair.client.call("theirs", Vec::new()).unwrap().number())
        .collect();
    assert!(theirs.iter().all(|number| *number < 1000.0), "{theirs:?}");
    assert!(ours.number() > 1e7, "{ours:?}");
}
