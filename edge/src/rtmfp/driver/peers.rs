//! Clients as peers: where they are, who asks for them, which groups they are in.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::Fingerprint;
use headwater_rtmfp::crypto::discriminator::{self, Discriminator};
use headwater_rtmfp::group::GroupId;
use headwater_rtmfp::handshake::Lookup;
use headwater_rtmfp::wire::Address;
use headwater_rtmfp::wire::startup::ForwardedHello;
use tracing::debug;

use super::Driver;
use crate::peer::{self, Told};
use crate::rtmfp::relay::Relay;

/// A client that others may know of.
pub(super) struct Known {
    peer: Fingerprint,
    seen: SocketAddr,
    /// Where it says that it can be reached, beside where it is seen. Only who has said it, and be it nothing, wants to be found.
    reported: Option<Vec<SocketAddr>>,
    groups: BTreeSet<GroupId>,
}

impl Driver {
    fn known(&mut self, id: u32) -> Option<&mut Known> {
        // What one that is over said last is still taken, but nobody is to find it any more.
        let session = self.endpoint.session(id).filter(|it| it.is_open())?;
        let (peer, seen) = (session.fingerprint(), session.address());
        let known = self.known.entry(id).or_insert_with(|| Known {
            peer,
            seen,
            reported: None,
            groups: BTreeSet::new(),
        });
        Some(known)
    }

    /// A client says where it can be reached.
    pub(super) fn reported(&mut self, id: u32, addresses: Vec<SocketAddr>) {
        if let Some(known) = self.known(id) {
            debug!(peer = %known.peer, ?addresses, "a client says where it can be reached");
            known.reported = Some(addresses);
            self.register(id);
        }
    }

    /// Has everybody know where a client is.
    pub(super) fn register(&mut self, id: u32) {
        let seen = self.endpoint.session(id).map(|session| session.address());
        let (Some(seen), Some(known)) = (seen, self.known.get_mut(&id)) else {
            return;
        };
        let Some(reported) = &known.reported else {
            return;
        };
        if self.at.get(&known.seen) == Some(&id) {
            self.at.remove(&known.seen);
        }
        known.seen = seen;
        self.at.insert(seen, id);
        let addresses = peer::here(seen, reported);
        let peers = &self.worker.shared.peers;
        peers.register(&self.port, id, known.peer, addresses);
    }

    pub(super) fn joined(&mut self, id: u32, group: GroupId) {
        let Some(known) = self.known(id) else {
            return;
        };
        let peer = known.peer;
        known.groups.insert(group);
        debug!(%peer, %group, "a client joins a group");
        let peers = &self.worker.shared.peers;
        peers.join(&self.port, id, group, peer);
    }

    pub(super) fn left(&mut self, id: u32, group: GroupId) {
        let Some(known) = self.known.get_mut(&id) else {
            return;
        };
        if !known.groups.remove(&group) {
            return;
        }
        debug!(peer = %known.peer, %group, "a client leaves a group");
        let peers = &self.worker.shared.peers;
        peers.leave(&self.port, id, group, known.peer);
    }

    /// A client is gone.
    pub(super) fn forget(&mut self, id: u32) {
        let Some(known) = self.known.remove(&id) else {
            return;
        };
        if self.at.get(&known.seen) == Some(&id) {
            self.at.remove(&known.seen);
        }
        let peers = &self.worker.shared.peers;
        if known.reported.is_some() {
            peers.gone(&self.port, id, &known.peer);
        }
        for group in known.groups {
            peers.leave(&self.port, id, group, known.peer);
        }
    }

    pub(super) fn relay(&mut self, id: u32, relay: Relay) {
        let sender = self.endpoint.session(id).map(|it| it.fingerprint());
        let to = relay.to;
        if let Some(command) = sender.and_then(|sender| relay.command(&sender)) {
            self.worker.shared.peers.relay(to, command);
        }
    }

    /// Somebody asks for somebody.
    pub(super) fn look_up(&self, lookup: Lookup) {
        let asked = Discriminator::read(&lookup.discriminator);
        let Some(peer) = asked.ok().and_then(|asked| asked.fingerprint) else {
            return;
        };
        // A client asks from where its session with this server is, and may be nearer than that to the other.
        let known = self.at.get(&lookup.from).and_then(|id| self.known.get(id));
        let reported = known.and_then(|known| known.reported.as_deref());
        let initiator = peer::here(lookup.from, reported.unwrap_or_default());
        let peers = &self.worker.shared.peers;
        peers.introduce(&self.port, lookup, peer, initiator);
    }

    /// Something comes for a client, or for who has asked.
    pub(super) fn told(&mut self, now: Duration, told: Told) {
        match told {
            Told::Found { lookup, addresses } => {
                if !self.endpoint.introduced(now, &lookup.tag, &addresses) {
                    self.endpoint.redirect(now, &lookup, &addresses);
                }
            }
            Told::Hello {
                session,
                peer,
                tag,
                initiator,
            } => {
                if !self.hello_for_member(now, session, &peer, &tag, &initiator) {
                    self.hello(now, session, &peer, &tag, &initiator);
                }
            }
            Told::Neighbours {
                session,
                group,
                neighbours,
            } => {
                if self.neighbours_of_member(now, session, &neighbours) {
                    return;
                }
                if let Some(client) = self.clients.get_mut(&session) {
                    self.endpoint.with_session(now, session, |session| {
                        client.name_members(now, session.flows(), group, &neighbours);
                    });
                }
            }
            Told::Command { session, command } => {
                if let Some(client) = self.clients.get_mut(&session) {
                    self.endpoint.with_session(now, session, |session| {
                        client.relayed(now, session.flows(), command);
                    });
                }
            }
        }
    }

    fn hello(
        &mut self,
        now: Duration,
        session: u32,
        peer: &Fingerprint,
        tag: &[u8],
        initiator: &[Address],
    ) {
        // The session may have ended, and its number be that of another one.
        let known = self.known.get(&session);
        if known.is_none_or(|known| known.peer != *peer) {
            return;
        }
        let discriminator = discriminator::for_fingerprint(peer);
        self.endpoint.with_session(now, session, |session| {
            for address in initiator {
                session.forward_hello(&ForwardedHello {
                    discriminator: &discriminator,
                    reply_to: *address,
                    tag,
                });
            }
        });
        // A session holds few chunks back, and a newcomer to a group may be wanted by many at once.
        self.transmit(now);
    }
}
