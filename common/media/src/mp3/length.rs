//! How many frames a file has.

use super::header::HEADER_SIZE;
use super::reader::{Found, Reader, Track};
use crate::file::FileError;

/// Files of up to so many bytes are counted through, which takes some milliseconds.
const MAX_COUNTED: u64 = 16 << 20;

/// Bytes looked at of a frame in search of an encoder's header.
const MAX_ENCODER_HEADER: usize = 192;

/// Where the header of VBRI encoders stands after that of the frame, in bytes.
const VBRI_AT: usize = HEADER_SIZE + 32;

/// How far what an encoder's header says of the file's size may be from the truth, in bytes, besides a hundredth of it.
const SIZE_TOLERANCE: u64 = 4 << 10;

/// Places at which the bit rate is looked at before it is taken to be the same everywhere.
const SAMPLES: u64 = 16;

/// What an encoder says of the file in its first frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EncoderHeader {
    /// Frames after this one.
    frames: Option<u64>,
    /// Bytes, this frame included.
    bytes: Option<u64>,
}

/// The header of an encoder, if the frame is one and no sound.
pub(super) fn encoder_header(
    reader: &mut Reader<'_>,
    found: &Found,
) -> Result<Option<EncoderHeader>, FileError> {
    let frame = reader.bytes(found.position, found.header.size.min(MAX_ENCODER_HEADER))?;
    let word = |at: usize| {
        let word = frame.get(at..)?.first_chunk::<4>()?;
        Some(u64::from(u32::from_be_bytes(*word)))
    };
    let xing = HEADER_SIZE + found.header.side_information();
    if matches!(frame.get(xing..xing + 4), Some(b"Xing" | b"Info")) {
        let flags = word(xing + 4).unwrap_or(0);
        let frames = word(xing + 8).filter(|_| flags & 1 != 0);
        let bytes_at = xing + if frames.is_some() { 12 } else { 8 };
        let bytes = word(bytes_at).filter(|_| flags & 2 != 0);
        return Ok(Some(EncoderHeader { frames, bytes }));
    }
    if frame.get(VBRI_AT..VBRI_AT + 4) == Some(b"VBRI") {
        return Ok(Some(EncoderHeader {
            bytes: word(VBRI_AT + 10),
            frames: word(VBRI_AT + 14),
        }));
    }
    Ok(None)
}

/// The number of frames of sound: counted in small files; in large ones as the encoder says if that is about this file, or from the bit
/// rate if that is the same wherever it is looked at, and otherwise counted after all.
pub(super) fn frames(
    reader: &mut Reader<'_>,
    track: &Track,
    encoder: Option<(EncoderHeader, u64)>,
) -> Result<u64, FileError> {
    let length = track.end - track.first;
    if length > MAX_COUNTED {
        if let Some((
            EncoderHeader {
                frames: Some(frames),
                bytes: Some(bytes),
            },
            begins,
        )) = encoder
        {
            let true_bytes = track.end - begins;
            let is_of_this_file = bytes.abs_diff(true_bytes) <= SIZE_TOLERANCE + true_bytes / 100;
            // Frames of 24 to 1,441 bytes.
            if is_of_this_file && (length / 1_442..=length / 24).contains(&frames) {
                return Ok(frames);
            }
        }
        if is_constant(reader, track)? {
            let bits = u128::from(length) * 8 * u128::from(track.header.sample_rate);
            let frame = u128::from(track.header.samples()) * u128::from(track.header.bitrate);
            return Ok(u64::try_from(bits / frame.max(1)).unwrap_or(u64::MAX));
        }
    }
    let mut count = 0;
    let mut position = track.first;
    loop {
        match reader.next(position, track.end, Some(&track.header)) {
            Ok(Some(found)) => {
                count += 1;
                position = found.end();
            }
            // What is before can be played.
            Ok(None) | Err(FileError::Invalid { .. }) => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}

fn is_constant(reader: &mut Reader<'_>, track: &Track) -> Result<bool, FileError> {
    for sample in 0..SAMPLES {
        let mut position = track.first + (track.end - track.first) / SAMPLES * sample;
        // Some in a row: encoders change the rate from one frame to the next.
        for _ in 0..SAMPLES {
            let found = match reader.next(position, track.end, Some(&track.header)) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(FileError::Invalid { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            if found.header.bitrate != track.header.bitrate {
                return Ok(false);
            }
            position = found.end();
        }
    }
    Ok(true)
}
