//! The digest form of the handshake packets.
//!
//! C1 and S1 carry an HMAC-SHA256 over the rest of the packet (1,504 bytes, the digest cut out), keyed with the part of the sender's
//! key that is text. Where it stands depends on four bytes of the packet whose sum, modulo 728, is an offset into a block of 764
//! bytes. There are two such blocks, and which of them holds the digest and which a Diffie-Hellman key (RTMPE only; random bytes
//! here) is the layout.
//!
//! C2 and S2 are random bytes that end with an HMAC-SHA256 of the 1,504 before it. Its key is the HMAC-SHA256 of the digest that is
//! being answered, keyed with the sender's whole key.
//!
//! The keys are constants of the protocol. They prove nothing about a peer.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{PACKET_LENGTH, Packet, RANDOM_LENGTH, RandomBlock};

/// Bytes of an HMAC-SHA256.
pub(super) const DIGEST_LENGTH: usize = 32;

/// Where the digest ends up in C2 and S2: at the end.
const CONFIRMATION_DIGEST: usize = PACKET_LENGTH - DIGEST_LENGTH;

pub(super) type Digest = [u8; DIGEST_LENGTH];

/// The second half of both keys.
const KEY_TAIL: [u8; 32] = [
    0xF0, 0xEE, 0xC2, 0x4A, 0x80, 0x68, 0xBE, 0xE8, 0x2E, 0x00, 0xD0, 0xD1, 0x02, 0x9E, 0x7E, 0x57,
    0x6E, 0xEC, 0x5D, 0x2D, 0x29, 0x80, 0x6F, 0xAB, 0x93, 0xB8, 0xE6, 0x36, 0xCF, 0xEB, 0x31, 0xAE,
];

/// A side of the connection, as the keys name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Player,
    MediaServer,
}

impl Role {
    /// Keys the digest in this side's first packet.
    pub(super) fn text(self) -> &'static [u8] {
        match self {
            Self::Player => b"Genuine Adobe Flash Player 001",
            Self::MediaServer => b"Genuine Adobe Flash Media Server 001",
        }
    }

    /// The key of this side's confirmation of `digest`.
    fn confirmation_key(self, digest: &Digest) -> Digest {
        hmac(&[self.text(), &KEY_TAIL].concat(), &[digest])
    }
}

/// Which of the two blocks of a first packet holds the digest. A block is 764 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// The first block, whose first four bytes give the offset.
    DigestFirst,
    /// The second block, likewise.
    KeyFirst,
}

impl Layout {
    pub(super) const BOTH: [Self; 2] = [Self::DigestFirst, Self::KeyFirst];

    /// Index of the digest in a packet: behind time, version and the offset field, 12 to 739 or 776 to 1503.
    pub(super) fn position(self, packet: &Packet) -> usize {
        /// Bytes of a block, less its offset field and the digest.
        const OFFSETS: usize = 728;

        let field = match self {
            Self::DigestFirst => 8,
            Self::KeyFirst => 8 + 764,
        };
        let sum: usize = packet
            .iter()
            .skip(field)
            .take(4)
            .map(|&byte| usize::from(byte))
            .sum();
        field + 4 + sum % OFFSETS
    }
}

/// Looks for the digest that `sender` put in its first packet.
pub(super) fn find(packet: &Packet, sender: Role) -> Option<(Layout, Digest)> {
    Layout::BOTH.into_iter().find_map(|layout| {
        let position = layout.position(packet);
        let digest = *packet.get(position..)?.first_chunk()?;
        (digest == compute(packet, position, sender)).then_some((layout, digest))
    })
}

/// Puts the digest of `sender` into its first packet, and returns it.
pub(super) fn sign(packet: &mut Packet, layout: Layout, sender: Role) -> Digest {
    let position = layout.position(packet);
    let digest = compute(packet, position, sender);
    put(packet, position, &digest);
    digest
}

/// The second packet of `sender`, which confirms the `digest` of the peer's first.
pub(super) fn confirmation(random: &RandomBlock, digest: &Digest, sender: Role) -> Packet {
    let mut packet = [0; PACKET_LENGTH];
    for (to, from) in packet.iter_mut().zip(random.iter().cycle()) {
        *to = *from;
    }
    let (signed, _) = packet.split_at(CONFIRMATION_DIGEST);
    let proof = hmac(&sender.confirmation_key(digest), &[signed]);
    put(&mut packet, CONFIRMATION_DIGEST, &proof);
    packet
}

/// Whether `packet` is the second packet of `sender` for the `digest` that it got.
pub(super) fn confirms(packet: &Packet, digest: &Digest, sender: Role) -> bool {
    let (signed, proof) = packet.split_at(CONFIRMATION_DIGEST);
    proof == hmac(&sender.confirmation_key(digest), &[signed])
}

/// The digest of a first packet: all of it but the place of the digest.
fn compute(packet: &Packet, position: usize, sender: Role) -> Digest {
    let before = packet.get(..position).unwrap_or_default();
    let after = packet.get(position + DIGEST_LENGTH..).unwrap_or_default();
    hmac(sender.text(), &[before, after])
}

/// Positions come from [`Layout::position`] or are constant: the digest fits behind each.
fn put(packet: &mut Packet, position: usize, digest: &Digest) {
    if let Some(place) = packet.get_mut(position..position + DIGEST_LENGTH) {
        place.copy_from_slice(digest);
    }
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Digest {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length");
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

const _: () = assert!(RANDOM_LENGTH >= CONFIRMATION_DIGEST);
