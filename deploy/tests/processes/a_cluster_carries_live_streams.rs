//! Two origins and two edges: what is published at one edge is played at the other.

use std::time::Duration;

use headwater_media::synthetic::Settings;

use crate::support::client::{Publisher, Viewer};
use crate::support::cluster::{Cluster, Plan, stream_count};
use crate::support::judge::{assert_no_loss, distribution, median};
use crate::support::media::{CLIP_SECONDS, Packets, assert_same, clip, packets_of, tags_of};
use crate::support::tools::{ffmpeg_play, ffmpeg_publish, has, rtmpdump};
use crate::support::wait::{holds_for, patience, pause, until};

/// Cheap enough for a debug build on a busy machine, with a key frame each half second.
pub(crate) fn light() -> Settings {
    Settings {
        video_bitrate: 400_000,
        fps: 30,
        gop: 15,
        ..Settings::default()
    }
}

/// Time for a clip to be played, and a margin for programs to start and end.
const CLIP_LIMIT: Duration = Duration::from_secs(CLIP_SECONDS as u64 + 20);

#[test]
fn every_packet_reaches_ffmpeg_and_rtmpdump_at_the_other_edge() {
    if !has("ffmpeg") || !has("rtmpdump") {
        return;
    }
    let clip = clip();
    let (packets, tags) = (packets_of(&clip), tags_of(&clip));
    let mut cluster = Cluster::start(2, 2);
    let names = cluster.names(stream_count(4));
    let file = |name: &str, end: &str| cluster.folder().join(format!("{name}.{end}"));
    let files: Vec<_> = names
        .iter()
        .map(|name| (file(name, "framehash"), file(name, "flv")))
        .collect();

    let mut players = Vec::new();
    for (index, (name, (digests, dump))) in names.iter().zip(&files).enumerate() {
        let url = cluster.url(1 - index % 2, name);
        players.push((ffmpeg_play(&url, digests), rtmpdump(&url, dump)));
    }
    for edge in 0..2 {
        let expected = names.len() as f64;
        until("the players wait", Duration::from_secs(20), || {
            cluster.edges[edge].metric("headwater_edge_viewers") >= expected - expected % 2.0
        });
    }
    let mut publishers: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(index, name)| ffmpeg_publish(&clip, &cluster.url(index % 2, name)))
        .collect();
    for publisher in &mut publishers {
        publisher.succeed(CLIP_LIMIT);
    }
    for (index, (ffmpeg, rtmpdump)) in players.iter_mut().enumerate() {
        let who = format!("{} ({})", names[index], cluster.owner(&names[index]));
        ffmpeg.succeed(CLIP_LIMIT);
        Packets::read(&files[index].0).assert_all_of(&packets, &format!("ffmpeg, {who}"));
        // It does not count an end that the server announces as a good one for a live stream.
        rtmpdump.finish(CLIP_LIMIT);
        for (kind, dumped) in tags_of(&files[index].1) {
            assert_same(&format!("rtmpdump, {who}: {kind}"), &dumped, &tags[kind]);
        }
    }
    println!(
        "{} streams, {} packets each, to two players",
        names.len(),
        packets.count()
    );
    for (index, origin) in cluster.origins.iter_mut().enumerate() {
        let expected = (names.len() + 1 - index) / 2;
        let epochs = origin.metric("headwater_origin_epochs_total");
        assert_eq!(epochs, expected as f64, "streams on origin {index}");
    }
}

#[test]
fn a_late_viewer_starts_with_headers_and_the_newest_key_frame() {
    let mut cluster = Cluster::start(2, 2);
    let publisher = Publisher::start(&cluster.url(0, "late"), light());
    until("frames are sent", Duration::from_secs(5), || {
        publisher.count() > 100
    });
    let viewer = Viewer::start(&cluster.url(1, "late"));
    viewer.wait_for(60, Duration::from_secs(5));
    assert!(
        viewer.headers_first() >= 3,
        "metadata and two codec headers come first, not {}",
        viewer.headers_first()
    );
    let sent = publisher.finish();
    let last = sent.last().expect("frames").id;
    viewer.wait_for_frame(last, Duration::from_secs(5));
    let received = viewer.received();
    assert_no_loss("the late viewer", &sent, &received);
    let skipped = sent.len() - received.len();
    assert!(skipped > 50, "it began {skipped} frames after the start");
}

#[test]
fn viewers_on_one_edge_share_one_read() {
    let mut cluster = Cluster::start(1, 2);
    let publisher = Publisher::start(&cluster.url(0, "shared"), light());
    let viewers: Vec<_> = (0..5)
        .map(|_| Viewer::start(&cluster.url(1, "shared")))
        .collect();
    for viewer in &viewers {
        viewer.wait_for(30, Duration::from_secs(5));
    }
    assert_eq!(cluster.origins[0].metric("headwater_origin_readers"), 1.0);
    let sent = publisher.finish();
    let last = sent.last().expect("frames").id;
    for viewer in &viewers {
        viewer.wait_for_frame(last, Duration::from_secs(5));
        assert_no_loss("a viewer of five", &sent, &viewer.received());
    }
}

#[test]
fn a_publisher_that_returns_goes_on_while_viewers_stay() {
    let mut cluster = Cluster::start(2, 2);
    let viewer = Viewer::start(&cluster.url(1, "again"));
    let first = Publisher::start(&cluster.url(0, "again"), light());
    viewer.wait_for(60, Duration::from_secs(5));
    let first = first.finish();
    viewer.wait_for_frame(first.last().expect("frames").id, Duration::from_secs(5));
    until("the end is told", Duration::from_secs(5), || {
        viewer.has_status("NetStream.Play.UnpublishNotify")
    });
    let seen = viewer.count();

    // Through the other edge this time.
    let second = Publisher::start(&cluster.url(1, "again"), Settings { seed: 7, ..light() });
    viewer.wait_for(seen + 60, Duration::from_secs(5));
    let second = second.finish();
    viewer.wait_for_frame(second.last().expect("frames").id, Duration::from_secs(5));
    let received = viewer.received();
    assert_no_loss("the first run", &first, &received[..seen]);
    assert_no_loss("the second run", &second, &received[seen..]);
    assert!(viewer.has_status("NetStream.Play.PublishNotify"));
}

#[test]
fn a_publisher_that_vanishes_is_followed_by_another() {
    let mut cluster = Cluster::start(2, 2);
    let viewer = Viewer::start(&cluster.url(1, "taken"));
    let first = Publisher::start(&cluster.url(0, "taken"), light());
    viewer.wait_for(30, Duration::from_secs(5));
    first.vanish();
    let second = Publisher::start(&cluster.url(1, "taken"), Settings { seed: 9, ..light() });
    until("frames are sent", Duration::from_secs(5), || {
        second.count() > 60
    });
    let sent = second.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    let received = viewer.received();
    let begin = received
        .iter()
        .position(|frame| frame.id == sent[0].id || frame.id.hash == sent[0].id.hash)
        .expect("the second publisher's first frame");
    assert_no_loss("the second publisher", &sent, &received[begin..]);
}

#[test]
fn a_name_that_is_published_is_not_given_away() {
    let mut cluster = Cluster::start(2, 2);
    let first = Publisher::start(&cluster.url(0, "mine"), light());
    let second = Publisher::spawn(&cluster.url(1, "mine"), light());
    until(
        "the second one hears of it",
        Duration::from_secs(10),
        || {
            second
                .statuses()
                .iter()
                .any(|code| code == "NetStream.Publish.BadName")
        },
    );
    holds_for("the first one goes on", Duration::from_secs(1), || {
        first.ended().is_none()
    });
    assert!(
        second
            .statuses()
            .iter()
            .all(|code| code != "NetStream.Publish.Start")
    );
    first.finish();
}

#[test]
fn nodes_talk_through_tls() {
    let mut cluster = Cluster::with(&Plan {
        origins: 2,
        edges: 2,
        tls: true,
        ..Plan::default()
    });
    for name in cluster.names(2) {
        let viewer = Viewer::start(&cluster.url(1, &name));
        let publisher = Publisher::start(&cluster.url(0, &name), light());
        viewer.wait_for(60, Duration::from_secs(5));
        let sent = publisher.finish();
        viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
        assert_no_loss(&name, &sent, &viewer.received());
    }
}

#[test]
fn a_frame_is_not_held_back_on_its_way() {
    let mut cluster = Cluster::start(2, 2);
    let url = cluster.url(1, "quick");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start(&cluster.url(0, "quick"), light());
    pause(Duration::from_secs(3));
    publisher.finish();
    let latencies: Vec<_> = viewer
        .received()
        .iter()
        .map(|frame| frame.latency)
        .collect();
    println!("edge, origin, edge: {}", distribution(&latencies));
    // Two milliseconds on an idle machine with a release build; here nothing may wait for a timer or for company.
    assert!(
        median(&latencies) < patience(Duration::from_millis(25)),
        "{:?}",
        median(&latencies)
    );
}
