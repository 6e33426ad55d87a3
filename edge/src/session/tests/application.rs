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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_publishes_is_asked_for_and_renamed_and_ended() {
    let bench = start().await;
    let (mut client, number) = client(&bench).await;
    client
        .session
        .publish(1, "show?key=1", PublishMode::Append)
        .unwrap();
    // It does not wait to be let in.
    for timestamp in 0..3 {
        let frame = MediaFrame {
            kind: FrameKind::Audio,
            data: DataKind::Plain,
            timestamp,
            payload: Bytes::from_static(b"\xaf\x01abc"),
        };
        client.session.send_media(1, &frame).unwrap();
    }
    client.session.call("marker", Vec::new()).unwrap();
    client.send().await;
    let Ask::Publish(asked) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!((asked.client, asked.stream.as_str()), (number, "show"));
    assert_eq!(
        (asked.query.as_str(), asked.mode()),
        ("key=1", v1::PublishMode::Append)
    );
    // By now the frames have come.
    let Ask::Call(_) = bench.applications.asked().await else {
        panic!();
    };
    let decision = v1::StreamDecision {
        client: number,
        ask: asked.ask,
        allowed: true,
        stream: "secret".to_owned(),
        ..v1::StreamDecision::default()
    };
    bench.applications.say(Answer::Stream(decision)).await;
    let (code, _) = status(&mut client).await;
    assert_eq!(code, "NetStream.Publish.Start");
    let secret = format!("{DEFAULT_VHOST}/chat/secret");
    bench.origin.until_published(Some((&secret, 3))).await;
    let end = v1::EndStream {
        client: number,
        ask: asked.ask,
        code: "NetStream.Publish.BadName".to_owned(),
        description: "enough".to_owned(),
    };
    bench.applications.say(Answer::EndStream(end)).await;
    let (code, why) = status(&mut client).await;
    assert_eq!(
        (code.as_str(), why.as_str()),
        ("NetStream.Publish.BadName", "enough")
    );
    bench.origin.until_published(None).await;
    let Ask::Unpublish(ended) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!((ended.ask, ended.stream.as_str()), (asked.ask, "secret"));

    // The next one is not allowed.
    client
        .session
        .publish(1, "show", PublishMode::Live)
        .unwrap();
    client.send().await;
    let Ask::Publish(asked) = bench.applications.asked().await else {
        panic!();
    };
    let decision = v1::StreamDecision {
        client: number,
        ask: asked.ask,
        description: "no more".to_owned(),
        ..v1::StreamDecision::default()
    };
    bench.applications.say(Answer::Stream(decision)).await;
    let (code, why) = status(&mut client).await;
    assert_eq!(
        (code.as_str(), why.as_str()),
        ("NetStream.Publish.Denied", "no more")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_plays_is_asked_for_in_its_order() {
    let bench = start().await;
    bench.origin.put("one", Library::file(b'F', 500));
    bench.origin.put("other", Library::file(b'G', 500));
    let (mut client, number) = client(&bench).await;
    for (name, reset) in [("one", PlayReset::Reset), ("two", PlayReset::Append)] {
        let start = PlayStart::At(0);
        client
            .session
            .play(1, name, start, PlayLength::All, reset)
            .unwrap();
    }
    client.send().await;
    let mut asks = Vec::new();
    for name in ["one", "two"] {
        let Ask::Play(asked) = bench.applications.asked().await else {
            panic!();
        };
        assert_eq!((asked.stream.as_str(), asked.start), (name, 0.0));
        assert_eq!(asked.length, -1.0);
        asks.push(asked.ask);
    }
    // Decided the other way round.
    for (ask, stream) in [(asks[1], "other"), (asks[0], "")] {
        let decision = v1::StreamDecision {
            client: number,
            ask,
            allowed: true,
            stream: stream.to_owned(),
            ..v1::StreamDecision::default()
        };
        bench.applications.say(Answer::Stream(decision)).await;
    }
    let came = client.wait_status("NetStream.Play.Complete").await;
    let details: Vec<_> = came
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Status { status, .. } if status.code == "NetStream.Play.Start" => {
                let (_, name) = status.properties.iter().find(|(it, _)| it == "details")?;
                name.as_str()
            }
            _ => None,
        })
        .collect();
    assert_eq!(details, ["one", "two"]);
    client.session.close_stream(1).unwrap();
    client.send().await;
    for (ask, name) in [(asks[0], "one"), (asks[1], "other")] {
        let Ask::Stop(ended) = bench.applications.asked().await else {
            panic!();
        };
        assert_eq!((ended.ask, ended.stream.as_str()), (ask, name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_hears_of_what_it_allowed_and_was_not_there() {
    let bench = start().await;
    let (mut client, number) = client(&bench).await;
    let start = PlayStart::At(0);
    client
        .session
        .play(1, "nothing", start, PlayLength::All, PlayReset::Reset)
        .unwrap();
    client.send().await;
    let Ask::Play(asked) = bench.applications.asked().await else {
        panic!();
    };
    let decision = v1::StreamDecision {
        client: number,
        ask: asked.ask,
        allowed: true,
        ..v1::StreamDecision::default()
    };
    bench.applications.say(Answer::Stream(decision)).await;
    client.wait_status("NetStream.Play.StreamNotFound").await;
    let Ask::Stop(ended) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!((ended.client, ended.ask), (number, asked.ask));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_application_does_not_want_to_decide_is_not_asked() {
    let bench = start().await;
    bench.applications.set_hooks(|hooks| {
        hooks.publish = false;
        hooks.call = false;
    });
    bench.origin.put("film", Library::file(b'F', 500));
    let mut client = bench.newcomer("chat", |_| {}).await;
    client.session.create_stream().unwrap();
    let connecting = client.wait(|event| matches!(event, ClientEvent::StreamCreated { .. }));
    let deciding = async {
        let number = asked_to_connect(&bench).await.client;
        accept_with(&bench, number, Bytes::new(), "film", "mine").await;
    };
    tokio::join!(connecting, deciding);
    client.session.call("f", Vec::new()).unwrap();
    let failed = result(&mut client).await.unwrap_err();
    let why = failed.get("description").and_then(Value::as_str);
    assert_eq!(why, Some("Method not found (f)."));
    client
        .session
        .call("getStreamLength", vec!["film".into()])
        .unwrap();
    assert_eq!(result(&mut client).await, Ok(Value::Number(0.5)));
    // Of what it was granted when it was let in.
    for (name, code) in [
        ("film", "NetStream.Publish.Denied"),
        ("mine", "NetStream.Publish.Start"),
    ] {
        client.session.publish(1, name, PublishMode::Live).unwrap();
        assert_eq!(status(&mut client).await.0, code, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_break_fails_calls_and_says_clients_again() {
    let bench = start().await;
    let (mut client, number) = client(&bench).await;
    client.session.call("slow", Vec::new()).unwrap();
    client.send().await;
    let Ask::Call(_) = bench.applications.asked().await else {
        panic!();
    };
    bench.applications.break_call().await;
    let failed = result(&mut client).await.unwrap_err();
    let code = failed.get("code").and_then(Value::as_str);
    assert_eq!(code, Some("NetConnection.Call.Failed"));
    let Ask::Open(open) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!(open.resumed_clients, 1);
    let connect = asked_to_connect(&bench).await;
    assert_eq!(connect.client, number);
    assert!(connect.resumed.is_some());
    client.session.call("again", Vec::new()).unwrap();
    client.send().await;
    let Ask::Call(call) = bench.applications.asked().await else {
        panic!();
    };
    assert_eq!(call.name, "again");
    assert_eq!(
        bench.metric("application_attachments_broken_total", ""),
        1.0
    );
    assert_eq!(bench.metric("application_clients", ""), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_ends_clients_and_itself() {
    let bench = start().await;
    let (mut first, number) = client(&bench).await;
    let end = v1::EndClient {
        client: number,
        code: String::new(),
        description: "go".to_owned(),
    };
    bench.applications.say(Answer::End(end)).await;
    let came = first
        .wait(|event| matches!(event, ClientEvent::Closed))
        .await;
    let told = came.iter().find_map(|event| match event {
        ClientEvent::Status { status, .. } => Some((&*status.code, status.description.as_str())),
        _ => None,
    });
    assert_eq!(told, Some(("NetConnection.Connect.Closed", "go")));
    drop(first);
    let (mut second, _) = client(&bench).await;
    let ended = v1::InstanceEnded {
        description: String::new(),
        code: "NetConnection.Connect.AppShutdown".to_owned(),
    };
    bench.applications.say(Answer::Ended(ended)).await;
    second
        .wait(|event| matches!(event, ClientEvent::Status { status, .. } if status.code == "NetConnection.Connect.AppShutdown"))
        .await;
    second
        .wait(|event| matches!(event, ClientEvent::Closed))
        .await;
    // Whoever comes is at a new instance.
    client(&bench).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_without_an_owner_refuses_its_clients() {
    let bench = start().await;
    // Its policy is known, and its owner gone.
    drop(client(&bench).await);
    bench.stop_origin();
    let mut client = bench.newcomer("chat", |_| {}).await;
    let came = client
        .wait(|event| matches!(event, ClientEvent::ConnectRejected { .. }))
        .await;
    let Some(ClientEvent::ConnectRejected { status, .. }) = came.last() else {
        panic!("{came:?}");
    };
    assert_eq!(status.code, "NetConnection.Proxy.NotResponding");
}
