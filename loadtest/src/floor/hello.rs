//! What receivers say to a bare sender of RTMFP's packets: there is no handshake.
//!
//! A receiver chooses keys and how packets are protected, and tells both in clear: nothing here is secret. It repeats that from time to
//! time, which shows that it is still there, and says when it goes. All fields have fixed lengths:
//!
//! ```text
//! magic (8) | what (1) | bytes of MAC, 0 for none (1) | numbered (1) | session id (4) | key (16) | key of the MAC (32)
//! ```

use headwater_rtmfp::crypto::mac::{self, Mac};
use headwater_rtmfp::crypto::negotiation::Protection;
use headwater_rtmfp::crypto::packet::{Opener, Sealer};
use headwater_rtmfp::handshake::Protections;

const MAGIC: [u8; 8] = *b"hw-floor";

/// Bytes of the key of a packet.
const KEY: usize = 16;

/// Bytes of a hello.
pub(crate) const LENGTH: usize = MAGIC.len() + 3 + 4 + KEY + mac::LENGTH;

/// What a receiver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// An answer: the same bytes.
    Probe = 0,
    /// The stream, from the next key frame on.
    Join = 1,
    /// Nothing more.
    Leave = 2,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) wish: Wish,
    /// Bytes of the MAC, if there is one instead of a checksum.
    pub(crate) mac: Option<u8>,
    pub(crate) is_numbered: bool,
    pub(crate) session_id: u32,
    key: [u8; KEY],
    mac_key: [u8; mac::LENGTH],
}

impl Hello {
    /// One for the protection that a client and a server come to that both want so much: Headwater's with its own default for those that
    /// want it but do not insist.
    pub(crate) fn new(protection: Protection, session_id: u32, random: [u8; 48]) -> Self {
        let is_protected = matches!(protection, Protection::Prefer | Protection::Require);
        let length = u8::try_from(Protections::default().mac_length).ok();
        Self {
            wish: Wish::Join,
            mac: length.filter(|_| is_protected),
            is_numbered: is_protected,
            session_id,
            key: std::array::from_fn(|at| random.get(at).copied().unwrap_or_default()),
            mac_key: std::array::from_fn(|at| random.get(KEY + at).copied().unwrap_or_default()),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; LENGTH] {
        let mut out = [0; LENGTH];
        let fields: [&[u8]; 6] = [
            &MAGIC,
            &[self.wish as u8, self.mac.unwrap_or(0)],
            &[u8::from(self.is_numbered)],
            &self.session_id.to_be_bytes(),
            &self.key,
            &self.mac_key,
        ];
        for (place, byte) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        out
    }

    /// Reads one; `None` for anything else.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LENGTH {
            return None;
        }
        let (wish, rest) = bytes.strip_prefix(&MAGIC)?.split_first()?;
        let (mac, rest) = rest.split_first()?;
        let (is_numbered, rest) = rest.split_first()?;
        let (session_id, rest) = rest.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        Some(Self {
            wish: match wish {
                0 => Wish::Probe,
                1 => Wish::Join,
                2 => Wish::Leave,
                _ => return None,
            },
            mac: match usize::from(*mac) {
                0 => None,
                mac::SHORTEST..=mac::LENGTH => Some(*mac),
                _ => return None,
            },
            is_numbered: *is_numbered != 0,
            session_id: u32::from_be_bytes(*session_id),
            key: *key,
            mac_key: rest.try_into().ok()?,
        })
    }

    /// What encrypts for the receiver.
    pub(crate) fn sealer(&self) -> Sealer {
        Sealer::new(&self.key, self.mac(), self.is_numbered)
    }

    /// What decrypts there.
    pub(crate) fn opener(&self) -> Opener {
        Opener::new(&self.key, self.mac(), self.is_numbered)
    }

    fn mac(&self) -> Option<(Mac, usize)> {
        let length = usize::from(self.mac?);
        Some((Mac::new(&self.mac_key), length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_read_as_it_was_written_and_nothing_else_is() {
        let random = std::array::from_fn(|at| at as u8);
        for (protection, mac) in [
            (Protection::Compatible, None),
            (Protection::Require, Some(16)),
        ] {
            let hello = Hello::new(protection, 7, random);
            assert_eq!((hello.mac, hello.is_numbered), (mac, mac.is_some()));
            let bytes = hello.to_bytes();
            assert_eq!(Hello::read(&bytes), Some(hello));
            assert_eq!(Hello::read(&bytes[..LENGTH - 1]), None);
            for (place, wrong) in [(0, b'x'), (8, 3), (9, 3), (9, 33)] {
                let mut bytes = bytes;
                bytes[place] = wrong;
                assert_eq!(Hello::read(&bytes), None, "{place}");
            }
            let mut datagram = Vec::new();
            hello.sealer().seal(7, b"packet", &mut datagram);
            let opened = hello.opener().open(&mut datagram).unwrap().to_vec();
            assert!(opened.starts_with(b"packet"));
        }
    }
}
