//! The client's side of one connection: for the load harness, for tests, and for pulling streams from other servers.
//!
//! Adobe's RTMP specification, sections 5.2, 5.4, 6 and 7.2. What is not said there is done as Flash Player does it.
//!
//! # How to drive it
//! As the server's side ([`server`](crate::server)): after every call that takes `&mut self`, drain [`ClientSession::poll_event`] and
//! [`ClientSession::poll_transmit`], and read [`ClientSession::poll_timeout`] again. [`ClientSession::connect`] may be called at once;
//! everything else is for after [`ClientEvent::Connected`], but nothing stops a caller that wants to see what a server does.
//!
//! Answered here: handshake, acknowledgements, window sizes, ping requests, `onBWDone` and the bandwidth check.

mod config;
mod dispatch;
mod event;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::Value;

pub use config::{ClientConfig, ConnectParameters};
pub use event::ClientEvent;

use crate::command::{Command, ObjectEncoding, TransactionId, chunk_streams};
use crate::handshake::{ClientHandshake, Progress, RandomBlock};
use crate::session::{
    Due, Link, Liveness, Outstanding, SessionError, next_event, wrapping_milliseconds,
};

/// Where a connection stands.
#[derive(Debug)]
enum Phase {
    Handshake(Box<ClientHandshake>),
    Connecting,
    Connected,
    Closed,
}

/// What a call of ours was.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Connect,
    CreateStream,
    Call,
}

/// The client's side of one connection.
#[derive(Debug)]
pub struct ClientSession {
    config: Arc<ClientConfig>,
    phase: Phase,
    /// When the server must have finished the handshake or answered `connect`.
    deadline: Option<Duration>,
    link: Link,
    liveness: Liveness,
    encoding: ObjectEncoding,
    events: VecDeque<ClientEvent>,
    calls: Outstanding<Pending>,
    unanswered: Outstanding<()>,
    next_transaction: u32,
    bandwidth_checks: u32,
    ignored_messages: u64,
    has_more_input: bool,
    failure: Option<SessionError>,
    closed_told: bool,
}

impl ClientSession {
    /// A session at the start of a connection: C0 and C1 wait to be sent.
    ///
    /// `random` fills the handshake's C1; it must differ between connections and need not be secret.
    #[must_use]
    pub fn new(config: impl Into<Arc<ClientConfig>>, random: RandomBlock, now: Duration) -> Self {
        let config = config.into();
        let limits = &config.limits;
        let handshake = ClientHandshake::new(config.handshake, random, wrapping_milliseconds(now));
        Self {
            phase: Phase::Handshake(Box::new(handshake)),
            deadline: Some(now.saturating_add(config.handshake_timeout)),
            link: Link::new(limits, config.window_ack_size),
            liveness: Liveness::new(config.ping_interval, config.ping_timeout, now),
            encoding: ObjectEncoding::Amf0,
            events: VecDeque::new(),
            calls: Outstanding::new(limits.outstanding_calls),
            unanswered: Outstanding::new(limits.outstanding_calls),
            next_transaction: 1,
            bandwidth_checks: 0,
            ignored_messages: 0,
            has_more_input: false,
            failure: None,
            closed_told: false,
            config,
        }
    }

    /// A session over something that has a handshake of its own: `connect` is the first thing that is sent.
    #[must_use]
    pub fn without_handshake(config: impl Into<Arc<ClientConfig>>, now: Duration) -> Self {
        let mut session = Self::new(config, [0; crate::handshake::RANDOM_LENGTH], now);
        session.link.end_handshake();
        session.phase = Phase::Connecting;
        session.deadline = Some(now.saturating_add(session.config.connect_timeout));
        session
    }

    /// Takes bytes from the server, from the front of `input`. What is left is the start of something whose rest has not come,
    /// or, if [`ClientSession::has_more_input`], waits for room among the events.
    ///
    /// # Errors
    /// [`SessionError`]: the session is over; see there.
    pub fn handle_input(
        &mut self,
        now: Duration,
        input: &mut BytesMut,
    ) -> Result<(), SessionError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let outcome = self.take_input(now, input);
        self.note(outcome)
    }

    /// Does what is due at this time. To be called when [`ClientSession::poll_timeout`] has passed; earlier it does nothing.
    ///
    /// # Errors
    /// [`SessionError`]: the server took too long, or is gone.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let outcome = self.do_what_is_due(now);
        self.note(outcome)
    }

    /// The connection is gone: gives [`ClientEvent::Closed`] if the server's `close` did not.
    pub fn handle_disconnect(&mut self) {
        self.phase = Phase::Closed;
        if !self.closed_told {
            self.closed_told = true;
            self.events.push_back(ClientEvent::Closed);
        }
    }

    /// The next event, oldest first.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        next_event(&mut self.events)
    }

    /// Bytes to send, in order. Payloads of [`ClientSession::send_media`] are given as they are, without a copy, if they are long.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Phase::Handshake(handshake) = &mut self.phase
            && let Some(bytes) = handshake.poll_transmit()
        {
            return Some(bytes);
        }
        self.link.poll_transmit()
    }

    /// When to call [`ClientSession::handle_timeout`], if at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.failure.is_some() {
            return None;
        }
        match self.phase {
            Phase::Handshake(_) => self.deadline,
            Phase::Connecting => self.deadline,
            Phase::Connected => self.liveness.deadline(),
            Phase::Closed => None,
        }
    }

    /// Whether the connection is to be closed: the session is over and what it had to say is drained.
    #[must_use]
    pub fn should_close(&self) -> bool {
        let over = self.failure.is_some() || matches!(self.phase, Phase::Closed);
        over && !self.link.has_output()
    }

    /// Whether [`ClientSession::handle_input`] left whole messages in its input because
    /// [`SessionLimits::pending_events`](crate::session::SessionLimits::pending_events) events wait.
    #[must_use]
    pub const fn has_more_input(&self) -> bool {
        self.has_more_input
    }

    /// Whether the server accepted the connection and has not ended it.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Bytes received after the handshake: what acknowledgements count.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.link.bytes_received()
    }

    /// The server's last acknowledgement: bytes it has received, wrapping at 2^32. `None` before the first.
    #[must_use]
    pub const fn acknowledged(&self) -> Option<u32> {
        self.link.peer_acknowledged()
    }

    /// When the server last sent anything.
    #[must_use]
    pub const fn last_heard(&self) -> Duration {
        self.liveness.last_heard()
    }

    /// Messages that were dropped: unknown types, answers to no call.
    #[must_use]
    pub const fn ignored_messages(&self) -> u64 {
        self.ignored_messages
    }

    fn take_input(&mut self, now: Duration, input: &mut BytesMut) -> Result<(), SessionError> {
        if matches!(self.phase, Phase::Closed) {
            input.clear();
            return Ok(());
        }
        if !input.is_empty() {
            self.liveness.heard(now);
        }
        self.has_more_input = false;
        if let Phase::Handshake(handshake) = &mut self.phase {
            let progress = handshake.handle_input(input)?;
            while let Some(bytes) = handshake.poll_transmit() {
                self.link.send_handshake(&bytes)?;
            }
            if progress == Progress::Done {
                self.link.end_handshake();
                self.phase = Phase::Connecting;
                self.deadline = Some(now.saturating_add(self.config.connect_timeout));
            }
        }
        while !matches!(self.phase, Phase::Handshake(_) | Phase::Closed) {
            if self.events.len() >= self.config.limits.pending_events {
                self.has_more_input = !input.is_empty();
                break;
            }
            let Some(incoming) = self.link.read(input)? else {
                break;
            };
            self.dispatch(now, incoming)?;
        }
        if matches!(self.phase, Phase::Closed) {
            input.clear();
        }
        self.link.acknowledge()
    }

    fn do_what_is_due(&mut self, now: Duration) -> Result<(), SessionError> {
        let overdue = self.deadline.is_some_and(|deadline| now >= deadline);
        match self.phase {
            Phase::Handshake(_) if overdue => Err(SessionError::HandshakeTimeout(
                self.config.handshake_timeout,
            )),
            Phase::Connecting if overdue => {
                Err(SessionError::ConnectTimeout(self.config.connect_timeout))
            }
            Phase::Connected => match self.liveness.due(now) {
                Due::Nothing => Ok(()),
                Due::Ping(timestamp) => self.link.send_ping(timestamp),
                Due::Dead(silence) => Err(SessionError::PingTimeout(silence)),
            },
            _ => Ok(()),
        }
    }

    fn note<T>(&mut self, outcome: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Err(error) = &outcome
            && error.is_fatal()
        {
            self.failure = Some(error.clone());
            self.phase = Phase::Closed;
        }
        outcome
    }

    fn send_call(
        &mut self,
        name: &str,
        arguments: Vec<Value>,
        pending: Pending,
    ) -> Result<TransactionId, SessionError> {
        if !self.calls.has_room() {
            return Err(SessionError::TooManyCalls(
                self.config.limits.outstanding_calls,
            ));
        }
        let transaction = self.next_transaction();
        self.send_command(0, &Command::call(name, transaction, arguments))?;
        self.calls.push(transaction, pending);
        Ok(transaction)
    }

    fn send_command(&mut self, stream_id: u32, command: &Command) -> Result<(), SessionError> {
        let message = command.to_message(self.encoding, stream_id)?;
        let chunk_stream = if stream_id == 0 {
            chunk_streams::COMMAND
        } else {
            chunk_streams::STREAM_STATUS
        };
        let outcome = self.link.send(chunk_stream, &message);
        self.note(outcome)
    }

    fn next_transaction(&mut self) -> TransactionId {
        let transaction = TransactionId::new(f64::from(self.next_transaction));
        self.next_transaction = self.next_transaction.checked_add(1).unwrap_or(1);
        transaction
    }
}
