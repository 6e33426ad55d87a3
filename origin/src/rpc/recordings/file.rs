//! Media files as the contract has them.
//!
//! A file's frames are of epoch [`FILE_EPOCH`], and their sequence is their position in the file.

use headwater_cluster::wire as cluster_wire;
use headwater_media::file::{FileFrame, FilePiece};
use headwater_media::frame::{Frame, Offset};
use headwater_proto::v1;

use super::{FILE_EPOCH, MAX_PIECE_BYTES, MAX_PIECE_FRAMES, Rejection};
use crate::vod::library::OpenFile;

pub(super) fn to_stored(found: &OpenFile) -> v1::Stored {
    let info = found.info();
    v1::Stored {
        generation: found.generation(),
        start_ms: 0,
        end_ms: info.duration_ms,
        bytes: found.bytes(),
        growing: false,
        has_audio: info.has_audio,
        has_video: info.has_video,
    }
}

pub(in crate::rpc) fn to_piece(generation: u64, piece: &FilePiece) -> Result<v1::Piece, Rejection> {
    let all = piece.preface.iter().chain(&piece.frames);
    let bytes = all.fold(0_usize, |bytes, frame| {
        bytes.saturating_add(frame.payload.len())
    });
    let frames = piece.frames.len() + piece.preface.len();
    if bytes > MAX_PIECE_BYTES || frames > MAX_PIECE_FRAMES {
        return Err(Rejection::new(
            v1::RecordingReason::Limit,
            format!("the piece has {frames} frames and {bytes} bytes, more than a message may"),
        ));
    }
    let offset = |position| {
        cluster_wire::to_offset(Offset {
            epoch: FILE_EPOCH,
            sequence: position,
        })
    };
    let (next, follows) = match piece.next {
        Some(next) => (next, v1::Follows::Piece),
        None => {
            let last = piece.frames.last().map(|frame| frame.position);
            let end = last.map_or(piece.first, |last| last.saturating_add(1));
            (end, v1::Follows::End)
        }
    };
    Ok(v1::Piece {
        generation,
        first: Some(offset(piece.first)),
        next: Some(offset(next)),
        follows: follows.into(),
        start_ms: piece.start_ms,
        end_ms: piece.end_ms,
        preface: to_frames(&piece.preface),
        frames: Some(v1::FrameBatch {
            epoch: FILE_EPOCH.0,
            frames: to_frames(&piece.frames),
        }),
    })
}

fn to_frames(frames: &[FileFrame]) -> Vec<v1::Frame> {
    let frames = frames.iter().map(|frame| Frame {
        offset: Offset {
            epoch: FILE_EPOCH,
            sequence: frame.position,
        },
        timestamp: frame.timestamp,
        kind: frame.kind,
        flags: frame.flags,
        payload: frame.payload.clone(),
    });
    frames.map(|frame| cluster_wire::to_frame(&frame)).collect()
}
