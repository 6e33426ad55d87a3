//! Diffie-Hellman key agreement in the groups of RFC 2409 and RFC 3526 that RFC 7425 section 4.2 names.
//!
//! All powers are computed in constant time. Secret exponents are shorter than the group: the primes are safe (both p and (p - 1) / 2 are
//! prime), so that an exponent of 256 bits resists 2^128 steps, far more than the groups themselves.

use crypto_bigint::modular::{ConstMontyForm, ConstMontyParams};
use crypto_bigint::{U256, Uint};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of a secret exponent: 128 bits of strength, where group 14 has some 112.
const EXPONENT: usize = 32;

/// How often a key pair is made anew where its public key begins with a zero, which one of 256 does.
const ATTEMPTS: usize = 8;

/// The most bytes of a public key, leading zeros included: twice the longest there is.
const LONGEST_KEY: usize = 512;

/// Public keys are that far from 0 and from the prime (RFC 7425 section 4.6.2).
const MARGIN: u32 = 1 << 24;

/// The fewest ones, and the fewest zeros, in a public key (the same).
const FEWEST_BITS: u32 = 16;

mod prime {
    #![allow(unreachable_pub, reason = "the macro makes them so")]

    use crypto_bigint::{U1024, U1536, U2048, const_monty_params};

    const_monty_params!(
        Modp1024,
        U1024,
        concat!(
            "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
            "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
            "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
            "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
        ),
        "The prime of the second Oakley group: RFC 2409 section 6.2."
    );

    const_monty_params!(
        Modp1536,
        U1536,
        concat!(
            "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
            "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
            "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
            "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05",
            "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB",
            "9ED529077096966D670C354E4ABC9804F1746C08CA237327FFFFFFFFFFFFFFFF",
        ),
        "The 1536-bit prime: RFC 3526 section 2."
    );

    const_monty_params!(
        Modp2048,
        U2048,
        concat!(
            "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74",
            "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437",
            "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED",
            "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05",
            "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB",
            "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B",
            "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718",
            "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
        ),
        "The 2048-bit prime: RFC 3526 section 3."
    );
}

/// A group that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Group 2, of 1024 bits: the one that every peer has.
    Modp1024,
    /// Group 5, of 1536 bits.
    Modp1536,
    /// Group 14, of 2048 bits.
    Modp2048,
}

impl Group {
    /// All of them, the strongest first.
    pub const ALL: [Self; 3] = [Self::Modp2048, Self::Modp1536, Self::Modp1024];

    /// The group of a number.
    #[must_use]
    pub fn from_id(id: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.id() == id)
    }

    /// Its number.
    #[must_use]
    pub fn id(self) -> u64 {
        match self {
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
        }
    }

    /// Bytes of its public keys.
    #[must_use]
    pub fn key_length(self) -> usize {
        match self {
            Self::Modp1024 => 128,
            Self::Modp1536 => 192,
            Self::Modp2048 => 256,
        }
    }

    /// `base` to the power of `exponent`, or 2 without one.
    fn power(self, base: Option<&PublicKey>, exponent: &[u8; EXPONENT]) -> Zeroizing<Vec<u8>> {
        let base = base.map(|key| key.integer.as_slice());
        match self {
            Self::Modp1024 => power::<prime::Modp1024, _>(base, exponent),
            Self::Modp1536 => power::<prime::Modp1536, _>(base, exponent),
            Self::Modp2048 => power::<prime::Modp2048, _>(base, exponent),
        }
    }

    /// Whether an integer of [`key_length`](Self::key_length) bytes is far enough from 0 and from the prime.
    fn has(self, integer: &[u8]) -> bool {
        match self {
            Self::Modp1024 => is_inside::<prime::Modp1024, _>(integer),
            Self::Modp1536 => is_inside::<prime::Modp1536, _>(integer),
            Self::Modp2048 => is_inside::<prime::Modp2048, _>(integer),
        }
    }
}

/// `base` has the bytes of the group's integers: [`PublicKey`] sees to it.
fn power<M: ConstMontyParams<LIMBS>, const LIMBS: usize>(
    base: Option<&[u8]>,
    exponent: &[u8; EXPONENT],
) -> Zeroizing<Vec<u8>> {
    let base = base.map_or_else(|| Uint::from(2_u8), Uint::<LIMBS>::from_be_slice);
    let exponent = Zeroizing::new(U256::from_be_slice(exponent));
    let power = ConstMontyForm::<M, LIMBS>::new(&base).pow(&exponent);
    Zeroizing::new(
        Zeroizing::new(power.retrieve())
            .to_be_bytes()
            .as_ref()
            .to_vec(),
    )
}

fn is_inside<M: ConstMontyParams<LIMBS>, const LIMBS: usize>(integer: &[u8]) -> bool {
    let integer = Uint::<LIMBS>::from_be_slice(integer);
    let margin = Uint::from(MARGIN);
    let prime: &Uint<LIMBS> = M::PARAMS.modulus().as_ref();
    integer >= margin && integer <= prime.wrapping_sub(&margin)
}

/// Why a public key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It is longer than the prime.
    #[error("a public key of {length} bytes")]
    Length {
        /// Bytes of it, leading zeros included.
        length: usize,
    },
    /// It is too near to zero or to the prime, where powers can be guessed.
    #[error("a public key at the edge of its group")]
    Edge,
    /// It has too few ones or too few zeros.
    #[error("a public key of hardly any pattern")]
    Pattern,
}

/// A public key that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    group: Group,
    /// Big endian, with the length of the group's keys.
    integer: Vec<u8>,
}

impl PublicKey {
    /// Looks at a public key, big endian, with as many leading zeros as its sender likes.
    ///
    /// # Errors
    /// [`BadKey`] for one that RFC 7425 section 4.6.2 forbids.
    pub fn new(group: Group, bytes: &[u8]) -> Result<Self, BadKey> {
        let length = bytes.len();
        let significant = without_zeros(bytes);
        let zeros = group.key_length().checked_sub(significant.len());
        let Some(zeros) = zeros.filter(|_| length <= LONGEST_KEY) else {
            return Err(BadKey::Length { length });
        };
        let mut integer = vec![0; zeros];
        integer.extend_from_slice(significant);
        if !group.has(&integer) {
            return Err(BadKey::Edge);
        }
        let ones: u32 = significant.iter().map(|byte| byte.count_ones()).sum();
        let leading = significant.first().map_or(0, |byte| byte.leading_zeros());
        let bits = 8 * significant.len() as u32 - leading;
        if ones < FEWEST_BITS || bits - ones < FEWEST_BITS {
            return Err(BadKey::Pattern);
        }
        Ok(Self { group, integer })
    }

    /// Its group.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group
    }
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// A secret exponent, and the public key that belongs to it.
#[derive(Clone)]
pub struct SecretKey {
    group: Group,
    exponent: Zeroizing<[u8; EXPONENT]>,
    public: Vec<u8>,
}

impl SecretKey {
    /// Makes a key pair: one power, and now and then a second one, for a public key that begins with a zero: some peers count bytes.
    #[must_use]
    pub fn generate(group: Group, rng: &mut impl CryptoRng) -> Self {
        let mut key = Self::from_exponent(group, random_exponent(rng));
        for _ in 1..ATTEMPTS {
            let starts = key.public.first().is_some_and(|first| *first != 0);
            if starts && PublicKey::new(group, &key.public).is_ok() {
                break;
            }
            key = Self::from_exponent(group, random_exponent(rng));
        }
        key
    }

    fn from_exponent(group: Group, exponent: Zeroizing<[u8; EXPONENT]>) -> Self {
        let public = group.power(None, &exponent).to_vec();
        Self {
            group,
            exponent,
            public,
        }
    }

    /// Its group.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group
    }

    /// The public key: [`Group::key_length`] bytes.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// What only who has one of the two secret keys can know: one power. None for a key of another group.
    #[must_use]
    pub fn agree(&self, far: &PublicKey) -> Option<SharedSecret> {
        let secret = || SharedSecret::new(&self.group.power(Some(far), &self.exponent));
        (far.group == self.group).then(secret)
    }
}

fn random_exponent(rng: &mut impl CryptoRng) -> Zeroizing<[u8; EXPONENT]> {
    let mut exponent = Zeroizing::new([0; EXPONENT]);
    rng.fill_bytes(exponent.as_mut());
    // Its length is known, and no generator makes it zero.
    exponent[0] |= 0x80;
    exponent
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretKey")
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// DH_SECRET: the shared integer, big endian, without leading zeros, as section 4.6.2 demands. How many there were can be told from the
/// time that a hash of it takes, by design of the protocol; ephemeral keys make nothing of it.
#[derive(Clone)]
pub struct SharedSecret(Zeroizing<Vec<u8>>);

impl SharedSecret {
    /// The secret of an integer.
    #[must_use]
    pub fn new(integer: &[u8]) -> Self {
        Self(Zeroizing::new(without_zeros(integer).to_vec()))
    }

    /// Its bytes: the key of what is derived.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SharedSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SharedSecret {}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret")
    }
}

#[cfg(test)]
mod tests;
