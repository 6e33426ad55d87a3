//! AES-128 in CBC mode with an initialization vector of zeros, without padding: RFC 7425 section 4.7.1.
//!
//! [`Encryption::apply`] and [`Decryption::apply`] are all that packets need of a provider. The key schedule is made once for a session.

use aes::cipher::array::Array;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use aes::{Aes128Dec, Aes128Enc};
use cbc::{Decryptor, Encryptor};

/// Bytes of a block: what is encrypted is a multiple of it.
pub const BLOCK: usize = 16;

/// Bytes of a key.
pub const KEY: usize = 16;

/// Encrypts packets of one session.
#[derive(Clone)]
pub struct Encryption(Aes128Enc);

/// Decrypts packets of one session.
#[derive(Clone)]
pub struct Decryption(Aes128Dec);

impl Encryption {
    /// Prepares a key.
    #[must_use]
    pub fn new(key: &[u8; KEY]) -> Self {
        Self(Aes128Enc::new(&Array(*key)))
    }

    /// Encrypts in place. What is left over from whole blocks stays as it is: callers pad.
    pub fn apply(&self, data: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(data);
        debug_assert!(rest.is_empty(), "packets are padded to whole blocks");
        Encryptor::inner_iv_init(&self.0, &Array([0; BLOCK])).encrypt_blocks(blocks);
    }
}

impl Decryption {
    /// Prepares a key.
    #[must_use]
    pub fn new(key: &[u8; KEY]) -> Self {
        Self(Aes128Dec::new(&Array(*key)))
    }

    /// Decrypts in place. What is left over from whole blocks stays as it is: callers look at the length.
    pub fn apply(&self, data: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(data);
        debug_assert!(rest.is_empty(), "the length is looked at before decrypting");
        Decryptor::inner_iv_init(&self.0, &Array([0; BLOCK])).decrypt_blocks(blocks);
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encryption")
    }
}

impl std::fmt::Debug for Decryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decryption")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_chained_from_zeros() {
        // FIPS 197 appendix C.1: with a vector of zeros the first block is that of plain AES.
        let key: [u8; 16] = std::array::from_fn(|at| at as u8);
        let plain: [u8; 16] = std::array::from_fn(|at| at as u8 * 0x11);
        let expected = [
            0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4,
            0xc5, 0x5a,
        ];
        let mut data = [plain, plain].concat();
        Encryption::new(&key).apply(&mut data);
        assert_eq!(data[..16], expected);
        assert_ne!(
            data[16..],
            expected,
            "the second block depends on the first"
        );
        Decryption::new(&key).apply(&mut data);
        assert_eq!(data, [plain, plain].concat());
    }
}
