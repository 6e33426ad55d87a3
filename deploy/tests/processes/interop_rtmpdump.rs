//! rtmpdump, which is librtmp: plays with its own handshake, with and without what Flash Player would send.

use std::process::Command;
use std::time::Duration;

use crate::standalone::standalone;
use crate::support::media::{CLIP_SECONDS, assert_same, clip, tags_of};
use crate::support::tools::{Tool, ffmpeg_publish, has, rtmpdump};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(CLIP_SECONDS as u64 + 20);

#[test]
fn every_tag_arrives() {
    if !has("ffmpeg") || !has("rtmpdump") {
        return;
    }
    let clip = clip();
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/dumped");
    let dump = folder.path().join("dump.flv");
    let mut player = rtmpdump(&url, &dump);
    until("it waits", Duration::from_secs(10), || {
        node.metric("headwater_edge_viewers") >= 1.0
    });
    ffmpeg_publish(&clip, &url).succeed(LIMIT);
    player.finish(LIMIT);
    let (dumped, original) = (tags_of(&dump), tags_of(&clip));
    assert!(original["video"].len() > 100);
    for (kind, expected) in &original {
        let got = dumped.get(kind).map_or(&[][..], Vec::as_slice);
        assert_same(kind, got, expected);
    }
}

#[test]
fn flash_player_s_parameters_are_taken() {
    if !has("ffmpeg") || !has("rtmpdump") {
        return;
    }
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/flash");
    let mut publisher = ffmpeg_publish(&clip(), &url);
    until("it is published", Duration::from_secs(10), || {
        node.metric("headwater_edge_publishers") >= 1.0
    });
    let dump = folder.path().join("dump.flv");
    let address = node.address("rtmp");
    let mut player = Tool::spawn(
        Command::new("rtmpdump")
            .args([
                "--live",
                "--stop",
                "2",
                "--rtmp",
                &format!("rtmp://{address}"),
            ])
            .args(["--app", "live/_definst_", "--playpath", "flash?token=1"])
            .args(["--swfUrl", "http://example.org/player.swf"])
            .args([
                "--pageUrl",
                "http://example.org/",
                "--flashVer",
                "WIN 32,0,0,465",
            ])
            .args([
                "--conn",
                "B:1",
                "--conn",
                "O:1",
                "--conn",
                "NS:name:value",
                "--conn",
                "O:0",
            ])
            .args(["--subscribe", "flash", "--flv"])
            .arg(&dump),
    );
    player.finish(LIMIT);
    assert!(tags_of(&dump)["video"].len() > 20, "{}", player.said());
    publisher.succeed(LIMIT);
}
