//! Endpoint discriminators, which say whom a hello asks for: RFC 7425 section 4.4.

use super::certificate::{Certificate, Fingerprint};
use crate::wire::field::put_option;
use crate::wire::{Field, Fields, Malformed};

const HOSTNAME: u64 = 0x00;
const ANCILLARY_DATA: u64 = 0x0a;
const FINGERPRINT: u64 = 0x0f;

/// A discriminator that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discriminator<'a> {
    /// The name that the certificate must have.
    pub hostname: Option<&'a [u8]>,
    /// What a server is asked for: the URI of an application, in UTF-8.
    pub ancillary_data: Option<&'a [u8]>,
    /// The peer id that is asked for. Nothing else matters then.
    pub fingerprint: Option<Fingerprint>,
}

impl<'a> Discriminator<'a> {
    /// Reads one. Unknown options mean nothing.
    ///
    /// # Errors
    /// [`Malformed`] for one that ends within an option, says something twice, or has a fingerprint of another length than 32 bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields::new(bytes);
        let mut discriminator = Self {
            hostname: None,
            ancillary_data: None,
            fingerprint: None,
        };
        while !fields.is_empty() {
            let start = fields;
            let Field::Option { kind, value } = fields.option()? else {
                continue;
            };
            let twice = match kind {
                HOSTNAME => discriminator.hostname.replace(value).is_some(),
                ANCILLARY_DATA => discriminator.ancillary_data.replace(value).is_some(),
                FINGERPRINT => {
                    let value = <[u8; 32]>::try_from(value);
                    let value = value.map_err(|_| start.malformed("not a fingerprint"))?;
                    discriminator
                        .fingerprint
                        .replace(Fingerprint(value))
                        .is_some()
                }
                _ => false,
            };
            if twice {
                return Err(start.malformed("an option that is there already"));
            }
        }
        Ok(discriminator)
    }

    /// Whether it asks for the holder of a certificate (section 4.4.3).
    #[must_use]
    pub fn selects(&self, certificate: &Certificate) -> bool {
        if let Some(fingerprint) = self.fingerprint {
            return fingerprint == certificate.fingerprint();
        }
        if self.hostname.is_none() && self.ancillary_data.is_none() {
            return false;
        }
        let name = self
            .hostname
            .is_none_or(|name| certificate.hostname() == Some(name));
        name && (self.ancillary_data.is_none() || certificate.accepts_ancillary_data())
    }
}

/// The discriminator for a server that has the application of a URI.
#[must_use]
pub fn for_uri(uri: &str) -> Vec<u8> {
    one(ANCILLARY_DATA, uri.as_bytes())
}

/// The discriminator for a peer: 34 bytes, the canonical form (section 4.4.4).
#[must_use]
pub fn for_fingerprint(fingerprint: &Fingerprint) -> Vec<u8> {
    one(FINGERPRINT, &fingerprint.0)
}

/// The discriminator for the holder of a name.
#[must_use]
pub fn for_hostname(hostname: &str) -> Vec<u8> {
    one(HOSTNAME, hostname.as_bytes())
}

fn one(kind: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_option(kind, value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate that may be a server's, and may have a name.
    fn certificate(server: bool, hostname: Option<&str>) -> Certificate {
        let mut bytes = Vec::new();
        if let Some(hostname) = hostname {
            put_option(0x00, hostname.as_bytes(), &mut bytes);
        }
        if server {
            put_option(0x0a, &[], &mut bytes);
        }
        put_option(0x15, &[2], &mut bytes);
        Certificate::read(&bytes).unwrap()
    }

    #[test]
    fn every_combination_selects_as_the_specification_says() {
        let named = certificate(true, Some("a"));
        let plain = certificate(true, None);
        let client = certificate(false, Some("a"));
        let certificates = [&named, &plain, &client];
        // Hostname, ancillary data, fingerprint of the first: which of the three are selected.
        let table = [
            (None, false, false, [false, false, false]),
            (None, true, false, [true, true, false]),
            (Some("a"), false, false, [true, false, true]),
            (Some("a"), true, false, [true, false, false]),
            (Some("b"), true, false, [false, false, false]),
            (None, false, true, [true, false, false]),
            (None, true, true, [true, false, false]),
            (Some("b"), false, true, [true, false, false]),
            (Some("b"), true, true, [true, false, false]),
        ];
        for (hostname, ancillary, fingerprint, selected) in table {
            let mut bytes = Vec::new();
            if let Some(hostname) = hostname {
                bytes.extend(for_hostname(hostname));
            }
            if ancillary {
                bytes.extend(for_uri("rtmfp://a/live"));
            }
            if fingerprint {
                bytes.extend(for_fingerprint(&named.fingerprint()));
            }
            let discriminator = Discriminator::read(&bytes).unwrap();
            let selects = certificates.map(|certificate| discriminator.selects(certificate));
            assert_eq!(selects, selected, "{bytes:02x?}");
        }
    }

    #[test]
    fn discriminators_have_the_known_form() {
        assert_eq!(
            for_uri("rtmfp://127.0.0.1/live"),
            b"\x17\x0artmfp://127.0.0.1/live"
        );
        let canonical = for_fingerprint(&Fingerprint([7; 32]));
        assert_eq!(
            (canonical.len(), &canonical[..3]),
            (34, &[0x21, 0x0f, 7][..])
        );
        let read = Discriminator::read(&canonical).unwrap();
        assert_eq!(read.fingerprint, Some(Fingerprint([7; 32])));
        for length in 1..34 {
            assert!(Discriminator::read(&canonical[..length]).is_err());
        }
        // Markers and unknown options say nothing.
        let read = Discriminator::read(b"\x00\x03\x33ab\x02\x0ax\x00").unwrap();
        assert_eq!(read.ancillary_data, Some(&b"x"[..]));
    }

    #[test]
    fn what_is_said_twice_or_too_short_is_refused() {
        let twice = [for_uri("a"), for_uri("a")].concat();
        let error = Discriminator::read(&twice).unwrap_err();
        assert_eq!(
            (error.what, error.at),
            ("an option that is there already", 3)
        );
        let mut short = vec![0x20, 0x0f];
        short.extend([7; 31]);
        let error = Discriminator::read(&short).unwrap_err();
        assert_eq!(error.what, "not a fingerprint");
    }
}
