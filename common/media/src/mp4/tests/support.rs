//! Files for tests, made by ffmpeg or box by box, and what ffprobe says of them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::file::{FileError, FileFrame, FilePiece, Grid, MediaFile, ReadAt};
use crate::frame::{FrameFlags, FrameKind};
use crate::mp4::Mp4File;

/// Two seconds of a test picture and a tone.
pub(in crate::mp4) const PICTURE: &str = "testsrc=size=160x120:rate=25:duration=2";
pub(in crate::mp4) const TONE: &str = "sine=frequency=440:sample_rate=44100:duration=2";

/// H.264 with B-frames and a key frame every half second, and AAC.
pub(in crate::mp4) const AVC: &[&str] = &[
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-bf",
    "2",
    "-g",
    "12",
    "-pix_fmt",
    "yuv420p",
];
pub(in crate::mp4) const AAC: &[&str] = &["-c:a", "aac", "-b:a", "48k"];

/// Runs ffmpeg with these arguments, and gives what it wrote to a file of this name.
pub(in crate::mp4) fn ffmpeg(groups: &[&[&str]], name: &str) -> Bytes {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(groups.concat())
        .arg(&path)
        .status()
        .expect("ffmpeg runs");
    assert!(status.success(), "ffmpeg {groups:?}");
    std::fs::read(&path).expect("a file").into()
}

/// Picture and tone, encoded with these arguments.
pub(in crate::mp4) fn both(arguments: &[&[&str]], name: &str) -> Bytes {
    let inputs: &[&str] = &["-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", TONE];
    let groups: Vec<&[&str]> = std::iter::once(inputs)
        .chain(arguments.iter().copied())
        .collect();
    ffmpeg(&groups, name)
}

/// A packet as ffprobe sees it.
#[derive(Clone, Debug)]
pub(in crate::mp4) struct Packet {
    pub(in crate::mp4) kind: FrameKind,
    pub(in crate::mp4) dts: f64,
    pub(in crate::mp4) pts: f64,
    pub(in crate::mp4) is_key: bool,
    pub(in crate::mp4) size: usize,
    pub(in crate::mp4) crc: u32,
}

/// The audio and video packets of a file.
pub(in crate::mp4) fn probe(file: &Bytes, name: &str) -> Vec<Packet> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, file).expect("a file");
    probe_path(&path)
}

pub(in crate::mp4) fn probe_path(path: &Path) -> Vec<Packet> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-show_data_hash", "CRC32"])
        .args(["-of", "compact=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    // Side data stand on a line of their own.
    let text = String::from_utf8(out.stdout)
        .expect("text")
        .replace("\n|", "|");
    text.lines()
        .filter_map(|line| {
            let field = |name: &str| {
                line.split('|')
                    .find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
            };
            let kind = match field("codec_type")? {
                "video" => FrameKind::Video,
                "audio" => FrameKind::Audio,
                _ => return None,
            };
            let number = |name| field(name)?.parse::<f64>().ok();
            let pts = number("pts_time").expect("a presentation time");
            Some(Packet {
                kind,
                dts: number("dts_time").unwrap_or(pts),
                pts,
                is_key: field("flags")?.starts_with('K'),
                size: field("size")?.parse().expect("a size"),
                crc: u32::from_str_radix(field("data_hash")?.strip_prefix("CRC32:")?, 16)
                    .expect("a hash"),
            })
        })
        .collect()
}

pub(in crate::mp4) fn open(file: &Bytes) -> Result<Mp4File, FileError> {
    open_with(file, Grid::default())
}

pub(in crate::mp4) fn open_with(file: &Bytes, grid: Grid) -> Result<Mp4File, FileError> {
    Mp4File::open(Arc::new(file.clone()), grid)
}

/// All pieces, from the first to the last.
pub(in crate::mp4) fn pieces(file: &dyn MediaFile) -> Result<Vec<FilePiece>, FileError> {
    let first = file.piece_at_time(0)?;
    let mut at = match first.frames.first() {
        // The first piece may end before a decoder can start.
        Some(_) => Some(first_position(file)?),
        None => return Ok(vec![first]),
    };
    let mut found = Vec::new();
    while let Some(position) = at {
        let piece = file.piece_at(position)?;
        at = piece.next;
        found.push(piece);
    }
    Ok(found)
}

/// Where the first piece begins: not always at 0, as an edit list may have cut off samples.
fn first_position(file: &dyn MediaFile) -> Result<u64, FileError> {
    let known = file.piece_at_time(0)?.first;
    let first = (0..known).find(|position| file.piece_at(*position).is_ok());
    Ok(first.unwrap_or(known))
}

pub(in crate::mp4) fn frames(file: &Bytes) -> Vec<FileFrame> {
    let file = open(file).expect("a file");
    pieces(&file)
        .expect("all pieces")
        .into_iter()
        .flat_map(|piece| piece.frames)
        .collect()
}

/// What a decoder gets of a frame, and the composition time in milliseconds.
pub(in crate::mp4) fn unwrap(frame: &FileFrame) -> (Bytes, i64) {
    let body = &frame.payload;
    let composition =
        |at: usize| i64::from(i32::from_be_bytes([body[at], body[at + 1], body[at + 2], 0]) >> 8);
    match (frame.kind, body[0] & 0x8f) {
        (FrameKind::Video, 7) => (body.slice(5..), composition(2)),
        (FrameKind::Video, 0x81) => {
            assert_eq!(&body[1..5], b"hvc1");
            (body.slice(8..), composition(5))
        }
        (FrameKind::Video, 0x83) => {
            assert_eq!(&body[1..5], b"hvc1");
            (body.slice(5..), 0)
        }
        _ if body[0] >> 4 == 10 => (body.slice(2..), 0),
        _ => (body.slice(1..), 0),
    }
}

/// Every packet is there once, in order, with its time and its data.
pub(in crate::mp4) fn compare(file: &Bytes, name: &str) {
    let expected = probe(file, name);
    compare_with(&frames(file), &expected, name);
}

pub(in crate::mp4) fn compare_with(frames: &[FileFrame], expected: &[Packet], name: &str) {
    assert!(!expected.is_empty(), "{name}");
    let start = expected
        .iter()
        .map(|packet| packet.dts)
        .fold(f64::INFINITY, f64::min);
    for kind in [FrameKind::Video, FrameKind::Audio] {
        let expected: Vec<_> = expected
            .iter()
            .filter(|packet| packet.kind == kind)
            .collect();
        let found: Vec<_> = frames.iter().filter(|frame| frame.kind == kind).collect();
        assert_eq!(found.len(), expected.len(), "{name}: {kind:?}");
        for (number, (frame, packet)) in found.iter().zip(expected).enumerate() {
            let (data, composition) = unwrap(frame);
            let context = format!(
                "{name}: {kind:?} {number}, {packet:?}, at {}",
                frame.timestamp
            );
            assert_eq!(data.len(), packet.size, "{context}");
            assert_eq!(crc32fast::hash(&data), packet.crc, "{context}");
            let dts = frame.timestamp as f64;
            let close = |ours: f64, theirs: f64| (ours - (theirs - start) * 1_000.0).abs() <= 1.01;
            assert!(close(dts, packet.dts), "{context}");
            assert!(
                close(dts + composition as f64, packet.pts),
                "{context}, {composition}"
            );
            if kind == FrameKind::Video {
                assert_eq!(
                    frame.flags.contains(FrameFlags::KEY),
                    packet.is_key,
                    "{context}"
                );
            }
        }
    }
    let times: Vec<_> = frames.iter().map(|frame| frame.timestamp).collect();
    assert!(times.is_sorted(), "{name}");
    let positions = frames.iter().map(|frame| frame.position);
    assert!(
        positions.is_sorted_by(|before, after| before < after),
        "{name}"
    );
}

/// Counts what is read.
pub(in crate::mp4) struct Counting {
    pub(in crate::mp4) bytes: Bytes,
    pub(in crate::mp4) read: Arc<AtomicU64>,
}

impl ReadAt for Counting {
    fn length(&self) -> u64 {
        self.bytes.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, length)
    }
}
