//! One session that is open: RFC 7016 sections 3.5.2 to 3.5.5.
//!
//! ```text
//! datagrams        --> handle_datagram    poll_transmit --> datagrams, and where they go to
//! application      --> flows(), close     poll_event    --> application
//! the time         --> handle_timeout     poll_timeout  --> when to call it
//! ```
//!
//! # Life
//! ```text
//!                 close                       acknowledged, or nobody answers
//!   open ------------------> closing ----------------------------------------> closed
//!     | the far end asks for the end                                             ^
//!     `------------------> lingering, to answer it again ------------------------'
//! ```
//! The far end is believed to be who its certificate says from the first packet on that could be decrypted ([`SessionEvent::Confirmed`]).
//! Leaving `open` ends all flows at once; but where the far end asked for the end, what had come before can still be taken from them, until
//! [`Session::forget_flows`].
//!
//! # Moving
//! A packet from another address than the far end's changes nothing by itself: it may be a repetition of somebody else's. That address is
//! sent a ping with a secret, and when it comes back from there the session has moved (section 3.5.4.2). Some peers do not send pings
//! back; see [`SessionConfig::trust_packets`].
//!
//! # Bad input
//! What cannot be decrypted, is of the wrong end, or of no known kind, is dropped. Pings are answered to where they come from, some for
//! each packet; nothing that comes makes this end send more than that.

mod mobility;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use self::mobility::Mobility;
use crate::crypto::certificate::Fingerprint;
use crate::crypto::packet::{Draft, OpenError, Opener, Sealer};
use crate::flow::{self, FlowSet};
use crate::handshake::Opened;
use crate::wire::chunk::{self, ChunkKind, Payload};
use crate::wire::session::{CloseAcknowledgement, CloseRequest, Ping, PingReply};
use crate::wire::startup::ForwardedHello;
use crate::wire::{Header, Malformed, Mode, Packet};

/// How often the end is asked for, and how long (section 3.5.5), if the far end is not known to be gone before.
const CLOSE_EVERY: Duration = Duration::from_secs(5);
const CLOSE_FOR: Duration = Duration::from_secs(90);

/// How long the far end is answered once more that the session is over.
const LINGER: Duration = Duration::from_secs(19);

/// Answers of a packet's kind that wait to be sent; pings beyond are not answered.
const REPLIES: usize = 8;

/// Longest message of a ping that is answered, in bytes.
const PING_MESSAGE: usize = 512;

/// Datagrams that cannot be read before one that can, where nothing but a checksum of 16 bits tells them apart: whoever does not have the
/// keys, and tries, does not get far.
const GUESSES: u32 = 64;

/// Bytes of a packet's header, at most.
const HEADER: usize = 5;

/// What a session is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Bounds of its flows.
    pub flows: flow::Config,
    /// Bytes of the longest datagram. Default 1,200: it passes through tunnels.
    pub datagram: usize,
    /// A far end that has said nothing for so long is asked whether it is there.
    pub keepalive: Duration,
    /// A far end that has said nothing for so long is gone.
    pub dead_after: Duration,
    /// So many packets one after the other from the same other address, and none from the known one, count as a move, also where a ping is
    /// not answered. 0: never. Only packets that are protected by a MAC count.
    pub trust_packets: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            flows: flow::Config::default(),
            datagram: 1_200,
            keepalive: Duration::from_secs(15),
            dead_after: Duration::from_secs(45),
            trust_packets: 0,
        }
    }
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// This end closed it, and the far end agreed, or did not answer.
    Near,
    /// The far end closed it.
    Far,
    /// Nothing came for [`SessionConfig::dead_after`].
    Silent,
}

/// What the owner of a session is to know. What happens in its flows comes from [`FlowSet::poll_event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The far end has shown that it has the keys.
    Confirmed,
    /// It is at another address now.
    Moved {
        /// Where it was.
        from: SocketAddr,
    },
    /// Somebody wants a session with this end: the payload of the chunk.
    ForwardedHello(Vec<u8>),
    /// The flows are over. The session lingers until [`Session::is_over`].
    Closed(CloseReason),
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It could not be decrypted.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has no header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is one of this end's own, sent back.
    #[error("a packet of this end")]
    Reflected,
    /// There is no session any more.
    #[error("the session is over")]
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// This end asked for the end at first, and asks again.
    Closing {
        since: Duration,
        again: Duration,
    },
    /// The far end has asked for the end.
    Lingering {
        until: Duration,
    },
    Over,
}

/// A chunk that does not belong to a flow, and where it goes to: `None` to the far end's address.
#[derive(Debug)]
struct Reply {
    to: Option<SocketAddr>,
    /// The whole chunk.
    chunk: Vec<u8>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Session {
    config: std::sync::Arc<SessionConfig>,
    near: Fingerprint,
    mode: Mode,
    near_id: u32,
    far_id: u32,
    address: SocketAddr,
    fingerprint: Fingerprint,
    near_nonce: [u8; 32],
    far_nonce: [u8; 32],
    authenticated_as: Option<Vec<u8>>,
    sealer: Sealer,
    opener: Opener,
    flows: FlowSet,
    mobility: Mobility,
    state: State,
    is_confirmed: bool,
    /// See [`GUESSES`].
    guesses: u32,
    heard: Duration,
    /// When the far end was asked last whether it is there.
    asked: Option<Duration>,
    replies: VecDeque<Reply>,
    events: VecDeque<SessionEvent>,
}

impl Session {
    /// A session of what the handshake came to. `secret` makes its pings unguessable.
    #[must_use]
    pub fn new(
        opened: Opened,
        config: impl Into<std::sync::Arc<SessionConfig>>,
        now: Duration,
        secret: [u8; 32],
    ) -> Self {
        let config = config.into();
        let capacity = opened.sealer.capacity(config.datagram);
        let mut flows = config.flows.clone();
        flows.segment = flows.segment.min(capacity.saturating_sub(HEADER));
        Self {
            near: opened.near,
            mode: opened.mode,
            near_id: opened.near_id,
            far_id: opened.far_id,
            address: opened.address,
            fingerprint: opened.certificate.fingerprint(),
            near_nonce: opened.keys.near_nonce,
            far_nonce: opened.keys.far_nonce,
            authenticated_as: opened.authenticated_as,
            sealer: opened.sealer,
            opener: opened.opener,
            flows: FlowSet::new(flows),
            mobility: Mobility::new(secret),
            state: State::Open,
            is_confirmed: false,
            guesses: 0,
            heard: now,
            asked: None,
            replies: VecDeque::new(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Who this end is.
    #[must_use]
    pub fn near(&self) -> Fingerprint {
        self.near
    }

    /// The id of packets that come in.
    #[must_use]
    pub fn near_id(&self) -> u32 {
        self.near_id
    }

    /// Where packets go to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Which end this is.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Who the far end is, its peer id; to be believed when it is [confirmed](Self::is_confirmed).
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the far end has shown that it has the keys.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.is_confirmed
    }

    /// The nonces of this end and the far end (RFC 7425 section 4.6.5).
    #[must_use]
    pub fn nonces(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.near_nonce, &self.far_nonce)
    }

    /// The password that the far end knows, by its id.
    #[must_use]
    pub fn authenticated_as(&self) -> Option<&[u8]> {
        self.authenticated_as.as_deref()
    }

    /// Whether flows can be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether nothing more is to be sent or answered: it may be dropped.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// When the far end said something last.
    #[must_use]
    pub fn heard(&self) -> Duration {
        self.heard
    }

    /// The flows. After changes take [datagrams](Self::poll_transmit) and look at the [time](Self::poll_timeout) again.
    pub fn flows(&mut self) -> &mut FlowSet {
        &mut self.flows
    }

    /// What happened in the flows since this was asked, those that are forgotten included.
    pub fn take_counters(&mut self) -> flow::Counters {
        self.flows.take_counters()
    }

    /// The flows, to look at.
    #[must_use]
    pub fn look(&self) -> &FlowSet {
        &self.flows
    }

    /// Takes a datagram with this session's id, in place.
    ///
    /// # Errors
    /// [`Dropped`], at which nothing has changed, but that a packet number is used up; and that a session may be over whose far end has not
    /// shown that it has the keys, and sends one after the other that cannot be read.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(), Dropped> {
        if self.is_over() {
            return Err(Dropped::Over);
        }
        let opened = self.opener.open(datagram);
        if opened.is_err() && !self.is_confirmed && !self.opener.is_authenticated() {
            self.guesses += 1;
            if self.guesses >= GUESSES {
                self.abort();
            }
        }
        let packet = Packet::read(opened?)?;
        if packet.header.mode != self.mode.reverse() {
            return Err(Dropped::Reflected);
        }
        self.heard = now;
        self.asked = None;
        if !self.is_confirmed {
            self.is_confirmed = true;
            self.events.push_back(SessionEvent::Confirmed);
        }
        if self.is_open() {
            let header = flow::Header {
                time_critical: packet.header.time_critical,
                time_critical_reverse: packet.header.time_critical_reverse,
                timestamp: packet.header.timestamp,
                echo: packet.header.timestamp_echo,
            };
            let chunks = packet.chunks.map(|chunk| (chunk.kind.0, chunk.payload));
            self.flows.handle_packet(now, &header, chunks);
        }
        for chunk in packet.chunks {
            self.take(now, from, chunk.kind, chunk.payload);
        }
        if self.is_open() && from != self.address {
            self.wandered(now, from);
        } else {
            self.mobility.stayed();
        }
        Ok(())
    }

    fn take(&mut self, now: Duration, from: SocketAddr, kind: ChunkKind, payload: &[u8]) {
        match kind {
            ChunkKind::PING if payload.len() <= PING_MESSAGE => {
                self.reply(Some(from), &PingReply { message: payload });
            }
            ChunkKind::PING_REPLY if self.is_open() => {
                let is_answer = self.mobility.is_answer(now, from, payload);
                if is_answer && from != self.address {
                    self.move_to(from);
                }
            }
            ChunkKind::FORWARDED_HELLO if self.is_open() && self.events.len() < REPLIES => {
                let hello = SessionEvent::ForwardedHello(payload.to_vec());
                self.events.push_back(hello);
            }
            ChunkKind::CLOSE_REQUEST => {
                self.reply(Some(from), &CloseAcknowledgement);
                if self.is_open() {
                    self.state = State::Lingering {
                        until: now + LINGER,
                    };
                    self.end_flows(CloseReason::Far);
                }
            }
            ChunkKind::CLOSE_ACKNOWLEDGEMENT => {
                if self.is_open() {
                    // For as long as it takes to look at what came before.
                    self.state = State::Lingering { until: now };
                    self.end_flows(CloseReason::Far);
                } else {
                    self.state = State::Over;
                }
            }
            _ => {}
        }
    }

    fn reply(&mut self, to: Option<SocketAddr>, payload: &impl Payload) {
        if self.replies.len() >= REPLIES {
            return;
        }
        let mut chunk = Vec::new();
        if chunk::append(payload, &mut chunk).is_ok() {
            self.replies.push_back(Reply { to, chunk });
        }
    }

    /// Tells the far end that somebody wants a session with it (section 3.5.1.4). Dropped where much waits: the initiator tries again.
    pub fn forward_hello(&mut self, hello: &ForwardedHello<'_>) {
        if self.is_open() {
            self.reply(None, hello);
        }
    }

    /// Ends the session. What waits in its flows is not sent any more: close them before, where that matters.
    pub fn close(&mut self, now: Duration) {
        if self.is_open() {
            self.state = State::Closing {
                since: now,
                again: now,
            };
            self.end_flows(CloseReason::Near);
        }
    }

    /// Ends the session at once, with one last word.
    pub fn abort(&mut self) {
        if self.is_over() {
            return;
        }
        let was_open = self.is_open();
        self.state = State::Over;
        if was_open {
            self.end_flows(CloseReason::Near);
        }
        self.replies.clear();
        self.reply(None, &CloseAcknowledgement);
    }

    fn end_flows(&mut self, reason: CloseReason) {
        self.events.push_back(SessionEvent::Closed(reason));
        if reason != CloseReason::Far {
            self.forget_flows();
        }
    }

    /// Nothing of the flows of a session that is not open is kept or told any more.
    pub fn forget_flows(&mut self) {
        if !self.is_open() {
            let counters = self.flows.counters();
            self.flows = FlowSet::new(flow::Config::default());
            self.flows.count(counters);
        }
    }

    /// What has happened to the session. Call it until there is nothing.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Appends the next datagram to `out`, and gives where it goes to. Call it until there is nothing.
    #[must_use]
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let space = self.sealer.capacity(self.config.datagram);
        let space = space.saturating_sub(HEADER);
        if let Some(reply) = self.replies.pop_front() {
            let draft = self.begin(now, out);
            let start = out.len();
            out.extend_from_slice(&reply.chunk);
            // What goes to one address goes together: never more datagrams than came.
            while let Some(next) = self.replies.pop_front_if(|next| {
                next.to == reply.to && out.len() - start + next.chunk.len() <= space
            }) {
                out.extend_from_slice(&next.chunk);
            }
            self.sealer.finish(draft, self.far_id, out);
            return Some(reply.to.unwrap_or(self.address));
        }
        if let State::Closing { again, .. } = &mut self.state
            && *again <= now
        {
            *again = now + CLOSE_EVERY;
            let draft = self.begin(now, out);
            if chunk::append(&CloseRequest, out).is_err() {
                self.sealer.take_back(draft, out);
                return None;
            }
            self.sealer.finish(draft, self.far_id, out);
            return Some(self.address);
        }
        if !self.is_open() {
            return None;
        }
        // Where there is nothing to send the packet was never begun.
        let draft = self.sealer.begin(out);
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let Some(header) = self.flows.poll_transmit(now, space, out) else {
            self.sealer.take_back(draft, out);
            return None;
        };
        let header = self.header(header);
        let unused = HEADER.saturating_sub(header.length());
        if unused > 0 {
            out.copy_within(start + HEADER.., start + HEADER - unused);
            out.truncate(out.len() - unused);
        }
        if let Some(mut place) = out.get_mut(start..start + header.length()) {
            header.put(&mut place);
        }
        self.sealer.finish(draft, self.far_id, out);
        Some(self.address)
    }

    /// Begins a packet that is not filled by flows; its chunks are to follow.
    fn begin(&mut self, now: Duration, out: &mut Vec<u8>) -> Draft {
        let header = self.flows.stamp(now);
        let header = self.header(header);
        let draft = self.sealer.begin(out);
        header.put(out);
        draft
    }

    fn header(&self, header: flow::Header) -> Header {
        Header {
            time_critical: header.time_critical,
            time_critical_reverse: header.time_critical_reverse,
            timestamp: header.timestamp,
            timestamp_echo: header.echo,
            ..Header::new(self.mode)
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, at the latest, and datagrams taken after it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Open => {
                let quiet = self.asked.unwrap_or(self.heard) + self.config.keepalive;
                let dead = self.heard + self.config.dead_after;
                let flows = self.flows.poll_timeout();
                flows.into_iter().chain([quiet.min(dead)]).min()
            }
            State::Closing { since, again } => Some(again.min(self.closed_by(since))),
            State::Lingering { until } => Some(until),
            State::Over => None,
        }
    }

    /// Until when the far end is asked to agree that the session is over.
    fn closed_by(&self, since: Duration) -> Duration {
        since + CLOSE_FOR.min(self.config.dead_after)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        match self.state {
            State::Open => {
                self.flows.handle_timeout(now);
                if now >= self.heard + self.config.dead_after {
                    self.state = State::Over;
                    self.end_flows(CloseReason::Silent);
                    // It may be there, and not know.
                    self.reply(None, &CloseAcknowledgement);
                } else if now >= self.asked.unwrap_or(self.heard) + self.config.keepalive {
                    self.asked = Some(now);
                    self.reply(None, &Ping { message: &[] });
                }
            }
            State::Closing { since, .. } if now >= self.closed_by(since) => {
                self.state = State::Over;
            }
            State::Lingering { until } if now >= until => self.state = State::Over,
            State::Closing { .. } | State::Lingering { .. } | State::Over => {}
        }
    }
}
