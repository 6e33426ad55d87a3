//! Who decides what: the handler, or the application.

use super::*;

#[test]
fn without_a_handler_the_application_decides() {
    let mut bench = Bench::new("read_access = \"a\"\nwrite_access = \"b\"\n");
    assert_eq!(bench.outputs(), []);
    bench.attach(1, 10, 0);
    let Told::Opened(opened) = bench.told_one() else {
        panic!("not opened");
    };
    assert_eq!((opened.epoch, opened.owner.as_str()), (7, "a"));
    assert_eq!(opened.hooks, Some(v1::Hooks::default()));
    bench.say(1, connect(1));
    let accepted = v1::ConnectAccepted {
        grant: Some(grant("a", "b")),
        properties: bytes::Bytes::new(),
    };
    let decision = v1::ConnectDecision {
        client: 1,
        decision: Some(Decision::Accepted(accepted)),
    };
    assert_eq!(bench.told_one(), Told::Decision(decision));
    bench.say(1, call(1, 4, "sum"));
    assert_eq!(failure(&bench.told_one()), "Method not found (sum).");
    bench.say(1, call(1, 0, "sum"));
    bench.say(1, publish(1, 5));
    bench.say(1, use_object(1, 6));
    let told = bench.told();
    assert!(
        matches!(&told[..], [(1, Told::Stream(stream)), (1, Told::ObjectDecision(object))]
            if stream.allowed && stream.ask == 5 && object.may_read && object.may_write),
        "{told:?}"
    );
    assert_eq!(bench.metric("clients"), 1);
    bench.say(1, disconnect(1));
    assert_eq!(bench.metric("clients"), 0);
    assert_eq!(bench.events(), []);
}

#[test]
fn the_handler_decides_on_clients() {
    let mut bench = Bench::up("", ALL);
    for client in 1..=3 {
        bench.say(1, connect(client));
    }
    let asked: Vec<_> = (bench.events().into_iter())
        .map(|event| match event {
            Event::Connect {
                client,
                arguments,
                object,
            } => {
                assert_eq!(arguments, ["secret".into()]);
                assert_eq!(object.get("app"), Some(&"chat".into()));
                client.id.clone()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked, [id(1), id(2), id(3)]);
    assert_eq!(bench.metric("waiting"), 3);
    // Later ones do not wait for earlier ones.
    bench.act(Action::Connect {
        client: id(2),
        reply: ConnectReply::Accept {
            read: Some("pub".to_owned()),
            write: None,
            properties: Some(Object::new().with("seat", 7.0).into()),
        },
    });
    let accepted = v1::ConnectAccepted {
        grant: Some(grant("pub", "/")),
        properties: encoded(Object::new().with("seat", 7.0)),
    };
    let decision = v1::ConnectDecision {
        client: 2,
        decision: Some(Decision::Accepted(accepted)),
    };
    assert_eq!(bench.told_one(), Told::Decision(decision));
    bench.act(Action::Connect {
        client: id(1),
        reply: ConnectReply::Reject {
            description: "go there".to_owned(),
            application: Some("why".into()),
            redirect: "rtmp://b/chat".to_owned(),
        },
    });
    let told = bench.told_one();
    let expected = v1::ConnectRejected {
        description: "go there".to_owned(),
        application: encoded("why"),
        redirect: "rtmp://b/chat".to_owned(),
        code: String::new(),
    };
    assert_eq!(rejected(&told), &expected);
    // An answer to nobody, and one that comes twice.
    bench.act(accept(9));
    bench.act(accept(2));
    assert_eq!(bench.told(), []);
    // The third is left pending, for a minute.
    bench.wait(59_000);
    assert_eq!(bench.told(), []);
    bench.wait(2_000);
    let told = bench.told_one();
    assert_eq!(
        rejected(&told).description,
        "The application has not decided in time."
    );
    assert_eq!(
        bench.event(),
        Event::Left {
            client: id(3).into()
        }
    );
    assert_eq!(bench.metric("waiting"), 0);
    assert_eq!(bench.metric("clients"), 1);
    // Leaving it pending is no failure.
    assert_eq!(bench.metric("handler_failures_total"), 0);
}

#[test]
fn calls_and_streams_are_asked_in_order_and_answered_as_they_come() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    for said in [
        call(1, 4, "sum"),
        publish(1, 5),
        call(1, 0, "note"),
        play(1, 6),
        use_object(1, 7),
    ] {
        bench.say(1, said);
    }
    // Said again: the answer is on its way.
    bench.say(1, play(1, 6));
    let events = bench.events();
    let [
        Event::Call {
            call: sum, name, ..
        },
        Event::Publish {
            ask: camera,
            query,
            mode: v1::PublishMode::Record,
            ..
        },
        Event::Call { call: 0, .. },
        Event::Play {
            ask: film, start, ..
        },
        Event::UseObject {
            ask: board,
            persistent: true,
            ..
        },
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (name.as_str(), query.as_str(), *start),
        ("sum", "key=1", -2.0)
    );
    // An answer of another kind is none.
    bench.act(Action::UseObject {
        ask: *film,
        read: true,
        write: true,
    });
    bench.act(Action::UseObject {
        ask: *board,
        read: true,
        write: false,
    });
    bench.act(Action::Stream {
        ask: *film,
        reply: StreamReply::Refuse {
            code: "NetStream.Play.Failed".to_owned(),
            description: "paid only".to_owned(),
        },
    });
    bench.act(Action::Stream {
        ask: *camera,
        reply: StreamReply::Allow("camera-2".to_owned()),
    });
    bench.act(Action::Call {
        call: *sum,
        result: Ok(3.0.into()),
    });
    let told: Vec<Told> = bench.told().into_iter().map(|(_, told)| told).collect();
    assert_eq!(
        told,
        [
            Told::ObjectDecision(v1::ObjectDecision {
                client: 1,
                ask: 7,
                may_read: true,
                may_write: false,
            }),
            Told::Stream(v1::StreamDecision {
                client: 1,
                ask: 6,
                code: "NetStream.Play.Failed".to_owned(),
                description: "paid only".to_owned(),
                ..v1::StreamDecision::default()
            }),
            Told::Stream(v1::StreamDecision {
                client: 1,
                ask: 5,
                allowed: true,
                stream: "camera-2".to_owned(),
                ..v1::StreamDecision::default()
            }),
            Told::Answer(v1::CallAnswer {
                client: 1,
                call: 4,
                failed: false,
                value: encoded(3.0),
            }),
        ]
    );
    // The handler ends it, the edge says that it has ended.
    let end = |ask: u64| Action::EndStream {
        client: id(1),
        ask,
        code: "NetStream.Unpublish.Success".to_owned(),
        description: String::new(),
    };
    bench.act(end(*film));
    bench.act(end(*camera));
    let told = bench.told_one();
    assert!(
        matches!(&told, Told::EndStream(end) if end.client == 1 && end.ask == 5),
        "{told:?}"
    );
    bench.say(1, Said::Unpublish(ended(1, 5)));
    let end = Ended {
        client: id(1).into(),
        stream: "camera".to_owned(),
        ask: *camera,
    };
    assert_eq!(bench.event(), Event::Unpublished(end));
}

#[test]
fn what_an_answer_may_be() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    let mut answer = |number: u64, result| {
        bench.say(1, call(1, number, "f"));
        let Event::Call { call, .. } = bench.event() else {
            panic!("not called");
        };
        bench.act(Action::Call { call, result });
        bench.told_one()
    };
    assert_eq!(
        failure(&answer(1, Err(CallFailure::Description("no".to_owned())))),
        "no"
    );
    let own = answer(2, Err(CallFailure::Information("x".into())));
    assert!(matches!(own, Told::Answer(answer) if answer.failed && answer.value == encoded("x")));
    // What cannot be encoded is as good as nothing.
    let cycle = answer(3, Ok(Value::Ancestor(3)));
    assert!(
        matches!(cycle, Told::Answer(answer) if !answer.failed && answer.value == encoded(Value::Undefined))
    );
    assert_eq!(bench.metric("handler_nonsense_total"), 1);
}

#[test]
fn a_handler_is_asked_only_what_it_wants() {
    let hooks = v1::Hooks {
        play: true,
        ..v1::Hooks::default()
    };
    let mut bench = Bench::new(HANDLER);
    bench.outputs();
    bench.attach(1, 10, 0);
    assert_eq!(bench.told(), [], "the handler says first what it wants");
    bench.act(Action::Hello(hooks));
    let Told::Opened(opened) = bench.told_one() else {
        panic!("not opened");
    };
    let told = v1::Hooks {
        connect: true,
        ..hooks
    };
    assert_eq!(opened.hooks, Some(told), "a handler may call any client");
    bench.say(1, connect(1));
    assert!(is_accepted(&bench.told_one()));
    bench.say(1, publish(1, 1));
    assert!(matches!(bench.told_one(), Told::Stream(stream) if stream.allowed));
    bench.say(1, call(1, 2, "f"));
    assert_eq!(failure(&bench.told_one()), "Method not found (f).");
    bench.say(1, Said::Unpublish(ended(1, 1)));
    let event = bench.event();
    assert!(matches!(event, Event::Resumed { .. }), "that it is there");
    bench.say(1, play(1, 3));
    assert!(matches!(bench.event(), Event::Play { .. }));
    bench.say(1, disconnect(1));
    assert_eq!(bench.events(), []);
}

#[test]
fn a_handler_hears_of_those_who_are_let_in_without_it() {
    let hooks = v1::Hooks {
        connect: false,
        ..ALL
    };
    let mut bench = Bench::up("", hooks);
    bench.say(1, connect(1));
    assert!(is_accepted(&bench.told_one()));
    bench.say(1, call(1, 1, "f"));
    bench.say(1, disconnect(1));
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Resumed { client, .. }, Event::Left { .. }] if client.id == id(1)),
        "{events:?}"
    );
    // Where it had a say and has not heard the question in time.
    let mut bench = Bench::up("", ALL);
    let open = policy(&format!("{HANDLER}on_failure = \"open\"\n"));
    bench.instance.set_policy(bench.now, open);
    bench.say(1, connect(2));
    bench.wait(1_001);
    assert!(is_accepted(&bench.told_one()));
    let event = bench.event();
    assert!(matches!(event, Event::Resumed { client, .. } if client.id == id(2)));
    // Where it is too late with its answer, it knows the client.
    bench.say(1, connect(3));
    assert!(matches!(bench.event(), Event::Connect { .. }));
    bench.wait(60_000);
    assert!(is_accepted(&bench.told_one()));
    assert_eq!(bench.events(), []);
}
