//! A disk that is really full while streams are recorded on it, or has no room for the file that a recording is to become: the
//! publisher is told, viewers notice nothing, what was stored until then stays, and everything works again once there is room.

use std::path::PathBuf;
use std::time::Duration;

use headwater_media::synthetic::Settings;
use headwater_rtmp::command::{PlayStart, PublishMode};

use crate::a_cluster_carries_live_streams::light;
use crate::support::client::{Publisher, Viewer};
use crate::support::judge::{assert_no_loss, longest_gap};
use crate::support::node::Node;
use crate::support::recorded::{
    assert_beginning, assert_playable, assert_whole, file_of, wait_frames, wait_recorded,
};
use crate::support::tools::has;
use crate::support::volume::Volume;
use crate::support::wait::{pause, until};

const MIB: u64 = 1 << 20;

/// How long the server may take to tell a publisher something.
const LIMIT: Duration = Duration::from_secs(10);

/// How long a viewer may wait for the next frame: much longer than it takes on a busy machine.
const GAP: Duration = Duration::from_secs(2);

/// A standalone node whose data is on a disk of its own.
pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) disk: Volume,
}

impl Stage {
    pub(crate) fn start(bytes: u64, min_free: u64) -> Option<Self> {
        let disk = Volume::make(bytes)?;
        let data = disk.inside().join("data").display().to_string();
        let min_free = format!("origin.recording.min_free_bytes={min_free}");
        let arguments = [
            "--rtmp",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data",
            &data,
            "--set",
            &min_free,
            "--set",
            "origin.recording.parts_linger_ms=500",
        ];
        let node = Node::start_within(&disk.wrapper(), "standalone", arguments);
        Some(Self { node, disk })
    }

    fn url(&mut self, name: &str) -> String {
        self.node.url(&format!("live/{name}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        file_of(&self.disk.path().join("data"), &format!("{name}.flv"))
    }

    /// Begins to record a stream.
    fn record(&mut self, name: &str, settings: Settings) -> Publisher {
        let publisher = Publisher::start_as(&self.url(name), settings, PublishMode::Record);
        publisher.wait_status("NetStream.Record.Start", LIMIT);
        publisher
    }

    /// A recording from its beginning to the file.
    fn assert_records(&mut self, name: &str) {
        let publisher = self.record(name, Settings { seed: 9, ..light() });
        pause(Duration::from_secs(2));
        let sent = publisher.finish();
        let file = self.file(name);
        assert_whole(name, &wait_frames(&file, sent.len()), &sent);
    }
}

/// A recording on a disk on which all but `leave` bytes are taken in the middle of it, where `min_free` are to be free.
fn fill_while_recording(min_free: u64, leave: u64) {
    if !has("ffmpeg") {
        return;
    }
    let Some(mut stage) = Stage::start(64 * MIB, min_free) else {
        return;
    };
    let url = stage.url("show");
    let viewer = Viewer::start(&url);
    let publisher = stage.record("show", light());
    pause(Duration::from_secs(2));
    let stored = publisher.count();
    stage.disk.fill(leave);
    publisher.wait_status("NetStream.Record.Failed", LIMIT);
    let failed = publisher.count();

    // Who begins now is refused, and is live all the same.
    let refused = Publisher::start_as(&stage.url("refused"), light(), PublishMode::Record);
    refused.wait_status("NetStream.Record.Failed", LIMIT);
    let watching = Viewer::start(&stage.url("refused"));
    watching.wait_for(60, LIMIT);
    drop(watching);
    refused.finish();

    // What is stored is played from the beginning.
    let late = Viewer::spawn(&url, PlayStart::At(0));
    late.wait_for(60, LIMIT);
    drop(late);

    // The stream goes on, and the node does not work itself to death meanwhile.
    let (before, count) = (stage.node.processor_time(), viewer.count());
    let time = Duration::from_secs(2);
    pause(time);
    let used = stage.node.processor_time() - before;
    println!("the node used {used:?} in {time:?}");
    assert!(used < time / 2, "{used:?} in {time:?}");
    assert!(viewer.count() > count + 40, "{} frames", viewer.count());
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);
    assert_no_loss("the viewer", &sent, &viewer.received());
    let gap = longest_gap(&viewer.received(), Duration::ZERO);
    assert!(gap < GAP, "{gap:?}");

    stage.disk.clear();
    let file = stage.file("show");
    let count = assert_beginning("the file", &wait_recorded(&file), &sent);
    // What came in the last moments before is lost with the room for it, at most.
    println!("{count} frames of {stored} to {failed} when it failed");
    assert!(count + 120 > stored, "{count} frames of {stored}");
    assert_playable(&file);
    stage.assert_records("refused");
    assert!(stage.node.is_running());
}

#[test]
fn to_the_last_byte() {
    fill_while_recording(0, 0);
}

#[test]
fn but_for_what_is_to_be_free() {
    fill_while_recording(16 * MIB, 12 * MIB);
}

#[test]
fn a_file_that_does_not_fit_waits_for_room_and_takes_none_from_others() {
    if !has("ffmpeg") {
        return;
    }
    let Some(mut stage) = Stage::start(64 * MIB, 0) else {
        return;
    };
    // The journal, the parts and the file have about seven megabytes each, and the disk has no room for all of them.
    stage.disk.fill(18 * MIB);
    let large = Settings {
        video_bitrate: 12_000_000,
        ..light()
    };
    let other = stage.record("other", Settings { seed: 2, ..light() });
    let publisher = stage.record("large", large);
    pause(Duration::from_secs(4));
    let sent = publisher.finish();
    until("it does not fit", Duration::from_secs(30), || {
        stage
            .node
            .metric("headwater_recording_compose_errors_total")
            >= 1.0
    });
    // Seen before anything is written.
    let log = stage.node.log_text();
    assert!(log.contains("a file of "), "{log}");
    // It is played as it is.
    let viewer = Viewer::spawn(&stage.url("large"), PlayStart::At(0));
    viewer.wait_for_frame(sent.last().expect("frames").id, LIMIT);
    drop(viewer);
    // Tried again meanwhile.
    pause(Duration::from_secs(2));
    assert!(!stage.file("large").exists());
    let failed = "NetStream.Record.Failed";
    let statuses = other.statuses();
    assert!(!statuses.iter().any(|it| it == failed), "{statuses:?}");

    stage.disk.clear();
    let file = stage.file("large");
    assert_whole("the large file", &wait_recorded(&file), &sent);
    assert_playable(&file);
    let sent = other.finish();
    let recorded = wait_frames(&stage.file("other"), sent.len());
    assert_whole("the other file", &recorded, &sent);
}
