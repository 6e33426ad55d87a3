//! Tag by tag through a file, looking at no more of a tag than tells what it is.

use bytes::Bytes;

use crate::blocks::{BLOCK, Blocks};
use crate::file::{FileError, ReadAt};
use crate::flv::{TAG_HEADER_SIZE, kind_of};
use crate::frame::{FrameFlags, FrameKind};
use crate::inspect::{Packet, inspect};

/// Bytes looked at of a body. Enough for [`inspect`], but for what [`needs_whole`] names.
const BODY_HEAD: usize = 64;

/// Bytes of the PreviousTagSize after a tag.
pub(super) const TRAILER: u64 = 4;

/// A tag without its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TagHead {
    /// Of its first byte.
    pub(super) position: u64,
    pub(super) kind: FrameKind,
    /// Of its body, in bytes.
    pub(super) length: usize,
    /// Milliseconds, 32 bits, wrapping.
    pub(super) timestamp: u32,
    pub(super) flags: FrameFlags,
    /// Audio or video that is heard or seen.
    pub(super) coded: bool,
    /// Where the next tag begins; past the end of the file by up to 4 after a last tag without its PreviousTagSize.
    pub(super) next: u64,
}

impl TagHead {
    /// Header and body, in bytes: what the PreviousTagSize after it should be.
    pub(super) fn size(&self) -> u64 {
        TAG_HEADER_SIZE as u64 + self.length as u64
    }

    /// The frame may change what is in force.
    pub(super) fn has_slot(&self) -> bool {
        self.flags
            .intersects(FrameFlags::HEADER | FrameFlags::METADATA | FrameFlags::CLEAR_METADATA)
    }
}

/// Reads tags anywhere in a file, in large blocks.
pub(super) struct TagScanner<'a> {
    blocks: Blocks<'a>,
}

impl<'a> TagScanner<'a> {
    /// For tags one after the other.
    pub(super) fn new(source: &'a dyn ReadAt) -> Self {
        Self::with_block(source, BLOCK)
    }

    /// For tags here and there: reads no more than `block_size` bytes at a time, where one tag does not need more.
    pub(super) fn with_block(source: &'a dyn ReadAt, block_size: usize) -> Self {
        Self {
            blocks: Blocks::new(source, block_size),
        }
    }

    /// The tag at `position`; `None` at the end of the file, and where the file ends within the tag.
    ///
    /// # Errors
    /// [`FileError`] where there is no tag, or an encrypted one.
    pub(super) fn head(&mut self, position: u64) -> Result<Option<TagHead>, FileError> {
        let left = self.blocks.length().saturating_sub(position);
        let wanted = usize::try_from(left).map_or(TAG_HEADER_SIZE + BODY_HEAD, |left| {
            left.min(TAG_HEADER_SIZE + BODY_HEAD)
        });
        if wanted < TAG_HEADER_SIZE {
            return Ok(None);
        }
        let bytes = self.blocks.bytes(position, wanted)?;
        let Some(&[first, l0, l1, l2, t0, t1, t2, t3, ..]) = bytes.first_chunk::<TAG_HEADER_SIZE>()
        else {
            return Ok(None);
        };
        let kind = kind_of(first & 0x1f).filter(|_| first & 0xc0 == 0);
        let Some(kind) = kind else {
            return Err(FileError::Invalid {
                offset: position,
                what: format!("no tag begins with {first:#04x}"),
            });
        };
        let length = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        if left < (TAG_HEADER_SIZE + length) as u64 {
            return Ok(None);
        }
        if first & 0x20 != 0 {
            return Err(FileError::Unsupported {
                what: format!("encrypted tag at byte {position}"),
            });
        }
        let mut head = bytes.slice(TAG_HEADER_SIZE..bytes.len().min(TAG_HEADER_SIZE + length));
        if head.len() < length && needs_whole(kind, &head) {
            head = self
                .blocks
                .bytes(position + TAG_HEADER_SIZE as u64, length)?;
        }
        let seen = inspect(kind, &head);
        Ok(Some(TagHead {
            position,
            kind,
            length,
            timestamp: u32::from_be_bytes([t3, t0, t1, t2]),
            flags: seen.flags,
            coded: seen.packet == Packet::Coded,
            next: position + (TAG_HEADER_SIZE + length) as u64 + TRAILER,
        }))
    }

    /// The body of a tag.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(super) fn body(&mut self, head: &TagHead) -> Result<Bytes, FileError> {
        self.blocks
            .bytes(head.position + TAG_HEADER_SIZE as u64, head.length)
    }

    /// The PreviousTagSize that ends before `position`.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(super) fn previous_size(&mut self, position: u64) -> Result<Option<u64>, FileError> {
        let Some(at) = position.checked_sub(TRAILER) else {
            return Ok(None);
        };
        if position > self.blocks.length() {
            return Ok(None);
        }
        let bytes = self.blocks.bytes(at, TRAILER as usize)?;
        Ok(bytes
            .first_chunk::<4>()
            .map(|size| u64::from(u32::from_be_bytes(*size))))
    }
}

/// Whether the first bytes of a body are not enough for [`inspect`]: modifiers and many tracks of Enhanced RTMP, and names of
/// metadata, have no bound of their own.
fn needs_whole(kind: FrameKind, head: &[u8]) -> bool {
    match (kind, head) {
        (FrameKind::Video, [first, ..]) => first & 0x80 != 0 && matches!(first & 0x0f, 6 | 7),
        (FrameKind::Audio, [first, ..]) => first >> 4 == 9 && matches!(first & 0x0f, 5 | 7),
        (FrameKind::Data, head) => matches!(head, [2, _, _, b'@', ..]),
        _ => false,
    }
}
