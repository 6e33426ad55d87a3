//! The handshake: 1,537 bytes each way that decide nothing but the digest, and 1,536 more that confirm them.
//!
//! Adobe RTMP 1.0, section 5.2 (the simple form), and the digest form that Flash Player 9 and Flash Media Server 3 brought, which is in
//! no specification: H.264 plays in Flash Player only behind it. Its facts are as librtmp, nginx-rtmp and SRS have them; see the module `digest`.
//!
//! ```text
//! client                         server
//!   C0 C1  ───────────────────▶  reads version and digest
//!          ◀───────────────────  S0 S1 S2
//!   C2     ───────────────────▶  done
//! ```
//!
//! A server answers in the form that the client chose: the digest form if C1 has a version in its second field and a digest that is
//! right under either layout, else the simple form, in which S2 is C1 byte for byte.
//!
//! # What is not enforced
//! Confirmations (C2, S2) are read and compared, and [`peer_confirmed`](ServerHandshake::peer_confirmed) tells the result, but a wrong
//! one is no error: old and home-made peers send what they like there, and the keys are public, so that nothing is proved by it.
//!
//! RTMPE (versions 6, 8 and 9: encryption without authentication) is refused; RTMPS is RTMP inside TLS and starts with version 3 here.
//!
//! No time-outs: the caller has the clock. A handshake takes at most [`PACKET_LENGTH`] + 1 bytes of input before it consumes them.

mod client;
mod digest;
mod server;

pub use client::{ClientForm, ClientHandshake};
pub use server::ServerHandshake;

use bytes::BytesMut;
use thiserror::Error;

/// The one version of RTMP, in C0 and S0.
pub const VERSION: u8 = 3;

/// Bytes of C1, C2, S1 and S2.
pub const PACKET_LENGTH: usize = 1536;

/// Bytes of the random part of C1 and S1, which the caller supplies.
pub const RANDOM_LENGTH: usize = 1528;

/// Random bytes for one handshake. They must differ between connections; they need not be secret.
pub type RandomBlock = [u8; RANDOM_LENGTH];

type Packet = [u8; PACKET_LENGTH];

/// What became of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The handshake waits for the peer.
    InProgress,
    /// The handshake is over. What is left in the input belongs to the chunk stream.
    Done,
}

/// Why a handshake failed. Nothing of the input was consumed, so that a caller may try another protocol on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// RTMPE: versions 6, 8 and 9.
    #[error("encrypted rtmp (version {version}) is not supported")]
    Encrypted {
        /// The first byte.
        version: u8,
    },
    /// A version that RTMP had, or might get, but that nobody speaks.
    #[error("rtmp version {version} is not supported")]
    Version {
        /// The first byte, below 32.
        version: u8,
    },
    /// The first byte is that of a TLS record: the peer speaks RTMPS, or HTTPS, to a plain port.
    #[error("tls client hello where rtmp was expected")]
    Tls,
    /// The first byte is a character, as of `GET` or `POST`. Versions from 32 on are reserved so that this can be told.
    #[error("text protocol where rtmp was expected, first byte {first:#04x}")]
    Text {
        /// The first byte.
        first: u8,
    },
}

/// Looks at C0 or S0.
fn check_version(first: u8) -> Result<(), HandshakeError> {
    /// The content type of a TLS handshake record.
    const TLS_HANDSHAKE: u8 = 22;

    match first {
        VERSION => Ok(()),
        6 | 8 | 9 => Err(HandshakeError::Encrypted { version: first }),
        TLS_HANDSHAKE => Err(HandshakeError::Tls),
        32.. => Err(HandshakeError::Text { first }),
        _ => Err(HandshakeError::Version { version: first }),
    }
}

/// Consumes version and first packet of the peer, if both have arrived. A wrong version is told at its first byte.
fn take_hello(input: &mut BytesMut) -> Result<Option<Packet>, HandshakeError> {
    let Some((&version, packet)) = input.split_first() else {
        return Ok(None);
    };
    check_version(version)?;
    let Some(&packet) = packet.first_chunk() else {
        return Ok(None);
    };
    bytes::Buf::advance(input, 1 + PACKET_LENGTH);
    Ok(Some(packet))
}

/// Consumes the second packet of the peer, if it has arrived.
fn take_confirmation(input: &mut BytesMut) -> Option<Packet> {
    let &packet = input.first_chunk()?;
    bytes::Buf::advance(input, PACKET_LENGTH);
    Some(packet)
}

/// Lays out C1 or S1: time, version (zero in the simple form), random bytes.
fn hello_packet(time: u32, version: [u8; 4], random: &RandomBlock) -> Packet {
    let mut packet = [0; PACKET_LENGTH];
    let (head, body) = packet.split_at_mut(PACKET_LENGTH - RANDOM_LENGTH);
    let (time_field, version_field) = head.split_at_mut(4);
    time_field.copy_from_slice(&time.to_be_bytes());
    version_field.copy_from_slice(&version);
    body.copy_from_slice(random);
    packet
}

/// Whether C1 or S1 says that its sender knows the digest form.
fn has_version(packet: &Packet) -> bool {
    packet.get(4..8).is_some_and(|version| version != [0; 4])
}

#[cfg(test)]
mod tests;
