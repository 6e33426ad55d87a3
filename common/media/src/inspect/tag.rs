//! The first bytes of audio and video messages.

use super::{Codec, Inspection, Packet};
use crate::frame::FrameFlags;

/// Most ModEx headers looked at in one message; streams have one or two.
const MAX_MOD_EX: usize = 8;

/// Most tracks of one message looked at in search of the default track.
const MAX_TRACKS: usize = 16;

/// Packet types that audio and video share: sequence start, coded frames, sequence end, ModEx.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
const MOD_EX: u8 = 7;

const VIDEO_CODED_FRAMES_X: u8 = 3;
const VIDEO_METADATA: u8 = 4;
const VIDEO_MPEG2_TS_SEQUENCE_START: u8 = 5;
const VIDEO_MULTITRACK: u8 = 6;

const AUDIO_MULTICHANNEL_CONFIG: u8 = 4;
const AUDIO_MULTITRACK: u8 = 5;

/// The sound format that stands for an extended header.
const EXTENDED_SOUND_FORMAT: u8 = 9;

/// Multitrack types: one track; several, each with its own codec. Between them, 1: several of one codec.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// Frame types of video tags, in three bits of an extended header and four of a legacy one.
const KEY_FRAME: u8 = 1;
const DISPOSABLE_FRAME: u8 = 3;
const GENERATED_KEY_FRAME: u8 = 4;
const COMMAND_FRAME: u8 = 5;

pub(super) fn video(payload: &[u8]) -> Inspection {
    let Some((&first, rest)) = payload.split_first() else {
        return Inspection::UNKNOWN;
    };
    if first & 0x80 != 0 {
        return extended_video((first >> 4) & 7, first & 0x0f, rest);
    }
    let frame_type = first >> 4;
    let codec = Codec::of_video_id(first & 0x0f);
    let packet = match (frame_type, codec, rest.first()) {
        (COMMAND_FRAME, ..) => Packet::Command,
        (_, Some(Codec::Avc | Codec::Hevc), Some(0)) => Packet::Configuration,
        (_, Some(Codec::Avc | Codec::Hevc), Some(1)) => Packet::Coded,
        (_, Some(Codec::Avc | Codec::Hevc), Some(2)) => Packet::End,
        (_, Some(Codec::Avc | Codec::Hevc), _) => Packet::Unknown,
        _ => Packet::Coded,
    };
    Inspection {
        flags: flags(packet, frame_type, true),
        codec,
        track: 0,
        packet,
    }
}

pub(super) fn audio(payload: &[u8]) -> Inspection {
    let Some((&first, rest)) = payload.split_first() else {
        return Inspection::UNKNOWN;
    };
    let format = first >> 4;
    if format == EXTENDED_SOUND_FORMAT {
        return extended_audio(first & 0x0f, rest);
    }
    let codec = Codec::of_sound_format(format);
    let packet = match (codec, rest.first()) {
        (Some(Codec::Aac), Some(0)) => Packet::Configuration,
        (Some(Codec::Aac), Some(1)) => Packet::Coded,
        (Some(Codec::Aac), _) => Packet::Unknown,
        _ => Packet::Coded,
    };
    Inspection {
        flags: flags(packet, 0, true),
        codec,
        track: 0,
        packet,
    }
}

/// The flags of a packet. `frame_type` is 0 for audio.
fn flags(packet: Packet, frame_type: u8, has_default_track: bool) -> FrameFlags {
    match (packet, frame_type) {
        (Packet::Configuration | Packet::Supplement, _) => FrameFlags::HEADER,
        (Packet::Coded, KEY_FRAME | GENERATED_KEY_FRAME) if has_default_track => FrameFlags::KEY,
        (Packet::Coded, DISPOSABLE_FRAME) => FrameFlags::DISPOSABLE,
        _ => FrameFlags::empty(),
    }
}

fn extended_video(frame_type: u8, packet_type: u8, rest: &[u8]) -> Inspection {
    let Some((packet_type, rest)) = skip_mod_ex(packet_type, rest) else {
        return Inspection::UNKNOWN;
    };
    if frame_type == COMMAND_FRAME && packet_type != VIDEO_METADATA {
        return Inspection {
            packet: Packet::Command,
            ..Inspection::UNKNOWN
        };
    }
    let Some(tracks) = Tracks::parse(packet_type, VIDEO_MULTITRACK, rest) else {
        return Inspection::UNKNOWN;
    };
    let packet = match tracks.packet_type {
        SEQUENCE_START | VIDEO_MPEG2_TS_SEQUENCE_START => Packet::Configuration,
        CODED_FRAMES | VIDEO_CODED_FRAMES_X => Packet::Coded,
        SEQUENCE_END => Packet::End,
        VIDEO_METADATA => Packet::Supplement,
        _ => Packet::Unknown,
    };
    tracks.inspection(packet, frame_type)
}

fn extended_audio(packet_type: u8, rest: &[u8]) -> Inspection {
    let Some((packet_type, rest)) = skip_mod_ex(packet_type, rest) else {
        return Inspection::UNKNOWN;
    };
    let Some(tracks) = Tracks::parse(packet_type, AUDIO_MULTITRACK, rest) else {
        return Inspection::UNKNOWN;
    };
    let packet = match tracks.packet_type {
        SEQUENCE_START => Packet::Configuration,
        CODED_FRAMES => Packet::Coded,
        SEQUENCE_END => Packet::End,
        AUDIO_MULTICHANNEL_CONFIG => Packet::Supplement,
        _ => Packet::Unknown,
    };
    tracks.inspection(packet, 0)
}

/// Skips modifier headers: a size (one byte plus 1; 255 stands for two more bytes plus 1), the modifier's data, then a byte
/// with the modifier's type and the next packet type.
pub(crate) fn skip_mod_ex(mut packet_type: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    for _ in 0..MAX_MOD_EX {
        if packet_type != MOD_EX {
            return Some((packet_type, rest));
        }
        let (&short, after) = rest.split_first()?;
        let (size, after) = if short == u8::MAX {
            let (long, after) = after.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*long)) + 1, after)
        } else {
            (usize::from(short) + 1, after)
        };
        let (&next, after) = after.get(size..)?.split_first()?;
        packet_type = next & 0x0f;
        rest = after;
    }
    None
}

/// What an extended header says about the tracks in a message.
struct Tracks {
    packet_type: u8,
    codec: Codec,
    first: u8,
    has_default: bool,
}

impl Tracks {
    /// Reads what follows the packet type: FourCC, or multitrack type, inner packet type and FourCC, and track ids.
    fn parse(packet_type: u8, multitrack: u8, rest: &[u8]) -> Option<Self> {
        if packet_type != multitrack {
            let code = rest.first_chunk::<4>()?;
            return Some(Self {
                packet_type,
                codec: Codec::of_four_cc(*code),
                first: 0,
                has_default: true,
            });
        }
        let (&types, mut rest) = rest.split_first()?;
        let (multitrack_type, packet_type) = (types >> 4, types & 0x0f);
        if multitrack_type > MANY_TRACKS_MANY_CODECS {
            return None;
        }
        let code_each = multitrack_type == MANY_TRACKS_MANY_CODECS;
        let (code, after) = rest.split_first_chunk::<4>()?;
        if !code_each {
            rest = after;
        }
        let codec = Codec::of_four_cc(*code);
        let code_length = if code_each { 4 } else { 0 };
        let first = *rest.get(code_length)?;
        let mut has_default = first == 0;
        if multitrack_type != ONE_TRACK {
            for _ in 0..MAX_TRACKS {
                let Some((id, after)) = next_track(rest, code_length) else {
                    break;
                };
                has_default |= id == 0;
                rest = after;
            }
        }
        Some(Self {
            packet_type,
            codec,
            first,
            has_default,
        })
    }

    fn inspection(&self, packet: Packet, frame_type: u8) -> Inspection {
        Inspection {
            flags: flags(packet, frame_type, self.has_default),
            codec: Some(self.codec),
            track: self.first,
            packet,
        }
    }
}

/// The id of the track at the front (after its own FourCC if it has one), and what comes after its 24-bit size and body.
fn next_track(rest: &[u8], code_length: usize) -> Option<(u8, &[u8])> {
    let (head, body) = rest.get(code_length..)?.split_first_chunk::<4>()?;
    let [id, size @ ..] = *head;
    let size = u32::from_be_bytes([0, size[0], size[1], size[2]]);
    let after = body.get(usize::try_from(size).ok()?..).unwrap_or_default();
    Some((id, after))
}
