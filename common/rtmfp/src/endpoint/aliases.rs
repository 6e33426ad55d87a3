//! As whom else an endpoint is there, and what comes to it that is for another one: see [`Endpoint`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;

use super::Endpoint;
use crate::crypto::certificate::{Fingerprint, Identity};
use crate::session::SessionConfig;

/// Somebody else whom an endpoint is.
#[derive(Debug)]
pub(super) struct Alias {
    pub(super) near: Fingerprint,
    pub(super) session: Arc<SessionConfig>,
}

/// Packets for other endpoints that wait to be taken; those beyond are lost, and initiators try again.
const ASTRAY: usize = 256;

/// A keying that came to an endpoint which has not the alias that it is for, or an answer to a hello that another one has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Astray {
    /// The number of the alias, or of the session that is being opened.
    pub whom: u32,
    /// Where the packet came from.
    pub from: SocketAddr,
    /// The packet.
    pub packet: Vec<u8>,
}

impl<R: CryptoRng> Endpoint<R> {
    /// Is somebody else, too. Gives a number that no session has; `None` if there is no room for another.
    pub fn add_alias(
        &mut self,
        identity: Arc<Identity>,
        session: Arc<SessionConfig>,
    ) -> Option<u32> {
        let number = self.free_id()?;
        let near = identity.certificate().fingerprint();
        self.aliases.insert(number, Alias { near, session });
        self.responder.add_alias(number, identity);
        Some(number)
    }

    /// Is not any more. Sessions stay, until they are closed.
    pub fn remove_alias(&mut self, number: u32) {
        self.aliases.remove(&number);
        self.responder.remove_alias(number);
    }

    /// What came for another endpoint. To be asked for where several sockets have one address, with the events.
    #[must_use]
    pub fn poll_astray(&mut self) -> Option<Astray> {
        self.astray.pop_front()
    }

    pub(super) fn went_astray(&mut self, astray: Astray) {
        if self.astray.len() < ASTRAY {
            self.astray.push_back(astray);
        }
    }

    /// The number of a session that another endpoint opens, by the tag of its hello.
    pub(super) fn initiator_elsewhere(&self, tag: &[u8]) -> Option<u32> {
        let number = u32::from_be_bytes(*tag.first_chunk()?);
        let (rest, of) = self.config.ids;
        let of = of.max(1);
        (number % of != rest % of).then_some(number)
    }

    /// Takes what came to another endpoint for the same address. What is not for this endpoint either is lost.
    pub fn handle_astray(&mut self, now: Duration, astray: &Astray) {
        if self.aliases.contains_key(&astray.whom) {
            let before = self.astray.len();
            self.responder
                .handle_packet(now, astray.from, &astray.packet);
            self.look_after_responder();
            // What else is in it was given away by the endpoint that it came to.
            self.astray.truncate(before);
        } else if let Some(initiator) = self.initiators.get_mut(&astray.whom) {
            initiator.handle_packet(now, astray.from, 0, &astray.packet, &mut self.rng);
            self.look_after_initiator(now, astray.whom);
        }
    }
}
