//! The incremental FLV reader.

use bytes::{Buf, Bytes, BytesMut};

use super::{FlvEvent, FlvHeader, TAG_HEADER_SIZE, Tag, kind_of};

/// Longest file header taken, in bytes. The specification has 9, and lets later versions have more.
const MAX_HEADER: usize = 1024;

/// Why bytes are no FLV. Offsets count from the first byte fed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlvError {
    /// The first three bytes are not `FLV`.
    #[error("no FLV signature at byte 0")]
    Signature,
    /// A version other than 1.
    #[error("unknown FLV version {version} at byte 3")]
    Version {
        /// What stands there.
        version: u8,
    },
    /// The header says that it is shorter than itself, or absurdly long.
    #[error("FLV header of {length} bytes at byte 5")]
    HeaderLength {
        /// What stands there.
        length: u32,
    },
    /// A tag's body is longer than the caller allows.
    #[error("tag at byte {offset} has {length} bytes, at most {max} are allowed")]
    TagTooLong {
        /// Of the tag's first byte.
        offset: u64,
        /// Length of its body in bytes.
        length: usize,
        /// What the caller allows.
        max: usize,
    },
    /// A tag type other than audio, video and data.
    #[error("unknown tag type {tag_type} at byte {offset}")]
    TagType {
        /// Of the tag's first byte.
        offset: u64,
        /// The five bits of the type.
        tag_type: u8,
    },
    /// The input ends within the header or a tag.
    #[error("input ends within the header or tag that starts at byte {offset}")]
    Truncated {
        /// Of the first byte of what was cut.
        offset: u64,
    },
}

/// Reads FLV from bytes that come in pieces of any size.
///
/// Feed with [`feed`](Self::feed), then call [`poll`](Self::poll) until it gives `None`; call [`finish`](Self::finish) at the
/// end of the input. The PreviousTagSize fields are skipped without a look: writers get them wrong.
#[derive(Debug)]
pub struct FlvReader {
    buffer: BytesMut,
    /// Offset of the buffer's first byte.
    offset: u64,
    max_body: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Header,
    /// Before the PreviousTagSize that precedes a tag.
    PreviousTagSize,
    Tag,
    Failed(FlvError),
}

impl FlvReader {
    /// A reader that refuses tags with more than `max_body` bytes.
    #[must_use]
    pub fn new(max_body: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            offset: 0,
            max_body,
            state: State::Header,
        }
    }

    /// Adds input. Bodies are slices of the reader's buffer: nothing is copied twice.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Failed(_)) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next header or tag; `None` where more input is needed.
    ///
    /// # Errors
    /// [`FlvError`] where the input is no FLV, and the same error ever after.
    pub fn poll(&mut self) -> Result<Option<FlvEvent>, FlvError> {
        let step = self.step();
        if let Err(error) = &step {
            self.state = State::Failed(error.clone());
            self.buffer = BytesMut::new();
        }
        step
    }

    /// Says that the input has ended. Bytes of a last PreviousTagSize may be missing.
    ///
    /// # Errors
    /// [`FlvError::Truncated`] where it ends within the header or a tag.
    pub fn finish(&self) -> Result<(), FlvError> {
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            State::PreviousTagSize if self.buffer.len() <= 4 => Ok(()),
            State::Tag if self.buffer.is_empty() => Ok(()),
            State::Header | State::Tag => Err(FlvError::Truncated {
                offset: self.offset,
            }),
            State::PreviousTagSize => Err(FlvError::Truncated {
                offset: self.offset + 4,
            }),
        }
    }

    /// The offset of the first byte that has not been given out.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn step(&mut self) -> Result<Option<FlvEvent>, FlvError> {
        loop {
            match &self.state {
                State::Failed(error) => return Err(error.clone()),
                State::Header => {
                    let header = self.header()?;
                    return Ok(header.map(FlvEvent::Header));
                }
                State::PreviousTagSize => {
                    if self.take(4).is_none() {
                        return Ok(None);
                    }
                    self.state = State::Tag;
                }
                State::Tag => {
                    let tag = self.tag()?;
                    return Ok(tag.map(FlvEvent::Tag));
                }
            }
        }
    }

    fn header(&mut self) -> Result<Option<FlvHeader>, FlvError> {
        // Said as early as possible: what is no FLV may be shorter than a header.
        let seen = self.buffer.len().min(3);
        if self.buffer.get(..seen) != b"FLV".get(..seen) {
            return Err(FlvError::Signature);
        }
        if let Some(&version) = self.buffer.get(3)
            && version != 1
        {
            return Err(FlvError::Version { version });
        }
        let Some([.., flags, a, b, c, d]) = self.buffer.first_chunk::<9>() else {
            return Ok(None);
        };
        let header = FlvHeader {
            has_audio: flags & 4 != 0,
            has_video: flags & 1 != 0,
        };
        let length = u32::from_be_bytes([*a, *b, *c, *d]);
        let size = usize::try_from(length)
            .ok()
            .filter(|size| (9..=MAX_HEADER).contains(size))
            .ok_or(FlvError::HeaderLength { length })?;
        if self.take(size).is_none() {
            return Ok(None);
        }
        self.state = State::PreviousTagSize;
        Ok(Some(header))
    }

    fn tag(&mut self) -> Result<Option<Tag>, FlvError> {
        let Some(&first) = self.buffer.first() else {
            return Ok(None);
        };
        let offset = self.offset;
        let tag_type = first & 0x1f;
        let kind = kind_of(tag_type).ok_or(FlvError::TagType { offset, tag_type })?;
        let Some(&[_, l0, l1, l2, t0, t1, t2, t3, ..]) =
            self.buffer.first_chunk::<TAG_HEADER_SIZE>()
        else {
            return Ok(None);
        };
        let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        if length > self.max_body {
            return Err(FlvError::TagTooLong {
                offset,
                length,
                max: self.max_body,
            });
        }
        let Some(mut body) = self.take(TAG_HEADER_SIZE + length) else {
            return Ok(None);
        };
        body.advance(TAG_HEADER_SIZE);
        self.state = State::PreviousTagSize;
        Ok(Some(Tag {
            timestamp: u32::from_be_bytes([t3, t0, t1, t2]),
            kind,
            filtered: first & 0x20 != 0,
            body,
        }))
    }

    fn take(&mut self, count: usize) -> Option<Bytes> {
        if self.buffer.len() < count {
            return None;
        }
        self.offset += count as u64;
        Some(self.buffer.split_to(count).freeze())
    }
}
