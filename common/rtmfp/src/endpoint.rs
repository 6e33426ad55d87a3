//! All sessions of one socket, and how they come and go: an endpoint in all roles.
//!
//! ```text
//! datagrams        --> handle_datagram    poll_transmit --> datagrams, and where they go to
//! application      --> with_session,      poll_event    --> application
//!                      connect, keyed
//! the time         --> handle_timeout     poll_timeout  --> when to call it
//! ```
//! After calls take the events until there are none, then the datagrams until there are none, and then ask for the next time.
//!
//! # Keys
//! Agreeing on keys takes some tenths of a millisecond, and is asked of the application as [`EndpointEvent::Keying`]: it runs the task on a
//! bounded pool and gives what came of it to [`Endpoint::keyed`]; if its pool is full it gives the task's id to [`Endpoint::abandoned`], and the
//! initiator tries again.
//!
//! # Who is who
//! A session is found by its id alone, wherever its packets come from. A peer id is that of the newest session that has shown to have its
//! keys; the one before is ended then, and not earlier, because certificates can be copied by whoever sees them.
//!
//! # Several at one socket
//! An endpoint may be others beside itself, [aliases](Endpoint::add_alias): peers with identities of their own, at the same address. They
//! answer to those who ask for their fingerprints, and open sessions in their own names. A session says [as whom](Session::near) it is.
//! Where several sockets have one address an initiator's packets may come to an endpoint without the alias, and answers to hellos to one that
//! has sent none. It gives them away with [`Endpoint::poll_astray`]: numbers of aliases, and of sessions that are being opened, leave the
//! same rest as the other ids of their endpoint.
//!
//! # Bounds
//! [`EndpointConfig`] bounds sessions; those that have not shown to have their keys live 30 s and no longer.

mod aliases;
mod opening;
mod types;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use rustc_hash::FxHashMap;

use self::aliases::Alias;
pub use self::aliases::Astray;
pub use self::types::{Dropped, EndpointConfig, EndpointEvent};
use crate::crypto::certificate::Fingerprint;
use crate::crypto::cookie::Cookies;
use crate::crypto::packet;
use crate::flow;
use crate::handshake::{
    Accepted, Glare, Initiator, InitiatorEvent, InitiatorFailure, KeyingId, KeyingTask, Responder,
    ResponderEvent, Startup, tag_of,
};
use crate::session::{Session, SessionEvent};

/// How long a session may go without a packet that shows that its far end has the keys.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// Datagrams that one session sends before the next one has its turn.
const TURN: u32 = 16;

#[derive(Debug)]
struct Entry {
    session: Session,
    /// Whose answer is remembered until the first packet.
    keying: Option<KeyingId>,
    opened: Duration,
    /// When it is looked at: not later than something is to be done.
    timer: Option<Duration>,
    is_queued: bool,
}

impl Entry {
    /// When the session is given up because its far end has not shown that it has the keys.
    fn gives_up_at(&self) -> Option<Duration> {
        let is_doubtful = !self.session.is_confirmed() && !self.session.is_over();
        is_doubtful.then(|| self.opened + UNCONFIRMED)
    }

    /// When something is to be done.
    fn due(&self) -> Option<Duration> {
        let times = [self.session.poll_timeout(), self.gives_up_at()];
        times.into_iter().flatten().min()
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Endpoint<R> {
    config: EndpointConfig,
    startup: Startup,
    responder: Responder,
    /// Each by itself: a map that grows has both the old places and the new. Who they are is this end's choice, so that a fast hash does.
    sessions: FxHashMap<u32, Box<Entry>>,
    initiators: HashMap<u32, Initiator>,
    tags: HashMap<Vec<u8>, u32>,
    /// Sessions by who this end is in them, and the far end.
    peers: HashMap<(Fingerprint, Fingerprint), u32>,
    /// Who it is beside itself, and what the sessions of these are like.
    aliases: HashMap<u32, Alias>,
    /// What came outside sessions, and is for endpoints of other sockets.
    astray: VecDeque<Astray>,
    /// Keyings that are worked at, by the id that their session gets.
    keyings: FxHashMap<u32, KeyingId>,
    timers: BTreeSet<(Duration, u32)>,
    /// Sessions that may have something to send.
    ready: VecDeque<u32>,
    /// What the one at the front has sent in its turn.
    sent: u32,
    events: VecDeque<EndpointEvent>,
    transmits: VecDeque<crate::handshake::Transmit>,
    dropped: Dropped,
    /// What happened in the flows of all sessions.
    flows: flow::Counters,
    rng: R,
}

impl<R: CryptoRng> Endpoint<R> {
    /// One without sessions. Endpoints for several sockets of one address have clones of the same `cookies`.
    #[must_use]
    pub fn new(config: EndpointConfig, cookies: Cookies, mut rng: R) -> Self {
        Self {
            startup: Startup::new(config.fragments),
            responder: Responder::new(config.responder.clone(), cookies, &mut rng),
            config,
            sessions: FxHashMap::default(),
            initiators: HashMap::new(),
            tags: HashMap::new(),
            peers: HashMap::new(),
            aliases: HashMap::new(),
            astray: VecDeque::new(),
            keyings: FxHashMap::default(),
            timers: BTreeSet::new(),
            ready: VecDeque::new(),
            sent: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            dropped: Dropped::default(),
            flows: flow::Counters::default(),
            rng,
        }
    }

    /// Whether new sessions are taken. Those whose keys are being agreed on still come.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.responder.set_accepting(accepting);
    }

    /// Datagrams that were dropped.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// What its responder has counted.
    #[must_use]
    pub fn counters(&self) -> crate::handshake::Counters {
        self.responder.counters()
    }

    /// What happened in the flows of all sessions there were, up to the last time that a session had nothing more to send.
    #[must_use]
    pub fn flow_counters(&self) -> flow::Counters {
        self.flows
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The session with a peer that has shown to have the keys, in which this end is itself.
    #[must_use]
    pub fn peer(&self, peer: &Fingerprint) -> Option<u32> {
        let near = self.config.responder.identity.certificate().fingerprint();
        self.peers.get(&(near, *peer)).copied()
    }

    /// A session, to look at.
    #[must_use]
    pub fn session(&self, session: u32) -> Option<&Session> {
        self.sessions.get(&session).map(|entry| &entry.session)
    }

    /// Does something with a session, and sees to what comes of it.
    pub fn with_session<T>(
        &mut self,
        now: Duration,
        session: u32,
        act: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let done = act(&mut self.sessions.get_mut(&session)?.session);
        self.look_after(now, session);
        Some(done)
    }

    /// Takes a datagram, in place. Whether datagrams are to be taken before the next one comes, because something is to be acknowledged;
    /// events can wait.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> bool {
        let Some(id) = packet::session_id(datagram) else {
            self.dropped.unknown += 1;
            return false;
        };
        if let Some(entry) = self.sessions.get_mut(&id) {
            let (before, _) = entry.session.look().waiting();
            if entry.session.handle_datagram(now, from, datagram).is_err() {
                self.dropped.session += 1;
                self.look_after(now, id);
                return false;
            }
            let flows = entry.session.look();
            let owes = flows.owes_acknowledgement();
            if flows.has_events() {
                self.events.push_back(EndpointEvent::Flows { session: id });
            } else if flows.waiting().0 < before {
                self.events.push_back(EndpointEvent::Room { session: id });
            }
            self.look_after(now, id);
            return owes;
        }
        if id == 0 || self.initiators.contains_key(&id) {
            self.handle_startup(now, from, id, datagram);
        } else {
            self.dropped.unknown += 1;
        }
        false
    }

    fn handle_startup(&mut self, now: Duration, from: SocketAddr, id: u32, datagram: &mut [u8]) {
        let packet = match self.startup.open(now, from, datagram) {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(_) => {
                self.dropped.startup += 1;
                return;
            }
        };
        let initiator = match id {
            0 => {
                let tag = tag_of(&packet);
                if let Some(whom) = tag.and_then(|tag| self.initiator_elsewhere(tag)) {
                    let packet = packet.into_owned();
                    self.went_astray(Astray { whom, from, packet });
                    return;
                }
                tag.and_then(|tag| self.tags.get(tag).copied())
            }
            id => Some(id),
        };
        if let Some(initiator) = initiator
            && let Some(found) = self.initiators.get_mut(&initiator)
        {
            found.handle_packet(now, from, id, &packet, &mut self.rng);
            self.look_after_initiator(now, initiator);
        } else if id == 0 {
            self.responder.handle_packet(now, from, &packet);
            self.look_after_responder();
        }
    }

    /// Takes a hello that a session passed on: see [`SessionEvent::ForwardedHello`].
    pub fn handle_forwarded(&mut self, now: Duration, payload: &[u8]) {
        self.responder.handle_forwarded(now, payload);
        self.look_after_responder();
    }

    /// A keying came to its end.
    pub fn keyed(&mut self, now: Duration, near_id: u32, accepted: Option<Accepted>) {
        let Some(keying) = self.keyings.remove(&near_id) else {
            return;
        };
        let Some(accepted) = accepted else {
            self.responder.abandoned(keying);
            return;
        };
        self.responder.accepted(now, &accepted);
        self.look_after_responder();
        self.insert(now, accepted.opened, Some(keying));
    }

    /// Nothing will be done for a keying.
    pub fn abandoned(&mut self, near_id: u32) {
        if let Some(keying) = self.keyings.remove(&near_id) {
            self.responder.abandoned(keying);
        }
    }

    fn insert(
        &mut self,
        now: Duration,
        opened: crate::handshake::Opened,
        keying: Option<KeyingId>,
    ) {
        let id = opened.near_id;
        let mut secret = [0; 32];
        self.rng.fill_bytes(&mut secret);
        let alias = self.aliases.values().find(|it| it.near == opened.near);
        let config = alias.map_or(&self.config.session, |it| &it.session);
        let session = Session::new(opened, Arc::clone(config), now, secret);
        let entry = Entry {
            session,
            keying,
            opened: now,
            timer: None,
            is_queued: false,
        };
        self.sessions.insert(id, Box::new(entry));
        self.events.push_back(EndpointEvent::Opened { session: id });
        self.look_after(now, id);
    }

    fn look_after_responder(&mut self) {
        while let Some(transmit) = self.responder.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        while let Some(event) = self.responder.poll_event() {
            match event {
                ResponderEvent::Lookup(lookup) => {
                    self.events.push_back(EndpointEvent::Lookup(lookup));
                }
                ResponderEvent::Keying(task) => self.admit(task),
                ResponderEvent::Astray { whom, from, packet } => {
                    self.went_astray(Astray { whom, from, packet });
                }
            }
        }
    }

    fn admit(&mut self, task: Box<KeyingTask>) {
        let mut yields = Vec::new();
        let near = task.near();
        let own = self.initiators.iter().filter(|(_, it)| it.near() == near);
        for (id, initiator) in own {
            match initiator.glare(task.source(), task.certificate()) {
                Glare::NearPrevails => {
                    self.responder.abandoned(task.id());
                    return;
                }
                Glare::FarPrevails => yields.push(*id),
                Glare::None | Glare::Unrelated => {}
            }
        }
        let Some(near_id) = self.free_id() else {
            self.dropped.sessions += 1;
            self.responder.abandoned(task.id());
            return;
        };
        for id in yields {
            self.fail(id, InitiatorFailure::NoKeying);
        }
        self.keyings.insert(near_id, task.id());
        self.events
            .push_back(EndpointEvent::Keying { task, near_id });
    }

    fn fail(&mut self, session: u32, failure: InitiatorFailure) {
        self.give_up(session);
        self.events
            .push_back(EndpointEvent::Failed { session, failure });
    }

    fn look_after_initiator(&mut self, now: Duration, id: u32) {
        let Some(initiator) = self.initiators.get_mut(&id) else {
            return;
        };
        while let Some(transmit) = initiator.poll_transmit() {
            self.transmits.push_back(transmit);
        }
        let mut over = None;
        while let Some(event) = initiator.poll_event() {
            match event {
                InitiatorEvent::Answered { .. } => {}
                InitiatorEvent::Opened(opened) => over = Some(Ok(opened)),
                InitiatorEvent::Failed(failure) => over = Some(Err(failure)),
            }
        }
        match over {
            Some(Ok(opened)) => {
                self.give_up(id);
                self.insert(now, *opened, None);
            }
            Some(Err(failure)) => self.fail(id, failure),
            None => {
                if let Some(at) = initiator.poll_timeout() {
                    self.timers.insert((at, id));
                }
            }
        }
    }

    /// Takes the events of a session, and notes when it is to be looked at again.
    fn look_after(&mut self, now: Duration, id: u32) {
        let Some(entry) = self.sessions.get_mut(&id) else {
            return;
        };
        let mut confirmed = false;
        while let Some(event) = entry.session.poll_event() {
            confirmed |= event == SessionEvent::Confirmed;
            self.events
                .push_back(EndpointEvent::Session { session: id, event });
        }
        if confirmed {
            if let Some(keying) = entry.keying.take() {
                self.responder.confirmed(keying);
            }
            let ends = (entry.session.near(), entry.session.fingerprint());
            let before = self.peers.insert(ends, id);
            if let Some(before) = before.filter(|before| *before != id) {
                // The same certificate: the far end opened another one and has forgotten this.
                self.with_session(now, before, Session::abort);
            }
        }
        self.note(id);
    }

    /// Has a session take its turn, after which its time is noted.
    fn note(&mut self, id: u32) {
        if let Some(entry) = self.sessions.get_mut(&id)
            && !entry.is_queued
        {
            entry.is_queued = true;
            self.ready.push_back(id);
        }
    }

    fn note_time(&mut self, id: u32) {
        let Some(entry) = self.sessions.get_mut(&id) else {
            return;
        };
        // Times go back and forth with each packet, and mostly forth: one that is too early is put off when it comes.
        if let Some(timer) = entry.due()
            && entry.timer.is_none_or(|before| timer < before)
        {
            if let Some(before) = entry.timer.replace(timer) {
                self.timers.remove(&(before, id));
            }
            self.timers.insert((timer, id));
        }
    }

    fn drop_session(&mut self, id: u32) {
        let Some(mut entry) = self.sessions.remove(&id) else {
            return;
        };
        self.flows += entry.session.take_counters();
        if let Some(timer) = entry.timer {
            self.timers.remove(&(timer, id));
        }
        if let Some(keying) = entry.keying {
            self.responder.confirmed(keying);
        }
        let ends = (entry.session.near(), entry.session.fingerprint());
        if self.peers.get(&ends) == Some(&id) {
            self.peers.remove(&ends);
        }
        self.events.push_back(EndpointEvent::Gone { session: id });
    }

    /// What has happened. Call it until there is nothing.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<EndpointEvent> {
        self.events.pop_front()
    }

    /// Appends the next datagram to `out`, and gives where it goes to. Call it until there is nothing. Datagrams for one address follow each
    /// other, up to a number, so that they can be sent together.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if let Some(transmit) = self.transmits.pop_front() {
            out.extend_from_slice(&transmit.datagram);
            return Some(transmit.to);
        }
        while let Some(id) = self.ready.front().copied() {
            let Some(entry) = self.sessions.get_mut(&id) else {
                self.end_turn();
                continue;
            };
            if let Some(to) = entry.session.poll_transmit(now, out) {
                self.sent += 1;
                if self.sent >= TURN {
                    self.end_turn();
                    self.ready.push_back(id);
                }
                return Some(to);
            }
            entry.is_queued = false;
            let is_over = entry.session.is_over();
            self.end_turn();
            if is_over {
                self.drop_session(id);
            } else {
                self.rest(id);
            }
        }
        None
    }

    fn end_turn(&mut self) {
        self.ready.pop_front();
        self.sent = 0;
    }

    /// After datagrams were taken: nothing more is to be sent now.
    fn rest(&mut self, id: u32) {
        self.note_time(id);
        if let Some(entry) = self.sessions.get_mut(&id) {
            self.flows += entry.session.take_counters();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest, and events and datagrams taken after it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let timers = self.timers.first().map(|(at, _)| *at);
        let others = [self.responder.poll_timeout(), self.startup.poll_timeout()];
        others.into_iter().flatten().chain(timers).min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.responder.handle_timeout(now);
        self.startup.handle_timeout(now);
        // Each once: what is due again at once has its turn after what is sent now.
        let later = self.timers.split_off(&(now + Duration::from_nanos(1), 0));
        for (_, id) in std::mem::replace(&mut self.timers, later) {
            if let Some(entry) = self.sessions.get_mut(&id) {
                entry.timer = None;
                if entry.due().is_none_or(|at| at > now) {
                    // What was due may have been done by the way, and have made room.
                    self.events.push_back(EndpointEvent::Room { session: id });
                    self.note_time(id);
                    continue;
                }
                entry.session.handle_timeout(now);
                if entry.gives_up_at().is_some_and(|at| at <= now) {
                    entry.session.abort();
                }
                self.events.push_back(EndpointEvent::Flows { session: id });
                self.look_after(now, id);
            } else if let Some(initiator) = self.initiators.get_mut(&id) {
                initiator.handle_timeout(now);
                self.look_after_initiator(now, id);
            }
        }
    }

    /// An id that nothing has, if there is room for another session.
    fn free_id(&mut self) -> Option<u32> {
        let others = self.keyings.len() + self.aliases.len();
        let used = self.sessions.len() + self.initiators.len() + others;
        if used >= self.config.sessions {
            return None;
        }
        let (rest, of) = self.config.ids;
        let of = of.max(1);
        loop {
            let id = self.rng.next_u32();
            let id = (id - id % of).checked_add(rest % of);
            let is_free = |id: &u32| {
                *id != 0
                    && !self.sessions.contains_key(id)
                    && !self.initiators.contains_key(id)
                    && !self.keyings.contains_key(id)
                    && !self.aliases.contains_key(id)
            };
            if let Some(id) = id.filter(is_free) {
                return Some(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
