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
mod deciding;
mod leaving;
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
