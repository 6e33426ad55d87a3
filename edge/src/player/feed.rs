//! From a piece to the bytes for one viewer.
//!
//! A viewer that wants everything of a piece, on the stream id that nearly every client gets, is sent slices of the piece's own
//! bytes, as long as the budget allows: nothing is copied and hardly anything is looked at. Every other viewer is sent frame by frame.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use headwater_media::frame::{FrameKind, Offset};

use crate::hub::SHARED_STREAM_ID;
use crate::recorded::{Follows, Piece, PieceFrame};

/// A frame that was sent, so that it can be found again in another form of the same stream: a recording that became a file has other
/// offsets, but the same frames at the same times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    /// Where it stood in the form in which it was sent.
    pub(crate) offset: Offset,
    pub(crate) kind: FrameKind,
    /// Milliseconds.
    pub(crate) timestamp: u64,
    /// Bytes of the payload.
    pub(crate) length: u32,
}

impl Mark {
    fn of(frame: &PieceFrame) -> Self {
        Self {
            offset: frame.offset,
            kind: frame.kind,
            timestamp: frame.timestamp,
            length: frame.payload_length,
        }
    }

    /// Whether it is this frame, wherever it stands.
    fn is(&self, frame: &PieceFrame) -> bool {
        (self.kind, self.timestamp, self.length)
            == (frame.kind, frame.timestamp, frame.payload_length)
    }
}

/// Where in a piece a viewer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the next frame.
    pub(super) index: usize,
    /// The viewer's decoder knows nothing of what came before.
    pub(super) fresh: bool,
}

/// Behind the last frame that was sent, in a piece that should hold it. `grows`: of a recording in which frames stand where they stand
/// in the live stream.
pub(super) fn behind(piece: &Piece, mark: &Mark, grows: bool) -> Place {
    let known = piece.frames.iter().rposition(|frame| mark.is(frame));
    if let Some(known) = known {
        return Place {
            index: known + 1,
            fresh: false,
        };
    }
    let begins_behind = piece
        .frames
        .first()
        .is_some_and(|first| first.timestamp >= mark.timestamp);
    if begins_behind {
        // The frame was the last of the piece before, and this is all that came after it.
        return Place {
            index: 0,
            fresh: true,
        };
    }
    if grows && piece.follows == Follows::Live && piece.next <= mark.offset {
        // It was sent live, and is not stored yet.
        return Place {
            index: piece.frames.len(),
            fresh: false,
        };
    }
    // Something else is stored now.
    Place {
        index: onward(piece, mark.timestamp).unwrap_or_else(|| piece.start_at(mark.timestamp)),
        fresh: true,
    }
}

/// The first frame with a greater timestamp: what a client wants that goes on after a pause.
pub(super) fn after(piece: &Piece, timestamp: u64) -> Place {
    let later = |frame: &PieceFrame| frame.timestamp > timestamp && !frame.is_header();
    Place {
        index: piece
            .frames
            .iter()
            .position(later)
            .unwrap_or(piece.frames.len()),
        fresh: false,
    }
}

/// The first frame at or after this media time from which a decoder can start.
pub(super) fn onward(piece: &Piece, timestamp: u64) -> Option<usize> {
    let mut frames = piece.frames.iter();
    let has_keys = piece.frames.iter().any(PieceFrame::is_key);
    frames.position(|frame| {
        frame.timestamp >= timestamp && !frame.is_header() && (frame.is_key() || !has_keys)
    })
}

/// What a viewer wants of the frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub(super) stream_id: u32,
    pub(super) audio: bool,
    pub(super) video: bool,
    /// Video only from the next key frame on.
    pub(super) await_key: bool,
    /// Media time that the client calls 0, in milliseconds.
    pub(super) shift: u64,
}

impl Wishes {
    pub(super) const fn of(stream_id: u32) -> Self {
        Self {
            stream_id,
            audio: true,
            video: true,
            await_key: false,
            shift: 0,
        }
    }

    /// Media time as the client counts it: what comes before its beginning is at its beginning.
    fn time(&self, timestamp: u64) -> u64 {
        timestamp.saturating_sub(self.shift)
    }

    fn everything(&self) -> bool {
        let plain = self.stream_id == SHARED_STREAM_ID && self.shift == 0;
        plain && self.audio && self.video && !self.await_key
    }

    fn take(&mut self, frame: &PieceFrame) -> bool {
        if frame.is_header() {
            return true;
        }
        match frame.kind {
            FrameKind::Audio => self.audio,
            FrameKind::Data => true,
            FrameKind::Video if !self.video => false,
            FrameKind::Video => {
                self.await_key &= !frame.is_key();
                !self.await_key
            }
        }
    }
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// At the end of the piece.
    Piece,
    /// Before the first frame at or after this media time, in milliseconds.
    Until(u64),
    /// After one picture; where there is no video, after one frame.
    OnePicture,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) frames: u64,
    pub(crate) bytes: usize,
}

/// A piece that is being sent.
#[derive(Debug)]
pub(super) struct Feed {
    piece: Arc<Piece>,
    index: usize,
    fresh: bool,
}

/// How far a [`Feed`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The budget is used up.
    Budget,
    /// The limit.
    Limit,
    /// The end of the piece.
    End,
}

impl Feed {
    pub(super) fn new(piece: Arc<Piece>, place: Place) -> Self {
        Self {
            index: place.index.min(piece.frames.len()),
            fresh: place.fresh,
            piece,
        }
    }

    pub(super) fn piece(&self) -> &Piece {
        &self.piece
    }

    /// Whether the viewer's decoder still has to be given codec headers and metadata.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The next frame.
    pub(super) fn next(&self) -> Option<&PieceFrame> {
        self.piece.frames.get(self.index)
    }

    /// Media time at which the next frame stands, in milliseconds.
    pub(super) fn position(&self) -> u64 {
        self.next()
            .map_or(self.piece.end_ms, |frame| frame.timestamp)
    }

    /// Moves what comes next to `out`, about `budget` bytes of it.
    pub(super) fn emit(
        &mut self,
        wishes: &mut Wishes,
        limit: Limit,
        out: &mut VecDeque<Bytes>,
        budget: usize,
        mark: &mut Option<Mark>,
    ) -> (Sent, Reached) {
        let mut sent = Sent::default();
        if self.index < self.piece.frames.len() && std::mem::take(&mut self.fresh) {
            sent.bytes += self.introduce(wishes, out);
        }
        let piece = Arc::clone(&self.piece);
        let has_video = piece
            .frames
            .iter()
            .any(|frame| frame.kind == FrameKind::Video && !frame.is_header());
        let begin = self.index;
        // Frames from here on go out in one slice.
        let mut run = begin;
        let mut reached = Reached::End;
        while let Some(frame) = piece.frames.get(self.index) {
            let over = |until| frame.timestamp >= until && !frame.is_header();
            if matches!(limit, Limit::Until(until) if over(until)) {
                reached = Reached::Limit;
                break;
            }
            if sent.bytes >= budget {
                reached = Reached::Budget;
                break;
            }
            self.index += 1;
            let picture = !frame.is_header()
                && (frame.kind == FrameKind::Video
                    || (!has_video && frame.kind == FrameKind::Audio));
            let one = limit == Limit::OnePicture;
            let wanted = if wishes.everything() && !one {
                true
            } else {
                push(out, piece.span(run..self.index - 1));
                run = self.index;
                let wanted = (!one || picture || frame.is_header()) && wishes.take(frame);
                if wanted {
                    push_one(&piece, frame, wishes, self.index - 1, out);
                }
                wanted
            };
            if wanted {
                sent.bytes += frame.wire_length();
                sent.frames += 1;
            }
            if !frame.is_header() && frame.kind != FrameKind::Data {
                // Also what the viewer does not want: it has gone past it.
                *mark = Some(Mark::of(frame));
            }
            if one && picture {
                reached = Reached::Limit;
                break;
            }
        }
        push(out, piece.span(run..self.index));
        (sent, reached)
    }

    /// Codec headers and metadata for a decoder that starts here.
    fn introduce(&self, wishes: &Wishes, out: &mut VecDeque<Bytes>) -> usize {
        let mut bytes = 0;
        for header in self.piece.preface_at(self.index).iter() {
            let (first, rest) = header.before(wishes.stream_id, wishes.time(self.position()));
            bytes += first.len() + rest.len();
            push(out, first);
            push(out, rest);
        }
        bytes
    }
}

fn push(out: &mut VecDeque<Bytes>, bytes: Bytes) {
    if !bytes.is_empty() {
        out.push_back(bytes);
    }
}

fn push_one(
    piece: &Piece,
    frame: &PieceFrame,
    wishes: &Wishes,
    index: usize,
    out: &mut VecDeque<Bytes>,
) {
    if wishes.stream_id == SHARED_STREAM_ID && wishes.shift == 0 {
        push(out, piece.span(index..index + 1));
    } else {
        let time = wishes.time(frame.timestamp);
        let (first, rest) = piece.rewritten(frame, wishes.stream_id, time);
        push(out, first);
        push(out, rest);
    }
}
