//! The seek table of a file's metadata: where to begin to look.
//!
//! What it says is never taken for granted: pieces begin where the tags say. A table that is found to lie is not used again, and the
//! file is read from its beginning instead.

use super::cuts::Clock;
use super::scan::{MAX_INDEX_ENTRIES, note};
use super::tags::{TagHead, TagScanner};
use super::tail::tag_before;
use crate::file::{FileError, ReadAt};
use crate::flv::headers::Headers;
use crate::flv::metadata::SeekTable;
use crate::frame::{FrameFlags, FrameKind};
use crate::thinned::Thinned;

/// Places looked at before the table is used at all.
const SAMPLES: usize = 16;

/// Farthest that two places of the table may be apart, in bytes: what lies between may have to be read for a piece.
const MAX_GAP: u64 = 64 << 20;

/// How far the time of a place may be from that of its tag, in milliseconds.
const TIME_TOLERANCE_MS: u64 = 1_000;

/// Most codec headers looked for directly before a key frame.
const MAX_HEADERS_BEFORE: usize = 4;

/// Bytes read at a time.
const BLOCK: usize = 128;

/// Key frames, or listed headers, that are looked at at a time: others who want the file may come in between.
const CHUNK: usize = 64;

/// How far [`Hints::note_headers`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// Everything before the position is known.
    All,
    /// There is more to look at.
    Some,
    /// The list is wrong.
    Wrong,
}

/// A key frame, if the table is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) position: u64,
    /// On the file's timeline, in milliseconds.
    pub(super) time: u64,
}

impl Hint {
    /// Whether there is such a key frame.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(super) fn is_right(
        self,
        source: &dyn ReadAt,
        first: u64,
        clock: Clock,
    ) -> Result<bool, FileError> {
        let mut scanner = TagScanner::with_block(source, BLOCK);
        let head = readable(scanner.head(self.position))?;
        let is_right = head.is_some_and(|head| {
            // Some tools list the codec header, which is marked as a key frame as well.
            head.kind == FrameKind::Video
                && head.flags.intersects(FrameFlags::KEY | FrameFlags::HEADER)
                && clock.time(head.timestamp).abs_diff(self.time) <= TIME_TOLERANCE_MS
        });
        let is_after_tag =
            self.position == first || tag_before(&mut scanner, first, self.position)?.is_some();
        Ok(is_right && is_after_tag)
    }
}

/// The table, and how far codec headers are known.
#[derive(Debug)]
pub(super) struct Hints {
    first: u64,
    entries: Vec<Hint>,
    /// Positions of codec headers and metadata, where the table has them.
    listed: Option<Vec<u64>>,
    /// How many of those, or of the entries, have been looked at.
    checked: usize,
}

impl Hints {
    /// Takes a table that looks right. `headers` gets the codec headers before the first picture, at the positions `initial`.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(super) fn new(
        source: &dyn ReadAt,
        first: u64,
        clock: Clock,
        table: SeekTable,
        initial: &[u64],
        headers: &mut Headers,
    ) -> Result<Option<Self>, FileError> {
        let is_in_order = |(a, b): (&(u64, u64), &(u64, u64))| a.0 < b.0 && a.1 <= b.1;
        let entries = &table.keyframes;
        let in_order = entries.iter().zip(entries.iter().skip(1)).all(is_in_order);
        let starts = entries.iter().map(|entry| entry.0);
        let ends = starts.clone().skip(1).chain([source.length()]);
        let is_dense = starts.clone().zip(ends).all(|(a, b)| {
            b.checked_sub(a)
                .is_some_and(|gap| gap > 0 && gap <= MAX_GAP)
        });
        let begins = starts
            .clone()
            .next()
            .is_some_and(|at| at >= first && at - first <= MAX_GAP);
        let listed_in_order = table
            .codec_headers
            .iter()
            .all(|listed| listed.is_sorted() && listed.len() <= MAX_INDEX_ENTRIES);
        if !(in_order && is_dense && begins && listed_in_order) {
            return Ok(None);
        }
        let mut thinned = Thinned::new(MAX_INDEX_ENTRIES);
        for &(position, timestamp) in entries {
            thinned.push(Hint {
                position,
                time: clock.time(timestamp as u32),
            });
        }
        let hints = Self {
            first,
            entries: thinned.into_entries(),
            listed: table.codec_headers,
            checked: 0,
        };
        let step = hints.entries.len().div_ceil(SAMPLES).max(1);
        let last = hints.entries.len().saturating_sub(1);
        for number in (0..hints.entries.len()).step_by(step).chain([last]) {
            match hints.entries.get(number) {
                Some(hint) if hint.is_right(source, first, clock)? => {}
                _ => return Ok(None),
            }
        }
        let mut scanner = TagScanner::with_block(source, BLOCK);
        for &position in initial {
            if let Ok(Some(head)) = scanner.head(position) {
                note(headers, &mut scanner, &head)?;
            }
        }
        Ok(Some(hints))
    }

    /// Places from which to look for a piece that begins at or after the last entry that `is_before`: near ones first.
    pub(super) fn candidates(&self, is_before: impl Fn(&Hint) -> bool) -> Vec<Hint> {
        let mut number = self.entries.iter().rposition(is_before);
        let mut back = 1;
        let mut found = Vec::new();
        while let Some(at) = number {
            found.extend(self.entries.get(at));
            number = at.checked_sub(back);
            back *= 2;
        }
        found
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&self.entries[..]) + self.listed.as_deref().map_or(0, size_of_val)
    }

    /// Notes some of the codec headers before `position`: those that are listed, or else those that stand directly before the key
    /// frames of the table, where encoders put them.
    ///
    /// # Errors
    /// [`FileError::Read`].
    pub(super) fn note_headers(
        &mut self,
        source: &dyn ReadAt,
        headers: &mut Headers,
        position: u64,
    ) -> Result<Noted, FileError> {
        let mut scanner = TagScanner::with_block(source, BLOCK);
        if let Some(listed) = &self.listed {
            for _ in 0..CHUNK {
                let Some(&at) = listed.get(self.checked).filter(|at| **at < position) else {
                    return Ok(Noted::All);
                };
                let head = readable(scanner.head(at))?.filter(TagHead::has_slot);
                let Some(head) = head else {
                    return Ok(Noted::Wrong);
                };
                note(headers, &mut scanner, &head)?;
                self.checked += 1;
            }
            return Ok(Noted::Some);
        }
        for _ in 0..CHUNK {
            let hint = self.entries.get(self.checked);
            let Some(hint) = hint.filter(|hint| hint.position <= position) else {
                return Ok(Noted::All);
            };
            let mut before = Vec::new();
            let mut end = hint.position;
            while before.len() < MAX_HEADERS_BEFORE {
                let tag = tag_before(&mut scanner, self.first, end)?.filter(TagHead::has_slot);
                let Some(tag) = tag else {
                    break;
                };
                end = tag.position;
                before.push(tag);
            }
            for head in before.iter().rev() {
                note(headers, &mut scanner, head)?;
            }
            self.checked += 1;
        }
        Ok(Noted::Some)
    }
}

fn readable(head: Result<Option<TagHead>, FileError>) -> Result<Option<TagHead>, FileError> {
    match head {
        Err(FileError::Invalid { .. } | FileError::Unsupported { .. }) => Ok(None),
        head => head,
    }
}
