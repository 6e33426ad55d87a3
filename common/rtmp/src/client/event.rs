//! What a client session tells its caller.

use std::time::Duration;

use headwater_amf::Value;

use crate::command::{EnhancedCapabilities, TransactionId};
use crate::message::Message;
use crate::server::MediaFrame;
use crate::status::Status;

/// Something the server did. Events come in the order of its messages.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server accepted the connection.
    Connected {
        /// The properties of the server (`fmsVer`, `capabilities`, ...).
        properties: Value,
        /// The information object (`objectEncoding`, `data`, ...).
        status: Status,
        /// What the server declares of Enhanced RTMP.
        enhanced: EnhancedCapabilities,
    },
    /// The server refused the connection. [`ClientEvent::Closed`] follows as a rule.
    ConnectRejected {
        /// The information object, with its code and description.
        status: Status,
        /// Address to connect to instead (`ex.redirect`).
        redirect: Option<String>,
    },
    /// The server made a message stream.
    StreamCreated {
        /// What `create_stream` gave.
        transaction: TransactionId,
        /// The new message stream.
        stream_id: u32,
    },
    /// `onStatus`: of a message stream, or of the connection on stream 0.
    Status {
        /// The message stream.
        stream_id: u32,
        /// The information object.
        status: Status,
    },
    /// The data message `onPlayStatus`, or `onStatus` as a data message (`NetStream.Data.Start`).
    PlayStatus {
        /// The message stream.
        stream_id: u32,
        /// The information object.
        status: Status,
    },
    /// A frame of a stream that is played. `|RtmpSampleAccess` and other data is among them.
    Media {
        /// The message stream.
        stream_id: u32,
        /// The frame.
        frame: MediaFrame,
    },
    /// The server calls a method of the client. Answer with `answer_call` or `reject_call` if the transaction wants it.
    CallRequest {
        /// The message stream it came on.
        stream_id: u32,
        /// Name of the method.
        name: String,
        /// What to answer with.
        transaction: TransactionId,
        /// The arguments after the command object.
        arguments: Vec<Value>,
    },
    /// The server answered a call, or refused a `createStream`.
    CallResult {
        /// What `call` or `create_stream` gave.
        transaction: TransactionId,
        /// The first argument of `_result`, or that of `_error`.
        result: Result<Value, Value>,
    },
    /// `onBWDone`: bandwidth detection is over. Already answered.
    BandwidthDone {
        /// Kilobits per second and further figures, if it was measured.
        arguments: Vec<Value>,
    },
    /// User control StreamBegin. Stream 0 is the connection.
    StreamBegin {
        /// The message stream.
        stream_id: u32,
    },
    /// User control StreamEOF.
    StreamEof {
        /// The message stream.
        stream_id: u32,
    },
    /// User control StreamDry.
    StreamDry {
        /// The message stream.
        stream_id: u32,
    },
    /// User control StreamIsRecorded.
    StreamIsRecorded {
        /// The message stream.
        stream_id: u32,
    },
    /// The server asks to connect again (Enhanced RTMP v2). The connection goes on until the client leaves it.
    ReconnectRequest {
        /// Where to, absolute or relative to the current `tcUrl`; `None` for the same address.
        tc_url: Option<String>,
        /// For people.
        description: String,
    },
    /// A shared object message, type 19 (AMF0) or 16 (AMF3). Not decoded here.
    SharedObject {
        /// The message as it came.
        message: Message,
    },
    /// The server answered a ping.
    PingLatency {
        /// Time from the ping to its answer.
        round_trip: Duration,
    },
    /// The server ended the connection (`close`), or it is gone. Nothing comes after this.
    Closed,
}
