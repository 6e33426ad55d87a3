//! The server's side of one connection: the protocol of a NetConnection and its NetStreams. Policy lives in the caller.
//!
//! Adobe's RTMP specification, sections 5.2 (handshake), 5.4 (control messages), 6 (commands) and 7.2; Enhanced RTMP v2 for
//! capabilities and reconnect requests. Where the specification is silent, Adobe Media Server's behaviour is followed.
//!
//! ```text
//!  handshake --> awaiting connect --> pending --> connected --> closing
//!                       |               |  accept_connect         ^
//!                       |               `---- reject_connect -----|
//!                       `------- anything but connect ------------'
//! ```
//!
//! # How to drive it
//! After every call that takes `&mut self`, drain [`ServerSession::poll_event`] and [`ServerSession::poll_transmit`], and read
//! [`ServerSession::poll_timeout`] again. Then look at [`ServerSession::should_close`] and [`ServerSession::has_more_input`].
//! When the connection ends for any reason, call [`ServerSession::handle_disconnect`] once: it gives the events that end what
//! was still going on, so that the caller needs no second clean-up path.
//!
//! # What is answered here, and what is not
//! Handshake, acknowledgements, window sizes, ping requests, `createStream`, `deleteStream`, `closeStream`, `releaseStream`, the `FC*`
//! commands, `_checkbw` and everything out of order are answered here. `connect`, `publish`, `play` and unknown commands
//! are events that the caller answers, now or later, with the functions below.
//!
//! # Media to players
//! does not pass through the session: the caller writes shared wire forms itself, between the blocks of `poll_transmit`, on
//! the media chunk streams of [`chunk_streams`], with full headers and chunks of
//! [`ServerSession::chunk_size_out`] bytes. So do shared objects, as far as many clients get the same.

mod commands;
mod config;
mod dispatch;
mod event;
mod reply;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::Value;

pub use config::ServerConfig;
pub(crate) use dispatch::{MAX_AGGREGATE_PARTS, media_of};
pub use event::{MediaFrame, ServerEvent};
pub use reply::{ConnectAnswer, ConnectRejection, PlayAnswer};

use crate::command::{Command, EnhancedCapabilities, ObjectEncoding, TransactionId, chunk_streams};
use crate::handshake::{Progress, RandomBlock, ServerHandshake};
use crate::message::Message;
use crate::session::{
    Due, Incoming, Link, Liveness, Outstanding, SessionError, next_event, wrapping_milliseconds,
};
use crate::status::{Status, StatusCode};
use streams::{Activity, Streams};

/// The number of the first call of ours. Numbers of the two sides have nothing to do with each other, but the npm package rtmp-client takes
/// a call whose number is that of a call of its own for the answer to that one; clients count from 1.
const FIRST_TRANSACTION: u32 = 1 << 24;

/// Where a connection stands.
#[derive(Debug)]
enum Phase {
    Handshake(Box<ServerHandshake>),
    AwaitingConnect,
    /// The application decides about the `connect` with this transaction.
    Pending(TransactionId),
    Connected,
    /// The last words are written.
    Closing,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct ServerSession {
    config: Arc<ServerConfig>,
    phase: Phase,
    /// When the client must have finished its handshake or sent `connect`.
    deadline: Option<Duration>,
    link: Link,
    liveness: Liveness,
    streams: Streams,
    encoding: ObjectEncoding,
    enhanced: EnhancedCapabilities,
    client_id: Option<String>,
    events: VecDeque<ServerEvent>,
    /// What came while the connection was pending.
    deferred: VecDeque<Incoming>,
    deferred_bytes: usize,
    /// Calls of the client that the caller has not answered.
    unanswered: Outstanding<()>,
    /// Calls of ours that the client has not answered.
    calls: Outstanding<()>,
    next_transaction: u32,
    bad_commands: u32,
    ignored_messages: u64,
    has_more_input: bool,
    failure: Option<SessionError>,
    disconnected: bool,
}

impl ServerSession {
    /// A session at the start of a connection.
    ///
    /// `random` fills the handshake's S1; it must differ between connections and need not be secret.
    #[must_use]
    pub fn new(config: impl Into<Arc<ServerConfig>>, random: RandomBlock, now: Duration) -> Self {
        let config = config.into();
        let limits = &config.limits;
        let mut link = Link::new(limits, config.window_ack_size);
        link.limit_messages(limits.command_size.min(limits.message_size));
        Self {
            phase: Phase::Handshake(Box::new(ServerHandshake::new(random))),
            deadline: Some(now.saturating_add(config.handshake_timeout)),
            link,
            liveness: Liveness::new(config.ping_interval, config.ping_timeout, now),
            streams: Streams::new(limits.streams),
            encoding: ObjectEncoding::Amf0,
            enhanced: EnhancedCapabilities::default(),
            client_id: None,
            events: VecDeque::new(),
            deferred: VecDeque::new(),
            deferred_bytes: 0,
            unanswered: Outstanding::new(limits.outstanding_calls),
            calls: Outstanding::new(limits.outstanding_calls),
            next_transaction: FIRST_TRANSACTION,
            bad_commands: 0,
            ignored_messages: 0,
            has_more_input: false,
            failure: None,
            disconnected: false,
            config,
        }
    }

    /// A session over something that has a handshake of its own, and its own ways to find out whether the far end is there.
    #[must_use]
    pub fn without_handshake(config: impl Into<Arc<ServerConfig>>, now: Duration) -> Self {
        let mut session = Self::new(config, [0; crate::handshake::RANDOM_LENGTH], now);
        session.link.end_handshake();
        session.phase = Phase::AwaitingConnect;
        session.deadline = Some(now.saturating_add(session.config.connect_timeout));
        session
    }

    /// Takes bytes from the client, from the front of `input`.
    ///
    /// What is left in `input` is the start of something whose rest has not come; append to it. If
    /// [`ServerSession::has_more_input`], it was left because enough events wait: drain them and call again.
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

    /// Does what is due at this time. To be called when [`ServerSession::poll_timeout`] has passed; earlier it does nothing.
    ///
    /// # Errors
    /// [`SessionError`]: the client took too long, or is gone.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), SessionError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let outcome = self.do_what_is_due(now);
        self.note(outcome)
    }

    /// Ends the session: [`ServerEvent::Unpublish`] and [`ServerEvent::PlayStopped`] for what was going on, then
    /// [`ServerEvent::Closed`]. Calling it again does nothing.
    pub fn handle_disconnect(&mut self) {
        if self.disconnected {
            return;
        }
        self.disconnected = true;
        self.phase = Phase::Closing;
        self.deferred.clear();
        for stream_id in self.streams.ids() {
            self.end_activity(stream_id);
            self.streams.delete(stream_id);
        }
        self.events.push_back(ServerEvent::Closed);
    }

    /// The next event, oldest first. To be called after every call that takes `&mut self`, until there is none.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        next_event(&mut self.events)
    }

    /// Bytes to send, in order. To be called after every call that takes `&mut self`, until there are none.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.link.poll_transmit()
    }

    /// When to call [`ServerSession::handle_timeout`], if at all.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.failure.is_some() {
            return None;
        }
        match self.phase {
            Phase::Handshake(_) | Phase::AwaitingConnect => self.deadline,
            Phase::Pending(_) | Phase::Connected => self.liveness.deadline(),
            Phase::Closing => None,
        }
    }

    /// Whether the connection is to be closed: the session is over and its last words are drained.
    #[must_use]
    pub fn should_close(&self) -> bool {
        let over = self.failure.is_some() || matches!(self.phase, Phase::Closing);
        over && !self.link.has_output()
    }

    /// Whether [`ServerSession::handle_input`] left whole messages in its input because
    /// [`SessionLimits::pending_events`](crate::session::SessionLimits::pending_events) events wait.
    #[must_use]
    pub const fn has_more_input(&self) -> bool {
        self.has_more_input
    }

    /// Whether the connection was accepted and is not closing.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected)
    }

    /// Largest chunk in what is sent, in bytes: 128 until the connection is accepted.
    #[must_use]
    pub fn chunk_size_out(&self) -> u32 {
        self.link.chunk_size_out()
    }

    /// The encoding the client asked for.
    #[must_use]
    pub const fn object_encoding(&self) -> ObjectEncoding {
        self.encoding
    }

    /// What the client declares of Enhanced RTMP.
    #[must_use]
    pub const fn enhanced(&self) -> &EnhancedCapabilities {
        &self.enhanced
    }

    /// When the client last sent anything.
    #[must_use]
    pub const fn last_heard(&self) -> Duration {
        self.liveness.last_heard()
    }

    /// Bytes received after the handshake: what acknowledgements count.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.link.bytes_received()
    }

    /// The client's last acknowledgement: bytes it has received, wrapping at 2^32. `None` before the first.
    #[must_use]
    pub const fn acknowledged(&self) -> Option<u32> {
        self.link.peer_acknowledged()
    }

    /// Messages that were dropped without an answer: media on a stream that does not publish, unknown types, answers to no call.
    #[must_use]
    pub const fn ignored_messages(&self) -> u64 {
        self.ignored_messages
    }

    fn take_input(&mut self, now: Duration, input: &mut BytesMut) -> Result<(), SessionError> {
        if matches!(self.phase, Phase::Closing) {
            input.clear();
            return Ok(());
        }
        if !input.is_empty() {
            self.liveness.heard(now);
        }
        self.has_more_input = false;
        if let Phase::Handshake(handshake) = &mut self.phase {
            let progress = handshake.handle_input(wrapping_milliseconds(now), input)?;
            while let Some(bytes) = handshake.poll_transmit() {
                self.link.send_handshake(&bytes)?;
            }
            if progress == Progress::Done {
                self.link.end_handshake();
                self.phase = Phase::AwaitingConnect;
                self.deadline = Some(now.saturating_add(self.config.connect_timeout));
            }
        }
        while !matches!(self.phase, Phase::Handshake(_) | Phase::Closing) {
            if self.events.len() >= self.config.limits.pending_events {
                self.has_more_input = !input.is_empty();
                break;
            }
            let Some(incoming) = self.link.read(input)? else {
                break;
            };
            self.dispatch(now, incoming)?;
        }
        if matches!(self.phase, Phase::Closing) {
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
            Phase::AwaitingConnect if overdue => {
                Err(SessionError::ConnectTimeout(self.config.connect_timeout))
            }
            Phase::Pending(_) | Phase::Connected => match self.liveness.due(now) {
                Due::Nothing => Ok(()),
                Due::Ping(timestamp) => self.link.send_ping(timestamp),
                Due::Dead(silence) => Err(SessionError::PingTimeout(silence)),
            },
            _ => Ok(()),
        }
    }

    /// Remembers an error that ends the session.
    fn note<T>(&mut self, outcome: Result<T, SessionError>) -> Result<T, SessionError> {
        if let Err(error) = &outcome
            && error.is_fatal()
        {
            self.failure = Some(error.clone());
            self.phase = Phase::Closing;
        }
        outcome
    }

    /// Ends what a stream is used for and tells the caller. Gives what it was.
    fn end_activity(&mut self, stream_id: u32) -> Activity {
        let Some(activity) = self.streams.get_mut(stream_id) else {
            return Activity::Idle;
        };
        let ended = std::mem::replace(activity, Activity::Idle);
        match &ended {
            Activity::Idle => {}
            Activity::Publishing { .. } => {
                self.events.push_back(ServerEvent::Unpublish { stream_id });
            }
            Activity::Playing => self
                .events
                .push_back(ServerEvent::PlayStopped { stream_id }),
        }
        ended
    }

    /// Sends a command on the chunk stream of its message stream.
    fn send_command(&mut self, stream_id: u32, command: &Command) -> Result<(), SessionError> {
        let message = command.to_message(self.encoding, stream_id)?;
        self.send_message(&message)
    }

    fn send_message(&mut self, message: &Message) -> Result<(), SessionError> {
        if message.stream_id == 0 {
            // With a full header: the caller writes shared objects there.
            self.link.send_media(chunk_streams::COMMAND, message)
        } else {
            self.link.send(chunk_streams::STREAM_STATUS, message)
        }
    }

    fn send_status(&mut self, stream_id: u32, status: Status) -> Result<(), SessionError> {
        let status = match &self.client_id {
            Some(id) if stream_id != 0 => status.with("clientid", id.as_str()),
            _ => status,
        };
        self.send_command(
            stream_id,
            &Command::notice("onStatus", vec![status.to_value()]),
        )
    }

    /// Answers a call with an error, if an answer is wanted.
    fn send_error(
        &mut self,
        transaction: TransactionId,
        code: StatusCode,
        description: impl Into<String>,
    ) -> Result<(), SessionError> {
        if !transaction.wants_answer() {
            return Ok(());
        }
        let status = Status::new(code).describe(description);
        self.send_command(0, &Command::error(transaction, status.to_value()))
    }

    /// Answers a call, if an answer is wanted.
    fn send_result(
        &mut self,
        transaction: TransactionId,
        value: Value,
    ) -> Result<(), SessionError> {
        if !transaction.wants_answer() {
            return Ok(());
        }
        self.send_command(0, &Command::result(transaction, value))
    }
}
