//! ffmpeg publishes and plays, over RTMP and over RTMPS.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::standalone::standalone;
use crate::support::media::{CLIP_SECONDS, Packets, clip, packets_of};
use crate::support::node::{Node, run};
use crate::support::tools::{Tool, ffmpeg, ffmpeg_play_with, ffmpeg_publish, has};
use crate::support::wait::{pause, until};

const LIMIT: Duration = Duration::from_secs(CLIP_SECONDS as u64 + 20);

fn wait_for_viewers(node: &mut Node, count: usize) {
    until("the players wait", Duration::from_secs(15), || {
        node.metric("headwater_edge_viewers") >= count as f64
    });
}

#[test]
fn every_packet_arrives_over_rtmp() {
    if !has("ffmpeg") {
        return;
    }
    let clip = clip();
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/plain");
    let digests = folder.path().join("digests");
    let mut player = ffmpeg_play_with(&[], &url, &digests);
    wait_for_viewers(&mut node, 1);
    ffmpeg_publish(&clip, &url).succeed(LIMIT);
    player.succeed(LIMIT);
    Packets::read(&digests).assert_all_of(&packets_of(&clip), "the player");
}

#[test]
fn a_late_player_gets_the_rest_from_a_key_frame_on() {
    if !has("ffmpeg") {
        return;
    }
    let clip = clip();
    let (mut node, folder) = standalone(&[]);
    let url = node.url("live/late");
    let digests = folder.path().join("digests");
    let mut publisher = ffmpeg_publish(&clip, &url);
    until("it runs", Duration::from_secs(10), || {
        node.metric("headwater_edge_frames_published_total") > 100.0
    });
    let mut player = ffmpeg_play_with(&[], &url, &digests);
    publisher.succeed(LIMIT);
    player.succeed(LIMIT);
    Packets::read(&digests).assert_rest_of(&packets_of(&clip), 50, "the late player");
}

#[test]
fn ffprobe_sees_what_is_published() {
    if !has("ffmpeg") || !has("ffprobe") {
        return;
    }
    let (mut node, _folder) = standalone(&[]);
    let url = node.url("live/probed");
    let mut publisher = ffmpeg_publish(&clip(), &url);
    until("it is published", Duration::from_secs(10), || {
        node.metric("headwater_edge_publishers") >= 1.0
    });
    let mut probe = Tool::spawn(Command::new("ffprobe").args([
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,width,sample_rate",
        "-of",
        "csv=p=0",
        &url,
    ]));
    let said = probe.succeed(Duration::from_secs(15));
    assert!(said.contains("h264,320"), "{said}");
    assert!(said.contains("aac,44100"), "{said}");
    publisher.succeed(LIMIT);
}

/// A node with RTMPS, and the certificate of its authority.
fn with_rtmps(folder: &Path) -> (Node, tempfile::TempDir, String) {
    let certs = folder.join("certs").display().to_string();
    for command in [
        &["certs", "init", "--dir", &certs][..],
        &[
            "certs",
            "node",
            "edge",
            "--dir",
            &certs,
            "--name",
            "localhost",
            "--ip",
            "127.0.0.1",
        ],
    ] {
        let (code, _, log) = run(command);
        assert_eq!(code, 0, "{log}");
    }
    let file = |name: &str| format!("{certs}/{name}");
    let (node, data) = standalone(&[
        "--rtmps",
        "127.0.0.1:0",
        "--rtmps-certificate",
        &file("edge.pem"),
        "--rtmps-key",
        &file("edge-key.pem"),
    ]);
    (node, data, file("ca.pem"))
}

#[test]
fn every_packet_arrives_over_rtmps() {
    if !has("ffmpeg") {
        return;
    }
    let clip = clip();
    let folder = tempfile::tempdir().expect("a folder");
    let (mut node, _data, authority) = with_rtmps(folder.path());
    let url = format!(
        "rtmps://127.0.0.1:{}/live/secret",
        node.address("rtmps").port()
    );
    let digests = folder.path().join("digests");
    let mut player = ffmpeg_play_with(&["-tls_verify", "0"], &url, &digests);
    wait_for_viewers(&mut node, 1);
    let mut publisher = Tool::spawn(ffmpeg().args(["-re", "-i"]).arg(&clip).args([
        "-c",
        "copy",
        "-f",
        "flv",
        "-flvflags",
        "no_duration_filesize",
        "-tls_verify",
        "1",
        "-ca_file",
        &authority,
        &url,
    ]));
    publisher.succeed(LIMIT);
    player.succeed(LIMIT);
    Packets::read(&digests).assert_all_of(&packets_of(&clip), "the player");
}

#[test]
fn a_renewed_certificate_is_taken_without_disconnecting_anyone() {
    if !has("ffmpeg") || !has("openssl") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (mut node, _data, _) = with_rtmps(folder.path());
    let address = node.address("rtmps").to_string();
    let url = format!("rtmps://{address}/live/renewed");
    let mut publisher = ffmpeg_publish(&clip(), &url);
    until("it is published", Duration::from_secs(10), || {
        node.metric("headwater_edge_publishers") >= 1.0
    });
    let serial = || {
        let command = format!(
            "openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial"
        );
        let mut shown = Tool::spawn(Command::new("sh").args(["-c", &command]));
        shown.succeed(Duration::from_secs(10))
    };
    let before = serial();
    let certs = folder.path().join("certs").display().to_string();
    let (code, _, log) = run([
        "certs",
        "node",
        "edge",
        "--dir",
        &certs,
        "--ip",
        "127.0.0.1",
        "--force",
    ]);
    assert_eq!(code, 0, "{log}");
    node.reload();
    until(
        "the new certificate is shown",
        Duration::from_secs(10),
        || serial() != before,
    );
    assert!(publisher.is_running());
    publisher.succeed(LIMIT);
}

#[test]
fn an_interrupted_publisher_leaves_no_trace() {
    if !has("ffmpeg") {
        return;
    }
    let (mut node, _folder) = standalone(&[]);
    let mut publisher = ffmpeg_publish(&clip(), &node.url("live/interrupted"));
    until("it is published", Duration::from_secs(10), || {
        node.metric("headwater_edge_publishers") >= 1.0
    });
    pause(Duration::from_millis(500));
    publisher.interrupt();
    publisher.finish(Duration::from_secs(10));
    until("it is gone", Duration::from_secs(10), || {
        node.metric("headwater_edge_publishers") == 0.0
            && node.metric("headwater_edge_connections") == 0.0
    });
}
