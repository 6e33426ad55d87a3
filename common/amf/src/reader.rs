//! A cursor over the input. Every read says what it expected, so that errors can.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::text::AmfString;

/// Invariant: `position <= input.len()`.
#[derive(Debug)]
pub(crate) struct Reader {
    input: Bytes,
    position: usize,
}

impl Reader {
    pub(crate) fn new(input: Bytes) -> Self {
        Self { input, position: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.input.len() - self.position
    }

    /// Moves to a place that was read before; gives the place it came from.
    pub(crate) fn seek(&mut self, position: usize) -> usize {
        std::mem::replace(&mut self.position, position.min(self.input.len()))
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.input.get(self.position).copied()
    }

    /// The byte at a place that was read before.
    pub(crate) fn byte_at(&self, position: usize) -> Option<u8> {
        self.input.get(position).copied()
    }

    /// Fails unless `count` things of at least `size` bytes each can still follow. Called before anything is allocated for them.
    pub(crate) fn expect_room(
        &self,
        count: usize,
        size: usize,
        expected: &'static str,
    ) -> Result<(), DecodeError> {
        let needed = (count as u64).saturating_mul(size as u64);
        let left = self.remaining() as u64;
        if needed > left {
            return Err(DecodeError::UnexpectedEnd {
                offset: self.position,
                expected,
                missing: needed - left,
            });
        }
        Ok(())
    }

    pub(crate) fn take(
        &mut self,
        length: usize,
        expected: &'static str,
    ) -> Result<Bytes, DecodeError> {
        self.expect_room(length, 1, expected)?;
        let start = self.position;
        self.position += length;
        Ok(self.input.slice(start..self.position))
    }

    pub(crate) fn text(
        &mut self,
        length: usize,
        expected: &'static str,
    ) -> Result<AmfString, DecodeError> {
        self.take(length, expected).map(AmfString::from_bytes)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        expected: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        self.expect_room(N, 1, expected)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.input[self.position..self.position + N]);
        self.position += N;
        Ok(bytes)
    }

    pub(crate) fn u8(&mut self, expected: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(expected).map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self, expected: &'static str) -> Result<u16, DecodeError> {
        self.array(expected).map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self, expected: &'static str) -> Result<i16, DecodeError> {
        self.array(expected).map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, expected: &'static str) -> Result<u32, DecodeError> {
        self.array(expected).map(u32::from_be_bytes)
    }

    pub(crate) fn f64(&mut self, expected: &'static str) -> Result<f64, DecodeError> {
        self.array(expected).map(f64::from_be_bytes)
    }

    /// A variable-length integer of at most 29 bits (AMF3, 1.3.1).
    pub(crate) fn u29(&mut self, expected: &'static str) -> Result<u32, DecodeError> {
        let mut value = 0_u32;
        for _ in 0..3 {
            let byte = self.u8(expected)?;
            value = value << 7 | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Ok(value << 8 | u32::from(self.u8(expected)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_integers() {
        let table: &[(&[u8], u32)] = &[
            (&[0x00], 0),
            (&[0x7f], 0x7f),
            (&[0x81, 0x00], 0x80),
            (&[0xff, 0x7f], 0x3fff),
            (&[0x81, 0x80, 0x00], 0x4000),
            (&[0xff, 0xff, 0x7f], 0x1f_ffff),
            (&[0x80, 0xc0, 0x80, 0x00], 0x20_0000),
            (&[0xff, 0xff, 0xff, 0xff], 0x1fff_ffff),
            (&[0x80, 0x80, 0x80, 0x05], 5),
        ];
        for (bytes, value) in table {
            let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
            assert_eq!(reader.u29("an integer"), Ok(*value));
            assert_eq!(reader.remaining(), 0);
            for cut in 0..bytes.len() {
                assert!(
                    Reader::new(Bytes::copy_from_slice(&bytes[..cut]))
                        .u29("an integer")
                        .is_err()
                );
            }
        }
    }

    #[test]
    fn a_count_past_the_end_says_how_much_is_missing() {
        let mut reader = Reader::new(Bytes::from_static(&[1, 2, 3]));
        reader.u8("a byte").unwrap();
        let error = reader.expect_room(1 << 29, 8, "the elements").unwrap_err();
        assert_eq!(
            error,
            DecodeError::UnexpectedEnd {
                offset: 1,
                expected: "the elements",
                missing: (1 << 32) - 2
            }
        );
        assert!(reader.expect_room(usize::MAX, 8, "the elements").is_err());
    }
}
