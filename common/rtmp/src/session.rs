//! What the server and the client session have in common: bounds, errors, the link below and the watch on the peer.
//!
//! A session is a state machine without IO. Its owner gives it the bytes that came and the time, and after every call drains its
//! events and the bytes to send. All times are durations since an arbitrary start that the owner chooses and keeps.
//!
//! What a session never does: it opens and closes nothing, reads no clock, and draws no random numbers.

mod link;
mod liveness;
mod outstanding;
#[cfg(test)]
pub(crate) mod pair;

use std::collections::VecDeque;
use std::time::Duration;

use headwater_amf::{EncodeError, Limits};

pub(crate) use link::{Incoming, Link, decode_command};
pub(crate) use liveness::{Due, Liveness, wrapping_milliseconds};
pub(crate) use outstanding::Outstanding;

use crate::chunk::ChunkError;
use crate::command::CommandError;
use crate::control::ControlError;
use crate::handshake::HandshakeError;
use crate::message::MessageType;

/// Bounds on memory and work, the same for both roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Largest message that is taken, in bytes. Key frames of high-rate video are the largest honest ones.
    pub message_size: usize,
    /// Largest command that is decoded, in bytes; also the largest message that a server takes before it accepted the connection.
    pub command_size: usize,
    /// Bounds on the values of one command.
    pub amf: Limits,
    /// Message streams that a client may have at once.
    pub streams: usize,
    /// Calls that wait for an answer, in each direction.
    pub outstanding_calls: usize,
    /// Bytes that wait for `poll_transmit`.
    pub pending_output: usize,
    /// Events that wait for `poll_event` before input is left in the caller's buffer.
    pub pending_events: usize,
    /// Messages that wait while the application decides about a `connect`.
    pub deferred_messages: usize,
    /// Bytes of the messages that wait while the application decides about a `connect`.
    pub deferred_bytes: usize,
    /// Commands that cannot be decoded before the session fails.
    pub bad_commands: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            message_size: 16 * 1024 * 1024 - 1,
            command_size: 1024 * 1024,
            amf: Limits {
                depth: 32,
                values: 16 * 1024,
                bytes: 4 * 1024 * 1024,
            },
            streams: 64,
            outstanding_calls: 256,
            pending_output: 4 * 1024 * 1024,
            pending_events: 1024,
            deferred_messages: 64,
            deferred_bytes: 1024 * 1024,
            bad_commands: 8,
        }
    }
}

/// Why a session is over, or why a call of its owner could not be done.
///
/// Every error but [`SessionError::Encode`], [`SessionError::TooManyCalls`] and [`SessionError::NotConnected`] ends the session: it
/// takes no more input and gives the same error again. What `poll_transmit` still gives are its last words to the peer; then the
/// connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The handshake went wrong.
    #[error("handshake: {0}")]
    Handshake(#[from] HandshakeError),
    /// The bytes are not a chunk stream, or a message is larger than the limits.
    #[error("chunk stream: {0}")]
    Chunk(#[from] ChunkError),
    /// A protocol or user control message is malformed.
    #[error("control message: {0}")]
    Control(#[from] ControlError),
    /// The peer did not finish the handshake in time.
    #[error("the handshake took longer than {0:?}")]
    HandshakeTimeout(Duration),
    /// The client did not send `connect` in time, or the server did not answer it.
    #[error("there was no connect within {0:?}")]
    ConnectTimeout(Duration),
    /// The peer did not react to a ping.
    #[error("the peer has been silent for {0:?}")]
    PingTimeout(Duration),
    /// A command came that only a connected client may send.
    #[error("the command {0:?} came before connect")]
    CommandBeforeConnect(String),
    /// A message other than a command came that only a connected client may send.
    #[error("a message came before connect: {0}")]
    MessageBeforeConnect(MessageType),
    /// The `connect` command makes no sense.
    #[error("connect: {0}")]
    Connect(CommandError),
    /// The peer keeps sending commands that cannot be decoded. This is the last one.
    #[error("too many bad commands: {0}")]
    TooManyBadCommands(CommandError),
    /// The client sent more than [`SessionLimits::deferred_messages`] or [`SessionLimits::deferred_bytes`] while the application
    /// decided about its `connect`.
    #[error("too much was sent before the connection was accepted")]
    TooMuchDeferred,
    /// More than [`SessionLimits::pending_output`] bytes wait to be sent: the owner does not drain, or the peer asks faster than it
    /// reads.
    #[error("more than {0} bytes wait to be sent")]
    TooMuchOutput(usize),
    /// A value given by the owner cannot be written. The session goes on as if the call had not been made.
    #[error("a value cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// [`SessionLimits::outstanding_calls`] calls wait for their answer already. The session goes on.
    #[error("{0} calls wait for their answer already")]
    TooManyCalls(usize),
    /// The owner asked for something that needs a connection that is accepted and not closing. The session goes on.
    #[error("the connection is not accepted, or closing")]
    NotConnected,
}

impl SessionError {
    /// Whether the session is over.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        !matches!(
            self,
            Self::Encode(_) | Self::TooManyCalls(_) | Self::NotConnected
        )
    }
}

/// Takes the oldest event. The room of a queue is given back when it is empty: most connections idle.
pub(crate) fn next_event<T>(events: &mut VecDeque<T>) -> Option<T> {
    let event = events.pop_front();
    if event.is_none() && events.capacity() > 0 {
        *events = VecDeque::new();
    }
    event
}
