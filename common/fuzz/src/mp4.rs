//! MP4 files: opened, read from any place, and written again.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_media::file::{FileFrame, FilePiece, Grid, MediaFile};
use headwater_media::frame::FrameFlags;
use headwater_media::mp4::Mp4File;
use headwater_media::mp4::writer::Survey;

/// Most pieces that are read of an input: a few bytes can say that there are thousands.
const MAX_PIECES: usize = 256;

/// Short pieces, so that small files have several.
const GRID: Grid = Grid {
    every_ms: 300,
    max_bytes: 2_000,
};

/// MP4 files: a piece is the same whoever asks for it, and what was read can be written and read again.
pub fn mp4(data: &[u8]) {
    let Some((file, pieces)) = read(&Bytes::copy_from_slice(data)) else {
        return;
    };
    let mut before: Option<&FileFrame> = None;
    for piece in &pieces {
        assert!(piece.start_ms <= piece.end_ms, "time goes forward");
        for frame in &piece.frames {
            if let Some(before) = before {
                assert!(before.position < frame.position, "positions grow");
                assert!(before.timestamp <= frame.timestamp, "times do not shrink");
            }
            before = Some(frame);
        }
        let frames = piece.frames.iter().map(|frame| frame.payload.len());
        let is_single = piece.frames.len() <= 2;
        assert!(is_single || frames.sum::<usize>() <= GRID.max_bytes);
    }
    let times = pieces
        .iter()
        .flat_map(|piece| [piece.start_ms, piece.end_ms]);
    for ms in times.chain([u64::MAX]).take(2 * MAX_PIECES) {
        let Ok(found) = file.piece_at_time(ms) else {
            continue;
        };
        if let Some(same) = pieces.iter().find(|piece| piece.first == found.first) {
            assert_eq!(*same, found, "a piece is the same whoever asks");
        }
    }
    write_again(&pieces);
}

/// Opens a file, and reads its pieces from the first one on.
fn read(data: &Bytes) -> Option<(Mp4File, Vec<FilePiece>)> {
    let file = Mp4File::open(Arc::new(data.clone()), GRID).ok()?;
    let mut piece = file.piece_at_time(0).ok()?;
    let mut pieces = Vec::new();
    while let Some(next) = piece.next.filter(|_| pieces.len() < MAX_PIECES) {
        let after = file.piece_at(next);
        pieces.push(piece);
        let after = after.ok()?;
        assert_eq!(after.first, next);
        piece = after;
    }
    pieces.push(piece);
    Some((file, pieces))
}

fn write_again(pieces: &[FilePiece]) {
    let preface = pieces.first().map(|piece| &piece.preface[..]);
    let frames = pieces.iter().flat_map(|piece| &piece.frames);
    let all: Vec<&FileFrame> = preface.unwrap_or_default().iter().chain(frames).collect();
    let mut survey = Survey::new();
    for frame in &all {
        if survey
            .push(frame.kind, frame.timestamp, &frame.payload)
            .is_err()
        {
            return;
        }
    }
    let Ok(layout) = survey.finish() else {
        return;
    };
    let (length, left_out) = (layout.length(), layout.left_out());
    let mut writer = layout.writer();
    let mut out = BytesMut::new();
    writer.begin(&mut out);
    for frame in &all {
        let pushed = writer.push(frame.kind, frame.timestamp, &frame.payload, &mut out);
        assert!(pushed.is_ok(), "both passes agree");
    }
    assert!(writer.finish(&mut out).is_ok(), "both passes agree");
    assert_eq!(out.len() as u64, length);
    let file = Mp4File::open(Arc::new(out.freeze()), Grid::default());
    let file = file.expect("what was written can be opened");
    let mut piece = file.piece_at(first_position(&file)).expect("a piece");
    let mut found = coded(&piece.frames);
    while let Some(next) = piece.next {
        piece = file.piece_at(next).expect("a piece");
        found += coded(&piece.frames);
    }
    let expected: usize = pieces.iter().map(|piece| coded(&piece.frames)).sum();
    assert_eq!(found as u64 + left_out, expected as u64, "every frame once");
}

/// A file that was written begins with its first sample.
fn first_position(file: &Mp4File) -> u64 {
    u64::from(file.piece_at(1).is_ok())
}

fn coded(frames: &[FileFrame]) -> usize {
    let is_coded = |frame: &&FileFrame| !frame.flags.contains(FrameFlags::HEADER);
    frames.iter().filter(is_coded).count()
}
