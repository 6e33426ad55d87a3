//! What a server session tells its caller.

use std::time::Duration;

use bytes::Bytes;
use headwater_amf::Value;
use headwater_media::frame::FrameKind;

use crate::command::{
    ConnectRequest, DataKind, Play2Parameters, PlayRequest, PublishRequest, TransactionId,
};
use crate::message::Message;

/// Something a client did that the caller decides about or acts upon.
///
/// Events come in the order of the client's messages. The names of streams stand as the client sent them, split from their query.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The client wants to connect. Answer with `accept_connect` or `reject_connect`, now or later; until then its further
    /// commands wait.
    Connect(Box<ConnectRequest>),
    /// The client made a message stream; it was already answered.
    StreamCreated {
        /// The new message stream.
        stream_id: u32,
    },
    /// The client wants to publish. Answer with `accept_publish` or `reject_publish`. Media that it sends in the meantime comes
    /// as [`ServerEvent::Media`] all the same.
    Publish(PublishRequest),
    /// The client stopped publishing: `publish(false)`, `closeStream`, `deleteStream`, `FCUnpublish` of the name it publishes,
    /// or the end of the connection. Comes exactly once for each [`ServerEvent::Publish`] that was not rejected.
    Unpublish {
        /// The message stream.
        stream_id: u32,
    },
    /// The client wants to play. Answer with `play_started` or `play_failed`, now or when the stream appears.
    /// Comes again on the same message stream when the client changes its playlist.
    Play(PlayRequest),
    /// The client wants to switch to another stream or bit rate. Answer with statuses (`NetStream.Play.Transition` and so on).
    Play2 {
        /// The message stream.
        stream_id: u32,
        /// What to switch to, and how.
        parameters: Play2Parameters,
    },
    /// The client stopped playing: `play(false)`, `closeStream`, `deleteStream`, or the end of the connection.
    /// Comes exactly once after one or more [`ServerEvent::Play`] that were not failed.
    PlayStopped {
        /// The message stream.
        stream_id: u32,
    },
    /// `pause` or `pauseRaw`. Answer with `NetStream.Pause.Notify` or `NetStream.Unpause.Notify`.
    Pause {
        /// The message stream.
        stream_id: u32,
        /// Whether to pause; otherwise to go on.
        paused: bool,
        /// Media time in milliseconds at which the client paused or wants to go on.
        at: f64,
    },
    /// `seek`. Answer with `NetStream.Seek.Notify` or `NetStream.Seek.Failed`.
    Seek {
        /// The message stream.
        stream_id: u32,
        /// Media time in milliseconds.
        to: f64,
    },
    /// `receiveAudio`.
    ReceiveAudio {
        /// The message stream.
        stream_id: u32,
        /// Whether the client wants audio.
        wanted: bool,
    },
    /// `receiveVideo`.
    ReceiveVideo {
        /// The message stream.
        stream_id: u32,
        /// Whether the client wants video.
        wanted: bool,
        /// The most frames per second it wants, if it named a number.
        frame_rate: Option<f64>,
    },
    /// The client stated its buffer (user control `SetBufferLength`).
    BufferLength {
        /// The message stream. librtmp sends one for stream 0 before it makes its first stream.
        stream_id: u32,
        /// Length in milliseconds.
        milliseconds: u32,
    },
    /// A frame from a publisher.
    Media {
        /// The message stream.
        stream_id: u32,
        /// The frame.
        frame: MediaFrame,
    },
    /// A command this crate does not know. Answer with `answer_call`, or `reject_call` if the caller does not know it either.
    Call {
        /// The message stream it came on: 0 for `NetConnection.call`.
        stream_id: u32,
        /// Name of the method.
        name: String,
        /// What to answer with; [`TransactionId::NONE`] if no answer is wanted.
        transaction: TransactionId,
        /// The arguments after the command object.
        arguments: Vec<Value>,
    },
    /// The client answered a call made with `call`.
    CallResult {
        /// What `call` gave.
        transaction: TransactionId,
        /// The first argument of `_result`, or that of `_error`.
        result: Result<Value, Value>,
    },
    /// `releaseStream`, already answered: an encoder asks that a stale publisher of the name be dropped.
    ReleaseStream {
        /// Name of the stream.
        name: String,
    },
    /// `FCPublish`, already answered: an encoder is about to publish.
    FcPublish {
        /// Name of the stream.
        name: String,
    },
    /// `FCUnpublish`, already answered. [`ServerEvent::Unpublish`] comes by itself if the name was being published.
    FcUnpublish {
        /// Name of the stream.
        name: String,
    },
    /// `FCSubscribe`, already answered: a player is about to play.
    FcSubscribe {
        /// Name of the stream.
        name: String,
    },
    /// `FCUnsubscribe`, already answered.
    FcUnsubscribe {
        /// Name of the stream.
        name: String,
    },
    /// `getStreamLength`. Answer with `answer_call` and the seconds, 0 for a live stream.
    GetStreamLength {
        /// Name of the stream, with its prefix and without its query.
        name: String,
        /// What to answer with.
        transaction: TransactionId,
    },
    /// `checkBandwidth`. Already answered unless the configuration says otherwise.
    CheckBandwidth {
        /// What to answer with, if it was not.
        transaction: TransactionId,
    },
    /// A shared object message, type 19 (AMF0) or 16 (AMF3, with its leading format byte). Not decoded here.
    SharedObject {
        /// The message as it came.
        message: Message,
    },
    /// The client answered a SWF verification request (`UserControl::SwfVerificationRequest`): 42 bytes from an honest one.
    SwfVerification {
        /// The answer as it came.
        response: Bytes,
    },
    /// The client answered a ping.
    PingLatency {
        /// Time from the ping to its answer.
        round_trip: Duration,
    },
    /// The session is over; nothing comes after this. Given once, by `handle_disconnect`.
    Closed,
}

/// A media or data message of a publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFrame {
    /// Audio, video or data.
    pub kind: FrameKind,
    /// What a data message asks for; [`DataKind::Plain`] for audio and video.
    pub data: DataKind,
    /// RTMP timestamp in milliseconds, wrapping at 2^32.
    pub timestamp: u32,
    /// The message body. Data is AMF0: the handler's name and its arguments.
    pub payload: Bytes,
}
