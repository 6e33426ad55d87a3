//! Datagrams from packets, and back: RFC 7016 section 2.2, RFC 7425 section 4.7.
//!
//! ```text
//! datagram  = scrambled session id (4) | cipher | [MAC]
//! cipher    = AES-128-CBC( [number] | [checksum (2)] | packet | padding )
//! ```
//!
//! A packet has either a MAC, over the cipher, or a checksum, of all that follows it, padding included. The number stands before both, so
//! that no two packets of a session begin alike.
//!
//! [`Sealer::begin`] and [`Sealer::finish`] let a packet be written where it is encrypted, without a copy.

use std::ops::Range;

use super::checksum::{self, checksum};
use super::cipher::{BLOCK, Decryption, Encryption, KEY};
use super::mac::Mac;
use super::sequence::ReplayWindow;
use crate::wire::Fields;
use crate::wire::field::{put_variable, variable_length};

/// The key of packets outside sessions, and of the last packet of a handshake. Everyone knows it: it hides nothing.
pub const DEFAULT_KEY: [u8; KEY] = *b"Adobe Systems 02";

/// Bytes of a session id.
pub const SESSION_ID: usize = 4;

/// The session id of a datagram; 0 means none. The session is found by it alone, never by the address (RFC 7016 section 3.3). None for
/// what is too short to be a datagram of this protocol.
#[must_use]
pub fn session_id(datagram: &[u8]) -> Option<u32> {
    let (scrambled, cipher) = datagram.split_first_chunk::<SESSION_ID>()?;
    Some(u32::from_be_bytes(*scrambled) ^ scramble(cipher))
}

/// What a session id is combined with: the first two words of what follows it, as if zeros followed that.
fn scramble(cipher: &[u8]) -> u32 {
    let word = |from: usize| {
        let byte = |at: usize| cipher.get(from + at).copied().unwrap_or(0);
        u32::from_be_bytes([byte(0), byte(1), byte(2), byte(3)])
    };
    word(0) ^ word(4)
}

/// Encrypts packets.
#[derive(Clone, Debug)]
pub struct Sealer {
    cipher: Encryption,
    /// Apart: many have none.
    mac: Option<Box<(Mac, usize)>>,
    /// The number of the next packet, where packets have one.
    next: Option<u64>,
}

/// A packet that is being written to where it will be encrypted.
#[derive(Debug)]
#[must_use]
pub struct Draft {
    start: usize,
    checksum: Option<usize>,
}

impl Sealer {
    /// One with a key, maybe a MAC of so many bytes, maybe numbers.
    #[must_use]
    pub fn new(key: &[u8; KEY], mac: Option<(Mac, usize)>, numbered: bool) -> Self {
        Self {
            cipher: Encryption::new(key),
            mac: mac.map(Box::new),
            next: numbered.then_some(0),
        }
    }

    /// One with the key that everyone knows.
    #[must_use]
    pub fn startup() -> Self {
        Self::new(&DEFAULT_KEY, None, false)
    }

    /// The most bytes of a packet that fit into a datagram of so many.
    #[must_use]
    pub fn capacity(&self, datagram: usize) -> usize {
        let mac = self.mac.as_ref().map_or(0, |mac| mac.1);
        let blocks = datagram.saturating_sub(SESSION_ID + mac) / BLOCK * BLOCK;
        blocks.saturating_sub(self.overhead())
    }

    /// Bytes of the datagram that the next packet becomes, if it has so many.
    #[must_use]
    pub fn length(&self, packet: usize) -> usize {
        let mac = self.mac.as_ref().map_or(0, |mac| mac.1);
        SESSION_ID + (self.overhead() + packet).next_multiple_of(BLOCK) + mac
    }

    /// Bytes before the packet in the cipher.
    fn overhead(&self) -> usize {
        let number = self.next.map_or(0, variable_length);
        let checksum = self.mac.as_ref().map_or(checksum::LENGTH, |_| 0);
        number + checksum
    }

    /// Appends what stands before a packet; the packet follows. A packet that is begun has its number, unless it is [taken back](Self::take_back).
    pub fn begin(&mut self, out: &mut Vec<u8>) -> Draft {
        let start = out.len();
        out.extend_from_slice(&[0; SESSION_ID]);
        if let Some(next) = &mut self.next {
            put_variable(*next, out);
            // 2^64 packets are never sent: numbers need not wrap.
            *next = next.saturating_add(1);
        }
        let checksum = self.mac.is_none().then(|| {
            let at = out.len();
            out.extend_from_slice(&[0; checksum::LENGTH]);
            at
        });
        Draft { start, checksum }
    }

    /// Takes back what was begun last, and nothing was begun since: its number is free again.
    pub fn take_back(&mut self, draft: Draft, out: &mut Vec<u8>) {
        out.truncate(draft.start);
        if let Some(next) = &mut self.next {
            *next = next.saturating_sub(1);
        }
    }

    /// Makes a datagram of the packet that was appended since [`begin`](Self::begin) on the same buffer.
    pub fn finish(&self, draft: Draft, session_id: u32, out: &mut Vec<u8>) {
        let body = draft.start + SESSION_ID;
        let length = out.len().saturating_sub(body).next_multiple_of(BLOCK);
        out.resize(body + length, 0xff);
        if let Some(at) = draft.checksum {
            let covered = out.get(at + checksum::LENGTH..).unwrap_or_default();
            let sum = checksum(covered).to_be_bytes();
            if let Some(place) = out.get_mut(at..at + checksum::LENGTH) {
                place.copy_from_slice(&sum);
            }
        }
        let Some(cipher) = out.get_mut(body..) else {
            return;
        };
        self.cipher.apply(cipher);
        let scrambled = (session_id ^ scramble(cipher)).to_be_bytes();
        if let Some((mac, length)) = self.mac.as_deref() {
            let whole = mac.over(&[cipher]);
            out.extend_from_slice(whole.get(..*length).unwrap_or(&whole));
        }
        if let Some(place) = out.get_mut(draft.start..body) {
            place.copy_from_slice(&scrambled);
        }
    }

    /// Appends the datagram of a packet.
    pub fn seal(&mut self, session_id: u32, packet: &[u8], out: &mut Vec<u8>) {
        let draft = self.begin(out);
        out.extend_from_slice(packet);
        self.finish(draft, session_id, out);
    }
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is not of whole blocks, or of none.
    #[error("{length} bytes are no whole blocks")]
    Length {
        /// Bytes behind the session id.
        length: usize,
    },
    /// The MAC is wrong.
    #[error("a wrong mac")]
    Mac,
    /// The checksum is wrong.
    #[error("a wrong checksum")]
    Checksum,
    /// It has no number where it should have one.
    #[error("no packet number")]
    NoNumber,
    /// A packet of that number was received, or may have been.
    #[error("packet {number} again")]
    Replayed {
        /// The number.
        number: u64,
    },
}

/// Decrypts packets.
#[derive(Clone, Debug)]
pub struct Opener {
    cipher: Decryption,
    /// Apart: many have none.
    mac: Option<Box<(Mac, usize)>>,
    window: Option<Box<ReplayWindow>>,
}

impl Opener {
    /// One with a key, maybe a MAC of so many bytes, maybe numbers.
    #[must_use]
    pub fn new(key: &[u8; KEY], mac: Option<(Mac, usize)>, numbered: bool) -> Self {
        Self {
            cipher: Decryption::new(key),
            mac: mac.map(Box::new),
            window: numbered.then(Box::default),
        }
    }

    /// One with the key that everyone knows.
    #[must_use]
    pub fn startup() -> Self {
        Self::new(&DEFAULT_KEY, None, false)
    }

    /// Whether packets are authenticated: only then does an address that they come from mean anything.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.mac.is_some()
    }

    /// Decrypts a datagram in place, and gives the packet with its padding. A datagram with a wrong MAC stays as it was; whatever else is
    /// wrong is found out after decrypting.
    ///
    /// # Errors
    /// [`OpenError`], at which the datagram is dropped, and counted.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let packet = self.open_in_place(datagram)?;
        Ok(datagram.get(packet).unwrap_or_default())
    }

    fn open_in_place(&mut self, datagram: &mut [u8]) -> Result<Range<usize>, OpenError> {
        let body = datagram.get_mut(SESSION_ID..).unwrap_or_default();
        let length = body.len();
        let tag = self.mac.as_ref().map_or(0, |mac| mac.1);
        let blocks = length.checked_sub(tag);
        let blocks = blocks.filter(|blocks| *blocks > 0 && blocks.is_multiple_of(BLOCK));
        let split = blocks.and_then(|blocks| body.split_at_mut_checked(blocks));
        let (cipher, tag) = split.ok_or(OpenError::Length { length })?;
        if let Some((mac, _)) = self.mac.as_deref()
            && !mac.verifies(&[cipher], tag)
        {
            return Err(OpenError::Mac);
        }
        self.cipher.apply(cipher);
        let mut fields = Fields::new(cipher);
        let number = match self.window {
            Some(_) => Some(fields.variable().map_err(|_| OpenError::NoNumber)?),
            None => None,
        };
        if self.mac.is_none() {
            let sum = fields.u16().map_err(|_| OpenError::Checksum)?;
            let covered = cipher.get(fields.position()..).unwrap_or_default();
            if sum != checksum(covered) {
                return Err(OpenError::Checksum);
            }
        }
        if let Some((window, number)) = self.window.as_mut().zip(number)
            && !window.accept(number)
        {
            return Err(OpenError::Replayed { number });
        }
        Ok(SESSION_ID + fields.position()..SESSION_ID + cipher.len())
    }
}

#[cfg(test)]
mod tests;
