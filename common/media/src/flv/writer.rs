//! FLV bytes.

use bytes::BufMut;

use super::{FlvHeader, MAX_TAG_BODY, tag_type};
use crate::frame::FrameKind;

/// Bytes that [`write_header`] writes: the file header and the first PreviousTagSize.
pub const FLV_HEADER_SIZE: usize = 13;

/// Bytes of a tag before its body. Four bytes follow the body.
pub const TAG_HEADER_SIZE: usize = 11;

/// Writes the file header and the first PreviousTagSize, which is 0.
pub fn write_header(header: FlvHeader, out: &mut impl BufMut) {
    out.put_slice(b"FLV");
    out.put_u8(1);
    out.put_u8(u8::from(header.has_audio) << 2 | u8::from(header.has_video));
    out.put_u32(9);
    out.put_u32(0);
}

/// Writes one tag with its PreviousTagSize. `timestamp` is in milliseconds; its upper 8 bits have a place of their own.
///
/// Returns false, and writes nothing, where `body` is longer than [`MAX_TAG_BODY`].
#[must_use]
pub fn write_tag(timestamp: u32, kind: FrameKind, body: &[u8], out: &mut impl BufMut) -> bool {
    let Ok(length) = u32::try_from(body.len()) else {
        return false;
    };
    if body.len() > MAX_TAG_BODY {
        return false;
    }
    out.put_u8(tag_type(kind));
    out.put_uint(u64::from(length), 3);
    out.put_uint(u64::from(timestamp & 0x00ff_ffff), 3);
    out.put_u8((timestamp >> 24) as u8);
    out.put_uint(0, 3);
    out.put_slice(body);
    out.put_u32(TAG_HEADER_SIZE as u32 + length);
    true
}
