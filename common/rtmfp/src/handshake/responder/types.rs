//! What a responder is to be like, and what it has counted.

use std::sync::Arc;

use super::super::Protections;
use super::super::limit::Rate;
use crate::crypto::certificate::Identity;
use crate::crypto::signature::Password;

/// Who a responder is, and what it allows.
#[derive(Clone, Debug)]
pub struct ResponderConfig {
    /// Who it is.
    pub identity: Arc<Identity>,
    /// How packets of sessions are protected.
    pub protections: Protections,
    /// Passwords that initiators may prove to know.
    pub passwords: Vec<Password>,
    /// Whether they have to.
    pub password_required: bool,
    /// A password that it proves to know itself.
    pub password: Option<Password>,
    /// What it spends.
    pub limits: ResponderLimits,
}

impl ResponderConfig {
    /// A server's without passwords.
    #[must_use]
    pub fn new(identity: Arc<Identity>) -> Self {
        Self {
            identity,
            protections: Protections::default(),
            passwords: Vec::new(),
            password_required: false,
            password: None,
            limits: ResponderLimits::default(),
        }
    }
}

/// What a responder spends. Rates are for each network: an IPv4 /24, an IPv6 /56.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponderLimits {
    /// Bytes sent to addresses that nobody proved, beyond those received from them: some 120 for each session that is opened.
    pub unproved_bytes: Rate,
    /// Keyings that are worked at.
    pub keyings: Rate,
    /// Hellos for others that are asked about.
    pub lookups: Rate,
    /// Keyings that are worked at, of all sources together; more than these are dropped, and their initiators try again.
    pub pending: usize,
    /// Keyings whose answers are remembered, some 400 bytes each. Those of a few seconds are enough.
    pub remembered: usize,
}

impl Default for ResponderLimits {
    /// For a server whose clients are behind many networks: 140 new sessions a second from one, and 550 at once after a time of rest.
    fn default() -> Self {
        Self {
            unproved_bytes: Rate {
                per_second: 16_384,
                burst: 65_536,
            },
            keyings: Rate {
                per_second: 200,
                burst: 600,
            },
            lookups: Rate {
                per_second: 200,
                burst: 400,
            },
            pending: 1_024,
            remembered: 16_384,
        }
    }
}

/// What a responder has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Hellos answered.
    pub hellos: u64,
    /// Hellos and lookups not answered because their network had used up what may be sent to it.
    pub hellos_limited: u64,
    /// Hellos for others.
    pub lookups: u64,
    /// Hellos for others that their network has too many of.
    pub lookups_limited: u64,
    /// Chunks that cannot be read, or that no honest peer sends.
    pub malformed: u64,
    /// Cookies that are not ours.
    pub cookies_forged: u64,
    /// Cookies that are too old.
    pub cookies_expired: u64,
    /// Cookies that were made for another address.
    pub cookies_moved: u64,
    /// Keyings handed out.
    pub keyings: u64,
    /// Keyings answered as before.
    pub keyings_repeated: u64,
    /// Keyings dropped because too many are worked at.
    pub keyings_limited: u64,
    /// Keyings without hope: keys, groups, passwords or wishes that do not fit.
    pub keyings_refused: u64,
}
