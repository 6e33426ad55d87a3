//! The stamp in a synthetic frame.

use std::ops::Range;

/// Tells our stamps from other user data, as H.264 asks of unregistered user data (annex D.1.7). Random, with no zero byte.
const UUID: [u8; 16] = [
    0x9d, 0x41, 0xe6, 0x7b, 0x2c, 0xf3, 0x4a, 0x58, 0xb1, 0x6e, 0x93, 0x27, 0xd8, 0x5f, 0xc4, 0x72,
];

/// Bytes of a stamp with its UUID: four bits of the two numbers in each byte.
pub(super) const STAMP_SIZE: usize = 16 + 32;

/// A stamp starts within so many bytes of a payload, even if a relay has put other NAL units before it.
const SEARCH: usize = 512;

/// Who a synthetic frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the frame among those of its kind, from 0.
    pub sequence: u64,
    /// When it was sent, in nanoseconds of whatever clock the sender uses.
    pub sent_at: u64,
}

/// The stamp of a synthetic audio or video payload, `None` if it has none.
#[must_use]
pub fn read_stamp(payload: &[u8]) -> Option<Stamp> {
    let numbers = payload.get(find(payload)?)?;
    let (sequence, sent_at) = numbers.split_first_chunk::<16>()?;
    Some(Stamp {
        sequence: number(sequence)?,
        sent_at: number(sent_at)?,
    })
}

/// Writes another stamp over that of a synthetic payload; false, and nothing changed, if it has none.
#[must_use]
pub fn write_stamp(payload: &mut [u8], stamp: Stamp) -> bool {
    let Some(place) = find(payload).and_then(|range| payload.get_mut(range)) else {
        return false;
    };
    place.copy_from_slice(&digits(stamp));
    true
}

/// UUID and numbers. No byte is below 4, so that no NAL unit needs emulation prevention because of them, and a stamp can
/// be written over another.
pub(super) fn encode(stamp: Stamp) -> [u8; STAMP_SIZE] {
    let mut out = [0; STAMP_SIZE];
    let (uuid, numbers) = out.split_at_mut(UUID.len());
    uuid.copy_from_slice(&UUID);
    numbers.copy_from_slice(&digits(stamp));
    out
}

fn digits(stamp: Stamp) -> [u8; 32] {
    let both = u128::from(stamp.sequence) << 64 | u128::from(stamp.sent_at);
    std::array::from_fn(|at| 0x40 | (both >> (4 * (31 - at)) & 0xf) as u8)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        (digit & 0xf0 == 0x40).then_some(number << 4 | u64::from(digit & 0xf))
    })
}

/// Where the numbers stand.
fn find(payload: &[u8]) -> Option<Range<usize>> {
    let start = payload
        .windows(UUID.len())
        .take(SEARCH)
        .position(|window| window == UUID)?
        + UUID.len();
    let end = start + STAMP_SIZE - UUID.len();
    (end <= payload.len()).then_some(start..end)
}
