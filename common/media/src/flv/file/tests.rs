use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::flv::{FlvEvent, FlvHeader, FlvReader, MAX_TAG_BODY, Tag, write_header, write_tag};
use crate::synthetic::{Settings, SyntheticStream};

mod damage;
mod recorded;

/// Small pieces, so that small files have many.
const SMALL: Grid = Grid {
    every_ms: 200,
    max_bytes: 4_000,
};

fn open(bytes: &Bytes, grid: Grid) -> FlvFile {
    FlvFile::open(Arc::new(bytes.clone()), grid).expect("it opens")
}

/// A file made by ffmpeg, in place, so that it can go back and fill in the duration and the seek table.
fn ffmpeg(arguments: &str) -> Bytes {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!(
        "headwater-media-{}-{number}.flv",
        std::process::id()
    ));
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments.split_whitespace())
        .arg(&path)
        .output()
        .expect("ffmpeg runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes = std::fs::read(&path).expect("ffmpeg wrote it");
    std::fs::remove_file(&path).expect("it is there");
    bytes.into()
}

const AUDIO_VIDEO: &str = "-f lavfi -i testsrc=s=128x96:r=25 -f lavfi -i sine=r=44100 -t 3 -c:v libx264 -preset ultrafast \
    -tune zerolatency -g 10 -c:a aac -b:a 32k";

/// Tags of a file with their positions, as the streaming reader finds them.
fn tags(bytes: &[u8]) -> Vec<(u64, Tag)> {
    let mut reader = FlvReader::new(MAX_TAG_BODY);
    reader.feed(bytes);
    let mut tags = Vec::new();
    while let Ok(Some(event)) = reader.poll() {
        if let FlvEvent::Tag(tag) = event {
            let size = TAG_HEADER_SIZE + tag.body.len();
            tags.push((reader.offset() - size as u64, tag));
        }
    }
    tags
}

fn is_coded(tag: &Tag) -> bool {
    inspect(tag.kind, &tag.body).packet == crate::inspect::Packet::Coded
}

/// What the pieces of a file should be, from all of its tags, without the metadata that is made up.
fn expected(bytes: &[u8], grid: Grid, duration_ms: u64) -> Vec<FilePiece> {
    let tags = tags(bytes);
    let first_of = |kind| {
        let tag = tags
            .iter()
            .find(|(_, tag)| tag.kind == kind && is_coded(tag));
        tag.map(|(_, tag)| tag.timestamp)
    };
    let (audio, video) = (first_of(FrameKind::Audio), first_of(FrameKind::Video));
    let zero = match (audio, video) {
        (Some(audio), Some(video)) => audio.min(video),
        (audio, video) => audio.or(video).unwrap_or(tags[0].1.timestamp),
    };
    let mut pieces: Vec<FilePiece> = Vec::new();
    let mut preface: Preface<Frame> = Preface::new();
    let mut bucket = 0;
    let mut before = 0;
    for (position, tag) in tags {
        let flags = inspect(tag.kind, &tag.body).flags;
        let has_slot = flags
            .intersects(FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA);
        let timestamp = if has_slot && tag.timestamp == 0 {
            before
        } else {
            u64::from(tag.timestamp.saturating_sub(zero))
        };
        before = timestamp;
        let is_place = match (video, audio) {
            (Some(_), _) => flags.contains(FrameFlags::KEY),
            (None, Some(_)) => tag.kind == FrameKind::Audio && is_coded(&tag),
            (None, None) => true,
        };
        let payload = if is_metadata(tag.kind, &tag.body) {
            metadata::for_viewers(&tag.body, duration_ms)
        } else {
            tag.body.clone()
        };
        let frame = FileFrame {
            position,
            timestamp,
            kind: tag.kind,
            flags,
            payload,
        };
        let held: usize = pieces.last().map_or(0, |piece| {
            piece.frames.iter().map(|frame| frame.payload.len()).sum()
        });
        let is_full = held + tag.body.len() > grid.max_bytes;
        let on_grid = is_place && timestamp / grid.every_ms != bucket;
        if is_place {
            bucket = timestamp / grid.every_ms;
        }
        if pieces.is_empty() || on_grid || is_full {
            if let Some(last) = pieces.last_mut() {
                last.next = Some(position);
                last.end_ms = timestamp.max(last.start_ms);
            }
            let in_force = preface.clone().frames(Epoch(0));
            pieces.push(FilePiece {
                first: position,
                start_ms: timestamp,
                end_ms: duration_ms,
                preface: in_force
                    .into_iter()
                    .map(|held| FileFrame {
                        position,
                        timestamp,
                        kind: held.kind,
                        flags: held.flags,
                        payload: held.payload,
                    })
                    .collect(),
                ..FilePiece::default()
            });
        }
        if has_slot {
            let held = Frame {
                offset: Offset::default(),
                timestamp,
                kind: frame.kind,
                flags,
                payload: frame.payload.clone(),
            };
            preface.apply(&Slot::of(held.kind, &held.payload), &held);
        }
        pieces
            .last_mut()
            .expect("one was pushed")
            .frames
            .push(frame);
    }
    pieces
}

fn walk(file: &FlvFile) -> Result<Vec<FilePiece>, FileError> {
    let mut pieces = vec![file.piece_at_time(0)?];
    while let Some(next) = pieces.last().and_then(|piece| piece.next) {
        pieces.push(file.piece_at(next)?);
    }
    Ok(pieces)
}

/// Checks that all ways to all pieces of a file give what its tags say. Gives the pieces.
fn check(bytes: &Bytes, grid: Grid) -> Vec<FilePiece> {
    let file = open(bytes, grid);
    let duration_ms = file.info().duration_ms;
    let mut expected = expected(bytes, grid, duration_ms);
    let has_metadata = tags(bytes)
        .iter()
        .any(|(_, tag)| is_metadata(tag.kind, &tag.body));
    for piece in expected.iter_mut().filter(|_| !has_metadata) {
        let metadata = FileFrame {
            position: piece.first,
            timestamp: piece.start_ms,
            kind: FrameKind::Data,
            flags: FrameFlags::METADATA,
            payload: metadata::message(described(file.info())).expect("it can be written"),
        };
        piece.preface.insert(0, metadata);
    }
    let walked = walk(&file).expect("all pieces can be read");
    assert_eq!(walked.len(), expected.len(), "pieces");
    for (piece, expected) in walked.iter().zip(&expected) {
        assert_eq!(piece, expected);
    }
    let is_place = |frame: &FileFrame| match (file.info.has_video, file.info.has_audio) {
        (true, _) => frame.flags.contains(FrameFlags::KEY),
        (false, true) => {
            frame.kind == FrameKind::Audio && !frame.flags.contains(FrameFlags::HEADER)
        }
        (false, false) => true,
    };
    for ms in (0..duration_ms + 50).step_by(7) {
        let holds = |piece: &&FilePiece| {
            let mut frames = piece.frames.iter();
            frames.any(|frame| is_place(frame) && frame.timestamp <= ms)
        };
        let wanted = expected
            .iter()
            .rfind(holds)
            .filter(|_| ms > 0)
            .unwrap_or(&expected[0]);
        let found = file.piece_at_time(ms).expect("a piece");
        assert_eq!(found.first, wanted.first, "at {ms}");
        let alone = open(bytes, grid).piece_at_time(ms).expect("a piece");
        assert_eq!(&alone, wanted, "at {ms}, first of all");
    }
    for piece in &expected {
        let alone = open(bytes, grid).piece_at(piece.first).expect("a piece");
        assert_eq!(&alone, piece, "at byte {}, first of all", piece.first);
    }
    let begins: Vec<u64> = expected.iter().map(|piece| piece.first).collect();
    for frame in expected.iter().flat_map(|piece| &piece.frames) {
        if !begins.contains(&frame.position) {
            for file in [&file, &open(bytes, grid)] {
                let error = file.piece_at(frame.position).expect_err("no piece begins");
                assert!(
                    matches!(error, FileError::Invalid { offset, .. } if offset == frame.position)
                );
            }
        }
    }
    expected
}

/// A file of these tags.
fn written(tags: &[(u32, FrameKind, &[u8])]) -> Bytes {
    let mut out = BytesMut::new();
    let both = FlvHeader {
        has_audio: true,
        has_video: true,
    };
    write_header(both, &mut out);
    for (timestamp, kind, body) in tags {
        assert!(write_tag(*timestamp, *kind, body, &mut out));
    }
    out.freeze()
}

/// A file of a synthetic stream, with timestamps from `start` on.
fn synthetic(frames: usize, start: u32) -> Bytes {
    let mut stream = SyntheticStream::new(Settings {
        video_bitrate: 50_000,
        fps: 25,
        gop: 10,
        ..Settings::default()
    })
    .expect("the settings are right");
    let mut out = BytesMut::new();
    write_header(FlvHeader::default(), &mut out);
    for _ in 0..frames {
        let frame = stream.next_frame(0);
        let timestamp = start.wrapping_add(frame.timestamp as u32);
        assert!(write_tag(timestamp, frame.kind, &frame.payload, &mut out));
    }
    out.freeze()
}

const KEY: &[u8] = &[0x17, 1, 0, 0, 0, 1, 2, 3];
const INTER: &[u8] = &[0x27, 1, 0, 0, 0, 4, 5, 6];
const AAC: &[u8] = &[0xaf, 1, 7, 8];

#[test]
fn pieces_are_those_of_the_tags() {
    let wide = Grid::default();
    for grid in [SMALL, wide] {
        assert!(check(&synthetic(200, 0), grid).len() > 1);
    }
}

#[test]
fn time_begins_with_the_first_picture_or_sound() {
    let at = |start: u32| {
        let file = written(&[
            (0, FrameKind::Video, &[0x17, 0, 0, 0, 0, 1]),
            (start.wrapping_add(20), FrameKind::Audio, AAC),
            (start, FrameKind::Video, KEY),
            (start.wrapping_add(40), FrameKind::Video, INTER),
            (start.wrapping_add(35), FrameKind::Audio, AAC),
            (start.wrapping_add(80), FrameKind::Video, INTER),
        ]);
        let file = open(&file, SMALL);
        let piece = file.piece_at_time(0).expect("a piece");
        let times: Vec<u64> = piece.frames.iter().map(|frame| frame.timestamp).collect();
        (times, file.info().duration_ms)
    };
    // A day of time, the wrap within the file, and the wrap before the headers.
    for start in [0, 86_400_000, u32::MAX - 50, u32::MAX - 10, 5] {
        assert_eq!(at(start), (vec![0, 20, 0, 40, 35, 80], 120), "from {start}");
    }
}

#[test]
fn a_wrap_within_a_file_does_not_break_it() {
    let plain = walk(&open(&synthetic(200, 0), SMALL)).expect("pieces");
    let wrapped = synthetic(200, u32::MAX - 1_500);
    let wrapped = walk(&open(&wrapped, SMALL)).expect("pieces");
    assert_eq!(plain, wrapped);
}

#[test]
fn audio_alone_has_places_everywhere() {
    let bodies: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![0x2f, n, 1, 2, 3]).collect();
    let tags: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(n, body)| (n as u32 * 26, FrameKind::Audio, &body[..]))
        .collect();
    let bytes = written(&tags);
    let pieces = check(&bytes, SMALL);
    assert_eq!(pieces.len(), 13);
    assert_eq!(pieces[1].start_ms, 208);
    let info = FileInfo {
        duration_ms: 2_600,
        has_audio: true,
        has_video: false,
    };
    assert_eq!(open(&bytes, SMALL).info(), &info);
}

#[test]
fn data_alone_has_places_everywhere() {
    let body = b"\x02\0\x05onCue\x05";
    let tags: Vec<_> = (0..50_u32)
        .map(|n| (n * 100, FrameKind::Data, &body[..]))
        .collect();
    let bytes = written(&tags);
    let file = open(&bytes, SMALL);
    let pieces = walk(&file).expect("pieces");
    assert_eq!(pieces.len(), 25);
    assert_eq!(
        pieces.iter().map(|piece| piece.frames.len()).sum::<usize>(),
        50
    );
    assert_eq!(
        file.piece_at_time(1_050).expect("a piece").first,
        pieces[5].first
    );
    assert_eq!(file.info().duration_ms, 4_900);
}

#[test]
fn what_is_kept_of_metadata_is_not_the_piece_around_it() {
    let metadata = metadata::message(Properties::new().with("duration", 2.0)).expect("metadata");
    let large = [KEY, &vec![9; 100_000]].concat();
    let long = metadata::message(Properties::new().with("text", "x".repeat(30_000)));
    let long = long.expect("metadata");
    let bytes = written(&[
        (0, FrameKind::Data, &metadata),
        (0, FrameKind::Video, &large),
        (1_990, FrameKind::Video, INTER),
        (1_990, FrameKind::Data, &long),
        (1_995, FrameKind::Video, INTER),
    ]);
    let file = open(&bytes, Grid::default());
    let piece = file.piece_at_time(0).expect("a piece");
    assert!(piece.frames[3].payload.len() > 30_000);
    drop((piece, bytes));
    let (_, kept) = file.state.lock().metadata.take().expect("it is kept");
    assert!(kept.len() < 100, "the short one");
    let kept = kept.try_into_mut().expect("nobody else has it");
    assert!(kept.capacity() < 1_000, "{}", kept.capacity());
}

#[test]
fn the_memory_of_a_file_is_what_it_keeps() {
    let file = open(&synthetic(3_000, 0), SMALL);
    walk(&file).expect("pieces");
    file.scan(&|_| false).expect("all of it");
    let entries = file.state.lock().scan.entries() * size_of::<[u64; 7]>();
    assert!(entries > 10_000);
    assert!(file.memory() >= SMALL_FILE + entries);
}

#[test]
fn a_file_without_metadata_gets_some() {
    let tags: Vec<_> = (0..20_u32)
        .map(|n| {
            (
                n * 100,
                FrameKind::Video,
                if n % 5 == 0 { KEY } else { INTER },
            )
        })
        .collect();
    let file = open(&written(&tags), SMALL);
    for piece in walk(&file).expect("pieces") {
        let [metadata] = &piece.preface[..] else {
            panic!("{:?}", piece.preface);
        };
        assert_eq!(
            (metadata.position, metadata.timestamp),
            (piece.first, piece.start_ms)
        );
        assert_eq!(metadata.flags, FrameFlags::METADATA);
        let properties = metadata::properties(&metadata.payload).expect("it is metadata");
        let duration = properties
            .get("duration")
            .and_then(|value| value.as_number());
        assert_eq!(duration, Some(2.0));
    }
}

#[test]
fn headers_that_change_are_in_force_from_then_on() {
    let header = |n: u8| [0x17, 0, 0, 0, 0, n];
    let audio = |n: u8| [0xaf, 0, n];
    let (h1, h2, a1, a2, a3) = (header(1), header(2), audio(1), audio(2), audio(3));
    let mut tags: Vec<(u32, FrameKind, &[u8])> =
        vec![(0, FrameKind::Video, &h1), (0, FrameKind::Audio, &a1)];
    for n in 0..40_u32 {
        match n {
            10 => tags.push((n * 50, FrameKind::Video, &h2)),
            23 => tags.push((n * 50, FrameKind::Audio, &a2)),
            31 => tags.push((n * 50, FrameKind::Audio, &a3)),
            // Some encoders repeat them before each key frame.
            15 => tags.push((n * 50, FrameKind::Video, &h2)),
            20 => tags.push((0, FrameKind::Video, &h2)),
            _ => {}
        }
        tags.push((
            n * 50,
            FrameKind::Video,
            if n % 5 == 0 { KEY } else { INTER },
        ));
        tags.push((n * 50, FrameKind::Audio, AAC));
    }
    let metadata = metadata::message(Properties::new().with("duration", 2.0)).expect("metadata");
    tags.insert(0, (0, FrameKind::Data, &metadata));
    let pieces = check(&written(&tags), SMALL);
    let last = pieces.last().expect("pieces");
    let in_force: Vec<&[u8]> = last
        .preface
        .iter()
        .map(|frame| &frame.payload[..])
        .collect();
    assert_eq!(in_force, [&metadata[..], &h2, &a3]);
}

#[test]
fn enhanced_tags_are_tags_like_others() {
    let header = [&b"\x90hvc1"[..], &[1; 20]].concat();
    let key = [&b"\x91hvc1\0\0\0"[..], &[2; 80]].concat();
    // One of many tracks, the default one last, beyond what is looked at first.
    let many = [
        &b"\x96\x11hvc1\x01\0\0\x50"[..],
        &[3; 80],
        &b"\0\0\0\x01\x05"[..],
    ]
    .concat();
    let inter = [&b"\xa1hvc1\0\0\0"[..], &[4; 20]].concat();
    let mut tags: Vec<(u32, FrameKind, &[u8])> = vec![(0, FrameKind::Video, &header)];
    for n in 0..30_u32 {
        let body = match n % 10 {
            0 => &key,
            5 => &many,
            _ => &inter,
        };
        tags.push((n * 100, FrameKind::Video, body));
    }
    let metadata = metadata::message(Properties::new().with("duration", 3.0)).expect("metadata");
    tags.insert(0, (0, FrameKind::Data, &metadata));
    let pieces = check(&written(&tags), SMALL);
    assert_eq!(pieces.len(), 6, "both kinds of key frames are places");
}

#[test]
fn large_frames_have_pieces_of_their_own() {
    let large = [KEY, &vec![9; 10_000]].concat();
    let mut tags: Vec<(u32, FrameKind, &[u8])> = Vec::new();
    for n in 0..10_u32 {
        tags.push((
            n * 40,
            FrameKind::Video,
            if n % 4 == 0 { &large } else { INTER },
        ));
    }
    let metadata = metadata::message(Properties::new().with("duration", 0.4)).expect("metadata");
    tags.insert(0, (0, FrameKind::Data, &metadata));
    let pieces = check(&written(&tags), SMALL);
    assert!(pieces.iter().any(|piece| piece.frames.len() == 1));
}

#[test]
fn empty_tags_do_not_pile_up() {
    let tags = vec![(0, FrameKind::Audio, &[][..]); MAX_PIECE_FRAMES + 10];
    let pieces = walk(&open(&written(&tags), Grid::default())).expect("pieces");
    let counts: Vec<usize> = pieces.iter().map(|piece| piece.frames.len()).collect();
    assert_eq!(counts, [MAX_PIECE_FRAMES, 10]);
}

#[test]
fn a_file_without_tags_is_an_empty_piece() {
    for length in [9, 11, 13] {
        let file = open(&written(&[]).slice(..length), SMALL);
        assert_eq!(file.info(), &FileInfo::default());
        let piece = file.piece_at_time(5_000).expect("a piece");
        assert_eq!((piece.frames.len(), piece.next), (0, None));
        assert_eq!(file.piece_at(piece.first).expect("a piece"), piece);
        assert!(file.piece_at(piece.first + 1).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Timestamps in any order: every tag is in one piece, in order, and each piece is the same however it is found.
    #[test]
    fn any_order_of_time_can_be_read(
        given in prop::collection::vec((0_u32..5_000, 0_usize..4, 0_usize..600), 1..120),
        times in prop::collection::vec(0_u64..6_000, 8),
    ) {
        let bodies: Vec<_> = given
            .iter()
            .map(|(timestamp, kind, length)| {
                let (kind, head) = [(FrameKind::Video, KEY), (FrameKind::Video, INTER), (FrameKind::Audio, AAC), (FrameKind::Data, &[5_u8][..])][*kind];
                (*timestamp, kind, [head, &vec![0; *length]].concat())
            })
            .collect();
        let bytes = written(&bodies.iter().map(|(timestamp, kind, body)| (*timestamp, *kind, &body[..])).collect::<Vec<_>>());
        let file = open(&bytes, SMALL);
        let pieces = walk(&file).expect("pieces");
        let positions: Vec<u64> = pieces.iter().flat_map(|piece| &piece.frames).map(|frame| frame.position).collect();
        let expected: Vec<u64> = tags(&bytes).iter().map(|(position, _)| *position).collect();
        prop_assert_eq!(positions, expected);
        for ms in times {
            let found = open(&bytes, SMALL).piece_at_time(ms).expect("a piece");
            prop_assert!(pieces.contains(&found));
        }
        for piece in &pieces {
            prop_assert_eq!(&open(&bytes, SMALL).piece_at(piece.first).expect("a piece"), piece);
        }
    }
}
