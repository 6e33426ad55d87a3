//! Handler programs: those that do well, are slow, crash, say nonsense, flood, and have certificates. On a real clock: their connections are
//! real.

use headwater_amf::Object;
use headwater_proto::v1::value::Value as Wire;
use tonic::transport::Identity;

use super::*;

/// A bench whose application has this program.
async fn with(program: &Program, keys: &str) -> Bench {
    let bench = bench(&["a"]).await;
    handled(&bench, program, keys);
    bench
}

fn handled(bench: &Bench, program: &Program, keys: &str) {
    let address = program.at;
    let text = format!("[handler]\naddress = \"http://{address}\"\n{keys}");
    write(bench, "chat", &text);
}

fn broadcast(number: usize, bytes: usize) -> Act {
    let value = |value: Wire| v1::Value { value: Some(value) };
    Act::CallClient(v1::CallClient {
        name: "say".to_owned(),
        arguments: vec![
            value(Wire::Number(number as f64)),
            value(Wire::String("x".repeat(bytes))),
        ],
        ..v1::CallClient::default()
    })
}

#[tokio::test]
async fn a_program_decides() {
    let mut program = Program::start().await;
    let bench = with(&program, "").await;
    let name = instance("rooms/one");
    let opening = Edge::begin(&bench, "a", Say::Open(open(&name)));
    let ((mut call, started), mut edge) = tokio::join!(program.called(), opening);
    assert_eq!(
        (
            started.app.as_str(),
            started.instance.as_str(),
            started.origin.as_str()
        ),
        ("chat", "rooms/one", "a")
    );
    call.hello().await;
    let Told::Opened(opened) = edge.told().await else {
        panic!("not opened");
    };
    assert_eq!(opened.epoch, started.epoch);
    assert!(opened.hooks.unwrap().publish);
    edge.connect(1).await;
    let asked = call.accept().await;
    assert_eq!(asked.client.unwrap().ip, "192.0.2.7");
    assert_eq!(
        asked.arguments[0].value,
        Some(Wire::String("secret".to_owned()))
    );
    assert_eq!(edge.accepted().await.grant.unwrap().read_access, "/");
    edge.connect(2).await;
    assert!(matches!(call.hear().await, Heard::Connect(_)));
    let application = Wire::Object(v1::ObjectValue {
        class_name: "Reason".to_owned(),
        properties: vec![v1::Property {
            name: "code".to_owned(),
            value: Some(v1::Value {
                value: Some(Wire::Number(7.0)),
            }),
        }],
        is_array: false,
    });
    call.act(Act::Connect(v1::ConnectReply {
        client: id(2),
        description: "members only".to_owned(),
        application: Some(v1::Value {
            value: Some(application),
        }),
        redirect: "rtmp://other/chat".to_owned(),
        ..v1::ConnectReply::default()
    }))
    .await;
    let rejected = edge.rejected().await;
    assert_eq!(rejected.description, "members only");
    assert_eq!(rejected.redirect, "rtmp://other/chat");
    let reason = Object::typed("Reason").with("code", 7.0);
    assert_eq!(rejected.application, values(&[reason.into()]));
    // A call there, and one back.
    let (answer, ()) = tokio::join!(edge.call(1, 5, "double"), async {
        let Heard::Call(asked) = call.hear().await else {
            panic!("no call");
        };
        assert_eq!((asked.client, asked.name), (id(1), "double".to_owned()));
        assert_eq!(asked.arguments[0].value, Some(Wire::Number(2.0)));
        call.answer(asked.call, Wire::Number(4.0)).await;
    });
    assert_eq!((answer.call, answer.value), (5, values(&[4.0.into()])));
    call.act(Act::CallClient(v1::CallClient {
        clients: vec![id(1)],
        call: 77,
        name: "ask".to_owned(),
        arguments: Vec::new(),
    }))
    .await;
    let Told::Call(asked) = edge.told().await else {
        panic!("not called");
    };
    edge.say(Say::Answer(v1::ClientAnswer {
        client: 1,
        call: asked.call,
        failed: false,
        value: values(&["fine".into()]),
    }))
    .await;
    let Heard::Answer(answer) = call.hear().await else {
        panic!("no answer");
    };
    assert_eq!((answer.call, answer.failed), (77, false));
    // The edge leaves in good order; the instance stays for a while.
    edge.say(Say::Disconnect(v1::ClientDisconnect { client: 1 }))
        .await;
    assert!(matches!(call.hear().await, Heard::Left(left) if left.client == id(1)));
    call.act(Act::Shutdown(v1::ShutdownInstance {
        description: "closing time".to_owned(),
    }))
    .await;
    let Told::Ended(ended) = edge.told().await else {
        panic!("not ended");
    };
    assert_eq!(ended.description, "closing time");
    edge.say(Say::Close(v1::AttachClose {})).await;
    assert_eq!(edge.end().await.code(), Code::Ok);
    let Heard::Stopping(stopping) = call.hear().await else {
        panic!("not told");
    };
    assert_eq!(stopping.reason, "shutdown");
    assert!(call.ended().await);
    until(async || bench.metric_of("a", "applications", "instances") == "0").await;
}

#[tokio::test]
async fn a_program_that_crashes_hears_its_clients_again() {
    let mut program = Program::start().await;
    let bench = with(&program, "breaker_failures = 1000\n").await;
    let opening = Edge::attach(&bench, "a", open(&instance("room")));
    let (mut call, mut edge) = tokio::join!(program.greeted(), opening);
    edge.connect(1).await;
    call.accept().await;
    edge.accepted().await;
    let at = program.at;
    let (answer, ()) = tokio::join!(edge.call(1, 5, "f"), async {
        call.hear().await;
        drop(program);
        drop(call);
    });
    assert_eq!(why(&answer), "The application is not available.");
    let mut program = Program::at(at, None).await;
    let mut call = program.greeted().await;
    let Heard::Resumed(resumed) = call.hear().await else {
        panic!("not resumed");
    };
    assert_eq!(resumed.client.unwrap().id, id(1));
    let (answer, ()) = tokio::join!(edge.call(1, 6, "f"), async {
        let Heard::Call(asked) = call.hear().await else {
            panic!("no call");
        };
        call.answer(asked.call, Wire::Null(true)).await;
    });
    assert!(!answer.failed);
}

#[tokio::test]
async fn a_program_that_is_slow_or_away_fails_alone() {
    let mut program = Program::start().await;
    let bench = with(
        &program,
        "timeout_ms = 200\nbreaker_failures = 2\nbreaker_ms = 600000\n",
    )
    .await;
    let opening = Edge::attach(&bench, "a", open(&instance("room")));
    let (mut call, mut edge) = tokio::join!(program.greeted(), opening);
    edge.connect(1).await;
    call.accept().await;
    edge.accepted().await;
    for number in 1..=2 {
        let answer = edge.call(1, number, "f").await;
        assert_eq!(why(&answer), "The application does not answer.");
    }
    let answer = edge.call(1, 3, "f").await;
    assert_eq!(why(&answer), "The application is not available.");
    assert_eq!(bench.metric_of("a", "applications", "breakers_open"), "1");
    // One that is not there at all: an edge gets in, its clients do not.
    let gone = Program::start().await;
    handled(&bench, &gone, "timeout_ms = 200\nbreaker_failures = 1\n");
    drop(gone);
    let name = instance("other");
    describe(&bench, "chat").await;
    let mut edge = Edge::attach(&bench, "a", open(&name)).await;
    edge.connect(9).await;
    let why = edge.rejected().await.description;
    assert!(why.starts_with("The application "), "{why}");
}

#[tokio::test]
async fn a_program_that_says_nonsense_fails_alone() {
    let mut program = Program::start().await;
    let bench = with(&program, "").await;
    let opening = Edge::attach(&bench, "a", open(&instance("room")));
    let (mut call, mut edge) = tokio::join!(program.greeted(), opening);
    edge.connect(1).await;
    assert!(matches!(call.hear().await, Heard::Connect(_)));
    call.act(Act::Connect(v1::ConnectReply {
        client: id(1),
        accept: true,
        properties: Some(v1::Value {
            value: Some(Wire::Amf(vec![0xff, 1, 2].into())),
        }),
        ..v1::ConnectReply::default()
    }))
    .await;
    assert_eq!(
        edge.rejected().await.description,
        "The application answers nonsense."
    );
    // A message that is too large, or no message at all, costs the call, and not more.
    for _ in 0..2 {
        call.try_act(broadcast(1, 5 << 20)).await;
        assert!(call.ended().await);
        call = program.greeted().await;
        edge.connect(2).await;
        call.accept().await;
        edge.accepted().await;
        edge.say(Say::Disconnect(v1::ClientDisconnect { client: 2 }))
            .await;
        assert!(matches!(call.hear().await, Heard::Left(_)));
    }
    assert_eq!(
        bench.metric_of("a", "applications", "handler_nonsense_total"),
        "1"
    );
}

#[tokio::test]
async fn a_program_that_floods_is_held_up() {
    const MESSAGES: usize = 6_000;
    const BYTES: usize = 8 << 10;
    let mut program = Program::start().await;
    let bench = with(&program, "").await;
    let opening = Edge::attach(&bench, "a", open(&instance("room")));
    let (mut call, mut edge) = tokio::join!(program.greeted(), opening);
    edge.connect(1).await;
    call.accept().await;
    edge.accepted().await;
    let (sent_in, mut sent) = tokio::sync::watch::channel(0);
    let flooding = tokio::spawn(async move {
        for number in 0..MESSAGES {
            call.try_act(broadcast(number, BYTES)).await;
            sent_in.send_replace(number + 1);
        }
        call
    });
    // The edge does not read: it stops by itself.
    soon(async {
        loop {
            let before = *sent.borrow_and_update();
            let more = tokio::time::timeout(Duration::from_millis(500), sent.changed()).await;
            if more.is_err() && before > 0 {
                break;
            }
        }
    })
    .await;
    let held_up = *sent.borrow();
    assert!(held_up < MESSAGES / 2, "{held_up} messages were taken");
    for number in 0..MESSAGES {
        let Told::Call(said) = edge.told().await else {
            panic!("something else");
        };
        let values = amf0::decode_all(&said.arguments, headwater_amf::Limits::default()).unwrap();
        assert_eq!(values[0], Value::Number(number as f64));
    }
    soon(flooding).await.unwrap();
}

#[tokio::test]
async fn a_changed_app_toml_goes_to_another_program() {
    let mut first = Program::start().await;
    let bench = with(&first, "").await;
    let opening = Edge::attach(&bench, "a", open(&instance("room")));
    let (mut call, mut edge) = tokio::join!(first.greeted(), opening);
    edge.connect(1).await;
    call.accept().await;
    edge.accepted().await;
    let mut second = Program::start().await;
    handled(&bench, &second, "");
    let mut next = second.greeted().await;
    assert!(matches!(next.hear().await, Heard::Resumed(_)));
    assert!(matches!(call.hear().await, Heard::Stopping(stopping) if stopping.reason == "reload"));
    assert!(call.ended().await);
    // What cannot be used changes nothing.
    write(&bench, "chat", "max_clients = \"many\"\n");
    until(async || bench.metric_of("a", "applications", "broken") == "1").await;
    let (answer, ()) = tokio::join!(edge.call(1, 6, "f"), async {
        let Heard::Call(asked) = next.hear().await else {
            panic!("no call");
        };
        next.answer(asked.call, Wire::Null(true)).await;
    });
    assert!(!answer.failed);
    // An application that is removed takes its clients with it.
    let file = bench.nodes["a"]
        .data
        .path()
        .join("applications/chat/app.toml");
    std::fs::remove_file(file).unwrap();
    let Told::Ended(ended) = edge.told().await else {
        panic!("not ended");
    };
    assert_eq!(ended.code, "NetConnection.Connect.InvalidApp");
}

#[tokio::test]
async fn a_program_is_known_by_its_certificate() {
    let signed = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (good, other) = (signed("localhost"), signed("localhost"));
    let identity = Identity::from_pem(good.cert.pem(), good.signing_key.serialize_pem());
    let mut program = Program::with_tls(identity).await;
    let bench = bench(&["a"]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let port = program.at.port();
    let text = format!(
        "[handler]\naddress = \"https://localhost:{port}\"\nca_file = {file:?}\ntimeout_ms = 1000\nbreaker_failures = 1\nbreaker_ms = 10\n"
    );
    write(&bench, "chat", &text);
    // Without an authority, and with another one's.
    for wrong in [None, Some(&other)] {
        if let Some(wrong) = wrong {
            std::fs::write(&file, wrong.cert.pem()).unwrap();
        }
        let mut edge = Edge::attach(&bench, "a", open(&instance("early"))).await;
        edge.connect(1).await;
        edge.rejected().await;
    }
    std::fs::write(&file, good.cert.pem()).unwrap();
    let opening = Edge::attach(&bench, "a", open(&instance("late")));
    let greeting = async {
        let mut early = Vec::new();
        loop {
            let (call, started) = program.called().await;
            call.hello().await;
            if started.instance == "late" {
                return call;
            }
            // The other instance has tried again.
            early.push(call);
        }
    };
    let (mut call, mut edge) = tokio::join!(greeting, opening);
    let Say::Connect(mut client) = connect(1) else {
        unreachable!();
    };
    client.properties.as_mut().unwrap().id = id(2);
    edge.say(Say::Connect(client)).await;
    tokio::join!(
        async {
            call.accept().await;
        },
        async {
            edge.accepted().await;
        }
    );
}
