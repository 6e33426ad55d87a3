//! The checksum of packets without a MAC: RFC 7425 section 4.7.3.1.
//!
//! It is the Internet checksum but for an odd length, where the last byte is the *low* half of a word here, and the high one in RFC 1071.
//! It finds packets that were decrypted with another key; it protects nothing.

/// Bytes of a checksum.
pub const LENGTH: usize = 2;

/// The checksum of `data`.
#[must_use]
pub fn checksum(data: &[u8]) -> u16 {
    let (words, rest) = data.as_chunks::<2>();
    // 65,535 bytes of datagram are half as many words: far from an overflow, and folded in any case.
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    let mut sum: u64 = words.chain(rest).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_summed_in_ones_complement() {
        let cases: [(&[u8], u16); 6] = [
            (&[], 0xffff),
            // RFC 1071 section 3: the sum of these is ddf2.
            (&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], !0xddf2),
            (&[0xff, 0xff, 0x00, 0x01], !0x0001),
            // The last byte of an odd length is a low one.
            (&[0x12], !0x0012),
            (&[0x12, 0x34, 0x56], !0x128a),
            (&[0xff, 0xff, 0x01], !0x0001),
        ];
        for (data, expected) in cases {
            assert_eq!(checksum(data), expected, "{data:02x?}");
        }
    }

    #[test]
    fn the_checksum_of_the_first_test_vector_is_right() {
        let mut packet = crate::vectors::HELLO_PACKET.to_vec();
        // Two bytes of checksum, and padding to whole blocks.
        let padding = (packet.len() + LENGTH).next_multiple_of(16) - LENGTH;
        packet.resize(padding, 0xff);
        assert_eq!(checksum(&packet), 0x5dea);
    }
}
