//! Peers and groups over real gRPC: what edges say, and what they are told.

use std::time::Duration;

use bytes::Bytes;
use headwater_media::name::StreamName;
use headwater_proto::v1;
use headwater_proto::v1::introduce_response::Response as Answer;
use headwater_proto::v1::peers_request::Request as Say;
use headwater_proto::v1::peers_response::Response as Told;
use headwater_proto::v1::relay_response::Response as Passed;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::bench::{Bench, section};

const PATIENCE: Duration = Duration::from_secs(60);

const GROUP: [u8; 32] = [9; 32];

fn bytes(id: [u8; 32]) -> Bytes {
    Bytes::copy_from_slice(&id)
}

fn peer(number: u8) -> [u8; 32] {
    [number; 32]
}

/// The first peer that belongs to a node.
fn peer_of(bench: &Bench, node: &str) -> [u8; 32] {
    let owner = |peer: &[u8; 32]| {
        let digits: String = peer.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = StreamName::new("rtmfp", "peer", "_definst_", &digits).unwrap();
        bench.owner_of(&name)
    };
    let mut peers = (0..=255).map(peer);
    peers
        .find(|peer| owner(peer).as_str() == node)
        .expect("one of 256")
}

fn address(port: u32) -> v1::PeerAddress {
    v1::PeerAddress {
        ip: vec![192, 0, 2, 1].into(),
        port,
        origin: v1::AddressOrigin::Observed.into(),
    }
}

/// An edge's call.
struct Edge {
    say: mpsc::Sender<v1::PeersRequest>,
    told: Streaming<v1::PeersResponse>,
}

impl Edge {
    async fn attach(bench: &Bench, node: &str, name: &str) -> Self {
        let mut edge = Self::begin(bench, node).await;
        let edge_name = name.to_owned();
        edge.say(Say::Open(v1::PeersOpen { edge: edge_name })).await;
        assert_eq!(edge.told().await, Told::Opened(v1::PeersOpened {}));
        edge
    }

    async fn begin(bench: &Bench, node: &str) -> Self {
        let (say, said) = mpsc::channel(64);
        let mut client = bench.peers(node);
        let told = client.attach(ReceiverStream::new(said)).await.unwrap();
        let told = told.into_inner();
        Self { say, told }
    }

    async fn say(&self, say: Say) {
        let request = Some(say);
        self.say.send(v1::PeersRequest { request }).await.unwrap();
    }

    async fn register(&self, peer: [u8; 32], port: u32) {
        self.say(Say::Registered(v1::PeerRegistered {
            peer_id: bytes(peer),
            addresses: vec![address(port)],
        }))
        .await;
    }

    async fn join(&self, peer: [u8; 32]) {
        self.say(Say::Joined(v1::GroupJoined {
            group_id: bytes(GROUP),
            peer_id: bytes(peer),
        }))
        .await;
    }

    async fn told(&mut self) -> Told {
        let told = tokio::time::timeout(PATIENCE, self.told.message()).await;
        let told = told
            .expect("nothing came")
            .unwrap()
            .expect("the call ended");
        told.response.unwrap()
    }

    async fn end(&mut self) -> Status {
        let end = tokio::time::timeout(PATIENCE, self.told.message()).await;
        match end.expect("the call goes on") {
            Ok(Some(told)) => panic!("told {told:?}"),
            Ok(None) => Status::ok(""),
            Err(status) => status,
        }
    }
}

fn ask(peer: [u8; 32]) -> v1::IntroduceRequest {
    v1::IntroduceRequest {
        peer_id: bytes(peer),
        tag: Bytes::from_static(b"tag"),
        initiator: vec![address(7)],
        routing: None,
        edge: "asking".to_owned(),
    }
}

async fn introduce(bench: &Bench, node: &str, request: v1::IntroduceRequest) -> Answer {
    let answer = bench.peers(node).introduce(request).await.unwrap();
    answer.into_inner().response.unwrap()
}

/// What an edge said may be on its way still.
async fn introduced(bench: &Bench, node: &str, peer: [u8; 32]) -> v1::Introduced {
    let found = async {
        loop {
            if let Answer::Introduced(found) = introduce(bench, node, ask(peer)).await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.expect("nobody is introduced")
}

async fn forgotten(bench: &Bench, node: &str, peer: [u8; 32]) {
    let gone = async {
        while !matches!(introduce(bench, node, ask(peer)).await, Answer::Unknown(_)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    gone.expect("the peer is still known");
}

#[tokio::test(start_paused = true)]
async fn the_edge_of_a_peer_is_told_and_the_asking_one_gets_its_addresses() {
    let bench = Bench::one().await;
    let mut edge = Edge::attach(&bench, "a", "one").await;
    let unknown = Answer::Unknown(v1::PeerUnknown {});
    assert_eq!(introduce(&bench, "a", ask(peer(1))).await, unknown);
    edge.register(peer(1), 1).await;
    let found = introduced(&bench, "a", peer(1)).await;
    assert_eq!(
        (found.addresses, found.edge),
        (vec![address(1)], "one".to_owned())
    );
    let hello = v1::ForwardHello {
        peer_id: bytes(peer(1)),
        tag: Bytes::from_static(b"tag"),
        initiator: vec![address(7)],
    };
    assert_eq!(edge.told().await, Told::Hello(hello));
    assert_eq!(bench.metric_of("a", "peers", "registered"), "1");
    edge.say(Say::Gone(v1::PeerGone {
        peer_id: bytes(peer(1)),
    }))
    .await;
    forgotten(&bench, "a", peer(1)).await;
    assert_eq!(bench.metric_of("a", "peers", "registered"), "0");
}

#[tokio::test(start_paused = true)]
async fn commands_come_to_the_edge_of_a_peer() {
    let bench = Bench::one().await;
    let mut edge = Edge::attach(&bench, "a", "one").await;
    edge.register(peer(1), 1).await;
    introduced(&bench, "a", peer(1)).await;
    assert!(matches!(edge.told().await, Told::Hello(_)));
    let relay = async |to, command: Bytes| {
        let request = v1::RelayRequest {
            peer_id: bytes(peer(to)),
            command,
            routing: None,
            edge: "asking".to_owned(),
        };
        let answer = bench.peers("a").relay(request).await;
        answer.map(|answer| answer.into_inner().response.unwrap())
    };
    let command = Bytes::from_static(b"a command");
    let passed = relay(1, command.clone()).await.unwrap();
    assert_eq!(passed, Passed::Relayed(v1::Relayed {}));
    let peer_id = bytes(peer(1));
    let relayed = v1::RelayedCommand { peer_id, command };
    assert_eq!(edge.told().await, Told::Relayed(relayed));
    let unknown = relay(2, Bytes::new()).await.unwrap();
    assert_eq!(unknown, Passed::Unknown(v1::PeerUnknown {}));
    let long = relay(1, vec![0; (16 << 10) + 1].into()).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn what_an_edge_has_said_goes_with_its_call() {
    let bench = Bench::one().await;
    let (one, mut two) = (
        Edge::attach(&bench, "a", "one").await,
        Edge::attach(&bench, "a", "two").await,
    );
    one.register(peer(1), 1).await;
    one.join(peer(1)).await;
    introduced(&bench, "a", peer(1)).await;
    two.join(peer(2)).await;
    let neighbours = |told: Told| match told {
        Told::Neighbours(told) => {
            assert_eq!(told.group_id, bytes(GROUP));
            (told.peer_id, told.neighbours)
        }
        other => panic!("told {other:?}"),
    };
    let first = neighbours(two.told().await);
    assert_eq!(first, (bytes(peer(2)), vec![bytes(peer(1))]));
    let mut one = one;
    assert!(matches!(one.told().await, Told::Hello(_)));
    let other = neighbours(one.told().await);
    assert_eq!(other, (bytes(peer(1)), vec![bytes(peer(2))]));
    // As an edge that is killed.
    drop(one);
    forgotten(&bench, "a", peer(1)).await;
    assert_eq!(bench.metric_of("a", "peers", "memberships"), "1");
    // The client has gone to another edge.
    two.register(peer(1), 5).await;
    two.join(peer(1)).await;
    let found = introduced(&bench, "a", peer(1)).await;
    assert_eq!(
        (found.addresses, found.edge),
        (vec![address(5)], "two".to_owned())
    );
    two.say(Say::Left(v1::GroupLeft {
        group_id: bytes(GROUP),
        peer_id: bytes(peer(2)),
    }))
    .await;
    let left = async {
        while bench.metric_of("a", "peers", "memberships") != "1" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_origin_is_named_and_takes_over_when_it_dies() {
    let bench = Bench::start(&["a", "b"], section()).await;
    let wanted = peer_of(&bench, "b");
    let edge = Edge::attach(&bench, "b", "one").await;
    edge.register(wanted, 1).await;
    introduced(&bench, "b", wanted).await;
    let moved = introduce(&bench, "a", ask(wanted)).await;
    assert!(
        matches!(&moved, Answer::Moved(moved) if moved.owner == "b"),
        "{moved:?}"
    );
    // Who cannot reach the owner says here what it has to say, and is answered here.
    let mut request = ask(wanted);
    request.routing = Some(v1::Routing {
        unreachable: vec!["b".to_owned()],
        ..v1::Routing::default()
    });
    let here = introduce(&bench, "a", request).await;
    assert_eq!(here, Answer::Unknown(v1::PeerUnknown {}));
    bench.nodes["b"].stop.cancel();
    let mut edge = edge;
    let end = loop {
        match edge.told.message().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    assert!(!matches!(end, Ok(Some(_))));
    let next = Edge::attach(&bench, "a", "one").await;
    next.register(wanted, 1).await;
    // At the latest when `a` has noticed.
    let taken = async {
        loop {
            match introduce(&bench, "a", ask(wanted)).await {
                Answer::Introduced(_) => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_out_of_bounds_is_refused() {
    let bench = Bench::one().await;
    let short = Bytes::from_static(b"short");
    let refused = async |request| {
        bench
            .peers("a")
            .introduce(request)
            .await
            .unwrap_err()
            .code()
    };
    let cases = [
        v1::IntroduceRequest {
            peer_id: short.clone(),
            ..ask(peer(1))
        },
        v1::IntroduceRequest {
            tag: vec![0; 65].into(),
            ..ask(peer(1))
        },
        v1::IntroduceRequest {
            initiator: vec![address(1); 25],
            ..ask(peer(1))
        },
    ];
    for case in cases {
        assert_eq!(refused(case).await, Code::InvalidArgument);
    }
    // Not opened, or twice.
    let mut edge = Edge::begin(&bench, "a").await;
    edge.register(peer(1), 1).await;
    assert_eq!(edge.end().await.code(), Code::InvalidArgument);
    let mut edge = Edge::attach(&bench, "a", "one").await;
    edge.say(Say::Open(v1::PeersOpen::default())).await;
    assert_eq!(edge.end().await.code(), Code::InvalidArgument);
    // One that keeps silent is not waited for.
    let mut edge = Edge::begin(&bench, "a").await;
    assert_eq!(edge.end().await.code(), Code::DeadlineExceeded);
    let mut edge = Edge::attach(&bench, "a", "one").await;
    edge.register(peer(1), 1).await;
    introduced(&bench, "a", peer(1)).await;
    assert!(matches!(edge.told().await, Told::Hello(_)));
    let peer_id = short;
    edge.say(Say::Gone(v1::PeerGone { peer_id })).await;
    assert_eq!(edge.end().await.code(), Code::InvalidArgument);
    forgotten(&bench, "a", peer(1)).await;
    // Of many addresses the first are kept.
    let edge = Edge::attach(&bench, "a", "one").await;
    edge.say(Say::Registered(v1::PeerRegistered {
        peer_id: bytes(peer(1)),
        addresses: (0..100).map(address).collect(),
    }))
    .await;
    let found = introduced(&bench, "a", peer(1)).await;
    assert_eq!(found.addresses, (0..24).map(address).collect::<Vec<_>>());
}
