//! From box to box through a file, to find the movie box and the fragments.
//!
//! The tables of fragments are kept until the file is open, so that they are read once. Where an index (`sidx`, ISO/IEC 14496-12,
//! 8.16.3) says before where fragments begin, they are read several at a time; that is all that it is trusted for.

use std::collections::HashMap;

use bytes::Bytes;

use super::boxes::{BoxHeader, Source, invalid};
use super::fragments::Fragment;
use super::{MAX_FRAGMENTS, MAX_TOP_BOXES};
use crate::file::FileError;

/// Bytes of fragments' tables that are kept.
const MAX_KEPT: usize = 16 << 20;

/// Bytes that are read where a fragment is expected: its tables, and the header of its data. Two seconds have some three kilobytes.
const PROBE: usize = 16 << 10;

/// Places that are read at a time: a mebibyte in memory.
const BATCH: usize = 64;

/// Longest index that is read, in bytes: its count of references has 16 bits.
const MAX_INDEX: u64 = 12 * 65_535 + 64;

/// Bytes of a box header, at most.
const HEADER: u64 = 16;

/// Finds the movie box and the fragments, and gives the source with the tables of those.
pub(super) fn scan(source: &Source) -> Result<(BoxHeader, Vec<Fragment>, Source), FileError> {
    let mut movie: Option<BoxHeader> = None;
    let mut fragments = Vec::new();
    let mut ahead = Ahead::new(source);
    let mut kept = HashMap::new();
    let mut kept_bytes = 0;
    // The data of the last fragment have not come yet.
    let mut is_open = false;
    let mut at = 0;
    for count in 0.. {
        if count > MAX_TOP_BOXES {
            return Err(invalid(at, format!("more than {MAX_TOP_BOXES} boxes")));
        }
        if at == source.end() {
            break;
        }
        let header = match (ahead.header(at), movie) {
            (Ok(header), _) => header,
            // What follows the movie may be cut, or be no box.
            (Err(FileError::Invalid { .. }), Some(_)) => break,
            (Err(error), _) => return Err(error),
        };
        match &header.kind {
            b"moov" if movie.is_none() => movie = Some(header),
            b"sidx" if fragments.is_empty() => ahead.expect(&header),
            b"moof" => {
                if fragments.len() == MAX_FRAGMENTS {
                    let what = format!("more than {MAX_FRAGMENTS} fragments");
                    return Err(invalid(at, what));
                }
                let fragment = Fragment::new(&header)?;
                let length = (header.end - header.start) as usize;
                if movie.is_some() && kept_bytes + length <= MAX_KEPT {
                    kept_bytes += length;
                    kept.insert(header.start, ahead.read(header.start, length)?);
                }
                fragments.push(fragment);
                is_open = true;
            }
            b"mdat" => is_open = false,
            _ => {}
        }
        at = header.end;
    }
    if is_open {
        fragments.pop();
    }
    let movie = movie.ok_or_else(|| invalid(at, "there is no movie box"))?;
    Ok((movie, fragments, source.keeping(kept)))
}

/// Reads where fragments are expected before anybody gets there.
struct Ahead<'a> {
    source: &'a Source,
    /// Where fragments are expected, in order, at least [`PROBE`] apart: together they are not read more than the file. From `next` on not
    /// read yet. `None` before the first index; further ones are of other tracks.
    expected: Option<Vec<u64>>,
    next: usize,
    /// What was read there, in order.
    batch: Vec<Source>,
}

impl<'a> Ahead<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            expected: None,
            next: 0,
            batch: Vec::new(),
        }
    }

    /// Takes what an index says. One that cannot be read says nothing.
    fn expect(&mut self, header: &BoxHeader) {
        if self.expected.is_none() {
            self.expected = Some(references(self.source, header).unwrap_or_default());
        }
    }

    fn header(&mut self, at: u64) -> Result<BoxHeader, FileError> {
        let end = self.source.end();
        let length = HEADER.min(end.saturating_sub(at));
        let held = self.held(at, length).cloned();
        let header = held.as_ref().unwrap_or(self.source).header(at, end)?;
        if header.end > end {
            // The error that says so.
            return self.source.header_within(at, end);
        }
        Ok(header)
    }

    fn read(&mut self, at: u64, length: usize) -> Result<Bytes, FileError> {
        match self.held(at, length as u64) {
            // A copy, lest it keeps what was read around it.
            Some(held) => Ok(Bytes::copy_from_slice(&held.read(at, length)?)),
            None => self.source.read(at, length),
        }
    }

    /// What was read around some bytes; reads on if that is a place where a fragment is expected.
    fn held(&mut self, at: u64, length: u64) -> Option<&Source> {
        let expected = self.expected.as_deref().unwrap_or_default();
        // Those that were passed without being met are no fragments.
        while expected.get(self.next).is_some_and(|place| *place < at) {
            self.next += 1;
        }
        if expected.get(self.next) == Some(&at) {
            let places = expected.iter().skip(self.next).take(BATCH);
            let places: Vec<_> = places.map(|place| (*place, self.probe(*place))).collect();
            self.next += places.len();
            let read = self.source.read_each(&places).into_iter().zip(places);
            self.batch = read
                .filter_map(|(bytes, (place, _))| Some(Source::of(bytes?, place)))
                .collect();
        }
        let after = self.batch.partition_point(|held| held.start() <= at);
        let held = self.batch.get(after.checked_sub(1)?)?;
        held.holds(at, length).then_some(held)
    }

    fn probe(&self, place: u64) -> usize {
        let left = self.source.end().saturating_sub(place);
        usize::try_from(left).map_or(PROBE, |left| left.min(PROBE))
    }
}

/// Where the subsegments of an index begin: within the file, each after the one before.
fn references(source: &Source, header: &BoxHeader) -> Result<Vec<u64>, FileError> {
    let mut fields = source.fields(header, MAX_INDEX)?;
    let (version, _) = fields.version()?;
    fields.skip(8)?; // reference_ID, timescale
    fields.by_version(version)?; // earliest_presentation_time
    let first = fields.by_version(version)?;
    fields.skip(2)?;
    let count = fields.u16()?;
    let mut at = header.end.saturating_add(first);
    let mut found: Vec<u64> = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let reference = fields.u32()?;
        fields.skip(8)?;
        let size = reference & 0x7fff_ffff;
        if at >= source.end() || size == 0 {
            break;
        }
        let is_apart = found.last().is_none_or(|last| at - last >= PROBE as u64);
        // The highest bit: what is there is another index.
        if reference >> 31 == 0 && is_apart {
            found.push(at);
        }
        at = at.saturating_add(u64::from(size));
    }
    Ok(found)
}
