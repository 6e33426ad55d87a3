//! The responder: RFC 7016 sections 3.5.1.1.2, 3.5.1.4 and 3.5.1.5.
//!
//! # Several at one address
//! A responder may answer [as others](Responder::add_alias), each with a certificate and a number of its own: those who ask for their
//! fingerprints. The cookie says whom a keying is for. One that is for a number which is not known here may be another responder's, where
//! several sockets have one address: [`ResponderEvent::Astray`].
//!
//! # What it holds
//! Nothing for a hello. For an IIKeying whose cookie proved its address, its hash, and the answer, so that a repetition gets the same bytes;
//! of these [`ResponderLimits::remembered`], for as long as the cookie is good. Fixed tables for rates, 128 KiB each; where an address has
//! several sockets each has its own, so that what they allow adds up.
//!
//! # What it sends to addresses that nobody proved
//! An RHello for a common IHello is some 2.6 times as long: 180 bytes for 68, most of it a cookie and a certificate that older peers demand in
//! these lengths. What is sent beyond the bytes that were received is therefore limited for each network,
//! [`ResponderLimits::unproved_bytes`]; an IHello that is padded to the length of its answer has no limit. Redirects count the same. A Cookie
//! Change is never longer than the IIKeying that it answers, or is not sent.

mod types;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;

pub use self::types::{Counters, ResponderConfig, ResponderLimits};
use super::keying::{Accepted, KeyingId, KeyingTask};
use super::limit::SourceLimiter;
use super::startup::datagrams;
use super::{Transmit, is_reachable};
use crate::crypto::certificate::{Certificate, Fingerprint, Identity};
use crate::crypto::cookie::{self, Cookies, Proof};
use crate::crypto::discriminator::Discriminator;
use crate::wire::chunk::Payload;
use crate::wire::startup::{
    CookieChange, ForwardedHello, InitiatorHello, InitiatorKeying, RedirectTo, ResponderHello,
};
use crate::wire::{Address, ChunkKind, Mode, Packet};

/// Bytes of the longest tag that is repeated: peers have 16.
const LONGEST_TAG: usize = 64;

/// The most addresses in a redirect: more than an initiator has to take (RFC 7016 section 3.5.1.1.1).
const MOST_ADDRESSES: usize = 24;

/// How long a keying is remembered: as long as its cookie is good, so that nobody who has overheard it makes another session of it.
const REMEMBERED: Duration = cookie::LIFETIME;

/// Events and datagrams that wait to be taken. A packet cannot cause as many, so that who takes them after each one loses none.
const WAITING: usize = 1_024;

/// What a responder cannot do by itself.
#[derive(Debug)]
pub enum ResponderEvent {
    /// Keys are to be agreed on.
    Keying(Box<KeyingTask>),
    /// A hello is for somebody else, or for a server that takes no more sessions.
    Lookup(Lookup),
    /// A keying is for somebody who is not here: give the packet to the responder that answers as this number.
    Astray {
        /// Whom the cookie is for.
        whom: u32,
        /// Where it came from; proved by the cookie.
        from: SocketAddr,
        /// What came.
        packet: Vec<u8>,
    },
}

/// A hello that is for somebody else.
///
/// Who knows whom it asks for introduces the two (section 3.5.1.4): it sends a [`ForwardedHello`] within the session of whom is asked for, with
/// [`Lookup::forwarded`], and a redirect to whoever asks, with [`Responder::redirect`], which has the address that the asked one is seen at
/// first. Both for each hello: the initiator repeats it until it is answered. Who does not know stays silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Who asks. Nobody proved it.
    pub from: SocketAddr,
    /// Whom it asks for; [`Discriminator::read`] can read it.
    pub discriminator: Vec<u8>,
    /// What an answer has to repeat.
    pub tag: Vec<u8>,
    /// Bytes of the packet that are not used up by an answer.
    credit: usize,
}

impl Lookup {
    /// What an initiator at the caller's own address asks, as if it had been asked here. A redirect that answers it goes to nobody.
    #[must_use]
    pub fn own(from: SocketAddr, discriminator: Vec<u8>, tag: Vec<u8>) -> Self {
        Self {
            from,
            discriminator,
            tag,
            credit: 0,
        }
    }

    /// The hello as it is passed on to whom it asks for, with the address that whoever asks is seen at.
    #[must_use]
    pub fn forwarded(&self) -> ForwardedHello<'_> {
        ForwardedHello {
            discriminator: &self.discriminator,
            reply_to: Address::observed(self.from),
            tag: &self.tag,
        }
    }
}

/// What became of a keying.
#[derive(Debug)]
struct Remembered {
    since: Duration,
    /// None while it is worked at.
    reply: Option<Vec<Transmit>>,
}

/// Answers hellos and keyings. See the module.
#[derive(Debug)]
pub struct Responder {
    config: Arc<ResponderConfig>,
    /// As whom else it answers, by number.
    aliases: BTreeMap<u32, Arc<ResponderConfig>>,
    names: HashMap<Fingerprint, u32>,
    cookies: Cookies,
    accepting: bool,
    unproved: SourceLimiter,
    keyings: SourceLimiter,
    lookups: SourceLimiter,
    remembered: BTreeMap<KeyingId, Remembered>,
    /// Keyings in the order in which they came; some may be forgotten already.
    order: VecDeque<(Duration, KeyingId)>,
    pending: usize,
    fragment_id: u64,
    events: VecDeque<ResponderEvent>,
    transmits: VecDeque<Transmit>,
    counters: Counters,
}

impl Responder {
    /// One that begins with no sessions. Responders for several sockets of one address have clones of the same `cookies`.
    #[must_use]
    pub fn new(config: ResponderConfig, cookies: Cookies, rng: &mut impl CryptoRng) -> Self {
        let limits = config.limits;
        Self {
            config: Arc::new(config),
            aliases: BTreeMap::new(),
            names: HashMap::new(),
            cookies,
            accepting: true,
            unproved: SourceLimiter::new(limits.unproved_bytes, rng),
            keyings: SourceLimiter::new(limits.keyings, rng),
            lookups: SourceLimiter::new(limits.lookups, rng),
            remembered: BTreeMap::new(),
            order: VecDeque::new(),
            pending: 0,
            fragment_id: 0,
            events: VecDeque::new(),
            transmits: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Whether hellos that ask for it are answered. Where they are not they are [lookups](ResponderEvent::Lookup), so that they can be
    /// redirected to a server that is not about to end.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    /// Answers as somebody else, too: with all that is its own but the identity. The number is the caller's, and not 0; where several sockets
    /// have one address no two of them have the same.
    pub fn add_alias(&mut self, number: u32, identity: Arc<Identity>) {
        debug_assert!(number != 0, "0 is the responder itself");
        let name = identity.certificate().fingerprint();
        let config = ResponderConfig {
            identity,
            ..ResponderConfig::clone(&self.config)
        };
        self.names.insert(name, number);
        self.aliases.insert(number, Arc::new(config));
    }

    /// Does not any more.
    pub fn remove_alias(&mut self, number: u32) {
        self.aliases.remove(&number);
        self.names.retain(|_, known| *known != number);
    }

    /// Who is asked for, if it is somebody here: a number, and a certificate.
    fn asked(&self, discriminator: &Discriminator<'_>) -> Option<(u32, Certificate)> {
        let own = self.config.identity.certificate();
        if self.accepting && discriminator.selects(own) {
            return Some((0, own.clone()));
        }
        let number = *self.names.get(&discriminator.fingerprint?)?;
        let config = self.aliases.get(&number)?;
        Some((number, config.identity.certificate().clone()))
    }

    /// Takes a packet outside sessions, as [`Startup`](super::Startup) gives it. Chunks that are not for responders are left alone.
    pub fn handle_packet(&mut self, now: Duration, from: SocketAddr, packet: &[u8]) {
        self.handle_timeout(now);
        let Ok(read) = Packet::read(packet) else {
            self.counters.malformed += 1;
            return;
        };
        if read.header.mode != Mode::Startup {
            self.counters.malformed += 1;
            return;
        }
        // What answers may have without being counted: the packet is at most 15 bytes shorter than its datagram was.
        let mut credit = packet.len();
        for chunk in read.chunks {
            match chunk.kind {
                ChunkKind::INITIATOR_HELLO => match InitiatorHello::read(chunk.payload) {
                    Ok(hello) => self.hello(now, from, &hello, &mut credit),
                    Err(_) => self.counters.malformed += 1,
                },
                ChunkKind::INITIATOR_KEYING => match InitiatorKeying::read(chunk.payload) {
                    Ok((keying, signed)) => {
                        self.keying(now, from, &keying, signed, packet, &mut credit);
                    }
                    Err(_) => self.counters.malformed += 1,
                },
                _ => {}
            }
        }
    }

    /// Takes a hello that an introducer passed on within a session: the payload of its chunk. It is answered if it asks for this end.
    pub fn handle_forwarded(&mut self, now: Duration, payload: &[u8]) {
        self.handle_timeout(now);
        let hello = ForwardedHello::read(payload);
        let hello = hello
            .ok()
            .filter(|hello| is_reachable(hello.reply_to.socket));
        let Some(hello) = hello else {
            self.counters.malformed += 1;
            return;
        };
        let discriminator = Discriminator::read(hello.discriminator).ok();
        let discriminator = discriminator.filter(|_| hello.tag.len() <= LONGEST_TAG);
        let Some(discriminator) = discriminator else {
            self.counters.malformed += 1;
            return;
        };
        if let Some(whom) = self.asked(&discriminator) {
            let mut credit = payload.len();
            self.answer(now, hello.reply_to.socket, whom, hello.tag, &mut credit);
        } else if self.accepting {
            self.counters.malformed += 1;
        }
    }

    fn hello(
        &mut self,
        now: Duration,
        from: SocketAddr,
        hello: &InitiatorHello<'_>,
        credit: &mut usize,
    ) {
        let discriminator = Discriminator::read(hello.discriminator);
        let asked = discriminator
            .ok()
            .filter(|_| hello.tag.len() <= LONGEST_TAG);
        let Some(asked) = asked else {
            self.counters.malformed += 1;
            return;
        };
        if let Some(whom) = self.asked(&asked) {
            self.answer(now, from, whom, hello.tag, credit);
        } else if self.events.len() < WAITING && self.lookups.take(now, from.ip(), 1) {
            self.counters.lookups += 1;
            self.events.push_back(ResponderEvent::Lookup(Lookup {
                from,
                discriminator: hello.discriminator.to_vec(),
                tag: hello.tag.to_vec(),
                credit: std::mem::take(credit),
            }));
        } else {
            self.counters.lookups_limited += 1;
        }
    }

    /// Sends an RHello, as somebody.
    fn answer(
        &mut self,
        now: Duration,
        to: SocketAddr,
        (whom, certificate): (u32, Certificate),
        tag: &[u8],
        credit: &mut usize,
    ) {
        let cookie = self.cookies.make(now, to, whom);
        let hello = ResponderHello {
            tag,
            cookie: &cookie,
            certificate: certificate.as_bytes(),
        };
        if self.send_unproved(now, to, 0, &hello, credit) {
            self.counters.hellos += 1;
        } else {
            self.counters.hellos_limited += 1;
        }
    }

    /// Sends to an address that nobody proved, if what it takes beyond `credit` is there.
    fn send_unproved(
        &mut self,
        now: Duration,
        to: SocketAddr,
        session_id: u32,
        payload: &impl Payload,
        credit: &mut usize,
    ) -> bool {
        self.fragment_id = self.fragment_id.wrapping_add(1);
        let datagrams = datagrams(now, session_id, payload, self.fragment_id);
        let length: usize = datagrams.iter().map(|datagram| datagram.len()).sum();
        let excess = length.saturating_sub(*credit);
        let room = self.transmits.len() + datagrams.len() <= WAITING;
        if !room || excess > 0 && !self.unproved.take(now, to.ip(), excess) {
            return false;
        }
        *credit = credit.saturating_sub(length);
        let transmit = |datagram| Transmit { to, datagram };
        self.transmits.extend(datagrams.into_iter().map(transmit));
        true
    }

    /// Sends whoever asked to other addresses, at most 24; with none, to the one that the redirect comes from. Nothing is sent if the network of
    /// whoever asked has used up what may be sent to it: it asks again. Tells whether it was sent.
    pub fn redirect(&mut self, now: Duration, lookup: &Lookup, addresses: &[Address]) -> bool {
        let addresses = addresses.get(..MOST_ADDRESSES).unwrap_or(addresses);
        let redirect = RedirectTo {
            tag: &lookup.tag,
            addresses,
        };
        let mut credit = lookup.credit;
        let sent = self.send_unproved(now, lookup.from, 0, &redirect, &mut credit);
        if !sent {
            self.counters.hellos_limited += 1;
        }
        sent
    }

    fn keying(
        &mut self,
        now: Duration,
        from: SocketAddr,
        keying: &InitiatorKeying<'_>,
        signed: &[u8],
        packet: &[u8],
        credit: &mut usize,
    ) {
        match self.cookies.verify(now, from, keying.cookie) {
            Proof::Forged => self.counters.cookies_forged += 1,
            Proof::Expired => self.counters.cookies_expired += 1,
            Proof::Elsewhere => {
                self.counters.cookies_moved += 1;
                self.change_cookie(now, from, keying, credit);
            }
            Proof::Address => match cookie::whom(keying.cookie) {
                0 => self.proved(now, from, keying, signed, &Arc::clone(&self.config)),
                whom => match self.aliases.get(&whom).cloned() {
                    Some(config) => self.proved(now, from, keying, signed, &config),
                    None => self.astray(now, from, whom, packet),
                },
            },
        }
    }

    fn astray(&mut self, now: Duration, from: SocketAddr, whom: u32, packet: &[u8]) {
        if self.events.len() >= WAITING || !self.keyings.take(now, from.ip(), 1) {
            self.counters.keyings_limited += 1;
            return;
        }
        let packet = packet.to_vec();
        self.events
            .push_back(ResponderEvent::Astray { whom, from, packet });
    }

    fn change_cookie(
        &mut self,
        now: Duration,
        from: SocketAddr,
        keying: &InitiatorKeying<'_>,
        credit: &mut usize,
    ) {
        let new = self.cookies.make(now, from, cookie::whom(keying.cookie));
        let change = CookieChange {
            old: keying.cookie,
            new: &new,
        };
        let datagrams = datagrams(now, keying.session_id, &change, 0);
        let length: usize = datagrams.iter().map(|datagram| datagram.len()).sum();
        // Whoever has one cookie could send these to anybody: never more than was received.
        if keying.session_id != 0 && length <= *credit && self.transmits.len() < WAITING {
            *credit -= length;
            let transmit = |datagram| Transmit { to: from, datagram };
            self.transmits.extend(datagrams.into_iter().map(transmit));
        }
    }

    fn proved(
        &mut self,
        now: Duration,
        from: SocketAddr,
        keying: &InitiatorKeying<'_>,
        signed: &[u8],
        config: &Arc<ResponderConfig>,
    ) {
        let id = KeyingId::new(from, keying);
        if let Some(remembered) = self.remembered.get(&id) {
            self.counters.keyings_repeated += 1;
            let reply = remembered.reply.iter().flatten();
            let room = WAITING.saturating_sub(self.transmits.len());
            self.transmits.extend(reply.take(room).cloned());
            return;
        }
        // Who asks for somebody else here does not add to the clients of this server.
        if !self.accepting && cookie::whom(keying.cookie) == 0 {
            return;
        }
        if self.pending >= self.config.limits.pending
            || self.events.len() >= WAITING
            || !self.keyings.take(now, from.ip(), 1)
        {
            self.counters.keyings_limited += 1;
            return;
        }
        match KeyingTask::new(config, now, from, id, keying, signed) {
            Ok(task) => {
                self.counters.keyings += 1;
                self.remember(now, id, None);
                self.pending += 1;
                let event = ResponderEvent::Keying(Box::new(task));
                self.events.push_back(event);
            }
            Err(_) => self.counters.keyings_refused += 1,
        }
    }

    fn remember(&mut self, now: Duration, id: KeyingId, reply: Option<Vec<Transmit>>) {
        while self.order.len() >= self.config.limits.remembered.max(1) {
            self.forget_oldest();
        }
        self.order.push_back((now, id));
        let since = now;
        self.remembered.insert(id, Remembered { since, reply });
    }

    fn forget_oldest(&mut self) {
        let Some((since, id)) = self.order.pop_front() else {
            return;
        };
        // It may have been forgotten, and another one of the same id be there.
        let same = |remembered: &Remembered| remembered.since == since;
        if self.remembered.get(&id).is_some_and(same) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: KeyingId) {
        let forgotten = self.remembered.remove(&id);
        if forgotten.is_some_and(|forgotten| forgotten.reply.is_none()) {
            self.pending = self.pending.saturating_sub(1);
        }
    }

    /// Tells that a keying came to its end: its answer is sent, and again for each repetition.
    pub fn accepted(&mut self, now: Duration, accepted: &Accepted) {
        self.forget(accepted.id);
        self.remember(now, accepted.id, Some(accepted.reply.clone()));
        self.transmits.extend(accepted.reply.iter().cloned());
    }

    /// Tells that a keying was given up: there was no room for it, or its session is not wanted. If its initiator tries again it is begun
    /// again.
    pub fn abandoned(&mut self, id: KeyingId) {
        self.forget(id);
    }

    /// Tells that the first packet of the session that came of a keying was received: its initiator has the answer, which need not be
    /// kept. That it was answered is: whoever has overheard it could repeat it.
    pub fn confirmed(&mut self, id: KeyingId) {
        if let Some(remembered) = self.remembered.get_mut(&id)
            && let Some(reply) = &mut remembered.reply
        {
            *reply = Vec::new();
        }
    }

    /// The next event. Take all of them after each packet.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ResponderEvent> {
        self.events.pop_front()
    }

    /// The next datagram. Take all of them after each call.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When answers are due to be forgotten: call [`handle_timeout`](Self::handle_timeout) then. Each packet does the same.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.order.front().map(|(since, _)| *since + REMEMBERED)
    }

    /// Forgets answers that nobody waits for any more.
    pub fn handle_timeout(&mut self, now: Duration) {
        while self
            .order
            .front()
            .is_some_and(|(since, _)| *since + REMEMBERED <= now)
        {
            self.forget_oldest();
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Keyings that are worked at.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// Keyings that are remembered, those worked at included.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.remembered.len()
    }
}
