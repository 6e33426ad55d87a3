//! One track: its samples in order, from any of them on, and where they lie on the file's timeline.

use super::boxes::{Source, invalid};
use super::description::{Coding, Description};
use super::fragments::{Defaults, Fragment, FragmentCursor, Start};
use super::movie::TrackBox;
use super::tables::{TableCursor, Tables};
use super::{MAX_SAMPLE, Sample};
use crate::file::FileError;
use crate::frame::FrameKind;

/// Samples from one bookmark in the tables to the next: at most as many are gone through to find one.
const MARK_EVERY: u32 = 1_024;

/// How much of the audio before the start of an edit is kept, in milliseconds: more than what any encoder primes a decoder with (HE-AAC
/// has some 120 ms).
const AUDIO_PRIMING_MS: i64 = 250;

/// How far decode times are moved ahead of negative composition times, in milliseconds: encoders need less than one second. What
/// is beyond is damage, and must not part pictures and sound.
const MAX_DECODE_SHIFT_MS: i64 = 10_000;

/// A track that can be played.
pub(super) struct Track {
    id: u32,
    coding: Coding,
    pub(super) timescale: u32,
    pub(super) descriptions: Vec<Description>,
    tables: Tables,
    /// A bookmark every [`MARK_EVERY`] samples.
    marks: Vec<TableCursor>,
    defaults: Defaults,
    starts: Vec<Start>,
    /// The samples that are presented: those before and from `end` on are cut off by the edit list.
    pub(super) first: u32,
    pub(super) end: u32,
    /// Ticks of the track to milliseconds: what is taken off decode times, so that no composition time is before its decode time,
    /// and off both.
    decode_shift: i64,
    edit_start: i64,
    delay_ms: i64,
    /// Milliseconds of this track's timeline: the first sample that is presented, and the end of the last.
    pub(super) first_ms: i64,
    pub(super) end_ms: i64,
}

/// A place in a track.
pub(super) enum Cursor {
    /// In the tables of the movie.
    Tables(TableCursor),
    /// In the fragments, after the tables.
    Fragments(FragmentCursor),
}

/// How many more samples may be looked at in the file.
pub(super) struct Budget {
    pub(super) left: u32,
}

impl Track {
    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let descriptions = self.descriptions.iter();
        let descriptions: usize = descriptions.map(|it| it.configuration.len()).sum();
        self.tables.memory()
            + size_of_val(&self.marks[..])
            + size_of_val(&self.starts[..])
            + size_of_val(&self.descriptions[..])
            + descriptions
    }

    /// Goes through all samples once: checks them, sets bookmarks and finds what is presented.
    pub(super) fn open(
        source: &Source,
        header: TrackBox,
        movie_timescale: u32,
        fragments: &[Fragment],
        budget: &mut Budget,
    ) -> Result<Option<Self>, FileError> {
        let Some(coding) = header.coding() else {
            return Ok(None);
        };
        if header.timescale == 0 {
            return Err(invalid(header.offset, "a track without a timescale"));
        }
        let mut track = Self {
            id: header.id,
            coding,
            timescale: header.timescale,
            tables: Tables::load(source, &header.tables)?,
            descriptions: header.descriptions,
            marks: Vec::new(),
            defaults: header.defaults,
            starts: Vec::new(),
            first: 0,
            end: 0,
            decode_shift: 0,
            edit_start: header.edit.start,
            delay_ms: to_ms(header.edit.delay as i64, movie_timescale),
            first_ms: 0,
            end_ms: 0,
        };
        let edit_end = header.edit.length.filter(|_| fragments.is_empty());
        // One tick more of the movie's, as encoders round down.
        let edit_end = edit_end.map(|length| {
            let ticks = (u128::from(length) + 1) * u128::from(track.timescale);
            let ticks = ticks / u128::from(movie_timescale);
            i64::try_from(ticks)
                .unwrap_or(i64::MAX)
                .saturating_add(track.edit_start)
        });
        track.walk(source, fragments, edit_end, budget)?;
        Ok(Some(track))
    }

    fn walk(
        &mut self,
        source: &Source,
        fragments: &[Fragment],
        edit_end: Option<i64>,
        budget: &mut Budget,
    ) -> Result<(), FileError> {
        let is_video = self.kind() == FrameKind::Video;
        let priming = AUDIO_PRIMING_MS * i64::from(self.timescale) / 1_000;
        let mut first = None;
        let mut first_time = 0;
        let mut end = None;
        let mut cursor = Cursor::Tables(TableCursor::default());
        let mut count = 0;
        let mut lowest = 0;
        let mut end_time = 0;
        loop {
            if let Cursor::Tables(tables) = &cursor
                && tables.index() % MARK_EVERY == 0
                && tables.index() < self.tables.count()
            {
                self.marks.push(*tables);
            }
            let Some(sample) = cursor.next(self, source, fragments)? else {
                break;
            };
            budget.left = budget.left.checked_sub(1).ok_or_else(|| {
                invalid(
                    sample.offset,
                    "more samples than a file of this length can have",
                )
            })?;
            self.check(source, &sample)?;
            if let Cursor::Fragments(place) = &cursor
                && self
                    .starts
                    .last()
                    .is_none_or(|start| start.fragment != place.fragment())
            {
                self.starts.push(Start {
                    first: sample.index,
                    fragment: place.fragment(),
                    time: sample.time,
                });
            }
            count = sample.index + 1;
            if end.is_some() {
                continue;
            }
            // Within i64: a fragment's time is below 2^61, and 2^24 samples of 2^32 ticks add 2^56.
            let decoded = sample.time as i64;
            let presented = decoded + i64::from(sample.composition);
            let is_start = !is_video || sample.is_sync;
            if edit_end.is_some_and(|end| presented >= end) && is_start && first.is_some() {
                end = Some(sample.index);
                continue;
            }
            let starts_here = match first {
                None => true,
                Some(_) if self.edit_start == 0 => false,
                Some(_) if is_video => is_start && presented <= self.edit_start,
                Some(_) => decoded < self.edit_start - priming,
            };
            if starts_here {
                first = Some(sample.index);
                first_time = decoded;
                lowest = 0;
            }
            lowest = lowest.min(sample.composition);
            end_time = decoded + i64::from(sample.duration);
        }
        self.first = first.unwrap_or(0);
        self.end = end.unwrap_or(count);
        let most = MAX_DECODE_SHIFT_MS * i64::from(self.timescale) / 1_000;
        self.decode_shift = (-i64::from(lowest)).min(most);
        self.first_ms = self.decode_ms(first_time);
        self.end_ms = self.decode_ms(end_time).max(self.first_ms);
        Ok(())
    }

    fn check(&self, source: &Source, sample: &Sample) -> Result<(), FileError> {
        let size = sample.size;
        if size > MAX_SAMPLE {
            let what = format!("a sample of {size} bytes, at most {MAX_SAMPLE} are read");
            return Err(invalid(sample.offset, what));
        }
        if sample
            .offset
            .checked_add(u64::from(size))
            .is_none_or(|end| end > source.end())
        {
            let what = format!("sample {} runs past the end of the file", sample.index);
            return Err(invalid(sample.offset, what));
        }
        if usize::from(sample.description) >= self.descriptions.len() {
            let number = u32::from(sample.description) + 1;
            let what = format!("sample description {number} does not exist");
            return Err(invalid(sample.offset, what));
        }
        Ok(())
    }

    pub(super) fn kind(&self) -> FrameKind {
        self.coding.kind()
    }

    /// How many samples are presented.
    pub(super) fn count(&self) -> u32 {
        self.end - self.first
    }

    /// The description of a sample.
    pub(super) fn description(&self, sample: &Sample) -> Option<&Description> {
        self.descriptions.get(usize::from(sample.description))
    }

    /// Where decoding this sample stands, in milliseconds of the track's timeline.
    pub(super) fn dts_ms(&self, sample: &Sample) -> i64 {
        self.decode_ms(sample.time as i64)
    }

    /// When this sample is presented.
    pub(super) fn pts_ms(&self, sample: &Sample) -> i64 {
        let ticks = sample.time as i64 + i64::from(sample.composition) - self.edit_start;
        self.delay_ms + to_ms(ticks, self.timescale)
    }

    fn decode_ms(&self, time: i64) -> i64 {
        let ticks = time - self.decode_shift - self.edit_start;
        self.delay_ms + to_ms(ticks, self.timescale)
    }

    /// A cursor before this sample.
    pub(super) fn seek(
        &self,
        source: &Source,
        fragments: &[Fragment],
        index: u32,
    ) -> Result<Cursor, FileError> {
        let mut cursor = if index < self.tables.count() {
            let mark = self.marks.get((index / MARK_EVERY) as usize);
            Cursor::Tables(mark.copied().unwrap_or_default())
        } else {
            let after = self.starts.partition_point(|start| start.first <= index);
            match after.checked_sub(1).and_then(|at| self.starts.get(at)) {
                Some(start) => Cursor::Fragments(FragmentCursor::at(start)),
                // At the end of a track without samples in fragments.
                None => return Ok(Cursor::Fragments(FragmentCursor::new(index, 0, 0))),
            }
        };
        while cursor.index() < index {
            if cursor.next(self, source, fragments)?.is_none() {
                break;
            }
        }
        Ok(cursor)
    }
}

impl Cursor {
    fn index(&self) -> u32 {
        match self {
            Self::Tables(tables) => tables.index(),
            Self::Fragments(fragments) => fragments.index(),
        }
    }

    /// The next sample of the track, `None` after the last.
    pub(super) fn next(
        &mut self,
        track: &Track,
        source: &Source,
        fragments: &[Fragment],
    ) -> Result<Option<Sample>, FileError> {
        if let Self::Tables(tables) = self {
            let sample = tables.next(&track.tables)?;
            if sample.is_some() {
                return Ok(sample);
            }
            let next = FragmentCursor::new(tables.index(), tables.time(), tables.latest());
            *self = Self::Fragments(next);
        }
        let Self::Fragments(place) = self else {
            return Ok(None);
        };
        place.next(source, fragments, track.id, &track.defaults)
    }
}

/// Rounded to the nearest.
pub(super) fn to_ms(ticks: i64, timescale: u32) -> i64 {
    let timescale = i64::from(timescale.max(1));
    match ticks.checked_mul(1_000) {
        Some(scaled) if scaled.checked_add(timescale).is_some() => {
            (scaled + timescale / 2).div_euclid(timescale)
        }
        _ => {
            let scaled = i128::from(ticks) * 1_000 + i128::from(timescale / 2);
            let ms = scaled.div_euclid(i128::from(timescale));
            i64::try_from(ms).unwrap_or(if ms < 0 { i64::MIN / 4 } else { i64::MAX / 4 })
        }
    }
}
