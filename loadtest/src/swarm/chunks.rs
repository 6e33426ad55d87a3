//! Chunks into messages of which only the beginning is kept (Adobe RTMP 1.0, section 5.3).
//!
//! What peers disagree on is decided as [`headwater_rtmp::chunk::ChunkReader`] does, with the same errors; a test feeds both the same
//! bytes. The difference is what becomes of payloads: they are passed over where they lie in the read buffer, and only the first bytes
//! of a message that is spread over several chunks or reads are copied.
//!
//! # Memory
//! 64 bytes for each chunk stream, of which there are at most [`MAX_CHUNK_STREAMS`], and for a message in several pieces what
//! [`kept_of`] says of its kind. Nothing is reserved for what a header promises.

use std::borrow::Cow;

use headwater_rtmp::chunk::{
    ChunkError, DEFAULT_CHUNK_SIZE, EXTENDED_TIMESTAMP, MAX_CHUNK_SIZE, MAX_HEADER_LENGTH,
};
use headwater_rtmp::message::{MAX_MESSAGE_LENGTH, MessageType};

/// Chunk streams that may be in use at once: as many as the whole reader takes.
pub(super) const MAX_CHUNK_STREAMS: usize = 64;

/// Bytes kept of audio and video: a stamp lies within 560, and what a message is says its beginning.
pub(super) const MEDIA_HEAD: usize = 600;

/// Bytes kept of data messages. A status in one that is longer is not understood.
pub(super) const DATA_HEAD: usize = 4 * 1024;

/// Bytes kept of control messages and commands. Longer commands are not understood.
pub(super) const COMMAND_HEAD: usize = 16 * 1024;

/// Bytes of memory for each chunk stream.
pub(super) const BYTES_PER_CHUNK_STREAM: usize = size_of::<ChunkStream>();

/// Bytes kept of a message of this kind.
pub(super) const fn kept_of(kind: MessageType) -> usize {
    match kind {
        MessageType::AUDIO | MessageType::VIDEO => MEDIA_HEAD,
        MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => DATA_HEAD,
        MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 => COMMAND_HEAD,
        // No control message of any use is longer.
        MessageType(1..=6) => 64,
        _ => 0,
    }
}

/// A message that has come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Light<'a> {
    pub(super) kind: MessageType,
    pub(super) stream_id: u32,
    /// Bytes of the whole payload.
    pub(super) length: u32,
    /// The first of them.
    pub(super) head: Cow<'a, [u8]>,
}

impl Light<'_> {
    /// Whether all of it was kept.
    pub(super) fn is_whole(&self) -> bool {
        self.head.len() == self.length as usize
    }
}

/// The chunk streams of one connection.
#[derive(Debug)]
pub(super) struct Chunks {
    chunk_size: u32,
    streams: Vec<ChunkStream>,
    /// The chunk whose header was read and whose payload was not, or not all.
    open: Option<OpenChunk>,
    received: u64,
    /// The beginning of a header whose rest has not come, and now and then a few bytes of payload that could have been one.
    held: [u8; MAX_HEADER_LENGTH],
    held_length: u8,
}

#[derive(Clone, Copy, Debug)]
struct OpenChunk {
    /// Index of the chunk stream.
    stream: u32,
    /// Payload bytes of this chunk still to come.
    remaining: u32,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    kind: MessageType,
    length: u32,
    /// Bytes that came of the message in progress.
    arrived: u32,
    stream_id: u32,
    timestamp: u32,
    /// What a type 3 that starts a message adds to `timestamp`.
    delta: u32,
    /// The extended field of the last header that had a timestamp field.
    extended: Option<u32>,
    kept: Vec<u8>,
}

impl Chunks {
    /// The bytes after a handshake.
    pub(super) const fn new() -> Self {
        Self::with_chunk_size(DEFAULT_CHUNK_SIZE)
    }

    /// Bytes of a peer that took its chunk size for granted.
    pub(super) const fn with_chunk_size(chunk_size: u32) -> Self {
        Self {
            chunk_size,
            streams: Vec::new(),
            open: None,
            received: 0,
            held: [0; MAX_HEADER_LENGTH],
            held_length: 0,
        }
    }

    /// Bytes consumed so far, for acknowledgements.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// The next message that has come to its end. `None` when all input is consumed. Set Chunk Size and Abort have taken effect.
    ///
    /// # Errors
    /// The chunk stream is broken. Do not call it again.
    pub(super) fn next<'a>(
        &mut self,
        input: &mut &'a [u8],
    ) -> Result<Option<Light<'a>>, ChunkError> {
        loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => match self.next_header(input)? {
                    Some(open) => open,
                    None => return Ok(None),
                },
            };
            let Some(stream) = self.streams.get_mut(open.stream as usize) else {
                return Ok(None);
            };
            let length = stream.length;
            let head = if self.held_length == 0
                && open.remaining == length
                && let Some((payload, rest)) = input.split_at_checked(length as usize)
            {
                // The whole message lies here.
                *input = rest;
                self.received += u64::from(length);
                let kept = kept_of(stream.kind).min(payload.len());
                Cow::Borrowed(payload.get(..kept).unwrap_or_default())
            } else {
                let count = if self.held_length > 0 {
                    let count = usize::from(self.held_length).min(open.remaining as usize);
                    stream.keep(self.held.get(..count).unwrap_or_default());
                    self.held.copy_within(count.., 0);
                    self.held_length -= count as u8;
                    count
                } else {
                    let count = input.len().min(open.remaining as usize);
                    let (piece, rest) = input.split_at_checked(count).unwrap_or_default();
                    stream.keep(piece);
                    *input = rest;
                    count
                };
                // At most a chunk.
                let came = count as u32;
                stream.arrived += came;
                self.received += u64::from(came);
                let remaining = open.remaining - came;
                if remaining > 0 {
                    self.open = Some(OpenChunk { remaining, ..open });
                    if self.held_length == 0 && input.is_empty() {
                        return Ok(None);
                    }
                    continue;
                }
                if stream.arrived < length {
                    continue;
                }
                stream.arrived = 0;
                Cow::Owned(std::mem::take(&mut stream.kept))
            };
            let message = Light {
                kind: stream.kind,
                stream_id: stream.stream_id,
                length,
                head,
            };
            self.obey(&message)?;
            return Ok(Some(message));
        }
    }

    /// Consumes a chunk header, if it has come whole; else all input is held.
    fn next_header(&mut self, input: &mut &[u8]) -> Result<Option<OpenChunk>, ChunkError> {
        let held = usize::from(self.held_length);
        let Some(place) = self.held.get_mut(held..).filter(|_| held > 0) else {
            // The common case: the header lies in the input.
            let Some((size, open)) = self.read_header(input)? else {
                let rest = std::mem::take(input);
                // What is no whole header is shorter than the longest.
                for (place, byte) in self.held.iter_mut().zip(rest) {
                    *place = *byte;
                }
                self.held_length = rest.len().min(MAX_HEADER_LENGTH) as u8;
                return Ok(None);
            };
            *input = input.get(size..).unwrap_or_default();
            return Ok(Some(open));
        };
        let count = place.len().min(input.len());
        let (new, rest) = input.split_at_checked(count).unwrap_or_default();
        if let Some(place) = place.get_mut(..count) {
            place.copy_from_slice(new);
        }
        let joined = self.held;
        let both = joined.get(..held + count).unwrap_or_default();
        let Some((size, open)) = self.read_header(both)? else {
            *input = rest;
            self.held_length = both.len() as u8;
            return Ok(None);
        };
        if let Some(used) = size.checked_sub(held) {
            *input = input.get(used..).unwrap_or_default();
            self.held_length = 0;
        } else {
            // What looked like an extended timestamp is payload.
            self.held.copy_within(size..held, 0);
            self.held_length = (held - size) as u8;
        }
        Ok(Some(open))
    }

    /// Reads a chunk header from the start of `bytes`. Gives its size and the chunk, or `None` if it has not come whole; then nothing
    /// has changed.
    fn read_header(&mut self, bytes: &[u8]) -> Result<Option<(usize, OpenChunk)>, ChunkError> {
        let Some(basic) = BasicHeader::parse(bytes) else {
            return Ok(None);
        };
        let known = self
            .streams
            .iter()
            .position(|stream| stream.id == basic.chunk_stream);
        let index = match known {
            Some(index) => index,
            None => match self.open_stream(basic, bytes)? {
                Some(index) => index,
                None => return Ok(None),
            },
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return Ok(None);
        };
        let Some(size) = stream.read_header(basic, bytes, self.received)? else {
            return Ok(None);
        };
        self.received += size as u64;
        let missing = stream.length - stream.arrived;
        let open = OpenChunk {
            stream: index as u32,
            remaining: missing.min(self.chunk_size),
        };
        Ok(Some((size, open)))
    }

    /// Makes room for a chunk stream, if its first header has come whole.
    fn open_stream(
        &mut self,
        basic: BasicHeader,
        bytes: &[u8],
    ) -> Result<Option<usize>, ChunkError> {
        if basic.header_type > 1 {
            return Err(ChunkError::NoPreviousHeader {
                chunk_stream: basic.chunk_stream,
                header_type: basic.header_type,
                offset: self.received,
            });
        }
        if self.streams.len() >= MAX_CHUNK_STREAMS {
            return Err(ChunkError::TooManyChunkStreams {
                chunk_stream: basic.chunk_stream,
                limit: MAX_CHUNK_STREAMS,
                offset: self.received,
            });
        }
        if MessageHeader::parse(basic, bytes).is_none() {
            return Ok(None);
        }
        if self.streams.is_empty() {
            // What servers use: control, commands, statuses, audio, video, data.
            self.streams.reserve_exact(6);
        }
        self.streams.push(ChunkStream::new(basic.chunk_stream));
        Ok(Some(self.streams.len() - 1))
    }

    /// Does what the two messages ask that are meant for this layer.
    fn obey(&mut self, message: &Light<'_>) -> Result<(), ChunkError> {
        if !matches!(
            message.kind,
            MessageType::SET_CHUNK_SIZE | MessageType::ABORT
        ) {
            return Ok(());
        }
        let Some(&field) = message.head.first_chunk::<4>() else {
            return Err(ChunkError::ControlTooShort {
                kind: message.kind.0,
                length: message.length as usize,
                offset: self.received,
            });
        };
        let field = u32::from_be_bytes(field);
        if message.kind == MessageType::ABORT {
            if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == field) {
                stream.arrived = 0;
                stream.kept = Vec::new();
            }
        } else if (1..=MAX_CHUNK_SIZE).contains(&field) {
            self.chunk_size = field.min(MAX_MESSAGE_LENGTH as u32);
        } else {
            return Err(ChunkError::ChunkSize {
                size: field,
                offset: self.received,
            });
        }
        Ok(())
    }
}

impl ChunkStream {
    const fn new(id: u32) -> Self {
        Self {
            id,
            kind: MessageType(0),
            length: 0,
            arrived: 0,
            stream_id: 0,
            timestamp: 0,
            delta: 0,
            extended: None,
            kept: Vec::new(),
        }
    }

    /// Takes over a chunk header. Gives its size, or `None` if it has not come whole; then nothing has changed.
    fn read_header(
        &mut self,
        basic: BasicHeader,
        bytes: &[u8],
        offset: u64,
    ) -> Result<Option<usize>, ChunkError> {
        if basic.header_type == 3 {
            let after = bytes.get(basic.size..).unwrap_or_default();
            let Some(repeated) = self.repeats_extended(after) else {
                return Ok(None);
            };
            if self.arrived == 0 {
                self.timestamp = self.timestamp.wrapping_add(self.delta);
            }
            return Ok(Some(basic.size + if repeated { 4 } else { 0 }));
        }
        if self.arrived > 0 {
            return Err(ChunkError::HeaderInsideMessage {
                chunk_stream: basic.chunk_stream,
                header_type: basic.header_type,
                offset,
            });
        }
        let Some(header) = MessageHeader::parse(basic, bytes) else {
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

    /// Keeps of a piece what is wanted of its message.
    fn keep(&mut self, piece: &[u8]) {
        let wanted = kept_of(self.kind).min(self.length as usize);
        let room = wanted.saturating_sub(self.kept.len());
        let piece = piece.get(..room).unwrap_or(piece);
        if piece.is_empty() {
            return;
        }
        if self.kept.capacity() == 0 {
            self.kept.reserve_exact(wanted.min(MEDIA_HEAD));
        }
        self.kept.extend_from_slice(piece);
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
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
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
    extended: bool,
    /// Length and type of the message: types 0 and 1.
    form: Option<(u32, MessageType)>,
    /// The message stream: type 0.
    stream_id: Option<u32>,
    /// Bytes on the wire, with the basic header.
    size: usize,
}

impl MessageHeader {
    fn parse(basic: BasicHeader, bytes: &[u8]) -> Option<Self> {
        let (&[t0, t1, t2], mut rest) = bytes.get(basic.size..)?.split_first_chunk()?;
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
            size: bytes.len() - rest.len(),
        })
    }
}

#[cfg(test)]
mod tests;
