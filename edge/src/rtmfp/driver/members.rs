//! Members of groups that this driver makes, each for a stream that is fed into its group: see [`multicast`](crate::rtmfp::multicast).
//!
//! A member is another one of this endpoint, with an identity of its own at the address of this socket, and is registered like any client: under
//! the number of its alias in the place of a session. Whoever is told of it by the bootstrap opens a session to it; it opens sessions itself to
//! members that it is told of, but gives them [`HEAD_START`], because both are told at the same time.
//!
//! Clients that keep to the letter of RFC 7016 (section 3.5.1.1.2) do not take a session from an address which they have another session to,
//! and to them this address is their server's. They are not lost: they open sessions themselves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_rtmfp::crypto::certificate::{Fingerprint, Identity};
use headwater_rtmfp::crypto::diffie_hellman::Group;
use headwater_rtmfp::crypto::discriminator;
use headwater_rtmfp::flow;
use headwater_rtmfp::group::message::{StreamKey, Times};
use headwater_rtmfp::group::{Publisher, PublisherConfig, Stream, Talked};
use headwater_rtmfp::handshake::{InitiatorConfig, Lookup};
use headwater_rtmfp::session::SessionConfig;
use headwater_rtmfp::wire::chunk::Payload as _;
use headwater_rtmfp::wire::startup::ForwardedHello;
use headwater_rtmfp::wire::{Address, Origin};
use rand::Rng as _;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};

use super::Driver;
use crate::rtmfp::multicast::Fed;

/// How long a member that this one is told of has for opening the session itself.
const HEAD_START: Duration = Duration::from_secs(3);

/// Members that one opens sessions to at once, or is about to.
const SOUGHT: usize = 16;

/// The longest message of a member, in bytes: reports of all that it knows.
const LONGEST_MESSAGE: usize = 64 << 10;

/// Bytes that a member may have this end keep of what it sends.
const RECEIVED: usize = 256 << 10;

/// Bytes that may wait for a member.
const SENT: usize = 2 << 20;

/// Flows of a session with a member, in each direction.
const FLOWS: usize = 32;

/// A member that is to have a session.
enum Sought {
    /// If it opens none itself until then.
    At(Duration),
    /// It is being opened, with this id.
    Now(u32),
}

struct Member {
    feed: u64,
    identity: Arc<Identity>,
    publisher: Publisher,
    sought: BTreeMap<Fingerprint, Sought>,
    /// When something is due.
    due: Option<Duration>,
    _room: OwnedSemaphorePermit,
}

impl Member {
    fn peer(&self) -> Fingerprint {
        self.identity.certificate().fingerprint()
    }

    fn note(&mut self) {
        let sought = self.sought.values().filter_map(|sought| match sought {
            Sought::At(at) => Some(*at),
            Sought::Now(_) => None,
        });
        self.due = self
            .publisher
            .poll_timeout()
            .into_iter()
            .chain(sought)
            .min();
    }
}

/// The members of one driver, by the numbers of their aliases.
#[derive(Default)]
pub(super) struct Members {
    all: BTreeMap<u32, Member>,
    /// Whose a session is.
    sessions: BTreeMap<u32, u32>,
    /// This driver has the streams of its worker.
    pub(super) has_feeds: bool,
}

impl Members {
    pub(super) fn new(has_feeds: bool) -> Self {
        Self {
            has_feeds,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.all.values().filter_map(|member| member.due).min()
    }
}

impl Driver {
    /// Where members are reached, as far as is known.
    fn member_addresses(&self) -> Vec<Address> {
        let public = &self.worker.shared.config.rtmfp.public;
        let bound = self.socket.address().ok();
        let bound = bound.filter(|_| public.is_empty());
        let bound = bound.filter(|it| !it.ip().to_canonical().is_unspecified());
        let address = |socket: SocketAddr| Address {
            socket,
            origin: Origin::Observed,
        };
        public.iter().copied().chain(bound).map(address).collect()
    }

    /// Takes what publishers of this worker feed into groups.
    pub(super) fn take_feeds(&mut self, now: Duration) {
        if !self.members.has_feeds {
            return;
        }
        let feeds = std::rc::Rc::clone(&self.worker.feeds);
        while let Some((feed, fed)) = feeds.take() {
            let mut members = self.members.all.iter_mut();
            let member = members.find(|(_, member)| member.feed == feed);
            let alias = match (fed, member) {
                (Fed::Message(message, flags), Some((alias, member))) => {
                    member.publisher.push(now, &message, flags);
                    *alias
                }
                (Fed::Ended, Some((alias, member))) => {
                    member.publisher.end(now);
                    let alias = *alias;
                    self.hide_member(alias);
                    alias
                }
                (begun @ Fed::Begun { .. }, _) => {
                    self.begin_member(feed, begun);
                    continue;
                }
                (Fed::Message(..) | Fed::Ended, None) => continue,
            };
            self.rouse(alias);
        }
    }

    fn begin_member(&mut self, feed: u64, begun: Fed) {
        let Fed::Begun {
            specification,
            name,
            room,
        } = begun
        else {
            return;
        };
        let mut rng = rand::rng();
        // The group that all clients have, and that the oldest take alone.
        let identity = match Identity::with_static_key(Group::Modp1024, &mut rng) {
            Ok(identity) => Arc::new(identity),
            Err(error) => {
                warn!(%error, "no member can be made");
                return;
            }
        };
        let section = &self.worker.shared.config.rtmfp;
        let session = Arc::new(SessionConfig {
            keepalive: Duration::from_millis(section.keepalive_ms),
            dead_after: Duration::from_millis(section.dead_after_ms),
            trust_packets: section.trust_packets,
            flows: flow::Config {
                sending_flows: FLOWS,
                receiving_flows: FLOWS,
                receive_window: LONGEST_MESSAGE,
                receive_bytes: RECEIVED,
                message_bytes: LONGEST_MESSAGE,
                send_bytes: SENT,
                ..super::flow_config(section)
            },
            ..SessionConfig::default()
        });
        let config = PublisherConfig {
            neighbours: section.member_neighbours,
            bytes: section.member_bytes,
        };
        let Some(alias) = self.endpoint.add_alias(Arc::clone(&identity), session) else {
            warn!(name, "there is no room for another member of a group");
            return;
        };
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let addresses = self.member_addresses();
        let peer = identity.certificate().fingerprint();
        let group = specification.id();
        info!(%peer, %group, group_name = specification.name(), stream = name, "a stream is fed into a group");
        let relay = |it: &Address| Address {
            origin: Origin::Relay,
            ..*it
        };
        let publisher = Publisher::new(
            Stream {
                specification,
                peer,
                addresses: addresses.iter().map(relay).collect(),
                name,
                key: StreamKey(key),
                times: Times::default(),
            },
            config,
        );
        let member = Member {
            feed,
            identity,
            publisher,
            sought: BTreeMap::new(),
            due: None,
            _room: room,
        };
        self.members.all.insert(alias, member);
        let peers = &self.worker.shared.peers;
        peers.register(&self.port, alias, peer, addresses);
        peers.join(&self.port, alias, group, peer);
        self.worker.shared.metrics.peers.feeding.members.inc();
    }

    /// Nobody is told of a member any more.
    fn hide_member(&mut self, alias: u32) {
        let Some(member) = self.members.all.get_mut(&alias) else {
            return;
        };
        let (peer, group) = (member.peer(), member.publisher.stream().specification.id());
        for (_, sought) in std::mem::take(&mut member.sought) {
            if let Sought::Now(session) = sought {
                self.endpoint.give_up(session);
            }
        }
        let peers = &self.worker.shared.peers;
        peers.leave(&self.port, alias, group, peer);
        peers.gone(&self.port, alias, &peer);
    }

    fn end_member(&mut self, now: Duration, alias: u32) {
        self.hide_member(alias);
        let Some(member) = self.members.all.remove(&alias) else {
            return;
        };
        debug!(peer = %member.peer(), "a stream is not fed into its group any more");
        self.endpoint.remove_alias(alias);
        for session in member.publisher.sessions() {
            self.members.sessions.remove(&session);
            self.endpoint
                .with_session(now, session, |session| session.close(now));
        }
        self.worker.shared.metrics.peers.feeding.members.dec();
    }

    pub(super) fn end_members(&mut self, now: Duration) {
        let all: Vec<u32> = self.members.all.keys().copied().collect();
        for alias in all {
            self.end_member(now, alias);
        }
        if self.members.has_feeds {
            self.worker.feeds.detach();
        }
    }

    /// Has a member talk with all its neighbours.
    fn rouse(&mut self, alias: u32) {
        if let Some(member) = self.members.all.get_mut(&alias) {
            self.talking
                .borrow_mut()
                .extend(member.publisher.sessions());
            member.note();
        }
    }

    /// Does what is due of members.
    pub(super) fn elapse_members(&mut self, now: Duration) {
        if self.members.due().is_none_or(|at| now < at) {
            return;
        }
        let all = self.members.all.iter();
        let due = all.filter(|(_, member)| member.due.is_some_and(|at| now >= at));
        let due: Vec<u32> = due.map(|(alias, _)| *alias).collect();
        for alias in due {
            let Some(member) = self.members.all.get_mut(&alias) else {
                continue;
            };
            if member.publisher.is_over(now) {
                self.end_member(now, alias);
                continue;
            }
            let due = member
                .sought
                .iter()
                .filter_map(|(peer, sought)| match sought {
                    Sought::At(at) if now >= *at => Some(*peer),
                    _ => None,
                });
            let due: Vec<Fingerprint> = due.collect();
            for peer in due {
                self.seek(now, alias, peer);
            }
            // Noted anew when all have talked.
            self.rouse(alias);
        }
    }

    /// There is a session. Whether this end is a member in it.
    pub(super) fn opened_as_member(&mut self, now: Duration, session: u32) -> bool {
        let Some(opened) = self.endpoint.session(session) else {
            return false;
        };
        let mut members = self.members.all.iter_mut();
        let member = members.find(|(_, member)| member.peer() == opened.near());
        let Some((alias, member)) = member else {
            return false;
        };
        let (alias, far) = (*alias, opened.fingerprint());
        debug!(peer = %member.peer(), %far, from = %opened.address(), "a member has a neighbour");
        let talked = member.publisher.opened(now, opened);
        if let Some(Sought::Now(other)) = member.sought.remove(&far)
            && other != session
        {
            self.endpoint.give_up(other);
        }
        if talked == Talked::Over {
            self.endpoint
                .with_session(now, session, |session| session.close(now));
        } else {
            self.members.sessions.insert(session, alias);
            self.talking.borrow_mut().insert(session);
        }
        true
    }

    /// Whether it was a session of a member.
    pub(super) fn member_gone(&mut self, session: u32) -> bool {
        let Some(alias) = self.members.sessions.remove(&session) else {
            return false;
        };
        if let Some(member) = self.members.all.get_mut(&alias) {
            member.publisher.gone(session);
            member.note();
        }
        true
    }

    /// A session that a member was to have was not opened.
    pub(super) fn member_failed(&mut self, session: u32) {
        for member in self.members.all.values_mut() {
            let is_this = |sought: &Sought| matches!(sought, Sought::Now(id) if *id == session);
            member.sought.retain(|_, sought| !is_this(sought));
        }
    }

    /// Whether a session is of a member, which then has said what it has to say.
    pub(super) fn talk_as_member(&mut self, now: Duration, session: u32) -> bool {
        let Some(alias) = self.members.sessions.get(&session) else {
            return false;
        };
        let Some(member) = self.members.all.get_mut(alias) else {
            return false;
        };
        let publisher = &mut member.publisher;
        let talked = self.endpoint.with_session(now, session, |session| {
            let talked = if session.is_open() {
                publisher.talk(now, session)
            } else {
                session.forget_flows();
                Talked::Over
            };
            if talked == Talked::Over {
                session.close(now);
            }
            talked
        });
        if talked != Some(Talked::On) {
            publisher.gone(session);
            self.members.sessions.remove(&session);
        }
        member.note();
        true
    }

    /// Somebody wants a session with a member. False: it is none of this driver's.
    pub(super) fn hello_for_member(
        &mut self,
        now: Duration,
        alias: u32,
        peer: &Fingerprint,
        tag: &[u8],
        initiator: &[Address],
    ) -> bool {
        let member = self.members.all.get(&alias);
        if member.is_none_or(|member| member.peer() != *peer) {
            return false;
        }
        let discriminator = discriminator::for_fingerprint(peer);
        for address in initiator {
            let hello = ForwardedHello {
                discriminator: &discriminator,
                reply_to: *address,
                tag,
            };
            let mut payload = Vec::new();
            hello.put(&mut payload);
            self.endpoint.handle_forwarded(now, &payload);
        }
        true
    }

    /// A member is told of others. False: it is none of this driver's.
    pub(super) fn neighbours_of_member(
        &mut self,
        now: Duration,
        alias: u32,
        neighbours: &[Fingerprint],
    ) -> bool {
        let Some(member) = self.members.all.get_mut(&alias) else {
            return false;
        };
        for peer in neighbours {
            let is_wanted = member.publisher.wants_neighbours()
                && !member.publisher.has(peer)
                && member.peer() != *peer
                && member.sought.len() < SOUGHT;
            if is_wanted {
                let at = Sought::At(now + HEAD_START);
                member.sought.entry(*peer).or_insert(at);
            }
        }
        member.note();
        true
    }

    /// Opens a session to another member, as a member.
    fn seek(&mut self, now: Duration, alias: u32, peer: Fingerprint) {
        let Some(member) = self.members.all.get_mut(&alias) else {
            return;
        };
        member.sought.remove(&peer);
        if member.publisher.has(&peer) || !member.publisher.wants_neighbours() {
            return;
        }
        let discriminator = discriminator::for_fingerprint(&peer);
        let config = InitiatorConfig::new(Arc::clone(&member.identity), discriminator.clone());
        let Some(session) = self.endpoint.connect(now, config, &[]) else {
            return;
        };
        debug!(peer = %member.peer(), far = %peer, "a member looks for another");
        member.sought.insert(peer, Sought::Now(session));
        let near = self.member_addresses();
        let (Some(tag), Ok(bound)) = (self.endpoint.tag(session), self.socket.address()) else {
            return;
        };
        let from = near.first().map_or(bound, |address| address.socket);
        let lookup = Lookup::own(from, discriminator, tag.to_vec());
        let peers = &self.worker.shared.peers;
        peers.introduce(&self.port, lookup, peer, near);
    }
}
