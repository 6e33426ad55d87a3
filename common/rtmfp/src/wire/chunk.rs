//! Chunks, as they follow each other in a packet: RFC 7016 section 2.3.
//!
//! A chunk has three bytes of header: what it is, and how many bytes follow. The last one is followed by padding that reads as a chunk
//! that does not fit, and by which the end is told.

use super::field::Fields;

/// Bytes before what a chunk holds: its kind and its length.
pub const HEADER_LENGTH: usize = 3;

/// What a chunk is (section 2.3). Those without a name here are skipped, as the specification demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkKind(pub u8);

impl ChunkKind {
    /// Padding.
    pub const PADDING: Self = Self(0x00);
    /// A keep-alive, or a question whether an address can be reached.
    pub const PING: Self = Self(0x01);
    /// Its answer.
    pub const PING_REPLY: Self = Self(0x41);
    /// The first fragment of a flow in a packet.
    pub const USER_DATA: Self = Self(0x10);
    /// A further one.
    pub const NEXT_USER_DATA: Self = Self(0x11);
    /// What was received, as bits.
    pub const ACKNOWLEDGEMENT_BITMAP: Self = Self(0x50);
    /// What was received, as runs.
    pub const ACKNOWLEDGEMENT_RANGES: Self = Self(0x51);
    /// A question for the room that a receiver has.
    pub const BUFFER_PROBE: Self = Self(0x18);
    /// A flow that its receiver refuses.
    pub const FLOW_EXCEPTION: Self = Self(0x5e);
    /// The end of a session, asked for.
    pub const CLOSE_REQUEST: Self = Self(0x0c);
    /// The end of a session, granted.
    pub const CLOSE_ACKNOWLEDGEMENT: Self = Self(0x4c);
    /// An initiator asks for somebody.
    pub const INITIATOR_HELLO: Self = Self(0x30);
    /// The same, passed on within a session of whom it asks for.
    pub const FORWARDED_HELLO: Self = Self(0x0f);
    /// A responder answers.
    pub const RESPONDER_HELLO: Self = Self(0x70);
    /// Somebody knows where to ask instead.
    pub const REDIRECT: Self = Self(0x71);
    /// A cookie for another address.
    pub const COOKIE_CHANGE: Self = Self(0x79);
    /// The initiator's part of the keys.
    pub const INITIATOR_KEYING: Self = Self(0x38);
    /// The responder's part of the keys.
    pub const RESPONDER_KEYING: Self = Self(0x78);
    /// A piece of a packet.
    pub const FRAGMENT: Self = Self(0x7f);
    /// Padding.
    pub const PADDING_ONES: Self = Self(0xff);
}

/// A chunk in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// What it is.
    pub kind: ChunkKind,
    /// What it holds.
    pub payload: &'a [u8],
}

impl Chunk<'_> {
    /// Bytes that it takes in a packet.
    #[must_use]
    pub fn length(&self) -> usize {
        HEADER_LENGTH + self.payload.len()
    }
}

/// The chunks of a packet, without padding.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    fields: Fields<'a>,
}

impl<'a> Chunks<'a> {
    /// Those in `data`, which begins behind the header of a packet.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            fields: Fields::new(data),
        }
    }

    fn read(&mut self) -> Option<Chunk<'a>> {
        let kind = ChunkKind(self.fields.u8().ok()?);
        let length = self.fields.u16().ok()?;
        let payload = self.fields.bytes(usize::from(length)).ok()?;
        Some(Chunk { kind, payload })
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        loop {
            let Some(chunk) = self.read() else {
                // What does not fit is padding, and so is what follows it.
                self.fields.rest();
                return None;
            };
            if !matches!(chunk.kind, ChunkKind::PADDING | ChunkKind::PADDING_ONES) {
                return Some(chunk);
            }
        }
    }
}

/// A chunk that cannot say its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a chunk of {length} bytes; 65535 are the most")]
pub struct TooLong {
    /// Bytes that it would have held.
    pub length: usize,
}

/// What a chunk holds, to be written.
pub trait Payload {
    /// What such a chunk is.
    const KIND: ChunkKind;

    /// Appends what it holds, without the header of a chunk.
    fn put(&self, out: &mut Vec<u8>);
}

/// Appends a chunk.
///
/// # Errors
/// [`TooLong`] for more than 65535 bytes; `out` is as it was.
pub fn append<P: Payload>(payload: &P, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let draft = Draft::begin(P::KIND, out);
    payload.put(out);
    draft.end(out)
}

/// A chunk that is being written, its length still unknown.
#[derive(Debug)]
#[must_use]
pub struct Draft {
    start: usize,
}

impl Draft {
    /// Appends the header of a chunk; what it holds follows.
    pub fn begin(kind: ChunkKind, out: &mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[kind.0, 0, 0]);
        Self { start }
    }

    /// Fills the length in: all that was appended since [`begin`](Self::begin).
    ///
    /// # Errors
    /// [`TooLong`] for more than 65535 bytes; `out` is as it was before the chunk.
    pub fn end(self, out: &mut Vec<u8>) -> Result<(), TooLong> {
        let length = out.len().saturating_sub(self.start + HEADER_LENGTH);
        let place = out.get_mut(self.start + 1..self.start + HEADER_LENGTH);
        match (u16::try_from(length), place) {
            (Ok(short), Some(place)) => {
                place.copy_from_slice(&short.to_be_bytes());
                Ok(())
            }
            _ => {
                out.truncate(self.start);
                Err(TooLong { length })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_end_at_what_does_not_fit() {
        let data = [
            0x01, 0, 2, 7, 8, // Ping
            0x00, 0, 1, 9, // padding within
            0xab, 0, 0, // something unknown
            0xff, 0, 1, 0, // padding within
            0x0c, 0, 0, // Session Close Request
            0xff, 0xff, 0xff, 0xff, // padding at the end
        ];
        let kinds: Vec<_> = Chunks::new(&data).map(|chunk| chunk.kind.0).collect();
        assert_eq!(kinds, [0x01, 0xab, 0x0c]);
        let ping = Chunks::new(&data).next().unwrap();
        assert_eq!((ping.payload, ping.length()), (&[7, 8][..], 5));
        let cut = |length: usize| Chunks::new(&data[..length]).count();
        let counts: Vec<_> = (0..=data.len()).map(cut).collect();
        assert_eq!(counts[..5], [0; 5]);
        assert_eq!(counts[5..12], [1; 7]);
        assert_eq!(counts[12..19], [2; 7]);
        assert_eq!(counts[19..], [3; 5]);
    }

    #[test]
    fn a_chunk_that_is_too_long_leaves_nothing_behind() {
        let mut out = vec![9];
        let draft = Draft::begin(ChunkKind::PING, &mut out);
        out.resize(1 + HEADER_LENGTH + 65_536, 0);
        assert_eq!(draft.end(&mut out), Err(TooLong { length: 65_536 }));
        assert_eq!(out, [9]);
        let draft = Draft::begin(ChunkKind::PING, &mut out);
        out.resize(1 + HEADER_LENGTH + 65_535, 0);
        assert_eq!(draft.end(&mut out), Ok(()));
        assert_eq!(out[..4], [9, 0x01, 0xff, 0xff]);
    }
}
