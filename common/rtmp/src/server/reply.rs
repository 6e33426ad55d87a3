//! What the caller tells the client.
//!
//! Here: the connection, calls, and what is common; what a NetStream is told is in [`stream`].
//!
//! A client may close or delete a stream at any moment, so an answer that comes too late is no error: it is not sent.

mod stream;

use bytes::Bytes;
use headwater_amf::{Object, Properties, Value};

#[cfg(doc)]
use super::ServerEvent;
use super::{FIRST_TRANSACTION, Phase, ServerSession};
use crate::command::{
    Command, ObjectEncoding, TransactionId, chunk_streams, data_message, shared_object_message,
};
use crate::control::{BandwidthLimit, Control, UserControl};
use crate::message::Message;
use crate::session::SessionError;
use crate::status::{Status, StatusCode};

/// What the property `capabilities` of the answer to `connect` says: everything.
const CAPABILITIES: f64 = 255.0;
/// What the property `mode` of the answer to `connect` says, from Flash Media Server 3.5 on.
const MODE: f64 = 1.0;

/// How a connection is accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectAnswer {
    /// Replaces the usual description.
    pub description: Option<String>,
    /// The client's id, added as `clientid` to the answer and to every status of its streams.
    pub client_id: Option<String>,
    /// Further properties of the information object, for scripts.
    pub properties: Vec<(String, Value)>,
}

/// How a connection is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectRejection {
    /// The code; [`StatusCode::ConnectRejected`] or [`StatusCode::ConnectInvalidApp`] as a rule.
    pub code: StatusCode,
    /// Replaces the usual description.
    pub description: Option<String>,
    /// Address to connect to instead: sent as `ex.code` 302 and `ex.redirect`.
    pub redirect: Option<String>,
    /// A script's object, sent as `application`.
    pub application: Option<Value>,
}

impl ConnectRejection {
    /// A refusal with this code.
    #[must_use]
    pub const fn new(code: StatusCode) -> Self {
        Self {
            code,
            description: None,
            redirect: None,
            application: None,
        }
    }
}

/// How playback begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlayAnswer {
    /// Name of the stream as the client knows it: the property `details`.
    pub name: String,
    /// Whether the playlist was emptied: `NetStream.Play.Reset` goes first.
    pub reset: bool,
    /// Whether the stream is recorded: the control message StreamIsRecorded goes first.
    pub recorded: bool,
    /// Whether the client's scripts may read audio and video samples (`|RtmpSampleAccess`).
    pub sample_access: (bool, bool),
}

impl ServerSession {
    /// Accepts the pending connection: window size, peer bandwidth, StreamBegin(0), chunk size and `_result`; then what the client
    /// sent meanwhile is handled.
    ///
    /// # Errors
    /// [`SessionError`], as `handle_input` gives it.
    pub fn accept_connect(&mut self, answer: ConnectAnswer) -> Result<(), SessionError> {
        let Phase::Pending(transaction) = self.phase else {
            return Ok(());
        };
        let outcome = self.accept(transaction, answer);
        self.note(outcome)
    }

    fn accept(
        &mut self,
        transaction: TransactionId,
        answer: ConnectAnswer,
    ) -> Result<(), SessionError> {
        // The answer is made first: if the caller's properties cannot be written, nothing has been sent.
        let message = self
            .connect_result(transaction, &answer)
            .to_message(ObjectEncoding::Amf0, 0)?;
        self.link.announce_window(self.config.window_ack_size)?;
        self.link.send_control(&Control::SetPeerBandwidth {
            size: self.config.peer_bandwidth,
            limit: BandwidthLimit::Dynamic,
        })?;
        self.link
            .send_user_control(UserControl::StreamBegin { stream_id: 0 })?;
        self.link.set_chunk_size_out(self.config.chunk_size)?;
        self.send_message(&message)?;
        self.client_id = answer.client_id;
        self.phase = Phase::Connected;
        self.link.limit_messages(self.config.limits.message_size);
        self.handle_deferred()
    }

    fn connect_result(&self, transaction: TransactionId, answer: &ConnectAnswer) -> Command {
        // A client that knows nothing of Enhanced RTMP sees what it always saw.
        let enhanced = if self.enhanced.is_empty() {
            Vec::new()
        } else {
            self.config.enhanced.properties()
        };
        let mut properties = Object::new()
            .with("fmsVer", self.config.fms_version.as_str())
            .with("capabilities", CAPABILITIES)
            .with("mode", MODE);
        let mut status = Status::new(StatusCode::ConnectSuccess)
            .with("objectEncoding", self.encoding.as_number())
            .with(
                "data",
                Properties::new().with("version", self.config.data_version.as_str()),
            );
        if let Some(description) = &answer.description {
            status = status.describe(description);
        }
        if let Some(id) = &answer.client_id {
            status = status.with("clientid", id.as_str());
        }
        // The specification says "an object as one of the parameters": clients look into either.
        for (name, value) in enhanced {
            properties.push(name, value.clone());
            status = status.with(name, value);
        }
        for (name, value) in &answer.properties {
            status = status.with(name, value.clone());
        }
        Command {
            name: "_result".to_owned(),
            transaction,
            object: Value::Object(properties),
            arguments: vec![status.to_value()],
        }
    }

    /// Refuses the pending connection: `_error`, then `close`. [`ServerSession::should_close`] holds when that is drained.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if the application's object cannot be written: refuse again without it.
    pub fn reject_connect(&mut self, rejection: ConnectRejection) -> Result<(), SessionError> {
        let Phase::Pending(transaction) = self.phase else {
            return Ok(());
        };
        let mut status = Status::new(rejection.code);
        if let Some(description) = rejection.description {
            status = status.describe(description);
        }
        if let Some(redirect) = rejection.redirect {
            let ex = Object::new().with("code", 302.0).with("redirect", redirect);
            status = status.with("ex", ex);
        }
        if let Some(application) = rejection.application {
            status = status.with("application", application);
        }
        self.deferred.clear();
        let outcome = self.say_goodbye(&Command::error(transaction, status.to_value()));
        self.note(outcome)
    }

    /// Sends any other user control message (BufferEmpty, BufferReady, ...).
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn user_control(&mut self, event: UserControl) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let outcome = self.link.send_user_control(event);
        self.note(outcome)
    }

    /// Sends any other status on a stream, or on the connection as stream 0.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if a property cannot be written, [`SessionError::TooMuchOutput`].
    pub fn status(&mut self, stream_id: u32, status: Status) -> Result<(), SessionError> {
        if !self.is_connected() || (stream_id != 0 && self.streams.get(stream_id).is_none()) {
            return Ok(());
        }
        self.reply_status(stream_id, status)
    }

    /// Sends a data message on a stream: a handler's name and its arguments.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if a value cannot be written, [`SessionError::TooMuchOutput`].
    pub fn data(&mut self, stream_id: u32, values: &[Value]) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let outcome = self.send_data(stream_id, values);
        self.note(outcome)
    }

    /// Calls a method of the client. Its answer comes as [`ServerEvent::CallResult`].
    ///
    /// # Errors
    /// [`SessionError::NotConnected`], [`SessionError::TooManyCalls`], [`SessionError::Encode`], [`SessionError::TooMuchOutput`].
    pub fn call(
        &mut self,
        name: &str,
        arguments: Vec<Value>,
    ) -> Result<TransactionId, SessionError> {
        if !self.is_connected() {
            return Err(SessionError::NotConnected);
        }
        let transaction = TransactionId::new(f64::from(self.next_transaction));
        if !self.calls.has_room() {
            return Err(SessionError::TooManyCalls(
                self.config.limits.outstanding_calls,
            ));
        }
        let outcome = self.send_command(0, &Command::call(name, transaction, arguments));
        self.note(outcome)?;
        self.calls.push(transaction, ());
        self.next_transaction = self
            .next_transaction
            .checked_add(1)
            .unwrap_or(FIRST_TRANSACTION);
        Ok(transaction)
    }

    /// Calls a method of the client that gives no answer.
    ///
    /// # Errors
    /// [`SessionError::Encode`], [`SessionError::TooMuchOutput`].
    pub fn notify_client(&mut self, name: &str, arguments: Vec<Value>) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let outcome = self.send_command(0, &Command::notice(name, arguments));
        self.note(outcome)
    }

    /// Sends the body of a shared object message that is for this client alone, in the encoding that it asked for.
    ///
    /// What many clients get, the caller writes itself, as a wire form on [`chunk_streams::SHARED_OBJECT`], between the blocks of
    /// `poll_transmit`.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn shared_object(&mut self, body: Bytes) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let message = shared_object_message(self.encoding, body);
        let outcome = self.send_message(&message);
        self.note(outcome)
    }

    /// Calls a method of the client that gives no answer, with a command that was written for several clients of this encoding.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn notify_shared(&mut self, command: &Message) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let outcome = self.send_message(command);
        self.note(outcome)
    }

    /// Stops waiting for the answer to a call. If it comes all the same, it is ignored.
    pub fn forget_call(&mut self, transaction: TransactionId) {
        self.calls.take(transaction);
    }

    /// Answers a call of the client. Does nothing if no such call waits.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if the value cannot be written: the call was answered with an error then;
    /// [`SessionError::TooMuchOutput`].
    pub fn answer_call(
        &mut self,
        transaction: TransactionId,
        value: Value,
    ) -> Result<(), SessionError> {
        if self.unanswered.take(transaction).is_none() {
            return Ok(());
        }
        let mut outcome = self.send_result(transaction, value);
        if let Err(SessionError::Encode(_)) = outcome {
            let description = "the result cannot be encoded";
            let told = self.send_error(transaction, StatusCode::CallFailed, description);
            outcome = told.and(outcome);
        }
        self.note(outcome)
    }

    /// Tells the client that there is no such method, or that it failed: `_error` with `NetConnection.Call.Failed`. Does nothing if no
    /// such call waits.
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
        let outcome = self.send_error(transaction, StatusCode::CallFailed, description);
        self.note(outcome)
    }

    /// Tells the client that its call failed, with an information object of the caller's. Does nothing if no such call waits.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if the value cannot be written: the call was answered with the usual error then;
    /// [`SessionError::TooMuchOutput`].
    pub fn fail_call(
        &mut self,
        transaction: TransactionId,
        value: Value,
    ) -> Result<(), SessionError> {
        if self.unanswered.take(transaction).is_none() {
            return Ok(());
        }
        let mut outcome = self.send_command(0, &Command::error(transaction, value));
        if let Err(SessionError::Encode(_)) = outcome {
            let description = StatusCode::CallFailed.description();
            let told = self.send_error(transaction, StatusCode::CallFailed, description);
            outcome = told.and(outcome);
        }
        self.note(outcome)
    }

    /// Tells the client that bandwidth detection is over, without a measurement: `onBWDone` without arguments. Some players wait for
    /// it before they play.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn bandwidth_done(&mut self) -> Result<(), SessionError> {
        self.notify_client("onBWDone", Vec::new())
    }

    /// Asks the client to connect again, here or at another address (Enhanced RTMP v2). Media goes on until it leaves.
    ///
    /// Gives whether it was asked: only a client that declared it understands is.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn reconnect_request(
        &mut self,
        tc_url: Option<&str>,
        description: Option<&str>,
    ) -> Result<bool, SessionError> {
        if !self.is_connected() || !self.enhanced.can_reconnect() {
            return Ok(false);
        }
        let mut status = Status::new(StatusCode::ConnectReconnectRequest);
        if let Some(description) = description {
            status = status.describe(description);
        }
        if let Some(tc_url) = tc_url {
            status = status.with("tcUrl", tc_url);
        }
        self.reply_status(0, status)?;
        Ok(true)
    }

    /// Ends the connection from our side: a status (`AppShutdown`, `IdleTimeout`, `Closed`, ...), then `close`.
    /// [`ServerSession::should_close`] holds when that is drained.
    ///
    /// # Errors
    /// [`SessionError::Encode`] if a property cannot be written, [`SessionError::TooMuchOutput`].
    pub fn close(&mut self, status: &Status) -> Result<(), SessionError> {
        match self.phase {
            Phase::Connected => {}
            Phase::Pending(_) => {
                return self.reject_connect(ConnectRejection {
                    description: Some(status.description.clone()),
                    ..ConnectRejection::new(StatusCode::ConnectRejected)
                });
            }
            Phase::Handshake(_) | Phase::AwaitingConnect | Phase::Closing => {
                self.phase = Phase::Closing;
                return Ok(());
            }
        }
        let outcome = self.say_goodbye(&Command::notice("onStatus", vec![status.to_value()]));
        self.note(outcome)
    }

    /// Pings the client now, whatever the interval. [`ServerEvent::PingLatency`] tells of its answer; if it stays silent for the
    /// ping timeout, the session fails.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn ping(&mut self, now: std::time::Duration) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let timestamp = self.liveness.ping(now);
        let outcome = self.link.send_ping(timestamp);
        self.note(outcome)
    }

    /// Whether an answer to a player can still reach it.
    fn plays(&self, stream_id: u32) -> bool {
        self.is_connected() && self.streams.is_playing(stream_id)
    }

    fn reply_status(&mut self, stream_id: u32, status: Status) -> Result<(), SessionError> {
        if !self.is_connected() {
            return Ok(());
        }
        let outcome = self.send_status(stream_id, status);
        self.note(outcome)
    }

    fn send_data(&mut self, stream_id: u32, values: &[Value]) -> Result<(), SessionError> {
        let message = data_message(stream_id, values)?;
        self.link.send(chunk_streams::STREAM_STATUS, &message)
    }
}
