//! GStreamer's own RTMP elements publish and play.

use std::process::Command;
use std::time::Duration;

use crate::standalone::standalone;
use crate::support::media::{CLIP_SECONDS, Packets, clip, packets_of, tags_of};
use crate::support::tools::{Tool, ffmpeg_play, ffmpeg_publish, has, has_element};
use crate::support::wait::{pause, until};

const LIMIT: Duration = Duration::from_secs(CLIP_SECONDS as u64 + 30);

#[test]
fn rtmp2sink_publishes_what_ffmpeg_plays() {
    if !has("ffmpeg") || !has("gst-launch-1.0") || !has_element("rtmp2sink") {
        return;
    }
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/sink");
    let digests = folder.path().join("digests");
    let mut player = ffmpeg_play(&url, &digests);
    until("the player waits", Duration::from_secs(10), || {
        node.metric("headwater_edge_viewers") >= 1.0
    });
    let clip = clip();
    let location = format!("location={}", clip.display());
    let sink = format!("location={url}");
    let mut publisher = Tool::spawn(
        Command::new("gst-launch-1.0")
            .args(["-q", "filesrc", &location, "!", "flvdemux", "name=in"])
            .args(["in.video", "!", "queue", "!", "h264parse", "!", "mux."])
            .args(["in.audio", "!", "queue", "!", "aacparse", "!", "mux."])
            .args(["flvmux", "name=mux", "streamable=true", "!"])
            .args(["rtmp2sink", &sink, "sync=true"]),
    );
    publisher.succeed(LIMIT);
    player.succeed(LIMIT);
    // GStreamer writes the tags anew, but leaves the pictures and the sound as they are.
    let (played, original) = (Packets::read(&digests), packets_of(&clip));
    played.assert_all_of(&original, "ffmpeg");
}

#[test]
fn rtmp2src_plays_what_ffmpeg_publishes() {
    if !has("ffmpeg") || !has("gst-launch-1.0") || !has_element("rtmp2src") {
        return;
    }
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/src");
    let dump = folder.path().join("dump.flv");
    let (source, sink) = (
        format!("location={url}"),
        format!("location={}", dump.display()),
    );
    let mut player = Tool::spawn(
        Command::new("gst-launch-1.0")
            .args(["-q", "-e", "rtmp2src", &source, "!", "filesink", &sink]),
    );
    until("the player waits", Duration::from_secs(10), || {
        node.metric("headwater_edge_viewers") >= 1.0
    });
    ffmpeg_publish(&clip(), &url).succeed(LIMIT);
    // It may take the end of the stream for a pause.
    pause(Duration::from_millis(500));
    if player.is_running() {
        player.interrupt();
    }
    player.finish(LIMIT);
    let (played, original) = (tags_of(&dump), tags_of(&clip()));
    for (kind, expected) in &original {
        let got = played.get(kind).map_or(&[][..], Vec::as_slice);
        // A file sink may be cut within its last tags.
        assert!(
            got.len() + 10 >= expected.len(),
            "{kind}: {} of {}",
            got.len(),
            expected.len()
        );
        crate::support::media::assert_same(kind, got, &expected[..got.len().min(expected.len())]);
    }
}
