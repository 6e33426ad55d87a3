//! Silence in AAC-LC (ISO/IEC 14496-3, subpart 4), brought to any size by fill elements.

use bytes::{BufMut, Bytes, BytesMut};

use super::bits::BitWriter;
use super::stamp::{self, STAMP_SIZE, Stamp};

/// Samples of a frame.
pub(super) const FRAME_SAMPLES: u64 = 1024;

/// Bytes of an audio tag's body before the AAC frame.
const TAG_BYTES: usize = 2;

/// Most bytes of a frame for each channel (section 4.5.3.1: 6,144 bits).
const MAX_CHANNEL_BYTES: usize = 768;

/// By `samplingFrequencyIndex`, in Hz.
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

/// Most bytes of a fill element: a count of 15 and an escape of 255, less 1.
const MAX_FILL: usize = 15 + 255 - 1;

pub(super) fn rate_index(sample_rate: u32) -> Option<u32> {
    let index = SAMPLE_RATES.iter().position(|rate| *rate == sample_rate)?;
    u32::try_from(index).ok()
}

/// The body of an audio tag with the AudioSpecificConfig.
pub(super) fn sequence_header(rate_index: u32, stereo: bool) -> Bytes {
    let mut bits = BitWriter::default();
    bits.bits(5, 2) // AAC-LC
        .bits(4, rate_index)
        .bits(4, if stereo { 2 } else { 1 })
        .bits(3, 0); // 1024 samples, no core coder, no extension
    [&[0xaf, 0][..], &bits.into_bytes()].concat().into()
}

/// The body of an audio tag of `size` bytes, or as few more as it takes.
pub(super) fn frame(stereo: bool, size: usize, stamp: Stamp) -> BytesMut {
    let most = MAX_CHANNEL_BYTES * if stereo { 2 } else { 1 };
    let size = size.min(most + TAG_BYTES);
    let mut out = BytesMut::with_capacity(size.max(STAMP_SIZE + 32));
    // Format, packet type; then a data stream element whose header happens to fill two bytes: the stamp stands on whole ones.
    out.put_slice(&[0xaf, 1, 0b1000_0001, STAMP_SIZE as u8]);
    out.put_slice(&stamp::encode(stamp));

    let mut bits = BitWriter::default();
    if stereo {
        bits.bits(3, 1).bits(4, 0); // channel pair element
        bits.bits(1, 1); // common_window
        silent_window(&mut bits);
        bits.bits(2, 0); // ms_mask_present
        for _ in 0..2 {
            bits.bits(8, 0).bits(3, 0); // global_gain; no pulses, noise shaping, gain control
        }
    } else {
        bits.bits(3, 0).bits(4, 0); // single channel element
        bits.bits(8, 0); // global_gain
        silent_window(&mut bits);
        bits.bits(3, 0);
    }
    // 5 bytes so far, or 3 and a part; one more ends the frame.
    let mut missing = size.saturating_sub(out.len() + if stereo { 6 } else { 4 });
    while missing >= 2 {
        // The header of a long element takes 2 bytes less a bit.
        let count = missing.saturating_sub(2).min(MAX_FILL);
        fill(&mut bits, count);
        missing = missing.saturating_sub(count + 2);
    }
    bits.bits(3, 7); // end
    out.put_slice(&bits.into_bytes());
    out
}

/// `ics_info` of one long window without any scale factor band.
fn silent_window(bits: &mut BitWriter) {
    bits.bits(1, 0) // reserved
        .bits(2, 0) // only long
        .bits(1, 0) // sine
        .bits(6, 0) // max_sfb
        .bits(1, 0); // no prediction
}

fn fill(bits: &mut BitWriter, count: usize) {
    bits.bits(3, 6);
    match u32::try_from(count) {
        Ok(count @ 0..15) => bits.bits(4, count),
        Ok(count) => bits.bits(4, 15).bits(8, count - 14),
        Err(_) => bits.bits(4, 0),
    };
    bits.zero_bytes(count);
}
