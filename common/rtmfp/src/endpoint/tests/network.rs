//! Endpoints that reach each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Endpoint, EndpointConfig, EndpointEvent};
use crate::crypto::certificate::Identity;
use crate::crypto::cookie::Cookies;
use crate::crypto::diffie_hellman::Group;
use crate::crypto::discriminator;
use crate::flow;
use crate::handshake::{InitiatorConfig, Lookup, ResponderConfig};
use crate::random::Seeded;
use crate::session::{CloseReason, SessionConfig, SessionEvent};
use crate::wire::fragment;

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// One way, in time.
const DELAY: Duration = Duration::from_millis(20);

pub(super) fn uri() -> Vec<u8> {
    discriminator::for_uri("rtmfp://127.0.0.1/live")
}

pub(super) fn new_identity(seed: u64) -> Arc<Identity> {
    Arc::new(Identity::with_static_key(Group::Modp1024, &mut Seeded::new(seed)).unwrap())
}

pub(super) fn cookies(seed: u64) -> Cookies {
    Cookies::new(&mut Seeded::new(seed))
}

fn config(identity: Arc<Identity>) -> EndpointConfig {
    EndpointConfig {
        responder: ResponderConfig::new(identity),
        session: Arc::new(SessionConfig::default()),
        sessions: 100,
        fragments: fragment::Limits::default(),
        ids: (0, 1),
    }
}

/// The same identity for every test.
pub(super) fn client() -> EndpointConfig {
    config(new_identity(1_000))
}

pub(super) fn server() -> EndpointConfig {
    let identity = Identity::server(&Group::ALL, None, &mut Seeded::new(2_000));
    config(Arc::new(identity.unwrap()))
}

pub(super) struct End {
    pub(super) endpoint: Endpoint<Seeded>,
    pub(super) address: SocketAddr,
    events: Vec<EndpointEvent>,
    messages: Vec<String>,
}

pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) ends: Vec<End>,
    /// Of what is sent back of pings nothing comes.
    pub(super) drop_ping_replies: bool,
    under_way: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    pub(super) overheard: Vec<Vec<u8>>,
    number: u64,
    is_cut: bool,
    seed: u64,
}

impl Net {
    pub(super) fn new(seed: u64, client: EndpointConfig, server: EndpointConfig) -> Self {
        let mut net = Self {
            now: Duration::from_secs(1),
            ends: Vec::new(),
            drop_ping_replies: false,
            under_way: BTreeMap::new(),
            overheard: Vec::new(),
            number: 0,
            is_cut: false,
            seed: seed * 1_000,
        };
        net.add(client);
        net.add(server);
        net
    }

    pub(super) fn next_seed(&mut self) -> u64 {
        self.seed += 1;
        self.seed
    }

    pub(super) fn add(&mut self, config: EndpointConfig) -> usize {
        let seed = self.next_seed();
        let number = self.ends.len();
        self.ends.push(End {
            endpoint: Endpoint::new(config, cookies(seed), Seeded::new(seed)),
            address: SocketAddr::from(([192, 0, 2, number as u8 + 1], 1_935)),
            events: Vec::new(),
            messages: Vec::new(),
        });
        number
    }

    /// Opens a session from the client to the server.
    pub(super) fn connect(&mut self, identity: Arc<Identity>) -> u32 {
        let (now, server) = (self.now, self.ends[SERVER].address);
        let config = InitiatorConfig::new(identity, uri());
        let client = &mut self.ends[CLIENT].endpoint;
        client.connect(now, config, &[server]).expect("room")
    }

    pub(super) fn identity(&self) -> Arc<Identity> {
        new_identity(1_000)
    }

    pub(super) fn cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
        self.under_way.clear();
    }

    pub(super) fn move_client(&mut self, to: SocketAddr) {
        self.ends[CLIENT].address = to;
    }

    /// Datagrams from the client to the server.
    pub(super) fn overheard(&self) -> Vec<Vec<u8>> {
        self.overheard.clone()
    }

    fn drain(&mut self, index: usize) {
        let now = self.now;
        let end = &mut self.ends[index];
        while let Some(event) = end.endpoint.poll_event() {
            match event {
                EndpointEvent::Keying { task, near_id } => {
                    let accepted = task.run(near_id, &mut Seeded::new(u64::from(near_id)));
                    end.endpoint.keyed(now, near_id, accepted.ok());
                }
                EndpointEvent::Flows { session } => {
                    let messages = &mut end.messages;
                    end.endpoint.with_session(now, session, |session| {
                        while let Some(event) = session.flows().poll_event() {
                            if let flow::Event::Message { payload, .. } = event {
                                messages.push(String::from_utf8(payload.to_vec()).unwrap());
                            }
                        }
                    });
                }
                EndpointEvent::Session {
                    event: SessionEvent::ForwardedHello(payload),
                    ..
                } => end.endpoint.handle_forwarded(now, &payload),
                event => end.events.push(event),
            }
        }
        let mut out = Vec::new();
        let mut count = 0;
        while let Some(to) = end.endpoint.poll_transmit(now, &mut out) {
            count += 1;
            assert!(count < 10_000, "it sends without end");
            let datagram = std::mem::take(&mut out);
            if index == CLIENT {
                self.overheard.push(datagram.clone());
            }
            // A ping's answer is the one datagram of its length.
            let is_reply = datagram.len() == 4 + 48 + 16;
            if self.is_cut || (self.drop_ping_replies && is_reply && index == CLIENT) {
                continue;
            }
            self.number += 1;
            self.under_way
                .insert((now + DELAY, self.number), (end.address, to, datagram));
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        let mut still = 0;
        loop {
            for index in 0..self.ends.len() {
                self.drain(index);
            }
            let timeouts = self
                .ends
                .iter()
                .filter_map(|end| end.endpoint.poll_timeout());
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            let Some(next) = timeouts.chain(arrival).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            still = if next <= self.now { still + 1 } else { 0 };
            assert!(still < 10_000, "the time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            while let Some(entry) = self.under_way.first_entry()
                && entry.key().0 <= self.now
            {
                let (from, to, mut datagram) = entry.remove();
                let now = self.now;
                let target = self.ends.iter_mut().find(|end| end.address == to);
                if let Some(end) = target {
                    end.endpoint.handle_datagram(now, from, &mut datagram);
                }
            }
            for end in &mut self.ends {
                end.endpoint.handle_timeout(self.now);
            }
        }
    }

    pub(super) fn messages_at(&self, end: usize) -> &[String] {
        &self.ends[end].messages
    }

    pub(super) fn opened_at(&self, end: usize) -> Vec<u32> {
        let events = self.ends[end].events.iter();
        let opened = events.filter_map(|event| match event {
            EndpointEvent::Opened { session } => Some(*session),
            _ => None,
        });
        opened.collect()
    }

    pub(super) fn closed_at(&self, end: usize) -> Vec<(u32, CloseReason)> {
        let events = self.ends[end].events.iter();
        let closed = events.filter_map(|event| match event {
            EndpointEvent::Session {
                session,
                event: SessionEvent::Closed(reason),
            } => Some((*session, *reason)),
            _ => None,
        });
        closed.collect()
    }

    pub(super) fn events_at(&self, end: usize, which: impl Fn(&SessionEvent) -> bool) -> usize {
        let events = self.ends[end].events.iter();
        let found = events.filter(|event| match event {
            EndpointEvent::Session { event, .. } => which(event),
            _ => false,
        });
        found.count()
    }

    pub(super) fn lookup_at(&self, end: usize) -> Option<Lookup> {
        self.ends[end].events.iter().find_map(|event| match event {
            EndpointEvent::Lookup(lookup) => Some(lookup.clone()),
            _ => None,
        })
    }
}
