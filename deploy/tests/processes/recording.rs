//! Streams that are recorded: one playable file in the end, with every frame that was published.

use std::time::Duration;

use headwater_rtmp::command::PublishMode;

use crate::a_cluster_carries_live_streams::light;
use crate::standalone::standalone;
use crate::support::client::{Publisher, Viewer};
use crate::support::recorded::{
    assert_playable, assert_whole, duration_of, file_of, sought, wait_frames, wait_recorded,
};
use crate::support::tools::has;
use crate::support::wait::{holds_for, pause, until};

/// How long a short show is.
const SHOW: Duration = Duration::from_secs(4);

/// How long the server may take to begin to record.
const LIMIT: Duration = Duration::from_secs(10);

/// Publishes for a while, and gives what was sent.
fn publish(
    url: &str,
    seed: u64,
    mode: PublishMode,
    time: Duration,
) -> Vec<crate::support::client::Sent> {
    let settings = headwater_media::synthetic::Settings { seed, ..light() };
    let publisher = Publisher::start_as(url, settings, mode);
    publisher.wait_status("NetStream.Record.Start", LIMIT);
    pause(time);
    publisher.finish()
}

#[test]
fn what_was_published_is_in_one_file_that_programs_seek_in() {
    if !has("ffmpeg") || !has("ffprobe") {
        return;
    }
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/show");
    let viewer = Viewer::start(&url);
    let sent = publish(&url, 1, PublishMode::Record, SHOW);
    let file = file_of(&folder.path().join("data"), "show.flv");
    let recorded = wait_recorded(&file);
    assert_whole("the file", &recorded, &sent);
    // Recording takes nothing from viewers.
    viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);

    assert_playable(&file);
    let length = f64::from(recorded.last().expect("frames").timestamp) / 1_000.0;
    let told = duration_of(&file);
    assert!((told - length).abs() < 0.1, "{told} s instead of {length}");
    // A key frame each half second.
    for at in [0.7, 1.2, 2.9] {
        let found = sought(&file, at);
        assert!(found <= at && at - found < 0.6, "{found} for {at}");
    }
}

#[test]
fn what_is_appended_goes_on_on_the_same_timeline() {
    if !has("ffmpeg") || !has("ffprobe") {
        return;
    }
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/show");
    let file = file_of(&folder.path().join("data"), "show.flv");
    let mut sent = publish(&url, 1, PublishMode::Append, SHOW);
    // Once while the file is not there yet, maybe, and once when it surely is.
    sent.extend(publish(&url, 2, PublishMode::Append, SHOW / 2));
    wait_frames(&file, sent.len());
    sent.extend(publish(&url, 3, PublishMode::Append, SHOW / 2));
    let recorded = wait_frames(&file, sent.len());
    assert_whole("the file", &recorded, &sent);
    assert_playable(&file);
    let told = duration_of(&file);
    assert!((7.0..10.0).contains(&told), "{told} s");
    let longest = recorded
        .windows(2)
        .map(|pair| pair[1].timestamp - pair[0].timestamp)
        .max();
    assert!(longest < Some(500), "a gap of {longest:?} ms");
}

#[test]
fn recording_anew_replaces_the_file_only_when_there_is_something_to_record() {
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/show");
    let file = file_of(&folder.path().join("data"), "show.flv");
    let first = publish(&url, 1, PublishMode::Record, SHOW / 2);
    assert_whole("the first file", &wait_recorded(&file), &first);

    // A publisher that sends nothing.
    let (idle, _) = crate::support::steered::Steered::publish_as(&url, PublishMode::Record);
    holds_for("the file stays", Duration::from_secs(2), || file.is_file());
    drop(idle);
    holds_for("the file stays", Duration::from_secs(1), || file.is_file());
    assert_whole("the first file, still", &wait_recorded(&file), &first);

    let second = publish(&url, 2, PublishMode::Record, SHOW / 2);
    let id = second.last().expect("frames").id;
    until("the file is the new one", Duration::from_secs(20), || {
        let frames = wait_recorded(&file);
        frames.last().is_some_and(|frame| frame.id == id)
    });
    assert_whole("the second file", &wait_recorded(&file), &second);
}

#[test]
fn an_mp4_name_makes_an_mp4_file() {
    if !has("ffmpeg") || !has("ffprobe") {
        return;
    }
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/mp4:show.f4v");
    let sent = publish(&url, 1, PublishMode::Record, SHOW);
    let file = file_of(&folder.path().join("data"), "show.f4v");
    until("the file is there", Duration::from_secs(30), || {
        file.is_file()
    });
    assert_playable(&file);
    let told = duration_of(&file);
    assert!((3.0..8.0).contains(&told), "{told} s");
    let pictures = sent
        .iter()
        .filter(|frame| frame.id.kind == headwater_media::frame::FrameKind::Video)
        .count();
    let said = crate::support::tools::Tool::spawn(
        std::process::Command::new("ffprobe")
            .args(["-v", "error", "-select_streams", "v", "-count_packets"])
            .args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"])
            .arg(&file),
    )
    .succeed(LIMIT);
    assert_eq!(said.trim().trim_end_matches(','), pictures.to_string());
    let found = sought(&file, 2.2);
    assert!(found <= 2.2, "{found}");
}

#[test]
fn a_folder_that_cannot_be_written_to_does_not_stop_the_live_stream() {
    let (mut node, folder) = standalone(&[]);
    // A file where the folder of the recordings would be: holds for root, too.
    let data = folder.path().join("data");
    let place = data.join("applications/live/streams/_definst_");
    std::fs::create_dir_all(place.parent().expect("a parent")).expect("folders");
    std::fs::write(&place, "in the way").expect("a file");
    let url = node.url("live/show");
    let viewer = Viewer::start(&url);
    let publisher = Publisher::start_as(&url, light(), PublishMode::Record);
    pause(SHOW);
    let failed = |publisher: &Publisher| {
        publisher
            .statuses()
            .iter()
            .any(|code| code == "NetStream.Record.NoAccess" || code == "NetStream.Record.Failed")
    };
    let before = viewer.count();
    viewer.wait_for(before + 60, LIMIT);
    let sent = {
        until("it is told", Duration::from_secs(20), || failed(&publisher));
        publisher.finish()
    };
    viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);
    assert!(node.is_running());
}
