//! Files that ffmpeg made, packet by packet as ffprobe reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::support::{
    AAC, AVC, Counting, PICTURE, TONE, both, compare, compare_with, ffmpeg, frames, open,
    open_with, pieces, probe, unwrap,
};
use crate::file::{FileError, FileFrame, FilePiece, Grid, MediaFile};
use crate::frame::{FrameFlags, FrameKind};
use crate::inspect::{Configuration, configuration};
use crate::mp4::Mp4File;

#[test]
fn plain_files_have_the_packets_that_ffprobe_sees() {
    for (name, flags) in [
        ("plain.mp4", &[][..]),
        ("start.mp4", &["-movflags", "faststart"]),
        ("signed.mp4", &["-movflags", "negative_cts_offsets"]),
        ("noedit.mp4", &["-use_editlist", "0"]),
        ("book.mov", &[]),
        ("flash.f4v", &[]),
        ("phone.3gp", &[]),
        ("tunes.m4v", &[]),
    ] {
        compare(&both(&[AVC, AAC, flags], name), name);
    }
}

#[test]
fn fragmented_files_have_the_packets_that_ffprobe_sees() {
    for (name, flags) in [
        ("empty.mp4", "frag_keyframe+empty_moov+default_base_moof"),
        ("hybrid.mp4", "frag_keyframe"),
        ("absolute.mp4", "frag_keyframe+empty_moov"),
        ("relative.mp4", "frag_keyframe+empty_moov+omit_tfhd_offset"),
        ("separate.mp4", "frag_keyframe+empty_moov+separate_moof"),
        ("every.mp4", "frag_every_frame+empty_moov+default_base_moof"),
        ("delayed.mp4", "frag_keyframe+delay_moov"),
        (
            "index.mp4",
            "frag_keyframe+delay_moov+default_base_moof+global_sidx",
        ),
        ("dash.mp4", "dash+frag_keyframe"),
    ] {
        compare(&both(&[AVC, AAC, &["-movflags", flags]], name), name);
    }
    // Negative composition times: here ffprobe makes the pictures one frame late against the sound.
    let name = "cmaf.mp4";
    let file = both(&[AVC, AAC, &["-movflags", "cmaf+frag_keyframe"]], name);
    let mut expected = probe(&file, name);
    for packet in &mut expected {
        if packet.kind == FrameKind::Video {
            packet.dts -= 0.04;
            packet.pts -= 0.04;
        }
    }
    compare_with(&frames(&file), &expected, name);
}

#[test]
fn other_codecs_and_single_tracks() {
    let hevc: &[&str] = &[
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=none:bframes=2:keyint=12",
    ];
    let picture: &[&str] = &["-f", "lavfi", "-i", PICTURE];
    let tone: &[&str] = &["-f", "lavfi", "-i", TONE];
    for (name, groups) in [
        (
            "hvc1.mp4",
            &[picture, tone, hevc, AAC, &["-tag:v", "hvc1"]][..],
        ),
        ("hev1.mp4", &[picture, hevc]),
        ("mp3.mp4", &[picture, tone, AVC, &["-c:a", "libmp3lame"]]),
        ("mp3.mov", &[tone, &["-c:a", "libmp3lame", "-ar", "22050"]]),
        ("audio.m4a", &[tone, AAC]),
        ("audio.mov", &[tone, AAC]),
        (
            "audio-fragments.m4a",
            &[tone, AAC, &["-movflags", "frag_keyframe+empty_moov"]],
        ),
        ("video.mp4", &[picture, AVC]),
        (
            "video-only-intra.mp4",
            &[picture, AVC, &["-g", "1", "-bf", "0"]],
        ),
        ("mono.mp4", &[tone, &["-ac", "1", "-ar", "48000"], AAC]),
    ] {
        compare(&ffmpeg(groups, name), name);
    }
}

#[test]
fn hevc_and_mp3_look_as_publishers_send_them() {
    let name = "both.mp4";
    let file = both(
        &[
            &[
                "-c:v",
                "libx265",
                "-preset",
                "ultrafast",
                "-x265-params",
                "log-level=none:level-idc=2",
                "-vf",
                "scale=162:122",
                "-pix_fmt",
                "yuv420p",
            ],
            &[
                "-tag:v",
                "hvc1",
                "-c:a",
                "libmp3lame",
                "-ar",
                "44100",
                "-ac",
                "2",
            ],
        ],
        name,
    );
    let file = open(&file).expect("a file");
    let piece = file.piece_at_time(0).expect("a piece");
    // A size that is no multiple of a coding unit: what is cut off counts.
    assert_eq!(
        configuration(FrameKind::Video, &piece.preface[1].payload),
        Some(Configuration::Hevc {
            profile: 1,
            level: 60,
            size: Some((162, 122)),
        })
    );
    assert_eq!(piece.preface.len(), 2, "mp3 has no header");
    assert_eq!(&piece.preface[1].payload[..6], b"\x90hvc1\x01");
    assert_eq!(piece.preface[1].flags, FrameFlags::HEADER);
    let first = |kind| {
        let frame = piece.frames.iter().find(|frame| frame.kind == kind);
        frame.expect("a frame").payload[0]
    };
    assert!(matches!(first(FrameKind::Video), 0x91 | 0x93));
    assert_eq!(first(FrameKind::Audio), 0x2f);
}

#[test]
fn a_track_that_begins_late_is_late() {
    let name = "late.mp4";
    let inputs: &[&str] = &[
        "-f",
        "lavfi",
        "-i",
        PICTURE,
        "-itsoffset",
        "0.7",
        "-f",
        "lavfi",
        "-i",
        TONE,
    ];
    let file = ffmpeg(&[inputs, AVC, AAC], name);
    compare(&file, name);
    let audio = frames(&file)
        .into_iter()
        .find(|frame| frame.kind == FrameKind::Audio)
        .expect("audio");
    assert!((700..900).contains(&audio.timestamp), "{}", audio.timestamp);
}

#[test]
fn times_far_from_zero_begin_at_zero() {
    let name = "far.mp4";
    let far: &[&str] = &[
        "-output_ts_offset",
        "4000",
        "-movflags",
        "frag_keyframe+delay_moov+default_base_moof+frag_discont",
    ];
    let file = both(&[AVC, AAC, far], name);
    assert!(probe(&file, name)[0].dts > 3_999.0);
    compare(&file, name);
}

/// What an editor cut off at the front is not sent, but for what it takes to decode the rest.
#[test]
fn an_edit_chooses_where_the_media_begin_and_end() {
    let whole = both(&[AVC, AAC], "whole.mp4");
    let edited = patch_edits(&whole, 1.2, 0.5);
    let all = frames(&whole);
    let cut = frames(&edited);
    let of = |frames: &[FileFrame], kind| -> Vec<FileFrame> {
        let kept = frames.iter().filter(|frame| frame.kind == kind);
        kept.cloned().collect()
    };
    for kind in [FrameKind::Video, FrameKind::Audio] {
        let (all, cut) = (of(&all, kind), of(&cut, kind));
        let first = all
            .iter()
            .position(|frame| unwrap(frame).0 == unwrap(&cut[0]).0)
            .expect("the first frame");
        // The same frames without a hole.
        for (before, after) in all[first..].iter().zip(&cut) {
            assert_eq!(unwrap(before).0, unwrap(after).0);
        }
        let last = first + cut.len();
        match kind {
            // Key frames are 480 ms apart: from 960 ms, and up to the next after 1700 ms.
            FrameKind::Video => assert_eq!((first, last), (24, 48)),
            // From 250 ms before 1200 ms, in frames of 23.2 ms, the first of which is before 0.
            _ => assert_eq!((first, last), (41, 75)),
        }
    }
    assert_eq!(cut[0].timestamp, 0);
    let file = open(&edited).expect("a file");
    let duration = file.info().duration_ms;
    assert!((950..1_050).contains(&duration), "{duration}");
    let all_pieces = pieces(&file).expect("pieces");
    assert_eq!(all_pieces.last().expect("a piece").end_ms, duration);
}

/// Moves the start of the first edit of each track by seconds, and sets its length.
fn patch_edits(file: &bytes::Bytes, start: f64, length: f64) -> bytes::Bytes {
    let mut out = file.to_vec();
    for (number, at) in find(file, b"elst").into_iter().enumerate() {
        // Version, count, then duration in milliseconds and media time in ticks.
        let timescale = [12_800.0, 44_100.0][number];
        let place = at + 12;
        let was = u32::from_be_bytes(out[place + 4..place + 8].try_into().expect("4 bytes"));
        out[place..place + 4].copy_from_slice(&((length * 1_000.0) as u32).to_be_bytes());
        let media = was + (start * timescale) as u32;
        out[place + 4..place + 8].copy_from_slice(&media.to_be_bytes());
    }
    out.into()
}

fn find(file: &[u8], kind: &[u8; 4]) -> Vec<usize> {
    (0..file.len() - 3)
        .filter(|at| &file[*at..at + 4] == kind)
        .collect()
}

#[test]
fn what_the_file_says_of_itself() {
    let file = both(&[AVC, AAC], "info.mp4");
    let file = open(&file).expect("a file");
    let info = file.info();
    assert!(info.has_audio && info.has_video);
    assert!((2_000..2_100).contains(&info.duration_ms), "{info:?}");
    let piece = file.piece_at_time(0).expect("a piece");
    let kinds: Vec<_> = piece
        .preface
        .iter()
        .map(|frame| (frame.kind, frame.flags))
        .collect();
    assert_eq!(
        kinds,
        [
            (FrameKind::Data, FrameFlags::METADATA),
            (FrameKind::Video, FrameFlags::HEADER),
            (FrameKind::Audio, FrameFlags::HEADER),
        ]
    );
    for frame in &piece.preface {
        assert_eq!(
            (frame.position, frame.timestamp),
            (piece.first, piece.start_ms)
        );
    }
    assert_eq!(&piece.preface[1].payload[..6], [0x17, 0, 0, 0, 0, 1]);
    assert_eq!(&piece.preface[2].payload[..4], [0xaf, 0, 0x12, 0x08]);

    let metadata = &piece.preface[0].payload;
    let values = headwater_amf::amf0::decode_all(metadata, headwater_amf::Limits::default());
    let values = values.expect("AMF0");
    assert_eq!(values[0].as_str(), Some("onMetaData"));
    let number = |name: &str| {
        values[1]
            .get(name)
            .and_then(headwater_amf::Value::as_number)
    };
    assert_eq!(number("width"), Some(160.0));
    assert_eq!(number("height"), Some(120.0));
    assert_eq!(number("framerate"), Some(25.0));
    assert_eq!(number("audiosamplerate"), Some(44_100.0));
    assert_eq!(number("audiochannels"), Some(1.0));
    assert_eq!(number("aacaot"), Some(2.0));
    assert_eq!(number("duration"), Some(info.duration_ms as f64 / 1_000.0));
    let text = |name: &str| values[1].get(name)?.as_str().map(str::to_owned);
    assert_eq!(text("videocodecid").as_deref(), Some("avc1"));
    assert_eq!(text("audiocodecid").as_deref(), Some("mp4a"));
    let tracks = values[1]
        .get("trackinfo")
        .and_then(|value| value.as_array());
    let tracks = tracks.expect("tracks");
    assert_eq!(tracks.len(), 2);
    assert_eq!(
        tracks[0]
            .get("timescale")
            .and_then(|value| value.as_number()),
        Some(12_800.0)
    );
    let points = values[1]
        .get("seekpoints")
        .and_then(|value| value.as_array());
    let points = points.expect("seek points");
    let times: Vec<_> = points
        .iter()
        .filter_map(|point| point.get("time")?.as_number())
        .collect();
    assert_eq!(times, [0.0, 0.48, 0.96, 1.44, 1.92]);
}

#[test]
fn files_without_a_codec_that_can_be_sent_are_unsupported() {
    let tone: &[&str] = &["-f", "lavfi", "-i", TONE];
    let picture: &[&str] = &["-f", "lavfi", "-i", PICTURE];
    let opus = ffmpeg(&[tone, &["-c:a", "libopus"]], "opus.mp4");
    assert!(matches!(open(&opus), Err(FileError::Unsupported { .. })));
    // The other track is played.
    let half = ffmpeg(&[picture, tone, &["-c:v", "mpeg4"], AAC], "half.mp4");
    let file = open(&half).expect("a file");
    assert!(file.info().has_audio && !file.info().has_video);
    let piece = file.piece_at_time(0).expect("a piece");
    let metadata = String::from_utf8_lossy(&piece.preface[0].payload).into_owned();
    assert!(metadata.contains("mp4v"), "{metadata}");
}

fn grids() -> [Grid; 5] {
    let grid = |every_ms, max_bytes| Grid {
        every_ms,
        max_bytes,
    };
    [
        Grid::default(),
        grid(500, 1 << 20),
        grid(300, 5_000),
        grid(1, 1),
        grid(700, 2_500),
    ]
}

/// The rule of [`Grid`], once more.
fn cut(frames: &[FileFrame], grid: Grid, has_video: bool) -> Vec<u64> {
    let mut starts: Vec<u64> = Vec::new();
    let (mut due, mut bytes) = (0, 0);
    for frame in frames {
        let is_start = match frame.kind {
            FrameKind::Video => frame.flags.contains(FrameFlags::KEY),
            _ => !has_video,
        };
        let is_due = is_start && frame.timestamp >= due;
        if is_due {
            due = (frame.timestamp / grid.every_ms + 1) * grid.every_ms;
        }
        if starts.is_empty() || is_due || bytes + frame.payload.len() > grid.max_bytes {
            starts.push(frame.position);
            bytes = 0;
        }
        bytes += frame.payload.len();
    }
    starts
}

#[test]
fn pieces_are_cut_on_the_grid_and_are_the_same_whoever_asks() {
    let files = [
        both(&[AVC, AAC], "a.mp4"),
        both(
            &[AVC, AAC, &["-movflags", "frag_keyframe+empty_moov"]],
            "b.mp4",
        ),
        both(&[AVC, AAC, &["-movflags", "frag_keyframe"]], "c.mp4"),
        ffmpeg(&[&["-f", "lavfi", "-i", TONE], AAC], "d.m4a"),
        ffmpeg(&[&["-f", "lavfi", "-i", PICTURE], AVC], "e.mp4"),
    ];
    for (number, bytes) in files.iter().enumerate() {
        let all = frames(bytes);
        for grid in grids() {
            let context = format!("file {number}, {grid:?}");
            let file = open_with(bytes, grid).expect("a file");
            let pieces = pieces(&file).expect("pieces");
            let joined: Vec<_> = pieces
                .iter()
                .flat_map(|piece| piece.frames.clone())
                .collect();
            assert_eq!(joined, all, "{context}");
            let firsts: Vec<_> = pieces.iter().map(|piece| piece.first).collect();
            assert_eq!(firsts, cut(&all, grid, file.info().has_video), "{context}");
            for pair in pieces.windows(2) {
                assert_eq!(pair[0].next, Some(pair[1].first), "{context}");
                assert_eq!(pair[0].end_ms, pair[1].start_ms, "{context}");
            }
            let last = pieces.last().expect("a piece");
            assert_eq!((last.next, last.end_ms), (None, file.info().duration_ms));
            by_time(&file, &pieces, &context);
            // Where no piece begins.
            for position in 0..=all.last().expect("frames").position + 2 {
                let is_first = firsts.contains(&position);
                assert_eq!(
                    file.piece_at(position).is_ok(),
                    is_first,
                    "{context}, {position}"
                );
            }
        }
    }
}

fn by_time(file: &Mp4File, pieces: &[FilePiece], context: &str) {
    let has_video = file.info().has_video;
    let is_start = |frame: &FileFrame| !has_video || frame.flags.contains(FrameFlags::KEY);
    for ms in (0..=file.info().duration_ms + 50).chain([u64::MAX]) {
        let expected = pieces
            .iter()
            .rfind(|piece| {
                let mut frames = piece.frames.iter();
                frames.any(|frame| is_start(frame) && frame.timestamp <= ms)
            })
            .unwrap_or(&pieces[0]);
        let found = file.piece_at_time(ms).expect("a piece");
        assert_eq!(found.first, expected.first, "{context}, {ms}");
        if ms % 40 == 0 {
            assert_eq!(&found, expected, "{context}, {ms}");
        }
    }
}

#[test]
fn opening_reads_tables_and_a_piece_reads_its_media() {
    let long: &[&str] = &[
        "-b:v", "4M", "-minrate", "4M", "-maxrate", "4M", "-bufsize", "1M",
    ];
    for flags in [&[][..], &["-movflags", "frag_keyframe+empty_moov"]] {
        let bytes = both(
            &[AVC, long, &["-x264-params", "nal-hrd=cbr"], AAC, flags],
            "big.mp4",
        );
        let read = Arc::new(AtomicU64::new(0));
        let length = bytes.len() as u64;
        let source = Counting {
            bytes,
            read: read.clone(),
        };
        let grid = Grid {
            every_ms: 400,
            ..Grid::default()
        };
        let file = Mp4File::open(Arc::new(source), grid).expect("a file");
        let opened = read.swap(0, Ordering::Relaxed);
        assert!(opened < length / 20, "{opened} of {length}");
        let piece = file.piece_at_time(1_500).expect("a piece");
        let media: usize = piece.frames.iter().map(|frame| frame.payload.len()).sum();
        let read = read.load(Ordering::Relaxed);
        assert!(read < media as u64 + 20_000, "{read} for {media}");
    }
}
