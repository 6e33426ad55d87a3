//! What a payload says about itself.

use bytes::Bytes;

use crate::frame::FrameKind;
use crate::window::HeaderPart;

/// The name of sticky metadata in an AMF0 data message: its first string, or the second one after `@setDataFrame` and
/// `@clearDataFrame`. `None` where there is no such string.
#[must_use]
pub fn metadata_name(payload: &Bytes) -> Option<Bytes> {
    let (first, rest) = amf0_string(payload)?;
    if matches!(&first[..], b"@setDataFrame" | b"@clearDataFrame") {
        return amf0_string(&rest).map(|(name, _)| name);
    }
    Some(first)
}

/// Splits an AMF0 string (marker 2, 16-bit length) off the front.
fn amf0_string(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let [2, high, low, rest @ ..] = &bytes[..] else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if rest.len() < length {
        return None;
    }
    Some((bytes.slice(3..3 + length), bytes.slice(3 + length..)))
}

pub(crate) fn header_slot(_kind: FrameKind, _payload: &Bytes) -> (u8, HeaderPart) {
    (0, HeaderPart::Configuration)
}
