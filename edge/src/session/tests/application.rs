//! Clients whose application has a say at its origin.

use bytes::Bytes;
use headwater_amf::{Object, Value};
use headwater_media::frame::FrameKind;
use headwater_media::name::DEFAULT_VHOST;
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Ask;
use headwater_proto::v1::attach_response::Response as Answer;
use headwater_proto::v1::connect_decision::Decision;
use headwater_rtmp::client::ClientEvent;
use headwater_rtmp::command::{
    DataKind, ObjectEncoding, PlayLength, PlayReset, PlayStart, PublishMode,
};
use headwater_rtmp::server::MediaFrame;

use super::bench::{Bench, Client};
use crate::application::values;
use crate::player::tests::library::Library;

mod streams;

const TOML: &str = "[handler]\naddress = \"http://127.0.0.1:7\"\npending_ms = 20000";

async fn start() -> Bench {
    let bench = Bench::start().await;
    bench.applications.store(DEFAULT_VHOST, "chat", TOML);
    bench
}

/// The connect of a client, as the owner hears it.
async fn asked_to_connect(bench: &Bench) -> v1::ClientConnect {
    loop {
        match bench.applications.asked().await {
            Ask::Open(open) => {
                let name = open.name.expect("a name");
                assert_eq!((name.app.as_str(), name.instance.as_str()), ("chat", "x"));
            }
            Ask::Connect(connect) => return connect,
            // Of somebody who was there before.
            Ask::Disconnect(_) | Ask::Close(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn accept(bench: &Bench, client: u64, properties: Bytes) {
    accept_with(bench, client, properties, "/", "/").await;
}

async fn accept_with(bench: &Bench, client: u64, properties: Bytes, read: &str, write: &str) {
    let grant = v1::ClientGrant {
        read_access: read.to_owned(),
        write_access: write.to_owned(),
    };
    let accepted = v1::ConnectAccepted {
        grant: Some(grant),
        properties,
    };
    let decision = Some(Decision::Accepted(accepted));
    let decision = v1::ConnectDecision { client, decision };
    bench.applications.say(Answer::Decision(decision)).await;
}

/// A client that is let in, with a message stream, and its number.
async fn client(bench: &Bench) -> (Client, u64) {
    client_with(bench, ObjectEncoding::Amf0).await
}

async fn client_with(bench: &Bench, encoding: ObjectEncoding) -> (Client, u64) {
    let mut client = bench
        .newcomer("chat", |it| it.object_encoding = encoding)
        .await;
    client.session.create_stream().unwrap();
    let connecting = async {
        client
            .wait(|event| matches!(event, ClientEvent::StreamCreated { .. }))
            .await;
    };
    let deciding = async {
        let number = asked_to_connect(bench).await.client;
        accept(bench, number, Bytes::new()).await;
        number
    };
    let ((), number) = tokio::join!(connecting, deciding);
    (client, number)
}

async fn status(client: &mut Client) -> (String, String) {
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::Status { .. });
    match client.wait(is_it).await.into_iter().last() {
        Some(ClientEvent::Status { status, .. }) => (status.code.into_owned(), status.description),
        other => panic!("{other:?}"),
    }
}

/// The next call that the client was asked, and its arguments.
async fn called(
    client: &mut Client,
) -> (String, headwater_rtmp::command::TransactionId, Vec<Value>) {
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::CallRequest { .. });
    match client.wait(is_it).await.into_iter().last() {
        Some(ClientEvent::CallRequest {
            name,
            transaction,
            arguments,
            ..
        }) => (name, transaction, arguments),
        other => panic!("{other:?}"),
    }
}

async fn result(client: &mut Client) -> Result<Value, Value> {
    let is_it = |event: &ClientEvent| matches!(event, ClientEvent::CallResult { .. });
    match client.wait(is_it).await.into_iter().last() {
        Some(ClientEvent::CallResult { result, .. }) => result,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_pending_until_its_application_has_decided() {
    let bench = start().await;
    let mut client = bench
        .newcomer("chat", |parameters| {
            parameters.swf_url = Some("http://a/b.swf".to_owned());
            parameters.page_url = Some("http://a/".to_owned());
            parameters.arguments = vec!["me".into(), 5.0.into()];
        })
        .await;
    // What it says meanwhile waits.
    client.session.create_stream().unwrap();
    client.session.call("hello", vec![1.0.into()]).unwrap();
    let connected = async {
        client
            .wait(|event| matches!(event, ClientEvent::StreamCreated { .. }))
            .await
    };
    let deciding = async {
        let connect = asked_to_connect(&bench).await;
        let properties = connect.properties.expect("properties");
        assert_eq!(properties.ip, "127.0.0.1");
        assert_eq!(
            (properties.protocol.as_str(), properties.secure),
            ("rtmp", false)
        );
        assert_eq!(properties.agent, "LNX 32,0,0,465");
        assert_eq!(properties.referrer, "http://a/b.swf");
        assert_eq!(properties.page_url, "http://a/");
        assert!(properties.uri.ends_with("/chat/x"), "{}", properties.uri);
        let object = values::decode_one(&properties.object, ObjectEncoding::Amf0);
        assert_eq!(object.get("app").and_then(Value::as_str), Some("chat/x"));
        let arguments = values::decode(&connect.arguments, ObjectEncoding::Amf0);
        assert_eq!(arguments.unwrap(), ["me".into(), 5.0.into()]);
        assert_eq!(connect.resumed, None);
        let said = Object::new().with("room", "blue").with("code", "mine");
        let said = values::encode(&[said.into()]);
        accept(&bench, connect.client, said).await;
        properties.id
    };
    let (came, id) = tokio::join!(connected, deciding);
    let status = came.iter().find_map(|event| match event {
        ClientEvent::Connected { status, .. } => Some(status),
        _ => None,
    });
    let status = status.expect("it is connected");
    assert_eq!(status.code, "NetConnection.Connect.Success");
    let property = |name: &str| {
        let mut properties = status.properties.iter();
        let found = properties.find(|(it, _)| it == name);
        found
            .and_then(|(_, value)| value.as_str())
            .map(str::to_owned)
    };
    assert_eq!(property("room").as_deref(), Some("blue"));
    assert_eq!(property("clientid"), Some(id));
    let Ask::Call(call) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!(call.name, "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_refused_as_the_application_says() {
    let bench = start().await;
    let why = values::encode(&[Object::new().with("why", "full").into()]);
    for (rejected, code, description, redirect) in [
        (
            v1::ConnectRejected {
                description: "not you".to_owned(),
                application: why,
                ..v1::ConnectRejected::default()
            },
            "NetConnection.Connect.Rejected",
            "not you",
            None,
        ),
        (
            v1::ConnectRejected {
                redirect: "rtmp://there/chat".to_owned(),
                code: "NetConnection.Connect.InvalidApp".to_owned(),
                ..v1::ConnectRejected::default()
            },
            "NetConnection.Connect.InvalidApp",
            "There is no such application.",
            Some("rtmp://there/chat"),
        ),
    ] {
        let mut client = bench.newcomer("chat", |_| {}).await;
        client.send().await;
        let has_application = !rejected.application.is_empty();
        let refused = async {
            let came = client
                .wait(|event| matches!(event, ClientEvent::Closed))
                .await;
            let found = came.into_iter().find_map(|event| match event {
                ClientEvent::ConnectRejected { status, redirect } => Some((status, redirect)),
                _ => None,
            });
            found.expect("a refusal")
        };
        let deciding = async {
            let client = asked_to_connect(&bench).await.client;
            let decision = Some(Decision::Rejected(rejected));
            let decision = v1::ConnectDecision { client, decision };
            bench.applications.say(Answer::Decision(decision)).await;
        };
        let ((status, to), ()) = tokio::join!(refused, deciding);
        assert_eq!(
            (&*status.code, status.description.as_str()),
            (code, description)
        );
        assert_eq!(to.as_deref(), redirect);
        let application = status.properties.iter().find(|(it, _)| it == "application");
        let said = application.and_then(|(_, value)| value.get("why")?.as_str());
        assert_eq!(said, has_application.then_some("full"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_both_ways_and_are_answered_by_their_numbers() {
    let bench = start().await;
    let (mut client, number) = client(&bench).await;
    let [first, second] = ["first", "second"].map(|name| {
        let arguments = vec![name.into(), Value::Null];
        client.session.call(name, arguments).unwrap()
    });
    client.session.notify(0, "third", Vec::new()).unwrap();
    client.send().await;
    let mut calls = Vec::new();
    for name in ["first", "second", "third"] {
        let Ask::Call(call) = bench.applications.asked().await else {
            panic!();
        };
        assert_eq!((call.client, call.name.as_str()), (number, name));
        calls.push(call.call);
    }
    assert_eq!(calls[2], 0, "nobody waits for an answer");
    let info = values::encode(&[Object::new().with("code", "Mine").into()]);
    for (call, failed, value) in [
        (calls[1], false, values::encode(&["two".into()])),
        (calls[0], true, info),
    ] {
        let answer = v1::CallAnswer {
            client: number,
            call,
            failed,
            value,
        };
        bench.applications.say(Answer::Answer(answer)).await;
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        let is_it = |event: &ClientEvent| matches!(event, ClientEvent::CallResult { .. });
        let came = client.wait(is_it).await;
        if let Some(ClientEvent::CallResult {
            transaction,
            result,
        }) = came.into_iter().last()
        {
            answers.push((transaction, result));
        }
    }
    assert_eq!(answers[0], (second, Ok("two".into())));
    let Err(info) = &answers[1].1 else {
        panic!("{answers:?}");
    };
    assert_eq!(answers[1].0, first);
    assert_eq!(info.get("code").and_then(Value::as_str), Some("Mine"));

    // The other way.
    for (failed, wanted) in [(false, "yes"), (true, "no")] {
        let call = v1::ServerCall {
            clients: vec![number],
            call: 8,
            name: "ask".to_owned(),
            arguments: values::encode(&["?".into()]),
        };
        bench.applications.say(Answer::Call(call)).await;
        let (name, transaction, arguments) = called(&mut client).await;
        assert_eq!(
            (name.as_str(), arguments.as_slice()),
            ("ask", &["?".into()][..])
        );
        let answered = if failed {
            client.session.reject_call(transaction, wanted)
        } else {
            client.session.answer_call(transaction, wanted.into())
        };
        answered.unwrap();
        client.send().await;
        let Ask::Answer(answer) = bench.applications.asked().await else {
            panic!();
        };
        assert_eq!(
            (answer.client, answer.call, answer.failed),
            (number, 8, failed)
        );
        let value = values::decode_one(&answer.value, ObjectEncoding::Amf0);
        let text = if failed {
            value.get("description").cloned()
        } else {
            Some(value)
        };
        assert_eq!(text.as_ref().and_then(Value::as_str), Some(wanted));
    }
    for outcome in ["answered", "failed", "unanswered"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(
            bench.metric("application_calls_total", &label),
            1.0,
            "{outcome}"
        );
    }
    // It leaves, and the owner hears of it.
    drop(client);
    let Ask::Disconnect(gone) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!(gone.client, number);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_to_all_comes_to_all_who_are_let_in_as_they_understand_it() {
    let bench = start().await;
    let (mut old, _) = client_with(&bench, ObjectEncoding::Amf0).await;
    let (mut new, _) = client_with(&bench, ObjectEncoding::Amf3).await;
    let mut pending = bench.newcomer("chat", |_| {}).await;
    pending.send().await;
    let number = tokio::join!(asked_to_connect(&bench), async {
        // Drives the handshake.
        let waiting = pending.wait(|event| matches!(event, ClientEvent::Closed));
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), waiting).await;
    })
    .0
    .client;
    let bytes = Value::ByteArray(Bytes::from_static(b"\x01\x02"));
    let call = v1::ServerCall {
        clients: Vec::new(),
        call: 0,
        name: "news".to_owned(),
        arguments: values::encode(&["a".into(), bytes.clone()]),
    };
    bench.applications.say(Answer::Call(call)).await;
    let (_, _, arguments) = called(&mut old).await;
    assert_eq!(arguments, ["a".into(), Value::Undefined]);
    let (_, _, arguments) = called(&mut new).await;
    assert_eq!(arguments, ["a".into(), bytes]);
    accept(&bench, number, Bytes::new()).await;
    let came = pending
        .wait(|event| matches!(event, ClientEvent::Connected { .. }))
        .await;
    assert!(
        !came
            .iter()
            .any(|event| matches!(event, ClientEvent::CallRequest { .. })),
        "{came:?}"
    );
}
