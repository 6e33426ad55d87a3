//! Applications over real gRPC: what edges are told of them, and instances whose handler is a program that a test plays.

use std::time::Duration;

use headwater_amf::{Value, amf0};
use headwater_application::parse;
use headwater_media::name::InstanceName;
use headwater_proto::v1;
use headwater_proto::v1::attach_request::Request as Say;
use headwater_proto::v1::attach_response::Response as Told;
use headwater_proto::v1::connect_decision::Decision;
use headwater_proto::v1::handler_request::Request as Heard;
use headwater_proto::v1::handler_response::Response as Act;
use headwater_proto::v1::policy_response::Response as Described;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::bench::{Bench, section};
use crate::OriginSection;
use crate::app::ApplicationsSection;

mod handlers;
mod objects;
mod program;

use program::Program;

const PATIENCE: Duration = Duration::from_secs(60);

const VHOST: &str = "_defaultVHost_";

/// One that looks often for changes.
async fn bench(ids: &[&'static str]) -> Bench {
    let section = OriginSection {
        applications: ApplicationsSection {
            reload_ms: 50,
            ..ApplicationsSection::default()
        },
        ..section()
    };
    Bench::start(ids, section).await
}

/// Writes an `app.toml` for all nodes.
fn write(bench: &Bench, app: &str, text: &str) {
    for node in bench.nodes.values() {
        let folder = node.data.path().join("applications").join(app);
        std::fs::create_dir_all(&folder).unwrap();
        // As an operator should: at once.
        let fresh = folder.join("fresh");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, folder.join("app.toml")).unwrap();
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("too late")
}

/// Asks until the answer is right.
async fn until(mut right: impl AsyncFnMut() -> bool) {
    soon(async {
        while !right().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn describe(bench: &Bench, app: &str) -> Described {
    let request = v1::PolicyRequest {
        vhost: VHOST.to_owned(),
        app: app.to_owned(),
    };
    let answer = bench.applications("a").describe(request).await.unwrap();
    answer.into_inner().response.unwrap()
}

fn instance(name: &str) -> InstanceName {
    InstanceName::new(VHOST, "chat", name).unwrap()
}

/// An instance that belongs to a node while all are there.
fn instance_of(bench: &Bench, node: &str) -> InstanceName {
    let names = (0..1_000).map(|number| instance(&format!("room-{number}")));
    let mut of = names.filter(|name| bench.owner_of(&name.key()).as_str() == node);
    of.next().expect("one of a thousand")
}

/// An edge's call.
struct Edge {
    say: mpsc::Sender<v1::AttachRequest>,
    told: Streaming<v1::AttachResponse>,
}

fn open(name: &InstanceName) -> v1::AttachOpen {
    v1::AttachOpen {
        name: Some(v1::InstanceName {
            vhost: name.vhost.clone(),
            app: name.app.clone(),
            instance: name.instance.clone(),
        }),
        edge: "edge".to_owned(),
        edge_incarnation: 1,
        ..v1::AttachOpen::default()
    }
}

impl Edge {
    async fn begin(bench: &Bench, node: &str, first: Say) -> Self {
        let (say, said) = mpsc::channel(64);
        let mut client = bench.applications(node);
        let call = client.attach(ReceiverStream::new(said));
        let edge = Self {
            told: soon(call).await.unwrap().into_inner(),
            say,
        };
        edge.say(first).await;
        edge
    }

    async fn attach(bench: &Bench, node: &str, open: v1::AttachOpen) -> Self {
        let mut edge = Self::begin(bench, node, Say::Open(open)).await;
        match edge.told().await {
            Told::Opened(_) => edge,
            other => panic!("not opened: {other:?}"),
        }
    }

    async fn say(&self, say: Say) {
        let request = Some(say);
        // The call may have ended.
        let _ = self.say.send(v1::AttachRequest { request }).await;
    }

    async fn told(&mut self) -> Told {
        let told = soon(self.told.message()).await;
        told.unwrap().expect("the call ended").response.unwrap()
    }

    async fn end(&mut self) -> Status {
        loop {
            match soon(self.told.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    async fn connect(&self, client: u64) {
        self.say(connect(client)).await;
    }

    async fn decision(&mut self) -> Decision {
        match self.told().await {
            Told::Decision(decision) => decision.decision.unwrap(),
            other => panic!("no decision: {other:?}"),
        }
    }

    async fn accepted(&mut self) -> v1::ConnectAccepted {
        match self.decision().await {
            Decision::Accepted(accepted) => accepted,
            Decision::Rejected(rejected) => panic!("{rejected:?}"),
        }
    }

    async fn rejected(&mut self) -> v1::ConnectRejected {
        match self.decision().await {
            Decision::Rejected(rejected) => rejected,
            Decision::Accepted(accepted) => panic!("{accepted:?}"),
        }
    }

    /// Calls, and gives the answer.
    async fn call(&mut self, client: u64, call: u64, name: &str) -> v1::CallAnswer {
        self.say(Say::Call(v1::ClientCall {
            client,
            call,
            name: name.to_owned(),
            arguments: values(&[2.0.into()]),
        }))
        .await;
        match self.told().await {
            Told::Answer(answer) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }
}

fn connect(client: u64) -> Say {
    Say::Connect(v1::ClientConnect {
        client,
        properties: Some(v1::ClientProperties {
            id: id(client),
            ip: "192.0.2.7".to_owned(),
            ..v1::ClientProperties::default()
        }),
        arguments: values(&["secret".into()]),
        resumed: None,
    })
}

fn id(client: u64) -> String {
    format!("client-{client}")
}

fn values(values: &[Value]) -> bytes::Bytes {
    amf0::encode_all(values).unwrap()
}

/// The description of an error of a call.
fn why(answer: &v1::CallAnswer) -> String {
    assert!(answer.failed, "{answer:?}");
    let values = amf0::decode_all(&answer.value, headwater_amf::Limits::default()).unwrap();
    let why = values[0].get("description").and_then(Value::as_str);
    why.unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn edges_are_told_what_applications_allow() {
    let bench = bench(&["a"]).await;
    let policy = |described: Described| match described {
        Described::Policy(policy) => policy,
        other => panic!("{other:?}"),
    };
    let live = policy(describe(&bench, "live").await);
    assert!(!live.stored);
    assert_eq!(parse("app.toml", &live.toml).unwrap(), Default::default());
    let vod = policy(describe(&bench, "vod").await);
    assert!(!parse("app.toml", &vod.toml).unwrap().publish);
    assert_ne!(live.version, vod.version);
    for unknown in ["nothing", "..", "a/b", ""] {
        let described = describe(&bench, unknown).await;
        assert_eq!(described, Described::Unknown(v1::ApplicationUnknown {}));
    }
    write(&bench, "chat", "play = false\n");
    let chat = policy(describe(&bench, "chat").await);
    assert!(chat.stored && !parse("app.toml", &chat.toml).unwrap().play);
    write(&bench, "bad", "pulbish = false\n");
    let Described::Broken(broken) = describe(&bench, "bad").await else {
        panic!("not broken");
    };
    assert!(broken.reason.contains("publish"), "{}", broken.reason);
    assert_eq!(bench.metric_of("a", "applications", "broken"), "1");
    // Another virtual host has other ones.
    let request = v1::PolicyRequest {
        vhost: "other.example".to_owned(),
        app: "chat".to_owned(),
    };
    let other = bench.applications("a").describe(request).await.unwrap();
    let unknown = Described::Unknown(v1::ApplicationUnknown {});
    assert_eq!(other.into_inner().response, Some(unknown));
}

#[tokio::test]
async fn edges_hear_what_has_changed() {
    let bench = bench(&["a"]).await;
    let request = v1::ChangesRequest {
        edge: "edge".to_owned(),
    };
    let changes = bench.applications("a").changes(request).await.unwrap();
    let mut changes = changes.into_inner();
    let first = soon(changes.message()).await.unwrap().unwrap();
    assert!(first.all);
    let mut changed = async || {
        let change = soon(changes.message()).await.unwrap().unwrap();
        assert!(!change.all);
        let names = change.changed.into_iter().map(|name| name.app);
        names.collect::<Vec<_>>()
    };
    let publishes = async |app: &str| match describe(&bench, app).await {
        Described::Policy(policy) => parse("app.toml", &policy.toml).unwrap().publish,
        other => panic!("{other:?}"),
    };
    // What is built in, what is there, and what was not.
    assert!(publishes("live").await);
    describe(&bench, "chat").await;
    write(&bench, "live", "publish = false\n");
    assert_eq!(changed().await, ["live"]);
    assert!(!publishes("live").await);
    write(&bench, "chat", "");
    assert_eq!(changed().await, ["chat"]);
    assert!(publishes("chat").await);
    // What cannot be used is as if it had not been written.
    write(&bench, "live", "publish = \n");
    until(async || bench.metric_of("a", "applications", "broken") == "1").await;
    assert!(!publishes("live").await);
    write(&bench, "live", "publish = true\n");
    assert_eq!(changed().await, ["live"]);
    assert_eq!(bench.metric_of("a", "applications", "broken"), "0");
    std::fs::remove_file(
        bench.nodes["a"]
            .data
            .path()
            .join("applications/live/app.toml"),
    )
    .unwrap();
    // It says the same, and yet it is not the operator's any more.
    assert_eq!(changed().await, ["live"]);
    assert!(matches!(describe(&bench, "live").await, Described::Policy(policy) if !policy.stored));
    let large = format!("# {}", "x".repeat(300 << 10));
    write(&bench, "large", &large);
    assert!(matches!(
        describe(&bench, "large").await,
        Described::Broken(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn without_a_handler_an_instance_lets_in_whom_its_edge_does() {
    let bench = bench(&["a"]).await;
    write(&bench, "chat", "read_access = \"pub\"\nidle_ms = 1000\n");
    let mut edge = Edge::attach(&bench, "a", open(&instance("room"))).await;
    edge.connect(1).await;
    assert_eq!(edge.accepted().await.grant.unwrap().read_access, "pub");
    let answer = edge.call(1, 2, "f").await;
    assert_eq!(why(&answer), "Method not found (f).");
    assert_eq!(bench.metric_of("a", "applications", "clients"), "1");
    assert_eq!(bench.nodes["a"].origin.remaining().instances, 1);
    // One that only the edge knows.
    let name = InstanceName::new(VHOST, "edges-own", "_definst_").unwrap();
    Edge::attach(&bench, "a", open(&name)).await;
    // One that nobody can use.
    write(&bench, "bad", "x");
    let name = InstanceName::new(VHOST, "bad", "_definst_").unwrap();
    let mut refused = Edge::begin(&bench, "a", Say::Open(open(&name))).await;
    assert_eq!(refused.end().await.code(), Code::FailedPrecondition);
    // It is over when all have left, and some time has passed.
    assert_eq!(bench.metric_of("a", "applications", "instances"), "2");
    drop(edge);
    until(async || bench.metric_of("a", "applications", "instances") == "1").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_order_ends_the_call() {
    let bench = bench(&["a"]).await;
    let name = instance("room");
    let mut bad = open(&name);
    bad.name = None;
    let mut empty = open(&name);
    empty.name = Some(v1::InstanceName::default());
    let mut routed = open(&name);
    routed.routing = Some(v1::Routing {
        unreachable: vec!["x".to_owned(); 100_000],
        ..v1::Routing::default()
    });
    for first in [
        connect(1),
        Say::Open(bad),
        Say::Open(empty),
        Say::Open(routed),
    ] {
        let mut edge = Edge::begin(&bench, "a", first).await;
        assert_eq!(edge.end().await.code(), Code::InvalidArgument);
    }
    for second in [
        Say::Open(open(&name)),
        Say::Connect(v1::ClientConnect::default()),
    ] {
        let mut edge = Edge::attach(&bench, "a", open(&name)).await;
        edge.say(second).await;
        assert_eq!(edge.end().await.code(), Code::InvalidArgument);
    }
    // One that keeps silent is not waited for.
    let (_say, said) = mpsc::channel(1);
    let mut client = bench.applications("a");
    let mut silent = client
        .attach(ReceiverStream::new(said))
        .await
        .unwrap()
        .into_inner();
    let end = soon(silent.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn another_origin_is_named_or_relayed_to() {
    let bench = bench(&["a", "b"]).await;
    write(&bench, "chat", "");
    let name = instance_of(&bench, "b");
    let mut edge = Edge::begin(&bench, "a", Say::Open(open(&name))).await;
    assert!(matches!(edge.told().await, Told::Moved(moved) if moved.owner == "b"));
    assert_eq!(edge.end().await.code(), Code::Ok);
    let mut cut_off = open(&name);
    cut_off.routing = Some(v1::Routing {
        unreachable: vec!["b".to_owned()],
        ..v1::Routing::default()
    });
    let mut edge = Edge::attach(&bench, "a", cut_off.clone()).await;
    edge.connect(1).await;
    edge.accepted().await;
    assert_eq!(bench.metric_of("b", "applications", "clients"), "1");
    assert_eq!(bench.metric_of("a", "applications", "relays_total"), "1");
    // Not twice.
    cut_off.routing.as_mut().unwrap().relayed_by = vec!["c".to_owned()];
    let mut twice = Edge::begin(&bench, "a", Say::Open(cut_off)).await;
    assert_eq!(twice.end().await.code(), Code::Unavailable);
    bench.nodes["b"].stop.cancel();
    assert_eq!(edge.end().await.code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_drains_hands_its_instances_over() {
    let bench = bench(&["a", "b"]).await;
    write(&bench, "chat", "");
    let name = instance_of(&bench, "a");
    let mut edge = Edge::attach(&bench, "a", open(&name)).await;
    edge.connect(1).await;
    edge.accepted().await;
    let origin = bench.nodes["a"].origin.clone();
    let drained = tokio::spawn(async move { origin.drain(PATIENCE).await });
    assert!(matches!(edge.told().await, Told::Moved(moved) if moved.owner == "b"));
    let resumed = v1::AttachOpen {
        resumed_clients: 1,
        ..open(&name)
    };
    let next = Edge::attach(&bench, "b", resumed).await;
    let Say::Connect(again) = connect(1) else {
        unreachable!();
    };
    let again = v1::ClientConnect {
        resumed: Some(v1::ClientGrant::default()),
        ..again
    };
    next.say(Say::Connect(again)).await;
    edge.say(Say::Close(v1::AttachClose {})).await;
    assert_eq!(edge.end().await.code(), Code::Ok);
    let left = soon(drained).await.unwrap();
    assert_eq!(left.instances, 0);
    until(async || bench.metric_of("b", "applications", "clients") == "1").await;
    assert_eq!(bench.metric_of("a", "applications", "clients"), "0");
    // Nobody gets in here any more.
    let mut late = Edge::begin(&bench, "a", Say::Open(open(&name))).await;
    assert!(matches!(late.told().await, Told::Moved(_)));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_calls_of_edges() {
    let bench = bench(&["a"]).await;
    let mut edge = Edge::attach(&bench, "a", open(&instance("room"))).await;
    bench.nodes["a"].stop.cancel();
    assert_eq!(edge.end().await.code(), Code::Unavailable);
    soon(bench.nodes["a"].origin.stopped()).await;
}

#[tokio::test(start_paused = true)]
async fn instances_are_bounded() {
    let section = OriginSection {
        applications: ApplicationsSection {
            max_instances: 2,
            ..ApplicationsSection::default()
        },
        ..section()
    };
    let bench = Bench::start(&["a"], section).await;
    let (_one, _two) = (
        Edge::attach(&bench, "a", open(&instance("one"))).await,
        Edge::attach(&bench, "a", open(&instance("two"))).await,
    );
    let mut three = Edge::begin(&bench, "a", Say::Open(open(&instance("three")))).await;
    assert_eq!(three.end().await.code(), Code::ResourceExhausted);
    let mut again = open(&instance("one"));
    again.edge_incarnation = 2;
    Edge::attach(&bench, "a", again).await;
}

#[tokio::test(start_paused = true)]
async fn an_edge_that_closes_its_call_hears_what_was_told_before() {
    let bench = bench(&["a"]).await;
    let edge = Edge::attach(&bench, "a", open(&instance("room"))).await;
    for client in 1..=100 {
        edge.connect(client).await;
    }
    edge.say(Say::Close(v1::AttachClose {})).await;
    let Edge { say, mut told } = edge;
    drop(say);
    let mut decisions = 0;
    while let Some(answer) = soon(told.message()).await.unwrap() {
        decisions += u32::from(matches!(answer.response, Some(Told::Decision(_))));
    }
    assert_eq!(decisions, 100);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_comes_late_is_noticed_by_its_instances() {
    let bench = bench(&["a"]).await;
    let mut edge = Edge::attach(&bench, "a", open(&instance("room"))).await;
    // Longer than it is remembered that somebody asked for it.
    tokio::time::sleep(Duration::from_secs(120)).await;
    write(&bench, "chat", "max_clients = 1\n");
    // Its edge is to say more, and ends nothing that is wrong.
    assert_eq!(soon(edge.told.message()).await.unwrap(), None);
}
