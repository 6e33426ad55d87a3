//! A live show that is recorded: its viewers go back in it, and come to the live end again.
//!
//! `HEADWATER_TEST_PAUSE` is how long a viewer pauses, in seconds.

use std::time::Duration;

use headwater_media::frame::FrameKind::{Audio, Video};
use headwater_rtmp::command::{PlayStart, PublishMode};

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Sent, Viewer};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::median;
use crate::support::media::assert_same;
use crate::support::recorded::{duration_of, file_of, wait_recorded};
use crate::support::steered::{Came, Steered, assert_decodable, frames};
use crate::support::tools::has;
use crate::support::wait::{holds_for, pause};

/// How long the show has run before anybody goes back in it.
const HISTORY: Duration = Duration::from_secs(8);

struct Stage {
    cluster: Cluster,
    publisher: Publisher,
}

impl Stage {
    fn start() -> Self {
        let mut cluster = Cluster::start(1, 2);
        let url = cluster.url(0, "show");
        let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
        publisher.wait_status("NetStream.Record.Start", Duration::from_secs(10));
        pause(HISTORY);
        Self { cluster, publisher }
    }
}

/// How long a viewer pauses: longer than the newest frames stay in memory.
fn pause_time() -> Duration {
    let seconds = std::env::var("HEADWATER_TEST_PAUSE").ok();
    Duration::from_secs(seconds.and_then(|text| text.parse().ok()).unwrap_or(5))
}

fn ids(sent: &[Sent]) -> Vec<crate::support::client::FrameId> {
    sent.iter().map(|frame| frame.id).collect()
}

#[test]
fn who_comes_late_sees_it_from_the_beginning_and_catches_up() {
    let mut stage = Stage::start();
    let url = stage.cluster.url(1, "show");
    let viewer = Viewer::spawn(&url, PlayStart::At(0));
    // Everything that was before arrives faster than it happened, then it goes on live.
    viewer.wait_for(stage.publisher.count() + 100, Duration::from_secs(30));
    let sent = stage.publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(10));
    let got: Vec<_> = viewer.received().iter().map(|frame| frame.id).collect();
    assert_same("the late viewer", &got, &ids(&sent));
}

#[test]
fn after_a_pause_it_goes_on_where_it_stopped_and_a_seek_to_the_end_is_live() {
    let mut stage = Stage::start();
    let url = stage.cluster.url(1, "show");
    let live = Viewer::start(&url);
    let mut player = Steered::connect(&url);
    let stream = player.create_stream();
    player.tell(|session| session.set_buffer_length(stream, 100));
    player.play(stream, "show", PlayStart::Live);
    player.wait_frames(0, stream, Video, 60);
    let last = |came: &[Came]| {
        came.iter().rev().find_map(|it| match it {
            Came::Frame { timestamp, .. } => Some(*timestamp),
            _ => None,
        })
    };
    let stopped = last(player.came()).expect("frames");
    player.tell(|session| session.pause(stream, true, f64::from(stopped)));
    player.wait_status(stream, "NetStream.Pause.Notify");
    player.read_for(pause_time());
    let before = frames(player.came(), stream, Video);
    player.tell(|session| session.pause(stream, false, f64::from(stopped)));
    player.wait_status(stream, "NetStream.Unpause.Notify");
    let mark = player.mark();
    player.wait_frames(mark, stream, Video, 60);
    let after = frames(player.since(mark), stream, Video);
    let newest = before.last().expect("video").0;
    assert!(
        after[0].0 <= newest + 1,
        "{} after {newest}: something was left out",
        after[0].0
    );

    // Far beyond the end.
    let mark = player.mark();
    player.tell(|session| session.seek(stream, 1e9));
    player.wait_since(mark, "the seek", Duration::from_secs(5), |came| {
        came.iter()
            .any(|it| it.says(stream, "NetStream.Seek.Notify"))
    });
    let mark = player.mark();
    player.wait_frames(mark, stream, Video, 90);
    let video = frames(player.since(mark), stream, Video);
    assert_decodable("live again", &video);
    let sent = stage.publisher.sent();
    let newest = sent.iter().rev().find(|it| it.id.kind == Video);
    let newest = newest.expect("video").id.number;
    let behind = newest - video.last().expect("video").0;
    assert!(behind < 30, "{behind} frames behind the publisher");
    let audio = frames(player.since(mark), stream, Audio);
    assert!(audio.is_sorted_by(|one, next| next.0 == one.0 + 1));
    live.assert_connected();
}

#[test]
fn who_came_from_behind_and_seeks_to_the_end_has_the_latency_of_a_live_viewer() {
    let mut stage = Stage::start();
    let url = stage.cluster.url(1, "show");
    let live = Viewer::start(&url);
    let mut late = Steered::connect(&url);
    let stream = late.create_stream();
    late.play(stream, "show", PlayStart::At(0));
    late.wait_frames(0, stream, Video, 30);
    let first = frames(late.came(), stream, Video)[0].0;
    assert_eq!(first, 0, "it begins at the beginning");
    late.tell(|session| session.seek(stream, 1e9));
    late.wait_status(stream, "NetStream.Seek.Notify");
    late.read_for(Duration::from_secs(2));
    let mark = late.mark();
    late.wait_frames(mark, stream, Video, 100);
    live.wait_for(150, Duration::from_secs(20));
    stage.publisher.assert_connected();
    let of_late: Vec<_> = late
        .since(mark)
        .iter()
        .filter_map(|it| match it {
            Came::Frame { latency, .. } => Some(*latency),
            _ => None,
        })
        .collect();
    let received = live.received();
    let newest = &received[received.len().saturating_sub(200)..];
    let of_live: Vec<_> = newest.iter().map(|frame| frame.latency).collect();
    let (late, live) = (median(&of_late), median(&of_live));
    println!("latency of one who came from behind {late:?}, of a live viewer {live:?}");
    // The steered player looks every 20 ms.
    assert!(
        late < live + Duration::from_millis(60),
        "{late:?} against {live:?}"
    );
}

#[test]
fn seeking_back_and_forth_lands_on_key_frames() {
    let mut stage = Stage::start();
    let url = stage.cluster.url(1, "show");
    let mut player = Steered::connect(&url);
    let stream = player.create_stream();
    player.tell(|session| session.set_buffer_length(stream, 500));
    player.play(stream, "show", PlayStart::Live);
    player.wait_frames(0, stream, Video, 10);
    for to in [0.0, 3_200.0, 1_000.0, 6_900.0, 0.0] {
        let mark = player.mark();
        player.tell(|session| session.seek(stream, to));
        player.wait_since(mark, "the seek", Duration::from_secs(5), |came| {
            came.iter()
                .any(|it| it.says(stream, "NetStream.Seek.Notify"))
        });
        let told = mark
            + player
                .since(mark)
                .iter()
                .position(|it| it.says(stream, "NetStream.Seek.Notify"))
                .expect("the notice");
        player.wait_frames(told, stream, Video, 20);
        let came = player.since(told);
        assert_decodable(
            &format!("after the seek to {to}"),
            &frames(came, stream, Video),
        );
        let first = came.iter().find_map(|it| match it {
            Came::Frame { timestamp, id, .. } if id.kind == Video => Some(f64::from(*timestamp)),
            _ => None,
        });
        let first = first.expect("video");
        // A key frame each half second.
        assert!(
            first <= to + 1.0 && to - first < 600.0,
            "{first} instead of {to}"
        );
    }
    stage.publisher.assert_connected();
}

/// Parts of recordings below a folder.
fn parts(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => parts(&entry.path()),
        _ => usize::from(folder.ends_with("segments")),
    };
    entries.flatten().map(count).sum()
}

#[test]
fn of_a_show_with_a_window_its_last_seconds_are_kept() {
    const WINDOW: Duration = Duration::from_secs(5);
    let mut cluster = Cluster::with(&Plan {
        origins: 1,
        edges: 2,
        edge_flags: ["--set", "applications.live.record_window_ms=5000"]
            .map(str::to_owned)
            .to_vec(),
        origin_flags: ["--set", "origin.recording.segment_ms=500"]
            .map(str::to_owned)
            .to_vec(),
        ..Plan::default()
    });
    let (url, other) = (cluster.url(0, "show"), cluster.url(1, "show"));
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", Duration::from_secs(10));
    // Who was there before the window moved on stays, and misses nothing.
    let early = Viewer::spawn(&other, PlayStart::At(0));
    early.wait_for(30, Duration::from_secs(10));
    pause(WINDOW * 2);
    // 10 in the window, 8 that go together, and those at its ends.
    let data = cluster.folder().join("o1");
    let mut most = 0;
    holds_for("the disk is bounded", WINDOW, || {
        most = most.max(parts(&data));
        most <= 24
    });
    assert!(most >= 10, "{most}");

    let mut late = Steered::connect(&other);
    let stream = late.create_stream();
    late.play(stream, "show", PlayStart::At(0));
    late.wait_frames(0, stream, Video, 200);
    let video = frames(late.came(), stream, Video);
    assert_decodable("the late viewer", &video);
    let first = video[0].0 / 30;
    assert!((4..14).contains(&first), "from {first} s on");

    let sent = publisher.finish();
    early.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(10));
    let got: Vec<_> = early.received().iter().map(|frame| frame.id).collect();
    assert_same("the early viewer", &got, &ids(&sent));
    let file = file_of(&data, "show.flv");
    let recorded = wait_recorded(&file);
    let recorded: Vec<_> = recorded.iter().map(|frame| frame.id).collect();
    let kept = &sent[sent.len() - recorded.len()..];
    assert_same("the file", &recorded, &ids(kept));
    if has("ffprobe") {
        let told = duration_of(&file);
        assert!((4.9..12.0).contains(&told), "{told} s");
    }
}
