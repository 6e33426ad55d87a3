//! The sample tables of a track: ISO/IEC 14496-12, sections 8.6 (times) and 8.7 (sizes and chunks).
//!
//! The tables stay as they are in the file: runs are not expanded. What it takes to go through them is a [`TableCursor`]; a copy of it
//! is a bookmark.

use bytes::Bytes;

use super::boxes::{BoxHeader, Source, invalid, name};
use super::{MAX_SAMPLES, Sample};
use crate::file::FileError;

/// Where the tables of a track lie.
#[derive(Clone, Copy, Default)]
pub(super) struct TableBoxes {
    pub(super) times: Option<BoxHeader>,
    pub(super) compositions: Option<BoxHeader>,
    pub(super) syncs: Option<BoxHeader>,
    pub(super) sizes: Option<BoxHeader>,
    pub(super) runs: Option<BoxHeader>,
    pub(super) chunks: Option<BoxHeader>,
}

impl TableBoxes {
    /// Notes a box of `stbl`, if it is one of these.
    pub(super) fn note(&mut self, header: BoxHeader) {
        let place = match &header.kind {
            b"stts" => &mut self.times,
            b"ctts" => &mut self.compositions,
            b"stss" => &mut self.syncs,
            b"stsz" | b"stz2" => &mut self.sizes,
            b"stsc" => &mut self.runs,
            b"stco" | b"co64" => &mut self.chunks,
            _ => return,
        };
        place.get_or_insert(header);
    }
}

/// The sample tables of a track.
#[derive(Default)]
pub(super) struct Tables {
    /// `stts`: count, delta.
    times: Table,
    /// `ctts`: count, offset.
    compositions: Table,
    /// `stss`: numbers of sync samples from 1; `None` where all are.
    syncs: Option<Table>,
    sizes: Sizes,
    /// `stsc`: first chunk from 1, samples in each, description from 1.
    runs: Table,
    /// `stco` or `co64`.
    chunks: Table,
}

/// Entries of one width, as they are in the file.
#[derive(Default)]
struct Table {
    bytes: Bytes,
    /// Bytes of an entry.
    width: usize,
    count: u32,
    /// In the file, of the first entry.
    offset: u64,
}

/// `stsz` and `stz2`.
#[derive(Default)]
struct Sizes {
    /// Where it is not 0: of each sample, and there are no entries.
    every: u32,
    count: u32,
    /// Bits of an entry.
    bits: u32,
    bytes: Bytes,
}

/// A place in the tables: what the next sample is taken from.
#[derive(Clone, Copy, Default)]
pub(super) struct TableCursor {
    index: u32,
    /// Of the next sample, in ticks.
    time: u64,
    /// Entry of `times` after the current one, what is left of the current one, and its delta.
    time_entry: u32,
    time_left: u32,
    delta: u32,
    composition_entry: u32,
    composition_left: u32,
    composition: i32,
    sync_entry: u32,
    /// Chunk after the current one, what is left of the current one, and where in it the next sample begins.
    chunk: u32,
    chunk_left: u32,
    offset: u64,
    run: u32,
    description: u16,
}

impl Tables {
    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let syncs = self.syncs.as_ref().map_or(0, |syncs| syncs.bytes.len());
        let tables = [&self.times, &self.compositions, &self.runs, &self.chunks];
        let tables: usize = tables.iter().map(|table| table.bytes.len()).sum();
        tables + syncs + self.sizes.bytes.len()
    }

    pub(super) fn load(source: &Source, boxes: &TableBoxes) -> Result<Self, FileError> {
        let table = |header: &Option<BoxHeader>, width| {
            header.map_or_else(
                || Ok(Table::default()),
                |header| Table::load(source, &header, width),
            )
        };
        let syncs = boxes
            .syncs
            .map(|header| Table::load(source, &header, 4))
            .transpose()?;
        let wide = boxes.chunks.is_some_and(|header| header.kind == *b"co64");
        let sizes = boxes
            .sizes
            .map(|header| Sizes::load(source, &header))
            .transpose()?;
        Ok(Self {
            times: table(&boxes.times, 8)?,
            compositions: table(&boxes.compositions, 8)?,
            syncs,
            sizes: sizes.unwrap_or_default(),
            runs: table(&boxes.runs, 12)?,
            chunks: table(&boxes.chunks, if wide { 8 } else { 4 })?,
        })
    }

    /// How many samples there are.
    pub(super) fn count(&self) -> u32 {
        self.sizes.count
    }
}

impl TableCursor {
    /// The number of the next sample, from 0.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// When the next sample would be, in ticks.
    pub(super) fn time(&self) -> u64 {
        self.time
    }

    /// When the last sample was, in ticks.
    pub(super) fn latest(&self) -> u64 {
        self.time - u64::from(self.delta)
    }

    /// The next sample, `None` after the last.
    pub(super) fn next(&mut self, tables: &Tables) -> Result<Option<Sample>, FileError> {
        let Some(size) = tables.sizes.at(self.index) else {
            return Ok(None);
        };
        while self.time_left == 0 {
            let entry = tables.times.pair(self.time_entry).ok_or_else(|| {
                let what = format!("no time for sample {}", self.index);
                invalid(tables.times.offset, what)
            })?;
            (self.time_left, self.delta) = entry;
            self.time_entry += 1;
        }
        while self.composition_left == 0 {
            let Some((count, offset)) = tables.compositions.pair(self.composition_entry) else {
                self.composition = 0;
                break;
            };
            // Signed in version 1, and in what QuickTime writes as version 0.
            self.composition = offset.cast_signed();
            self.composition_left = count;
            self.composition_entry += 1;
        }
        while self.chunk_left == 0 {
            self.enter_chunk(tables)?;
        }
        let number = self.index + 1;
        let is_sync = tables.syncs.as_ref().is_none_or(|syncs| {
            while syncs
                .word(self.sync_entry, 0)
                .is_some_and(|sync| sync < number)
            {
                self.sync_entry += 1;
            }
            syncs.word(self.sync_entry, 0) == Some(number)
        });
        let sample = Sample {
            index: self.index,
            offset: self.offset,
            size,
            time: self.time,
            duration: self.delta,
            composition: self.composition,
            is_sync,
            description: self.description,
        };
        self.index = number;
        self.time += u64::from(self.delta);
        self.time_left -= 1;
        self.composition_left = self.composition_left.saturating_sub(1);
        self.chunk_left -= 1;
        self.offset = self.offset.saturating_add(u64::from(size));
        Ok(Some(sample))
    }

    fn enter_chunk(&mut self, tables: &Tables) -> Result<(), FileError> {
        let number = self.chunk + 1;
        self.offset = tables.chunks.long(self.chunk).ok_or_else(|| {
            let what = format!("no chunk has sample {}", self.index);
            invalid(tables.chunks.offset, what)
        })?;
        while tables
            .runs
            .word(self.run + 1, 0)
            .is_some_and(|first| first <= number)
        {
            self.run += 1;
        }
        let place = tables.runs.place(self.run);
        match (tables.runs.word(self.run, 0), tables.runs.word(self.run, 2)) {
            (Some(first), Some(description)) if first <= number => {
                self.chunk_left = tables.runs.word(self.run, 1).unwrap_or_default();
                self.description = description
                    .checked_sub(1)
                    .and_then(|index| u16::try_from(index).ok())
                    .ok_or_else(|| invalid(place, format!("sample description {description}")))?;
                self.chunk = number;
                Ok(())
            }
            _ => Err(invalid(place, format!("no samples in chunk {number}"))),
        }
    }
}

impl Table {
    fn load(source: &Source, header: &BoxHeader, width: usize) -> Result<Self, FileError> {
        let mut head = source.fields_at(header.body, header.end, 8)?;
        head.version()?;
        let count = head.u32()?;
        let offset = head.offset();
        check_count(header, count)?;
        let length = count as usize * width;
        if length as u64 > header.end - offset {
            let what = format!("{count} entries do not fit into {}", name(header.kind));
            return Err(invalid(header.start, what));
        }
        Ok(Self {
            bytes: source.read(offset, length)?,
            width,
            count,
            offset,
        })
    }

    /// In the file, of this entry.
    fn place(&self, entry: u32) -> u64 {
        self.offset + u64::from(entry) * self.width as u64
    }

    /// A 32-bit field of an entry.
    fn word(&self, entry: u32, field: usize) -> Option<u32> {
        if entry >= self.count {
            return None;
        }
        let at = entry as usize * self.width + field * 4;
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    }

    fn pair(&self, entry: u32) -> Option<(u32, u32)> {
        Some((self.word(entry, 0)?, self.word(entry, 1)?))
    }

    /// An entry of 32 or 64 bits.
    fn long(&self, entry: u32) -> Option<u64> {
        let first = self.word(entry, 0)?;
        if self.width == 4 {
            return Some(u64::from(first));
        }
        Some(u64::from(first) << 32 | u64::from(self.word(entry, 1)?))
    }
}

impl Sizes {
    fn load(source: &Source, header: &BoxHeader) -> Result<Self, FileError> {
        let mut head = source.fields_at(header.body, header.end, 12)?;
        head.version()?;
        let field = head.u32()?;
        let count = head.u32()?;
        let offset = head.offset();
        check_count(header, count)?;
        let is_compact = header.kind == *b"stz2";
        let (every, bits) = match (is_compact, field & 0xff) {
            (false, _) => (field, 32),
            (true, bits @ (4 | 8 | 16)) => (0, bits),
            (true, bits) => {
                let what = format!("sample sizes of {bits} bits");
                return Err(invalid(header.start, what));
            }
        };
        let length = if every == 0 {
            (u64::from(count) * u64::from(bits)).div_ceil(8)
        } else {
            0
        };
        if length > header.end - offset {
            let what = format!("{count} entries do not fit into {}", name(header.kind));
            return Err(invalid(header.start, what));
        }
        Ok(Self {
            every,
            count,
            bits,
            bytes: source.read(offset, length as usize)?,
        })
    }

    /// The size of a sample, from 0.
    fn at(&self, index: u32) -> Option<u32> {
        if index >= self.count {
            return None;
        }
        if self.every != 0 {
            return Some(self.every);
        }
        let at = index as usize;
        Some(match self.bits {
            4 => {
                let both = u32::from(*self.bytes.get(at / 2)?);
                if at.is_multiple_of(2) {
                    both >> 4
                } else {
                    both & 0x0f
                }
            }
            8 => u32::from(*self.bytes.get(at)?),
            16 => u32::from(u16::from_be_bytes(
                *self.bytes.get(at * 2..)?.first_chunk()?,
            )),
            _ => u32::from_be_bytes(*self.bytes.get(at * 4..)?.first_chunk()?),
        })
    }
}

fn check_count(header: &BoxHeader, count: u32) -> Result<(), FileError> {
    if count > MAX_SAMPLES {
        let what = format!(
            "{} of {count} entries, at most {MAX_SAMPLES} are read",
            name(header.kind)
        );
        return Err(invalid(header.start, what));
    }
    Ok(())
}
