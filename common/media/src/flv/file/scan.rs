//! A file read from the beginning, tag header by tag header, as far as anybody has asked for.

use super::cuts::{Cutter, Start};
use super::tags::{TagHead, TagScanner};
use crate::file::{FileError, ReadAt};
use crate::flv::headers::Headers;
use crate::thinned::Thinned;

/// Tags that are read at a time: others who want the file may come in between.
const CHUNK: usize = 4_096;

/// Most places in a file that are kept in memory, 56 bytes each: those of nine hours at two seconds. Of a longer file every second
/// one is kept, or every fourth, and so on.
pub const MAX_INDEX_ENTRIES: usize = 16_384;

/// Bytes that each of them takes.
pub(super) const PLACE_BYTES: usize = size_of::<Entry>();

/// A place from which a walk may start, and its time.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: Start,
    /// Not before the place that is known of; in milliseconds.
    time: u64,
}

/// How far a file is known.
#[derive(Debug)]
pub(super) struct Scan {
    entries: Thinned<Entry>,
    cutter: Cutter,
    reached_ms: u64,
    is_over: bool,
}

impl Scan {
    pub(super) fn new(cutter: Cutter, start: Start) -> Self {
        let mut entries = Thinned::new(MAX_INDEX_ENTRIES);
        entries.push(Entry { start, time: 0 });
        Self {
            entries,
            cutter,
            reached_ms: 0,
            is_over: false,
        }
    }

    /// The next tag to be read.
    pub(super) fn position(&self) -> u64 {
        self.cutter.position()
    }

    /// No place that is still to be read is before this time, in milliseconds, in a file that keeps its order.
    pub(super) fn reached_ms(&self) -> u64 {
        self.reached_ms
    }

    /// Reads on; says whether `is_enough`, or the end of what can be read, has been reached.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(super) fn advance(
        &mut self,
        source: &dyn ReadAt,
        headers: &mut Headers,
        is_enough: &dyn Fn(&Self) -> bool,
    ) -> Result<bool, FileError> {
        let mut scanner = TagScanner::new(source);
        for _ in 0..CHUNK {
            if self.is_over || is_enough(self) {
                return Ok(true);
            }
            let head = match scanner.head(self.cutter.position()) {
                Ok(Some(head)) => head,
                // Whoever gets there meets the same.
                Ok(None) | Err(FileError::Invalid { .. } | FileError::Unsupported { .. }) => {
                    self.is_over = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if head.has_slot() {
                note(headers, &mut scanner, &head)?;
            }
            let step = self.cutter.push(head);
            if self.cutter.tells_time(&step.head) {
                self.reached_ms = self.reached_ms.max(step.time);
            }
            // The first one has been there from the beginning.
            if let Some(start) = step.begins
                && self
                    .entries
                    .entries()
                    .first()
                    .is_some_and(|first| first.start != start)
            {
                let place_ms = start.known.map_or(0, |known| known.place_ms);
                let time = step.time.max(place_ms);
                self.entries.push(Entry { start, time });
            }
        }
        Ok(false)
    }

    /// How many places are kept.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.entries.entries().len()
    }

    /// The nearest start at or before a position.
    pub(super) fn before(&self, position: u64) -> Option<Start> {
        let entries = self.entries.entries();
        let after = entries.partition_point(|entry| entry.start.position <= position);
        Some(entries.get(after.checked_sub(1)?)?.start)
    }

    /// The last start at or before a time; times are not in order in every file.
    pub(super) fn before_time(&self, ms: u64) -> Option<Start> {
        let entries = self.entries.entries();
        let found = entries.iter().rev().find(|entry| entry.time <= ms);
        Some(found.or_else(|| entries.first())?.start)
    }
}

/// Notes a frame that has a slot, and reads it where that is needed.
pub(super) fn note(
    headers: &mut Headers,
    scanner: &mut TagScanner<'_>,
    head: &TagHead,
) -> Result<(), FileError> {
    if headers.takes(head.position, head.length) {
        let payload = scanner.body(head)?;
        headers.note(head.position, head.kind, head.flags, &payload);
    }
    Ok(())
}
