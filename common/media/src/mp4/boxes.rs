//! Boxes where they lie in the file, and the fields of small ones.
//!
//! ISO/IEC 14496-12, section 4.2: a box has 32 bits of size and a type; a size of 1 stands for a 64-bit one after the type, a size
//! of 0 for "to the end of what contains it".

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::file::{FileError, ReadAt};

/// Bytes of a box header with a 64-bit size.
const LONG_HEADER: u64 = 16;

/// Bytes of a box header with a 32-bit size.
const SHORT_HEADER: u64 = 8;

/// What is wrong, and where.
pub(super) fn invalid(offset: u64, what: impl Into<String>) -> FileError {
    FileError::Invalid {
        offset,
        what: what.into(),
    }
}

/// The bytes of the file, or of a part of it that was read; offsets are those of the file.
#[derive(Clone)]
pub(super) struct Source {
    source: Arc<dyn ReadAt>,
    /// In the file, of the first byte there is.
    start: u64,
    /// In the file, of the first byte that there is not.
    end: u64,
    /// Parts that are not read again, by their offsets.
    kept: Arc<HashMap<u64, Bytes>>,
}

/// Where a box lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxHeader {
    pub(super) kind: [u8; 4],
    /// Of its header's first byte.
    pub(super) start: u64,
    /// Of the first byte after its header.
    pub(super) body: u64,
    /// Of the first byte after the box.
    pub(super) end: u64,
}

impl BoxHeader {
    /// Bytes after the header.
    pub(super) fn body_length(&self) -> u64 {
        self.end - self.body
    }
}

impl Source {
    pub(super) fn new(source: Arc<dyn ReadAt>) -> Self {
        let end = source.length();
        Self {
            source,
            start: 0,
            end,
            kept: Arc::default(),
        }
    }

    /// The same file with other parts that are not read again.
    pub(super) fn keeping(&self, kept: HashMap<u64, Bytes>) -> Self {
        Self {
            kept: Arc::new(kept),
            ..self.clone()
        }
    }

    /// Bytes that were read before, from `offset` on.
    pub(super) fn of(bytes: Bytes, offset: u64) -> Self {
        Self {
            start: offset,
            end: offset + bytes.len() as u64,
            source: Arc::new(bytes),
            kept: Arc::default(),
        }
    }

    /// A part of the file, read at once.
    pub(super) fn part(&self, offset: u64, length: usize) -> Result<Self, FileError> {
        let kept = self.kept.get(&offset).filter(|kept| kept.len() == length);
        let bytes = match kept {
            Some(kept) => kept.clone(),
            None => self.read(offset, length)?,
        };
        Ok(Self::of(bytes, offset))
    }

    /// Bytes in several places, for each of which there may be an error.
    pub(super) fn read_each(&self, places: &[(u64, usize)]) -> Vec<Option<Bytes>> {
        let read = self.source.read_each(places).into_iter();
        read.map(Result::ok).collect()
    }

    /// Whether these bytes are among the file's, or the part's.
    pub(super) fn holds(&self, at: u64, length: u64) -> bool {
        at >= self.start && at.checked_add(length).is_some_and(|end| end <= self.end)
    }

    /// Where the file, or the part, begins.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Where the file, or the part, ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes that are known to be in the file, or were when it was opened.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Bytes, FileError> {
        let end = offset.checked_add(length as u64);
        if offset < self.start || end.is_none_or(|end| end > self.end) {
            return Err(invalid(offset, "runs past the end of the file"));
        }
        Ok(self.source.read_at(offset - self.start, length)?)
    }

    /// The header of the box at `at`, which lies in something that ends at `end`. Its own end may be past that: see
    /// [`header_within`](Self::header_within).
    pub(super) fn header(&self, at: u64, end: u64) -> Result<BoxHeader, FileError> {
        let available = end.saturating_sub(at).min(LONG_HEADER);
        if available < SHORT_HEADER {
            return Err(invalid(at, "ends within the header of a box"));
        }
        let mut bytes = self.read(at, available as usize)?;
        let size = u64::from(bytes.get_u32());
        let kind = bytes.get_u32().to_be_bytes();
        let (body, size) = match size {
            0 => (at + SHORT_HEADER, end - at),
            1 if available < LONG_HEADER => {
                return Err(invalid(at, "ends within the header of a box"));
            }
            1 => (at + LONG_HEADER, bytes.get_u64()),
            size => (at + SHORT_HEADER, size),
        };
        let end = at.checked_add(size).filter(|end| *end >= body);
        let end = end.ok_or_else(|| invalid(at, format!("{} of {size} bytes", name(kind))))?;
        Ok(BoxHeader {
            kind,
            start: at,
            body,
            end,
        })
    }

    /// The header of a box that must end where its container does, or before.
    pub(super) fn header_within(&self, at: u64, end: u64) -> Result<BoxHeader, FileError> {
        let header = self.header(at, end)?;
        if header.end > end {
            let what = format!("{} is longer than what contains it", name(header.kind));
            return Err(invalid(at, what));
        }
        Ok(header)
    }

    /// The boxes from `at` to `end`, at most `most`.
    pub(super) fn boxes(
        &self,
        at: u64,
        end: u64,
        most: usize,
    ) -> Result<Vec<BoxHeader>, FileError> {
        let mut found = Vec::new();
        let mut at = at;
        // QuickTime ends some containers with 32 bits of 0.
        while end.saturating_sub(at) >= SHORT_HEADER {
            if found.len() == most {
                return Err(invalid(at, format!("more than {most} boxes in one")));
            }
            let header = self.header_within(at, end)?;
            at = header.end;
            found.push(header);
        }
        Ok(found)
    }

    /// The boxes in a box.
    pub(super) fn children(
        &self,
        of: &BoxHeader,
        most: usize,
    ) -> Result<Vec<BoxHeader>, FileError> {
        self.boxes(of.body, of.end, most)
    }

    /// The first `length` bytes of what lies from `at` to `end`.
    pub(super) fn fields_at(&self, at: u64, end: u64, length: u64) -> Result<Fields, FileError> {
        if end.saturating_sub(at) < length {
            return Err(invalid(at, "a box ends within its fields"));
        }
        Ok(Fields::new(self.read(at, length as usize)?, at))
    }

    /// The fields of a box of at most `most` bytes.
    pub(super) fn fields(&self, of: &BoxHeader, most: u64) -> Result<Fields, FileError> {
        let length = of.body_length();
        if length > most {
            let what = format!(
                "{} of {length} bytes, at most {most} are read",
                name(of.kind)
            );
            return Err(invalid(of.start, what));
        }
        Ok(Fields::new(self.read(of.body, length as usize)?, of.body))
    }
}

/// A box type for a message.
pub(super) fn name(kind: [u8; 4]) -> String {
    kind.escape_ascii().to_string()
}

/// Reads the fields of a box one after the other.
#[derive(Clone)]
pub(super) struct Fields {
    bytes: Bytes,
    /// In the file, of the first byte left.
    offset: u64,
}

impl Fields {
    pub(super) fn new(bytes: Bytes, offset: u64) -> Self {
        Self { bytes, offset }
    }

    /// In the file, of the first byte left.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The next bytes.
    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, FileError> {
        if self.bytes.len() < length {
            return Err(invalid(self.offset, "a box ends within its fields"));
        }
        self.offset += length as u64;
        Ok(self.bytes.split_to(length))
    }

    pub(super) fn skip(&mut self, length: usize) -> Result<(), FileError> {
        self.take(length).map(drop)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FileError> {
        Ok(self.take(1)?.get_u8())
    }

    pub(super) fn u16(&mut self) -> Result<u16, FileError> {
        Ok(self.take(2)?.get_u16())
    }

    pub(super) fn u32(&mut self) -> Result<u32, FileError> {
        Ok(self.take(4)?.get_u32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, FileError> {
        Ok(self.take(8)?.get_u64())
    }

    /// Version and flags of a full box.
    pub(super) fn version(&mut self) -> Result<(u8, u32), FileError> {
        let both = self.u32()?;
        Ok(((both >> 24) as u8, both & 0x00ff_ffff))
    }

    /// 64 bits in version 1, 32 bits before.
    pub(super) fn by_version(&mut self, version: u8) -> Result<u64, FileError> {
        if version == 0 {
            self.u32().map(u64::from)
        } else {
            self.u64()
        }
    }

    /// The rest as fields of its own, with nothing left here.
    pub(super) fn rest(&mut self) -> Bytes {
        self.offset += self.bytes.len() as u64;
        self.bytes.split_off(0)
    }
}
