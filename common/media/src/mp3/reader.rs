//! Frame by frame through a file.

use super::header::{HEADER_SIZE, Header, NoHeader};
use crate::blocks::{BLOCK, Blocks};
use crate::file::{FileError, ReadAt};

/// Most bytes between two frames, or before the first, that are skipped.
pub const MAX_GARBAGE: usize = 64 << 10;

/// No frame is longer, in bytes.
const MAX_FRAME: usize = 1_441;

/// The part of a file in which frames stand, and what they are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Track {
    /// Where the first frame of sound begins.
    pub(super) first: u64,
    /// Where the tags at the end begin.
    pub(super) end: u64,
    /// The header of the first frame.
    pub(super) header: Header,
}

impl Track {
    /// When the frame of this number begins, in milliseconds.
    pub(super) fn time(&self, number: u64) -> u64 {
        let samples = u128::from(number) * u128::from(self.header.samples());
        u64::try_from(samples * 1_000 / u128::from(self.header.sample_rate)).unwrap_or(u64::MAX)
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) position: u64,
    pub(super) header: Header,
}

impl Found {
    pub(super) fn end(&self) -> u64 {
        self.position + self.header.size as u64
    }
}

pub(super) struct Reader<'a> {
    blocks: Blocks<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a dyn ReadAt) -> Self {
        Self {
            blocks: Blocks::new(source, BLOCK),
        }
    }

    pub(super) fn bytes(&mut self, at: u64, count: usize) -> Result<bytes::Bytes, FileError> {
        self.blocks.bytes(at, count)
    }

    /// The header at `position`; `None` too near to the end.
    pub(super) fn header(
        &mut self,
        position: u64,
        end: u64,
    ) -> Result<Option<Result<Header, NoHeader>>, FileError> {
        if end.saturating_sub(position) < HEADER_SIZE as u64 {
            return Ok(None);
        }
        let bytes = self.bytes(position, HEADER_SIZE)?;
        Ok(bytes.first_chunk().map(|bytes| Header::parse(*bytes)))
    }

    /// The frame at or after `position`, which goes with the `like`; `None` if there is no more whole frame.
    ///
    /// # Errors
    /// [`FileError::Invalid`] where there is more garbage than is skipped.
    pub(super) fn next(
        &mut self,
        position: u64,
        end: u64,
        like: Option<&Header>,
    ) -> Result<Option<Found>, FileError> {
        match self.header(position, end)? {
            None => return Ok(None),
            Some(Ok(header)) if like.is_some_and(|like| like.goes_with(&header)) => {
                let found = Found { position, header };
                // What is cut off is not given.
                return Ok((found.end() <= end).then_some(found));
            }
            Some(_) => {}
        }
        self.search(position, end, like)
    }

    /// Looks for a frame that is followed by another one, or by the end.
    fn search(
        &mut self,
        position: u64,
        end: u64,
        like: Option<&Header>,
    ) -> Result<Option<Found>, FileError> {
        let left = end - position;
        let window = MAX_GARBAGE + MAX_FRAME + HEADER_SIZE;
        let window = usize::try_from(left).map_or(window, |left| left.min(window));
        let bytes = self.bytes(position, window)?;
        let header_at = |at: usize| Header::parse(*bytes.get(at..)?.first_chunk()?).ok();
        for at in 0..=MAX_GARBAGE.min(bytes.len()) {
            let Some(header) = header_at(at) else {
                continue;
            };
            let after = at + header.size;
            let is_followed = header_at(after).is_some_and(|next| next.goes_with(&header))
                || position + after as u64 == end;
            if is_followed && like.is_none_or(|like| like.goes_with(&header)) {
                return Ok(Some(Found {
                    position: position + at as u64,
                    header,
                }));
            }
        }
        if like.is_some() && left <= MAX_GARBAGE as u64 {
            return Ok(None);
        }
        Err(FileError::Invalid {
            offset: position,
            what: String::from("no MPEG audio frame within reach"),
        })
    }
}
