//! A frame in the form in which viewers get it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use headwater_media::frame::{Frame, FrameFlags, FrameKind, Offset};
use headwater_media::window::{Slot, WindowItem};
use headwater_rtmp::chunk::{self, SharedWire};
use headwater_rtmp::command::chunk_streams;
use headwater_rtmp::message::{Message, MessageType};

/// The NetStream message stream id that the shared header carries: what nearly every client gets for its first stream.
pub(crate) const SHARED_STREAM_ID: u32 = 1;

/// From this timestamp on a chunk header needs the extended field (RTMP 1.0, section 5.3.1.3).
const EXTENDED_TIMESTAMP: u32 = 0x00FF_FFFF;

/// A frame as RTMP bytes, made once and shared.
#[derive(Clone, Debug)]
pub(crate) struct WireFrame {
    pub(crate) offset: Offset,
    pub(crate) timestamp: u64,
    pub(crate) kind: FrameKind,
    pub(crate) flags: FrameFlags,
    /// Chunk header, payload, and continuation headers between the chunks of a large one; contiguous.
    wire: Bytes,
    header_length: usize,
    payload_length: u32,
    chunk_size: u32,
    /// What a codec header or metadata frame is about.
    slot: Option<Box<Slot>>,
}

/// Codec headers and metadata that a decoder needs before a frame. Shared by all frames between two changes.
pub(crate) type Preface = Arc<Vec<Arc<WireFrame>>>;

impl WireFrame {
    pub(crate) fn new(frame: &Frame, chunk_size: u32) -> Self {
        let message = Message {
            kind: message_type(frame.kind),
            timestamp: wrapped(frame.timestamp),
            stream_id: SHARED_STREAM_ID,
            payload: frame.payload.clone(),
        };
        let SharedWire {
            bytes,
            header_length,
        } = chunk::shared_wire_form(chunk_stream(frame.kind), &message, chunk_size);
        Self {
            offset: frame.offset,
            timestamp: frame.timestamp,
            kind: frame.kind,
            flags: frame.flags,
            payload_length: u32::try_from(frame.payload.len()).unwrap_or(u32::MAX),
            slot: is_header(frame.flags).then(|| Box::new(Slot::of(frame.kind, &frame.payload))),
            wire: bytes,
            header_length,
            chunk_size,
        }
    }

    /// The message that the shared bytes are the chunks of. Its payload is theirs, unless it is of several chunks.
    pub(crate) fn message(&self) -> Message {
        let body = self.wire.slice(self.header_length..);
        let payload = if body.len() == self.payload_length as usize {
            body
        } else {
            let timestamp = wrapped(self.timestamp);
            let continuation = 1 + if timestamp < EXTENDED_TIMESTAMP { 0 } else { 4 };
            let chunk = self.chunk_size as usize;
            let (first, rest) = body.split_at_checked(chunk).unwrap_or((&body, &[]));
            let mut payload = BytesMut::with_capacity(self.payload_length as usize);
            payload.extend_from_slice(first);
            for chunk in rest.chunks(continuation + chunk) {
                payload.extend_from_slice(chunk.get(continuation..).unwrap_or_default());
            }
            payload.freeze()
        };
        Message {
            kind: message_type(self.kind),
            timestamp: wrapped(self.timestamp),
            stream_id: SHARED_STREAM_ID,
            payload,
        }
    }

    pub(crate) fn own_slot(&self) -> Option<&Slot> {
        self.slot.as_deref()
    }

    /// Bytes for a viewer whose NetStream has the shared stream id.
    pub(crate) fn shared(&self) -> &Bytes {
        &self.wire
    }

    /// Bytes for a viewer whose NetStream has another stream id: a header of its own, then the shared rest.
    pub(crate) fn for_stream(&self, stream_id: u32) -> (Bytes, Bytes) {
        self.rewritten(stream_id, wrapped(self.timestamp))
    }

    /// As [`Self::for_stream`], for what a late joiner gets before its first frame. A codec header gets the time of that
    /// frame, so that media time never runs backwards for it. Metadata is about the whole stream and gets time 0: with
    /// any other, FFmpeg takes it for the first line of a subtitle track.
    pub(crate) fn before(&self, stream_id: u32, first_frame: u64) -> (Bytes, Bytes) {
        let timestamp = match self.kind {
            FrameKind::Audio | FrameKind::Video => first_frame,
            FrameKind::Data => 0,
        };
        let own = wrapped(self.timestamp);
        let wanted = wrapped(timestamp);
        // The continuation headers in the shared bytes repeat an extended timestamp: those of a large message cannot be
        // given another time.
        let one_chunk = self.wire.len() == self.header_length + self.payload_length as usize;
        let plain = own < EXTENDED_TIMESTAMP && wanted < EXTENDED_TIMESTAMP;
        self.rewritten(stream_id, if one_chunk || plain { wanted } else { own })
    }

    fn rewritten(&self, stream_id: u32, timestamp: u32) -> (Bytes, Bytes) {
        let header = chunk::header(
            chunk_stream(self.kind),
            timestamp,
            self.payload_length,
            message_type(self.kind),
            stream_id,
        );
        (
            Bytes::copy_from_slice(&header),
            self.wire.slice(self.header_length..),
        )
    }

    /// Bytes of the payload.
    pub(crate) fn payload_length(&self) -> u32 {
        self.payload_length
    }

    pub(crate) fn is_key(&self) -> bool {
        self.flags.contains(FrameFlags::KEY)
    }

    pub(crate) fn is_header(&self) -> bool {
        is_header(self.flags)
    }

    pub(crate) fn wire_length(&self) -> usize {
        self.wire.len()
    }
}

fn is_header(flags: FrameFlags) -> bool {
    flags.intersects(FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA)
}

impl WindowItem for WireFrame {
    fn offset(&self) -> Offset {
        self.offset
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }

    fn kind(&self) -> FrameKind {
        self.kind
    }

    fn flags(&self) -> FrameFlags {
        self.flags
    }

    fn size(&self) -> usize {
        self.wire.len() + size_of::<Self>()
    }

    fn slot(&self) -> Slot {
        self.slot
            .as_deref()
            .cloned()
            .unwrap_or_else(|| Slot::Metadata(Bytes::new()))
    }
}

/// RTMP timestamps are the low 32 bits.
pub(crate) fn wrapped(timestamp: u64) -> u32 {
    (timestamp & u64::from(u32::MAX)) as u32
}

pub(crate) fn message_type(kind: FrameKind) -> MessageType {
    match kind {
        FrameKind::Audio => MessageType::AUDIO,
        FrameKind::Video => MessageType::VIDEO,
        FrameKind::Data => MessageType::DATA_AMF0,
    }
}

/// Chunk streams that only shared frames use, so that no writer's header compression is disturbed.
pub(crate) fn chunk_stream(kind: FrameKind) -> u32 {
    match kind {
        FrameKind::Audio => chunk_streams::AUDIO,
        FrameKind::Video => chunk_streams::VIDEO,
        FrameKind::Data => chunk_streams::DATA,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The timestamp in a message header of type 0 on a chunk stream below 64 (RTMP 1.0, section 5.3.1.2).
    fn timestamp_of(header: &[u8]) -> u32 {
        let [_, a, b, c, ..] = *header else {
            panic!("a short header: {header:?}");
        };
        u32::from_be_bytes([0, a, b, c])
    }

    #[test]
    fn a_late_joiner_gets_codec_headers_at_its_time_and_metadata_at_zero() {
        let cases = [
            (FrameKind::Video, FrameFlags::HEADER, 178_000),
            (FrameKind::Audio, FrameFlags::HEADER, 178_000),
            (FrameKind::Data, FrameFlags::METADATA, 0),
        ];
        for (kind, flags, expected) in cases {
            let frame = Frame {
                offset: Offset::default(),
                timestamp: 5_000,
                kind,
                flags,
                payload: Bytes::from_static(b"\x02\x00\x0aonMetaData"),
            };
            let wire = WireFrame::new(&frame, 65_536);
            for stream_id in [SHARED_STREAM_ID, 7] {
                let (header, rest) = wire.before(stream_id, 178_000);
                assert_eq!(timestamp_of(&header), expected, "{kind:?}");
                assert_eq!(rest, frame.payload, "{kind:?}");
            }
        }
    }

    #[test]
    fn the_message_is_what_the_chunks_are_of() {
        for timestamp in [5_000, u64::from(EXTENDED_TIMESTAMP), 1 << 32] {
            for (length, chunk_size) in [(0, 128), (127, 128), (128, 128), (129, 128), (1_000, 128)]
            {
                let frame = Frame {
                    offset: Offset::default(),
                    timestamp,
                    kind: FrameKind::Video,
                    flags: FrameFlags::empty(),
                    payload: (0..length).map(|byte| byte as u8).collect(),
                };
                let wire = WireFrame::new(&frame, chunk_size);
                let expected = Message {
                    kind: MessageType::VIDEO,
                    timestamp: timestamp as u32,
                    stream_id: SHARED_STREAM_ID,
                    payload: frame.payload.clone(),
                };
                assert_eq!(wire.message(), expected, "{timestamp} {length}");
            }
        }
    }
}
