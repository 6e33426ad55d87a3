//! Records: a length, a checksum, and a body whose first byte says what it is.

use bytes::{BufMut, Bytes, BytesMut};

use super::SegmentError;
use super::wire::{Fields, put_offset};
use crate::frame::{Frame, FrameFlags, FrameKind};

/// Longest payload of a frame, in bytes: what the three bytes of length in RTMP and FLV can say.
pub const MAX_PAYLOAD: usize = (1 << 24) - 1;

/// Length and checksum before a body.
pub(super) const RECORD_HEAD: usize = 8;

/// Longest body: the longest payload, and room for the fields that a later version may have before it.
pub(super) const MAX_BODY: usize = MAX_PAYLOAD + 1_024;

/// A frame in force at the next frame that is not one of these.
pub(super) const IN_FORCE: u8 = 1;

/// The next frame of the log.
pub(super) const FRAME: u8 = 2;

/// Bytes of the fields before a payload.
const FRAME_HEAD: u8 = 29;

/// Writes one record; `body` appends its body.
pub(super) fn put_record(out: &mut BytesMut, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_bytes(0, RECORD_HEAD);
    body(out);
    let end = out.len();
    if let Some((head, body)) = out
        .get_mut(start..end)
        .and_then(|record| record.split_at_mut_checked(RECORD_HEAD))
    {
        let (mut length, mut crc) = head.split_at_mut(4);
        length.put_u32(body.len() as u32);
        crc.put_u32(crc32fast::hash(body));
    }
}

pub(super) fn put_frame(frame: &Frame, out: &mut BytesMut) {
    out.put_u8(FRAME_HEAD);
    put_offset(frame.offset, out);
    out.put_u64(frame.timestamp);
    out.put_u8(match frame.kind {
        FrameKind::Audio => 0,
        FrameKind::Video => 1,
        FrameKind::Data => 2,
    });
    out.put_u32(frame.flags.bits());
    out.put_slice(&frame.payload);
}

/// The other way round. `body` is what [`put_frame`] wrote; `place` is where it begins in the object.
pub(super) fn frame(body: &Bytes, place: u64) -> Result<Frame, SegmentError> {
    let mut fields = Fields::new(body, place);
    let head = usize::from(fields.u8()?);
    let place_of_head = fields.place();
    let mut fields = Fields::new(fields.bytes(head)?, place_of_head);
    let offset = fields.offset()?;
    let timestamp = fields.u64()?;
    let kind = match fields.u8()? {
        0 => FrameKind::Audio,
        1 => FrameKind::Video,
        2 => FrameKind::Data,
        _ => return Err(fields.error("a frame of no known kind")),
    };
    let flags = FrameFlags::from_bits_retain(fields.u32()?);
    let payload = body.slice(1 + head..);
    if payload.len() > MAX_PAYLOAD {
        return Err(SegmentError::new(place, "a payload that is too long"));
    }
    Ok(Frame {
        offset,
        timestamp,
        kind,
        flags,
        payload,
    })
}

/// Takes the body of the next record off `data`, which begins at `place` in its object.
fn next_body(data: &mut Bytes, place: u64) -> Result<Bytes, SegmentError> {
    let cut = |_| SegmentError::new(place, "a cut record");
    let mut fields = Fields::new(data, place);
    let length = fields.u32().map_err(cut)? as usize;
    let crc = fields.u32().map_err(cut)?;
    if length == 0 || length > MAX_BODY {
        return Err(SegmentError::new(place, "a record of an impossible length"));
    }
    let body = fields.bytes(length).map_err(cut)?;
    if crc32fast::hash(body) != crc {
        return Err(SegmentError::new(
            place,
            "a record does not fit its checksum",
        ));
    }
    let body = data.slice(RECORD_HEAD..RECORD_HEAD + length);
    *data = data.slice(RECORD_HEAD + length..);
    Ok(body)
}

/// What stands in a run of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The frames in force before the first frame.
    pub preface: Vec<Frame>,
    /// The frames, in order.
    pub frames: Vec<Frame>,
}

/// Reads a run of whole records, which begins at `place` in its object. Payloads share the memory of `data`.
///
/// # Errors
/// [`SegmentError`] for the first record that is cut or damaged, or out of order.
pub fn read_frames(mut data: Bytes, place: u64) -> Result<Decoded, SegmentError> {
    let length = data.len();
    let mut decoded = Decoded::default();
    while !data.is_empty() {
        let at = place.saturating_add((length - data.len()) as u64);
        let body = next_body(&mut data, at)?;
        let inner = at.saturating_add(RECORD_HEAD as u64 + 1);
        match body.first() {
            Some(&IN_FORCE) if decoded.frames.is_empty() => {
                decoded.preface.push(frame(&body.slice(1..), inner)?);
            }
            Some(&FRAME) => {
                let frame = frame(&body.slice(1..), inner)?;
                if decoded
                    .frames
                    .last()
                    .is_some_and(|last| last.offset >= frame.offset)
                {
                    return Err(SegmentError::new(at, "frames that are not in order"));
                }
                decoded.frames.push(frame);
            }
            // What is in force further on, or a record of a later version.
            _ => {}
        }
    }
    Ok(decoded)
}
