//! Acknowledgements, as a bitmap and as ranges: RFC 7016 sections 2.3.13 and 2.3.14.
//!
//! Neither is unpacked when it is read: [`Acknowledgement::ranges`] walks over the bytes, so that a chunk costs no memory, and no
//! more time than its bits.

use std::ops::RangeInclusive;

use super::field::{Fields, Malformed, put_variable, variable_length};

/// Type of a Data Acknowledgement Bitmap chunk.
pub const BITMAP: u8 = 0x50;

/// Type of a Data Acknowledgement Ranges chunk.
pub const RANGES: u8 = 0x51;

/// The unit in which a receiver states its free buffer, in bytes.
pub const BLOCK: usize = 1024;

/// What a receiver has of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The flow, which the receiver of the chunk sends.
    pub flow: u64,
    /// Free buffer, in units of [`BLOCK`] bytes.
    pub blocks: u64,
    /// Everything up to this sequence number has come, or need not come.
    pub cumulative: u64,
    /// How the rest is written.
    form: Form,
    /// The rest.
    detail: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Bitmap,
    Ranges,
}

impl<'a> Acknowledgement<'a> {
    /// Reads the payload of a chunk of type [`BITMAP`] or [`RANGES`].
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before the cumulative acknowledgement, or the type is another.
    pub fn read(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(body);
        let form = match kind {
            BITMAP => Form::Bitmap,
            RANGES => Form::Ranges,
            _ => return Err(fields.malformed("not an acknowledgement")),
        };
        Ok(Self {
            flow: fields.variable()?,
            blocks: fields.variable()?,
            cumulative: fields.variable()?,
            form,
            detail: fields.rest(),
        })
    }

    /// Sequence numbers above the cumulative one that have come: ascending, apart from one another. Ends where the bytes end or make no
    /// sense any more; what was before that holds.
    #[must_use]
    pub fn ranges(&self) -> Ranges<'a> {
        match self.form {
            Form::Bitmap => Ranges::Bitmap {
                bits: self.detail,
                // The number behind the cumulative one is missing, and has no bit.
                first: self.cumulative.checked_add(2),
                at: 0,
            },
            Form::Ranges => Ranges::Pairs {
                fields: Fields::new(self.detail),
                last: self.cumulative,
            },
        }
    }
}

/// See [`Acknowledgement::ranges`].
#[derive(Clone, Copy, Debug)]
pub enum Ranges<'a> {
    /// A bit for each sequence number.
    #[doc(hidden)]
    Bitmap {
        bits: &'a [u8],
        first: Option<u64>,
        at: usize,
    },
    /// Numbers of missing and of present ones in turn.
    #[doc(hidden)]
    Pairs { fields: Fields<'a>, last: u64 },
}

/// The first bit from `at` on that is as `wanted`.
fn find(bits: &[u8], mut at: usize, wanted: bool) -> Option<usize> {
    loop {
        let byte = *bits.get(at / 8)?;
        let byte = if wanted { byte } else { !byte };
        let rest = byte >> (at % 8);
        if rest != 0 {
            return Some(at + rest.trailing_zeros() as usize);
        }
        at = (at / 8 + 1) * 8;
    }
}

impl Iterator for Ranges<'_> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Bitmap { bits, first, at } => {
                let start = find(bits, *at, true)?;
                let end = find(bits, start, false).unwrap_or(bits.len() * 8);
                *at = end;
                let first = (*first)?;
                let start = first.checked_add(start as u64)?;
                let end = first.checked_add(end as u64 - 1)?;
                Some(start..=end)
            }
            Self::Pairs { fields, last } => {
                let missing = fields.variable().ok()?;
                let present = fields.variable().ok()?;
                let start = last.checked_add(missing)?.checked_add(2)?;
                let end = start.checked_add(present)?;
                *last = end;
                Some(start..=end)
            }
        }
    }
}

/// Writes the payload of an acknowledgement in at most `space` bytes, in the shorter form, and returns the type of its chunk. `ranges`
/// are those above `cumulative`, ascending and apart from one another; those that find no room are left out.
///
/// `None`, and nothing is written, where not even the cumulative acknowledgement fits.
pub fn put(
    flow: u64,
    blocks: u64,
    cumulative: u64,
    ranges: impl Iterator<Item = (u64, u64)>,
    space: usize,
    out: &mut Vec<u8>,
) -> Option<u8> {
    let header = variable_length(flow) + variable_length(blocks) + variable_length(cumulative);
    let space = space.checked_sub(header)?;
    put_variable(flow, out);
    put_variable(blocks, out);
    put_variable(cumulative, out);
    let start = out.len();
    let mut bitmap: Option<Vec<u8>> = Some(Vec::new());
    let mut last = cumulative;
    for (first, end) in ranges {
        let (Some(missing), Some(present)) = (first.checked_sub(last + 2), end.checked_sub(first))
        else {
            debug_assert!(false, "ranges ascend and are apart from one another");
            break;
        };
        if out.len() - start + variable_length(missing) + variable_length(present) > space {
            break;
        }
        put_variable(missing, out);
        put_variable(present, out);
        last = end;
        // A bitmap that has become longer than the ranges may become the shorter one again: two bytes for a range, which is sixteen bits.
        bitmap = bitmap
            .and_then(|bits| with_bits(bits, first - cumulative - 2, end - cumulative - 2, space));
    }
    match bitmap {
        Some(bits) if bits.len() < out.len() - start => {
            out.truncate(start);
            out.extend_from_slice(&bits);
            Some(BITMAP)
        }
        _ => Some(RANGES),
    }
}

/// `bits` with those from `first` to `last` set; `None` where they would take more than `space` bytes.
fn with_bits(mut bits: Vec<u8>, first: u64, last: u64, space: usize) -> Option<Vec<u8>> {
    let length = usize::try_from(last / 8).ok()?.checked_add(1)?;
    if length > space {
        return None;
    }
    bits.resize(length, 0);
    for bit in first..=last {
        if let Some(byte) = bits.get_mut((bit / 8) as usize) {
            *byte |= 1 << (bit % 8);
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(kind: u8, body: &[u8]) -> (u64, u64, u64, Vec<(u64, u64)>) {
        let ack = Acknowledgement::read(kind, body).unwrap();
        let ranges = ack.ranges().map(|range| (*range.start(), *range.end()));
        (ack.flow, ack.blocks, ack.cumulative, ranges.collect())
    }

    #[test]
    fn the_examples_of_the_specification() {
        let bitmap = read(BITMAP, &[0x05, 0x7f, 0x10, 0x79, 0x06]);
        assert_eq!(
            bitmap,
            (5, 127, 16, vec![(18, 18), (21, 24), (27, 28)]),
            "figure 4"
        );
        let ranges = read(RANGES, &[0x05, 0x7f, 0x10, 0x00, 0x00, 0x01, 0x03]);
        assert_eq!(ranges, (5, 127, 16, vec![(18, 18), (21, 24)]), "figure 6");
        let mut out = Vec::new();
        let first = [(18, 18), (21, 24), (27, 28)].into_iter();
        assert_eq!(put(5, 127, 16, first, 100, &mut out), Some(BITMAP));
        assert_eq!(out, [0x05, 0x7f, 0x10, 0x79, 0x06]);
        out.clear();
        assert_eq!(put(5, 127, 16, [].into_iter(), 3, &mut out), Some(RANGES));
        assert_eq!(out, [0x05, 0x7f, 0x10]);
    }

    #[test]
    fn a_pair_that_is_cut_is_ignored_and_those_before_it_hold() {
        let whole = [0x05, 0x7f, 0x10, 0x00, 0x00, 0x01, 0x83, 0x01];
        for (length, count) in [(3, 0), (4, 0), (5, 1), (6, 1), (7, 1), (8, 2)] {
            let read = read(RANGES, &whole[..length]);
            assert_eq!(read.3.len(), count, "{length}");
        }
        for short in 0..3 {
            assert!(Acknowledgement::read(RANGES, &whole[..short]).is_err());
            assert!(Acknowledgement::read(BITMAP, &whole[..short]).is_err());
        }
        assert!(Acknowledgement::read(0x10, &whole).is_err());
    }

    #[test]
    fn numbers_end_where_the_integers_end() {
        let mut out = vec![1, 1];
        put_variable(u64::MAX - 3, &mut out);
        let header = out.len();
        out.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        assert_eq!(read(RANGES, &out).3, [(u64::MAX - 1, u64::MAX - 1)]);
        out.truncate(header);
        out.push(0b1001);
        assert_eq!(read(BITMAP, &out).3, [(u64::MAX - 1, u64::MAX - 1)]);
        assert_eq!(read(BITMAP, &out[..header]).3, []);
    }

    #[test]
    fn what_finds_no_room_is_left_out() {
        let many = (0..1000_u64).map(|number| (3 + number * 300, 5 + number * 300));
        let mut out = Vec::new();
        for space in [0, 2] {
            assert_eq!(put(5, 127, 1, many.clone(), space, &mut out), None);
            assert!(out.is_empty());
        }
        for space in 3..200 {
            out.clear();
            let kind = put(5, 127, 1, many.clone(), space, &mut out).unwrap();
            assert!(out.len() <= space, "{space}");
            let read = read(kind, &out).3;
            assert_eq!(read, many.clone().take(read.len()).collect::<Vec<_>>());
            assert!(read.len() + 2 >= (space - 3) / 3, "{space}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_is_the_shorter_form(
            cumulative in 0..1_000_000_000_000_u64,
            steps in proptest::collection::vec((0..40_u64, 0..40_u64), 0..60),
        ) {
            let mut last = cumulative;
            let mut ranges = Vec::new();
            for (missing, present) in steps {
                let first = last + 2 + missing;
                last = first + present;
                ranges.push((first, last));
            }
            let mut out = Vec::new();
            let kind = put(9, 64, cumulative, ranges.iter().copied(), 4_000, &mut out).unwrap();
            prop_assert_eq!(read(kind, &out), (9, 64, cumulative, ranges.clone()));
            let header = 2 + variable_length(cumulative);
            let bitmap = ranges.last().map_or(0, |last| (last.1 - cumulative - 2) as usize / 8 + 1);
            prop_assert_eq!(out.len() - header, bitmap.min(2 * ranges.len()));
        }

        #[test]
        fn any_bytes_are_ranges_that_ascend(kind in BITMAP..=RANGES, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(ack) = Acknowledgement::read(kind, &body) {
                let mut last = ack.cumulative;
                for range in ack.ranges() {
                    prop_assert!(*range.start() >= last + 2 && range.end() >= range.start());
                    last = *range.end();
                }
            }
        }
    }
}
