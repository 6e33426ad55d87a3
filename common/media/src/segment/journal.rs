//! The journal: what has been recorded and is in no segment yet, of all recordings of a process, one after the other.
//!
//! # A file, version 1
//! `HWJOURNL`, the version in 2 bytes, then records as in a segment: length, checksum, body. The first byte of a body says what it is,
//! the next 8 are the recording's number in this file. A file ends where no whole record follows: a process may die while it writes.

use std::io::{self, Read};
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::SegmentError;
use super::record::{FRAME, MAX_BODY, RECORD_HEAD, frame, put_frame, put_record};
use super::wire::{Fields, put_name};
use crate::frame::Frame;
use crate::name::StreamName;

const MAGIC: &[u8; 8] = b"HWJOURNL";
const VERSION: u16 = 1;

/// Bytes before the first record.
pub const JOURNAL_HEAD: usize = 10;

const OPENED: u8 = 16;
const CLOSED: u8 = 17;

/// Type and recording before the rest of a body.
const ENTRY_HEAD: usize = 9;

/// One record of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalEntry {
    /// A recording is open. Comes before anything else of it in a file.
    Opened {
        /// Its number in this file.
        recording: u64,
        /// Its stream.
        name: StreamName,
        /// Its generation.
        generation: u64,
    },
    /// The next frame of a recording.
    Frame {
        /// Which recording.
        recording: u64,
        /// The frame.
        frame: Frame,
    },
    /// A recording needs nothing more of what stands before this.
    Closed {
        /// Which recording.
        recording: u64,
    },
}

/// The first bytes of a file.
pub fn journal_head(out: &mut BytesMut) {
    out.put_slice(MAGIC);
    out.put_u16(VERSION);
}

/// Writes [`JournalEntry::Opened`].
pub fn journal_opened(recording: u64, name: &StreamName, generation: u64, out: &mut BytesMut) {
    put_record(out, |out| {
        out.put_u8(OPENED);
        out.put_u64(recording);
        out.put_u64(generation);
        put_name(name, out);
    });
}

/// Writes [`JournalEntry::Frame`].
pub fn journal_frame(recording: u64, frame: &Frame, out: &mut BytesMut) {
    put_record(out, |out| {
        out.put_u8(FRAME);
        out.put_u64(recording);
        put_frame(frame, out);
    });
}

/// Writes [`JournalEntry::Closed`].
pub fn journal_closed(recording: u64, out: &mut BytesMut) {
    put_record(out, |out| {
        out.put_u8(CLOSED);
        out.put_u64(recording);
    });
}

/// Reads a journal file, record by record.
#[derive(Debug)]
pub struct JournalReader<R> {
    source: R,
    place: u64,
}

impl<R: Read> JournalReader<R> {
    /// From the beginning of a file. `None`: there is no whole head, so the process died before anything was in it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for what is no journal of this version; others as the source has them.
    pub fn new(mut source: R) -> io::Result<Option<Self>> {
        let mut head = [0; JOURNAL_HEAD];
        if !read_whole(&mut source, &mut head)? {
            return Ok(None);
        }
        let mut fields = Fields::new(&head, 0);
        let is_right = fields.bytes(8).is_ok_and(|magic| magic == MAGIC)
            && fields.u16().is_ok_and(|version| version == VERSION);
        if !is_right {
            return Err(invalid(SegmentError::new(
                0,
                "not a journal of a known version",
            )));
        }
        Ok(Some(Self::at(source, JOURNAL_HEAD as u64)))
    }

    /// At a record that begins at `place` in its file.
    pub fn at(source: R, place: u64) -> Self {
        Self { source, place }
    }

    /// The next record, and where it stands. `None` where no whole record follows.
    ///
    /// Records of a later version are skipped.
    ///
    /// # Errors
    /// As the source has them.
    pub fn next_entry(&mut self) -> io::Result<Option<(Range<u64>, JournalEntry)>> {
        loop {
            let start = self.place;
            let mut head = [0; RECORD_HEAD];
            if !read_whole(&mut self.source, &mut head)? {
                return Ok(None);
            }
            let mut fields = Fields::new(&head, start);
            let (Ok(length), Ok(crc)) = (fields.u32(), fields.u32()) else {
                return Ok(None);
            };
            if length == 0 || length as usize > MAX_BODY {
                return Ok(None);
            }
            // Grows as bytes come, not as the length says.
            let mut body = Vec::new();
            let read = (&mut self.source)
                .take(length.into())
                .read_to_end(&mut body)?;
            if read != length as usize || crc32fast::hash(&body) != crc {
                return Ok(None);
            }
            self.place = start
                .saturating_add(RECORD_HEAD as u64)
                .saturating_add(length.into());
            match entry(&Bytes::from(body), start) {
                Ok(Some(entry)) => return Ok(Some((start..self.place, entry))),
                Ok(None) => {}
                Err(_) => {
                    self.place = start;
                    return Ok(None);
                }
            }
        }
    }

    /// Where the next record begins, or the whole ones end.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.place
    }
}

/// False: the bytes ended before that.
fn read_whole(source: &mut impl Read, target: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn entry(body: &Bytes, place: u64) -> Result<Option<JournalEntry>, SegmentError> {
    let mut fields = Fields::new(body, place.saturating_add(RECORD_HEAD as u64));
    let kind = fields.u8()?;
    let recording = fields.u64()?;
    Ok(Some(match kind {
        OPENED => {
            let generation = fields.u64()?;
            JournalEntry::Opened {
                recording,
                name: fields.name()?,
                generation,
            }
        }
        FRAME => JournalEntry::Frame {
            recording,
            frame: frame(&body.slice(ENTRY_HEAD..), fields.place())?,
        },
        CLOSED => JournalEntry::Closed { recording },
        _ => return Ok(None),
    }))
}

fn invalid(error: SegmentError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
