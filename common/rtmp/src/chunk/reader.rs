//! Chunks into messages.
//!
//! # What peers disagree on
//! - **Extended timestamp on type 3 chunks.** The specification, Flash, ffmpeg and today's librtmp repeat the field on every chunk of
//!   the message; older librtmp and others do not. The four bytes after the basic header are compared with the value that would be
//!   repeated: equal means repeated, else they are payload. Payload that happens to start a chunk with those bytes is misread; no
//!   reader can tell. Where fewer bytes than four have come and these are equal so far, the reader waits for more.
//! - **A type 3 that starts a message after a type 0.** Its delta is the absolute time of the type 0, as section 5.3.1.2.4 says: FMLE
//!   writes this, and ffmpeg, librtmp and SRS read it so. nginx-rtmp reads a delta of 0. After a type 0 with an *extended*
//!   timestamp the delta is 0: nobody means a step of more than 4.6 hours, but librtmp writes this for "same time".
//! - **Type 1 on a fresh chunk stream.** librtmp sends its acknowledgements and ping responses so. It is taken as a type 0 with the
//!   message stream 0. Types 2 and 3 say too little and are refused.
//! - **A header of type 0 to 2 inside a message** is refused. librtmp starts over, nginx-rtmp goes on with the message: there is no
//!   meaning to agree on, and no known writer does it.
//!
//! # Memory
//! Nothing is reserved for what a header promises. An incomplete message grows with what has arrived (four times the first piece, then
//! by doubling) and never beyond its length. So the reader holds at most four times [`ReaderLimits::total_partial_bytes`], in practice
//! less than twice, and about 1 KiB for each chunk stream.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};

use super::{ChunkError, DEFAULT_CHUNK_SIZE, EXTENDED_TIMESTAMP, MAX_CHUNK_SIZE};
use crate::message::{MAX_MESSAGE_LENGTH, Message, MessageType};

/// Bounds on what a peer can make a [`ChunkReader`] hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderLimits {
    /// The longest message, in bytes. At most [`MAX_MESSAGE_LENGTH`], the default: a header cannot state more.
    pub message_length: u32,
    /// Chunk streams that may be in use at once, at most 1024 (they are found by scanning). Default 64: clients use fewer than ten,
    /// but Flash takes new ones as it creates NetStreams.
    pub chunk_streams: usize,
    /// Bytes of incomplete messages, all chunk streams together. Default 32 MiB: room for one message of the greatest length and
    /// for what is interleaved with it.
    pub total_partial_bytes: usize,
    /// From how many bytes on a payload is a slice of the input buffer and not a copy, if it lies in it whole. A slice keeps the
    /// caller's whole buffer in memory: with read buffers of N bytes, payloads that are kept cost at most N / `share_from` times
    /// their length. Default 16 KiB, for read buffers of about 64 KiB. 0 suits a reader whose messages are dropped at once.
    pub share_from: usize,
}

impl ReaderLimits {
    const MAX_CHUNK_STREAMS: usize = 1024;

    fn checked(self) -> Self {
        Self {
            message_length: self.message_length.min(MAX_MESSAGE_LENGTH as u32),
            chunk_streams: self.chunk_streams.min(Self::MAX_CHUNK_STREAMS),
            ..self
        }
    }
}

impl Default for ReaderLimits {
    fn default() -> Self {
        Self {
            message_length: MAX_MESSAGE_LENGTH as u32,
            chunk_streams: 64,
            total_partial_bytes: 32 * 1024 * 1024,
            share_from: 16 * 1024,
        }
    }
}

/// Puts the messages of one byte stream together.
#[derive(Debug)]
pub struct ChunkReader {
    limits: ReaderLimits,
    chunk_size: u32,
    /// The IDs of `streams`, apart from them so that a scan touches little memory.
    ids: Vec<u32>,
    streams: Vec<ChunkStream>,
    /// The chunk whose header was consumed and whose payload was not, or not all.
    open: Option<OpenChunk>,
    partial_bytes: usize,
    bytes_received: u64,
    failed: Option<ChunkError>,
}

#[derive(Clone, Copy, Debug)]
struct OpenChunk {
    /// Index of the chunk stream.
    stream: usize,
    /// Payload bytes of this chunk still to come.
    remaining: usize,
}

/// State of one chunk stream: its last header, and the message in progress.
#[derive(Debug)]
struct ChunkStream {
    kind: MessageType,
    length: u32,
    stream_id: u32,
    /// Of the message in progress, else of the last one.
    timestamp: u32,
    /// What a type 3 that starts a message adds to `timestamp`.
    delta: u32,
    /// The extended field of the last header that had a timestamp field.
    extended: Option<u32>,
    /// Bytes of the message in progress. Not empty between two chunks of a message, and only then.
    assembled: Vec<u8>,
}

impl ChunkReader {
    /// A reader for the bytes after the handshake, with a chunk size of [`DEFAULT_CHUNK_SIZE`].
    #[must_use]
    pub fn new(limits: ReaderLimits) -> Self {
        Self {
            limits: limits.checked(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            ids: Vec::new(),
            streams: Vec::new(),
            open: None,
            partial_bytes: 0,
            bytes_received: 0,
            failed: None,
        }
    }

    /// Puts other limits in force: narrow ones until a peer has been let in, say. What is already held stays.
    pub fn set_limits(&mut self, limits: ReaderLimits) {
        self.limits = limits.checked();
    }

    /// The peer's chunk size in bytes.
    #[must_use]
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Bytes consumed so far, for acknowledgements (section 5.4.3). The handshake is not counted.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes of incomplete messages held.
    #[must_use]
    pub fn partial_bytes(&self) -> usize {
        self.partial_bytes
    }

    /// Takes the next message out of `input`. Call it until it gives `None`, which means that more input is needed; what then stays
    /// in `input` is a part of one chunk header, less than [`MAX_HEADER_LENGTH`](super::MAX_HEADER_LENGTH) bytes.
    ///
    /// Set Chunk Size and Abort have taken effect when they are returned.
    ///
    /// # Errors
    /// The chunk stream is broken or a limit was crossed. The reader is of no use after that and repeats the error.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.next_message(input);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn next_message(&mut self, input: &mut BytesMut) -> Result<Option<Message>, ChunkError> {
        loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => match self.next_header(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let Some(payload) = self.take_payload(open, input)? else {
                if self.open.is_some() {
                    return Ok(None);
                }
                continue;
            };
            let Some(stream) = self.streams.get(open.stream) else {
                continue;
            };
            let message = Message {
                kind: stream.kind,
                timestamp: stream.timestamp,
                stream_id: stream.stream_id,
                payload,
            };
            self.obey(&message)?;
            return Ok(Some(message));
        }
    }

    /// Consumes a chunk header, if it has arrived whole.
    fn next_header(&mut self, input: &mut BytesMut) -> Result<Option<OpenChunk>, ChunkError> {
        let Some(basic) = BasicHeader::parse(input) else {
            return Ok(None);
        };
        let index = match self.ids.iter().position(|&id| id == basic.chunk_stream) {
            Some(index) => index,
            None => match self.open_stream(basic, input)? {
                Some(index) => index,
                None => return Ok(None),
            },
        };
        let offset = self.bytes_received;
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        let Some(size) = stream.read_header(basic, input, offset)? else {
            return Ok(None);
        };
        if stream.length > self.limits.message_length {
            return Err(ChunkError::MessageTooLong {
                chunk_stream: basic.chunk_stream,
                length: stream.length,
                limit: self.limits.message_length,
                offset,
            });
        }
        let missing = stream.length as usize - stream.assembled.len();
        input.advance(size);
        self.bytes_received += size as u64;
        Ok(Some(OpenChunk {
            stream: index,
            remaining: missing.min(self.chunk_size as usize),
        }))
    }

    /// Makes room for a chunk stream, if its first header has arrived whole.
    fn open_stream(
        &mut self,
        basic: BasicHeader,
        input: &[u8],
    ) -> Result<Option<usize>, ChunkError> {
        if basic.header_type > 1 {
            return Err(ChunkError::NoPreviousHeader {
                chunk_stream: basic.chunk_stream,
                header_type: basic.header_type,
                offset: self.bytes_received,
            });
        }
        if self.ids.len() >= self.limits.chunk_streams {
            return Err(ChunkError::TooManyChunkStreams {
                chunk_stream: basic.chunk_stream,
                limit: self.limits.chunk_streams,
                offset: self.bytes_received,
            });
        }
        if MessageHeader::parse(basic, input).is_none() {
            return Ok(None);
        }
        if self.streams.len() < 4 {
            // Most clients use two or three, and there are many clients.
            self.streams.reserve_exact(1);
        }
        self.ids.push(basic.chunk_stream);
        self.streams.push(ChunkStream::default());
        Ok(Some(self.streams.len() - 1))
    }

    /// Takes what has arrived of a chunk's payload. Gives the message if it is complete; else `self.open` says whether the chunk is.
    fn take_payload(
        &mut self,
        open: OpenChunk,
        input: &mut BytesMut,
    ) -> Result<Option<Bytes>, ChunkError> {
        let Some(stream) = self.streams.get_mut(open.stream) else {
            return Ok(None);
        };
        let length = stream.length as usize;
        if open.remaining == length && input.len() >= length {
            self.bytes_received += length as u64;
            return Ok(Some(take_whole(input, length, self.limits.share_from)));
        }

        let arrived = open.remaining.min(input.len());
        let partial_bytes = self.partial_bytes + arrived;
        if partial_bytes > self.limits.total_partial_bytes {
            return Err(ChunkError::TooManyPartialBytes {
                chunk_stream: self.ids.get(open.stream).copied().unwrap_or_default(),
                limit: self.limits.total_partial_bytes,
                offset: self.bytes_received,
            });
        }
        stream.append(input.get(..arrived).unwrap_or_default());
        input.advance(arrived);
        self.partial_bytes = partial_bytes;
        self.bytes_received += arrived as u64;

        let remaining = open.remaining - arrived;
        if remaining > 0 {
            self.open = Some(OpenChunk { remaining, ..open });
            return Ok(None);
        }
        if stream.assembled.len() < length {
            return Ok(None);
        }
        self.partial_bytes -= length;
        Ok(Some(mem::take(&mut stream.assembled).into()))
    }

    /// Does what the two messages ask that are meant for this layer.
    fn obey(&mut self, message: &Message) -> Result<(), ChunkError> {
        if !matches!(
            message.kind,
            MessageType::SET_CHUNK_SIZE | MessageType::ABORT
        ) {
            return Ok(());
        }
        let Some(&field) = message.payload.first_chunk::<4>() else {
            return Err(ChunkError::ControlTooShort {
                kind: message.kind.0,
                length: message.payload.len(),
                offset: self.bytes_received,
            });
        };
        let field = u32::from_be_bytes(field);
        if message.kind == MessageType::ABORT {
            self.abort(field);
        } else if (1..=MAX_CHUNK_SIZE).contains(&field) {
            // Larger than any message is as good as the largest message.
            self.chunk_size = field.min(MAX_MESSAGE_LENGTH as u32);
        } else {
            return Err(ChunkError::ChunkSize {
                size: field,
                offset: self.bytes_received,
            });
        }
        Ok(())
    }

    /// Forgets the incomplete message of a chunk stream. Its header still counts for the headers that follow.
    fn abort(&mut self, chunk_stream: u32) {
        let index = self.ids.iter().position(|&id| id == chunk_stream);
        if let Some(stream) = index.and_then(|index| self.streams.get_mut(index)) {
            self.partial_bytes -= mem::take(&mut stream.assembled).len();
        }
    }
}

/// Takes a payload that lies in the input whole. See [`ReaderLimits::share_from`].
fn take_whole(input: &mut BytesMut, length: usize, share_from: usize) -> Bytes {
    if length == 0 {
        Bytes::new()
    } else if length >= share_from {
        input.split_to(length).freeze()
    } else {
        let payload = Bytes::copy_from_slice(input.get(..length).unwrap_or_default());
        input.advance(length);
        payload
    }
}

impl Default for ChunkStream {
    fn default() -> Self {
        Self {
            kind: MessageType(0),
            length: 0,
            stream_id: 0,
            timestamp: 0,
            delta: 0,
            extended: None,
            assembled: Vec::new(),
        }
    }
}

impl ChunkStream {
    /// The least that is reserved for a message in several parts, in bytes.
    const FIRST_ALLOCATION: usize = 1024;

    /// Takes over a chunk header from the start of `input`. Gives its size on the wire, or `None` if it has not arrived whole; then
    /// nothing has changed.
    fn read_header(
        &mut self,
        basic: BasicHeader,
        input: &[u8],
        offset: u64,
    ) -> Result<Option<usize>, ChunkError> {
        let inside_message = !self.assembled.is_empty();
        if basic.header_type == 3 {
            let after_basic = input.get(basic.size..).unwrap_or_default();
            let Some(repeated) = self.repeats_extended(after_basic) else {
                return Ok(None);
            };
            if !inside_message {
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            return Ok(Some(basic.size + if repeated { 4 } else { 0 }));
        }
        if inside_message {
            return Err(ChunkError::HeaderInsideMessage {
                chunk_stream: basic.chunk_stream,
                header_type: basic.header_type,
                offset,
            });
        }
        let Some(header) = MessageHeader::parse(basic, input) else {
            return Ok(None);
        };
        if let Some(stream_id) = header.stream_id {
            self.stream_id = stream_id;
            self.timestamp = header.time;
            self.delta = if header.extended { 0 } else { header.time };
        } else {
            self.timestamp = self.timestamp.wrapping_add(header.time);
            self.delta = header.time;
        }
        if let Some((length, kind)) = header.form {
            self.length = length;
            self.kind = kind;
        }
        self.extended = header.extended.then_some(header.time);
        Ok(Some(header.size))
    }

    /// Whether a type 3 chunk repeats the extended timestamp, where `bytes` follow its basic header. `None` if more of them are
    /// needed to tell.
    fn repeats_extended(&self, bytes: &[u8]) -> Option<bool> {
        let Some(extended) = self.extended else {
            return Some(false);
        };
        let bytes = bytes.get(..4).unwrap_or(bytes);
        // After an extended delta some peers repeat the delta and some the time that came out of it.
        let possible = [extended, self.timestamp]
            .iter()
            .any(|value| value.to_be_bytes().starts_with(bytes));
        if possible && bytes.len() < 4 {
            None
        } else {
            Some(possible)
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let held = self.assembled.len();
        let needed = held + bytes.len();
        if needed > self.assembled.capacity() {
            let wanted = if held == 0 { needed * 4 } else { held * 2 };
            let capacity = wanted
                .max(needed)
                .max(Self::FIRST_ALLOCATION)
                .min(self.length as usize);
            self.assembled.reserve_exact(capacity.saturating_sub(held));
        }
        self.assembled.extend_from_slice(bytes);
    }
}

/// The first part of a chunk header (section 5.3.1.1).
#[derive(Clone, Copy)]
struct BasicHeader {
    header_type: u8,
    chunk_stream: u32,
    /// Bytes on the wire.
    size: usize,
}

impl BasicHeader {
    fn parse(input: &[u8]) -> Option<Self> {
        let (&first, rest) = input.split_first()?;
        let (chunk_stream, size) = match (first & 0x3F, rest) {
            (0, &[low, ..]) => (64 + u32::from(low), 2),
            (1, &[low, high, ..]) => (64 + u32::from(low) + 256 * u32::from(high), 3),
            (0 | 1, _) => return None,
            (id, _) => (u32::from(id), 1),
        };
        Some(Self {
            header_type: first >> 6,
            chunk_stream,
            size,
        })
    }
}

/// The second part of a chunk header of type 0 to 2, and its extended timestamp (sections 5.3.1.2 and 5.3.1.3).
struct MessageHeader {
    /// The timestamp, or the delta of types 1 and 2.
    time: u32,
    /// The time came in the extended field.
    extended: bool,
    /// Length and type of the message: types 0 and 1.
    form: Option<(u32, MessageType)>,
    /// The message stream: type 0.
    stream_id: Option<u32>,
    /// Bytes on the wire, with the basic header.
    size: usize,
}

impl MessageHeader {
    fn parse(basic: BasicHeader, input: &[u8]) -> Option<Self> {
        let (&[t0, t1, t2], mut rest) = input.get(basic.size..)?.split_first_chunk()?;
        let mut time = u32::from_be_bytes([0, t0, t1, t2]);
        let mut form = None;
        if basic.header_type < 2 {
            let (&[l0, l1, l2, kind], more) = rest.split_first_chunk()?;
            form = Some((u32::from_be_bytes([0, l0, l1, l2]), MessageType(kind)));
            rest = more;
        }
        let mut stream_id = None;
        if basic.header_type == 0 {
            let (&id, more) = rest.split_first_chunk()?;
            stream_id = Some(u32::from_le_bytes(id));
            rest = more;
        }
        let extended = time == EXTENDED_TIMESTAMP;
        if extended {
            let (&long, more) = rest.split_first_chunk()?;
            time = u32::from_be_bytes(long);
            rest = more;
        }
        Some(Self {
            time,
            extended,
            form,
            stream_id,
            size: input.len() - rest.len(),
        })
    }
}

#[cfg(test)]
mod tests;
