//! The keys of a session, and its nonces: RFC 7425 sections 4.6.3 to 4.6.5.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::cipher;
use super::diffie_hellman::SharedSecret;
use super::mac::{LENGTH, Mac};
use super::negotiation::Agreement;
use super::packet::{Opener, Sealer};

/// What is derived from a shared secret and the two components. What one end sends with the other receives with.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SessionKeys {
    /// For packets that are sent; the first 16 bytes are the key of the cipher.
    pub encrypt: [u8; LENGTH],
    /// The same for packets that are received.
    pub decrypt: [u8; LENGTH],
    /// For the MAC of packets that are sent.
    pub mac_out: [u8; LENGTH],
    /// The same for packets that are received.
    pub mac_in: [u8; LENGTH],
    /// Known to both ends and nobody else: for challenges of applications.
    pub near_nonce: [u8; LENGTH],
    /// The far end's near nonce.
    pub far_nonce: [u8; LENGTH],
}

impl SessionKeys {
    /// Derives them. `near` and `far` are the components as they were sent and received.
    #[must_use]
    pub fn derive(secret: &SharedSecret, near: &[u8], far: &[u8]) -> Self {
        let secret = Mac::new(secret.as_bytes());
        let encrypt = secret.over(&[&Mac::new(far).over(&[near])]);
        let decrypt = secret.over(&[&Mac::new(near).over(&[far])]);
        Self {
            mac_out: secret.over(&[&encrypt]),
            mac_in: secret.over(&[&decrypt]),
            encrypt,
            decrypt,
            near_nonce: secret.over(&[near]),
            far_nonce: secret.over(&[far]),
        }
    }

    /// What encrypts packets of the session.
    #[must_use]
    pub fn sealer(&self, agreement: Agreement) -> Sealer {
        let mac = agreement
            .mac_out
            .map(|length| (Mac::new(&self.mac_out), length));
        Sealer::new(&cipher_key(&self.encrypt), mac, agreement.sequence_out)
    }

    /// What decrypts packets of the session.
    #[must_use]
    pub fn opener(&self, agreement: Agreement) -> Opener {
        let mac = agreement
            .mac_in
            .map(|length| (Mac::new(&self.mac_in), length));
        Opener::new(&cipher_key(&self.decrypt), mac, agreement.sequence_in)
    }
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKeys")
    }
}

fn cipher_key(key: &[u8; LENGTH]) -> [u8; cipher::KEY] {
    std::array::from_fn(|at| key.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{SECRET, hex, initiator_component, responder_component};

    #[test]
    fn the_keys_of_the_test_vector_are_right() {
        let secret = SharedSecret::new(SECRET);
        let (near, far) = (initiator_component(), responder_component());
        let keys = SessionKeys::derive(&secret, &near, &far);
        let expected = [
            (
                "13f09b58bfe56fa948ddd9100059d3eab8799406a34a262cf653f1048aaa1167",
                keys.encrypt,
            ),
            (
                "ea2d32b8ac0e63cb52be737fa7091ba781519ae854531f94fb8e03b73a06a3a9",
                keys.decrypt,
            ),
            (
                "4a5139abb9ee40759e8b31110fb6dc80b9b54f39e7300181c4bc457eea410353",
                keys.mac_out,
            ),
            (
                "6949c316c33e9dd40a5b3fad5c1c7c849daf9bf41b8c12603d8f1d3d020c0167",
                keys.mac_in,
            ),
            (
                "b3325b8d83688b63a3f5807c83dc494542c0b63a522dd710f4250a8cd859be5b",
                keys.near_nonce,
            ),
            (
                "5c7089942a55b399425851271d2bde811b2a0b96f1edec09c35a59798291ba59",
                keys.far_nonce,
            ),
        ];
        for (digits, key) in expected {
            assert_eq!(key[..], hex(digits));
        }
        let other = SessionKeys::derive(&secret, &far, &near);
        assert_eq!((other.encrypt, other.decrypt), (keys.decrypt, keys.encrypt));
        assert_eq!((other.mac_out, other.mac_in), (keys.mac_in, keys.mac_out));
        assert_eq!(other.near_nonce, keys.far_nonce);
        // A secret with leading zeros is the same integer.
        let padded = SharedSecret::new(&[&[0, 0], SECRET].concat());
        assert!(SessionKeys::derive(&padded, &near, &far) == keys);
    }
}
