//! Small reads out of large blocks.

use bytes::Bytes;

use crate::file::{FileError, ReadAt};

/// Bytes read at a time by those who go through a file.
pub(crate) const BLOCK: usize = 256 << 10;

/// Keeps the last block that was read.
pub(crate) struct Blocks<'a> {
    source: &'a dyn ReadAt,
    length: u64,
    block: Bytes,
    block_at: u64,
    block_size: usize,
}

impl<'a> Blocks<'a> {
    /// Reads `block_size` bytes at a time, where no more are asked for.
    pub(crate) fn new(source: &'a dyn ReadAt, block_size: usize) -> Self {
        Self {
            length: source.length(),
            source,
            block: Bytes::new(),
            block_at: 0,
            block_size,
        }
    }

    /// Of the whole file.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Just so many bytes.
    ///
    /// # Errors
    /// [`FileError::Read`], also where the file ends before.
    pub(crate) fn bytes(&mut self, at: u64, count: usize) -> Result<Bytes, FileError> {
        if let Some(bytes) = self.held(at, count) {
            return Ok(bytes);
        }
        let left = self.length.saturating_sub(at);
        let block = usize::try_from(left).map_or(self.block_size, |left| left.min(self.block_size));
        if count > block {
            return Ok(self.source.read_at(at, count)?);
        }
        self.block = self.source.read_at(at, block)?;
        self.block_at = at;
        self.held(at, count)
            .ok_or_else(|| FileError::Read(std::io::ErrorKind::UnexpectedEof.into()))
    }

    fn held(&self, at: u64, count: usize) -> Option<Bytes> {
        let from = usize::try_from(at.checked_sub(self.block_at)?).ok()?;
        let to = from.checked_add(count)?;
        (to <= self.block.len()).then(|| self.block.slice(from..to))
    }
}
