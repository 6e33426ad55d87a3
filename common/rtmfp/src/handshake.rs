//! How sessions are opened: RFC 7016 sections 3.5.1 and 3.4, with the Flash profile's keys.
//!
//! ```text
//! initiator                                 responder
//!   IHello(who, tag)          ──────────▶   keeps nothing
//!                             ◀──────────   RHello(tag, cookie, certificate)
//!   IIKeying(id, cookie, ...) ──────────▶   looks at the cookie, then agrees on keys
//!                             ◀──────────   RIKeying(id, ...)
//! ```
//!
//! | type | role |
//! |---|---|
//! | [`Startup`] | decrypts what comes outside sessions, and puts fragments together |
//! | [`Responder`] | answers hellos and keyings; asks its caller about hellos that are for others |
//! | [`KeyingTask`] | the expensive part of an answer, to be run where nothing else waits for it |
//! | [`Initiator`] | opens one session |
//! | [`Opened`] | what either end has in the end: keys, ids, and who the far end is |
//!
//! # How an endpoint uses it
//! A datagram with session id 0 goes through [`Startup::open`], and the packet from there to the [`Responder`], and to the [`Initiator`]
//! whose [`tag`](Initiator::tag) is [`tag_of`] the packet. A datagram whose session id is that of an initiator goes the same way to that
//! initiator. All other datagrams belong to sessions: an [`Opened`] has what decrypts them.
//!
//! After each call that takes `&mut self`, take all events and all datagrams: a [`Responder`] and an [`Initiator`] do nothing with them by
//! themselves, and both queues are bounded.
//!
//! An initiator's session can receive its RIKeying again, with the key that everyone knows: it fails to open like any other foreign datagram.
//!
//! # Bad input
//! - Before an initiator proved its address, it costs a hash and leaves nothing behind; what is sent to it is limited, see [`Responder`].
//! - Everything is encrypted with a key that everyone knows: whoever is between the two ends can read and change it. Keys agreed on are
//!   proved by the first packet of the session alone, so that a peer id may not be believed, nor anything of somebody's replaced, earlier.

mod initiator;
mod keying;
mod limit;
mod responder;
mod startup;

pub use initiator::{Glare, Initiator, InitiatorConfig, InitiatorEvent, InitiatorFailure};
pub use keying::{Accepted, KeyingId, KeyingTask, Opened, Refusal};
pub use limit::Rate;
pub use responder::{
    Counters, Lookup, Responder, ResponderConfig, ResponderEvent, ResponderLimits,
};
pub use startup::{Startup, StartupError, tag_of};

use std::net::SocketAddr;

use bytes::Bytes;

use crate::crypto::negotiation::{Flags, MacFlags, Protection};

/// A datagram to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub datagram: Bytes,
}

/// How packets of sessions are to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protections {
    /// By a MAC.
    pub mac: Protection,
    /// By numbers, against replay.
    pub sequence: Protection,
    /// Bytes of MACs that are sent: 4 to 32; what is outside counts as the nearest of these.
    pub mac_length: usize,
}

impl Default for Protections {
    fn default() -> Self {
        Self {
            mac: Protection::default(),
            sequence: Protection::default(),
            // What rtmfp-cpp uses. Half the bytes of the hash are beyond guessing.
            mac_length: 16,
        }
    }
}

impl Protections {
    /// The same wish for both.
    #[must_use]
    pub fn both(protection: Protection) -> Self {
        Self {
            mac: protection,
            sequence: protection,
            ..Self::default()
        }
    }

    fn mac_flags(&self, flags: Flags) -> MacFlags {
        use crate::crypto::mac::{LENGTH, SHORTEST};
        let length = self.mac_length.clamp(SHORTEST, LENGTH) as u64;
        MacFlags {
            flags,
            length: if flags.can_send() { length } else { 0 },
        }
    }
}

/// Whether something can be sent to an address at all.
fn is_reachable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests;
