//! Messages into chunks.
//!
//! # What is compressed, and what is not
//! A header of type 1 or 2 carries a difference of time, a type 3 that starts a message repeats the last one. Peers disagree on the
//! corners, so the writer keeps out of them; each of these falls back to the next longer header:
//! - time that goes backwards, which includes the wrap at 32 bits, and differences that would need the extended field: type 0
//!   (some readers take an extended difference for an absolute time);
//! - a message after a type 0 header never has type 3: the specification says that the difference is then the absolute time,
//!   nginx-rtmp says 0, librtmp's own writer means 0.

use bytes::{Bytes, BytesMut};

use super::header::{HeaderBytes, continuation, header};
use super::{DEFAULT_CHUNK_SIZE, EXTENDED_TIMESTAMP, MAX_CHUNK_SIZE};
use crate::message::{MAX_MESSAGE_LENGTH, Message, MessageType};

/// Cuts the messages for one receiver into chunks.
///
/// Keeps about 24 bytes for each chunk stream written to. The caller chooses these, and a handful is usual: they are found by
/// scanning.
#[derive(Clone, Debug)]
pub struct ChunkWriter {
    chunk_size: usize,
    previous: Vec<(u32, Previous)>,
}

/// The last header on a chunk stream.
#[derive(Clone, Copy, Debug)]
struct Previous {
    timestamp: u32,
    /// Known after a header of type 1 or 2.
    delta: Option<u32>,
    length: u32,
    stream_id: u32,
    kind: MessageType,
}

impl Default for ChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkWriter {
    /// A writer with the chunk size of a fresh connection, [`DEFAULT_CHUNK_SIZE`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            chunk_size: DEFAULT_CHUNK_SIZE as usize,
            previous: Vec::new(),
        }
    }

    /// Bytes of payload in a chunk, at most.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        // Never set above 31 bits.
        self.chunk_size as u32
    }

    /// Makes chunks of `size` bytes from the next message on. Call it right after a Set Chunk Size message with the same value has
    /// been written. Values outside 1 to [`MAX_CHUNK_SIZE`] become the nearest one.
    pub fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = size.clamp(1, MAX_CHUNK_SIZE) as usize;
    }

    /// Appends the chunks of `message` to `out`, all of them: messages of one writer do not interleave.
    ///
    /// `chunk_stream` is 2 to 65,599 and must not be used by anything else on the connection that changes its state. Shared wire
    /// forms do: give them chunk streams of their own. A payload above [`MAX_MESSAGE_LENGTH`] cannot be stated and is cut there;
    /// that is a bug of the caller.
    pub fn write(&mut self, chunk_stream: u32, message: &Message, out: &mut BytesMut) {
        let payload = stated(&message.payload);
        let length = payload.len() as u32;
        let place = self
            .previous
            .iter_mut()
            .find(|(id, _)| *id == chunk_stream)
            .map(|(_, previous)| previous);
        let shorter = place
            .as_deref()
            .and_then(|previous| compressed(chunk_stream, message, length, previous));
        let delta = shorter.map(|(_, delta)| delta);
        let first = shorter.map_or_else(
            || {
                header(
                    chunk_stream,
                    message.timestamp,
                    length,
                    message.kind,
                    message.stream_id,
                )
            },
            |(first, _)| first,
        );
        let now = Previous {
            timestamp: message.timestamp,
            delta,
            length,
            stream_id: message.stream_id,
            kind: message.kind,
        };
        match place {
            Some(previous) => *previous = now,
            None => {
                if self.previous.len() < 4 {
                    // Most sessions use two or three, and there are many sessions.
                    self.previous.reserve_exact(1);
                }
                self.previous.push((chunk_stream, now));
            }
        }
        // Only a type 0 header is written with an extended timestamp.
        let extended = (delta.is_none() && message.timestamp >= EXTENDED_TIMESTAMP)
            .then_some(message.timestamp);
        put_chunks(
            chunk_stream,
            &first,
            extended,
            payload,
            self.chunk_size,
            out,
        );
    }
}

/// The header of type 1, 2 or 3 that says the same as a type 0 would, and its timestamp delta.
fn compressed(
    chunk_stream: u32,
    message: &Message,
    length: u32,
    previous: &Previous,
) -> Option<(HeaderBytes, u32)> {
    if message.stream_id != previous.stream_id {
        return None;
    }
    let delta = message
        .timestamp
        .checked_sub(previous.timestamp)
        .filter(|&delta| delta < EXTENDED_TIMESTAMP)?;
    let same_form = length == previous.length && message.kind == previous.kind;
    let header_type = match (same_form, previous.delta == Some(delta)) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) => 3,
    };
    let mut header = HeaderBytes::basic(header_type, chunk_stream);
    if header_type < 3 {
        header.push_24(delta);
    }
    if header_type < 2 {
        header.push_24(length);
        header.push(&[message.kind.0]);
    }
    Some((header, delta))
}

/// A message in the form in which many receivers share it: the first header is of type 0 and has the absolute timestamp, so that the
/// bytes depend on no writer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedWire {
    /// All chunks of the message, contiguous.
    pub bytes: Bytes,
    /// Bytes of the first header, which is all that carries the message stream ID; [`header`] makes another.
    pub header_length: usize,
}

/// Makes the wire form of a media message that many receivers share.
///
/// Each receiver must have been told `chunk_size` (1 to [`MAX_CHUNK_SIZE`], else the nearest), and must not get anything else on
/// `chunk_stream` that has a compressed header. One-byte chunk stream IDs, 2 to 63, keep the header short; others work.
/// A payload above [`MAX_MESSAGE_LENGTH`] is cut there; that is a bug of the caller.
#[must_use]
pub fn shared_wire_form(chunk_stream: u32, message: &Message, chunk_size: u32) -> SharedWire {
    let payload = stated(&message.payload);
    let length = shared_wire_length(chunk_stream, message.timestamp, payload.len(), chunk_size);
    let mut out = BytesMut::with_capacity(length);
    let header_length = put_shared_wire_form(chunk_stream, message, chunk_size, &mut out);
    SharedWire {
        bytes: out.freeze(),
        header_length,
    }
}

/// As [`shared_wire_form`], appended to `out`, so that the forms of many messages are contiguous. Gives the length of the first header.
pub fn put_shared_wire_form(
    chunk_stream: u32,
    message: &Message,
    chunk_size: u32,
    out: &mut BytesMut,
) -> usize {
    let payload = stated(&message.payload);
    let first = header(
        chunk_stream,
        message.timestamp,
        payload.len() as u32,
        message.kind,
        message.stream_id,
    );
    put_chunks(
        chunk_stream,
        &first,
        extended(message.timestamp),
        payload,
        chunk_size.clamp(1, MAX_CHUNK_SIZE) as usize,
        out,
    );
    first.len()
}

/// Bytes of the shared form of a message with a payload of `payload` bytes, see [`shared_wire_form`].
#[must_use]
pub fn shared_wire_length(
    chunk_stream: u32,
    timestamp: u32,
    payload: usize,
    chunk_size: u32,
) -> usize {
    let payload = payload.min(MAX_MESSAGE_LENGTH);
    let first = header(chunk_stream, timestamp, 0, MessageType::DATA_AMF0, 0);
    let chunk_size = chunk_size.clamp(1, MAX_CHUNK_SIZE) as usize;
    let extended = extended(timestamp);
    wire_length(&first, chunk_stream, extended, payload, chunk_size)
}

/// The extended timestamp of a message whose first header is of type 0, if it needs one.
fn extended(timestamp: u32) -> Option<u32> {
    (timestamp >= EXTENDED_TIMESTAMP).then_some(timestamp)
}

/// The part of a payload that a message header can state: all of it, but for bugs.
fn stated(payload: &[u8]) -> &[u8] {
    debug_assert!(payload.len() <= MAX_MESSAGE_LENGTH);
    payload.get(..MAX_MESSAGE_LENGTH).unwrap_or(payload)
}

fn wire_length(
    first: &HeaderBytes,
    chunk_stream: u32,
    extended: Option<u32>,
    payload: usize,
    chunk_size: usize,
) -> usize {
    let continuations = payload.saturating_sub(1) / chunk_size;
    first.len() + payload + continuations * continuation(chunk_stream, extended).len()
}

fn put_chunks(
    chunk_stream: u32,
    first: &HeaderBytes,
    extended: Option<u32>,
    payload: &[u8],
    chunk_size: usize,
    out: &mut BytesMut,
) {
    if payload.len() <= chunk_size {
        out.reserve(first.len() + payload.len());
        out.extend_from_slice(first);
        out.extend_from_slice(payload);
        return;
    }
    out.reserve(wire_length(
        first,
        chunk_stream,
        extended,
        payload.len(),
        chunk_size,
    ));
    out.extend_from_slice(first);
    let next = continuation(chunk_stream, extended);
    for (number, chunk) in payload.chunks(chunk_size).enumerate() {
        if number > 0 {
            out.extend_from_slice(&next);
        }
        out.extend_from_slice(chunk);
    }
}
