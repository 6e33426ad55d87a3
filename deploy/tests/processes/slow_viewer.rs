//! A viewer that is too slow loses frames, and only it: never a part of a group of pictures that it could not decode, never
//! the memory of the edge, and never the others.

use std::collections::HashSet;
use std::time::Duration;

use headwater_media::frame::FrameKind;
use headwater_media::synthetic::Settings;

use crate::a_cluster_carries_live_streams::light;
use crate::standalone::standalone;
use crate::support::client::{Publisher, Viewer, Wishes};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::{assert_no_loss, distribution, longest_gap};
use crate::support::steered::{Came, Steered, assert_decodable, assert_time_goes_on, frames};
use crate::support::wait::{holds_for, until};

const NAME: &str = "show";

/// Bytes per second of [`heavy`], about.
const BYTES_PER_SECOND: u64 = 1_500_000;

/// A stream that fills the buffers of a socket in a moment.
fn heavy() -> Settings {
    Settings {
        video_bitrate: 12_000_000,
        ..light()
    }
}

/// A player with a small buffer.
fn player(url: &str) -> (Steered, u32) {
    let wishes = Wishes {
        receive_buffer: Some(32 << 10),
        ..Wishes::default()
    };
    let mut player = Steered::connect_with(url, &wishes);
    let stream = player.create_stream();
    player.play_it(stream);
    (player, stream)
}

/// Waits until a publisher has sent so many seconds more.
fn let_it_run(publisher: &Publisher, seconds: usize) {
    // 30 of video and 47 of audio.
    let goal = publisher.count() + 77 * seconds;
    until("the stream runs", Duration::from_secs(20), || {
        publisher.assert_connected();
        publisher.count() >= goal
    });
}

#[test]
fn a_viewer_that_stalls_goes_on_at_a_key_frame() {
    let (mut node, _folder) = standalone(&[]);
    let url = node.url(&format!("live/{NAME}"));
    let publisher = Publisher::start(&url, heavy());
    let others = [Viewer::start(&url), Viewer::start(&url)];
    let (mut slow, stream) = player(&url);
    slow.wait_frames(0, stream, FrameKind::Video, 15);

    // Nobody reads its socket meanwhile.
    let_it_run(&publisher, 7);
    let mark = slow.mark();
    let newest = publisher.sent().last().expect("frames").id.number;
    slow.wait_since(mark, "it catches up", Duration::from_secs(10), |came| {
        let video = frames(came, stream, FrameKind::Video);
        let audio = frames(came, stream, FrameKind::Audio);
        let last = |frames: &[(u64, bool)]| frames.last().map_or(0, |(number, _)| *number);
        last(&video) * 77 / 30 + 77 > newest
            && last(&audio) * 77 / 47 + 77 > newest
            && video.len() > 60
    });

    let came = slow.came();
    let video = frames(came, stream, FrameKind::Video);
    assert_decodable("video", &video);
    let audio = frames(came, stream, FrameKind::Audio);
    assert!(
        audio.is_sorted_by(|one, next| one.0 < next.0),
        "audio is never repeated"
    );
    assert_time_goes_on("the slow viewer", came, stream);
    let holes: Vec<_> = video
        .windows(2)
        .filter(|pair| pair[1].0 > pair[0].0 + 1)
        .collect();
    println!("{} frames of video, holes {holes:?}", video.len());
    assert!(!holes.is_empty(), "seven seconds fit in no buffer");
    // What a decoder needs stands before the key frame that it goes on with.
    let after = holes.last().expect("a hole")[1].0;
    let place = came
        .iter()
        .position(|it| matches!(it, Came::Frame { id, .. } if id.kind == FrameKind::Video && id.number == after))
        .expect("the key frame");
    println!("before it: {:?}", &came[place.saturating_sub(3)..place]);

    let dropped = node.metric("headwater_edge_frames_dropped_total");
    let jumps = node.metric("headwater_edge_viewer_jumps_total");
    println!("{dropped} frames dropped, {jumps} jumps");
    let missing: u64 = holes.iter().map(|pair| pair[1].0 - pair[0].0 - 1).sum();
    assert!(jumps >= 1.0);
    assert!(
        dropped >= missing as f64,
        "{missing} frames of video are missing"
    );
    assert_eq!(node.metric("headwater_edge_viewers_stuck_total"), 0.0);

    let sent = publisher.finish();
    let known: HashSet<_> = sent.iter().map(|sent| sent.id.hash).collect();
    for it in slow.came() {
        if let Came::Frame { id, .. } = it {
            assert!(
                known.contains(&id.hash),
                "{id:?} came otherwise than it was sent"
            );
        }
    }
    for (index, viewer) in others.iter().enumerate() {
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
        let received = viewer.received();
        assert_no_loss(&format!("viewer {index}"), &sent, &received);
        let latencies: Vec<_> = received.iter().map(|frame| frame.latency).collect();
        println!("another viewer's latency: {}", distribution(&latencies));
    }
}

#[test]
fn viewers_that_never_read_again_are_closed_and_cost_no_memory() {
    const STUCK: usize = 20;
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 2,
        edge_flags: [
            "edge.fanout.stuck_timeout_ms=3000",
            "edge.fanout.window_ms=1000",
        ]
        .iter()
        .flat_map(|flag| ["--set".to_owned(), (*flag).to_owned()])
        .collect(),
        ..Plan::default()
    });
    let url = cluster.url(1, NAME);
    let publisher = Publisher::start(&cluster.url(0, NAME), heavy());
    let other = Viewer::start(&url);
    let mut stuck: Vec<_> = (0..STUCK).map(|_| player(&url)).collect();
    for (player, stream) in &mut stuck {
        player.wait_frames(0, *stream, FrameKind::Video, 1);
    }
    let edge = &mut cluster.edges[1];
    assert_eq!(edge.metric("headwater_edge_viewers"), STUCK as f64 + 1.0);

    // Nobody reads their sockets from here on.
    let before = edge.resident_bytes();
    let mut most = before;
    until("they are closed", Duration::from_secs(12), || {
        most = most.max(edge.resident_bytes());
        edge.metric("headwater_edge_viewers_stuck_total") == STUCK as f64
    });
    let growth = most.saturating_sub(before);
    println!(
        "memory of the edge: {} MiB before, {} MiB more",
        before >> 20,
        growth >> 20
    );
    // Three seconds and more of the stream for each of them would be four times as much.
    let limit = BYTES_PER_SECOND * 3 * STUCK as u64 / 4;
    assert!(growth < limit, "{growth} bytes of {limit}");
    assert_eq!(edge.metric("headwater_edge_viewers"), 1.0);
    assert!(edge.metric("headwater_edge_frames_dropped_total") >= STUCK as f64);
    // One that reads again after all is told why: its last words waited in its socket.
    for (mut player, stream) in stuck {
        player.wait_status(stream, "NetStream.Play.InsufficientBW");
        player.wait_status(0, "NetConnection.Connect.Closed");
        player.wait_end(Duration::from_secs(5));
    }

    // A viewer that is not slow is not closed however long it plays.
    let goal = other.count() + 150;
    holds_for("the other viewer plays", Duration::from_secs(1), || {
        other.ended().is_none()
    });
    other.wait_for(goal, Duration::from_secs(10));
    let sent = publisher.finish();
    other.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the other viewer", &sent, &other.received());
}

#[test]
fn a_viewer_is_never_given_the_rest_of_a_group_of_pictures() {
    // A group of pictures is several times what the edge may hold: most of the time its key frame is gone.
    let (mut node, _folder) = standalone(&["--set", "edge.fanout.window_bytes=1048576"]);
    let url = node.url(&format!("live/{NAME}"));
    let settings = Settings { gop: 60, ..heavy() };
    let publisher = Publisher::start(&url, settings);
    let other = Viewer::start(&url);
    let mut players = Vec::new();
    // At four places of the group.
    for _ in 0..4 {
        let goal = publisher.count() + 40;
        until("the stream runs", Duration::from_secs(5), || {
            publisher.count() >= goal
        });
        players.push(player(&url));
    }
    let (stalled, stream) = players.last_mut().expect("a player");
    stalled.wait_frames(0, *stream, FrameKind::Video, 15);
    let_it_run(&publisher, 3);
    for (index, (player, stream)) in players.iter_mut().enumerate() {
        let seen = frames(player.came(), *stream, FrameKind::Video).len();
        player.wait_frames(0, *stream, FrameKind::Video, seen + 70);
        let video = frames(player.came(), *stream, FrameKind::Video);
        assert_decodable(&format!("player {index}"), &video);
    }
    let sent = publisher.finish();
    other.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the other viewer", &sent, &other.received());
}

#[test]
fn nobody_is_called_slow_because_an_origin_was() {
    let mut cluster = Cluster::start(1, 2);
    let publisher = Publisher::start(&cluster.url(0, NAME), light());
    let viewers = [0, 1].map(|edge| Viewer::start(&cluster.url(edge, NAME)));
    for viewer in &viewers {
        viewer.wait_for(60, Duration::from_secs(5));
    }
    // What is published meanwhile comes at once afterwards, several seconds of it.
    cluster.origins[0].hang();
    let_it_run(&publisher, 3);
    cluster.origins[0].go_on();
    let_it_run(&publisher, 2);
    let sent = publisher.finish();
    for (index, viewer) in viewers.iter().enumerate() {
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
        let received = viewer.received();
        println!("longest pause {:?}", longest_gap(&received, Duration::ZERO));
        assert_no_loss(&format!("viewer {index}"), &sent, &received);
    }
    for edge in &mut cluster.edges {
        assert_eq!(edge.metric("headwater_edge_frames_dropped_total"), 0.0);
        assert_eq!(edge.metric("headwater_edge_viewer_jumps_total"), 0.0);
        assert_eq!(edge.metric("headwater_edge_frames_lost_total"), 0.0);
    }
}
