//! HMAC-SHA256: RFC 2104, truncated to what a sender announced as RFC 7425 section 4.7.3.2 says.

use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes of a whole one.
pub const LENGTH: usize = 32;

/// The fewest bytes that a MAC of packets may have (RFC 7425 section 4.5.2.4).
pub const SHORTEST: usize = 4;

/// A key that is prepared once.
#[derive(Clone)]
pub struct Mac(Hmac<Sha256>);

impl Mac {
    /// Prepares a key of any length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        // Keys of this MAC may have any length: a longer one is hashed. `new_from_slice` cannot fail for it.
        let prepared = Hmac::new_from_slice(key);
        Self(prepared.unwrap_or_else(|_| Hmac::new(&Default::default())))
    }

    /// The MAC over all `parts`, one behind the other.
    #[must_use]
    pub fn over(&self, parts: &[&[u8]]) -> [u8; LENGTH] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `mac` is what the MAC over `parts` begins with, found out in constant time. An empty one never is.
    #[must_use]
    pub fn verifies(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        let whole = self.over(parts);
        match whole.get(..mac.len()) {
            Some(expected) if !mac.is_empty() => expected.ct_eq(mac).into(),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mac")
    }
}

/// The MAC of `message` under a key that is used once.
#[must_use]
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; LENGTH] {
    Mac::new(key).over(&[message])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_those_of_the_specification() {
        // RFC 4231 test case 2.
        let expected = [
            0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95,
            0x75, 0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9,
            0x64, 0xec, 0x38, 0x43,
        ];
        assert_eq!(hmac(b"Jefe", b"what do ya want for nothing?"), expected);
        let mac = Mac::new(b"Jefe");
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        for length in 0..=LENGTH {
            let mut short = expected[..length].to_vec();
            assert_eq!(mac.verifies(&parts, &short), length > 0, "{length}");
            if let Some(last) = short.last_mut() {
                *last ^= 1;
                assert!(!mac.verifies(&parts, &short), "{length}");
            }
        }
        assert!(!mac.verifies(&parts, &[0; 33]), "longer than there is");
    }
}
