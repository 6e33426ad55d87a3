//! Movie fragments: ISO/IEC 14496-12, section 8.8.
//!
//! A fragment's tables are read again whenever a reader gets to it; what is kept of it is where it lies and with which sample it
//! begins. `sidx` and `mfra` say where fragments are as well, and are not relied on: fragments are found by going from box to box, which
//! also finds those that no index knows of.

use std::collections::VecDeque;

use bytes::Bytes;

use super::boxes::{BoxHeader, Source, invalid};
use super::{MAX_SAMPLES, Sample};
use crate::file::FileError;

/// Longest `moof`, in bytes: a million samples.
const MAX_LENGTH: u64 = 16 << 20;

/// Most boxes in a box of a fragment: tracks, runs of a track.
const MAX_CHILDREN: usize = 4_096;

/// Latest time of a fragment, in ticks: sums with it do not overflow.
const MAX_TIME: u64 = 1 << 61;

/// `tfhd`: what of it is there, and where its offsets count from.
const BASE_DATA_OFFSET: u32 = 0x1;
const DESCRIPTION: u32 = 0x2;
const DEFAULT_DURATION: u32 = 0x8;
const DEFAULT_SIZE: u32 = 0x10;
const DEFAULT_FLAGS: u32 = 0x20;
const BASE_IS_MOOF: u32 = 0x2_0000;

/// `trun`: what of it is there.
const DATA_OFFSET: u32 = 0x1;
const FIRST_FLAGS: u32 = 0x4;
const DURATIONS: u32 = 0x100;
const SIZES: u32 = 0x200;
const FLAGS: u32 = 0x400;
const COMPOSITIONS: u32 = 0x800;

/// Sample flags: it depends on others, it is no sync sample.
const DEPENDS_ON_OTHERS: u32 = 0x100_0000;
const IS_NON_SYNC: u32 = 0x1_0000;

/// `trex`, and what `tfhd` says instead.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    /// From 1; 0 where there is no `trex`.
    pub(super) description: u32,
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// Where a fragment lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    offset: u64,
    length: u32,
}

impl Fragment {
    pub(super) fn new(header: &BoxHeader) -> Result<Self, FileError> {
        let length = header.end - header.start;
        if length > MAX_LENGTH {
            let what =
                format!("a fragment's tables of {length} bytes, at most {MAX_LENGTH} are read");
            return Err(invalid(header.start, what));
        }
        Ok(Self {
            offset: header.start,
            length: length as u32,
        })
    }
}

/// The first sample of a track in a fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Number of the sample.
    pub(super) first: u32,
    /// Number of the fragment.
    pub(super) fragment: u32,
    /// In ticks.
    pub(super) time: u64,
}

/// Samples that lie one after the other.
struct Run {
    /// Of its first sample, in ticks, where the fragment says so.
    time: Option<u64>,
    /// Samples left.
    left: u32,
    is_first: bool,
    /// Of the next sample.
    offset: u64,
    /// What is in an entry.
    fields: u32,
    first_flags: Option<u32>,
    defaults: Defaults,
    /// Of the samples left.
    entries: Bytes,
    /// In the file, of the `trun` box.
    place: u64,
}

/// A place among the fragments: what the next sample of a track is taken from.
pub(super) struct FragmentCursor {
    index: u32,
    /// The next fragment to be looked at.
    next: u32,
    runs: VecDeque<Run>,
    /// Of the next sample if the file does not say, in ticks.
    time: u64,
    /// Of the last one.
    latest: u64,
}

impl FragmentCursor {
    /// Before the first fragment, `index` samples and `time` ticks into the track.
    pub(super) fn new(index: u32, time: u64, latest: u64) -> Self {
        Self {
            index,
            next: 0,
            runs: VecDeque::new(),
            time,
            latest,
        }
    }

    /// At the first sample in a fragment.
    pub(super) fn at(start: &Start) -> Self {
        Self {
            next: start.fragment,
            ..Self::new(start.first, start.time, start.time)
        }
    }

    /// The number of the next sample.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// The fragment that the last sample came from.
    pub(super) fn fragment(&self) -> u32 {
        self.next.saturating_sub(1)
    }

    /// The next sample, `None` after the last.
    pub(super) fn next(
        &mut self,
        source: &Source,
        fragments: &[Fragment],
        track: u32,
        defaults: &Defaults,
    ) -> Result<Option<Sample>, FileError> {
        loop {
            if let Some(run) = self.runs.front_mut() {
                // A fragment that would lie before what has been goes on after it.
                if let Some(time) = run.time.take().filter(|time| *time >= self.latest) {
                    self.time = time;
                }
                if let Some(mut sample) = run.next()? {
                    sample.index = self.index;
                    sample.time = self.time;
                    self.index += 1;
                    self.latest = self.time;
                    self.time += u64::from(sample.duration);
                    return Ok(Some(sample));
                }
                self.runs.pop_front();
                continue;
            }
            let Some(fragment) = fragments.get(self.next as usize) else {
                return Ok(None);
            };
            self.next += 1;
            self.runs = load(source, fragment, track, defaults)?;
        }
    }
}

impl Run {
    /// The next sample, without its number and time.
    fn next(&mut self) -> Result<Option<Sample>, FileError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut field = |wanted: u32| {
            if self.fields & wanted == 0 {
                return None;
            }
            let value = self.entries.first_chunk().copied().map(u32::from_be_bytes);
            let _ = self.entries.split_to(self.entries.len().min(4));
            value
        };
        let duration = field(DURATIONS).unwrap_or(self.defaults.duration);
        let size = field(SIZES).unwrap_or(self.defaults.size);
        let flags = field(FLAGS).unwrap_or(self.defaults.flags);
        // Signed in version 1, and in what some write as version 0.
        let composition = field(COMPOSITIONS).unwrap_or_default().cast_signed();
        let flags = self.first_flags.filter(|_| self.is_first).unwrap_or(flags);
        let description = self.defaults.description;
        let description = description
            .checked_sub(1)
            .and_then(|index| u16::try_from(index).ok())
            .ok_or_else(|| invalid(self.place, format!("sample description {description}")))?;
        let sample = Sample {
            index: 0,
            offset: self.offset,
            size,
            time: 0,
            duration,
            composition,
            is_sync: flags & (IS_NON_SYNC | DEPENDS_ON_OTHERS) == 0,
            description,
        };
        self.is_first = false;
        self.left -= 1;
        self.offset = self.offset.saturating_add(u64::from(size));
        Ok(Some(sample))
    }

    /// Where the data of the run end.
    fn end(&self) -> u64 {
        let bytes = if self.fields & SIZES == 0 {
            u64::from(self.left) * u64::from(self.defaults.size)
        } else {
            let width = entry_width(self.fields);
            let at = if self.fields & DURATIONS == 0 { 0 } else { 4 };
            self.entries
                .chunks_exact(width)
                .filter_map(|entry| entry.get(at..)?.first_chunk().copied())
                .map(|size| u64::from(u32::from_be_bytes(size)))
                .sum()
        };
        self.offset.saturating_add(bytes)
    }
}

/// Bytes of an entry of `trun`.
fn entry_width(fields: u32) -> usize {
    let present = fields & (DURATIONS | SIZES | FLAGS | COMPOSITIONS);
    4 * present.count_ones() as usize
}

/// The runs of a track in a fragment.
fn load(
    source: &Source,
    fragment: &Fragment,
    track: u32,
    defaults: &Defaults,
) -> Result<VecDeque<Run>, FileError> {
    let part = source.part(fragment.offset, fragment.length as usize)?;
    let header = part.header_within(fragment.offset, part.end())?;
    let mut found = VecDeque::new();
    // Where the data of the track before end.
    let mut end = fragment.offset;
    for child in part.children(&header, MAX_CHILDREN)? {
        if child.kind != *b"traf" {
            continue;
        }
        let runs = read_track(&part, &child, (track, defaults), (fragment.offset, end))?;
        end = runs.end;
        if runs.track == track {
            if found.len() + runs.runs.len() > MAX_CHILDREN {
                return Err(invalid(
                    child.start,
                    format!("more than {MAX_CHILDREN} runs"),
                ));
            }
            found.extend(runs.runs);
        }
    }
    Ok(found)
}

/// What a `traf` box holds.
struct TrackRuns {
    track: u32,
    runs: Vec<Run>,
    /// Where its data end.
    end: u64,
}

/// Section 8.8.7: data offsets count from what `tfhd` says, from the beginning of the fragment, or, in old files, from the end of the
/// data of the track before.
fn read_track(
    part: &Source,
    header: &BoxHeader,
    (wanted, trex): (u32, &Defaults),
    (moof, before): (u64, u64),
) -> Result<TrackRuns, FileError> {
    let children = part.children(header, MAX_CHILDREN)?;
    let Some(head) = children.iter().find(|child| child.kind == *b"tfhd") else {
        return Err(invalid(header.start, "a fragment of no track"));
    };
    let mut fields = part.fields(head, MAX_LENGTH)?;
    let (_, flags) = fields.version()?;
    let track = fields.u32()?;
    let mut base = if flags & BASE_IS_MOOF != 0 {
        moof
    } else {
        before
    };
    if flags & BASE_DATA_OFFSET != 0 {
        base = fields.u64()?;
    }
    // The defaults of another track only matter for where its data end.
    let mut defaults = if track == wanted {
        *trex
    } else {
        Defaults::default()
    };
    for (flag, value) in [
        (DESCRIPTION, &mut defaults.description),
        (DEFAULT_DURATION, &mut defaults.duration),
        (DEFAULT_SIZE, &mut defaults.size),
        (DEFAULT_FLAGS, &mut defaults.flags),
    ] {
        if flags & flag != 0 {
            *value = fields.u32()?;
        }
    }
    let mut time = None;
    if let Some(decode_time) = children.iter().find(|child| child.kind == *b"tfdt") {
        let mut fields = part.fields(decode_time, MAX_LENGTH)?;
        let (version, _) = fields.version()?;
        let ticks = fields.by_version(version)?;
        if ticks > MAX_TIME {
            return Err(invalid(
                decode_time.start,
                format!("a time of {ticks} ticks"),
            ));
        }
        time = Some(ticks);
    }
    let mut runs = Vec::new();
    let mut end = base;
    for child in children.iter().filter(|child| child.kind == *b"trun") {
        let mut run = read_run(part, child, defaults, base, end)?;
        run.time = time.take();
        end = run.end();
        runs.push(run);
    }
    Ok(TrackRuns { track, runs, end })
}

fn read_run(
    part: &Source,
    header: &BoxHeader,
    defaults: Defaults,
    base: u64,
    before: u64,
) -> Result<Run, FileError> {
    let mut fields = part.fields(header, MAX_LENGTH)?;
    let (_, flags) = fields.version()?;
    let count = fields.u32()?;
    if count > MAX_SAMPLES {
        let what = format!("a run of {count} samples, at most {MAX_SAMPLES} are read");
        return Err(invalid(header.start, what));
    }
    let mut offset = before;
    if flags & DATA_OFFSET != 0 {
        let relative = fields.u32()?.cast_signed();
        offset = base
            .checked_add_signed(i64::from(relative))
            .ok_or_else(|| invalid(header.start, format!("a data offset of {relative}")))?;
    }
    let first_flags = (flags & FIRST_FLAGS != 0)
        .then(|| fields.u32())
        .transpose()?;
    let entries = fields.take(count as usize * entry_width(flags))?;
    Ok(Run {
        time: None,
        left: count,
        is_first: true,
        offset,
        fields: flags,
        first_flags,
        defaults,
        entries,
        place: header.start,
    })
}
