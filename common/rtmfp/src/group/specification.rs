//! The specification of a group (groupspec): the text that members share, and that the group's id is made of.
//!
//! `G:` and hexadecimal digits of options, each a length, a kind and a value, up to an empty one. What follows that one authorises its
//! holder to publish or to post, is not part of what the id is made of, and is left alone here: how it is shown to other members is not known.
//! Of the options two are understood, the version and the name; the others say what members may do with the group, and which says what was
//! not learnt.

use sha2::{Digest as _, Sha256};

use super::GroupId;
use crate::crypto::mac;
use crate::wire::{Field, Fields};

/// Characters of the longest text that is taken: that of Flash Player has a few hundred.
const LONGEST: usize = 4_096;

/// Characters of the longest name that is kept.
const LONGEST_NAME: usize = 256;

const PREFIX: &str = "G:";

const VERSION: u64 = 0x7f;
const NAME: u64 = 0x0e;

/// The first version whose ids are hashed twice.
const HASHED_TWICE: u64 = 2;

/// Why a text specifies no group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSpecification {
    /// It does not begin as one.
    #[error("it does not begin with \"G:\"")]
    Prefix,
    /// It is longer than any that a client makes.
    #[error("it is longer than {LONGEST} characters")]
    TooLong,
    /// Something that is no hexadecimal digit, or half a byte.
    #[error("no two hexadecimal digits at character {0}")]
    Digits(usize),
    /// The options end before their end is said.
    #[error("its options have no end")]
    Options,
    /// There is nothing in it.
    #[error("it says nothing")]
    Empty,
}

/// A group's specification, up to its end. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Specification {
    text: Box<str>,
    id: GroupId,
    version: u64,
    name: Option<Box<str>>,
}

impl Specification {
    /// Reads one, with authorisations behind it or without.
    ///
    /// # Errors
    /// [`BadSpecification`].
    pub fn parse(text: &str) -> Result<Self, BadSpecification> {
        let digits = text.strip_prefix(PREFIX).ok_or(BadSpecification::Prefix)?;
        if text.len() > LONGEST {
            return Err(BadSpecification::TooLong);
        }
        let bytes = decode(digits)?;
        let mut fields = Fields::new(&bytes);
        let (mut version, mut name) = (1, None);
        let end = loop {
            let end = fields.position();
            match fields.option().map_err(|_| BadSpecification::Options)? {
                Field::Marker => break end,
                Field::Option {
                    kind: VERSION,
                    value,
                } => {
                    let value = Fields::new(value).variable();
                    version = value.map_err(|_| BadSpecification::Options)?;
                }
                Field::Option { kind: NAME, value } => {
                    let value = String::from_utf8_lossy(value);
                    name = Some(value.chars().take(LONGEST_NAME).collect::<String>().into());
                }
                Field::Option { .. } => {}
            }
        };
        if end == 0 {
            return Err(BadSpecification::Empty);
        }
        // As it is written: digits of the other case are another group.
        let text = text.get(..PREFIX.len() + 2 * end).unwrap_or_default();
        let mut id: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        if version >= HASHED_TWICE {
            id = Sha256::digest(id).into();
        }
        Ok(Self {
            text: text.into(),
            id: GroupId(id),
            version,
            name,
        })
    }

    /// Which group it is.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Which version of specifications it is of; 1 where it does not say.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What it calls the group.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What shows to the end of a session with this nonce that one knows the specification.
    #[must_use]
    pub fn proof(&self, nonce: &[u8; 32]) -> [u8; 32] {
        mac::hmac(self.text.as_bytes(), nonce)
    }

    /// Whether that was shown. In constant time.
    #[must_use]
    pub fn verifies(&self, nonce: &[u8; 32], proof: &[u8; 32]) -> bool {
        mac::Mac::new(self.text.as_bytes()).verifies(&[nonce], proof)
    }
}

fn decode(digits: &str) -> Result<Vec<u8>, BadSpecification> {
    let pairs = digits.as_bytes().chunks(2).enumerate();
    let byte = |(at, pair): (usize, &[u8])| {
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        let value = match pair {
            [high, low] => digit(high).zip(digit(low)),
            _ => None,
        };
        // Of one digit each.
        let value = value.and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        value.ok_or(BadSpecification::Digits(PREFIX.len() + 2 * at))
    };
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a client made it.
    const TEST: &str = "G:027f0201010103010c050e74657374011b00";

    #[test]
    fn the_id_is_the_hash_of_what_is_before_the_end() {
        let specification = Specification::parse(TEST).unwrap();
        assert_eq!(
            (specification.version(), specification.name()),
            (2, Some("test"))
        );
        let once = Sha256::digest(&TEST.as_bytes()[..TEST.len() - 2]);
        let twice: [u8; 32] = Sha256::digest(once).into();
        assert_eq!(specification.id(), GroupId(twice));
        // Authorisations change nothing.
        let authorised = Specification::parse(&format!("{TEST}050304aabbcc"));
        assert_eq!(authorised.as_ref(), Ok(&specification));
        // Without a version it is hashed once.
        let old = "G:01010103010c050e7465737400";
        let once: [u8; 32] = Sha256::digest(&old.as_bytes()[..old.len() - 2]).into();
        let specification = Specification::parse(old).unwrap();
        assert_eq!(
            (specification.version(), specification.id()),
            (1, GroupId(once))
        );
    }

    #[test]
    fn every_cut_is_refused() {
        for length in 0..TEST.len() {
            assert!(Specification::parse(&TEST[..length]).is_err(), "{length}");
        }
        let cases = [
            ("", BadSpecification::Prefix),
            ("g:00", BadSpecification::Prefix),
            ("G:00", BadSpecification::Empty),
            ("G:", BadSpecification::Options),
            ("G:0101", BadSpecification::Options),
            ("G:01010x00", BadSpecification::Digits(6)),
            ("G:0101é", BadSpecification::Digits(6)),
            ("G:01010", BadSpecification::Digits(6)),
        ];
        for (text, error) in cases {
            assert_eq!(Specification::parse(text), Err(error), "{text}");
        }
        let long = format!("G:{}00", "0101".repeat(LONGEST / 4));
        assert_eq!(Specification::parse(&long), Err(BadSpecification::TooLong));
    }

    #[test]
    fn who_knows_the_text_can_show_it_to_the_holder_of_a_nonce() {
        let specification = Specification::parse(TEST).unwrap();
        let nonce = [7; 32];
        let proof = specification.proof(&nonce);
        assert_eq!(
            proof[..],
            mac::hmac(&TEST.as_bytes()[..TEST.len() - 2], &nonce)
        );
        assert!(specification.verifies(&nonce, &proof));
        assert!(!specification.verifies(&[8; 32], &proof));
        let other = Specification::parse(&TEST.replace("74657374", "74657375")).unwrap();
        assert!(!other.verifies(&nonce, &proof));
    }
}
