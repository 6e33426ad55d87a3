//! Edges and handlers that break, come back, and do not.

use super::*;

fn lost() -> HandlerError {
    HandlerError::Broken("reset".to_owned())
}

#[test]
fn an_edge_that_comes_back_has_lost_nothing() {
    let mut bench = Bench::up("", ALL);
    for client in 1..=3 {
        bench.client(1, client);
    }
    bench.say(1, connect(4));
    bench.say(1, publish(1, 9));
    let Some(Event::Publish { ask, .. }) = bench.events().pop() else {
        panic!("not asked");
    };
    bench.instance.detached(bench.now, CallId(1));
    assert_eq!(bench.metric("edges"), 0);
    // Meanwhile.
    bench.act(Action::CallClients {
        clients: Vec::new(),
        call: 0,
        name: "say".to_owned(),
        arguments: Vec::new(),
    });
    bench.act(Action::Disconnect {
        client: id(2),
        code: String::new(),
        description: "enough".to_owned(),
    });
    bench.act(Action::Stream {
        ask,
        reply: StreamReply::Allow("other".to_owned()),
    });
    assert_eq!(
        bench.event(),
        Event::Left {
            client: id(2).into()
        }
    );
    bench.wait(4_000);
    assert_eq!(bench.outputs(), []);
    bench.attach(2, 10, 2);
    let told = bench.told();
    assert!(
        matches!(
            &told[..],
            [
                (2, Told::Opened(_)),
                (2, Told::Call(_)),
                (2, Told::Stream(_))
            ]
        ),
        "{told:?}"
    );
    // It asks again, as it had no answer.
    bench.say(2, resume(1));
    let granted = bench.told_one();
    assert!(
        matches!(&granted, Told::Granted(it) if it.grant == Some(grant("/", "/"))),
        "{granted:?}"
    );
    bench.say(2, publish(1, 9));
    let again = bench.told_one();
    assert!(
        matches!(&again, Told::Stream(it) if it.allowed && it.stream == "other"),
        "{again:?}"
    );
    bench.say(2, resume(2));
    let end = bench.told_one();
    assert!(matches!(&end, Told::End(end) if end.client == 2), "{end:?}");
    // The third was not said: it left. The fourth is pending still, and is said when its edge likes.
    assert_eq!(
        bench.event(),
        Event::Left {
            client: id(3).into()
        }
    );
    bench.say(2, connect(4));
    assert_eq!(bench.events(), []);
    bench.act(accept(4));
    assert!(is_accepted(&bench.told_one()));
    bench.wait(10_000);
    assert_eq!(bench.metric("clients"), 2);
    assert_eq!(bench.events(), []);
}

#[test]
fn a_decision_that_was_not_heard_is_told_again() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.instance.detached(bench.now, CallId(1));
    bench.attach(2, 10, 0);
    // Who was let in and is not said any more is gone.
    assert_eq!(
        bench.event(),
        Event::Left {
            client: id(1).into()
        }
    );
    bench.outputs();
    bench.say(2, connect(5));
    bench.events();
    bench.instance.detached(bench.now, CallId(2));
    bench.act(accept(5));
    bench.attach(3, 10, 1);
    let told = bench.told();
    assert!(matches!(&told[..], [(3, Told::Opened(_)), (3, decision)] if is_accepted(decision)));
    bench.say(3, connect(5));
    assert!(is_accepted(&bench.told_one()));
}

#[test]
fn an_edge_that_stays_away_has_lost_its_clients() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.say(1, publish(1, 3));
    let Event::Publish { ask, .. } = bench.event() else {
        panic!("not asked");
    };
    let reply = StreamReply::Allow(String::new());
    bench.act(Action::Stream { ask, reply });
    bench.outputs();
    bench.instance.detached(bench.now, CallId(1));
    for _ in 0..3_000 {
        bench.act(Action::CallClients {
            clients: Vec::new(),
            call: 0,
            name: "say".to_owned(),
            arguments: Vec::new(),
        });
    }
    assert_eq!(bench.metric("lost_calls_total"), 3_000 - 1_024);
    bench.wait(4_999);
    assert_eq!(bench.events(), []);
    bench.wait(2);
    let end = Ended {
        client: id(1).into(),
        stream: "camera".to_owned(),
        ask,
    };
    assert_eq!(
        bench.events(),
        [
            Event::Unpublished(end),
            Event::Left {
                client: id(1).into()
            }
        ]
    );
    assert_eq!(bench.metric("clients"), 0);
    // Then nobody is there, and the instance ends.
    bench.wait(59_000);
    assert_eq!(bench.outputs(), []);
    bench.wait(2_000);
    assert_eq!(
        bench.outputs(),
        [Output::HangUp(Some(Reason::Unload)), Output::Ended]
    );
    assert_eq!(bench.instance.poll_timeout(), None);
}

#[test]
fn a_second_call_of_an_edge_replaces_the_first() {
    let mut bench = Bench::new("");
    bench.attach(1, 10, 0);
    bench.told();
    bench.client(1, 1);
    bench.attach(2, 10, 1);
    let outputs = bench.outputs();
    assert!(
        matches!(
            &outputs[..],
            [
                Output::Cut(CallId(1), Cut::Replaced),
                Output::Tell(CallId(2), Told::Opened(_))
            ]
        ),
        "{outputs:?}"
    );
    // What the first still says is not heard.
    bench.say(1, disconnect(1));
    bench.instance.detached(bench.now, CallId(1));
    assert_eq!(bench.metric("clients"), 1);
    assert_eq!(bench.metric("edges"), 1);
}

#[test]
fn what_no_answer_means() {
    let asks = [
        connect(2),
        publish(1, 1),
        play(1, 2),
        use_object(1, 3),
        call(1, 4, "f"),
    ];
    for (on_failure, open) in [("closed", false), ("open", true)] {
        let mut bench = Bench::up("", ALL);
        bench.client(1, 1);
        let changed = format!("{HANDLER}on_failure = \"{on_failure}\"\npending_ms = 500\n");
        bench.instance.set_policy(bench.now, policy(&changed));
        for ask in asks.clone() {
            bench.say(1, ask);
        }
        assert_eq!(bench.events().len(), 5);
        bench.wait(1_001);
        let allowed: Vec<bool> = (bench.told().iter())
            .map(|(_, told)| match told {
                Told::Decision(_) => is_accepted(told),
                Told::Stream(stream) => stream.allowed,
                Told::ObjectDecision(object) => object.may_read && object.may_write,
                answer => {
                    assert_eq!(failure(answer), "The application does not answer.");
                    false
                }
            })
            .collect();
        assert_eq!(allowed, [open, open, open, open, false], "{on_failure}");
        assert_eq!(bench.metric("ask_failures_total"), 5);
        // The one that was left pending is none.
        assert_eq!(bench.metric("handler_failures_total"), 4);
    }
}

#[test]
fn a_handler_that_fails_is_left_alone_for_a_while() {
    let limits = "breaker_failures = 2\nbreaker_ms = 3000\n";
    let mut bench = Bench::up("", ALL);
    bench
        .instance
        .set_policy(bench.now, policy(&format!("{HANDLER}{limits}")));
    bench.client(1, 1);
    for number in 1..=2 {
        bench.say(1, call(1, number, "f"));
        bench.events();
        bench.wait(1_001);
        failure(&bench.told_one());
    }
    assert_eq!(bench.metric("breakers_open"), 1);
    bench.say(1, call(1, 3, "f"));
    assert_eq!(
        failure(&bench.told_one()),
        "The application is not available."
    );
    bench.wait(3_000);
    assert_eq!(bench.metric("breakers_open"), 0);
    // One more is enough.
    bench.say(1, call(1, 4, "f"));
    bench.events();
    bench.wait(1_001);
    failure(&bench.told_one());
    assert_eq!(bench.metric("breakers_open"), 1);
    bench.wait(3_000);
    // Until it has answered.
    bench.say(1, call(1, 5, "f"));
    let Event::Call { call: asked, .. } = bench.event() else {
        panic!("not asked");
    };
    bench.act(Action::Call {
        call: asked,
        result: Ok(Value::Null),
    });
    bench.told_one();
    bench.say(1, call(1, 6, "f"));
    bench.events();
    bench.wait(1_001);
    failure(&bench.told_one());
    assert_eq!(bench.metric("breakers_open"), 0);
}

#[test]
fn a_handler_that_is_lost_is_called_again() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.say(1, connect(2));
    bench.say(1, call(1, 1, "f"));
    bench.events();
    // This one it has not heard.
    bench.say(1, call(1, 2, "g"));
    bench.instance.handler_gone(bench.now, &lost());
    let told: Vec<Told> = bench.told().into_iter().map(|(_, told)| told).collect();
    assert_eq!(
        rejected(&told[0]).description,
        "The application is not available."
    );
    assert_eq!(failure(&told[1]), "The application is not available.");
    assert_eq!(told.len(), 2);
    assert_eq!(bench.metric("handlers"), 0);
    bench.wait(100);
    assert_eq!(bench.outputs(), [Output::CallHandler]);
    assert_eq!(bench.events(), [], "not before it has said hello");
    bench.act(Action::Hello(ALL));
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Resumed { client, .. }, Event::Call { name, .. }]
            if client.id == id(1) && name == "g"),
        "{events:?}"
    );
    // The waits grow, and are bounded.
    let mut waits = Vec::new();
    for _ in 0..12 {
        bench.instance.handler_gone(bench.now, &lost());
        bench.outputs();
        let lost_at = bench.now;
        let due = bench.instance.poll_timeout().unwrap();
        bench.now = due;
        while !bench.outputs().contains(&Output::CallHandler) {
            bench.instance.handle_timeout(bench.now);
            bench.now += Duration::from_millis(1);
        }
        waits.push(bench.now - lost_at);
    }
    assert!(waits[0] < Duration::from_millis(100), "{waits:?}");
    assert!(
        waits
            .iter()
            .all(|wait| *wait < Duration::from_millis(6_500)),
        "{waits:?}"
    );
    assert!(waits[11] > Duration::from_secs(3), "{waits:?}");
}

#[test]
fn edges_do_not_wait_for_a_handler_for_ever() {
    let mut bench = Bench::new(HANDLER);
    assert_eq!(bench.outputs(), [Output::CallHandler]);
    bench.attach(1, 10, 0);
    bench.wait(999);
    assert_eq!(bench.outputs(), []);
    bench.wait(2);
    let outputs = bench.outputs();
    assert!(
        matches!(&outputs[..], [Output::HangUp(None), Output::Tell(_, Told::Opened(opened))]
            if opened.hooks == Some(ALL)),
        "{outputs:?}"
    );
    // What comes now waits for it, as long as an answer may take.
    bench.say(1, connect(1));
    bench.wait(200);
    assert_eq!(bench.outputs(), [Output::CallHandler]);
    bench.wait(900);
    let outputs = bench.outputs();
    let told = outputs.iter().find_map(|output| match output {
        Output::Tell(_, told) => Some(told),
        _ => None,
    });
    assert_eq!(
        rejected(told.unwrap()).description,
        "The application does not answer."
    );
}

#[test]
fn what_waits_in_vain_takes_no_room() {
    let mut bench = Bench::new(&format!("{HANDLER}breaker_failures = 1000\n"));
    bench.attach(1, 10, 0);
    for client in 1..=20_000 {
        bench.say(1, connect(client));
        bench.say(1, disconnect(client));
    }
    assert!(bench.instance.link.has_fewer_than(2_000));
}

#[test]
fn a_handler_has_to_say_hello_first_and_once() {
    let mut bench = Bench::new(HANDLER);
    bench.outputs();
    bench.act(accept(1));
    assert_eq!(bench.outputs(), [Output::HangUp(None)]);
    bench.wait(200);
    assert_eq!(bench.outputs(), [Output::CallHandler]);
    bench.act(Action::Hello(ALL));
    bench.act(Action::Hello(ALL));
    assert_eq!(bench.metric("handler_nonsense_total"), 2);
    bench.attach(1, 10, 0);
    bench.client_is_let_in(1);
    // An answer that makes no sense is a failed one.
    bench.say(1, call(1, 1, "f"));
    let Event::Call { call, .. } = bench.event() else {
        panic!("not asked");
    };
    bench.act(Action::Nonsense {
        reason: "bad".to_owned(),
        answers: Some(Answers::Number(call)),
    });
    assert_eq!(
        failure(&bench.told_one()),
        "The application answers nonsense."
    );
}

impl Bench {
    fn client_is_let_in(&mut self, client: u64) {
        self.outputs();
        self.client(1, client);
    }
}

#[test]
fn a_changed_application_keeps_its_clients() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.say(1, call(1, 1, "f"));
    bench.events();
    // Other limits alone.
    let limits = policy(&format!("max_clients = 1\n{HANDLER}"));
    bench.instance.set_policy(bench.now, limits);
    assert_eq!(bench.outputs(), []);
    bench.say(1, connect(2));
    rejected(&bench.told_one());
    // Another handler hears who is there.
    let other = policy("[handler]\naddress = \"http://127.0.0.1:2\"\n");
    bench.instance.set_policy(bench.now, other);
    let outputs = bench.outputs();
    assert!(
        matches!(
            &outputs[..],
            [
                Output::HangUp(Some(Reason::Reload)),
                Output::Tell(_, Told::Answer(_)),
                Output::CallHandler,
            ]
        ),
        "{outputs:?}"
    );
    bench.say(1, call(1, 2, "g"));
    bench.act(Action::Hello(ALL));
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Resumed { .. }, Event::Call { .. }]),
        "{events:?}"
    );
    // None at all.
    bench.say(1, call(1, 3, "h"));
    bench.instance.set_policy(bench.now, policy(""));
    let outputs = bench.outputs();
    let [
        Output::HangUp(Some(Reason::Reload)),
        Output::Tell(_, two),
        Output::Tell(_, three),
    ] = &outputs[..]
    else {
        panic!("{outputs:?}");
    };
    assert_eq!(failure(two), "The application is not available.");
    assert_eq!(failure(three), "Method not found (h).");
    assert_eq!(bench.metric("clients"), 1);
    // One again, of which the edge knows still what it was told of the first.
    bench.instance.set_policy(bench.now, policy(HANDLER));
    assert_eq!(bench.outputs(), [Output::CallHandler]);
}

#[test]
fn an_edge_that_was_told_less_attaches_anew() {
    let mut bench = Bench::new("");
    bench.attach(1, 10, 0);
    bench.told();
    bench.instance.set_policy(bench.now, policy(HANDLER));
    assert_eq!(bench.outputs(), [Output::CallHandler]);
    bench.act(Action::Hello(v1::Hooks::default()));
    assert_eq!(bench.outputs(), [Output::Cut(CallId(1), Cut::Again)]);
    bench.instance.detached(bench.now, CallId(1));
    bench.attach(2, 10, 1);
    bench.told_one();
    bench.say(2, resume(1));
    let event = bench.event();
    assert!(matches!(event, Event::Resumed { grant: had, .. } if had == grant("r", "w")));
}

#[test]
fn a_handler_that_hears_nothing_is_called_again() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    let changed = |size: usize| Event::Answer {
        call: 1,
        result: Ok(Value::String("x".repeat(size).into())),
    };
    for _ in 0..1_000_000 {
        bench.instance.object_event(changed(1));
    }
    let waiting = bench.instance.poll_timeout().unwrap();
    assert!(waiting <= bench.now, "it is due");
    bench.wait(0);
    assert!(bench.outputs().contains(&Output::HangUp(None)));
    assert!(bench.instance.link.has_fewer_than(1));
    assert_eq!(bench.metric("clients"), 1);
}

#[test]
fn edges_wait_for_a_slow_handler_for_less_than_they_wait_at_all() {
    let mut bench = Bench::new(&HANDLER.replace("1000", "60000"));
    bench.outputs();
    bench.attach(1, 10, 1);
    bench.wait(1_499);
    assert_eq!(bench.outputs(), []);
    bench.wait(2);
    assert!(matches!(bench.told_one(), Told::Opened(opened) if opened.hooks == Some(ALL)));
    // The handler is waited for all the same.
    bench.act(Action::Hello(ALL));
    assert_eq!(bench.outputs(), []);
    bench.say(1, resume(1));
    assert!(matches!(bench.event(), Event::Resumed { .. }));
}

#[test]
fn what_clients_are_asked_has_an_answer_when_their_edge_breaks() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    let ask = |call: u64| Action::CallClients {
        clients: vec![id(1)],
        call,
        name: "ask".to_owned(),
        arguments: Vec::new(),
    };
    let failed = |call: u64| Event::Answer {
        call,
        result: Err(Value::Undefined),
    };
    bench.act(ask(71));
    bench.told_one();
    bench.instance.detached(bench.now, CallId(1));
    assert_eq!(bench.events(), [failed(71)]);
    // What waits for the edge is answered later, and what there is no room for at once.
    for call in 1..=1_025 {
        bench.act(ask(call));
    }
    let lost: Vec<Event> = (1..=769).map(failed).chain([failed(1_025)]).collect();
    assert_eq!(bench.events(), lost);
    bench.attach(2, 10, 1);
    bench.outputs();
    bench.say(2, resume(1));
    assert_eq!(bench.events(), []);
    // An edge that replaces its call has lost what was said on it.
    bench.attach(3, 10, 1);
    assert_eq!(bench.events().len(), 1_025 - lost.len());
}

#[test]
fn the_end_of_a_client_is_told_until_its_edge_says_that_it_is_gone() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    bench.act(Action::Disconnect {
        client: id(1),
        code: String::new(),
        description: "enough".to_owned(),
    });
    assert!(matches!(bench.told_one(), Told::End(_)));
    bench.events();
    for call in 2..=3 {
        // On its way it was lost.
        bench.instance.detached(bench.now, CallId(call - 1));
        bench.attach(call, 10, 1);
        bench.told_one();
        bench.say(call, resume(1));
        assert!(matches!(bench.told_one(), Told::End(end) if end.description == "enough"));
        assert_eq!(bench.events(), []);
    }
    bench.say(3, disconnect(1));
    bench.instance.detached(bench.now, CallId(3));
    assert!(bench.instance.edges.is_empty(), "nothing is left of it");
}
