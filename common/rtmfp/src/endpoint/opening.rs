//! Sessions that this end opens, and those that it helps others to: see [`Endpoint`].

use std::net::SocketAddr;
use std::time::Duration;

use rand_core::CryptoRng;

use super::Endpoint;
use crate::handshake::{Initiator, InitiatorConfig, Lookup};
use crate::wire::Address;

impl<R: CryptoRng> Endpoint<R> {
    /// Opens a session. Gives the id that it gets; `None` if there is no room for it.
    pub fn connect(
        &mut self,
        now: Duration,
        config: InitiatorConfig,
        candidates: &[SocketAddr],
    ) -> Option<u32> {
        let id = self.free_id()?;
        let initiator = Initiator::new(now, config, id, candidates, &mut self.rng);
        self.tags.insert(initiator.tag().to_vec(), id);
        self.initiators.insert(id, initiator);
        self.look_after_initiator(now, id);
        Some(id)
    }

    /// Asks at more addresses for a session that is being opened.
    pub fn add_candidates(&mut self, now: Duration, session: u32, candidates: &[SocketAddr]) {
        if let Some(initiator) = self.initiators.get_mut(&session) {
            for address in candidates {
                initiator.add_candidate(now, *address);
            }
            self.look_after_initiator(now, session);
        }
    }

    /// What answers to the hellos for a session that is being opened repeat.
    #[must_use]
    pub fn tag(&self, session: u32) -> Option<&[u8]> {
        self.initiators.get(&session).map(Initiator::tag)
    }

    /// An introducer says where whom a session is being opened to can be reached: as a redirect would. False: no initiator here has this tag.
    pub fn introduced(&mut self, now: Duration, tag: &[u8], candidates: &[Address]) -> bool {
        let Some(session) = self.tags.get(tag).copied() else {
            return false;
        };
        let candidates: Vec<_> = candidates.iter().map(|it| it.socket).collect();
        self.add_candidates(now, session, &candidates);
        true
    }

    /// Gives up a session that is being opened.
    pub fn give_up(&mut self, session: u32) {
        if let Some(initiator) = self.initiators.remove(&session) {
            self.tags.remove(initiator.tag());
        }
    }

    /// Introduces who asks to the far end of a session, which has these addresses, the one that it is seen at first (section 3.5.1.4).
    pub fn introduce(
        &mut self,
        now: Duration,
        lookup: &Lookup,
        session: u32,
        addresses: &[Address],
    ) {
        if self.sessions.contains_key(&session) {
            self.with_session(now, session, |session| {
                session.forward_hello(&lookup.forwarded());
            });
            self.redirect(now, lookup, addresses);
        }
    }

    /// Tells who asks to ask elsewhere.
    pub fn redirect(&mut self, now: Duration, lookup: &Lookup, addresses: &[Address]) {
        self.responder.redirect(now, lookup, addresses);
        self.look_after_responder();
    }
}
