//! Stamps for H.264 that has none: user data of an SEI NAL unit (H.264, sections 7.3.2.3.1 and D.1.7) before a frame's own NAL units.
//!
//! The NAL unit is taken from a synthetic frame, so that what reads those reads these.

use bytes::{BufMut, Bytes, BytesMut};
use headwater_media::synthetic::{Settings, Stamp, SyntheticStream, read_stamp, write_stamp};

/// Bytes of a video tag before its NAL units: frame type and codec, packet type, composition time (FLV 10.1, E.4.3.1 and E.4.3.2).
const TAG_HEADER: usize = 5;
/// Codec id of H.264.
const AVC: u8 = 7;
const NAL_TYPE: u8 = 0x1f;
const SEI: u8 = 6;
/// The NAL unit that comes first in an access unit, if there is one.
const ACCESS_UNIT_DELIMITER: u8 = 9;

/// Puts stamps into the frames of one stream.
#[derive(Clone, Debug)]
pub(super) struct Stamper {
    /// The SEI NAL unit with some stamp.
    unit: Bytes,
}

impl Stamper {
    /// `None` would mean that synthetic frames have changed their form.
    pub(super) fn new() -> Option<Self> {
        let settings = Settings {
            video_bitrate: 0,
            audio: None,
            ..Settings::default()
        };
        let mut frames = SyntheticStream::new(settings).ok()?;
        let frame = frames.find(|frame| read_stamp(&frame.payload).is_some())?;
        let unit = units(frame.payload.get(TAG_HEADER..)?, 4)
            .find(|unit| kind(unit) == Some(SEI) && read_stamp(unit).is_some())?;
        Some(Self {
            unit: Bytes::copy_from_slice(unit),
        })
    }

    /// The payload with a stamp before its NAL units, whose lengths have `length_size` bytes.
    pub(super) fn stamp(&self, payload: &[u8], length_size: usize, stamp: Stamp) -> Option<Bytes> {
        let (head, body) = payload.split_at_checked(TAG_HEADER)?;
        let first = units(body, length_size).next()?;
        let before = match kind(first) {
            Some(ACCESS_UNIT_DELIMITER) => length_size + first.len(),
            _ => 0,
        };
        let (before, after) = body.split_at_checked(before)?;
        let mut out = BytesMut::with_capacity(payload.len() + length_size + self.unit.len());
        out.put_slice(head);
        out.put_slice(before);
        out.put_uint(self.unit.len() as u64, length_size);
        let unit = out.len();
        out.put_slice(&self.unit);
        if !write_stamp(out.get_mut(unit..)?, stamp) {
            return None;
        }
        out.put_slice(after);
        Some(out.freeze())
    }
}

/// Whether a video payload holds coded H.264.
pub(super) fn is_coded(payload: &[u8]) -> bool {
    matches!(payload, [first, 1, ..] if first & 0x0f == AVC && first & 0x80 == 0)
}

/// Bytes of the length before each NAL unit, from a payload with an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).
pub(super) fn length_size(payload: &[u8]) -> Option<usize> {
    if !matches!(payload, [first, 0, ..] if first & 0x0f == AVC && first & 0x80 == 0) {
        return None;
    }
    // The two lowest bits of the record's fifth byte, less one.
    match payload.get(TAG_HEADER + 4)? & 3 {
        0 => Some(1),
        1 => Some(2),
        3 => Some(4),
        _ => None,
    }
}

fn kind(unit: &[u8]) -> Option<u8> {
    unit.first().map(|first| first & NAL_TYPE)
}

/// The NAL units behind lengths of `length_size` bytes, as far as they are whole.
fn units(mut body: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = body.split_at_checked(length_size)?;
        let length = length
            .iter()
            .fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        body = rest;
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        sequence: 77,
        sent_at: 123_456_789_000,
    };

    fn payload(length_size: usize, nal_units: &[&[u8]]) -> Vec<u8> {
        let mut out = vec![0x27, 1, 0, 0, 40];
        for unit in nal_units {
            out.put_uint(unit.len() as u64, length_size);
            out.extend_from_slice(unit);
        }
        out
    }

    #[test]
    fn a_stamp_goes_before_the_picture_and_behind_the_delimiter() {
        let stamper = Stamper::new().unwrap();
        for length_size in [1, 2, 4] {
            for (nal_units, place) in [
                (&[&b"\x65picture"[..]][..], 0),
                (&[&b"\x09\xf0"[..], b"\x65picture"], 1),
                (&[&b"\x06old"[..], b"\x65picture"], 0),
            ] {
                let plain = payload(length_size, nal_units);
                let stamped = stamper.stamp(&plain, length_size, STAMP).unwrap();
                assert_eq!(read_stamp(&stamped), Some(STAMP));
                assert_eq!(&stamped[..5], &plain[..5]);
                let mut found: Vec<_> = units(&stamped[5..], length_size).collect();
                let unit = found.remove(place);
                assert_eq!(kind(unit), Some(SEI));
                assert_eq!(found, nal_units);
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let stamper = Stamper::new().unwrap();
        for broken in [&b""[..], b"\x27\x01\0\0", b"\x27\x01\0\0\0\0\0\0\x09x"] {
            assert_eq!(stamper.stamp(broken, 4, STAMP), None);
        }
        assert!(is_coded(b"\x17\x01\0\0\0"));
        for other in [
            &b"\x17\x00\0\0\0"[..],
            b"\x12\x01",
            b"\x90\x01",
            b"\x97\x01",
            b"",
        ] {
            assert!(!is_coded(other), "{other:?}");
        }
    }

    #[test]
    fn length_sizes_come_from_the_header() {
        for (bits, size) in [
            (0xff, Some(4)),
            (0xfd, Some(2)),
            (0xfc, Some(1)),
            (0xfe, None),
        ] {
            let header = [0x17, 0, 0, 0, 0, 1, 66, 0, 30, bits];
            assert_eq!(length_size(&header), size);
        }
        assert_eq!(length_size(&[0x17, 0, 0, 0, 0]), None);
        assert_eq!(length_size(&[0xaf, 0, 0, 0, 0, 1, 66, 0, 30, 0xff]), None);
    }
}
