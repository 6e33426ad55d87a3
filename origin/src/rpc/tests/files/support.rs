//! ffmpeg, ffprobe, and the bodies of messages.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use headwater_proto::v1::{Frame, FrameKind};

use super::Bench;

/// Where the files of the streams are.
pub(super) fn folder(bench: &Bench) -> PathBuf {
    let data = bench.nodes["a"].data.path();
    let folder = data.join("applications/live/streams/_definst_");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Makes a file.
pub(super) fn ffmpeg(arguments: &[&[&str]], path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments.concat())
        .arg(path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success(), "ffmpeg {arguments:?}");
}

/// A packet as ffprobe sees it.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: FrameKind,
    /// Seconds.
    pub(super) dts: f64,
    pub(super) is_key: bool,
    pub(super) crc: u32,
}

/// The audio and video packets of a file.
pub(super) fn probe(path: &Path) -> Vec<Packet> {
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-show_data_hash", "CRC32"])
        .args(["-of", "compact=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(probed.status.success(), "{path:?}");
    // Side data stand on lines of their own.
    let text = String::from_utf8(probed.stdout)
        .unwrap()
        .replace("\n|", "|");
    let packets = text.lines().filter_map(|line| {
        let field = |name: &str| {
            let fields = line.split('|');
            let value =
                |field: &'_ str| Some(field.strip_prefix(name)?.strip_prefix('=')?.to_owned());
            fields.filter_map(value).next()
        };
        let kind = match field("codec_type")?.as_str() {
            "video" => FrameKind::Video,
            "audio" => FrameKind::Audio,
            _ => return None,
        };
        let number = |name| field(name)?.parse::<f64>().ok();
        Some(Packet {
            kind,
            dts: number("dts_time").or_else(|| number("pts_time")).unwrap(),
            is_key: field("flags")?.starts_with('K'),
            crc: u32::from_str_radix(field("data_hash")?.strip_prefix("CRC32:")?, 16).unwrap(),
        })
    });
    packets.collect()
}

/// What a decoder gets of a frame.
pub(super) fn data(frame: &Frame) -> Bytes {
    let body = &frame.payload;
    let head = match (frame.kind(), body[0]) {
        (FrameKind::Video, first) if first & 0x80 == 0 => match first & 0x0f {
            7 => 5,
            _ => 1,
        },
        // Enhanced RTMP: coded frames with a composition time, and without.
        (FrameKind::Video, first) if first & 0x0f == 1 => 8,
        (FrameKind::Video, _) => 5,
        (_, first) if first >> 4 == 10 => 2,
        _ => 1,
    };
    body.slice(head..)
}
