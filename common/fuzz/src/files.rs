//! Readers of media files.

use std::sync::Arc;

use bytes::Bytes;
use headwater_media::file::{FileError, FileFrame, FilePiece, Grid, MediaFile, ReadAt};
use headwater_media::flv::FlvFile;
use headwater_media::frame::FrameFlags;
use headwater_media::mp3::{Id3File, Mp3File};

/// Small pieces, so that small files have many.
const GRID: Grid = Grid {
    every_ms: 200,
    max_bytes: 2_000,
};

/// Pieces of a file that are looked for once more in a file that was just opened.
const AGAIN: usize = 6;

/// FLV files by their pieces.
pub fn flv_file(data: &[u8]) {
    // Where a seek table may lead into the middle of a tag, only order is certain.
    let has_table = data.windows(9).any(|bytes| bytes == b"keyframes");
    walk(data, FlvFile::open, !has_table);
}

/// MP3 files by their pieces, and their tags.
pub fn mp3(data: &[u8]) {
    walk(data, Mp3File::open, true);
    walk(data, Id3File::open, true);
}

/// Goes through all pieces of a file, and, where pieces are a matter of the content alone, finds some of them again in other ways.
fn walk<F: MediaFile>(
    data: &[u8],
    open: impl Fn(Arc<dyn ReadAt>, Grid) -> Result<F, FileError>,
    is_certain: bool,
) {
    let source: Arc<dyn ReadAt> = Arc::new(Bytes::copy_from_slice(data));
    let open = || open(source.clone(), GRID);
    let Ok(file) = open() else {
        return;
    };
    let mut pieces: Vec<FilePiece> = Vec::new();
    let mut last = None;
    let mut next = file.piece_at_time(0).ok();
    while let Some(piece) = next {
        assert!(
            pieces.last().is_none_or(|last| last.first < piece.first),
            "pieces go on"
        );
        assert!(piece.start_ms <= piece.end_ms);
        for frame in &piece.frames {
            assert!(
                last.is_none_or(|last| last < frame.position),
                "frames go on"
            );
            last = Some(frame.position);
        }
        let payload: usize = piece.frames.iter().map(|frame| frame.payload.len()).sum();
        // Each metadata may have grown by its duration.
        let metadata = |frame: &&FileFrame| frame.flags.contains(FrameFlags::METADATA);
        let grown = 32 * piece.frames.iter().filter(metadata).count();
        assert!(payload <= GRID.max_bytes + grown || piece.frames.len() == 1);
        assert!(
            piece
                .preface
                .iter()
                .all(|frame| frame.position == piece.first)
        );
        next = piece.next.and_then(|next| file.piece_at(next).ok());
        pieces.push(piece);
    }
    let times = [1, 300, 1_000, 60_000, u64::MAX];
    let found: Vec<_> = times.map(|ms| file.piece_at_time(ms).ok()).into();
    if !is_certain {
        return;
    }
    for piece in pieces.iter().step_by(pieces.len().div_ceil(AGAIN).max(1)) {
        let again = open().and_then(|file| file.piece_at(piece.first));
        assert_eq!(again.ok().as_ref(), Some(piece), "found again");
    }
    // Where time jumps to and fro, what is found at a time may depend on what was read before; it always is one of the pieces.
    for (ms, found) in times.into_iter().zip(found) {
        let again = open().and_then(|file| file.piece_at_time(ms)).ok();
        for found in [found, again].into_iter().flatten() {
            assert!(pieces.contains(&found), "at {ms}");
        }
    }
}
