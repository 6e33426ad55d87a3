//! The core alone, with times that the test says.

use headwater_node::metrics::Metrics;
use headwater_proto::v1::attach_request::Request as Ask;

use super::*;

const PATIENCE: Duration = Duration::from_secs(2);
const PENDING: Duration = Duration::from_secs(60);
const HOOKS: v1::Hooks = v1::Hooks {
    connect: true,
    publish: true,
    play: true,
    call: true,
    use_object: false,
    ends: true,
};

struct Bench {
    core: Core,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let meters = ApplicationMeters::new(&Metrics::new("e", "edge").room("edge"));
        let core = Core::new(7, 2, PATIENCE, meters, now);
        Self { core, now }
    }

    fn attached() -> Self {
        let mut bench = Self::new();
        bench.core.attached(&HOOKS);
        bench
    }

    /// A client of worker 0 or 1, as its number is even or odd.
    fn connect(&mut self, client: u64) {
        let connect = v1::ClientConnect {
            client,
            arguments: Bytes::from_static(b"arguments"),
            ..v1::ClientConnect::default()
        };
        let said = Said::Connect {
            worker: usize::from(client % 2 == 1),
            connect: Box::new(connect),
            patience: PENDING,
        };
        self.core.said(self.now, said);
    }

    fn let_in(&mut self, client: u64) {
        self.connect(client);
        self.accept(client);
        self.requests();
        self.told();
    }

    fn accept(&mut self, client: u64) {
        let grant = v1::ClientGrant {
            read_access: "r".to_owned(),
            write_access: "w".to_owned(),
        };
        let accepted = v1::ConnectAccepted {
            grant: Some(grant),
            properties: Bytes::new(),
        };
        self.hear(Response::Decision(v1::ConnectDecision {
            client,
            decision: Some(Decision::Accepted(accepted)),
        }));
    }

    fn call(&mut self, client: u64, call: u64) {
        let call = v1::ClientCall {
            client,
            call,
            name: "f".to_owned(),
            arguments: Bytes::from_static(b"12345"),
        };
        self.core.said(self.now, Said::Call(Box::new(call)));
    }

    fn publish(&mut self, client: u64, ask: u64) {
        let ask = v1::AskPublish {
            client,
            ask,
            ..v1::AskPublish::default()
        };
        let patience = Duration::from_secs(5);
        self.core
            .said(self.now, Said::Publish(Box::new(ask), patience));
    }

    fn hear(&mut self, said: Response) {
        assert_eq!(self.core.heard(self.now, said), None);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.core.handle_timeout(self.now);
    }

    fn requests(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.core.poll_request())
            .map(|request| match request {
                Ask::Connect(connect) => {
                    let resumed = connect.resumed.map(|it| it.read_access);
                    let arguments = if connect.arguments.is_empty() {
                        ""
                    } else {
                        "+"
                    };
                    format!("connect {}{arguments} {resumed:?}", connect.client)
                }
                Ask::Disconnect(gone) => format!("gone {}", gone.client),
                Ask::Call(call) => format!("call {}.{}", call.client, call.call),
                Ask::Answer(answer) => format!("answer {}.{}", answer.client, answer.call),
                Ask::Publish(ask) => format!("publish {}.{}", ask.client, ask.ask),
                Ask::Unpublish(ended) => format!("unpublish {}.{}", ended.client, ended.ask),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn told(&mut self) -> Vec<(usize, Told)> {
        std::iter::from_fn(|| self.core.poll_told()).collect()
    }

    /// What one client was told.
    fn told_one(&mut self) -> (u64, What) {
        let mut told = self.told();
        let (worker, one) = told.pop().expect("something");
        assert!(told.is_empty(), "{told:?}");
        let To::Some(clients) = one.to else {
            panic!("for all: {:?}", one.what);
        };
        assert_eq!((one.attachment, clients.len()), (7, 1));
        assert_eq!(worker, usize::from(clients[0] % 2 == 1));
        (clients[0], one.what)
    }
}

fn server_call(clients: &[u64], call: u64) -> Response {
    Response::Call(v1::ServerCall {
        clients: clients.to_vec(),
        call,
        name: "g".to_owned(),
        arguments: Bytes::new(),
    })
}

#[test]
fn a_client_is_said_and_let_in_and_its_calls_keep_their_order() {
    let mut bench = Bench::attached();
    bench.connect(4);
    assert_eq!(bench.requests(), ["connect 4+ None"]);
    bench.accept(4);
    assert!(matches!(bench.told_one(), (4, What::Accepted(_))));
    bench.call(4, 1);
    bench.call(4, 0);
    bench.publish(4, 2);
    bench.call(4, 3);
    assert_eq!(
        bench.requests(),
        ["call 4.1", "call 4.0", "publish 4.2", "call 4.3"]
    );
    for call in [3, 1] {
        bench.hear(Response::Answer(v1::CallAnswer {
            client: 4,
            call,
            ..v1::CallAnswer::default()
        }));
        let (client, What::Answer(answer)) = bench.told_one() else {
            panic!();
        };
        assert_eq!((client, answer.call), (4, call));
    }
    // Answered already, and never asked.
    for call in [1, 9] {
        bench.hear(Response::Answer(v1::CallAnswer {
            client: 4,
            call,
            ..v1::CallAnswer::default()
        }));
    }
    assert_eq!(bench.told(), []);
    bench.core.said(bench.now, Said::Gone { client: 4 });
    assert_eq!(bench.requests(), ["gone 4"]);
    assert!(!bench.core.is_wanted());
    assert_eq!(bench.core.poll_timeout(), None);
}

#[test]
fn a_break_fails_the_calls_under_way_and_everything_else_is_said_again() {
    let mut bench = Bench::attached();
    bench.let_in(1);
    bench.let_in(2);
    bench.connect(3);
    bench.call(1, 1);
    bench.publish(2, 1);
    bench.requests();
    // Not taken by the call yet.
    bench.call(2, 2);
    let ended = Box::new(v1::StreamEnded {
        client: 1,
        ask: 9,
        stream: String::new(),
    });
    bench.core.said(bench.now, Said::Unpublished(ended));
    bench.core.broken(bench.now);
    let (client, What::Lost { call, .. }) = bench.told_one() else {
        panic!();
    };
    assert_eq!((client, call), (1, 1));
    assert_eq!(bench.core.resumed_clients(), 2);
    assert_eq!(bench.requests(), [""; 0]);
    // While there is no owner.
    bench.call(1, 3);
    bench.connect(5);
    bench.core.attached(&HOOKS);
    assert_eq!(
        bench.requests(),
        [
            "connect 1 Some(\"r\")",
            "connect 2 Some(\"r\")",
            "connect 3+ None",
            "connect 5+ None",
            "publish 2.1",
            "call 2.2",
            "call 1.3"
        ]
    );
    assert_eq!(bench.told(), []);
}

#[test]
fn what_waits_for_an_owner_waits_only_so_long() {
    let mut bench = Bench::attached();
    bench.let_in(2);
    bench.core.broken(bench.now);
    bench.call(2, 1);
    bench.publish(2, 2);
    bench.connect(3);
    assert_eq!(bench.core.poll_timeout(), Some(bench.now + PATIENCE));
    bench.wait(PATIENCE);
    let told = bench.told();
    let refused = What::Refused(Refusal::NoOwner);
    let lost = What::Lost {
        call: 1,
        why: NO_ORIGIN,
    };
    let expected = [(1, 3, refused), (0, 2, lost)].map(|(worker, client, what)| {
        let told = bench.core.message(To::Some(vec![client]), what);
        (worker, told)
    });
    assert_eq!(told, expected);
    // From now on at once.
    bench.call(2, 3);
    assert!(matches!(bench.told_one(), (2, What::Lost { call: 3, .. })));
    // A question has its own time, and whoever comes has all of it.
    assert!(bench.core.poll_timeout().unwrap() > bench.now);
    bench.connect(5);
    assert_eq!(bench.core.poll_timeout(), Some(bench.now + PATIENCE));
    bench.wait(Duration::from_secs(5));
    let told = bench.told();
    let of_5 = bench
        .core
        .message(To::Some(vec![5]), What::Refused(Refusal::NoOwner));
    assert_eq!(told[0], (1, of_5));
    let What::Stream(decision) = &told[1].1.what else {
        panic!("{told:?}");
    };
    assert_eq!((decision.ask, decision.allowed), (2, false));
    assert_eq!(bench.core.poll_timeout(), None);
    // Nobody is asked for those who have left.
    bench.core.attached(&HOOKS);
    assert_eq!(bench.requests(), ["connect 2 Some(\"r\")"]);
}

#[test]
fn a_client_is_pending_for_as_long_as_the_application_may_take() {
    let mut bench = Bench::attached();
    bench.connect(2);
    bench.requests();
    bench.wait(PENDING);
    assert_eq!(bench.told(), []);
    // A break on the way gives it no more time, and no less while there is an owner again.
    bench.core.broken(bench.now);
    bench.core.attached(&HOOKS);
    assert_eq!(bench.requests(), ["connect 2+ None"]);
    bench.wait(PATIENCE);
    let (2, What::Refused(refusal)) = bench.told_one() else {
        panic!();
    };
    assert_eq!(refusal, Refusal::NoAnswer);
    assert_eq!(bench.requests(), ["gone 2"]);
    // Too late.
    bench.accept(2);
    assert_eq!(bench.told(), []);
}

#[test]
fn many_clients_of_a_worker_are_told_in_one_message() {
    let mut bench = Bench::attached();
    for client in 1..=6 {
        bench.let_in(client);
    }
    bench.connect(8);
    bench.hear(server_call(&[], 0));
    let told = bench.told();
    let to: Vec<_> = told
        .iter()
        .map(|(worker, told)| (*worker, &told.to))
        .collect();
    assert_eq!(to, [(0, &To::All), (1, &To::All)]);
    // Those that are pending, or not there, are left out.
    bench.hear(server_call(&[8, 6, 1, 2, 99], 0));
    let told = bench.told();
    let to: Vec<_> = told
        .iter()
        .map(|(worker, told)| (*worker, &told.to))
        .collect();
    assert_eq!(to, [(0, &To::Some(vec![6, 2])), (1, &To::Some(vec![1]))]);
    // Nobody of this worker is there any more.
    for client in [1, 3, 5] {
        bench.core.said(bench.now, Said::Gone { client });
    }
    bench.hear(server_call(&[], 0));
    let told = bench.told();
    assert_eq!((told.len(), told[0].0), (1, 0));
}

#[test]
fn an_answer_goes_to_the_owner_that_has_asked() {
    let mut bench = Bench::attached();
    bench.let_in(2);
    bench.hear(server_call(&[2], 5));
    let (2, What::Call(called)) = bench.told_one() else {
        panic!();
    };
    let answer = |link| Said::Answer {
        link,
        answer: Box::new(v1::ClientAnswer {
            client: 2,
            call: 5,
            failed: false,
            value: Bytes::new(),
        }),
    };
    bench.core.said(bench.now, answer(called.link));
    assert_eq!(bench.requests(), ["answer 2.5"]);
    bench.core.broken(bench.now);
    bench.core.attached(&HOOKS);
    bench.requests();
    bench.core.said(bench.now, answer(called.link));
    assert_eq!(bench.requests(), [""; 0]);
    // Whoever is not there cannot answer.
    bench.hear(server_call(&[99], 6));
    assert_eq!(bench.requests(), ["answer 99.6"]);
}

#[test]
fn sessions_wait_while_too_much_waits_for_an_owner_that_is_there() {
    let mut bench = Bench::attached();
    bench.let_in(2);
    for call in 1..=MAX_QUEUED.0 as u64 {
        assert!(!bench.core.is_full(), "{call}");
        bench.call(2, call);
    }
    assert!(bench.core.is_full());
    let _ = bench.core.poll_request();
    assert!(!bench.core.is_full());
    // Without an owner nobody waits: calls fail.
    bench.call(2, 1_000);
    bench.core.broken(bench.now);
    bench.told();
    assert!(!bench.core.is_full());
    bench.call(2, 1_001);
    let (2, What::Lost { call, why }) = bench.told_one() else {
        panic!();
    };
    assert_eq!((call, why), (1_001, TOO_MUCH));
}

#[test]
fn the_last_will_of_a_client_is_said() {
    let mut bench = Bench::attached();
    bench.let_in(2);
    bench.call(2, 1);
    bench.publish(2, 2);
    bench.core.said(bench.now, Said::Gone { client: 2 });
    // The call wants no answer any more, and the question is nobody's.
    assert_eq!(bench.requests(), ["call 2.0", "gone 2"]);
    bench.hear(Response::Answer(v1::CallAnswer {
        client: 2,
        call: 1,
        ..v1::CallAnswer::default()
    }));
    assert_eq!(bench.told(), []);
}

#[test]
fn an_instance_that_ends_takes_its_clients_with_it() {
    let mut bench = Bench::attached();
    bench.let_in(2);
    bench.connect(3);
    bench.call(2, 1);
    let ended = v1::InstanceEnded {
        description: "for today".to_owned(),
        code: "NetConnection.Connect.AppShutdown".to_owned(),
    };
    let turn = bench.core.heard(bench.now, Response::Ended(ended.clone()));
    assert_eq!(turn, Some(Turn::Ended));
    let told = bench.told();
    assert_eq!(
        told[0],
        (0, bench.core.message(To::All, What::Ended(ended)))
    );
    let What::Refused(Refusal::Rejected(rejected)) = &told[1].1.what else {
        panic!("{told:?}");
    };
    assert_eq!(rejected.code, "NetConnection.Connect.AppShutdown");
    assert!(!bench.core.is_wanted());
    assert_eq!(bench.core.poll_timeout(), None);
    // Their sessions leave, too, and that means nothing to anybody.
    bench.core.said(bench.now, Said::Gone { client: 2 });
    bench.core.attached(&HOOKS);
    assert_eq!(bench.requests(), [""; 0]);
}

#[test]
fn what_a_client_was_granted_last_is_said_again() {
    let mut bench = Bench::attached();
    bench.let_in(2);
    let grant = v1::ClientGrant {
        read_access: "other".to_owned(),
        write_access: String::new(),
    };
    bench.hear(Response::Granted(v1::ClientGranted {
        client: 2,
        grant: Some(grant.clone()),
    }));
    assert_eq!(bench.told_one(), (2, What::Granted(grant)));
    bench.core.broken(bench.now);
    bench.core.attached(&HOOKS);
    assert_eq!(bench.requests(), ["connect 2 Some(\"other\")"]);
}

#[test]
fn what_is_large_is_said_once() {
    let mut bench = Bench::attached();
    for (client, length, kept) in [(2, MAX_OBJECT, MAX_OBJECT), (4, MAX_OBJECT + 1, 0)] {
        let properties = v1::ClientProperties {
            object: vec![5; length].into(),
            ..v1::ClientProperties::default()
        };
        let connect = Box::new(v1::ClientConnect {
            client,
            properties: Some(properties),
            ..v1::ClientConnect::default()
        });
        let said = Said::Connect {
            worker: 0,
            connect,
            patience: PENDING,
        };
        bench.core.said(bench.now, said);
        let object = |bench: &mut Bench| match bench.core.poll_request() {
            Some(Ask::Connect(connect)) => connect.properties.unwrap().object.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(object(&mut bench), length);
        bench.accept(client);
        bench.core.broken(bench.now);
        bench.core.attached(&HOOKS);
        if client == 4 {
            let _ = bench.core.poll_request();
        }
        assert_eq!(object(&mut bench), kept);
    }
}
