//! What a segment says of itself at its end, and where pieces begin in it.

use bitflags::bitflags;
use bytes::{BufMut, BytesMut};

use super::SegmentError;
use super::cut::CutState;
use super::wire::{Fields, put_offset, put_time};
use crate::frame::Offset;

/// Bytes of one point in version 1.
const POINT: u16 = 56;

/// Bytes of the summary before the points.
const SUMMARY: usize = 8 * 14 + 4 + 4 + 2;

/// [`CutState::audio`] and [`CutState::video`] as bits.
const AUDIO_BEFORE: u64 = 1;
const VIDEO_BEFORE: u64 = 2;

bitflags! {
    /// What is known of a whole segment. Bits are never given a new meaning.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SegmentFlags: u32 {
        /// It was the recording's last one when it was written: nothing is missing.
        const COMPLETE = 1;
        /// It has audio.
        const AUDIO = 1 << 1;
        /// It has video.
        const VIDEO = 1 << 2;
        /// An owner began with it.
        const TAKE_OVER = 1 << 3;
    }
}

/// What a segment holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Which one it is, from 0.
    pub number: u64,
    /// Counts the owners of the recording.
    pub term: u64,
    /// How many frames.
    pub frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The first frame. Of a segment without frames, as `next`, where the one before ends.
    pub first: Offset,
    /// After the last frame, in its epoch.
    pub next: Offset,
    /// Media time of the first frame, in milliseconds; never less than anything before it.
    pub start_ms: u64,
    /// The end of the last frame.
    pub end_ms: u64,
    /// See there.
    pub flags: SegmentFlags,
    /// Where the first record begins.
    pub records_start: u64,
    /// Where the last record ends.
    pub records_end: u64,
    /// Bytes of the object.
    pub length: u64,
    /// The first place from which a decoder can start, in milliseconds, before the segment's first point: it counts for the piece that
    /// began in an earlier segment, if that has none yet.
    pub continued_start: Option<u64>,
}

/// A place where a piece begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// The first frame.
    pub offset: Offset,
    /// Its media time in milliseconds; never less than anything before it.
    pub ms: u64,
    /// Which segment it is in.
    pub segment: u64,
    /// Where its records begin in the segment, with those of the frames in force.
    pub place: u64,
    /// The first place in the piece from which a decoder can start, in milliseconds.
    pub first_start: Option<u64>,
    /// What a [`Cutter`](super::Cutter) goes on with.
    pub state: CutState,
}

/// Bytes that [`put_summary`] writes.
pub(super) fn summary_length(points: usize) -> usize {
    SUMMARY + points * usize::from(POINT)
}

pub(super) fn put_summary(info: &SegmentInfo, points: &[Point], out: &mut BytesMut) {
    for number in [info.number, info.term, info.frames, info.bytes] {
        out.put_u64(number);
    }
    put_offset(info.first, out);
    put_offset(info.next, out);
    out.put_u64(info.start_ms);
    out.put_u64(info.end_ms);
    out.put_u32(info.flags.bits());
    for place in [info.records_start, info.records_end, info.length] {
        out.put_u64(place);
    }
    put_time(info.continued_start, out);
    out.put_u32(points.len() as u32);
    out.put_u16(POINT);
    for point in points {
        put_offset(point.offset, out);
        out.put_u64(point.ms);
        out.put_u64(point.place);
        put_time(point.first_start, out);
        out.put_u64(point.state.cell);
        let mut bits = 0;
        if point.state.audio {
            bits |= AUDIO_BEFORE;
        }
        if point.state.video {
            bits |= VIDEO_BEFORE;
        }
        out.put_u64(bits);
    }
}

/// Reads what [`put_summary`] wrote, and checks that it does not contradict itself.
pub(super) fn summary(fields: &mut Fields<'_>) -> Result<(SegmentInfo, Vec<Point>), SegmentError> {
    let place = fields.place();
    let info = SegmentInfo {
        number: fields.u64()?,
        term: fields.u64()?,
        frames: fields.u64()?,
        bytes: fields.u64()?,
        first: fields.offset()?,
        next: fields.offset()?,
        start_ms: fields.u64()?,
        end_ms: fields.u64()?,
        flags: SegmentFlags::from_bits_retain(fields.u32()?),
        records_start: fields.u64()?,
        records_end: fields.u64()?,
        length: fields.u64()?,
        continued_start: fields.time()?,
    };
    let empty = info.frames == 0;
    if info.records_start > info.records_end
        || info.records_end > info.length
        || info.start_ms > info.end_ms
        || info.first > info.next
        || (empty && info.first != info.next)
        || (!empty && info.first == info.next)
    {
        return Err(SegmentError::new(
            place,
            "a summary that contradicts itself",
        ));
    }
    let count = fields.u32()? as usize;
    let size = usize::from(fields.u16()?);
    if size < usize::from(POINT) || count.saturating_mul(size) > fields.rest().len() {
        return Err(fields.error("more points than there is room for"));
    }
    let mut points: Vec<Point> = Vec::with_capacity(count);
    for _ in 0..count {
        let place = fields.place();
        let point = point(fields.bytes(size)?, place, info.number)?;
        let in_order = points.last().is_none_or(|before| {
            before.offset < point.offset && before.ms <= point.ms && before.place < point.place
        });
        let inside = (info.first..info.next).contains(&point.offset)
            && (info.start_ms..=info.end_ms).contains(&point.ms)
            && (info.records_start..info.records_end).contains(&point.place);
        if !(in_order && inside) {
            return Err(SegmentError::new(place, "a point outside of its segment"));
        }
        points.push(point);
    }
    Ok((info, points))
}

fn point(data: &[u8], place: u64, segment: u64) -> Result<Point, SegmentError> {
    let mut fields = Fields::new(data, place);
    let offset = fields.offset()?;
    let (ms, place, first_start) = (fields.u64()?, fields.u64()?, fields.time()?);
    let cell = fields.u64()?;
    let bits = fields.u64()?;
    Ok(Point {
        offset,
        ms,
        segment,
        place,
        first_start,
        state: CutState {
            cell,
            audio: bits & AUDIO_BEFORE != 0,
            video: bits & VIDEO_BEFORE != 0,
        },
    })
}
