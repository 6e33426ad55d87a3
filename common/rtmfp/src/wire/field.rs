//! Integers and options: RFC 7016 sections 2.1.1 to 2.1.4.

use bytes::BufMut;

/// The most bytes of a variable-length integer: a value of 64 bits, and redundant leading zeros that some peers send.
const MAX_VARIABLE_LENGTH: usize = 10;

/// Why some bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the first byte of what is read.
    pub at: usize,
}

/// Reads fields one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    data: &'a [u8],
    at: usize,
}

/// One option (section 2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// An option of length 0: the end of a list.
    Marker,
    /// A type and its value.
    Option {
        /// What it says.
        kind: u64,
        /// Of which value.
        value: &'a [u8],
    },
}

impl<'a> Fields<'a> {
    /// Fields from the beginning of `data`.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`Malformed`] where there are not so many.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(length);
        let bytes = end.and_then(|end| self.data.get(self.at..end));
        let bytes = bytes.ok_or_else(|| self.malformed("too few bytes"))?;
        self.at += length;
        Ok(bytes)
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.data.get(self.at..).unwrap_or_default();
        self.at = self.data.len();
        rest
    }

    /// An integer of one byte.
    ///
    /// # Errors
    /// [`Malformed`] at the end of the bytes.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// An integer of two bytes.
    ///
    /// # Errors
    /// [`Malformed`] where there are not so many.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// An integer of four bytes.
    ///
    /// # Errors
    /// [`Malformed`] where there are not so many.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The next bytes as an array.
    ///
    /// # Errors
    /// [`Malformed`] where there are not so many.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// A variable-length integer (section 2.1.2): seven bits a byte, most significant first, bit 7 set on all but the last.
    ///
    /// # Errors
    /// [`Malformed`] for one that does not end, or does not fit into 64 bits.
    pub fn variable(&mut self) -> Result<u64, Malformed> {
        let start = *self;
        let mut value = 0_u64;
        for _ in 0..MAX_VARIABLE_LENGTH {
            let byte = self.u8()?;
            if value >> 57 != 0 {
                return Err(start.malformed("an integer of more than 64 bits"));
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(start.malformed("an integer of too many bytes"))
    }

    /// A variable-length integer, and as many bytes.
    ///
    /// # Errors
    /// [`Malformed`] where there are not so many.
    pub fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let start = *self;
        let length = usize::try_from(self.variable()?);
        self.bytes(length.map_err(|_| start.malformed("too few bytes"))?)
    }

    /// An option (section 2.1.3): a length, a type, a value.
    ///
    /// # Errors
    /// [`Malformed`] where the bytes end before it.
    pub fn option(&mut self) -> Result<Field<'a>, Malformed> {
        let mut body = Self::new(self.prefixed()?);
        if body.is_empty() {
            return Ok(Field::Marker);
        }
        let kind = body.variable().map_err(|error| Malformed {
            at: error.at + self.at - body.data.len(),
            ..error
        })?;
        let value = body.rest();
        Ok(Field::Option { kind, value })
    }

    /// An error at this place.
    #[must_use]
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }
}

/// Writes a variable-length integer, as short as it can be.
pub fn put_variable(value: u64, out: &mut impl BufMut) {
    for group in (1..variable_length(value)).rev() {
        out.put_u8((value >> (7 * group)) as u8 | 0x80);
    }
    out.put_u8((value & 0x7f) as u8);
}

/// Bytes that [`put_variable`] writes.
#[must_use]
pub fn variable_length(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Writes bytes behind their length.
pub fn put_prefixed(bytes: &[u8], out: &mut impl BufMut) {
    put_variable(bytes.len() as u64, out);
    out.put_slice(bytes);
}

/// Writes an option.
pub fn put_option(kind: u64, value: &[u8], out: &mut impl BufMut) {
    put_variable((variable_length(kind) + value.len()) as u64, out);
    put_variable(kind, out);
    out.put_slice(value);
}

/// Writes the end of a list of options.
pub fn put_marker(out: &mut impl BufMut) {
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_length_integers_have_seven_bits_a_byte() {
        let cases: [(u64, &[u8]); 7] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x81, 0]),
            (130, &[0x81, 0x02]),
            (2_000_001, &[0xfa, 0x89, 0x01]),
            (u64::from(u32::MAX), &[0x8f, 0xff, 0xff, 0xff, 0x7f]),
            (
                u64::MAX,
                &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            ),
        ];
        for (value, bytes) in cases {
            let mut out = Vec::new();
            put_variable(value, &mut out);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(variable_length(value), bytes.len(), "{value}");
            let mut fields = Fields::new(bytes);
            assert_eq!(fields.variable(), Ok(value));
            assert!(fields.is_empty());
            for short in 0..bytes.len() {
                assert!(Fields::new(&bytes[..short]).variable().is_err(), "{value}");
            }
        }
    }

    #[test]
    fn redundant_zeros_are_read_and_what_is_too_long_is_not() {
        assert_eq!(Fields::new(&[0x80, 0x80, 0x05]).variable(), Ok(5));
        let error = Fields::new(&[0x80; 11]).variable().unwrap_err();
        assert_eq!((error.at, error.what), (0, "an integer of too many bytes"));
        let mut beyond = [0xff; 10];
        beyond[9] = 0x7f;
        let error = Fields::new(&beyond).variable().unwrap_err();
        assert_eq!(error.what, "an integer of more than 64 bits");
    }

    #[test]
    fn options_are_read_back_and_end_with_their_bytes() {
        let mut out = Vec::new();
        put_option(0x0a, b"rtmfp://host/app", &mut out);
        put_option(300, &[], &mut out);
        put_marker(&mut out);
        let mut fields = Fields::new(&out);
        let uri = Field::Option {
            kind: 0x0a,
            value: b"rtmfp://host/app",
        };
        assert_eq!(fields.option(), Ok(uri));
        let empty = Field::Option {
            kind: 300,
            value: b"",
        };
        assert_eq!(fields.option(), Ok(empty));
        assert_eq!(fields.option(), Ok(Field::Marker));
        assert!(fields.is_empty());
        assert!(fields.option().is_err());
        // The type does not end within the option.
        let error = Fields::new(&[0x01, 0x80, 0x01]).option().unwrap_err();
        assert_eq!(error.at, 2);
        assert!(Fields::new(&[0x05, 0x0a, 0x01]).option().is_err());
    }
}
