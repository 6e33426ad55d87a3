//! Stored streams in memory.
//!
//! Each has a picture every 100 ms and a key frame every second, audio every 50 ms, codec headers and metadata. Payloads say which
//! frame of which stream they are.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use headwater_cluster::wire;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_proto::v1;

use crate::recorded::{Description, Piece, Place, RecordedError, Stored};

pub(crate) const CHUNK: u32 = 4_096;
/// Media time between pictures.
pub(crate) const FRAME_MS: u64 = 100;
const KEY_MS: u64 = 1_000;
const PIECE_MS: u64 = 2_000;

/// One stream.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    pub(crate) generation: u64,
    pub(crate) publishing: bool,
    pub(crate) growing: bool,
    /// The stream's own letter, in all its payloads.
    pub(crate) tag: u8,
    pub(crate) frames: Vec<Frame>,
    /// What is asked for fails with this.
    pub(crate) failure: Option<RecordedError>,
    /// Pieces that were fetched.
    pub(crate) fetched: usize,
}

impl Library {
    /// A file of so many milliseconds.
    pub(crate) fn file(tag: u8, length_ms: u64) -> Self {
        Self::of(tag, length_ms, FRAME_MS, true)
    }

    /// Only audio.
    pub(crate) fn audio(tag: u8, length_ms: u64) -> Self {
        Self::of(tag, length_ms, FRAME_MS, false)
    }

    /// A recording that grows, of what is being published.
    pub(crate) fn growing(tag: u8, length_ms: u64) -> Self {
        Self {
            growing: true,
            publishing: true,
            ..Self::file(tag, length_ms)
        }
    }

    fn of(tag: u8, length_ms: u64, picture_ms: u64, video: bool) -> Self {
        let mut frames: Vec<Frame> = Vec::new();
        let mut push = |timestamp, kind, flags, payload: Vec<u8>| {
            // As in a file: positions grow, and have holes.
            let sequence = frames.len() as u64 * 3;
            frames.push(Frame {
                offset: Offset {
                    epoch: Epoch(1),
                    sequence,
                },
                timestamp,
                kind,
                flags,
                payload: Bytes::from(payload),
            });
        };
        let metadata = [&b"\x02\x00\x0aonMetaData"[..], &[2, 0, 1, tag]].concat();
        push(0, FrameKind::Data, FrameFlags::METADATA, metadata);
        if video {
            let header = vec![0x17, 0, 0, 0, 0, tag];
            push(0, FrameKind::Video, FrameFlags::HEADER, header);
        }
        let header = vec![0xAF, 0, tag];
        push(0, FrameKind::Audio, FrameFlags::HEADER, header);
        for timestamp in (0..length_ms).step_by(50) {
            let number = timestamp.to_be_bytes();
            if video && timestamp % picture_ms == 0 {
                let key = timestamp % KEY_MS == 0;
                let (flags, first) = if key {
                    (FrameFlags::KEY, 0x17)
                } else {
                    (FrameFlags::empty(), 0x27)
                };
                // Key frames are larger than a chunk.
                let size = if key { 5_000 } else { 400 };
                let mut payload = vec![first, 1, 0, 0, 0, tag];
                payload.extend(number);
                payload.resize(size, 0);
                push(timestamp, FrameKind::Video, flags, payload);
            }
            let mut payload = vec![0xAF, 1, tag];
            payload.extend(number);
            push(timestamp, FrameKind::Audio, FrameFlags::empty(), payload);
        }
        Self {
            generation: 7,
            publishing: false,
            growing: false,
            tag,
            frames,
            failure: None,
            fetched: 0,
        }
    }

    /// Becomes as long as this.
    pub(crate) fn grow(&mut self, length_ms: u64) {
        let longer = Self::file(self.tag, length_ms);
        self.frames = longer.frames;
    }

    /// The recording has ended, and is a file now: the same frames at other positions.
    pub(crate) fn become_file(&mut self) {
        self.generation += 1;
        (self.growing, self.publishing) = (false, false);
        for (number, frame) in (0..).zip(&mut self.frames) {
            frame.offset = Offset {
                epoch: Epoch(0),
                sequence: 100 + number * 7,
            };
        }
    }

    fn end_ms(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.timestamp + 50)
    }

    pub(crate) fn end(&self) -> Offset {
        let last = self.frames.last().map(|frame| frame.offset.next());
        last.unwrap_or_default()
    }

    pub(crate) fn describe(&self) -> Result<Description, RecordedError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let stored = (!self.frames.is_empty()).then(|| Stored {
            generation: self.generation,
            start_ms: 0,
            end_ms: self.end_ms(),
            bytes: 1,
            growing: self.growing,
            has_audio: true,
            has_video: true,
        });
        Ok(Description {
            publishing: self.publishing,
            stored,
            info: None,
        })
    }

    pub(crate) fn piece(
        &mut self,
        generation: u64,
        place: Place,
    ) -> Result<Arc<Piece>, RecordedError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if generation != self.generation {
            return Err(RecordedError::Replaced);
        }
        self.fetched += 1;
        let cuts = self.cuts();
        let range = self.range(&cuts, place);
        Ok(Arc::new(Piece::from_wire(self.cut(range), CHUNK).unwrap()))
    }

    /// As an origin gives it.
    pub(crate) fn wire_piece(&self, place: Place) -> v1::Piece {
        let cuts = self.cuts();
        self.cut(self.range(&cuts, place))
    }

    fn range(&self, cuts: &[Range<usize>], place: Place) -> Range<usize> {
        let holds = |range: &&Range<usize>| match place {
            Place::Offset(offset) => self.frames[range.start].offset <= offset,
            Place::Time(ms) => self.frames[range.start].timestamp <= ms,
        };
        cuts.iter().rev().find(holds).unwrap_or(&cuts[0]).clone()
    }

    fn cuts(&self) -> Vec<Range<usize>> {
        let mut begins = vec![0];
        let mut due = PIECE_MS;
        let has_video = self.frames.iter().any(|it| it.kind == FrameKind::Video);
        for (index, frame) in self.frames.iter().enumerate() {
            let key = frame.flags.contains(FrameFlags::KEY) || !has_video;
            if frame.timestamp >= due && key {
                begins.push(index);
                due += PIECE_MS;
            }
        }
        let ends = begins[1..].iter().copied().chain([self.frames.len()]);
        begins
            .iter()
            .copied()
            .zip(ends)
            .map(|(a, b)| a..b)
            .collect()
    }

    fn cut(&self, range: Range<usize>) -> v1::Piece {
        let next = self.frames.get(range.end);
        let follows = match (next, self.growing) {
            (Some(_), _) => v1::Follows::Piece,
            (None, true) => v1::Follows::Live,
            (None, false) => v1::Follows::End,
        };
        let preface = if range.start == 0 {
            &[]
        } else {
            let headers = self.frames.iter().take_while(|it| it.is_preface()).count();
            &self.frames[..headers]
        };
        let to_frame = |frame: &Frame| wire::to_frame(frame);
        v1::Piece {
            generation: self.generation,
            first: Some(wire::to_offset(self.frames[range.start].offset)),
            next: Some(wire::to_offset(
                next.map_or_else(|| self.end(), |next| next.offset),
            )),
            follows: follows.into(),
            start_ms: self.frames[range.start].timestamp,
            end_ms: next.map_or_else(|| self.end_ms(), |next| next.timestamp),
            preface: preface.iter().map(to_frame).collect(),
            frames: Some(v1::FrameBatch {
                epoch: self.frames[range.start].offset.epoch.0,
                frames: self.frames[range].iter().map(to_frame).collect(),
            }),
        }
    }
}
