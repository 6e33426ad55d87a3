//! Commands: the remote calls that `NetConnection` and `NetStream` are made of, and their arguments.
//!
//! Adobe's RTMP specification, section 7.1.1 (form) and 7.2 (the commands). A command is a name, a transaction, a command object and
//! arguments, as AMF0 values in a message of type 20. In a message of type 17 a format byte 0 goes before them, and single values may
//! switch to AMF3. We write AMF0 in both, and switch only for what AMF0 cannot say: every client that takes type 17 takes that.
//!
//! What this module does not do: it keeps no state. Which command may come when is the business of [`server`](crate::server) and
//! [`client`](crate::client).

mod connect;
mod data;
mod stream;
pub(crate) mod values;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_amf::{DecodeError, EncodeError, Limits, Value, amf0};

pub use connect::{
    CAPS_EX_MOD_EX, CAPS_EX_MULTITRACK, CAPS_EX_RECONNECT, CAPS_EX_TIMESTAMP_NANO_OFFSET,
    ConnectRequest, EnhancedCapabilities, FOURCC_ANY, FOURCC_CAN_DECODE, FOURCC_CAN_ENCODE,
    FOURCC_CAN_FORWARD, MAX_FOURCC_ENTRIES, ObjectEncoding,
};
pub use data::{DataKind, normalise_data, wrap_data};
pub use stream::{
    Play2Parameters, PlayLength, PlayRequest, PlayReset, PlayStart, PublishMode, PublishRequest,
};
pub(crate) use stream::{play_request, play2_parameters, publish_request};

use crate::message::{Message, MessageType};

/// Which chunk stream carries what we send.
///
/// A server session writes only to [`CONTROL`](chunk_streams::CONTROL), [`COMMAND`](chunk_streams::COMMAND) and
/// [`STREAM_STATUS`](chunk_streams::STREAM_STATUS). The others are for what the caller writes itself, as wire forms that many clients
/// share: these have full headers and need no state. On a chunk stream where the session's headers build on the one before, they would
/// leave the client with another header to continue from; on that of commands they may stand, because there the session writes full
/// headers, too.
pub mod chunk_streams {
    /// Protocol and user control messages (section 5.4 says 2).
    pub const CONTROL: u32 = 2;
    /// Commands of `NetConnection`.
    pub const COMMAND: u32 = 3;
    /// Audio.
    pub const AUDIO: u32 = 4;
    /// Commands and statuses of `NetStream` that the session writes.
    pub const STREAM_STATUS: u32 = 5;
    /// Video.
    pub const VIDEO: u32 = 6;
    /// Data messages between media.
    pub const DATA: u32 = 7;
    /// Statuses that the caller writes between media.
    pub const SHARED_STATUS: u32 = 8;
    /// Shared objects, whoever writes them: the chunk stream of commands, as Adobe Media Server has it. The npm package rtmp-client takes
    /// them nowhere else.
    pub const SHARED_OBJECT: u32 = COMMAND;
}

/// Longest command name, in bytes.
pub const MAX_NAME_LENGTH: usize = 256;

/// The number that ties an answer to its call.
///
/// Clients count from 1, but any double is taken and given back as it came.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId {
    /// The double, as bits: it is only compared.
    bits: u64,
}

impl TransactionId {
    /// 0: no answer is wanted.
    pub const NONE: Self = Self { bits: 0 };

    /// The transaction with this number. Not a number counts as 0.
    #[must_use]
    pub fn new(number: f64) -> Self {
        if number == 0.0 || number.is_nan() {
            return Self::NONE;
        }
        Self {
            bits: number.to_bits(),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> f64 {
        f64::from_bits(self.bits)
    }

    /// Whether the caller waits for an answer.
    #[must_use]
    pub fn wants_answer(self) -> bool {
        self != Self::NONE
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionId({})", self.number())
    }
}

/// Why a message is not a command that makes sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The body is not AMF, or exceeds the limits of the decoder.
    #[error("the body of the command cannot be decoded: {0}")]
    Amf(#[from] DecodeError),
    /// The body is longer than the session takes.
    #[error("the command is {length} bytes long, at most {maximum} are allowed")]
    TooLong {
        /// Length of the body in bytes.
        length: usize,
        /// The limit.
        maximum: usize,
    },
    /// The first value is not a string of 1 to [`MAX_NAME_LENGTH`] bytes.
    #[error("the command has no usable name")]
    Name,
    /// An argument that the command cannot do without is missing or of the wrong type.
    #[error("{command} has no usable argument {argument:?}")]
    MissingArgument {
        /// The command.
        command: &'static str,
        /// The argument.
        argument: &'static str,
    },
}

/// One command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Name of the method; `_result` and `_error` are answers.
    pub name: String,
    /// Which call this is, or which it answers.
    pub transaction: TransactionId,
    /// The command object: that of `connect`, the properties in its answer, else null.
    pub object: Value,
    /// What follows.
    pub arguments: Vec<Value>,
}

impl Command {
    /// A command without command object that wants no answer.
    #[must_use]
    pub fn notice(name: &str, arguments: Vec<Value>) -> Self {
        Self::call(name, TransactionId::NONE, arguments)
    }

    /// A command without command object.
    #[must_use]
    pub fn call(name: &str, transaction: TransactionId, arguments: Vec<Value>) -> Self {
        Self {
            name: name.to_owned(),
            transaction,
            object: Value::Null,
            arguments,
        }
    }

    /// The answer to a call that went well.
    #[must_use]
    pub fn result(transaction: TransactionId, value: Value) -> Self {
        Self::call("_result", transaction, vec![value])
    }

    /// The answer to a call that failed.
    #[must_use]
    pub fn error(transaction: TransactionId, value: Value) -> Self {
        Self::call("_error", transaction, vec![value])
    }

    /// Reads the body of a message of type 20, or of type 17 if `amf3`.
    ///
    /// A missing transaction counts as 0 and a missing command object as null: old encoders leave them out.
    ///
    /// # Errors
    /// [`CommandError`] if the body has no name or cannot be decoded.
    pub fn decode(amf3: bool, body: &Bytes, limits: Limits) -> Result<Self, CommandError> {
        // The format byte cannot be mistaken: an AMF0 command begins with the marker of a string.
        let body = if amf3 && body.first() == Some(&0) {
            body.slice(1..)
        } else {
            body.clone()
        };
        let mut decoded = amf0::decode_all(&body, limits)?.into_iter();
        let name = decoded
            .next()
            .as_ref()
            .and_then(values::text)
            .filter(|name| !name.is_empty() && name.len() <= MAX_NAME_LENGTH)
            .ok_or(CommandError::Name)?;
        let transaction = decoded
            .next()
            .as_ref()
            .and_then(values::number)
            .map_or(TransactionId::NONE, TransactionId::new);
        Ok(Self {
            name,
            transaction,
            object: decoded.next().unwrap_or(Value::Null),
            arguments: decoded.collect(),
        })
    }

    /// Writes the command as a message on a message stream, with timestamp 0.
    ///
    /// # Errors
    /// [`EncodeError`] if a value of the caller's cannot be written.
    pub fn to_message(
        &self,
        encoding: ObjectEncoding,
        stream_id: u32,
    ) -> Result<Message, EncodeError> {
        let mut encoder = amf0::Encoder::new();
        encoder.encode(&Value::from(self.name.as_str()))?;
        encoder.encode(&Value::Number(self.transaction.number()))?;
        encoder.encode(&self.object)?;
        for argument in &self.arguments {
            encoder.encode(argument)?;
        }
        let body = encoder.finish();
        let (kind, payload) = match encoding {
            ObjectEncoding::Amf0 => (MessageType::COMMAND_AMF0, body),
            ObjectEncoding::Amf3 => (MessageType::COMMAND_AMF3, with_format_byte(&body)),
        };
        Ok(Message {
            kind,
            timestamp: 0,
            stream_id,
            payload,
        })
    }
}

/// A data message (type 18, AMF0 whatever the client's encoding: every client takes it) with timestamp 0.
///
/// # Errors
/// [`EncodeError`] if a value cannot be written.
pub fn data_message(stream_id: u32, arguments: &[Value]) -> Result<Message, EncodeError> {
    Ok(Message {
        kind: MessageType::DATA_AMF0,
        timestamp: 0,
        stream_id,
        payload: amf0::encode_all(arguments)?,
    })
}

/// A shared object message in the encoding of its receiver, with timestamp 0 on message stream 0: type 19, or type 16, where a
/// format byte 0 goes before the same body. What AMF0 cannot say stands in the body behind the switch to AMF3, as in commands.
#[must_use]
pub fn shared_object_message(encoding: ObjectEncoding, body: Bytes) -> Message {
    let (kind, payload) = match encoding {
        ObjectEncoding::Amf0 => (MessageType::SHARED_OBJECT_AMF0, body),
        ObjectEncoding::Amf3 => (MessageType::SHARED_OBJECT_AMF3, with_format_byte(&body)),
    };
    Message {
        kind,
        timestamp: 0,
        stream_id: 0,
        payload,
    }
}

fn with_format_byte(body: &Bytes) -> Bytes {
    let mut payload = BytesMut::with_capacity(body.len() + 1);
    payload.put_u8(0);
    payload.put_slice(body);
    payload.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(amf3: bool, body: &[u8]) -> Result<Command, CommandError> {
        Command::decode(amf3, &Bytes::copy_from_slice(body), Limits::DEFAULT)
    }

    #[test]
    fn commands_are_read_as_they_are_written() {
        let command = Command {
            name: "connect".to_owned(),
            transaction: TransactionId::new(1.5),
            object: values::object([("app", Value::from("live"))]),
            arguments: vec![Value::Undefined, Value::Number(-2.0)],
        };
        for (encoding, amf3) in [(ObjectEncoding::Amf0, false), (ObjectEncoding::Amf3, true)] {
            let message = command.to_message(encoding, 7).unwrap();
            assert_eq!((message.stream_id, message.timestamp), (7, 0));
            assert_eq!(decode(amf3, &message.payload), Ok(command.clone()));
        }
    }

    #[test]
    fn old_encoders_leave_things_out() {
        let bare = Command::notice("x", Vec::new());
        for body in [
            &b"\x02\x00\x01x"[..],
            b"\x02\x00\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            // A transaction that is none.
            b"\x02\x00\x01x\x05",
            b"\x02\x00\x01x\x00\x7f\xf8\x00\x00\x00\x00\x00\x00\x05",
        ] {
            assert_eq!(decode(false, body), Ok(bare.clone()), "{body:?}");
            // The format byte may be missing in type 17.
            assert_eq!(decode(true, body), Ok(bare.clone()), "{body:?}");
        }
    }

    #[test]
    fn what_has_no_name_is_no_command() {
        let long = [b"\x02\x01\x01", &[b'x'; 257][..]].concat();
        for body in [&b""[..], b"\x05", b"\x02\x00\x00", &long] {
            assert_eq!(decode(false, body), Err(CommandError::Name), "{body:?}");
        }
        // The format byte belongs to type 17 only: this is a number that ends too early.
        assert!(matches!(
            decode(false, b"\x00\x02\x00\x01x"),
            Err(CommandError::Amf(_))
        ));
    }

    #[test]
    fn every_cut_of_a_command_is_an_error_or_a_shorter_command() {
        let arguments = vec![Value::from("name"), values::object([("a", Value::Null)])];
        let command = Command::call("method", TransactionId::new(3.0), arguments);
        let message = command.to_message(ObjectEncoding::Amf0, 0).unwrap();
        for length in 0..message.payload.len() {
            match decode(false, &message.payload[..length]) {
                Ok(shorter) => assert!(shorter.arguments.len() < 2 && shorter.name == "method"),
                Err(CommandError::Name) => assert_eq!(length, 0),
                Err(error) => assert!(matches!(error, CommandError::Amf(_)), "{error}"),
            }
        }
    }

    #[test]
    fn transactions_are_numbers_that_can_be_keys() {
        assert!(!TransactionId::new(-0.0).wants_answer());
        assert!(!TransactionId::new(f64::NAN).wants_answer());
        assert_eq!(TransactionId::new(0.0), TransactionId::NONE);
        assert!(TransactionId::new(-1.0).wants_answer());
        assert_eq!(TransactionId::new(4.0).number(), 4.0);
        assert_eq!(format!("{:?}", TransactionId::new(4.0)), "TransactionId(4)");
    }
}
