//! RTMFP for light clients: a socket, a handshake, then a session and its NetConnection, turned by the thread that has them.
//!
//! ```text
//! watcher's bytes  --> say      --> NetConnection --> flows --> datagrams
//! watcher          <-- take_whole <-- NetConnection <-- flows <-- datagrams
//! ```
//! Messages reach the [watcher](super::watcher) as they are, without a chunk stream. What is owed as an acknowledgement is sent before the
//! next datagram is taken, so that a server is acknowledged as often as by a client that has its processor for itself.
//!
//! # What it costs
//! There is no [`Endpoint`](headwater_rtmfp::endpoint::Endpoint) for each client, which would hold tables for answers that no client gives.
//! All clients of a plan have one secret key, in certificates that differ by random bytes, so that servers take them for many: a client
//! costs one power of its group, where a server computes two.
//!
//! # What it does not do
//! It opens no sessions to those whom it answers, sends no second hello to other addresses of a name than those of the first one's family,
//! and drops what the socket does not take.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use headwater_rtmfp::connection::{Happened, NetConnection, NotSent, Role};
use headwater_rtmfp::crypto::certificate::{Certificate, Fingerprint, Identity};
use headwater_rtmfp::crypto::diffie_hellman::SecretKey;
use headwater_rtmfp::crypto::packet::Sealer;
use headwater_rtmfp::crypto::{discriminator, packet};
use headwater_rtmfp::handshake::{
    Initiator, InitiatorConfig, InitiatorEvent, Opened, Protections, Startup,
};
use headwater_rtmfp::session::{Session, SessionConfig, SessionEvent};
use headwater_rtmfp::wire::chunk::{self, Payload};
use headwater_rtmfp::wire::field::put_option;
use headwater_rtmfp::wire::fragment;
use headwater_rtmfp::wire::startup::{ForwardedHello, ResponderHello};
use headwater_rtmfp::wire::{Header, Mode};
use headwater_rtmp::chunk::{ChunkReader, ReaderLimits};
use headwater_rtmp::control::Control;
use headwater_rtmp::message::Message;
use headwater_rtmp::url::RtmpUrl;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

use super::account::Counter;
use super::plan::{CHUNK_SIZE, Carrier, Manners, control_wire};
use super::watcher::{Phase, Watcher};
use crate::client::ClientError;
use crate::clock::now_ns;
use crate::udp::{Inbox, Received, Udp};

/// The option of a certificate that holds nothing but random bytes (RFC 7425 section 4.3.3.3).
const EXTRA_RANDOMNESS: u64 = 0x0e;

/// Random bytes by which certificates differ.
const RANDOM: usize = 16;

/// Bytes of the cookie in an answer: what known peers have.
const COOKIE: usize = 64;

/// Calls of the system for one client before others have their turn.
const READS_PER_TURN: usize = 4;

/// What the clients of one application have in common.
#[derive(Debug)]
pub(super) struct RtmfpPlan {
    discriminator: Vec<u8>,
    protections: Protections,
    secret: SecretKey,
    session: Arc<SessionConfig>,
    /// How many there were.
    count: AtomicU32,
    /// Those who can be introduced to others, if they are to be.
    introducible: Option<Mutex<Vec<Fingerprint>>>,
}

impl RtmfpPlan {
    pub(super) fn new(url: &RtmpUrl, manners: &Manners) -> Self {
        let manner = manners.rtmfp;
        let mut rng: StdRng = rand::make_rng();
        Self {
            discriminator: discriminator::for_uri(&url.to_string()),
            protections: Protections::both(manner.protection),
            secret: SecretKey::generate(manner.group, &mut rng),
            session: Arc::default(),
            count: AtomicU32::new(0),
            introducible: manners.is_introducible.then(Mutex::default),
        }
    }

    /// Who can be introduced to others by now.
    pub(super) fn introducible(&self) -> Vec<Fingerprint> {
        let known = self.introducible.as_ref();
        known.map_or_else(Vec::new, |known| known.lock().clone())
    }

    /// A new client.
    fn identity(&self, rng: &mut StdRng) -> io::Result<Identity> {
        let (mut random, mut options) = ([0; RANDOM], Vec::new());
        rng.fill_bytes(&mut random);
        put_option(EXTRA_RANDOMNESS, &random, &mut options);
        let identity = Identity::from_static_keys(vec![self.secret.clone()], &options);
        identity.map_err(io::Error::other)
    }
}

/// What the clients of one thread share.
#[derive(Debug)]
pub(super) struct Kit {
    pub(super) inbox: Inbox,
    pub(super) tools: Tools,
}

/// What packets are made and read with.
#[derive(Debug)]
pub(super) struct Tools {
    startup: Startup,
    pub(super) rng: StdRng,
    scratch: Vec<u8>,
    datagram: Vec<u8>,
    /// From those who want a session with the client whose turn it is.
    hellos: Vec<Vec<u8>>,
}

impl Default for Kit {
    fn default() -> Self {
        Self {
            inbox: Inbox::default(),
            tools: Tools {
                startup: Startup::new(fragment::Limits::default()),
                rng: rand::make_rng(),
                scratch: Vec::new(),
                datagram: Vec::new(),
                hellos: Vec::new(),
            },
        }
    }
}

/// Appends the datagram of a chunk outside sessions; false, and nothing is appended, for one that is too long for a chunk.
pub(crate) fn put_startup(
    payload: &impl Payload,
    packet: &mut Vec<u8>,
    datagram: &mut Vec<u8>,
) -> bool {
    packet.clear();
    Header::new(Mode::Startup).put(packet);
    let fits = chunk::append(payload, packet).is_ok();
    if fits {
        Sealer::startup().seal(0, packet, datagram);
    }
    fits
}

/// One client's socket and session.
#[derive(Debug)]
pub(super) struct RtmfpLink {
    socket: Udp,
    end: End,
}

#[derive(Debug)]
struct End {
    near_id: u32,
    state: State,
    connection: NetConnection,
    session: Arc<SessionConfig>,
    /// Reads what the watcher says; there only while it says something.
    reader: Option<Box<Reader>>,
    /// Said, and not yet taken by the flows.
    waiting: VecDeque<Message>,
    /// What it answers to those who want a session with it, if it is to answer.
    certificate: Option<Box<Certificate>>,
    /// Whether it is known who it is.
    is_known: bool,
}

#[derive(Debug)]
struct Reader {
    reader: ChunkReader,
    input: BytesMut,
}

impl Reader {
    fn new() -> Box<Self> {
        let announced = control_wire(&Control::SetChunkSize(CHUNK_SIZE));
        Box::new(Self {
            reader: ChunkReader::new(ReaderLimits::default()),
            input: BytesMut::from(announced),
        })
    }
}

#[derive(Debug)]
enum State {
    Opening(Box<Initiator>),
    Open(Box<Session>),
    Over,
}

impl RtmfpLink {
    /// Says hello at those of `addresses` that are of the first one's family.
    pub(super) fn connect(
        plan: &RtmfpPlan,
        addresses: &[SocketAddr],
        tools: &mut Tools,
        now: u64,
    ) -> io::Result<Self> {
        let Some(first) = addresses.first().copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let near: Vec<SocketAddr> = addresses
            .iter()
            .copied()
            .filter(|address| address.is_ipv6() == first.is_ipv6())
            .collect();
        let socket = Udp::toward(first, plan.count.fetch_add(1, Ordering::Relaxed))?;
        let identity = Arc::new(plan.identity(&mut tools.rng)?);
        let certificate = identity.certificate().clone();
        let certificate = plan.introducible.as_ref().map(|_| Box::new(certificate));
        let config = InitiatorConfig {
            protections: plan.protections,
            ..InitiatorConfig::new(identity, plan.discriminator.clone())
        };
        let near_id = tools.rng.random_range(1..=u32::MAX);
        let time = Duration::from_nanos(now);
        let initiator = Initiator::new(time, config, near_id, &near, &mut tools.rng);
        let mut link = Self {
            socket,
            end: End {
                near_id,
                state: State::Opening(Box::new(initiator)),
                connection: NetConnection::new(Role::Client),
                session: Arc::clone(&plan.session),
                reader: None,
                waiting: VecDeque::new(),
                certificate,
                is_known: false,
            },
        };
        link.end.transmit(time, &link.socket, tools);
        Ok(link)
    }

    pub(super) fn socket(&mut self) -> &mut Udp {
        &mut self.socket
    }

    /// Takes what has come, and does what is due. Whether there may be more, and when it read last.
    pub(super) fn turn(
        &mut self,
        kit: &mut Kit,
        watcher: &mut Watcher,
        counter: &mut Counter,
        mut now: u64,
    ) -> (bool, u64) {
        let Self { socket, end } = self;
        let Kit { inbox, tools } = kit;
        let mut has_more = true;
        for _ in 0..READS_PER_TURN {
            let mut came = None;
            let received = socket.receive(inbox, |from, datagram| {
                let now = *came.get_or_insert_with(now_ns);
                watcher.take_bytes(datagram.len(), counter);
                end.take(Duration::from_nanos(now), from, datagram, socket, tools);
            });
            if let Some(came) = came {
                now = came;
                end.settle(now, watcher, counter, tools);
                end.answer(watcher, socket, tools);
            }
            match received {
                Ok(Received::Some) if watcher.phase() != Phase::Ended => continue,
                Ok(_) => {}
                Err(error) => watcher.end(ClientError::io(&error), now),
            }
            has_more = false;
            break;
        }
        end.do_what_is_due(now, watcher, counter, tools);
        end.say(Duration::from_nanos(now), watcher, now);
        end.transmit(Duration::from_nanos(now), socket, tools);
        (has_more, now)
    }

    /// Sends what the watcher says, as far as flows take it.
    pub(super) fn flush(&mut self, watcher: &mut Watcher, tools: &mut Tools, now: u64) {
        let time = Duration::from_nanos(now);
        self.end.say(time, watcher, now);
        self.end.transmit(time, &self.socket, tools);
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<u64> {
        let session = match &self.end.state {
            State::Opening(initiator) => initiator.poll_timeout(),
            State::Open(session) => session.poll_timeout(),
            State::Over => return None,
        };
        let times = [session, self.end.connection.poll_timeout()];
        let first = times.into_iter().flatten().min()?;
        Some(u64::try_from(first.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Ends the session, with one last word.
    pub(super) fn leave(&mut self, tools: &mut Tools, now: u64) {
        if let State::Open(session) = &mut self.end.state {
            session.abort();
            self.end
                .transmit(Duration::from_nanos(now), &self.socket, tools);
        }
        self.end.state = State::Over;
    }
}

impl End {
    /// Takes one datagram. What came of it is seen to by [`settle`](Self::settle).
    fn take(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
        socket: &Udp,
        tools: &mut Tools,
    ) {
        let Some(id) = packet::session_id(datagram) else {
            return;
        };
        match &mut self.state {
            State::Opening(initiator) if id == 0 || id == self.near_id => {
                tools.startup.handle_timeout(now);
                if let Ok(Some(packet)) = tools.startup.open(now, from, datagram) {
                    initiator.handle_packet(now, from, id, &packet, &mut tools.rng);
                    self.open(now, tools);
                }
            }
            State::Open(session) if id == self.near_id => {
                let taken = session.handle_datagram(now, from, datagram);
                if taken.is_ok() && session.look().owes_acknowledgement() {
                    self.transmit(now, socket, tools);
                }
            }
            State::Opening(_) | State::Open(_) | State::Over => {}
        }
    }

    /// Makes a session of a handshake that has come to its end.
    fn open(&mut self, now: Duration, tools: &mut Tools) {
        let State::Opening(initiator) = &mut self.state else {
            return;
        };
        let mut opened: Option<Box<Opened>> = None;
        while let Some(event) = initiator.poll_event() {
            if let InitiatorEvent::Opened(session) = event {
                opened = Some(session);
            }
        }
        if let Some(opened) = opened {
            let secret = tools.rng.random();
            let session = Session::new(*opened, Arc::clone(&self.session), now, secret);
            self.state = State::Open(Box::new(session));
        }
    }

    /// Lets it be known who this is when it is connected, and answers those who were sent here.
    fn answer(&mut self, watcher: &Watcher, socket: &Udp, tools: &mut Tools) {
        let Some(certificate) = &self.certificate else {
            return;
        };
        if !self.is_known
            && watcher.phase() == Phase::Idle
            && let Carrier::Rtmfp(plan) = &watcher.plan().carrier
            && let Some(known) = &plan.introducible
        {
            self.is_known = true;
            known.lock().push(certificate.fingerprint());
        }
        for hello in tools.hellos.drain(..) {
            let Ok(hello) = ForwardedHello::read(&hello) else {
                continue;
            };
            let answer = ResponderHello {
                tag: hello.tag,
                // Nobody goes on from here, so that it proves nothing.
                cookie: &[0; COOKIE],
                certificate: certificate.as_bytes(),
            };
            tools.datagram.clear();
            if put_startup(&answer, &mut tools.scratch, &mut tools.datagram) {
                socket.send(&tools.datagram, hello.reply_to.socket);
            }
        }
    }

    /// Tells the watcher what has happened.
    fn settle(
        &mut self,
        now: u64,
        watcher: &mut Watcher,
        counter: &mut Counter,
        tools: &mut Tools,
    ) {
        let time = Duration::from_nanos(now);
        self.open(time, tools);
        let State::Open(session) = &mut self.state else {
            return;
        };
        if watcher.phase() == Phase::Connecting {
            watcher.take_connection(now);
        }
        while let Some(event) = session.poll_event() {
            match event {
                SessionEvent::Closed(_) => watcher.end(ClientError::Closed, now),
                SessionEvent::ForwardedHello(hello) if self.certificate.is_some() => {
                    tools.hellos.push(hello);
                }
                SessionEvent::ForwardedHello(_)
                | SessionEvent::Confirmed
                | SessionEvent::Moved { .. } => {}
            }
        }
        while let Some(happened) = self.connection.poll(time, session.flows()) {
            match happened {
                Happened::Message(message) => watcher.take_whole(&message, now, counter),
                Happened::OpenedForeign { flow, .. } => {
                    self.connection.reject(session.flows(), flow);
                }
                Happened::Ended => watcher.end(ClientError::Closed, now),
                Happened::Foreign { .. }
                | Happened::EndedForeign { .. }
                | Happened::Keepalive(_) => {}
            }
        }
    }

    fn do_what_is_due(
        &mut self,
        now: u64,
        watcher: &mut Watcher,
        counter: &mut Counter,
        tools: &mut Tools,
    ) {
        let time = Duration::from_nanos(now);
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= time);
        match &mut self.state {
            State::Opening(initiator) if is_due(initiator.poll_timeout()) => {
                initiator.handle_timeout(time);
            }
            State::Open(session) => {
                let (session_due, flows_due) = (
                    is_due(session.poll_timeout()),
                    is_due(self.connection.poll_timeout()),
                );
                if session_due {
                    session.handle_timeout(time);
                }
                if flows_due {
                    self.connection.handle_timeout(time, session.flows());
                }
                if session_due || flows_due {
                    self.settle(now, watcher, counter, tools);
                }
            }
            State::Opening(_) | State::Over => {}
        }
    }

    /// Gives the flows what the watcher says.
    fn say(&mut self, now: Duration, watcher: &mut Watcher, now_ns: u64) {
        let State::Open(session) = &mut self.state else {
            return;
        };
        let length = watcher.output().len();
        if length > 0 {
            let reader = self.reader.get_or_insert_with(Reader::new);
            reader.input.extend_from_slice(watcher.output());
            watcher.take_sent(length);
            // It is our own chunk stream, and of whole messages.
            while let Ok(Some(message)) = reader.reader.handle_input(&mut reader.input) {
                self.waiting.push_back(message);
            }
            if matches!(watcher.phase(), Phase::Play | Phase::Idle) {
                // What is said from now on is rare.
                self.reader = None;
            }
        }
        while let Some(message) = self.waiting.front() {
            let sent = self.connection.send(now, session.flows(), message, false);
            match sent {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(NotSent::NotConnected) => return,
                Err(error) => {
                    self.waiting.clear();
                    let error = io::Error::other(error);
                    watcher.end(ClientError::io(&error), now_ns);
                }
            }
        }
    }

    fn transmit(&mut self, now: Duration, socket: &Udp, tools: &mut Tools) {
        match &mut self.state {
            State::Opening(initiator) => {
                while let Some(transmit) = initiator.poll_transmit() {
                    socket.send(&transmit.datagram, transmit.to);
                }
            }
            State::Open(session) => {
                let datagram = &mut tools.datagram;
                datagram.clear();
                while let Some(to) = session.poll_transmit(now, datagram) {
                    socket.send(datagram, to);
                    datagram.clear();
                }
            }
            State::Over => {}
        }
    }
}
