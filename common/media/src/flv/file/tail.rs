//! The end of a file: how long it is in time, without reading all of it.

use super::cuts::Clock;
use super::tags::{TRAILER, TagHead, TagScanner};
use crate::file::{FileError, ReadAt};
use crate::flv::{TAG_HEADER_SIZE, kind_of};
use crate::frame::FrameKind;

/// Most tags looked at from the end backward: enough to meet the last audio and video.
const MAX_TAGS: usize = 64;

/// Bytes read at a time from the end backward.
const BACKWARD_BLOCK: usize = 256;

/// Bytes from the end in which a tag is looked for, where the file was cut off: the next size is for when a tag is larger than the one
/// before. The last one holds two
/// tags of any size and a cut one.
const WINDOWS: [usize; 4] = [64 << 10, 1 << 20, 4 << 20, 52 << 20];

/// Most tag headers looked at in search of a whole tag, so that a file made for it cannot make the search long.
const MAX_SEARCH_STEPS: usize = 1 << 20;

/// Longest time that the last frame is taken to last, in milliseconds.
const MAX_LAST_FRAME_MS: u64 = 1_000;

/// What the last tags say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// End of the last frame on the file's timeline.
    pub(super) end_ms: u64,
    pub(super) has_audio: bool,
    pub(super) has_video: bool,
}

/// Reads the end of a file whose first tag is at `first`.
///
/// The last PreviousTagSize leads to the last tag. Where that does not lead to a tag of just this size, because the file was cut off,
/// tags are looked for in its last bytes, and in the whole file in the end.
///
/// # Errors
/// [`FileError::Read`].
pub(super) fn tail(source: &dyn ReadAt, first: u64, clock: Clock) -> Result<Tail, FileError> {
    let last = backward(source, first)?;
    let mut ends = Ends::new(clock);
    if last.is_empty() {
        let from = resume(source, first)?.unwrap_or(first);
        let mut scanner = TagScanner::new(source);
        let mut position = from;
        while let Some(head) = plausible(&mut scanner, position)? {
            ends.push(&head);
            position = head.next;
        }
    } else {
        last.iter().rev().for_each(|head| ends.push(head));
    }
    Ok(ends.tail())
}

/// The last tags, the last one first.
fn backward(source: &dyn ReadAt, first: u64) -> Result<Vec<TagHead>, FileError> {
    let mut scanner = TagScanner::with_block(source, BACKWARD_BLOCK);
    let mut found = Vec::new();
    let mut end = source.length();
    while found.len() < MAX_TAGS && end > first {
        let Some(head) = tag_before(&mut scanner, first, end)? else {
            break;
        };
        end = head.position;
        found.push(head);
    }
    Ok(found)
}

/// The tag that ends, with its PreviousTagSize, at `end`.
pub(super) fn tag_before(
    scanner: &mut TagScanner<'_>,
    first: u64,
    end: u64,
) -> Result<Option<TagHead>, FileError> {
    let size = scanner.previous_size(end)?;
    let position = size.and_then(|size| end.checked_sub(TRAILER)?.checked_sub(size));
    let Some(position) = position.filter(|&position| position >= first) else {
        return Ok(None);
    };
    let head = plausible(scanner, position)?;
    Ok(head.filter(|head| head.next == end))
}

/// A tag, if there is one that can be read.
fn plausible(scanner: &mut TagScanner<'_>, position: u64) -> Result<Option<TagHead>, FileError> {
    match scanner.head(position) {
        Err(FileError::Invalid { .. } | FileError::Unsupported { .. }) => Ok(None),
        head => head,
    }
}

/// Looks for a tag near the end from which tag follows tag up to the end of the file.
fn resume(source: &dyn ReadAt, first: u64) -> Result<Option<u64>, FileError> {
    let length = source.length();
    let mut steps = 0;
    for window in WINDOWS {
        let from = length.saturating_sub(window as u64);
        if from <= first {
            // The whole file is read as fast.
            break;
        }
        let bytes = source.read_at(from, window)?;
        for at in 0..bytes.len() {
            if is_chain(&bytes, at, &mut steps) {
                return Ok(Some(from + at as u64));
            }
            if steps > MAX_SEARCH_STEPS {
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Whether tag follows tag from `at` to the end of the bytes, two whole ones with their PreviousTagSize at least.
fn is_chain(bytes: &[u8], mut at: usize, steps: &mut usize) -> bool {
    let mut links = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(&[tag_type, l0, l1, l2, _, _, _, _, s0, s1, s2]) =
            rest.first_chunk::<TAG_HEADER_SIZE>()
        else {
            return links >= 2;
        };
        if kind_of(tag_type).is_none() || [s0, s1, s2] != [0; 3] {
            return false;
        }
        *steps += 1;
        let size =
            TAG_HEADER_SIZE + (usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2));
        let Some(trailer) = rest.get(size..).and_then(|rest| rest.first_chunk::<4>()) else {
            return links >= 2;
        };
        if u32::from_be_bytes(*trailer) as usize != size {
            return false;
        }
        links += 1;
        at += size + TRAILER as usize;
    }
}

/// The last two times of each kind.
struct Ends {
    clock: Clock,
    audio: Option<End>,
    video: Option<End>,
    other: Option<u64>,
}

#[derive(Clone, Copy)]
struct End {
    time: u64,
    step: u64,
}

impl Ends {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            audio: None,
            video: None,
            other: None,
        }
    }

    fn push(&mut self, head: &TagHead) {
        let time = self.clock.time(head.timestamp);
        let end = match head.kind {
            FrameKind::Audio if head.coded => &mut self.audio,
            FrameKind::Video if head.coded => &mut self.video,
            // Codec headers and metadata often carry no time.
            _ if head.has_slot() && head.timestamp == 0 => return,
            _ => {
                self.other = self.other.max(Some(time));
                return;
            }
        };
        let step = end.map_or(0, |end| {
            time.saturating_sub(end.time).min(MAX_LAST_FRAME_MS)
        });
        *end = Some(End { time, step });
    }

    fn tail(self) -> Tail {
        let end = |end: Option<End>| end.map(|end| end.time + end.step);
        let media = end(self.audio).max(end(self.video));
        Tail {
            end_ms: media.or(self.other).unwrap_or(0),
            has_audio: self.audio.is_some(),
            has_video: self.video.is_some(),
        }
    }
}
