//! A piece of a stored stream in the form in which viewers get it.
//!
//! The RTMP chunks of all its frames (RTMP 1.0, section 5.3) stand in one run of bytes, made once and shared: a viewer that wants
//! everything gets slices of it, as long as its buffer asks for. Nothing else is kept of a payload. What a viewer with another stream
//! id, another time or without audio needs is made from that run, with a header of its own and the shared rest.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_cluster::wire;
use headwater_media::frame::{Epoch, Frame, FrameFlags, FrameKind, Offset};
use headwater_media::window::{Preface as InForce, Slot, WindowItem as _};
use headwater_proto::v1;
use headwater_rtmp::chunk::{self, EXTENDED_TIMESTAMP};
use headwater_rtmp::message::{MAX_MESSAGE_LENGTH, Message};

use super::model::Follows;
use crate::hub::{Preface, SHARED_STREAM_ID, WireFrame, chunk_stream, message_type, wrapped};

/// What is wrong with a piece that an origin sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a malformed piece: {0}")]
pub(crate) struct Malformed(pub(super) &'static str);

/// Some seconds of a stored stream. Never changes; only the last one of a growing recording comes again with more frames.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) generation: u64,
    pub(crate) first: Offset,
    /// Where the next piece begins.
    pub(crate) next: Offset,
    pub(crate) follows: Follows,
    /// Media time that it covers, in milliseconds: from here to before `end_ms`, where the next piece begins.
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    /// Codec headers and metadata in force at the first frame, metadata first.
    pub(crate) preface: Preface,
    pub(crate) frames: Vec<PieceFrame>,
    wire: Bytes,
    chunk_size: u32,
    /// Media time of the first frame at which a decoder can start.
    earliest_start: Option<u64>,
    has_video: bool,
}

/// A frame of a [`Piece`], which has its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceFrame {
    pub(crate) offset: Offset,
    /// Media time in milliseconds, not wrapped.
    pub(crate) timestamp: u64,
    pub(crate) kind: FrameKind,
    pub(crate) flags: FrameFlags,
    /// Bytes of the payload.
    pub(crate) payload_length: u32,
    /// Where its first chunk begins in the piece's bytes, and where its last one ends.
    start: u32,
    end: u32,
    /// Bytes of its first chunk header.
    header_length: u8,
}

impl PieceFrame {
    /// A video key frame, not its codec header.
    pub(crate) fn is_key(&self) -> bool {
        self.kind == FrameKind::Video && self.flags.contains(FrameFlags::KEY) && !self.is_header()
    }

    /// Codec header or sticky metadata, or the end of such.
    pub(crate) fn is_header(&self) -> bool {
        let sticky = FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA;
        self.flags.intersects(sticky)
    }

    /// Bytes in the shared form.
    pub(crate) fn wire_length(&self) -> usize {
        (self.end - self.start) as usize
    }

    fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Piece {
    /// Takes a piece as an origin sent it.
    pub(crate) fn from_wire(piece: v1::Piece, chunk_size: u32) -> Result<Self, Malformed> {
        if piece.generation == 0 {
            // It would stand for any.
            return Err(Malformed("no generation"));
        }
        let first = wire::offset(piece.first.ok_or(Malformed("no beginning"))?);
        let next = wire::offset(piece.next.ok_or(Malformed("no end"))?);
        let follows = Follows::from_wire(piece.follows()).ok_or(Malformed("no successor"))?;
        if next < first || (next == first && follows == Follows::Piece) {
            return Err(Malformed("ends before it begins"));
        }
        let batch = piece.frames.unwrap_or_default();
        let epoch = Epoch(batch.epoch);
        let frames = wire::frames(epoch, batch.frames);
        let preface: Vec<Arc<WireFrame>> = wire::frames(epoch, piece.preface)
            .iter()
            .filter(|frame| frame.payload.len() <= MAX_MESSAGE_LENGTH)
            .map(|frame| Arc::new(WireFrame::new(frame, chunk_size)))
            .collect();
        let mut made = Self {
            generation: piece.generation,
            first,
            next,
            follows,
            start_ms: piece.start_ms,
            end_ms: piece.end_ms.max(piece.start_ms),
            has_video: preface.iter().any(|header| header.kind == FrameKind::Video),
            preface: Arc::new(preface),
            frames: Vec::with_capacity(frames.len()),
            wire: Bytes::new(),
            chunk_size,
            earliest_start: None,
        };
        made.put(&frames)?;
        Ok(made)
    }

    fn put(&mut self, frames: &[Frame]) -> Result<(), Malformed> {
        let lengths = frames.iter().map(|frame| {
            chunk::shared_wire_length(
                chunk_stream(frame.kind),
                wrapped(frame.timestamp),
                frame.payload.len(),
                self.chunk_size,
            )
        });
        let mut out = BytesMut::with_capacity(lengths.sum());
        let mut expected = self.first;
        for frame in frames {
            if frame.offset < expected || frame.offset >= self.next {
                return Err(Malformed("frames out of order"));
            }
            if frame.payload.len() > MAX_MESSAGE_LENGTH {
                return Err(Malformed("a frame too large for a message"));
            }
            expected = frame.offset.next();
            let message = Message {
                kind: message_type(frame.kind),
                timestamp: wrapped(frame.timestamp),
                stream_id: SHARED_STREAM_ID,
                payload: frame.payload.clone(),
            };
            let start = place(out.len())?;
            let stream = chunk_stream(frame.kind);
            let header = chunk::put_shared_wire_form(stream, &message, self.chunk_size, &mut out);
            self.has_video |= frame.kind == FrameKind::Video;
            self.frames.push(PieceFrame {
                offset: frame.offset,
                timestamp: frame.timestamp,
                kind: frame.kind,
                flags: frame.flags,
                payload_length: place(frame.payload.len())?,
                start,
                end: place(out.len())?,
                header_length: u8::try_from(header).map_err(|_| Malformed("a long header"))?,
            });
        }
        self.wire = out.freeze();
        self.earliest_start = if self.has_video {
            let key = self.frames.iter().find(|frame| frame.is_key());
            key.map(|frame| frame.timestamp)
        } else {
            Some(self.start_ms)
        };
        Ok(())
    }

    /// The shared bytes of frames that stand one after the other, by their indexes: for viewers whose NetStream has the shared
    /// stream id ([`SHARED_STREAM_ID`]) and who get every one of them.
    pub(crate) fn span(&self, frames: Range<usize>) -> Bytes {
        let Some([first, .., last] | [first @ last]) = self.frames.get(frames) else {
            return Bytes::new();
        };
        self.wire.slice(first.start as usize..last.end as usize)
    }

    /// The bytes of one frame for a viewer with this stream id, at this media time in milliseconds: a header of its own, then the
    /// shared rest.
    pub(crate) fn rewritten(
        &self,
        frame: &PieceFrame,
        stream_id: u32,
        timestamp: u64,
    ) -> (Bytes, Bytes) {
        let kind = message_type(frame.kind);
        let stream = chunk_stream(frame.kind);
        let (own, wanted) = (wrapped(frame.timestamp), wrapped(timestamp));
        let plain = own < EXTENDED_TIMESTAMP && wanted < EXTENDED_TIMESTAMP;
        if !self.is_one_chunk(frame) && own != wanted && !plain {
            // The headers between its chunks repeat an extended timestamp: they have to be made anew.
            let message = Message {
                kind,
                timestamp: wanted,
                stream_id,
                payload: self.payload(frame),
            };
            let form = chunk::shared_wire_form(stream, &message, self.chunk_size);
            return (form.bytes, Bytes::new());
        }
        let header = chunk::header(stream, wanted, frame.payload_length, kind, stream_id);
        let rest = frame.start as usize + usize::from(frame.header_length);
        (
            Bytes::copy_from_slice(&header),
            self.wire.slice(rest..frame.end as usize),
        )
    }

    /// The payload of a frame: shared where it is one chunk, else put together.
    pub(crate) fn payload(&self, frame: &PieceFrame) -> Bytes {
        let range = frame.range();
        let rest = self
            .wire
            .slice(range.start + usize::from(frame.header_length)..range.end);
        if self.is_one_chunk(frame) {
            return rest;
        }
        let own = wrapped(frame.timestamp);
        let between = 1 + if own < EXTENDED_TIMESTAMP { 0 } else { 4 };
        let mut payload = BytesMut::with_capacity(frame.payload_length as usize);
        for chunk in rest.chunks(self.chunk_size as usize + between) {
            let end = chunk.len().min(self.chunk_size as usize);
            payload.extend_from_slice(chunk.get(..end).unwrap_or_default());
            // What is left of `chunk` is the header of the next one.
        }
        payload.freeze()
    }

    /// The first frame at or after `offset`, by index; as many as there are frames, if all are older.
    pub(crate) fn index_at(&self, offset: Offset) -> usize {
        self.frames.partition_point(|frame| frame.offset < offset)
    }

    /// Where a decoder starts that was to start at media time `ms`: the newest key frame at or before it, of a stream without video
    /// the newest frame; the first frame, if there is none.
    pub(crate) fn start_at(&self, ms: u64) -> usize {
        let starts = |frame: &PieceFrame| {
            frame.timestamp <= ms
                && if self.has_video {
                    frame.is_key()
                } else {
                    !frame.is_header()
                }
        };
        self.frames.iter().rposition(starts).unwrap_or(0)
    }

    /// Codec headers and metadata in force at a frame, by its index.
    pub(crate) fn preface_at(&self, index: usize) -> Preface {
        let before = self.frames.get(..index).unwrap_or_default();
        let mut changes = before.iter().filter(|frame| frame.is_header()).peekable();
        if changes.peek().is_none() {
            return Arc::clone(&self.preface);
        }
        let mut in_force = InForce::new();
        for header in self.preface.iter() {
            in_force.apply(&header.slot(), header);
        }
        let mut epoch = self.first.epoch;
        for frame in changes {
            epoch = frame.offset.epoch;
            let frame = Frame {
                offset: frame.offset,
                timestamp: frame.timestamp,
                kind: frame.kind,
                flags: frame.flags,
                payload: self.payload(frame),
            };
            let slot = Slot::of(frame.kind, &frame.payload);
            in_force.apply(&slot, &Arc::new(WireFrame::new(&frame, self.chunk_size)));
        }
        Arc::new(in_force.frames(epoch))
    }

    /// Whether a decoder that is to start at media time `ms` can start in this piece, and not only in one before.
    pub(super) fn starts_at(&self, ms: u64) -> bool {
        self.earliest_start.is_some_and(|start| start <= ms)
    }

    /// Bytes in memory.
    pub(super) fn size(&self) -> usize {
        let preface = self.preface.iter().map(|it| it.size());
        size_of::<Self>()
            + self.wire.len()
            + self.frames.capacity() * size_of::<PieceFrame>()
            + preface.sum::<usize>()
    }

    fn is_one_chunk(&self, frame: &PieceFrame) -> bool {
        frame.payload_length <= self.chunk_size
    }
}

/// A place in the bytes of a piece: they are bounded by gRPC's largest message.
fn place(bytes: usize) -> Result<u32, Malformed> {
    u32::try_from(bytes).map_err(|_| Malformed("too many bytes"))
}
