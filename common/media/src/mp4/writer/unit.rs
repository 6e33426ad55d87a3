//! What is in a message: a decoder configuration, or a coded frame and when it is presented.

use bytes::Bytes;

use crate::frame::FrameKind;
use crate::inspect::{Codec, Packet, inspect, skip_mod_ex};
use crate::mp4::description::Coding;

/// The content of a message.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) coding: Coding,
    pub(super) content: Content,
    /// The configuration or the coded frame.
    pub(super) data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Configuration,
    Coded {
        /// From decoding to presentation, in milliseconds.
        composition: i32,
        is_key: bool,
    },
    /// The end of a sequence, a command, colours: nothing that a file needs.
    Other,
}

/// CodedFrames of Enhanced RTMP: H.264 and HEVC have a composition time.
const CODED_FRAMES: u8 = 1;

/// `None` for codecs that are not written, and for tracks but the default one.
pub(super) fn read(kind: FrameKind, payload: &Bytes) -> Option<Unit> {
    let seen = inspect(kind, payload);
    let coding = match seen.codec? {
        Codec::Avc => Coding::Avc,
        Codec::Hevc => Coding::Hevc,
        Codec::Aac => Coding::Aac,
        Codec::Mp3 => Coding::Mp3,
        _ => return None,
    };
    let first = *payload.first()?;
    let is_extended = match kind {
        FrameKind::Video => first & 0x80 != 0,
        _ => first >> 4 == 9,
    };
    let (composition, data) = if is_extended {
        extended(coding, first & 0x0f, payload)?
    } else {
        plain(coding, payload)?
    };
    // Frame type 1, or 4 for a key frame made by a server.
    let frame_type = first >> 4 & 0x07;
    let content = match seen.packet {
        Packet::Configuration => Content::Configuration,
        Packet::Coded => Content::Coded {
            composition,
            is_key: kind == FrameKind::Audio || matches!(frame_type, 1 | 4),
        },
        _ => Content::Other,
    };
    Some(Unit {
        coding,
        content,
        data,
    })
}

fn plain(coding: Coding, payload: &Bytes) -> Option<(i32, Bytes)> {
    Some(match coding {
        Coding::Avc | Coding::Hevc => (composition(payload.get(2..5)?), payload.slice(5..)),
        Coding::Aac => (0, payload.slice_ref(payload.get(2..)?)),
        Coding::Mp3 => (0, payload.slice_ref(payload.get(1..)?)),
    })
}

/// Header, modifiers, FourCC; a message of several tracks has another packet type, and is none of these.
fn extended(coding: Coding, packet_type: u8, payload: &Bytes) -> Option<(i32, Bytes)> {
    let (packet_type, rest) = skip_mod_ex(packet_type, payload.get(1..)?)?;
    if packet_type > 4 {
        return None;
    }
    let rest = rest.get(4..)?;
    match coding {
        Coding::Avc | Coding::Hevc if packet_type == CODED_FRAMES => Some((
            composition(rest.get(..3)?),
            payload.slice_ref(rest.get(3..)?),
        )),
        _ => Some((0, payload.slice_ref(rest))),
    }
}

/// 24 bits, signed.
fn composition(bytes: &[u8]) -> i32 {
    match *bytes {
        [high, middle, low] => i32::from_be_bytes([high, middle, low, 0]) >> 8,
        _ => 0,
    }
}
