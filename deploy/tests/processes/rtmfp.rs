//! RTMFP: the same streams as over RTMP, between the two and across edges; and what UDP brings with it: clients whose address changes,
//! networks that lose and go away, clients that vanish, and senders of anything.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use headwater_loadtest::client::rtmfp::{RtmfpOptions, RtmfpStream};
use headwater_loadtest::impair::{Impairment, Proxy, ProxyOptions};
use headwater_media::frame::FrameKind::{self, Audio, Video};
use headwater_rtmp::command::{PlayStart, PublishMode};
use headwater_rtmp::url::RtmpUrl;

use crate::a_cluster_carries_live_streams::light;
use crate::standalone::standalone;
use crate::support::client::{Connection, Publisher, Received, Sent, Viewer};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::distribution;
use crate::support::media::assert_same;
use crate::support::node::Node;
use crate::support::recorded::{file_of, wait_recorded};
use crate::support::steered::{Came, Steered, assert_decodable, frames};
use crate::support::wait::{pause, runtime, until};

const LIMIT: Duration = Duration::from_secs(10);

/// What a node logs when it has followed a client to another address.
const MOVED: &str = "a client has moved";

fn node(flags: &[&str]) -> (Node, tempfile::TempDir) {
    let flags: Vec<&str> = ["--rtmfp", "127.0.0.1:0"]
        .iter()
        .chain(flags)
        .copied()
        .collect();
    standalone(&flags)
}

/// A bad network before a node. It is good until it is told otherwise.
fn network(node: &mut Node) -> Proxy {
    let options = ProxyOptions::new(node.address("rtmfp"));
    runtime().block_on(Proxy::start(options)).expect("a proxy")
}

fn of_kind(received: &[Received], kind: FrameKind) -> Vec<Received> {
    let all = received.iter();
    all.filter(|it| it.id.kind == kind).copied().collect()
}

/// Checks that every frame of a kind came once and in order, from the first that came up to the last that was sent. Between the kinds
/// there is no order: audio does not wait for a picture.
fn assert_no_loss_of(kind: FrameKind, who: &str, sent: &[Sent], received: &[Received]) {
    let who = format!("{who}: {kind:?}");
    let sent: Vec<_> = sent.iter().filter(|it| it.id.kind == kind).collect();
    let received = of_kind(received, kind);
    let first = received
        .first()
        .unwrap_or_else(|| panic!("{who}: nothing came"));
    let from = sent
        .iter()
        .position(|it| it.id == first.id)
        .unwrap_or_else(|| panic!("{who}: the first frame was never sent"));
    assert!(
        kind == Audio || sent[from].is_key,
        "{who}: it begins with {:?}, which is no key frame",
        first.id
    );
    let expected: Vec<_> = sent[from..].iter().map(|it| it.id).collect();
    let got: Vec<_> = received.iter().map(|it| it.id).collect();
    assert_same(&who, &got, &expected);
    let goes_on = received.is_sorted_by_key(|it| it.timestamp);
    assert!(goes_on, "{who}: timestamps go back");
}

fn assert_no_loss(who: &str, sent: &[Sent], received: &[Received]) {
    assert_no_loss_of(Video, who, sent, received);
    assert_no_loss_of(Audio, who, sent, received);
}

/// Video as [`assert_decodable`] takes it.
fn pictures(sent: &[Sent], received: &[Received]) -> Vec<(u64, bool)> {
    let is_key = |id| sent.iter().any(|it| it.id == id && it.is_key);
    let video = of_kind(received, Video);
    video
        .iter()
        .map(|it| (it.id.number, is_key(it.id)))
        .collect()
}

/// Waits until the newest frames of both kinds that were sent have come.
fn wait_for_the_end(viewer: &Viewer, sent: &[Sent]) {
    for kind in [Video, Audio] {
        let last = sent.iter().rev().find(|it| it.id.kind == kind);
        viewer.wait_for_frame(last.expect("frames").id, LIMIT);
    }
}

#[test]
fn rtmp_and_rtmfp_carry_the_same_streams_across_edges() {
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 2,
        edge_flags: ["--rtmfp", "127.0.0.1:0"].map(str::to_owned).to_vec(),
        ..Plan::default()
    });
    let mut shows = Vec::new();
    for (name, over_rtmfp) in [("live/tcp", false), ("live/udp", true)] {
        let [here, there] = [0, 1].map(|edge| {
            let edge = &mut cluster.edges[edge];
            [edge.url(name), edge.rtmfp_url(name)]
        });
        let viewers = [&here[0], &here[1], &there[0], &there[1]].map(|url| Viewer::start(url));
        let publisher = Publisher::start(&here[usize::from(over_rtmfp)], light());
        shows.push((name, publisher, viewers));
    }
    for (name, publisher, viewers) in shows {
        for viewer in &viewers {
            viewer.wait_for(200, LIMIT);
            // Metadata and a header of each codec.
            assert!(viewer.headers_first() >= 3, "{name}");
        }
        let sent = publisher.finish();
        for (number, viewer) in viewers.iter().enumerate() {
            wait_for_the_end(viewer, &sent);
            let who = format!("{name}, viewer {number}");
            assert_no_loss(&who, &sent, &viewer.received());
            until("it hears of the end", LIMIT, || {
                viewer.has_status("NetStream.Play.UnpublishNotify")
            });
        }
    }
}

#[test]
fn a_recorded_stream_is_published_paused_and_sought() {
    let (mut node, folder) = node(&[]);
    let url = node.rtmfp_url("live/show");
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    until("it runs", LIMIT, || publisher.count() > 77 * 3);
    let sent = publisher.finish();
    wait_recorded(&file_of(&folder.path().join("data"), "show.flv"));

    let mut player = Steered::connect(&url);
    let stream = player.create_stream();
    player.tell(|session| session.set_buffer_length(stream, 100));
    player.play(stream, "show", PlayStart::At(0));
    player.wait_frames(0, stream, Video, 15);
    let at = |came: &[Came]| {
        came.iter().rev().find_map(|it| match it {
            Came::Frame { timestamp, .. } => Some(f64::from(*timestamp)),
            _ => None,
        })
    };
    let stopped = at(player.came()).expect("frames");
    player.tell(|session| session.pause(stream, true, stopped));
    player.wait_status(stream, "NetStream.Pause.Notify");
    let mark = player.mark();
    player.read_for(Duration::from_millis(500));
    assert_eq!(frames(player.since(mark), stream, Video), []);
    player.tell(|session| session.pause(stream, false, stopped));
    player.wait_status(stream, "NetStream.Unpause.Notify");

    let mark = player.mark();
    player.tell(|session| session.seek(stream, 2_000.0));
    player.wait_since(mark, "the seek", LIMIT, |came| {
        came.iter()
            .any(|it| it.says(stream, "NetStream.Seek.Notify"))
    });
    // What comes behind the answer is of the new place, although pictures have a way of their own.
    let mark = player.mark();
    player.wait_since(mark, "the end", LIMIT, |came| {
        let video = frames(came, stream, Video);
        let last = sent.iter().rev().find(|it| it.id.kind == Video);
        video.last().map(|it| it.0) == last.map(|it| it.id.number)
    });
    let video = frames(player.since(mark), stream, Video);
    assert_decodable("after the seek", &video);
    assert!(
        (45..=60).contains(&video[0].0),
        "2 s in, at 30 a second: {}",
        video[0].0
    );
}

#[test]
fn a_viewer_whose_port_changes_misses_nothing_and_a_forger_moves_nobody() {
    let (mut node, _folder) = node(&[]);
    let network = network(&mut node);
    let publisher = Publisher::start(&node.url("live/show"), light());
    let viewer = Viewer::start(&format!("rtmfp://{}/live/show", network.address()));
    viewer.wait_for(60, LIMIT);
    network.rebind();
    until("the node follows it", LIMIT, || {
        node.log_text().contains(MOVED)
    });
    let seen = viewer.count();
    viewer.wait_for(seen + 80, LIMIT);

    // Somebody on the way keeps what the viewer sends, and sends it from elsewhere, before the viewer is heard again.
    network.cut(true);
    let cut = Instant::now();
    until("the viewer says something", LIMIT, || {
        !network.intercepted().is_empty()
    });
    let forger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    forger
        .set_read_timeout(Some(Duration::from_millis(150)))
        .expect("a limit");
    for datagram in network.intercepted() {
        forger
            .send_to(&datagram, node.address("rtmfp"))
            .expect("it is sent");
    }
    let mut buffer = [0; 2_000];
    let mut got = Vec::new();
    while let Ok(length) = forger.recv(&mut buffer) {
        got.push(length);
    }
    network.cut(false);
    let took = cut.elapsed();
    assert!(
        !got.is_empty() && got.iter().all(|length| *length < 150),
        "questions, and no media: {got:?}"
    );
    let back = Instant::now();
    let seen = viewer.count();
    viewer.wait_for(seen + 1, LIMIT);
    println!("cut for {took:?}, back after {:?}", back.elapsed());
    viewer.wait_for(seen + 80, LIMIT);
    let sent = publisher.finish();
    wait_for_the_end(&viewer, &sent);
    assert_no_loss("the viewer", &sent, &viewer.received());
    assert_eq!(node.log_text().matches(MOVED).count(), 1);
}

#[test]
fn an_outage_of_five_seconds_costs_late_pictures_and_no_sound() {
    let (mut node, _folder) = node(&[]);
    let network = network(&mut node);
    let publisher = Publisher::start(&node.url("live/show"), light());
    let viewer = Viewer::start(&format!("rtmfp://{}/live/show", network.address()));
    viewer.wait_for(60, LIMIT);
    network.cut(true);
    pause(Duration::from_secs(5));
    let seen = viewer.count();
    network.cut(false);
    let back = Instant::now();
    viewer.wait_for(seen + 1, LIMIT);
    println!("back after {:?}", back.elapsed());
    // Live again: nothing waits any more.
    until("it has caught up", LIMIT, || {
        viewer
            .received()
            .last()
            .is_some_and(|it| it.latency < Duration::from_millis(500))
    });
    let seen = viewer.count();
    viewer.wait_for(seen + 80, LIMIT);
    let sent = publisher.finish();
    wait_for_the_end(&viewer, &sent);
    let received = viewer.received();
    assert_no_loss_of(Audio, "the viewer", &sent, &received);
    let pictures = pictures(&sent, &received);
    assert_decodable("pictures", &pictures);
    let missing = pictures.last().expect("pictures").0 + 1 - pictures.len() as u64;
    println!("{missing} pictures were too late");
    assert!(missing < 30 * 6, "{missing} pictures are missing");
    let counted =
        |node: &mut Node, name: &str| node.metric(&format!("headwater_edge_rtmfp_{name}_total"));
    let given_up =
        counted(&mut node, "messages_given_up") + counted(&mut node, "pictures_left_out");
    assert!(
        given_up >= missing as f64,
        "{given_up} of {missing} are counted"
    );
    assert!(counted(&mut node, "timeouts") >= 1.0);
}

#[test]
fn five_percent_of_loss_take_nothing_from_the_sound_and_little_from_the_pictures() {
    let (mut node, _folder) = node(&[]);
    let network = network(&mut node);
    network.set(Impairment {
        delay: Duration::from_millis(80),
        loss: 0.05,
        duplicate: 0.01,
        reorder: 0.01,
        ..Impairment::default()
    });
    let publisher = Publisher::start(&node.url("live/show"), light());
    let viewer = Viewer::start(&format!("rtmfp://{}/live/show", network.address()));
    viewer.wait_for(77 * 6, LIMIT * 2);
    let sent = publisher.finish();
    let last = sent.iter().rev().find(|it| it.id.kind == Audio);
    viewer.wait_for_frame(last.expect("sound").id, LIMIT);
    let received = viewer.received();
    assert_no_loss_of(Audio, "the viewer", &sent, &received);
    let audio: Vec<Duration> = of_kind(&received, Audio)
        .iter()
        .map(|it| it.latency)
        .collect();
    println!("audio: {}", distribution(&audio));
    let mut sorted = audio;
    sorted.sort_unstable();
    let p99 = sorted[sorted.len() * 99 / 100];
    // One way, and some times there and back for what was lost again.
    assert!(p99 < Duration::from_millis(1_000), "{p99:?}");
    let pictures = pictures(&sent, &received);
    assert_decodable("pictures", &pictures);
    let [first, last] = [pictures.first(), pictures.last()].map(|it| it.expect("pictures").0);
    let share = pictures.len() as f64 / (last - first + 1) as f64;
    let [_, to_viewer] = network.counts();
    println!("{:.1} % of the pictures came; {to_viewer:?}", share * 100.0);
    // Congestion control takes what is lost at random for what it is.
    assert!(share > 0.95, "{share}");
    assert!(to_viewer.lost > 10, "{to_viewer:?}");
}

/// The first datagram of a client: a hello that asks for this address.
fn hello(node: &mut Node) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("its address");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let port = node.address("rtmfp").port();
    let client = runtime().spawn(async move {
        // Nobody answers.
        Connection::open(&format!("rtmfp://{address}/live{port}/x")).await
    });
    let mut buffer = [0; 2_000];
    let length = socket.recv(&mut buffer).expect("a hello");
    client.abort();
    buffer[..length].to_vec()
}

#[test]
fn garbage_and_floods_of_hellos_hurt_nobody() {
    let (mut node, _folder) = node(&[]);
    let publisher = Publisher::start(&node.rtmfp_url("live/show"), light());
    let viewer = Viewer::start(&node.rtmfp_url("live/show"));
    viewer.wait_for(60, LIMIT);
    let to = node.address("rtmfp");
    let hello = hello(&mut node);
    let before = node.resident_bytes();
    let senders: Vec<UdpSocket> = (0..20)
        .map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket"))
        .collect();
    let (mut asked, mut answered) = (0_usize, 0_usize);
    let began = Instant::now();
    for round in 0..1_000_usize {
        for sender in &senders {
            let mut datagram = match round % 4 {
                0 => vec![0; round * 7 % 1_400],
                _ => hello.clone(),
            };
            match round % 4 {
                // Of nobody, or of no meaning.
                0 => rand::fill(&mut datagram[..]),
                // Cut, or bent.
                1 => datagram.truncate(round % hello.len()),
                2 => datagram[round % hello.len()] ^= 1 << (round % 8),
                _ => {}
            }
            asked += datagram.len();
            // A full buffer loses it, as any way does.
            let _ = sender.send_to(&datagram, to);
            sender.set_nonblocking(true).expect("a mode");
            let mut buffer = [0; 2_000];
            while let Ok(length) = sender.recv(&mut buffer) {
                answered += length;
            }
        }
        if round % 50 == 0 {
            viewer.assert_connected();
            let seen = viewer.count();
            viewer.wait_for(seen + 5, LIMIT);
        }
    }
    // The cookie of an answer makes it larger than the hello: as much as is spent on one network.
    println!("{answered} bytes for {asked}");
    let allowance = 65_536.0 + 16_384.0 * began.elapsed().as_secs_f64();
    assert!(
        answered as f64 <= asked as f64 + allowance,
        "{answered} bytes for {asked}"
    );
    let seen = viewer.count();
    viewer.wait_for(seen + 40, LIMIT);
    let sent = publisher.finish();
    wait_for_the_end(&viewer, &sent);
    assert_no_loss("the viewer", &sent, &viewer.received());
    let grown = node.resident_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    // Whoever looks for the reason finds it.
    for counter in ["handshakes", "dropped", "fragments"] {
        let count = node.metric(&format!("headwater_edge_rtmfp_{counter}_total"));
        assert!(count > 100.0, "{counter}: {count}");
    }
    assert_eq!(
        node.metric("headwater_edge_rtmfp_messages_given_up_total"),
        0.0
    );
    let log = node.log_text();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn clients_that_vanish_are_gone_when_their_time_is_over() {
    const CLIENTS: usize = 200;

    let (mut node, _folder) = node(&[
        "--set",
        "rtmfp.dead_after_ms=3000",
        "--set",
        "rtmfp.keepalive_ms=1000",
    ]);
    let publisher = Publisher::start(&node.url("live/show"), light());
    let viewer = Viewer::start(&node.rtmfp_url("live/show"));
    viewer.wait_for(30, LIMIT);
    let url = node.rtmfp_url("live/show");
    let connections = |node: &mut Node| node.metric("headwater_edge_connections");
    let alone = connections(&mut node);
    let mut resident = Vec::new();
    for _ in 0..2 {
        let mut clients = Vec::new();
        while clients.len() < CLIENTS {
            let opening = (0..20).map(|_| {
                let url = url.clone();
                runtime().spawn(async move { Connection::open(&url).await })
            });
            for opening in opening.collect::<Vec<_>>() {
                let opened = runtime().block_on(opening).expect("no panic");
                clients.push(opened.expect("a connection").0);
            }
        }
        let most = node.resident_bytes();
        clients.into_iter().for_each(Connection::vanish);
        let vanished = Instant::now();
        until("they are gone", Duration::from_secs(8), || {
            connections(&mut node) <= alone
        });
        let took = vanished.elapsed();
        let left = node.resident_bytes();
        println!("gone after {took:?}; {most} bytes with them, {left} without");
        resident.push(left);
        viewer.assert_connected();
    }
    let grown = resident[1].saturating_sub(resident[0]);
    assert!(grown < 4 << 20, "{grown} bytes were kept");
    let sent = publisher.finish();
    wait_for_the_end(&viewer, &sent);
    assert_no_loss("the viewer that stayed", &sent, &viewer.received());
}

#[test]
fn who_opens_a_session_and_vanishes_costs_no_processor_time() {
    let (mut node, _folder) = node(&[
        "--set",
        "rtmp.handshake_timeout_ms=500",
        "--set",
        "rtmfp.dead_after_ms=20000",
    ]);
    let address = node.address("rtmfp");
    let url = RtmpUrl::parse(&node.rtmfp_url("live/show")).expect("a url");
    let stream = runtime().block_on(async {
        let at = [address];
        let opened = RtmfpStream::connect(&url, &at, RtmfpOptions::default());
        tokio::time::timeout(LIMIT, opened).await
    });
    stream.expect("in time").expect("a session").vanish();
    until("it is sent away", LIMIT, || {
        node.metric("headwater_edge_rtmfp_sessions") == 0.0
    });
    let before = node.processor_time();
    pause(Duration::from_secs(5));
    let spent = node.processor_time() - before;
    println!("{spent:?} in 5 s");
    assert!(spent < Duration::from_secs(2), "{spent:?}");
}

#[test]
fn a_node_without_clients_ends_at_once() {
    let (mut node, _folder) = node(&[]);
    let publisher = Publisher::start(&node.rtmfp_url("live/show"), light());
    let viewer = Viewer::start(&node.rtmfp_url("live/show"));
    viewer.wait_for(30, LIMIT);
    publisher.finish();
    drop(viewer);
    until("they are gone", LIMIT, || {
        node.metric("headwater_edge_connections") == 0.0
    });
    node.terminate();
    // The grace period is longer.
    let status = node.wait_exit(LIMIT);
    assert!(status.success(), "{status}");
}

#[test]
fn a_node_that_ends_tells_its_clients() {
    let (mut node, _folder) = node(&["--set", "shutdown.grace_ms=2000"]);
    let url = node.rtmfp_url("live/show");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&url, light());
    viewer.wait_for(30, LIMIT);
    node.terminate();
    until("it is not ready", Duration::from_secs(2), || {
        node.get("/readyz").0 == 503
    });
    // It serves those that it has.
    let seen = viewer.count();
    viewer.wait_for(seen + 30, LIMIT);
    let status = node.wait_exit(LIMIT);
    assert!(status.success(), "{status}");
    // Not by their own patience, which is longer.
    until("both hear of it", Duration::from_secs(2), || {
        viewer.ended().is_some() && publisher.ended().is_some()
    });
    let why = viewer.ended();
    assert_eq!(why.as_deref(), Some("the server closed the connection"));
}
