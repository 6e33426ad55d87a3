//! A segment as the bytes of one object.

use bytes::{BufMut, Bytes, BytesMut};

use super::SegmentError;
use super::record::{Decoded, FRAME, IN_FORCE, put_frame, put_record, read_frames};
use super::summary::{Point, SegmentFlags, SegmentInfo, put_summary, summary, summary_length};
use super::wire::{Fields, put_name, put_text};
use crate::frame::{Frame, FrameKind};
use crate::name::StreamName;

const MAGIC: &[u8; 8] = b"HWSEGMNT";
const END_MAGIC: &[u8; 8] = b"HWSEGEND";
const VERSION: u16 = 1;

/// Magic, version and length before the header fields.
const FIXED_HEAD: usize = 14;

/// What stands behind the footer fields.
const TRAILER: usize = 24;

/// Who wrote a segment, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The stream that is recorded.
    pub name: StreamName,
    /// The recording.
    pub generation: u64,
    /// Which segment.
    pub number: u64,
    /// Counts the owners of the recording.
    pub term: u64,
    /// The owner's node id.
    pub owner: String,
    /// Random: tells two writers from each other that have everything else in common.
    pub writer: u64,
}

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentBuilder {
    out: BytesMut,
    info: SegmentInfo,
    points: Vec<Point>,
}

impl SegmentBuilder {
    /// A segment without frames yet. `at` is where the segment before ends: of its summary only `next` and `end_ms` count. `capacity` is
    /// how many bytes to make room for.
    #[must_use]
    pub fn new(header: &SegmentHeader, at: &SegmentInfo, capacity: usize) -> Self {
        let mut fields = BytesMut::new();
        put_name(&header.name, &mut fields);
        for number in [header.generation, header.number, header.term, header.writer] {
            fields.put_u64(number);
        }
        put_text(&header.owner, &mut fields);
        let mut out = BytesMut::with_capacity(capacity);
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        out.put_u32(fields.len() as u32);
        out.put_slice(&fields);
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        let start = out.len() as u64;
        Self {
            out,
            info: SegmentInfo {
                number: header.number,
                term: header.term,
                first: at.next,
                next: at.next,
                start_ms: at.end_ms,
                end_ms: at.end_ms,
                records_start: start,
                ..SegmentInfo::default()
            },
            points: Vec::new(),
        }
    }

    /// The frames in force at the next frame: needed before the first one, and before each that begins a piece.
    pub fn preface<'a>(&mut self, preface: impl IntoIterator<Item = &'a Frame>) {
        for frame in preface {
            put_record(&mut self.out, |out| {
                out.put_u8(IN_FORCE);
                put_frame(frame, out);
            });
        }
    }

    /// The place of the next record.
    #[must_use]
    pub fn place(&self) -> u64 {
        self.out.len() as u64
    }

    /// The next frame begins a piece. `place` is where the frames in force at it stand; offset, segment and place need not be set in
    /// `point`, nor the first start if it is in this segment.
    pub fn point(&mut self, frame: &Frame, place: u64, point: Point) {
        self.points.push(Point {
            offset: frame.offset,
            segment: self.info.number,
            place,
            ..point
        });
    }

    /// The next frame. `ms` and `end_ms` are what a [`Cutter`](super::Cutter) says of it, and `starts` as well.
    pub fn frame(&mut self, frame: &Frame, ms: u64, end_ms: u64, starts: bool) {
        if self.info.frames == 0 {
            self.info.first = frame.offset;
            self.info.start_ms = ms;
        }
        if starts {
            let last = self.points.last_mut();
            let start = match last {
                Some(point) => &mut point.first_start,
                None => &mut self.info.continued_start,
            };
            start.get_or_insert(ms);
        }
        self.info.frames += 1;
        self.info.bytes += frame.payload.len() as u64;
        self.info.next = frame.offset.next();
        self.info.end_ms = end_ms;
        self.info.flags |= match frame.kind {
            FrameKind::Audio => SegmentFlags::AUDIO,
            FrameKind::Video => SegmentFlags::VIDEO,
            FrameKind::Data => SegmentFlags::empty(),
        };
        put_record(&mut self.out, |out| {
            out.put_u8(FRAME);
            put_frame(frame, out);
        });
    }

    /// The whole object, and what it says of itself.
    #[must_use]
    pub fn finish(mut self, flags: SegmentFlags) -> (Bytes, SegmentInfo, Vec<Point>) {
        let footer_length = summary_length(self.points.len());
        self.info.flags |= flags;
        self.info.records_end = self.out.len() as u64;
        self.info.length = self.info.records_end + (footer_length + TRAILER) as u64;
        let body_crc = crc32fast::hash(&self.out);
        let mut footer = BytesMut::with_capacity(footer_length);
        put_summary(&self.info, &self.points, &mut footer);
        self.out.reserve(footer.len() + TRAILER);
        self.out.put_slice(&footer);
        self.out.put_u32(footer.len() as u32);
        self.out.put_u32(crc32fast::hash(&footer));
        self.out.put_u32(body_crc);
        self.out.put_u32(VERSION.into());
        self.out.put_slice(END_MAGIC);
        (self.out.freeze(), self.info, self.points)
    }
}

/// Reads the header from the first bytes of an object: as many as there are, or some thousand.
///
/// # Errors
/// [`SegmentError`].
pub fn read_header(data: &[u8]) -> Result<SegmentHeader, SegmentError> {
    let mut fields = Fields::new(data, 0);
    if fields.bytes(8)? != MAGIC {
        return Err(SegmentError::new(0, "not a segment"));
    }
    if fields.u16()? != VERSION {
        return Err(SegmentError::new(8, "a version that is not known"));
    }
    let length = fields.u32()? as usize;
    let place = fields.place();
    let mut inner = Fields::new(fields.bytes(length)?, place);
    let crc = fields.u32()?;
    if data.get(..FIXED_HEAD + length).map(crc32fast::hash) != Some(crc) {
        return Err(SegmentError::new(0, "the header does not fit its checksum"));
    }
    let name = inner.name()?;
    let (generation, number) = (inner.u64()?, inner.u64()?);
    let (term, writer) = (inner.u64()?, inner.u64()?);
    Ok(SegmentHeader {
        name,
        generation,
        number,
        term,
        writer,
        owner: inner.text()?.to_owned(),
    })
}

/// The last bytes of a segment: where its footer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer fields begin in the object.
    pub footer_start: u64,
    footer_length: usize,
    footer_crc: u32,
    body_crc: u32,
}

/// Reads the trailer from the last bytes, at least 24, of an object of `length` bytes.
///
/// # Errors
/// [`SegmentError`].
pub fn read_trailer(tail: &[u8], length: u64) -> Result<Trailer, SegmentError> {
    let place = length.saturating_sub(TRAILER as u64);
    let trailer = tail
        .len()
        .checked_sub(TRAILER)
        .and_then(|at| tail.get(at..))
        .ok_or_else(|| SegmentError::new(place, "too short for a segment"))?;
    let mut fields = Fields::new(trailer, place);
    let footer_length = fields.u32()?;
    let (footer_crc, body_crc, version) = (fields.u32()?, fields.u32()?, fields.u32()?);
    if fields.rest() != END_MAGIC {
        return Err(SegmentError::new(place, "not the end of a segment"));
    }
    if version != u32::from(VERSION) {
        return Err(SegmentError::new(place, "a version that is not known"));
    }
    let footer_start = place
        .checked_sub(footer_length.into())
        .ok_or_else(|| SegmentError::new(place, "a footer that is longer than the segment"))?;
    Ok(Trailer {
        footer_start,
        footer_length: footer_length as usize,
        footer_crc,
        body_crc,
    })
}

/// Reads the summary and the points from the last bytes of an object of `length` bytes. They must hold the footer:
/// [`Trailer::footer_start`].
///
/// # Errors
/// [`SegmentError`].
pub fn read_summary(tail: &[u8], length: u64) -> Result<(SegmentInfo, Vec<Point>), SegmentError> {
    let trailer = read_trailer(tail, length)?;
    let footer = trailer
        .footer_length
        .checked_add(TRAILER)
        .and_then(|length| tail.len().checked_sub(length))
        .and_then(|start| tail.get(start..start + trailer.footer_length))
        .ok_or_else(|| SegmentError::new(trailer.footer_start, "a cut footer"))?;
    if crc32fast::hash(footer) != trailer.footer_crc {
        return Err(SegmentError::new(
            trailer.footer_start,
            "the footer does not fit its checksum",
        ));
    }
    let (info, points) = summary(&mut Fields::new(footer, trailer.footer_start))?;
    if info.length != length || info.records_end != trailer.footer_start {
        return Err(SegmentError::new(
            trailer.footer_start,
            "a footer of a segment of another length",
        ));
    }
    Ok((info, points))
}

/// Reads a whole segment, and checks all of it.
///
/// # Errors
/// [`SegmentError`].
pub fn read_segment(
    data: &Bytes,
) -> Result<(SegmentHeader, SegmentInfo, Vec<Point>, Decoded), SegmentError> {
    let length = data.len() as u64;
    let header = read_header(data)?;
    let trailer = read_trailer(data, length)?;
    let (info, points) = read_summary(data, length)?;
    let body = usize::try_from(trailer.footer_start)
        .ok()
        .and_then(|end| data.get(..end));
    if body.map(crc32fast::hash) != Some(trailer.body_crc) {
        return Err(SegmentError::new(
            0,
            "the segment does not fit its checksum",
        ));
    }
    // Within `length`, as the summary was checked.
    let records = data.slice(info.records_start as usize..info.records_end as usize);
    let decoded = read_frames(records, info.records_start)?;
    let ends = decoded.frames.first().map(|frame| frame.offset);
    let is_right = header.number == info.number
        && header.term == info.term
        && decoded.frames.len() as u64 == info.frames
        && ends.is_none_or(|first| first == info.first)
        && decoded
            .frames
            .last()
            .is_none_or(|last| last.offset.next() == info.next);
    if !is_right {
        return Err(SegmentError::new(
            trailer.footer_start,
            "a footer of another segment",
        ));
    }
    Ok((header, info, points, decoded))
}
