//! What a decoder configuration says, for operators: profile, picture size, sample rate. Nothing in the relay needs it.
//!
//! - AVCDecoderConfigurationRecord: ISO/IEC 14496-15, section 5.3.3.1; sequence parameter set: H.264, section 7.3.2.1.1.
//! - HEVCDecoderConfigurationRecord: ISO/IEC 14496-15, section 8.3.3.1; sequence parameter set: H.265, section 7.3.2.2.1.
//! - AudioSpecificConfig: ISO/IEC 14496-3, section 1.6.2.1.

use bytes::Bytes;

use super::{Codec, Packet, inspect};
use crate::frame::FrameKind;

/// Most bytes looked at of a sequence parameter set: what is of interest stands far before.
const MAX_SEQUENCE_PARAMETERS: usize = 1024;

/// Sampling rates by index, in Hz.
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Profiles whose sequence parameter sets have a chroma format, bit depths and scaling lists.
const HIGH_PROFILES: [u32; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];

/// What a codec header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Configuration {
    /// Of H.264.
    Avc {
        /// `profile_idc`: 66 baseline, 77 main, 100 high.
        profile: u8,
        /// Constraint flags, `constraint_set0_flag` first.
        constraints: u8,
        /// Ten times the level.
        level: u8,
        /// Width and height of the picture in samples, after cropping.
        size: Option<(u32, u32)>,
    },
    /// Of HEVC.
    Hevc {
        /// `general_profile_idc`: 1 main, 2 main 10.
        profile: u8,
        /// Thirty times the level.
        level: u8,
        /// Width and height of the picture in samples, after cropping.
        size: Option<(u32, u32)>,
    },
    /// Of AAC.
    Aac {
        /// Audio object type: 2 for LC, 5 and 29 for HE.
        object_type: u8,
        /// Samples per second of the core coder.
        sample_rate: u32,
        /// Channel configuration: the number of channels up to 6; 7 stands for 8 channels, 0 for others.
        channels: u8,
    },
}

/// Reads the codec header of the only, or default, track. `None` for other frames, for other codecs, and for what does not
/// parse.
#[must_use]
pub fn configuration(kind: FrameKind, payload: &Bytes) -> Option<Configuration> {
    let seen = inspect(kind, payload);
    let first = *payload.first()?;
    let start = match (kind, seen.packet, seen.codec?) {
        // Frame type and codec id, packet type, composition time; or, extended, with packet type 0, which no modifier or
        // multitrack header has, the FourCC: both end before byte 5.
        (FrameKind::Video, Packet::Configuration, Codec::Avc)
            if first & 0x80 == 0 || first & 0x0f == 0 =>
        {
            5
        }
        (FrameKind::Video, Packet::Configuration, Codec::Hevc)
            if first & 0x80 == 0 || first & 0x0f == 0 =>
        {
            return hevc(payload.get(5..)?);
        }
        (FrameKind::Audio, Packet::Configuration, Codec::Aac) if first == 0x90 => 5,
        (FrameKind::Audio, Packet::Configuration, Codec::Aac) if first >> 4 == 10 => 2,
        _ => return None,
    };
    let record = payload.get(start..)?;
    match kind {
        FrameKind::Video => avc(record),
        _ => aac(record),
    }
}

fn avc(record: &[u8]) -> Option<Configuration> {
    let [
        _version,
        profile,
        constraints,
        level,
        _,
        sets,
        high,
        low,
        rest @ ..,
    ] = record
    else {
        return None;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let size = (sets & 0x1f > 0)
        .then(|| rest.get(..length).and_then(picture_size))
        .flatten();
    Some(Configuration::Avc {
        profile: *profile,
        constraints: *constraints,
        level: *level,
        size,
    })
}

/// HEVCDecoderConfigurationRecord: ISO/IEC 14496-15, section 8.3.3.1.
fn hevc(record: &[u8]) -> Option<Configuration> {
    const SEQUENCE_PARAMETERS: u8 = 33;

    let profile = record.get(1)? & 0x1f;
    let level = *record.get(12)?;
    let (&arrays, mut rest) = record.get(22..)?.split_first()?;
    let mut size = None;
    'arrays: for _ in 0..arrays {
        let Some((&[kind, high, low], after)) = rest.split_first_chunk() else {
            break;
        };
        rest = after;
        for _ in 0..u16::from_be_bytes([high, low]) {
            let Some((length, after)) = rest.split_first_chunk() else {
                break 'arrays;
            };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some(unit) = after.get(..length) else {
                break 'arrays;
            };
            rest = after.get(length..).unwrap_or_default();
            if kind & 0x3f == SEQUENCE_PARAMETERS && size.is_none() {
                size = hevc_picture_size(unit);
            }
        }
    }
    Some(Configuration::Hevc {
        profile,
        level,
        size,
    })
}

/// The size of the picture, from a NAL unit with a sequence parameter set: H.265, section 7.3.2.2.1.
fn hevc_picture_size(unit: &[u8]) -> Option<(u32, u32)> {
    let mut bits = BitReader::new(without_escapes(unit.get(2..)?));
    bits.bits(4)?; // sps_video_parameter_set_id
    let sub_layers = bits.bits(3)?;
    bits.bits(1)?; // sps_temporal_id_nesting_flag
    // profile_tier_level, section 7.3.3: 88 bits of profile, 8 of level; then of each sub-layer what is there.
    bits.skip(96);
    let present: Vec<(bool, bool)> = (0..sub_layers)
        .map(|_| Some((bits.flag()?, bits.flag()?)))
        .collect::<Option<_>>()?;
    if sub_layers > 0 {
        bits.skip(2 * (8 - sub_layers as usize));
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 });
    }
    bits.unsigned()?; // sps_seq_parameter_set_id
    let chroma_format = bits.unsigned()?;
    if chroma_format == 3 {
        bits.bits(1)?; // separate_colour_plane_flag
    }
    let (width, height) = (bits.unsigned()?, bits.unsigned()?);
    let mut crop = [0; 4];
    if bits.flag()? {
        for edge in &mut crop {
            *edge = bits.unsigned()?;
        }
    }
    let (unit_x, unit_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = crop;
    let width = cropped(width, left, right, unit_x)?;
    Some((width, cropped(height, top, bottom, unit_y)?))
}

fn aac(record: &[u8]) -> Option<Configuration> {
    let mut bits = BitReader::new(record.iter().copied().take(16).collect());
    let object_type = match bits.bits(5)? {
        31 => 32 + bits.bits(6)?,
        small => small,
    };
    let sample_rate = match bits.bits(4)? {
        15 => bits.bits(24)?,
        index => *SAMPLE_RATES.get(index as usize)?,
    };
    Some(Configuration::Aac {
        object_type: object_type as u8,
        sample_rate,
        channels: bits.bits(4)? as u8,
    })
}

/// The size of the picture, from a NAL unit with a sequence parameter set.
fn picture_size(unit: &[u8]) -> Option<(u32, u32)> {
    let (header, escaped) = unit.split_first()?;
    if header & 0x1f != 7 {
        return None;
    }
    let mut bits = BitReader::new(without_escapes(escaped));
    let profile = bits.bits(8)?;
    bits.bits(16)?; // constraints, level
    bits.unsigned()?; // seq_parameter_set_id
    let mut chroma_format = 1;
    if HIGH_PROFILES.contains(&profile) {
        chroma_format = bits.unsigned()?;
        if chroma_format == 3 {
            bits.bits(1)?; // separate_colour_plane_flag
        }
        bits.unsigned()?; // bit_depth_luma_minus8
        bits.unsigned()?; // bit_depth_chroma_minus8
        bits.bits(1)?; // qpprime_y_zero_transform_bypass_flag
        if bits.flag()? {
            let lists = if chroma_format == 3 { 12 } else { 8 };
            for list in 0..lists {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.unsigned()?; // log2_max_frame_num_minus4
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?; // log2_max_pic_order_cnt_lsb_minus4
        }
        1 => {
            bits.bits(1)?; // delta_pic_order_always_zero_flag
            bits.unsigned()?; // two offsets; a signed code is as long as an unsigned one
            bits.unsigned()?;
            for _ in 0..bits.unsigned()?.min(255) {
                bits.unsigned()?;
            }
        }
        _ => {}
    }
    bits.unsigned()?; // max_num_ref_frames
    bits.bits(1)?; // gaps_in_frame_num_value_allowed_flag
    let columns = bits.unsigned()?.checked_add(1)?;
    let rows = bits.unsigned()?.checked_add(1)?;
    let frames_only = bits.flag()?;
    let fields = if frames_only { 1 } else { 2 };
    if !frames_only {
        bits.bits(1)?; // mb_adaptive_frame_field_flag
    }
    bits.bits(1)?; // direct_8x8_inference_flag
    let mut crop = [0; 4];
    if bits.flag()? {
        for edge in &mut crop {
            *edge = bits.unsigned()?;
        }
    }
    let (unit_x, unit_y) = match chroma_format {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = crop;
    let width = cropped(columns.checked_mul(16)?, left, right, unit_x)?;
    let height = rows.checked_mul(16 * fields)?;
    Some((width, cropped(height, top, bottom, unit_y * fields)?))
}

/// A width or height without what is cut off before and after, in units.
fn cropped(whole: u32, before: u32, after: u32, unit: u32) -> Option<u32> {
    let cut = before.checked_add(after)?.checked_mul(unit)?;
    whole.checked_sub(cut).filter(|left| *left > 0)
}

/// Section 7.3.2.1.1.1: only as many deltas as it takes for the next scale to become 0.
fn skip_scaling_list(bits: &mut BitReader, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Drops the emulation prevention bytes of a NAL unit.
fn without_escapes(escaped: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(escaped.len().min(MAX_SEQUENCE_PARAMETERS));
    let mut zeros = 0;
    for &byte in escaped.iter().take(MAX_SEQUENCE_PARAMETERS) {
        let is_escape = byte == 3 && zeros >= 2;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        if !is_escape {
            out.push(byte);
        }
    }
    out
}

struct BitReader {
    bytes: Vec<u8>,
    position: usize,
}

impl BitReader {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, position: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.position / 8)?;
        let bit = byte >> (7 - self.position % 8) & 1;
        self.position += 1;
        Some(bit == 1)
    }

    fn skip(&mut self, count: usize) {
        self.position += count;
    }

    fn bits(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value: u32, _| {
            Some(value << 1 | u32::from(self.flag()?))
        })
    }

    /// `ue(v)`, up to 32 bits.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1_u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `se(v)`.
    fn signed(&mut self) -> Option<i64> {
        let code = i64::from(self.unsigned()?);
        Some(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -(code / 2)
        })
    }
}

#[cfg(test)]
mod tests;
