//! The initiator: RFC 7016 sections 3.5.1.1.1 and 3.5.1.3.
//!
//! ```text
//! hello sent ── RHello ──▶ keying sent ── RIKeying ──▶ open
//!      │                        │
//!      └── after 95 seconds ────┴──▶ failed
//! ```
//!
//! Keys are agreed on where packets are handled: two powers, some tenths of a millisecond each. Somebody who opens thousands of sessions a
//! second has as many threads for it.
//!
//! Whatever does not fit (a certificate that is not asked for, a component without a key) is dropped, and the initiator goes on waiting: it
//! may be from somebody who has overheard the tag. [`Initiator::last_refusal`] tells of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;

use super::keying::{self, Opened, Refusal};
use super::startup::datagrams;
use super::{Protections, Transmit, is_reachable};
use crate::crypto::certificate::{Certificate, Fingerprint, Identity};
use crate::crypto::components::{self, Components};
use crate::crypto::diffie_hellman::{Group, SecretKey};
use crate::crypto::discriminator::Discriminator;
use crate::crypto::keys::SessionKeys;
use crate::crypto::negotiation::{self, Flags, MacFlags};
use crate::crypto::signature::{self, Password};
use crate::wire::startup::{
    CookieChange, InitiatorHello, InitiatorKeying, Redirect, ResponderHello, ResponderKeying,
};
use crate::wire::{ChunkKind, Mode, Packet};

/// How long an initiator tries (section 3.5.1.1.1).
const ULTIMATE_TIMEOUT: Duration = Duration::from_secs(95);

/// How long it waits before it repeats something for the first time.
const FIRST_REPETITION: Duration = Duration::from_secs(1);

/// How much longer each time (the same section).
const BACKOFF: Duration = Duration::from_millis(1_500);

/// The most addresses that are asked (REDIRECT_THRESHOLD, the same section).
const MOST_CANDIDATES: usize = 24;

/// Bytes of a tag: what MonaServer2 takes. The first four are the id that the session gets, so that an answer which comes to another socket of
/// the same address can be brought to where it belongs; nobody can guess the others.
const TAG: usize = 16;

/// Bytes of the longest cookie that is taken: known peers have 64 and 65.
const LONGEST_COOKIE: usize = 512;

/// What an initiator wants.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// Who it is. A client makes a new one with a static key for each connection.
    pub identity: Arc<Identity>,
    /// Whom it asks for: see [`discriminator`](crate::crypto::discriminator).
    pub discriminator: Vec<u8>,
    /// How packets of the session are protected.
    pub protections: Protections,
    /// A password that it proves to know.
    pub password: Option<Password>,
    /// Passwords that the responder may prove to know.
    pub passwords: Vec<Password>,
    /// Whether it has to.
    pub password_required: bool,
}

impl InitiatorConfig {
    /// One without passwords.
    #[must_use]
    pub fn new(identity: Arc<Identity>, discriminator: Vec<u8>) -> Self {
        Self {
            identity,
            discriminator,
            protections: Protections::default(),
            password: None,
            passwords: Vec::new(),
            password_required: false,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum InitiatorEvent {
    /// Somebody answered the hello. A caller that has a session to the same peer id already, open or about to be, drops this one
    /// (section 3.5.1.1.1).
    Answered {
        /// Who it says it is.
        fingerprint: Fingerprint,
        /// Where it is.
        address: SocketAddr,
    },
    /// The session is open.
    Opened(Box<Opened>),
    /// It is not, and never will be.
    Failed(InitiatorFailure),
}

/// Why a session was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InitiatorFailure {
    /// Nobody answered the hello.
    #[error("no answer")]
    NoAnswer,
    /// Somebody did, and then nothing came that a session could be made of.
    #[error("no session after an answer")]
    NoKeying,
}

/// What an initiator does about an IIKeying that comes from the address that it opens a session to (section 3.5.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glare {
    /// It is from elsewhere: answer it.
    None,
    /// The near end's session is the one: drop the IIKeying.
    NearPrevails,
    /// The far end's is: drop this initiator, and answer.
    FarPrevails,
    /// The far end's would be, but it is not whom this initiator asks for: keep this one, and answer.
    Unrelated,
}

/// Something that is repeated until it is answered.
#[derive(Clone, Copy, Debug)]
struct Repetition {
    next: Duration,
    interval: Duration,
}

impl Repetition {
    fn new(now: Duration) -> Self {
        Self {
            next: now,
            interval: FIRST_REPETITION,
        }
    }

    /// Whether it is due; the next time is later still.
    fn is_due(&mut self, now: Duration) -> bool {
        if now < self.next {
            return false;
        }
        self.next = now + self.interval;
        self.interval += BACKOFF;
        true
    }
}

#[derive(Debug)]
enum State {
    HelloSent {
        candidates: Vec<(SocketAddr, Repetition)>,
    },
    KeyingSent(Box<Keying>),
    Over,
}

#[derive(Debug)]
struct Keying {
    address: SocketAddr,
    certificate: Certificate,
    cookie: Vec<u8>,
    cookie_changed: bool,
    component: Vec<u8>,
    mac: MacFlags,
    sequence: Flags,
    group: Group,
    /// The key made for this session, where the identity has none.
    ephemeral: Option<SecretKey>,
    repetition: Repetition,
}

/// Opens one session. See the module.
#[derive(Debug)]
pub struct Initiator {
    config: InitiatorConfig,
    near_id: u32,
    tag: [u8; TAG],
    deadline: Duration,
    state: State,
    last_refusal: Option<Refusal>,
    fragment_id: u64,
    events: VecDeque<InitiatorEvent>,
    transmits: VecDeque<Transmit>,
}

impl Initiator {
    /// One that asks at each of `candidates`, at most 24 of them, for a session that will receive packets with the id `near_id`, which is
    /// unique among the caller's and not 0.
    #[must_use]
    pub fn new(
        now: Duration,
        config: InitiatorConfig,
        near_id: u32,
        candidates: &[SocketAddr],
        rng: &mut impl CryptoRng,
    ) -> Self {
        debug_assert!(near_id != 0, "id 0 means no session");
        let mut tag = [0; TAG];
        rng.fill_bytes(&mut tag);
        for (byte, id) in tag.iter_mut().zip(near_id.to_be_bytes()) {
            *byte = id;
        }
        let mut initiator = Self {
            config,
            near_id,
            tag,
            deadline: now + ULTIMATE_TIMEOUT,
            state: State::HelloSent {
                candidates: Vec::new(),
            },
            last_refusal: None,
            fragment_id: u64::from(rng.next_u32()),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        };
        for candidate in candidates {
            initiator.add_candidate(now, *candidate);
        }
        initiator.handle_timeout(now);
        initiator
    }

    /// What answers to its hellos repeat: 16 bytes, 12 of which nobody can guess.
    #[must_use]
    pub fn tag(&self) -> &[u8] {
        &self.tag
    }

    /// Who it is.
    #[must_use]
    pub fn near(&self) -> Fingerprint {
        self.config.identity.certificate().fingerprint()
    }

    /// The id of packets for it.
    #[must_use]
    pub fn near_id(&self) -> u32 {
        self.near_id
    }

    /// Why what looked like an answer was dropped, the last time that it was.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Refusal> {
        self.last_refusal
    }

    /// Asks at one more address, as long as nobody has answered.
    pub fn add_candidate(&mut self, now: Duration, address: SocketAddr) {
        let State::HelloSent { candidates } = &mut self.state else {
            return;
        };
        let is_new = candidates.iter().all(|(known, _)| *known != address);
        if is_new && candidates.len() < MOST_CANDIDATES && is_reachable(address) {
            candidates.push((address, Repetition::new(now)));
        }
    }

    /// What to do about an IIKeying from `from` by the holder of a certificate.
    #[must_use]
    pub fn glare(&self, from: SocketAddr, far: &Certificate) -> Glare {
        let State::KeyingSent(keying) = &self.state else {
            return Glare::None;
        };
        let near = self.config.identity.certificate();
        if keying.address != from {
            Glare::None
        } else if near.as_bytes() <= far.as_bytes() {
            Glare::NearPrevails
        } else if keying.certificate == *far {
            Glare::FarPrevails
        } else {
            Glare::Unrelated
        }
    }

    /// Takes a packet outside sessions, as [`Startup`](super::Startup) gives it, and the session id that its datagram had. Chunks that are not
    /// for initiators are left alone.
    pub fn handle_packet(
        &mut self,
        now: Duration,
        from: SocketAddr,
        session_id: u32,
        packet: &[u8],
        rng: &mut impl CryptoRng,
    ) {
        let Ok(packet) = Packet::read(packet) else {
            return;
        };
        if packet.header.mode != Mode::Startup {
            return;
        }
        let own = session_id == self.near_id;
        for chunk in packet.chunks {
            let outcome = match chunk.kind {
                ChunkKind::RESPONDER_HELLO if session_id == 0 => {
                    self.answered(now, from, chunk.payload, rng)
                }
                ChunkKind::REDIRECT if session_id == 0 => self.redirected(now, from, chunk.payload),
                ChunkKind::COOKIE_CHANGE if own => self.cookie_changed(now, chunk.payload),
                ChunkKind::RESPONDER_KEYING if own => self.keyed(chunk.payload),
                _ => Ok(()),
            };
            if let Err(refusal) = outcome {
                self.last_refusal = Some(refusal);
            }
        }
        self.handle_timeout(now);
    }

    /// RHello.
    fn answered(
        &mut self,
        now: Duration,
        from: SocketAddr,
        payload: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(), Refusal> {
        let hello = ResponderHello::read(payload)?;
        let is_waiting = matches!(self.state, State::HelloSent { .. });
        if !is_waiting || hello.tag != self.tag || hello.cookie.len() > LONGEST_COOKIE {
            return Ok(());
        }
        let certificate = Certificate::read(hello.certificate)?;
        if !Discriminator::read(&self.config.discriminator)?.selects(&certificate) {
            return Ok(());
        }
        let offered = certificate.groups();
        let group = offered
            .into_iter()
            .find(|group| keying::has_group(&self.config.identity, *group));
        let group = group.ok_or(Refusal::Group)?;
        let protections = &self.config.protections;
        let mac = protections.mac_flags(protections.mac.as_initiator());
        let sequence = protections.sequence.as_initiator();
        let ephemeral = self
            .config
            .identity
            .is_ephemeral()
            .then(|| SecretKey::generate(group, rng));
        let component = match &ephemeral {
            Some(key) => components::initiator_ephemeral(key, mac, sequence),
            None => components::initiator_static(group, mac, sequence, rng),
        };
        self.events.push_back(InitiatorEvent::Answered {
            fingerprint: certificate.fingerprint(),
            address: from,
        });
        self.state = State::KeyingSent(Box::new(Keying {
            address: from,
            certificate,
            cookie: hello.cookie.to_vec(),
            cookie_changed: false,
            component,
            mac,
            sequence,
            group,
            ephemeral,
            repetition: Repetition::new(now),
        }));
        Ok(())
    }

    fn redirected(
        &mut self,
        now: Duration,
        from: SocketAddr,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let redirect = Redirect::read(payload)?;
        if redirect.tag != self.tag {
            return Ok(());
        }
        let mut addresses = redirect.addresses().peekable();
        if addresses.peek().is_none() {
            self.add_candidate(now, from);
        }
        for address in addresses.take(MOST_CANDIDATES) {
            self.add_candidate(now, address.socket);
        }
        Ok(())
    }

    fn cookie_changed(&mut self, now: Duration, payload: &[u8]) -> Result<(), Refusal> {
        let change = CookieChange::read(payload)?;
        if let State::KeyingSent(keying) = &mut self.state
            && !keying.cookie_changed
            && change.old == keying.cookie
            && change.new.len() <= LONGEST_COOKIE
        {
            keying.cookie = change.new.to_vec();
            keying.cookie_changed = true;
            // At once: the old one is of no use.
            keying.repetition.next = now;
        }
        Ok(())
    }

    /// RIKeying.
    fn keyed(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let State::KeyingSent(keying) = &self.state else {
            return Ok(());
        };
        let (answer, signed) = ResponderKeying::read(payload)?;
        if answer.session_id == 0 {
            return Err(Refusal::SessionId);
        }
        let authenticated_as = keying::authenticate(
            answer.signature,
            &[signed, &keying.component],
            &self.config.passwords,
            self.config.password_required,
        )?;
        let far = Components::read(answer.component)?;
        let agreement = negotiation::agree(keying.mac, far.mac, keying.sequence, far.sequence)?;
        let far_key = keying::far_key(&keying.certificate, &far, Some(keying.group))?;
        let own = keying.ephemeral.as_ref();
        let own = own.or_else(|| self.config.identity.secret(keying.group));
        let secret = own.and_then(|own| own.agree(&far_key));
        let secret = secret.ok_or(Refusal::Group)?;
        let keys = SessionKeys::derive(&secret, &keying.component, answer.component);
        let opened = Opened {
            near: self.near(),
            mode: Mode::Initiator,
            near_id: self.near_id,
            far_id: answer.session_id,
            address: keying.address,
            certificate: keying.certificate.clone(),
            sealer: keys.sealer(agreement),
            opener: keys.opener(agreement),
            agreement,
            keys,
            authenticated_as,
        };
        self.state = State::Over;
        self.events
            .push_back(InitiatorEvent::Opened(Box::new(opened)));
        Ok(())
    }

    /// The next event. Take all of them after each call.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<InitiatorEvent> {
        self.events.pop_front()
    }

    /// The next datagram. Take all of them after each call.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// When something is due: call [`handle_timeout`](Self::handle_timeout) then. None once it is over.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let next = match &self.state {
            State::HelloSent { candidates } => {
                let times = candidates.iter().map(|(_, repetition)| repetition.next);
                times.min().unwrap_or(self.deadline)
            }
            State::KeyingSent(keying) => keying.repetition.next,
            State::Over => return None,
        };
        Some(next.min(self.deadline))
    }

    /// Repeats what was not answered, and gives up in the end.
    pub fn handle_timeout(&mut self, now: Duration) {
        if now >= self.deadline {
            let failure = match self.state {
                State::HelloSent { .. } => InitiatorFailure::NoAnswer,
                State::KeyingSent(_) => InitiatorFailure::NoKeying,
                State::Over => return,
            };
            self.state = State::Over;
            self.events.push_back(InitiatorEvent::Failed(failure));
            return;
        }
        match &mut self.state {
            State::HelloSent { candidates } => {
                let hello = InitiatorHello {
                    discriminator: &self.config.discriminator,
                    tag: &self.tag,
                };
                let due = candidates
                    .iter_mut()
                    .filter_map(|(to, repetition)| repetition.is_due(now).then_some(*to));
                for to in due {
                    self.fragment_id += 1;
                    let datagrams = datagrams(now, 0, &hello, self.fragment_id);
                    let transmit = |datagram| Transmit { to, datagram };
                    self.transmits.extend(datagrams.into_iter().map(transmit));
                }
            }
            State::KeyingSent(keying) => {
                if keying.repetition.is_due(now) {
                    self.fragment_id += 1;
                    let datagrams =
                        keying.datagrams(now, &self.config, self.near_id, self.fragment_id);
                    self.transmits.extend(datagrams);
                }
            }
            State::Over => {}
        }
    }
}

impl Keying {
    /// IIKeying.
    fn datagrams(
        &self,
        now: Duration,
        config: &InitiatorConfig,
        near_id: u32,
        fragment_id: u64,
    ) -> Vec<Transmit> {
        let mut keying = InitiatorKeying {
            session_id: near_id,
            cookie: &self.cookie,
            certificate: config.identity.certificate().as_bytes(),
            component: &self.component,
            signature: signature::NOTHING,
        };
        let signature = config.password.as_ref().map(|password| {
            let mut signed = Vec::new();
            keying.put_signed(&mut signed);
            signature::sign(password, &signed)
        });
        if let Some(signature) = &signature {
            keying.signature = signature;
        }
        let transmit = |datagram| Transmit {
            to: self.address,
            datagram,
        };
        let datagrams = datagrams(now, 0, &keying, fragment_id);
        datagrams.into_iter().map(transmit).collect()
    }
}
