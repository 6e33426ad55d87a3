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
mod event;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use headwater_amf::{Limits, Value, amf0};
use headwater_media::frame::FrameKind;

pub use config::{ClientConfig, ConnectParameters};
pub use event::ClientEvent;

use crate::aggregate;
use crate::command::{
    Command, DataKind, EnhancedCapabilities, ObjectEncoding, Play2Parameters, PlayLength,
    PlayReset, PlayStart, PublishMode, TransactionId, chunk_streams, values, wrap_data,
};
use crate::control::UserControl;
use crate::handshake::{ClientHandshake, Progress, RandomBlock};
use crate::message::{Message, MessageType};
use crate::server::{MediaFrame, media_of};
use crate::session::{
    Due, Incoming, Link, Liveness, Outstanding, SessionError, decode_command, wrapping_milliseconds,
};
use crate::status::{Status, StatusCode};

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
    config: ClientConfig,
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
    pub fn new(config: ClientConfig, random: RandomBlock, now: Duration) -> Self {
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
        self.events.pop_front()
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

    /// Connects: sends the chunk size and `connect`. What is sent before the handshake is done waits for it.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if a value cannot be written, and fatal ones.
    pub fn connect(&mut self, parameters: &ConnectParameters) -> Result<(), SessionError> {
        if !self.calls.has_room() {
            return Err(SessionError::TooManyCalls(
                self.config.limits.outstanding_calls,
            ));
        }
        let transaction = self.next_transaction();
        // `connect` is AMF0 whatever it asks for.
        let message = parameters
            .to_command(transaction)
            .to_message(ObjectEncoding::Amf0, 0)?;
        self.encoding = parameters.object_encoding;
        self.calls.push(transaction, Pending::Connect);
        let outcome = self
            .link
            .set_chunk_size_out(self.config.chunk_size)
            .and_then(|()| self.link.send(chunk_streams::COMMAND, &message));
        self.note(outcome)
    }

    /// Asks for a message stream: [`ClientEvent::StreamCreated`] tells of it.
    ///
    /// # Errors
    /// [`SessionError::TooManyCalls`], and fatal ones.
    pub fn create_stream(&mut self) -> Result<TransactionId, SessionError> {
        self.send_call("createStream", Vec::new(), Pending::CreateStream)
    }

    /// Calls a method of the server: [`ClientEvent::CallResult`] tells of its answer.
    ///
    /// # Errors
    /// [`SessionError::TooManyCalls`], [`SessionError::Encode`], and fatal ones.
    pub fn call(
        &mut self,
        name: &str,
        arguments: Vec<Value>,
    ) -> Result<TransactionId, SessionError> {
        self.send_call(name, arguments, Pending::Call)
    }

    /// Calls a method of the server on a message stream (0 is the connection) and wants no answer.
    ///
    /// # Errors
    /// [`SessionError::Encode`], and fatal ones.
    pub fn notify(
        &mut self,
        stream_id: u32,
        name: &str,
        arguments: Vec<Value>,
    ) -> Result<(), SessionError> {
        self.send_command(stream_id, &Command::notice(name, arguments))
    }

    /// `releaseStream`: encoders send it before they publish.
    ///
    /// # Errors
    /// As [`ClientSession::call`].
    pub fn release_stream(&mut self, name: &str) -> Result<TransactionId, SessionError> {
        self.call("releaseStream", vec![Value::from(name)])
    }

    /// `FCPublish`: encoders send it before they publish.
    ///
    /// # Errors
    /// As [`ClientSession::call`].
    pub fn fc_publish(&mut self, name: &str) -> Result<TransactionId, SessionError> {
        self.call("FCPublish", vec![Value::from(name)])
    }

    /// `FCUnpublish`: encoders send it after they published.
    ///
    /// # Errors
    /// As [`ClientSession::call`].
    pub fn fc_unpublish(&mut self, name: &str) -> Result<TransactionId, SessionError> {
        self.call("FCUnpublish", vec![Value::from(name)])
    }

    /// `FCSubscribe`: players of some networks send it before they play.
    ///
    /// # Errors
    /// As [`ClientSession::call`].
    pub fn fc_subscribe(&mut self, name: &str) -> Result<TransactionId, SessionError> {
        self.call("FCSubscribe", vec![Value::from(name)])
    }

    /// Publishes a stream, whose name may carry a query.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn publish(
        &mut self,
        stream_id: u32,
        name: &str,
        mode: PublishMode,
    ) -> Result<(), SessionError> {
        let arguments = vec![Value::from(name), Value::from(mode.as_str())];
        self.notify(stream_id, "publish", arguments)
    }

    /// Stops publishing: `publish(false)`.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn unpublish(&mut self, stream_id: u32) -> Result<(), SessionError> {
        self.notify(stream_id, "publish", vec![Value::Boolean(false)])
    }

    /// Plays a stream, whose name may carry a query.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn play(
        &mut self,
        stream_id: u32,
        name: &str,
        start: PlayStart,
        length: PlayLength,
        reset: PlayReset,
    ) -> Result<(), SessionError> {
        let arguments = vec![
            Value::from(name),
            Value::Number(start.to_wire()),
            Value::Number(length.to_wire()),
            reset.to_value(),
        ];
        self.notify(stream_id, "play", arguments)
    }

    /// Switches to another stream or bit rate.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn play2(
        &mut self,
        stream_id: u32,
        parameters: &Play2Parameters,
    ) -> Result<(), SessionError> {
        self.notify(stream_id, "play2", vec![parameters.to_value()])
    }

    /// Stops playing: `play(false)`.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn stop(&mut self, stream_id: u32) -> Result<(), SessionError> {
        self.notify(stream_id, "play", vec![Value::Boolean(false)])
    }

    /// Pauses, or goes on, at a media time in milliseconds.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn pause(&mut self, stream_id: u32, paused: bool, at: f64) -> Result<(), SessionError> {
        let arguments = vec![Value::Boolean(paused), Value::Number(at)];
        self.notify(stream_id, "pause", arguments)
    }

    /// Seeks to a media time in milliseconds.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn seek(&mut self, stream_id: u32, to: f64) -> Result<(), SessionError> {
        self.notify(stream_id, "seek", vec![Value::Number(to)])
    }

    /// Says whether audio is wanted.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn receive_audio(&mut self, stream_id: u32, wanted: bool) -> Result<(), SessionError> {
        self.notify(stream_id, "receiveAudio", vec![Value::Boolean(wanted)])
    }

    /// Says whether video is wanted.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn receive_video(&mut self, stream_id: u32, wanted: bool) -> Result<(), SessionError> {
        self.notify(stream_id, "receiveVideo", vec![Value::Boolean(wanted)])
    }

    /// States the client's buffer in milliseconds.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn set_buffer_length(
        &mut self,
        stream_id: u32,
        milliseconds: u32,
    ) -> Result<(), SessionError> {
        let outcome = self.link.send_user_control(UserControl::SetBufferLength {
            stream_id,
            length: milliseconds,
        });
        self.note(outcome)
    }

    /// Stops what a stream is used for.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn close_stream(&mut self, stream_id: u32) -> Result<(), SessionError> {
        self.notify(stream_id, "closeStream", Vec::new())
    }

    /// Gives a message stream back.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn delete_stream(&mut self, stream_id: u32) -> Result<(), SessionError> {
        self.notify(0, "deleteStream", vec![Value::Number(f64::from(stream_id))])
    }

    /// Sends a frame of a stream that is published. Data is AMF0, without its wrapper.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`]: drain `poll_transmit` before the next frame.
    pub fn send_media(&mut self, stream_id: u32, frame: &MediaFrame) -> Result<(), SessionError> {
        let (chunk_stream, kind) = match frame.kind {
            FrameKind::Audio => (chunk_streams::AUDIO, MessageType::AUDIO),
            FrameKind::Video => (chunk_streams::VIDEO, MessageType::VIDEO),
            FrameKind::Data => (chunk_streams::DATA, MessageType::DATA_AMF0),
        };
        let message = Message {
            kind,
            timestamp: frame.timestamp,
            stream_id,
            payload: wrap_data(frame.data, &frame.payload),
        };
        let outcome = self.link.send_media(chunk_stream, &message);
        self.note(outcome)
    }

    /// Sends any message: shared objects, or what a test wants a server to see.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn send_message(&mut self, message: &Message) -> Result<(), SessionError> {
        let outcome = self.link.send(chunk_streams::COMMAND, message);
        self.note(outcome)
    }

    /// Answers a call of the server. Does nothing if no such call waits.
    ///
    /// # Errors
    /// [`SessionError::Encode`], and fatal ones.
    pub fn answer_call(
        &mut self,
        transaction: TransactionId,
        value: Value,
    ) -> Result<(), SessionError> {
        if self.unanswered.take(transaction).is_none() {
            return Ok(());
        }
        self.send_command(0, &Command::result(transaction, value))
    }

    /// Tells the server that there is no such method. Does nothing if no such call waits.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn reject_call(
        &mut self,
        transaction: TransactionId,
        description: &str,
    ) -> Result<(), SessionError> {
        if self.unanswered.take(transaction).is_none() {
            return Ok(());
        }
        let status = Status::new(StatusCode::CallFailed).describe(description);
        self.send_command(0, &Command::error(transaction, status.to_value()))
    }

    /// Pings the server now, whatever the interval.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn ping(&mut self, now: Duration) -> Result<(), SessionError> {
        let timestamp = self.liveness.ping(now);
        let outcome = self.link.send_ping(timestamp);
        self.note(outcome)
    }

    /// Ends the session from our side. RTMP has no word for it: the connection is closed when what was said is drained.
    pub fn close(&mut self) {
        self.phase = Phase::Closed;
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

    fn dispatch(&mut self, now: Duration, incoming: Incoming) -> Result<(), SessionError> {
        match incoming {
            Incoming::Handled => Ok(()),
            Incoming::UserControl(event) => {
                self.handle_user_control(now, &event);
                Ok(())
            }
            Incoming::Message(message) => self.handle_message(message),
        }
    }

    fn handle_user_control(&mut self, now: Duration, event: &UserControl) {
        let event = match *event {
            UserControl::StreamBegin { stream_id } => ClientEvent::StreamBegin { stream_id },
            UserControl::StreamEof { stream_id } => ClientEvent::StreamEof { stream_id },
            UserControl::StreamDry { stream_id } => ClientEvent::StreamDry { stream_id },
            UserControl::StreamIsRecorded { stream_id } => {
                ClientEvent::StreamIsRecorded { stream_id }
            }
            UserControl::PingResponse { timestamp } => {
                let Some(round_trip) = self.liveness.answered(now, timestamp) else {
                    return;
                };
                ClientEvent::PingLatency { round_trip }
            }
            _ => {
                self.ignored_messages += 1;
                return;
            }
        };
        self.events.push_back(event);
    }

    fn handle_message(&mut self, message: Message) -> Result<(), SessionError> {
        match message.kind {
            MessageType::COMMAND_AMF0 | MessageType::COMMAND_AMF3 => {
                match decode_command(&message, &self.config.limits) {
                    Some(Ok(command)) => return self.handle_command(command, message.stream_id),
                    _ => self.ignored_messages += 1,
                }
            }
            MessageType::AGGREGATE => {
                for part in aggregate::split(&message) {
                    let Ok(part) = part else {
                        self.ignored_messages += 1;
                        break;
                    };
                    self.handle_media(part);
                }
            }
            MessageType::SHARED_OBJECT_AMF0 | MessageType::SHARED_OBJECT_AMF3 => {
                self.events.push_back(ClientEvent::SharedObject { message });
            }
            _ => self.handle_media(message),
        }
        Ok(())
    }

    fn handle_media(&mut self, message: Message) {
        let Message {
            kind,
            timestamp,
            stream_id,
            payload,
        } = message;
        let Some((kind, data, payload)) = media_of(kind, payload) else {
            self.ignored_messages += 1;
            return;
        };
        if kind == FrameKind::Data
            && data == DataKind::Plain
            && let Some(status) = data_status(&payload)
        {
            self.events
                .push_back(ClientEvent::PlayStatus { stream_id, status });
            return;
        }
        self.events.push_back(ClientEvent::Media {
            stream_id,
            frame: MediaFrame {
                kind,
                data,
                timestamp,
                payload,
            },
        });
    }

    fn handle_command(&mut self, command: Command, stream_id: u32) -> Result<(), SessionError> {
        match command.name.as_str() {
            "_result" => {
                self.handle_answer(command, true);
                Ok(())
            }
            "_error" => {
                self.handle_answer(command, false);
                Ok(())
            }
            "onStatus" => {
                self.handle_status(&command, stream_id);
                Ok(())
            }
            "close" => {
                self.handle_disconnect();
                Ok(())
            }
            "onBWDone" => {
                self.events.push_back(ClientEvent::BandwidthDone {
                    arguments: command.arguments,
                });
                self.answer_at_once(command.transaction, Value::Undefined)
            }
            "onBWCheck" | "_onbwcheck" => {
                // The server weighs the payload and waits for the count.
                self.bandwidth_checks = self.bandwidth_checks.wrapping_add(1);
                let count = Value::Number(f64::from(self.bandwidth_checks));
                self.answer_at_once(command.transaction, count)
            }
            "_onbwdone" => Ok(()),
            _ => {
                let wanted = command.transaction.wants_answer();
                if wanted && !self.unanswered.push(command.transaction, ()) {
                    let status = Status::new(StatusCode::CallFailed);
                    let refusal = Command::error(command.transaction, status.to_value());
                    return self.send_command(0, &refusal);
                }
                self.events.push_back(ClientEvent::CallRequest {
                    stream_id,
                    name: command.name,
                    transaction: command.transaction,
                    arguments: command.arguments,
                });
                Ok(())
            }
        }
    }

    fn answer_at_once(
        &mut self,
        transaction: TransactionId,
        value: Value,
    ) -> Result<(), SessionError> {
        if transaction.wants_answer() {
            self.send_command(0, &Command::result(transaction, value))
        } else {
            Ok(())
        }
    }

    fn handle_answer(&mut self, command: Command, good: bool) {
        let transaction = command.transaction;
        let Some(pending) = self.calls.take(transaction) else {
            self.ignored_messages += 1;
            return;
        };
        let value = command.arguments.into_iter().next().unwrap_or(Value::Null);
        let event = match pending {
            Pending::Connect if good => {
                self.phase = Phase::Connected;
                self.deadline = None;
                let mut enhanced = EnhancedCapabilities::from_value(&command.object);
                if enhanced.is_empty() {
                    enhanced = EnhancedCapabilities::from_value(&value);
                }
                ClientEvent::Connected {
                    properties: command.object,
                    status: status_or_code(&value, StatusCode::ConnectSuccess),
                    enhanced,
                }
            }
            Pending::Connect => ClientEvent::ConnectRejected {
                redirect: values::field(&value, "ex")
                    .and_then(|ex| values::field(ex, "redirect"))
                    .and_then(values::text),
                status: status_or_code(&value, StatusCode::ConnectRejected),
            },
            Pending::CreateStream => match values::number(&value).filter(|_| good) {
                Some(id) => ClientEvent::StreamCreated {
                    transaction,
                    stream_id: values::saturating_u32(id),
                },
                None => ClientEvent::CallResult {
                    transaction,
                    result: Err(value),
                },
            },
            Pending::Call => ClientEvent::CallResult {
                transaction,
                result: if good { Ok(value) } else { Err(value) },
            },
        };
        self.events.push_back(event);
    }

    fn handle_status(&mut self, command: &Command, stream_id: u32) {
        let Some(status) = command.arguments.first().and_then(Status::from_value) else {
            self.ignored_messages += 1;
            return;
        };
        if status.code == StatusCode::ConnectReconnectRequest.as_str() {
            let tc_url = status
                .properties
                .iter()
                .find(|(name, _)| name == "tcUrl")
                .and_then(|(_, value)| values::text(value));
            self.events.push_back(ClientEvent::ReconnectRequest {
                tc_url,
                description: status.description,
            });
            return;
        }
        self.events
            .push_back(ClientEvent::Status { stream_id, status });
    }
}

fn status_or_code(value: &Value, code: StatusCode) -> Status {
    Status::from_value(value).unwrap_or_else(|| Status::new(code))
}

/// The status in a data message `onStatus` or `onPlayStatus`.
fn data_status(payload: &Bytes) -> Option<Status> {
    if ![&b"\x02\x00\x08onStatus"[..], b"\x02\x00\x0conPlayStatus"]
        .iter()
        .any(|prefix| payload.starts_with(prefix))
    {
        return None;
    }
    let values = amf0::decode_all(payload, Limits::DEFAULT).ok()?;
    values.get(1).and_then(Status::from_value)
}
