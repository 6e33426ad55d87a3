use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use headwater_amf::{Properties, Value, amf0};
use proptest::prelude::*;

use super::*;
use crate::file::{FileFrame, Grid, MediaFile, ReadAt};
use crate::flv::{FlvEvent, FlvFile, FlvReader, Tag};
use crate::inspect::inspect;
use crate::synthetic::{Settings, SyntheticStream, set_data_frame};

/// Timestamp, kind, payload.
type Given = (u64, FrameKind, Bytes);

fn compose(frames: &[Given], base: u64) -> (Plan, Bytes) {
    let mut planner = Planner::new(base);
    for (timestamp, kind, payload) in frames {
        let flags = inspect(*kind, payload).flags;
        let summary = Summary::new(*timestamp, *kind, flags, payload);
        planner.add(&summary).expect("it can be planned");
    }
    let plan = planner.finish();
    let mut file = Vec::new();
    let mut writer = plan.writer(&mut file);
    for (timestamp, kind, payload) in frames {
        let flags = inspect(*kind, payload).flags;
        writer
            .frame(*timestamp, *kind, flags, payload, &mut file)
            .expect("it can be written");
    }
    writer.finish().expect("all was written");
    assert_eq!(file.len() as u64, plan.size());
    (plan, file.into())
}

fn tags(bytes: &[u8]) -> Vec<Tag> {
    let mut reader = FlvReader::new(MAX_TAG_BODY);
    reader.feed(bytes);
    let mut tags = Vec::new();
    while let Some(event) = reader.poll().expect("it is FLV") {
        if let FlvEvent::Tag(tag) = event {
            tags.push(tag);
        }
    }
    reader.finish().expect("it ends with a tag");
    tags
}

fn described(file: &[u8]) -> Properties {
    metadata::properties(&tags(file)[0].body).expect("it begins with metadata")
}

fn number(properties: &Properties, name: &str) -> Option<f64> {
    properties.get(name).and_then(Value::as_number)
}

/// Some seconds of 25 pictures each, a key frame every 12, from `start` on.
fn recorded(frames: usize, start: u64) -> Vec<Given> {
    recorded_with(12, frames, start)
}

fn recorded_with(gop: u32, frames: usize, start: u64) -> Vec<Given> {
    let mut stream = SyntheticStream::new(Settings {
        video_bitrate: 80_000,
        fps: 25,
        gop,
        ..Settings::default()
    })
    .expect("the settings are right");
    (0..frames)
        .map(|_| stream.next_frame(0))
        .map(|frame| (start + frame.timestamp, frame.kind, frame.payload))
        .collect()
}

fn walk(file: &FlvFile) -> Vec<FileFrame> {
    let mut piece = file.piece_at_time(0).expect("a piece");
    let mut frames = Vec::new();
    loop {
        frames.append(&mut piece.frames);
        let Some(next) = piece.next else {
            return frames;
        };
        piece = file.piece_at(next).expect("a piece");
    }
}

/// A file that goes away.
struct OnDisk(PathBuf);

impl OnDisk {
    fn new(bytes: &[u8]) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("headwater-compose-{}-{number}.flv", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("it can be written");
        Self(path)
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a program prints of a file; it must not complain.
fn output(program: &str, before: &str, file: &Path, after: &str) -> String {
    let output = Command::new(program)
        .args(["-v", "error"])
        .args(before.split_whitespace())
        .arg("-i")
        .arg(file)
        .args(after.split_whitespace())
        .output()
        .expect("it runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn ffmpeg_plays_it_and_seeks_in_it() {
    plays_and_seeks(12, 370);
}

/// Key frames at whole seconds are listed in a way that ffmpeg looks at.
#[test]
fn ffmpeg_seeks_by_the_table() {
    plays_and_seeks(25, 490);
}

fn plays_and_seeks(gop: u32, every_ms: usize) {
    let frames = recorded_with(gop, 700, 7_200_000);
    let (plan, bytes) = compose(&frames, 7_200_000);
    let file = OnDisk::new(&bytes);
    output("ffmpeg", "", &file.0, "-f null -");

    let duration = output(
        "ffprobe",
        "",
        &file.0,
        "-show_entries format=duration -of csv=p=0",
    );
    let duration: f64 = duration.trim().parse().expect("seconds");
    assert!(
        (duration * 1_000.0 - plan.duration_ms() as f64).abs() < 1.0,
        "{duration}"
    );
    let last = frames.iter().map(|frame| frame.0).max().expect("frames") - 7_200_000;
    assert!(
        (last + 20..last + 60).contains(&plan.duration_ms()),
        "{}",
        plan.duration_ms()
    );

    let keys: Vec<u64> = frames
        .iter()
        .filter(|(_, kind, payload)| inspect(*kind, payload).flags.contains(FrameFlags::KEY))
        .map(|frame| frame.0 - 7_200_000)
        .collect();
    assert!(keys.len() > 8);
    let is_seen = keys.iter().all(|key| key % 1_000 == 0);
    let table = described(&bytes);
    let table = table.get(metadata::KEYFRAMES).expect("a table");
    assert_eq!(matches!(table, Value::Object(_)), is_seen);
    for ms in (0..last).step_by(every_ms) {
        let seek = format!("-nostdin -ss {}.{:03}", ms / 1_000, ms % 1_000);
        let packets = output(
            "ffmpeg",
            &seek,
            &file.0,
            "-an -c copy -copyts -frames:v 1 -f framecrc -",
        );
        let packet = packets
            .lines()
            .find(|line| !line.starts_with('#'))
            .expect("a packet");
        let dts: u64 = packet
            .split(',')
            .nth(1)
            .expect("a time")
            .trim()
            .parse()
            .expect("a number");
        let expected = keys.iter().rfind(|key| **key <= ms).expect("a key frame");
        assert_eq!(dts, *expected, "at {ms}");
    }
}

#[test]
fn what_is_composed_is_read_again() {
    let frames = recorded(300, 500);
    let (plan, bytes) = compose(&frames, 500);
    let file = FlvFile::open(Arc::new(bytes), Grid::default()).expect("it opens");
    assert_eq!(file.info().duration_ms, plan.duration_ms());
    assert!(file.info().has_audio && file.info().has_video);
    let read = walk(&file);
    let media = |kind: FrameKind| kind != FrameKind::Data;
    let expected: Vec<(u64, &Bytes)> = frames
        .iter()
        .filter(|frame| media(frame.1))
        .map(|frame| (frame.0 - 500, &frame.2))
        .collect();
    let found: Vec<(u64, &Bytes)> = read
        .iter()
        .filter(|frame| media(frame.kind))
        .map(|frame| (frame.timestamp, &frame.payload))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn metadata_of_references_does_not_grow() {
    // A text of 2,000 bytes, and 900 references to it.
    let mut bomb = b"\x02\0\x0aonMetaData\x08\0\0\0\0\0\x01a\x0a\0\0\0\x01\x02\x07\xd0".to_vec();
    bomb.resize(bomb.len() + 2_000, b'x');
    bomb.extend_from_slice(&b"\0\x01b\x07\0\x01".repeat(900));
    bomb.extend_from_slice(b"\0\0\x09");
    let bomb = set_data_frame(&bomb);
    let key = Bytes::from_static(&[0x17, 1, 0, 0, 0, 1]);
    let frames = [
        (0, FrameKind::Data, bomb.clone()),
        (0, FrameKind::Video, key.clone()),
        (20, FrameKind::Data, bomb.clone()),
        (40, FrameKind::Video, key),
    ];
    let (_, bytes) = compose(&frames, 0);
    assert!(bytes.len() < 2 * bomb.len(), "{} bytes", bytes.len());
}

#[test]
fn the_publishers_metadata_is_kept() {
    let set = |properties: Properties| {
        set_data_frame(&metadata::message(properties).expect("it can be written"))
    };
    let first = set(Properties::new()
        .with("title", "a")
        .with("duration", 0.0)
        .with("filesize", 5.0)
        .with("width", 0.0)
        .with("keyframes", "none")
        .with("videocodecid", "avc1")
        .with("nested", Properties::new().with("x", 1.0)));
    let header = recorded(10, 0)
        .into_iter()
        .find(|frame| frame.1 == FrameKind::Video)
        .expect("a header");
    let key = Bytes::from_static(&[0x17, 1, 0, 0, 0, 1]);
    let later = set(Properties::new().with("title", "b").with("duration", 0.0));
    let unreadable = set_data_frame(b"\x02\0\x0aonMetaData\x03\xff");
    let clear = amf0::encode_all(&["@clearDataFrame".into(), "onMetaData".into()]).expect("text");
    let event = amf0::encode_all(&["onCuePoint".into(), 1.0.into()]).expect("text");
    let frames = [
        (
            0,
            FrameKind::Data,
            set(Properties::new().with("title", "replaced")),
        ),
        (0, FrameKind::Data, first),
        (0, FrameKind::Video, header.2),
        (0, FrameKind::Video, key.clone()),
        (10, FrameKind::Data, event.clone()),
        (20, FrameKind::Data, later),
        (30, FrameKind::Data, unreadable),
        (35, FrameKind::Data, clear.clone()),
        (40, FrameKind::Video, key),
    ];
    let (plan, bytes) = compose(&frames, 0);
    assert_eq!(plan.duration_ms(), 80);
    let properties = described(&bytes);
    assert_eq!(properties.get("title").and_then(Value::as_str), Some("a"));
    assert!(properties.get("nested").is_some());
    assert_eq!(number(&properties, "duration"), Some(0.08));
    assert_eq!(number(&properties, "lasttimestamp"), Some(0.04));
    assert_eq!(number(&properties, "filesize"), Some(bytes.len() as f64));
    assert_eq!(number(&properties, "videocodecid"), Some(7.0));
    assert_eq!(number(&properties, "width"), Some(320.0));
    assert_eq!(number(&properties, "height"), Some(180.0));
    assert_eq!(properties.get("hasVideo"), Some(&Value::Boolean(true)));
    assert_eq!(properties.get("hasAudio"), Some(&Value::Boolean(false)));
    assert_eq!(
        properties
            .iter()
            .filter(|(name, _)| *name == "duration")
            .count(),
        1
    );

    let tags = tags(&bytes);
    assert_eq!(tags.len(), 8);
    assert_eq!((&tags[3].body, tags[3].timestamp), (&event, 10));
    let later = metadata::properties(&tags[4].body).expect("metadata");
    assert_eq!(later.get("title").and_then(Value::as_str), Some("b"));
    assert_eq!(number(&later, "duration"), Some(0.08));
    assert!(tags[4].body.starts_with(b"\x02\0\x0aonMetaData"));
    assert_eq!(&tags[5].body[..], b"\x02\0\x0aonMetaData\x03\xff");
    assert_eq!(tags[6].body, clear);
}

#[test]
fn headers_that_change_are_listed() {
    let mut frames = recorded(400, 0);
    let video_header = frames
        .iter()
        .position(|(_, kind, payload)| {
            *kind == FrameKind::Video && inspect(*kind, payload).flags.contains(FrameFlags::HEADER)
        })
        .expect("a header");
    let repeated = frames[video_header].2.clone();
    // In the middle of a GOP, where a reader would not look for it; and the video header that is in force already.
    let audio_header = Bytes::from_static(&[0xaf, 0, 0x11, 0x90, 0x56]);
    let time = frames[200].0;
    frames.insert(201, (time, FrameKind::Audio, audio_header.clone()));
    frames.insert(300, (frames[299].0, FrameKind::Video, repeated));
    let (_, bytes) = compose(&frames, 0);
    let listed = described(&bytes)
        .get(metadata::CODEC_HEADERS)
        .and_then(Value::as_array)
        .map(<[Value]>::len);
    assert_eq!(
        listed,
        Some(2),
        "the repeated one is the first of its kind that is listed"
    );
    let file = FlvFile::open(Arc::new(bytes), Grid::default()).expect("it opens");
    let end = file.info().duration_ms;
    let piece = file.piece_at_time(end).expect("a piece");
    assert!(piece.start_ms > time);
    assert_eq!(
        piece.preface.last().map(|frame| &frame.payload),
        Some(&audio_header)
    );
    let before = file.piece_at_time(1).expect("a piece");
    assert_ne!(
        before.preface.last().map(|frame| &frame.payload),
        Some(&audio_header)
    );
}

/// A source that counts what is read of it.
struct Counted {
    bytes: Bytes,
    read: AtomicU64,
}

impl ReadAt for Counted {
    fn length(&self) -> u64 {
        self.bytes.length()
    }

    fn read_at(&self, offset: u64, length: usize) -> std::io::Result<Bytes> {
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        self.bytes.read_at(offset, length)
    }
}

#[test]
fn seeking_in_it_reads_little_and_knows_the_headers() {
    let body = |head: &[u8]| Bytes::from([head, &vec![7; 60_000]].concat());
    let (key, inter) = (body(&[0x17, 1, 0, 0, 0]), body(&[0x27, 1, 0, 0, 0]));
    let header = |n: u8| Bytes::from(vec![0xaf, 0, 0x11, n]);
    let mut frames: Vec<Given> = vec![(0, FrameKind::Audio, header(0))];
    for n in 0..1_000_u64 {
        if n == 333 {
            frames.push((n * 100, FrameKind::Audio, header(1)));
        }
        let payload = if n % 10 == 0 { &key } else { &inter };
        frames.push((n * 100, FrameKind::Video, payload.clone()));
    }
    let (_, bytes) = compose(&frames, 0);
    for (ms, in_force) in [(90_050, header(1)), (30_050, header(0))] {
        let counted = Arc::new(Counted {
            bytes: bytes.clone(),
            read: AtomicU64::new(0),
        });
        let file = FlvFile::open(counted.clone(), Grid::default()).expect("it opens");
        let piece = file.piece_at_time(ms).expect("a piece");
        assert!((piece.start_ms..piece.end_ms).contains(&ms));
        assert_eq!(piece.preface[1].payload, in_force);
        let again = FlvFile::open(counted.clone(), Grid::default()).expect("it opens");
        assert_eq!(again.piece_at(piece.first).expect("a piece"), piece);
        let read = counted.read.load(Ordering::Relaxed);
        assert!(read < bytes.len() as u64 / 5, "{read} of {}", bytes.len());
    }
}

#[test]
fn the_seek_table_has_a_bound() {
    let key = Bytes::from_static(&[0x17, 1, 0, 0, 0, 1]);
    let count = 3 * MAX_KEYFRAMES as u64 + 5;
    let frames: Vec<Given> = (0..count)
        .map(|n| (n * 500, FrameKind::Video, key.clone()))
        .collect();
    let (plan, bytes) = compose(&frames, 0);
    assert_eq!(plan.duration_ms(), count * 500);
    let table = metadata::seek_table(&described(&bytes), bytes.len() as u64).expect("a seek table");
    assert!(table.keyframes.len() <= MAX_KEYFRAMES && table.keyframes.len() > MAX_KEYFRAMES / 2);
    for (position, time) in &table.keyframes {
        let at = *position as usize;
        assert_eq!(bytes[at], 9);
        let timestamp =
            u32::from_be_bytes([bytes[at + 7], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
        assert_eq!(u64::from(timestamp), *time);
    }
    let file = FlvFile::open(Arc::new(bytes), Grid::default()).expect("it opens");
    for ms in [1_000_000, 7_777_777, 20_000_001] {
        let piece = file.piece_at_time(ms).expect("a piece");
        assert!((piece.start_ms..piece.end_ms).contains(&ms));
    }
}

#[test]
fn files_without_frames_or_pictures_are_files() {
    let (plan, bytes) = compose(&[], 0);
    assert_eq!((plan.duration_ms(), tags(&bytes).len()), (0, 1));
    assert!(described(&bytes).get("keyframes").is_none());

    let audio: Vec<Given> = (0..100)
        .map(|n| (n * 26, FrameKind::Audio, Bytes::from_static(&[0x2f, 1])))
        .collect();
    let (plan, bytes) = compose(&audio, 0);
    assert_eq!(plan.duration_ms(), 2_600);
    let properties = described(&bytes);
    assert_eq!(number(&properties, "audiocodecid"), Some(2.0));
    assert_eq!(properties.get("hasKeyframes"), None);
    assert_eq!(bytes[4], 4, "audio only");
}

#[test]
fn codecs_are_told() {
    for (kind, payload, name, id) in [
        (
            FrameKind::Video,
            &b"\x90hvc1\0"[..],
            "videocodecid",
            f64::from(0x6876_6331),
        ),
        (
            FrameKind::Video,
            b"\x96\x00hvc1\0",
            "videocodecid",
            f64::NAN,
        ),
        (FrameKind::Video, b"\x22\0", "videocodecid", 2.0),
        (
            FrameKind::Audio,
            b"\x90Opus\0",
            "audiocodecid",
            f64::from(0x4f70_7573),
        ),
        (FrameKind::Audio, b"\xaf\x01\0", "audiocodecid", 10.0),
    ] {
        let (_, bytes) = compose(&[(0, kind, Bytes::from_static(payload))], 0);
        let found = number(&described(&bytes), name);
        assert_eq!(found, Some(id).filter(|id| !id.is_nan()), "{payload:02x?}");
    }
}

#[test]
fn what_cannot_be_composed_is_refused() {
    let mut planner = Planner::new(0);
    let long = Summary {
        timestamp: 0,
        kind: FrameKind::Video,
        flags: FrameFlags::KEY,
        length: MAX_TAG_BODY + 1,
        payload: None,
    };
    let error = ComposeError::TooLong {
        number: 0,
        length: MAX_TAG_BODY + 1,
    };
    assert_eq!(planner.add(&long), Err(error));
    let header = Summary {
        flags: FrameFlags::HEADER,
        length: 5,
        ..long
    };
    let error = ComposeError::WithoutPayload { number: 0 };
    assert_eq!(planner.add(&header), Err(error));
    let key = Summary { length: 5, ..long };
    planner.add(&key).expect("it can be planned");
    let plan = planner.finish();

    let mut file = Vec::new();
    let mut write = |payload: &'static [u8]| {
        let mut writer = plan.writer(&mut file);
        let payload = Bytes::from_static(payload);
        writer.frame(0, FrameKind::Video, FrameFlags::KEY, &payload, &mut file)?;
        Ok::<_, ComposeError>(writer)
    };
    assert!(matches!(
        write(b"longer"),
        Err(ComposeError::OtherFrames { .. })
    ));
    let shorter = write(b"less").expect("it fits");
    assert!(matches!(
        shorter.finish(),
        Err(ComposeError::OtherFrames { .. })
    ));
    let mut all = write(b"right").expect("it fits");
    let none = Bytes::new();
    let more = all.frame(
        0,
        FrameKind::Audio,
        FrameFlags::empty(),
        &none,
        &mut Vec::new(),
    );
    assert!(matches!(more, Err(ComposeError::OtherFrames { .. })));
    all.finish().expect("it is as planned");
    assert!(plan.writer(&mut Vec::new()).finish().is_err());
}

proptest! {
    #[test]
    fn any_frames_can_be_composed(
        base in 0_u64..200,
        given in prop::collection::vec((0_u64..1_000, 0_usize..6, prop::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let heads: [(FrameKind, &[u8]); 6] = [
            (FrameKind::Video, &[0x17, 1]),
            (FrameKind::Video, &[0x17, 0]),
            (FrameKind::Audio, &[0xaf, 1]),
            (FrameKind::Audio, &[0xaf, 0]),
            (FrameKind::Data, b"\x02\0\x0d@setDataFrame\x02\0\x0aonMetaData\x03"),
            (FrameKind::Data, &[]),
        ];
        let frames: Vec<Given> = given
            .into_iter()
            .map(|(timestamp, head, body)| (timestamp, heads[head].0, [heads[head].1, &body].concat().into()))
            .collect();
        let (plan, bytes) = compose(&frames, base);
        prop_assert_eq!(plan.frames(), frames.len() as u64);
        let media = |kind: FrameKind| kind != FrameKind::Data;
        let expected: Vec<(u32, FrameKind, Bytes)> = frames
            .into_iter()
            .filter(|frame| media(frame.1))
            .map(|(timestamp, kind, payload)| (timestamp.saturating_sub(base) as u32, kind, payload))
            .collect();
        let found: Vec<(u32, FrameKind, Bytes)> = tags(&bytes)
            .into_iter()
            .filter(|tag| media(tag.kind))
            .map(|tag| (tag.timestamp, tag.kind, tag.body))
            .collect();
        prop_assert_eq!(found, expected);
    }
}
