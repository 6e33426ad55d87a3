//! Sequences of what edges and handlers say, and what they are told.

use headwater_amf::{Object, Value, amf0};
use headwater_application::parse;
use headwater_node::metrics::Metrics;
use headwater_proto::v1::connect_decision::Decision;

use super::*;
use crate::app::handler::{
    Answers, CallFailure, ConnectReply, Ended, HandlerError, ObjectAction, StreamReply,
};

mod breaking;
mod random;

const HANDLER: &str = "[handler]\naddress = \"http://127.0.0.1:1\"\ntimeout_ms = 1000\n";

const ALL: v1::Hooks = link::ALL;

pub(super) struct Bench {
    pub(super) instance: Instance,
    pub(super) now: Instant,
    metrics: Metrics,
}

fn policy(toml: &str) -> Arc<ApplicationSection> {
    Arc::new(parse("app.toml", toml).unwrap())
}

impl Bench {
    pub(super) fn new(toml: &str) -> Self {
        let now = Instant::now();
        let metrics = Metrics::new("a", "origin");
        let setup = Setup {
            name: InstanceName::new("v", "chat", "room").unwrap(),
            node: "a".to_owned(),
            epoch: 7,
            grace: Duration::from_secs(5),
            handover: Duration::from_secs(2),
            metrics: ApplicationMetrics::new(&metrics),
        };
        Self {
            instance: Instance::new(now, setup, policy(toml)),
            now,
            metrics,
        }
    }

    /// With a handler that is there, and one edge with the call 1.
    fn up(toml: &str, hooks: v1::Hooks) -> Self {
        let mut bench = Self::new(&format!("{toml}{HANDLER}"));
        assert_eq!(bench.outputs(), [Output::CallHandler]);
        bench.attach(1, 10, 0);
        bench.act(Action::Hello(hooks));
        assert!(matches!(&bench.told()[..], [(1, Told::Opened(_))]));
        bench
    }

    pub(super) fn attach(&mut self, call: u64, incarnation: u64, resumed: u32) {
        let open = v1::AttachOpen {
            edge: format!("edge-{incarnation}"),
            edge_incarnation: incarnation,
            resumed_clients: resumed,
            ..v1::AttachOpen::default()
        };
        self.instance.attach(self.now, CallId(call), &open);
    }

    pub(super) fn say(&mut self, call: u64, said: Said) {
        self.instance.said(self.now, CallId(call), said).unwrap();
    }

    pub(super) fn act(&mut self, action: Action) {
        self.instance.acted(self.now, action);
    }

    pub(super) fn wait(&mut self, milliseconds: u64) {
        let until = self.now + Duration::from_millis(milliseconds);
        while let Some(due) = self.instance.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.instance.handle_timeout(self.now);
        }
        self.now = until;
    }

    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.instance.poll_output()).collect()
    }

    /// What edges are told; there must be nothing else.
    fn told(&mut self) -> Vec<(u64, Told)> {
        let told = self.outputs().into_iter().map(|output| match output {
            Output::Tell(call, told) => (call.0, told),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    fn told_one(&mut self) -> Told {
        let mut told = self.told();
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0).1
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.instance.poll_event(self.now)).collect()
    }

    fn event(&mut self) -> Event {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// A client that is let in by a handler or without one.
    fn client(&mut self, call: u64, client: u64) {
        self.say(call, connect(client));
        if !self.events().is_empty() {
            self.act(accept(client));
        }
        let told = self.told_one();
        assert!(is_accepted(&told), "{told:?}");
    }

    pub(super) fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.encode();
        let start = format!("headwater_applications_{name}{{");
        let line = text.lines().find(|line| line.starts_with(&start));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }
}

pub(super) fn id(client: u64) -> String {
    format!("client-{client}")
}

pub(super) fn connect(client: u64) -> Said {
    Said::Connect(v1::ClientConnect {
        client,
        properties: Some(v1::ClientProperties {
            id: id(client),
            object: amf0::encode_all(&[Object::new().with("app", "chat").into()]).unwrap(),
            ..v1::ClientProperties::default()
        }),
        arguments: amf0::encode_all(&["secret".into()]).unwrap(),
        resumed: None,
    })
}

pub(super) fn resume(client: u64) -> Said {
    let Said::Connect(connect) = connect(client) else {
        unreachable!();
    };
    Said::Connect(v1::ClientConnect {
        resumed: Some(grant("r", "w")),
        ..connect
    })
}

fn grant(read: &str, write: &str) -> v1::ClientGrant {
    v1::ClientGrant {
        read_access: read.to_owned(),
        write_access: write.to_owned(),
    }
}

pub(super) fn accept(client: u64) -> Action {
    Action::Connect {
        client: id(client),
        reply: ConnectReply::Accept {
            read: None,
            write: None,
            properties: None,
        },
    }
}

pub(super) fn disconnect(client: u64) -> Said {
    Said::Disconnect(v1::ClientDisconnect { client })
}

pub(super) fn call(client: u64, call: u64, name: &str) -> Said {
    Said::Call(v1::ClientCall {
        client,
        call,
        name: name.to_owned(),
        arguments: amf0::encode_all(&[1.0.into()]).unwrap(),
    })
}

pub(super) fn publish(client: u64, ask: u64) -> Said {
    Said::Publish(v1::AskPublish {
        client,
        ask,
        stream: "camera".to_owned(),
        query: "key=1".to_owned(),
        mode: v1::PublishMode::Record.into(),
    })
}

pub(super) fn play(client: u64, ask: u64) -> Said {
    Said::Play(v1::AskPlay {
        client,
        ask,
        stream: "film".to_owned(),
        query: String::new(),
        start: -2.0,
        length: -1.0,
    })
}

pub(super) fn use_object(client: u64, ask: u64) -> Said {
    Said::AskObject(v1::AskObject {
        client,
        ask,
        object: "board".to_owned(),
        persistent: true,
    })
}

fn ended(client: u64, ask: u64) -> v1::StreamEnded {
    v1::StreamEnded {
        client,
        ask,
        stream: "camera".to_owned(),
    }
}

fn is_accepted(told: &Told) -> bool {
    matches!(
        told,
        Told::Decision(v1::ConnectDecision {
            decision: Some(Decision::Accepted(_)),
            ..
        })
    )
}

fn rejected(told: &Told) -> &v1::ConnectRejected {
    match told {
        Told::Decision(v1::ConnectDecision {
            decision: Some(Decision::Rejected(rejected)),
            ..
        }) => rejected,
        other => panic!("not rejected: {other:?}"),
    }
}

/// The description of a call that failed.
fn failure(told: &Told) -> String {
    let Told::Answer(answer) = told else {
        panic!("no answer: {told:?}");
    };
    assert!(answer.failed);
    let values = amf0::decode_all(&answer.value, headwater_amf::Limits::default()).unwrap();
    let text = |name| values[0].get(name).and_then(Value::as_str).unwrap();
    assert_eq!(text("code"), "NetConnection.Call.Failed");
    assert_eq!(text("level"), "error");
    text("description").to_owned()
}

fn encoded(value: impl Into<Value>) -> bytes::Bytes {
    amf0::encode_all(&[value.into()]).unwrap()
}

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
    assert_eq!(bench.events(), []);
    bench.say(1, play(1, 3));
    assert!(matches!(bench.event(), Event::Play { .. }));
    bench.say(1, disconnect(1));
    assert_eq!(bench.events(), []);
}

#[test]
fn the_handler_calls_clients() {
    let mut bench = Bench::up("", ALL);
    bench.attach(2, 20, 0);
    assert!(matches!(bench.told_one(), Told::Opened(_)));
    for (edge, client) in [(1, 1), (1, 2), (2, 3)] {
        bench.client(edge, client);
    }
    bench.say(2, connect(4));
    bench.events();
    let say = |clients: &[u64], call: u64| Action::CallClients {
        clients: clients.iter().map(|client| id(*client)).collect(),
        call,
        name: "say".to_owned(),
        arguments: vec!["hi".into()],
    };
    // To all: one message for each edge.
    bench.act(say(&[], 0));
    let mut told = bench.told();
    told.sort_by_key(|(call, _)| *call);
    let all = Told::Call(v1::ServerCall {
        clients: Vec::new(),
        call: 0,
        name: "say".to_owned(),
        arguments: encoded("hi"),
    });
    assert_eq!(told, [(1, all.clone()), (2, all)]);
    // To some; a client that is pending, or not there, hears nothing.
    bench.act(say(&[1, 2, 3, 4, 9], 0));
    let mut told: Vec<_> = (bench.told().into_iter())
        .map(|(edge, told)| match told {
            Told::Call(call) => (edge, call.clients, call.call),
            other => panic!("{other:?}"),
        })
        .collect();
    told.sort();
    assert_eq!(told, [(1, vec![1, 2], 0), (2, vec![3], 0)]);
    // To one, with an answer.
    let asked = |bench: &mut Bench, call: u64| {
        bench.act(say(&[1], call));
        match bench.told_one() {
            Told::Call(said) => said.call,
            other => panic!("{other:?}"),
        }
    };
    let (one, two, three) = (
        asked(&mut bench, 71),
        asked(&mut bench, 72),
        asked(&mut bench, 73),
    );
    assert!(one != 0 && one != two);
    let answer = |client: u64, call: u64, failed: bool| {
        Said::Answer(v1::ClientAnswer {
            client,
            call,
            failed,
            value: encoded("fine"),
        })
    };
    // Not by another client; and once.
    bench.say(1, answer(2, one, false));
    bench.say(1, answer(1, one, false));
    bench.say(1, answer(1, one, false));
    bench.say(1, answer(1, two, true));
    let heard = |call, result| Event::Answer { call, result };
    assert_eq!(
        bench.events(),
        [heard(71, Ok("fine".into())), heard(72, Err("fine".into()))]
    );
    assert_ne!(three, 0);
    bench.say(1, disconnect(1));
    assert_eq!(
        bench.events(),
        [
            heard(73, Err(Value::Undefined)),
            Event::Left {
                client: id(1).into()
            }
        ]
    );
    bench.act(say(&[1], 74));
    assert_eq!(bench.events(), [heard(74, Err(Value::Undefined))]);
    // Of many without an answer the oldest are taken for failed.
    for number in 0..300 {
        bench.act(say(&[2], 1_000 + number));
    }
    let failed = bench.events();
    assert_eq!(failed.len(), 300 - 256);
    assert_eq!(failed[0], heard(1_000, Err(Value::Undefined)));
}

#[test]
fn the_handler_ends_and_grants() {
    let mut bench = Bench::up("", ALL);
    bench.client(1, 1);
    let allow = |read: Option<&str>, write: Option<&str>| Action::Grant {
        client: id(1),
        read: read.map(str::to_owned),
        write: write.map(str::to_owned),
    };
    for (action, expected) in [
        (allow(Some("x"), None), grant("x", "/")),
        (allow(None, Some("")), grant("x", "")),
    ] {
        bench.act(action);
        let granted = v1::ClientGranted {
            client: 1,
            grant: Some(expected),
        };
        assert_eq!(bench.told_one(), Told::Granted(granted));
    }
    let end = |client: u64| Action::Disconnect {
        client: id(client),
        code: "NetConnection.Connect.Closed".to_owned(),
        description: "enough".to_owned(),
    };
    bench.act(end(1));
    bench.act(end(1));
    let told = bench.told_one();
    assert!(
        matches!(&told, Told::End(end) if end.client == 1 && end.description == "enough"),
        "{told:?}"
    );
    assert_eq!(
        bench.event(),
        Event::Left {
            client: id(1).into()
        }
    );
    // One that is pending is refused.
    bench.say(1, connect(2));
    bench.events();
    bench.act(end(2));
    assert_eq!(rejected(&bench.told_one()).description, "enough");
}

#[test]
fn limits_hold() {
    let mut bench = Bench::up("max_clients = 2\n", ALL);
    bench.client(1, 1);
    bench.client(1, 2);
    bench.say(1, connect(3));
    let told = bench.told_one();
    assert_eq!(
        rejected(&told).description,
        "The instance has 2 clients already."
    );
    // Who was let in before stays.
    bench.say(1, resume(4));
    assert!(matches!(bench.event(), Event::Resumed { .. }));
    assert_eq!(bench.metric("clients"), 3);
    // An id is one client's.
    let Said::Connect(mut same) = connect(9) else {
        unreachable!();
    };
    same.properties.as_mut().unwrap().id = id(1);
    bench.say(1, Said::Connect(same));
    let told = bench.told_one();
    assert_eq!(
        rejected(&told).description,
        "A client of this id is connected."
    );
    // Without one it is a mistake of the edge.
    let nobody = Said::Connect(v1::ClientConnect::default());
    let refused = bench.instance.said(bench.now, CallId(1), nobody);
    assert_eq!(refused, Err(Malformed::NoProperties));
    let Said::Connect(mut nameless) = connect(9) else {
        unreachable!();
    };
    nameless.properties.as_mut().unwrap().id.clear();
    let refused = bench
        .instance
        .said(bench.now, CallId(1), Said::Connect(nameless));
    assert_eq!(refused, Err(Malformed::NoId));

    let mut bench = Bench::up("", ALL);
    let mut large = match connect(1) {
        Said::Connect(connect) => connect,
        other => panic!("{other:?}"),
    };
    large.arguments = vec![5; 300 << 10].into();
    bench.say(1, Said::Connect(large));
    assert_eq!(
        rejected(&bench.told_one()).description,
        "More than 262144 bytes to connect."
    );
    let Said::Connect(mut broken) = connect(1) else {
        unreachable!();
    };
    broken.arguments = vec![0xff].into();
    bench.say(1, Said::Connect(broken));
    let why = rejected(&bench.told_one()).description.clone();
    assert!(
        why.starts_with("What the client says cannot be read"),
        "{why}"
    );
}

#[test]
fn questions_are_bounded() {
    let mut bench = Bench::up("", ALL);
    let few = policy(&format!("{HANDLER}max_waiting = 3\n"));
    bench.instance.set_policy(bench.now, few);
    bench.client(1, 1);
    for number in 1..=4 {
        bench.say(1, call(1, number, "f"));
    }
    assert_eq!(failure(&bench.told_one()), "The application is too busy.");
    assert_eq!(bench.events().len(), 3);
    assert_eq!(bench.metric("refused_total"), 1);
    let many = policy(HANDLER);
    bench.instance.set_policy(bench.now, many);
    for number in 5..=2_000 {
        bench.say(1, call(1, number, "f"));
    }
    let failed = bench.told().len();
    assert_eq!(failed, 2_000 - 1_024 - 1, "what one client may ask");
    // Calls that want no answer are bounded by what they take.
    bench.client(1, 2);
    let large = Said::Call(v1::ClientCall {
        client: 2,
        call: 0,
        name: "f".to_owned(),
        arguments: vec![5; 60 << 10].into(),
    });
    for _ in 0..200 {
        bench.say(1, large.clone());
    }
    let waiting = bench.events().len();
    assert!((60..80).contains(&waiting), "{waiting}");
}

#[test]
fn objects_pass_through() {
    let mut bench = Bench::up("", ALL);
    let said = Said::UseObject(v1::UseObject::default());
    bench.say(1, said.clone());
    let command = ObjectCommand {
        command: 1,
        object: "board".to_owned(),
        persistent: false,
        action: ObjectAction::Size,
    };
    bench.act(Action::Object(command.clone()));
    assert_eq!(
        bench.outputs(),
        [
            Output::EdgeObject(CallId(1), said),
            Output::HandlerObject(command)
        ]
    );
}
