//! Certificates and fingerprints: RFC 7425 section 4.3.
//!
//! A certificate of the Flash profile names no one and is signed by no one: it is a list of options. The fingerprint of those up to the
//! first marker, the canonical section, is the peer id. Only a certificate with a static key proves that a peer id is its holder's.

use std::fmt;

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};

use super::diffie_hellman::{Group, PublicKey, SecretKey};
use crate::wire::field::{put_option, put_variable};
use crate::wire::{Field, Fields, Malformed};

const HOSTNAME: u64 = 0x00;
const ACCEPTS_ANCILLARY_DATA: u64 = 0x0a;
const EXTRA_RANDOMNESS: u64 = 0x0e;
const EPHEMERAL_GROUP: u64 = 0x15;
const STATIC_KEY: u64 = 0x1d;

/// Bytes of every server's certificate that librtmfp has met: it reads as many without looking.
const SERVER_LENGTH: usize = 77;

/// Random bytes in a certificate, at least: two of the same keys and options are still two.
const FEWEST_RANDOM: usize = 32;

/// SHA-256 of the canonical section of a certificate: the peer id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Where the keys of a certificate's holder come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The holder makes one for each session, in one of these groups. The holder's order.
    Ephemeral(Vec<Group>),
    /// The certificate has them, at most one in a group. Groups that are unknown here are left out, and so are keys that must not be used.
    Static(Vec<PublicKey>),
}

/// A certificate that was read.
#[derive(Clone, Debug)]
pub struct Certificate {
    bytes: Vec<u8>,
    canonical: usize,
    hostname: Option<Vec<u8>>,
    accepts_ancillary_data: bool,
    keys: KeySource,
    fingerprint: Fingerprint,
}

impl Certificate {
    /// Reads one. Unknown options are part of the fingerprint and mean nothing.
    ///
    /// # Errors
    /// [`Malformed`] for one that ends within an option, has two hostnames, two keys in a group, or both static and ephemeral keys.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let mut canonical = None;
        let mut hostname = None;
        let mut accepts_ancillary_data = false;
        let mut groups: Vec<Group> = Vec::new();
        let mut has_ephemeral = false;
        // Three known groups: neither list has more than three.
        let mut keys: Vec<(Group, PublicKey)> = Vec::new();
        let mut seen: Vec<Group> = Vec::new();
        let mut has_static = false;
        while !fields.is_empty() {
            let start = fields;
            let Field::Option { kind, value } = fields.option()? else {
                let end = start.position();
                canonical = canonical.or(Some(end));
                continue;
            };
            if canonical.is_some() {
                // All options that are known but one have no meaning here, and that one has none at all.
                continue;
            }
            let mut value = Fields::new(value);
            match kind {
                HOSTNAME if hostname.is_some() => return Err(start.malformed("two hostnames")),
                HOSTNAME => hostname = Some(value.rest().to_vec()),
                ACCEPTS_ANCILLARY_DATA => accepts_ancillary_data = true,
                EPHEMERAL_GROUP => {
                    has_ephemeral = true;
                    let group = Group::from_id(value.variable()?);
                    groups.extend(group.filter(|group| !groups.contains(group)));
                }
                STATIC_KEY => {
                    has_static = true;
                    if let Some(group) = Group::from_id(value.variable()?) {
                        if seen.contains(&group) {
                            return Err(start.malformed("two keys in one group"));
                        }
                        seen.push(group);
                        let key = PublicKey::new(group, value.rest());
                        keys.extend(key.ok().map(|key| (group, key)));
                    }
                }
                _ => {}
            }
        }
        if has_ephemeral && has_static {
            return Err(fields.malformed("both static and ephemeral keys"));
        }
        let canonical = canonical.unwrap_or(bytes.len());
        let section = bytes.get(..canonical).unwrap_or_default();
        let keys = if has_static {
            KeySource::Static(keys.into_iter().map(|(_, key)| key).collect())
        } else {
            KeySource::Ephemeral(groups)
        };
        Ok(Self {
            bytes: bytes.to_vec(),
            canonical,
            hostname,
            accepts_ancillary_data,
            keys,
            fingerprint: Fingerprint(Sha256::digest(section).into()),
        })
    }

    /// All of its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes that the fingerprint is of.
    #[must_use]
    pub fn canonical_section(&self) -> &[u8] {
        self.bytes.get(..self.canonical).unwrap_or_default()
    }

    /// The peer id.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The name that it claims; nothing proves it.
    #[must_use]
    pub fn hostname(&self) -> Option<&[u8]> {
        self.hostname.as_deref()
    }

    /// Whether its holder is a server: answers to those who ask with a URI.
    #[must_use]
    pub fn accepts_ancillary_data(&self) -> bool {
        self.accepts_ancillary_data
    }

    /// Where the keys come from.
    #[must_use]
    pub fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// The static key in a group.
    #[must_use]
    pub fn static_key(&self, group: Group) -> Option<&PublicKey> {
        match &self.keys {
            KeySource::Static(keys) => keys.iter().find(|key| key.group() == group),
            KeySource::Ephemeral(_) => None,
        }
    }

    /// The groups in which somebody can agree on a key with its holder, in the holder's order.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        match &self.keys {
            KeySource::Static(keys) => keys.iter().map(PublicKey::group).collect(),
            KeySource::Ephemeral(groups) => groups.clone(),
        }
    }
}

/// Certificates are the same if all their bytes are: then one overrides the other (section 4.3.7).
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Certificate {}

/// A certificate, and the secrets that make it one's own.
#[derive(Clone, Debug)]
pub struct Identity {
    certificate: Certificate,
    secrets: Vec<SecretKey>,
}

impl Identity {
    /// A server's: keys for each session, in any of `groups`, which are named in this order; put the strongest first. It has 77 bytes
    /// unless there is a hostname.
    ///
    /// # Errors
    /// [`Malformed`] where no group is given.
    pub fn server(
        groups: &[Group],
        hostname: Option<&str>,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, Malformed> {
        let mut bytes = Vec::new();
        if let Some(hostname) = hostname {
            put_option(HOSTNAME, hostname.as_bytes(), &mut bytes);
        }
        put_option(ACCEPTS_ANCILLARY_DATA, &[], &mut bytes);
        put_groups(groups, &mut bytes)?;
        let random = SERVER_LENGTH.saturating_sub(bytes.len() + 2);
        put_random(random.max(FEWEST_RANDOM), &mut bytes, rng);
        Ok(Self {
            certificate: Certificate::read(&bytes)?,
            secrets: Vec::new(),
        })
    }

    /// A client's with keys for each session: its peer id can be claimed by anybody.
    ///
    /// # Errors
    /// [`Malformed`] where no group is given.
    pub fn ephemeral(groups: &[Group], rng: &mut impl CryptoRng) -> Result<Self, Malformed> {
        let mut bytes = Vec::new();
        put_groups(groups, &mut bytes)?;
        put_random(64, &mut bytes, rng);
        Ok(Self {
            certificate: Certificate::read(&bytes)?,
            secrets: Vec::new(),
        })
    }

    /// A client's with one key, and nothing else, as Flash Player makes one for each NetConnection. One power.
    ///
    /// # Errors
    /// [`Malformed`] never, but for a generator that gives no random numbers.
    pub fn with_static_key(group: Group, rng: &mut impl CryptoRng) -> Result<Self, Malformed> {
        Self::from_static_keys(vec![SecretKey::generate(group, rng)], &[])
    }

    /// One with the given keys, and options before them, as they are written in a certificate.
    ///
    /// # Errors
    /// [`Malformed`] where there are two keys in one group, or the options are not well-formed.
    pub fn from_static_keys(secrets: Vec<SecretKey>, options: &[u8]) -> Result<Self, Malformed> {
        let mut bytes = options.to_vec();
        for secret in &secrets {
            let mut value = Vec::new();
            put_variable(secret.group().id(), &mut value);
            value.extend_from_slice(secret.public());
            put_option(STATIC_KEY, &value, &mut bytes);
        }
        let certificate = Certificate::read(&bytes)?;
        if certificate.groups().len() != secrets.len() || secrets.is_empty() {
            return Err(Fields::new(&bytes).malformed("a certificate without its keys"));
        }
        Ok(Self {
            certificate,
            secrets,
        })
    }

    /// Who it is.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The static key in a group, where there are static keys.
    #[must_use]
    pub fn secret(&self, group: Group) -> Option<&SecretKey> {
        self.secrets.iter().find(|secret| secret.group() == group)
    }

    /// Whether keys are made for each session.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.secrets.is_empty()
    }
}

fn put_groups(groups: &[Group], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if groups.is_empty() {
        return Err(Fields::new(out).malformed("a certificate without groups"));
    }
    for group in groups {
        let mut value = Vec::new();
        put_variable(group.id(), &mut value);
        put_option(EPHEMERAL_GROUP, &value, out);
    }
    Ok(())
}

fn put_random(length: usize, out: &mut Vec<u8>, rng: &mut impl CryptoRng) {
    let mut random = vec![0; length];
    rng.fill_bytes(&mut random);
    put_option(EXTRA_RANDOMNESS, &random, out);
}

#[cfg(test)]
mod tests;
