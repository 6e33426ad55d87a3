//! What a payload says about itself: enough to relay a stream well, found in its first few bytes.
//!
//! # Specifications
//! - Adobe Flash Video File Format 10.1, annex E.4.2.1 (audio tags), E.4.3.1 (video tags), E.4.4 (data tags).
//! - Enhanced RTMP v1 and v2 (Veovera): extended audio and video headers, FourCC codecs, multitrack, ModEx.
//! - Codec id 12 for HEVC is not in any specification, but several encoders send it with the layout of AVC.
//!
//! # Invariant
//! Inspection never fails: what it does not understand has no flags, and is relayed like the rest.
//!
//! # What it does not do
//! It does not parse coded frames (of codec headers see [`configuration`]), and does not check that a payload is whole.

use bytes::Bytes;

mod codec;
mod configuration;
mod data;
mod tag;

pub use codec::{Codec, FourCc};
pub use configuration::{Configuration, configuration};
pub use data::{DataMessage, DataRole, data_message, metadata_name};
pub(crate) use tag::skip_mod_ex;

use crate::frame::{FrameFlags, FrameKind};
use crate::window::HeaderPart;

/// What was understood of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The flags of the frame. A key frame of an additional track alone (Enhanced RTMP multitrack, track id other than 0)
    /// is not `KEY`, because a viewer of the default track cannot start there.
    pub flags: FrameFlags,
    /// The codec; the first track's where a message holds several tracks.
    pub codec: Option<Codec>,
    /// Enhanced RTMP track id, 0 for the only track; the first one where a message holds several.
    pub track: u8,
    /// What the message is for the track's decoder.
    pub packet: Packet,
}

/// What an audio or video message is for its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Coded audio or video.
    Coded,
    /// A decoder configuration.
    Configuration,
    /// What goes with a configuration: video colour information, audio channel layout.
    Supplement,
    /// The end of a sequence.
    End,
    /// A command to the player (start and end of a client-side seek).
    Command,
    /// A data message.
    Data,
    /// Not understood.
    Unknown,
}

impl Inspection {
    /// Of a payload that was not understood.
    const UNKNOWN: Self = Self {
        flags: FrameFlags::empty(),
        codec: None,
        track: 0,
        packet: Packet::Unknown,
    };
}

/// Looks at the payload of a message of this kind: O(1), without a copy.
#[must_use]
pub fn inspect(kind: FrameKind, payload: &Bytes) -> Inspection {
    match kind {
        FrameKind::Video => tag::video(payload),
        FrameKind::Audio => tag::audio(payload),
        FrameKind::Data => Inspection {
            flags: match data_message(payload).map(|message| message.role) {
                Some(DataRole::SetMetadata) => FrameFlags::METADATA,
                Some(DataRole::ClearMetadata) => FrameFlags::CLEAR_METADATA,
                Some(DataRole::Event) | None => FrameFlags::empty(),
            },
            packet: Packet::Data,
            ..Inspection::UNKNOWN
        },
    }
}

/// Track and part of a codec header, for its slot in the preface of a window.
pub(crate) fn header_slot(kind: FrameKind, payload: &Bytes) -> (u8, HeaderPart) {
    let Inspection { track, packet, .. } = inspect(kind, payload);
    let part = match packet {
        Packet::Supplement => HeaderPart::Supplement,
        _ => HeaderPart::Configuration,
    };
    (track, part)
}

#[cfg(test)]
mod tests;
