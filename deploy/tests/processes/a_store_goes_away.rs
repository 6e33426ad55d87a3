//! A store that refuses, vanishes or hangs while streams are recorded and files are played: live streams go on, viewers of files wait
//! or are told why not, in bounded time, and all is well again when the store is back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use headwater_media::flv::{FlvHeader, write_header, write_tag};
use headwater_media::synthetic::{Settings, SyntheticStream};
use headwater_rtmp::command::{PlayStart, PublishMode};
use tempfile::TempDir;

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{FrameId, Publisher, Viewer, sent};
use crate::support::cluster::{Cluster, Plan};
use crate::support::judge::{assert_no_loss, longest_gap};
use crate::support::media::assert_same;
use crate::support::node::Node;
use crate::support::recorded::{
    assert_beginning, assert_playable, assert_whole, file_of, frames_in, wait_frames, wait_recorded,
};
use crate::support::s3::S3;
use crate::support::tools::has;
use crate::support::volume::Volume;
use crate::support::wait::{eventually, pause, until};

/// How long the server may take to tell a client something.
const LIMIT: Duration = Duration::from_secs(15);

/// How long the viewer of a live stream may wait for the next frame: much longer than it takes on a busy machine, and less than
/// anybody waits for a store.
const GAP: Duration = Duration::from_secs(2);

/// Parts are written often, also to a small disk.
const ORIGIN_FLAGS: [&str; 4] = [
    "--set",
    "origin.recording.segment_ms=500",
    "--set",
    "origin.recording.min_free_bytes=0",
];

/// An edge soon gives up asking.
const EDGE_FLAGS: [&str; 2] = ["--set", "edge.recorded.patience_ms=1000"];

/// A film that is played to its end: several times what is read ahead of a viewer.
const FILM: Film = Film {
    length_ms: 7_000,
    video_bitrate: 28_000_000,
};

/// A film that nobody plays to its end.
const LONG_FILM: Film = Film {
    length_ms: 40_000,
    video_bitrate: 8_000_000,
};

/// Where films are.
const FILMS: &str = "applications/vod/streams/_definst_";

fn standalone(wrapper: &[String], data: &Path) -> Node {
    let data = data.display().to_string();
    let common = [
        "--rtmp",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
        &data,
    ];
    let flags = ORIGIN_FLAGS.iter().chain(&EDGE_FLAGS);
    Node::start_within(wrapper, "standalone", common.iter().chain(flags))
}

/// What a film is like.
struct Film {
    length_ms: u64,
    video_bitrate: u32,
}

/// A film as FLV, and its frames.
fn film(film: &Film) -> (Vec<u8>, Vec<FrameId>) {
    let settings = Settings {
        video_bitrate: film.video_bitrate,
        ..light()
    };
    let header = FlvHeader {
        has_audio: true,
        has_video: true,
    };
    let mut stream = SyntheticStream::new(settings).expect("settings in range");
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    write_header(header, &mut bytes);
    while stream.next_timestamp() < film.length_ms {
        let frame = stream.next_frame(0);
        let timestamp = u32::try_from(frame.timestamp).expect("some seconds");
        assert!(write_tag(timestamp, frame.kind, &frame.payload, &mut bytes));
        frames.extend(sent(&frame).map(|sent| sent.id));
    }
    (bytes, frames)
}

/// Waits until a viewer has got a film to its end, and fails unless it is all of it.
fn assert_saw(who: &str, viewer: &Viewer, film: &[FrameId]) {
    viewer.wait_for_frame(*film.last().expect("frames"), LIMIT);
    let got: Vec<_> = viewer.received().iter().map(|frame| frame.id).collect();
    assert_same(who, &got, film);
}

/// Waits until a viewer has got all that was read ahead of it.
fn wait_stalled(viewer: &Viewer, film: &[FrameId]) {
    until("the viewer waits", LIMIT, || {
        let count = viewer.count();
        pause(Duration::from_secs(1));
        viewer.count() == count
    });
    viewer.assert_connected();
    assert!(viewer.count() < film.len());
}

/// Plays a film that is there again, as soon as the server knows.
fn assert_plays(url: &str, film: &[FrameId]) {
    let viewer = eventually("it is there again", LIMIT, || {
        let viewer = Viewer::spawn(url, PlayStart::At(0));
        until("an answer", LIMIT, || !viewer.statuses().is_empty());
        (!viewer.has_status("NetStream.Play.StreamNotFound")).then_some(viewer)
    });
    viewer.wait_for(150, LIMIT);
    let got: Vec<_> = viewer.received().iter().map(|frame| frame.id).collect();
    assert_same("who came again", &got, &film[..got.len()]);
}

/// Somebody who comes now is told that it cannot be played.
fn assert_refused(url: &str, code: &str) {
    let began = Instant::now();
    let viewer = Viewer::spawn(url, PlayStart::At(0));
    wait_told(&viewer, code);
    println!("{url}: {code} after {:?}", began.elapsed());
}

fn wait_told(viewer: &Viewer, code: &str) {
    until(code, LIMIT, || {
        viewer.assert_connected();
        viewer.has_status(code)
    });
}

/// A recording whose folder is taken away for a while, so that nothing can be written to it.
fn refuse_while_recording(
    mut node: Node,
    data: &Path,
    take: impl FnOnce(),
    give_back: impl FnOnce(),
) {
    let url = node.url("live/show");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    pause(Duration::from_secs(2));
    let stored = publisher.count();
    take();
    publisher.wait_status("NetStream.Record.NoAccess", LIMIT);

    let refused = node.url("live/refused");
    let other = Publisher::start_as(&refused, light(), PublishMode::Record);
    other.wait_status("NetStream.Record.NoAccess", LIMIT);
    let watching = Viewer::start(&refused);
    watching.wait_for(60, LIMIT);
    drop(watching);
    other.finish();

    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);
    assert_no_loss("the viewer", &sent, &viewer.received());
    let gap = longest_gap(&viewer.received(), Duration::ZERO);
    assert!(gap < GAP, "{gap:?}");

    give_back();
    let file = file_of(data, "show.flv");
    let count = assert_beginning("the file", &wait_recorded(&file), &sent);
    println!("{count} frames of {stored} when it was refused");
    assert!(count + 60 > stored, "{count} frames of {stored}");
    assert_playable(&file);
    let publisher = Publisher::start_as(&refused, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    pause(Duration::from_secs(1));
    let sent = publisher.finish();
    let recorded = wait_frames(&file_of(data, "refused.flv"), sent.len());
    assert_whole("the next file", &recorded, &sent);
    assert!(node.is_running());
}

/// Sets the permissions of a folder, and of the folders in it.
fn set_permissions(folder: &Path, mode: u32) {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(folder, permissions).expect("its permissions");
    for entry in fs::read_dir(folder).expect("its content") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("its type").is_dir() {
            set_permissions(&entry.path(), mode);
        }
    }
}

#[test]
fn a_folder_that_loses_its_permissions() {
    if !has("ffmpeg") {
        return;
    }
    let mut wrapper = Vec::new();
    if rustix::process::geteuid().is_root() {
        // Root passes over permissions if it is not kept from it.
        if !has("setpriv") {
            return;
        }
        let words = [
            "setpriv",
            "--bounding-set",
            "-dac_override,-dac_read_search",
            "--",
        ];
        wrapper.extend(words.map(str::to_owned));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let node = standalone(&wrapper, &data);
    let (take, give_back) = (
        || set_permissions(&data, 0o555),
        || set_permissions(&data, 0o755),
    );
    refuse_while_recording(node, &data, take, give_back);
}

#[test]
fn a_disk_that_becomes_read_only() {
    if !has("ffmpeg") {
        return;
    }
    let Some(disk) = Volume::make(64 << 20) else {
        return;
    };
    let node = standalone(&disk.wrapper(), &disk.inside().join("data"));
    let (take, give_back) = (|| disk.freeze("data"), || disk.thaw("data"));
    refuse_while_recording(node, &disk.path().join("data"), take, give_back);
}

/// A node with a film in its folder.
fn cinema(of: &Film) -> (Node, TempDir, Vec<FrameId>) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let (bytes, frames) = film(of);
    fs::create_dir_all(data.join(FILMS)).expect("a folder");
    for name in ["film.flv", "other.flv"] {
        fs::write(data.join(FILMS).join(name), &bytes).expect("a film");
    }
    (standalone(&[], &data), folder, frames)
}

#[test]
fn a_folder_that_is_away_for_a_while() {
    let (mut node, folder, film) = cinema(&Film {
        length_ms: 14_000,
        ..LONG_FILM
    });
    let (data, away) = (folder.path().join("data"), folder.path().join("away"));
    let viewer = Viewer::spawn(&node.url("vod/film"), PlayStart::At(0));
    viewer.wait_for(60, LIMIT);
    fs::rename(&data, &away).expect("it goes");
    // They may be there all the same, so nobody is told that they are not.
    assert_refused(&node.url("vod/other"), "NetStream.Play.Failed");
    // What is open is in memory, and goes on.
    assert_saw("who had it open", &viewer, &film);
    assert!(away.is_dir(), "the folder is still away");
    fs::rename(&away, &data).expect("it comes back");
    assert_plays(&node.url("vod/film"), &film);
}

#[test]
fn films_that_are_deleted_while_they_are_played() {
    let (mut node, folder, film) = cinema(&LONG_FILM);
    let films = folder.path().join("data/applications");
    let away = folder.path().join("away");
    let url = node.url("vod/film");
    let viewer = Viewer::spawn(&url, PlayStart::At(0));
    viewer.wait_for(60, LIMIT);
    fs::rename(&films, &away).expect("they go");
    wait_told(&viewer, "NetStream.Play.StreamNotFound");
    assert!(viewer.count() < film.len());
    assert_refused(&url, "NetStream.Play.StreamNotFound");
    fs::rename(&away, &films).expect("they come back");
    assert_plays(&url, &film);
}

/// A node with films in a store of others.
fn s3_cinema(of: &Film) -> (S3, Cluster, Vec<u8>, Vec<FrameId>) {
    let store = S3::start();
    let (bytes, frames) = film(of);
    for name in ["film.flv", "other.flv"] {
        store.put(&format!("{FILMS}/{name}"), &bytes);
    }
    let texts = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut plan = Plan {
        origins: 1,
        edges: 1,
        origin_flags: texts(&ORIGIN_FLAGS),
        edge_flags: texts(&EDGE_FLAGS),
        ..Plan::default()
    };
    plan.origin_flags.extend(store.flags());
    (store, Cluster::with(&plan), bytes, frames)
}

#[test]
fn a_bucket_that_hangs_for_a_while() {
    let (store, mut cluster, _, film) = s3_cinema(&FILM);
    let viewer = Viewer::spawn(&cluster.edges[0].url("vod/film"), PlayStart::At(0));
    viewer.wait_for(60, LIMIT);
    store.hang();
    assert_refused(&cluster.edges[0].url("vod/other"), "NetStream.Play.Failed");
    wait_stalled(&viewer, &film);
    store.go_on();
    assert_saw("who waited", &viewer, &film);
}

#[test]
fn a_bucket_that_dies_and_comes_back_empty() {
    let (mut store, mut cluster, bytes, film) = s3_cinema(&LONG_FILM);
    let url = cluster.url(0, "show");
    let live = Viewer::start(&url);
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    let film_url = cluster.edges[0].url("vod/film");
    let viewer = Viewer::spawn(&film_url, PlayStart::At(0));
    viewer.wait_for(60, LIMIT);

    store.kill();
    assert_refused(&cluster.edges[0].url("vod/other"), "NetStream.Play.Failed");
    let count = live.count();
    live.wait_for(count + 120, LIMIT);

    store.restart();
    wait_told(&viewer, "NetStream.Play.StreamNotFound");
    assert_refused(&film_url, "NetStream.Play.StreamNotFound");
    let sent = publisher.finish();
    live.wait_for_frame(sent.last().expect("frames").id, LIMIT);
    assert_no_loss("the live viewer", &sent, &live.received());
    let gap = longest_gap(&live.received(), Duration::ZERO);
    assert!(gap < GAP, "{gap:?}");

    until("it is seen that parts are lost", LIMIT, || {
        let log = cluster.origins[0].log_text();
        log.contains("the store has lost the parts of a recording")
    });

    store.put(&format!("{FILMS}/film.flv"), &bytes);
    let publisher = Publisher::start_as(&cluster.url(0, "next"), light(), PublishMode::Record);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    assert_plays(&film_url, &film);
    let sent = publisher.finish();
    let path = "applications/live/streams/_definst_/next.flv";
    let frames = eventually("the recording is there", LIMIT, || {
        store.object(path).map(|bytes| frames_in(&bytes))
    });
    assert_whole("the recording", &frames, &sent);
    for node in cluster.origins.iter_mut().chain(&mut cluster.edges) {
        assert!(node.is_running());
    }
}
