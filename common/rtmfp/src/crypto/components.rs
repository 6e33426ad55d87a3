//! The two components that session keys are made of, SKIC and SKRC: RFC 7425 section 4.5.
//!
//! | initiator, responder | initiator's component | responder's component |
//! |---|---|---|
//! | ephemeral, ephemeral | its key, which chooses the group | its key in that group |
//! | ephemeral, static | its key | random bytes |
//! | static, ephemeral | the group, random bytes | its key in that group |
//! | static, static | the group, random bytes | random bytes |
//!
//! Keys are derived from the bytes as they travel: nothing is ever encoded again.
//!
//! The responder's component is written in the one order that librtmfp reads: MACs, packet numbers, then the key.

use rand_core::CryptoRng;

use super::diffie_hellman::{Group, SecretKey};
use super::negotiation::{Flags, MacFlags};
use crate::wire::field::{put_option, put_variable};
use crate::wire::{Field, Fields, Malformed};

const EPHEMERAL_KEY: u64 = 0x0d;
const EXTRA_RANDOMNESS: u64 = 0x0e;
const MAC_NEGOTIATION: u64 = 0x1a;
const GROUP_SELECT: u64 = 0x1d;
const SEQUENCE_NEGOTIATION: u64 = 0x1e;

/// Random bytes where no key is made for the session: the most that is allowed, as librtmfp does.
const RANDOM: usize = 64;

/// A component that was read. What is not said is absent, or all flags clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components<'a> {
    /// The sender's key for this session: the number of its group, and its bytes.
    pub ephemeral_key: Option<(u64, &'a [u8])>,
    /// The number of the group that an initiator with static keys chose.
    pub group: Option<u64>,
    /// What the sender says of MACs.
    pub mac: MacFlags,
    /// What the sender says of packet numbers.
    pub sequence: Flags,
}

impl<'a> Components<'a> {
    /// Reads one. Unknown options mean nothing.
    ///
    /// # Errors
    /// [`Malformed`] for one that ends within an option, or says something twice.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let (mut ephemeral_key, mut group, mut mac, mut sequence) = (None, None, None, None);
        while !fields.is_empty() {
            let start = fields;
            let Field::Option { kind, value } = fields.option()? else {
                continue;
            };
            let mut value = Fields::new(value);
            let twice = match kind {
                EPHEMERAL_KEY => {
                    let key = (value.variable()?, value.rest());
                    ephemeral_key.replace(key).is_some()
                }
                GROUP_SELECT => group.replace(value.variable()?).is_some(),
                MAC_NEGOTIATION => {
                    let flags = Flags::from_byte(value.u8()?);
                    let length = value.variable()?;
                    mac.replace(MacFlags { flags, length }).is_some()
                }
                SEQUENCE_NEGOTIATION => sequence.replace(Flags::from_byte(value.u8()?)).is_some(),
                _ => false,
            };
            if twice {
                return Err(start.malformed("an option that is there already"));
            }
        }
        Ok(Self {
            ephemeral_key,
            group,
            mac: mac.unwrap_or_default(),
            sequence: sequence.unwrap_or_default(),
        })
    }
}

/// What an initiator sends that makes a key for the session.
#[must_use]
pub fn initiator_ephemeral(key: &SecretKey, mac: MacFlags, sequence: Flags) -> Vec<u8> {
    let mut out = Vec::new();
    put_key(key, &mut out);
    put_negotiation(mac, sequence, &mut out);
    out
}

/// What an initiator with a static key in a group sends.
#[must_use]
pub fn initiator_static(
    group: Group,
    mac: MacFlags,
    sequence: Flags,
    rng: &mut impl CryptoRng,
) -> Vec<u8> {
    let mut out = Vec::new();
    let mut value = Vec::new();
    put_variable(group.id(), &mut value);
    put_option(GROUP_SELECT, &value, &mut out);
    put_random(&mut out, rng);
    put_negotiation(mac, sequence, &mut out);
    out
}

/// What a responder sends that makes a key for the session.
#[must_use]
pub fn responder_ephemeral(key: &SecretKey, mac: MacFlags, sequence: Flags) -> Vec<u8> {
    let mut out = Vec::new();
    put_negotiation(mac, sequence, &mut out);
    put_key(key, &mut out);
    out
}

/// What a responder with static keys sends.
#[must_use]
pub fn responder_static(mac: MacFlags, sequence: Flags, rng: &mut impl CryptoRng) -> Vec<u8> {
    let mut out = Vec::new();
    put_negotiation(mac, sequence, &mut out);
    put_random(&mut out, rng);
    out
}

fn put_key(key: &SecretKey, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    put_variable(key.group().id(), &mut value);
    value.extend_from_slice(key.public());
    put_option(EPHEMERAL_KEY, &value, out);
}

fn put_random(out: &mut Vec<u8>, rng: &mut impl CryptoRng) {
    let mut random = [0; RANDOM];
    rng.fill_bytes(&mut random);
    put_option(EXTRA_RANDOMNESS, &random, out);
}

fn put_negotiation(mac: MacFlags, sequence: Flags, out: &mut Vec<u8>) {
    let mut value = vec![mac.flags.to_byte()];
    put_variable(mac.length, &mut value);
    put_option(MAC_NEGOTIATION, &value, out);
    put_option(SEQUENCE_NEGOTIATION, &[sequence.to_byte()], out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Seeded;
    use crate::vectors;

    fn offer(length: u64) -> (MacFlags, Flags) {
        let flags = Flags::from_byte(2);
        (MacFlags { flags, length }, flags)
    }

    #[test]
    fn components_of_peers_are_understood() {
        let component = vectors::initiator_component();
        let read = Components::read(&component).unwrap();
        let (mac, sequence) = offer(10);
        let expected = Components {
            ephemeral_key: Some((2, &[0x55; 128])),
            group: None,
            mac,
            sequence,
        };
        assert_eq!(read, expected);
        let component = vectors::responder_component();
        let read = Components::read(&component).unwrap();
        assert_eq!(read.ephemeral_key, Some((2, &[0xaa; 128][..])));
        assert_eq!((read.mac, read.sequence), Default::default());
        // rtmfp-cpp where it requires both, numbers first.
        let component = [
            &[0x02, 0x1e, 0x07, 0x03, 0x1a, 0x07, 0x10][..],
            &component[7..],
        ]
        .concat();
        let read = Components::read(&component).unwrap();
        assert_eq!((read.mac.length, read.mac.flags.to_byte()), (16, 7));
        assert_eq!(read.sequence.to_byte(), 7);
        assert_eq!(Components::read(&[]), Ok(Components::default()));
    }

    #[test]
    fn components_are_written_as_peers_expect_them() {
        let mut rng = Seeded::new(3);
        let key = SecretKey::generate(Group::Modp1024, &mut rng);
        let (mac, sequence) = offer(10);
        // librtmfp as initiator, byte for byte but for what is random.
        let component = initiator_static(Group::Modp1024, mac, sequence, &mut rng);
        assert_eq!(component[..5], [0x02, 0x1d, 0x02, 0x41, 0x0e]);
        assert_eq!(component[69..], [0x03, 0x1a, 0x02, 0x0a, 0x02, 0x1e, 0x02]);
        let read = Components::read(&component).unwrap();
        assert_eq!((read.group, read.ephemeral_key), (Some(2), None));
        // What librtmfp expects of a responder: this prefix, the key from byte 11 on, 138 bytes at least.
        let none = (MacFlags::default(), Flags::default());
        let component = responder_ephemeral(&key, none.0, none.1);
        assert_eq!(
            component[..11],
            [0x03, 0x1a, 0, 0, 0x02, 0x1e, 0, 0x81, 0x02, 0x0d, 0x02]
        );
        assert_eq!(&component[11..], key.public());
        // And of a peer with static keys: 73 bytes.
        let component = responder_static(none.0, none.1, &mut rng);
        assert_eq!(component.len(), 73);
        assert_eq!(
            component[..9],
            [0x03, 0x1a, 0, 0, 0x02, 0x1e, 0, 0x41, 0x0e]
        );
        let component = initiator_ephemeral(&key, mac, sequence);
        let read = Components::read(&component).unwrap();
        assert_eq!(read.ephemeral_key, Some((2, key.public())));
        assert_eq!((read.mac, read.sequence), (mac, sequence));
    }

    #[test]
    fn cut_and_repeated_components_are_refused() {
        let component = vectors::responder_component();
        let whole: Vec<_> = (0..component.len())
            .filter(|length| Components::read(&component[..*length]).is_ok())
            .collect();
        assert_eq!(whole, [0, 4, 7], "between its options");
        for option in [
            &[0x02, 0x0d, 0x02][..],
            &[0x02, 0x1d, 0x02],
            &[0x03, 0x1a, 0, 0],
            &[0x02, 0x1e, 0],
        ] {
            let twice = [option, option].concat();
            let error = Components::read(&twice).unwrap_err();
            assert_eq!(
                (error.what, error.at),
                ("an option that is there already", option.len())
            );
        }
        for short in [
            &[0x01, 0x0d][..],
            &[0x01, 0x1d],
            &[0x02, 0x1a, 0],
            &[0x01, 0x1e],
        ] {
            assert!(Components::read(short).is_err(), "{short:?}");
        }
        assert!(Components::read(&[0, 0x02, 0x77, 1, 0]).is_ok());
    }
}
