//! Streams of clients whose application has a say, and an application that ends.

use super::*;

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
