use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use headwater_amf::{Limits, Value, amf0};
use proptest::prelude::*;

use super::*;
use crate::file::{FileError, FileFrame, FilePiece, Grid, MediaFile, ReadAt};

const SMALL: Grid = Grid {
    every_ms: 200,
    max_bytes: 3_000,
};

fn path() -> std::path::PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("headwater-mp3-{}-{number}.mp3", std::process::id()))
}

fn ffmpeg(arguments: &str) -> Bytes {
    let path = path();
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

/// Size and Adler-32 of each packet, from ffprobe.
fn packets(bytes: &Bytes) -> Vec<(usize, u64)> {
    let path = path();
    std::fs::write(&path, bytes).expect("it can be written");
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_packets", "-show_data_hash", "adler32"])
        .args([
            "-show_entries",
            "packet=size,data_hash",
            "-of",
            "compact=p=0",
        ])
        .arg(&path)
        .output()
        .expect("ffprobe runs");
    std::fs::remove_file(&path).expect("it is there");
    assert!(output.status.success());
    // Side data gets lines of its own, so that a packet may have two.
    let text = String::from_utf8(output.stdout).expect("text");
    let fields = |name: &'static str| {
        let fields = text.split(['|', '\n']);
        fields.filter_map(move |field| field.strip_prefix(name))
    };
    let sizes = fields("size=").map(|size| size.parse().expect("a size"));
    let hashes =
        fields("data_hash=adler32:").map(|hash| u64::from_str_radix(hash, 16).expect("a digest"));
    sizes.zip(hashes).collect()
}

fn adler32(bytes: &[u8]) -> u64 {
    let (a, b) = bytes.iter().fold((1_u64, 0_u64), |(a, b), byte| {
        let a = (a + u64::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    b << 16 | a
}

fn open(bytes: &Bytes, grid: Grid) -> Mp3File {
    Mp3File::open(Arc::new(bytes.clone()), grid).expect("it opens")
}

fn walk(file: &Mp3File) -> Vec<FilePiece> {
    let mut pieces = vec![file.piece_at_time(0).expect("a piece")];
    while let Some(next) = pieces.last().and_then(|piece| piece.next) {
        pieces.push(file.piece_at(next).expect("a piece"));
    }
    pieces
}

fn frames(pieces: &[FilePiece]) -> Vec<&FileFrame> {
    pieces.iter().flat_map(|piece| &piece.frames).collect()
}

/// Checks pieces against the frames in them, and that all ways lead to the same. Gives the frames.
fn check(bytes: &Bytes, grid: Grid) -> Vec<FileFrame> {
    let file = open(bytes, grid);
    let pieces = walk(&file);
    let mut last: Option<&FileFrame> = None;
    for (number, piece) in pieces.iter().enumerate() {
        let payload: usize = piece.frames.iter().map(|frame| frame.payload.len()).sum();
        assert!(payload <= grid.max_bytes || piece.frames.len() == 1);
        for (n, frame) in piece.frames.iter().enumerate() {
            let bucket = |frame: &FileFrame| frame.timestamp / grid.every_ms;
            let on_grid = last.is_none_or(|last| bucket(last) != bucket(frame));
            let is_full = number > 0 && {
                let before = &pieces[number - 1].frames;
                let held: usize = before.iter().map(|frame| frame.payload.len()).sum();
                held + frame.payload.len() > grid.max_bytes
            };
            assert_eq!(
                n == 0,
                on_grid || (n == 0 && is_full),
                "frame {n} of piece {number}"
            );
            last = Some(frame);
        }
        assert_eq!(piece.first, piece.frames[0].position);
        assert_eq!(piece.start_ms, piece.frames[0].timestamp);
        let end = pieces
            .get(number + 1)
            .map_or_else(|| file.info().duration_ms, |next| next.start_ms);
        assert_eq!(piece.end_ms, end);
        assert_eq!(
            &open(bytes, grid).piece_at(piece.first).expect("a piece"),
            piece
        );
    }
    for ms in (0..file.info().duration_ms + 100).step_by(13) {
        let wanted = pieces
            .iter()
            .rfind(|piece| piece.start_ms <= ms)
            .expect("a piece");
        assert_eq!(&file.piece_at_time(ms).expect("a piece"), wanted, "at {ms}");
        assert_eq!(
            &open(bytes, grid).piece_at_time(ms).expect("a piece"),
            wanted,
            "at {ms}"
        );
    }
    let second = &pieces[0].frames[1];
    assert!(file.piece_at(second.position).is_err() && file.piece_at(second.position + 1).is_err());
    frames(&pieces).into_iter().cloned().collect()
}

#[test]
fn files_of_ffmpeg_give_their_packets() {
    for (arguments, duration, sound) in [
        (
            "-f lavfi -i sine=r=44100 -t 3 -c:a libmp3lame -b:a 64k",
            3_000,
            0x2e,
        ),
        (
            "-f lavfi -i sine=r=44100 -t 3 -ac 2 -c:a libmp3lame -q:a 5",
            3_000,
            0x2f,
        ),
        (
            "-f lavfi -i anoisesrc=r=48000 -t 2 -ac 2 -c:a libmp3lame -q:a 0 -id3v2_version 4 -write_id3v1 1",
            2_000,
            0x2f,
        ),
        (
            "-f lavfi -i sine=r=22050 -t 3 -c:a libmp3lame -b:a 32k",
            3_000,
            0x2a,
        ),
        (
            "-f lavfi -i sine=r=8000 -t 2 -c:a libmp3lame -b:a 16k",
            2_000,
            0x26,
        ),
        (
            "-f lavfi -i sine=r=44100 -t 2 -c:a libmp3lame -b:a 96k -write_xing 0 -id3v2_version 0",
            2_000,
            0x2e,
        ),
    ] {
        let bytes = ffmpeg(arguments);
        let file = open(&bytes, SMALL);
        // An encoder adds a frame or two.
        let info = file.info();
        assert!(
            (duration..duration + 250).contains(&info.duration_ms),
            "{arguments}: {info:?}"
        );
        let found = check(&bytes, SMALL);
        assert!(
            found.iter().all(|frame| frame.payload[0] == sound),
            "{arguments}: {:x}",
            found[0].payload[0]
        );
        let found: Vec<(usize, u64)> = found
            .iter()
            .map(|frame| (frame.payload.len() - 1, adler32(&frame.payload[1..])))
            .collect();
        assert_eq!(found, packets(&bytes), "{arguments}");
        assert_eq!(check(&bytes, Grid::default()).len(), found.len());
    }
}

#[test]
fn tags_of_ffmpeg_are_read() {
    let bytes = ffmpeg(
        "-f lavfi -i sine -t 1 -c:a libmp3lame -metadata title=Title -metadata artist=Ärtist -metadata comment=Hello -write_id3v1 1",
    );
    let file = Id3File::open(Arc::new(bytes), SMALL).expect("it opens");
    let piece = file.piece_at_time(0).expect("a piece");
    let message = &piece.frames[0].payload;
    let values = amf0::decode_all(message, Limits::default()).expect("AMF");
    assert_eq!(values[0].as_str(), Some("onId3"));
    let text = |name| values[1].get(name).and_then(Value::as_str);
    assert_eq!(text("TIT2"), Some("Title"));
    assert_eq!(text("TPE1"), Some("Ärtist"));
}

/// A frame of 417 bytes, or 418 with padding, filled with a byte.
fn frame(fill: u8, padding: bool) -> Vec<u8> {
    let size = 417 + usize::from(padding);
    let mut frame = vec![fill; size];
    frame[..4].copy_from_slice(&[0xff, 0xfb, 0x90 | u8::from(padding) << 1, 0]);
    frame
}

fn sound(frames: usize) -> Vec<u8> {
    (0..frames)
        .flat_map(|n| frame(n as u8 & 0x7f, n % 3 == 0))
        .collect()
}

#[test]
fn garbage_is_skipped_and_takes_no_time() {
    let plain = check(&sound(60).into(), SMALL);
    let mut garbage = vec![0; 500];
    garbage.extend_from_slice(&[0xff, 0xfb, 0x90, 0, 1, 2, 3]);
    garbage.extend_from_slice(&[0xff; 100]);
    let mut bytes = garbage.clone();
    let whole = sound(60);
    // After the 21st frame.
    let at = (0..21).map(|n| frame(0, n % 3 == 0).len()).sum();
    bytes.extend_from_slice(&whole[..at]);
    bytes.extend_from_slice(&garbage);
    bytes.extend_from_slice(&whole[at..]);
    bytes.extend_from_slice(&garbage);
    let bytes = Bytes::from(bytes);
    let pieces = walk(&open(&bytes, SMALL));
    let found = frames(&pieces);
    assert_eq!(found.len(), 60);
    for (found, plain) in found.iter().zip(&plain) {
        assert_eq!(
            (found.timestamp, &found.payload),
            (plain.timestamp, &plain.payload)
        );
    }
    for piece in &pieces {
        assert_eq!(
            &open(&bytes, SMALL).piece_at(piece.first).expect("a piece"),
            piece
        );
        assert_eq!(
            &open(&bytes, SMALL)
                .piece_at_time(piece.start_ms)
                .expect("a piece"),
            piece
        );
    }
}

#[test]
fn too_much_garbage_is_an_error_where_it_begins() {
    let before = sound(30);
    let gap = before.len() as u64;
    let bytes = Bytes::from([before, vec![0; 2 * MAX_GARBAGE], sound(30)].concat());
    let file = open(&bytes, SMALL);
    let mut piece = file.piece_at_time(0).expect("a piece");
    let mut count = piece.frames.len();
    let error = loop {
        match file.piece_at(piece.next.expect("it does not end")) {
            Ok(next) => piece = next,
            Err(error) => break error,
        }
        count += piece.frames.len();
    };
    assert_eq!(count, 30);
    assert!(
        matches!(error, FileError::Invalid { offset, .. } if offset == gap),
        "{error}"
    );
    let garbage = Bytes::from(vec![0; 2 * MAX_GARBAGE]);
    assert!(matches!(
        Mp3File::open(Arc::new(garbage), SMALL),
        Err(FileError::Invalid { offset: 0, .. })
    ));
}

#[test]
fn what_is_no_mp3_is_refused() {
    let fill = |header: [u8; 4]| [&header[..], &[0; 2_000]].concat();
    for (what, bytes, is_unsupported) in [
        ("layer II", fill([0xff, 0xfd, 0x90, 0]), true),
        ("free format", fill([0xff, 0xfb, 0x00, 0]), true),
        ("tags alone", b"ID3\x03\0\0\0\0\0\0".to_vec(), true),
        ("nothing", Vec::new(), false),
        ("text", b"What is this?".repeat(50), false),
        ("one header", vec![0xff, 0xfb, 0x90, 0], false),
    ] {
        let error = Mp3File::open(Arc::new(Bytes::from(bytes)), SMALL).expect_err(what);
        match error {
            FileError::Unsupported { .. } => assert!(is_unsupported, "{what}"),
            FileError::Invalid { .. } => assert!(!is_unsupported, "{what}"),
            FileError::Read(error) => panic!("{what}: {error}"),
        }
    }
}

#[test]
fn a_file_without_sound_is_an_empty_piece() {
    let mut info = frame(0, false);
    info[36..40].copy_from_slice(b"Info");
    let file = open(&info.into(), SMALL);
    let piece = file.piece_at_time(5_000).expect("a piece");
    assert_eq!((piece.frames.len(), piece.next, piece.end_ms), (0, None, 0));
    assert_eq!(file.piece_at(piece.first).expect("a piece"), piece);
}

#[test]
fn a_file_cut_anywhere_plays_to_its_last_whole_frame() {
    let bytes = Bytes::from(sound(12));
    let ends: Vec<usize> = (0..12)
        .scan(0, |end, n| {
            *end += frame(0, n % 3 == 0).len();
            Some(*end)
        })
        .collect();
    for cut in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        match Mp3File::open(Arc::new(bytes.slice(..cut)), SMALL) {
            Ok(file) => assert_eq!(frames(&walk(&file)).len(), whole, "cut at {cut}"),
            // One frame alone is only taken for one if nothing follows.
            Err(error) => assert!(
                whole <= 1 && matches!(error, FileError::Invalid { .. }),
                "cut at {cut}"
            ),
        }
    }
}

/// A file larger than what is counted through.
#[test]
fn large_files_are_not_read_to_be_opened() {
    let mut xing = frame(0, false);
    let count = 50_000_u32;
    // Padded to 128 kbit/s, as encoders do it.
    let begins = |n: u32| u64::from(n) * 144 * 128_000 / 44_100;
    let body: Vec<u8> = (0..count)
        .flat_map(|n| frame(1, begins(n + 1) - begins(n) == 418))
        .collect();
    let mut put = |at: usize, word: u32| xing[at..at + 4].copy_from_slice(&word.to_be_bytes());
    put(36, u32::from_be_bytes(*b"Xing"));
    put(40, 3);
    put(44, count);
    put(48, 417 + body.len() as u32);
    let true_ms = u64::from(count) * 1_152 * 1_000 / 44_100;
    let mut lie = xing.clone();
    lie[44..48].copy_from_slice(&7_u32.to_be_bytes());
    for (what, front) in [("Xing", xing), ("a lie", lie), ("nothing", Vec::new())] {
        let bytes: Bytes = [front, body.clone()].concat().into();
        let counted = Arc::new(Counted {
            bytes: bytes.clone(),
            read: AtomicU64::new(0),
        });
        let file = Mp3File::open(counted.clone(), Grid::default()).expect("it opens");
        let duration = file.info().duration_ms;
        assert!(
            duration.abs_diff(true_ms) < 30,
            "{what}: {duration} of {true_ms}"
        );
        let read = counted.read.load(Ordering::Relaxed);
        assert!(read < bytes.length() / 2, "{what}: {read}");
        let piece = file.piece_at_time(duration / 2).expect("a piece");
        assert!((piece.start_ms..piece.end_ms).contains(&(duration / 2)));
    }
}

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

proptest! {
    #[test]
    fn any_change_can_be_read(changes in prop::collection::vec((0_usize..12_000, any::<u8>(), 0_usize..40), 1..8), end in 0_usize..13_000) {
        let mut bytes = sound(30);
        for (at, value, remove) in changes {
            let at = at.min(bytes.len());
            let to = (at + remove).min(bytes.len());
            bytes.splice(at..to, [value]);
        }
        bytes.truncate(end);
        let Ok(file) = Mp3File::open(Arc::new(Bytes::from(bytes)), SMALL) else {
            return Ok(());
        };
        let mut piece = file.piece_at_time(0).expect("the first piece");
        let mut last = None;
        loop {
            for frame in &piece.frames {
                prop_assert!(last.is_none_or(|last| last < (frame.position, frame.timestamp)));
                last = Some((frame.position, frame.timestamp));
            }
            match piece.next.map(|next| file.piece_at(next)) {
                Some(Ok(next)) => piece = next,
                _ => break,
            }
        }
        let _ = file.piece_at_time(300);
    }
}
