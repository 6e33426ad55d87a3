//! All segments of a recording, and where the pieces are in them.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::SegmentError;
use super::summary::{Point, SegmentFlags, SegmentInfo, put_summary, summary, summary_length};
use super::wire::{Fields, put_time};
use crate::frame::Offset;

const MAGIC: &[u8; 8] = b"HWSEGIDX";
const VERSION: u16 = 2;

/// A run of whole records in one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which segment.
    pub segment: u64,
    /// Its bytes.
    pub range: Range<u64>,
}

/// The segments from number 0 on, without a hole, or those that are left when the first of them were [dropped](Index::drop_before).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    segments: Vec<SegmentInfo>,
    points: Vec<Point>,
    /// First offset and media time; `None` as long as there are no frames.
    start: Option<(Offset, u64)>,
    /// Media time of the first frame that there ever was: pieces are cut by it.
    origin_ms: Option<u64>,
    flags: SegmentFlags,
    bytes: u64,
    stored: u64,
}

impl Index {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The segments, by number.
    #[must_use]
    pub fn segments(&self) -> &[SegmentInfo] {
        &self.segments
    }

    /// Where the pieces begin, in order.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Offset and media time of the first frame.
    #[must_use]
    pub fn start(&self) -> Option<(Offset, u64)> {
        self.start
    }

    /// The first offset after the last frame; `None` as long as there are no frames.
    #[must_use]
    pub fn next(&self) -> Option<Offset> {
        let last = self.segments.last().filter(|_| self.start.is_some());
        last.map(|last| last.next)
    }

    /// The last segment.
    #[must_use]
    pub fn last(&self) -> Option<&SegmentInfo> {
        self.segments.last()
    }

    /// Media time of the first frame that the recording ever had, in milliseconds: what a [`Cutter`](super::Cutter) goes on with.
    #[must_use]
    pub fn origin_ms(&self) -> Option<u64> {
        self.origin_ms
    }

    /// Number of the first segment; of an index without any 0.
    #[must_use]
    pub fn first_number(&self) -> u64 {
        self.segments.first().map_or(0, |first| first.number)
    }

    /// Number of the segment that is not there yet.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.segments.last().map_or(0, |last| last.number + 1)
    }

    /// The last segment that can be the first one if everything from `ms` on is to be kept: one that begins with a place from which
    /// a decoder can start. `None` if there is none but the first.
    #[must_use]
    pub fn first_to_keep(&self, ms: u64) -> Option<u64> {
        let until = self.points.partition_point(|point| point.ms <= ms);
        let candidates = self.points.get(..until)?.iter().rev();
        let begins = |point: &&Point| {
            let segment = self.segment(point.segment);
            let is_first = segment.is_some_and(|segment| segment.first == point.offset);
            is_first && point.first_start == Some(point.ms)
        };
        let found = candidates.into_iter().find(begins)?;
        (found.segment > self.first_number()).then_some(found.segment)
    }

    /// Drops the segments before number `first`, and what is in them; no more than [`first_to_keep`](Self::first_to_keep) allows.
    pub fn drop_before(&mut self, first: u64) {
        let dropped = self.segments.partition_point(|it| it.number < first);
        let points = self.points.partition_point(|it| it.segment < first);
        let start = self
            .points
            .get(points)
            .map(|point| (point.offset, point.ms));
        let begins = self.segments.get(dropped).map(|segment| segment.first);
        // A piece cannot be without its beginning.
        if dropped == 0 || start.is_none() || start.map(|(at, _)| at) != begins {
            return;
        }
        self.segments.drain(..dropped);
        self.points.drain(..points);
        self.start = start;
        self.flags = SegmentFlags::empty();
        (self.bytes, self.stored) = (0, 0);
        for segment in &self.segments {
            self.flags |= segment.flags & (SegmentFlags::AUDIO | SegmentFlags::VIDEO);
            self.bytes = self.bytes.saturating_add(segment.bytes);
            self.stored = self.stored.saturating_add(segment.length);
        }
    }

    fn segment(&self, number: u64) -> Option<&SegmentInfo> {
        let at = number.checked_sub(self.first_number())?;
        self.segments.get(usize::try_from(at).ok()?)
    }

    /// Whether all of it has audio, and video, anywhere.
    #[must_use]
    pub fn flags(&self) -> SegmentFlags {
        self.flags
    }

    /// Bytes of all payloads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored
    }

    /// Adds the next segment.
    ///
    /// # Errors
    /// [`SegmentError`], with nothing changed, for one that does not follow the last.
    pub fn push(&mut self, info: SegmentInfo, points: Vec<Point>) -> Result<(), SegmentError> {
        if info.number != self.next_number() {
            return Err(SegmentError::new(info.records_end, "not the next segment"));
        }
        self.add(info, points)
    }

    fn add(&mut self, info: SegmentInfo, points: Vec<Point>) -> Result<(), SegmentError> {
        let error = |what| Err(SegmentError::new(info.records_end, what));
        if let Some(last) = self.segments.last() {
            if info.term < last.term {
                return error("a segment of an owner that was replaced");
            }
            if info.end_ms < last.end_ms {
                return error("a segment that ends before the one before it");
            }
        }
        let starts_new = self.start.is_none() && info.frames > 0;
        if self.next().is_some_and(|next| info.first < next) {
            return error("a segment that overlaps the one before it");
        }
        if points.first().is_some_and(|point| {
            self.points
                .last()
                .is_some_and(|last| last.offset >= point.offset || last.ms > point.ms)
        }) {
            return error("points that are not in order");
        }
        if starts_new && points.first().map(|point| point.offset) != Some(info.first) {
            return error("the first frame does not begin a piece");
        }
        if let Some(start) = info.continued_start {
            self.note_start(start);
        }
        if starts_new {
            self.start = Some((info.first, info.start_ms));
            self.origin_ms.get_or_insert(info.start_ms);
        }
        self.flags |= info.flags & (SegmentFlags::AUDIO | SegmentFlags::VIDEO);
        self.bytes = self.bytes.saturating_add(info.bytes);
        self.stored = self.stored.saturating_add(info.length);
        self.segments.push(info);
        self.points.extend(points);
        Ok(())
    }

    /// A decoder can start at `ms`, in the last piece. Counts if it is the first such place there.
    pub fn note_start(&mut self, ms: u64) {
        if let Some(last) = self.points.last_mut() {
            last.first_start.get_or_insert(ms);
        }
    }

    /// The piece that holds `at`, or the last one before it; `None` before the first.
    #[must_use]
    pub fn piece_at(&self, at: Offset) -> Option<usize> {
        self.points
            .partition_point(|point| point.offset <= at)
            .checked_sub(1)
    }

    /// The piece with the newest start at or before `ms`.
    #[must_use]
    pub fn piece_at_time(&self, ms: u64) -> Option<usize> {
        let until = self.points.partition_point(|point| point.ms <= ms);
        self.points
            .get(..until)?
            .iter()
            .rposition(|point| point.first_start.is_some_and(|start| start <= ms))
    }

    /// Where the bytes of a piece are. Of the last one, as far as there are segments.
    #[must_use]
    pub fn parts(&self, piece: usize) -> Vec<Part> {
        let Some(first) = self.points.get(piece) else {
            return Vec::new();
        };
        let (last, end) = match self.points.get(piece + 1) {
            Some(next) => (next.segment, Some(next.place)),
            None => (self.next_number().saturating_sub(1), None),
        };
        let mut parts = Vec::new();
        for number in first.segment..=last {
            let Some(segment) = self.segment(number) else {
                break;
            };
            let mut range = segment.records_start..segment.records_end;
            if number == first.segment {
                range.start = first.place;
            }
            if let Some(end) = end.filter(|_| number == last) {
                range.end = end;
            }
            if range.start < range.end {
                parts.push(Part {
                    segment: number,
                    range,
                });
            }
        }
        parts
    }

    /// As the bytes of an object.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let points = self.points.len();
        let each = summary_length(0) + 4;
        let mut out =
            BytesMut::with_capacity(38 + self.segments.len() * each + summary_length(points));
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u64(self.segments.len() as u64);
        put_time(self.origin_ms, &mut out);
        let mut points = self.points.as_slice();
        for segment in &self.segments {
            let count = points.partition_point(|point| point.segment <= segment.number);
            let (own, rest) = points.split_at(count);
            points = rest;
            out.put_u32(summary_length(own.len()) as u32);
            put_summary(segment, own, &mut out);
        }
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn decode(data: &[u8]) -> Result<Self, SegmentError> {
        let (body, crc) = data
            .split_last_chunk::<4>()
            .ok_or_else(|| SegmentError::new(0, "too short for an index"))?;
        if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
            return Err(SegmentError::new(0, "the index does not fit its checksum"));
        }
        let mut fields = Fields::new(body, 0);
        if fields.bytes(8)? != MAGIC {
            return Err(SegmentError::new(0, "not an index"));
        }
        if fields.u16()? != VERSION {
            return Err(SegmentError::new(8, "a version that is not known"));
        }
        let count = fields.u64()?;
        let mut index = Self {
            origin_ms: fields.time()?,
            ..Self::default()
        };
        for at in 0..count {
            let length = fields.u32()? as usize;
            let place = fields.place();
            let (info, points) = summary(&mut Fields::new(fields.bytes(length)?, place))?;
            // The first one is the first that is left.
            let added = match at {
                0 if info.number < u64::MAX - count => index.add(info, points),
                _ => index.push(info, points),
            };
            added.map_err(|error| SegmentError::new(place, error.what))?;
        }
        Ok(index)
    }
}
