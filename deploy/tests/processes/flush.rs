//! Sends are what viewers cost: frames leave together where nobody notices, and as late as an application says.

use std::time::Duration;

use headwater_media::synthetic::Settings;

use crate::standalone::standalone;
use crate::support::client::{Publisher, Viewer};
use crate::support::judge::assert_no_loss;

/// Pictures and sounds of the usual kind: 30 and 47 messages a second.
fn usual() -> Settings {
    Settings {
        video_bitrate: 300_000,
        ..Settings::default()
    }
}

/// Frames for each send, over three seconds of a stream that one viewer sees all of.
fn frames_per_send(flags: &[&str]) -> f64 {
    let (mut node, _folder) = standalone(flags);
    let url = node.url("live/show");
    let publisher = Publisher::start(&url, usual());
    let viewer = Viewer::start(&url);
    viewer.wait_for(77, Duration::from_secs(15));
    let [frames, sends] =
        ["frames_sent", "sends"].map(|name| format!("headwater_edge_{name}_total"));
    let before = [node.metric(&frames), node.metric(&sends)];
    viewer.wait_for(viewer.count() + 3 * 77, Duration::from_secs(15));
    let after = [node.metric(&frames), node.metric(&sends)];
    let sent = publisher.finish();
    viewer.wait_for_frame(sent.last().expect("frames").id, Duration::from_secs(5));
    assert_no_loss("the viewer", &sent, &viewer.received());
    (after[0] - before[0]) / (after[1] - before[1])
}

// A machine that is busy only makes frames wait longer, so these bounds hold on any.

#[test]
fn sound_goes_with_the_picture() {
    let ratio = frames_per_send(&[]);
    assert!(ratio > 2.0, "{ratio:.1} frames a send");
}

#[test]
fn an_application_has_its_frames_wait_for_each_other() {
    let ratio = frames_per_send(&["--set", "applications.live.flush_ms=350"]);
    assert!(ratio > 15.0, "{ratio:.1} frames a send");
}
