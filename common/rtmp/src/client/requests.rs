//! What the caller asks of the server.

use std::time::Duration;

use bytes::Bytes;
use headwater_amf::Value;
use headwater_media::frame::FrameKind;

#[cfg(doc)]
use super::ClientEvent;
use super::{ClientSession, ConnectParameters, Pending, Phase};
use crate::command::{
    Command, ObjectEncoding, Play2Parameters, PlayLength, PlayReset, PlayStart, PublishMode,
    TransactionId, chunk_streams, shared_object_message, wrap_data,
};
use crate::control::UserControl;
use crate::message::{Message, MessageType};
use crate::server::MediaFrame;
use crate::session::SessionError;
use crate::status::{Status, StatusCode};

impl ClientSession {
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

    /// Sends the body of a shared object message (section 7.1.3), which begins with the name of the object, in the encoding that
    /// `connect` asked for. Not looked at here.
    ///
    /// # Errors
    /// [`SessionError::TooMuchOutput`].
    pub fn shared_object(&mut self, body: Bytes) -> Result<(), SessionError> {
        self.send_message(&shared_object_message(self.encoding, body))
    }

    /// Sends any message: what a test wants a server to see.
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
}
