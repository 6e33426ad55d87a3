//! Chunk headers, written.
//!
//! Section 5.3.1: basic header (1 to 3 bytes), message header (11, 7, 3 or 0 bytes), extended timestamp (0 or 4 bytes).

use std::fmt;
use std::ops::Deref;

use super::{EXTENDED_TIMESTAMP, MAX_CHUNK_STREAM, MIN_CHUNK_STREAM};
use crate::message::{MAX_MESSAGE_LENGTH, MessageType};

/// Bytes of the longest chunk header: basic header 3, message header 11, extended timestamp 4.
pub const MAX_HEADER_LENGTH: usize = 18;

/// One chunk header, without allocation. Dereferences to its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeaderBytes {
    bytes: [u8; MAX_HEADER_LENGTH],
    length: u8,
}

impl HeaderBytes {
    /// Starts a header with the basic header.
    pub(super) fn basic(header_type: u8, chunk_stream: u32) -> Self {
        debug_assert!((MIN_CHUNK_STREAM..=MAX_CHUNK_STREAM).contains(&chunk_stream));
        let chunk_stream = chunk_stream.clamp(MIN_CHUNK_STREAM, MAX_CHUNK_STREAM);
        let first = header_type << 6;
        let mut header = Self {
            bytes: [0; MAX_HEADER_LENGTH],
            length: 0,
        };
        // The casts keep the low byte on purpose.
        match chunk_stream {
            2..=63 => header.push(&[first | chunk_stream as u8]),
            64..=319 => header.push(&[first, (chunk_stream - 64) as u8]),
            _ => {
                let rest = chunk_stream - 64;
                header.push(&[first | 1, rest as u8, (rest >> 8) as u8]);
            }
        }
        header
    }

    /// Appends what still fits; every caller stays within [`MAX_HEADER_LENGTH`].
    pub(super) fn push(&mut self, more: &[u8]) {
        let start = usize::from(self.length);
        let end = start + more.len();
        if let Some(place) = self.bytes.get_mut(start..end) {
            place.copy_from_slice(more);
            self.length = end as u8;
        } else {
            debug_assert!(false, "chunk header longer than the longest");
        }
    }

    pub(super) fn push_24(&mut self, value: u32) {
        let [_, bytes @ ..] = value.to_be_bytes();
        self.push(&bytes);
    }
}

impl Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl AsRef<[u8]> for HeaderBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for HeaderBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeaderBytes({:02x?})", &**self)
    }
}

/// A header of type 0, which depends on nothing before it: the first chunk header of a message in its shared form.
///
/// With it, a receiver whose NetStream has another message stream ID takes the rest of a [`SharedWire`](super::SharedWire) as it is:
/// the headers of the chunks that follow do not carry the ID.
///
/// `timestamp` is in milliseconds, `length` in bytes. A `length` above 24 bits is stated as the greatest there is, and
/// a `chunk_stream` outside 2 to 65,599 as the nearest; both are bugs of the caller.
#[must_use]
pub fn header(
    chunk_stream: u32,
    timestamp: u32,
    length: u32,
    kind: MessageType,
    stream_id: u32,
) -> HeaderBytes {
    debug_assert!(length as usize <= MAX_MESSAGE_LENGTH);
    let mut header = HeaderBytes::basic(0, chunk_stream);
    header.push_24(timestamp.min(EXTENDED_TIMESTAMP));
    header.push_24(length.min(MAX_MESSAGE_LENGTH as u32));
    header.push(&[kind.0]);
    header.push(&stream_id.to_le_bytes());
    if timestamp >= EXTENDED_TIMESTAMP {
        header.push(&timestamp.to_be_bytes());
    }
    header
}

/// The header of a chunk that continues a message whose first header had this `timestamp` or delta. An extended one is repeated,
/// as section 5.3.1.3 asks and as Flash Player, ffmpeg and today's librtmp expect.
pub(super) fn continuation(chunk_stream: u32, extended: Option<u32>) -> HeaderBytes {
    let mut header = HeaderBytes::basic(3, chunk_stream);
    if let Some(timestamp) = extended {
        header.push(&timestamp.to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_header_forms() {
        for (chunk_stream, bytes) in [
            (2, &[0xC2][..]),
            (63, &[0xFF]),
            (64, &[0xC0, 0]),
            (319, &[0xC0, 255]),
            (320, &[0xC1, 0, 1]),
            (65_599, &[0xC1, 255, 255]),
        ] {
            assert_eq!(&*HeaderBytes::basic(3, chunk_stream), bytes);
        }
    }

    #[test]
    fn longest_header_fits() {
        let header = header(65_599, u32::MAX, 0x00FF_FFFF, MessageType(255), u32::MAX);
        assert_eq!(header.len(), MAX_HEADER_LENGTH);
    }

    #[test]
    fn type_0_header_on_the_wire() {
        assert_eq!(
            &*header(6, 0x0001_0203, 0x0A0B, MessageType::VIDEO, 1),
            [6, 1, 2, 3, 0, 0x0A, 0x0B, 9, 1, 0, 0, 0]
        );
        assert_eq!(
            &*header(6, 0x0102_0304, 5, MessageType::AUDIO, 0x0201),
            [6, 255, 255, 255, 0, 0, 5, 8, 1, 2, 0, 0, 1, 2, 3, 4]
        );
        assert_eq!(header(6, 0x00FF_FFFE, 5, MessageType::AUDIO, 1).len(), 12);
        assert_eq!(header(6, 0x00FF_FFFF, 5, MessageType::AUDIO, 1).len(), 16);
    }
}
