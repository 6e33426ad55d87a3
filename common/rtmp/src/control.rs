//! Protocol control messages and user control events, as types.
//!
//! Adobe RTMP 1.0, sections 5.4 and 7.1.7; the events above 7 are not in it but Flash Player and Adobe Media Server exchange them.
//! All go on chunk stream 2 and message stream 0.
//!
//! Clients are short now and then: where the meaning is plain without a field, its absence is forgiven, and bytes after the known
//! fields are ignored. Set Chunk Size and Abort are obeyed by [`ChunkReader`](crate::chunk::ChunkReader) before anyone parses them here.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::message::{Message, MessageType};

/// A protocol control message or a user control event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// The sender's chunks have at most so many bytes of payload from now on (section 5.4.1).
    SetChunkSize(u32),
    /// The incomplete message of this chunk stream will not be completed (section 5.4.2).
    Abort {
        /// The chunk stream.
        chunk_stream: u32,
    },
    /// So many bytes have been received, modulo 2^32 (section 5.4.3).
    Acknowledgement(u32),
    /// Something about a stream or the connection (section 7.1.7).
    UserControl(UserControl),
    /// The sender wants an acknowledgement each so many bytes (section 5.4.4).
    WindowAckSize(u32),
    /// The receiver is to keep at most so many bytes unacknowledged (section 5.4.5).
    SetPeerBandwidth {
        /// The window in bytes.
        size: u32,
        /// How it goes with the window in force.
        limit: BandwidthLimit,
    },
}

/// The limit type of [`Control::SetPeerBandwidth`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandwidthLimit {
    /// 0: take this window.
    Hard,
    /// 1: take the smaller of this window and the one in force.
    Soft,
    /// 2: take this window if the last limit was hard, else ignore the message.
    Dynamic,
    /// A value that means nothing yet.
    Unknown(u8),
}

impl BandwidthLimit {
    fn from_wire(value: u8) -> Self {
        match value {
            0 => Self::Hard,
            1 => Self::Soft,
            2 => Self::Dynamic,
            other => Self::Unknown(other),
        }
    }

    fn to_wire(self) -> u8 {
        match self {
            Self::Hard => 0,
            Self::Soft => 1,
            Self::Dynamic => 2,
            Self::Unknown(other) => other,
        }
    }
}

/// A user control event. `stream_id` is a message stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserControl {
    /// 0: the stream has become usable; for stream 0, the connection.
    StreamBegin {
        /// The stream.
        stream_id: u32,
    },
    /// 1: playback of the data asked for is over.
    StreamEof {
        /// The stream.
        stream_id: u32,
    },
    /// 2: no data for some time.
    StreamDry {
        /// The stream.
        stream_id: u32,
    },
    /// 3: how much the client buffers.
    SetBufferLength {
        /// The stream.
        stream_id: u32,
        /// Milliseconds.
        length: u32,
    },
    /// 4: the stream is a recording.
    StreamIsRecorded {
        /// The stream.
        stream_id: u32,
    },
    /// 6: to be answered with the same value.
    PingRequest {
        /// The sender's time in milliseconds.
        timestamp: u32,
    },
    /// 7: the answer.
    PingResponse {
        /// The value of the request.
        timestamp: u32,
    },
    /// 26: the server asks for a proof of the SWF that runs. No fields.
    SwfVerificationRequest,
    /// 27: the proof, 42 bytes: 1, 1, twice the size of the SWF, HMAC-SHA256.
    SwfVerificationResponse(Bytes),
    /// 31: the client's buffer ran empty; sent by Adobe Media Server while a stream waits for data.
    BufferEmpty {
        /// The stream.
        stream_id: u32,
    },
    /// 32: data comes again.
    BufferReady {
        /// The stream.
        stream_id: u32,
    },
    /// Any other event, kept as it came.
    Unknown {
        /// The event type.
        event: u16,
        /// What follows the type.
        data: Bytes,
    },
}

/// Why a control message makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The fixed fields do not fit in the payload.
    #[error("{kind} message of {length} bytes, {needed} are needed")]
    TooShort {
        /// The message type.
        kind: MessageType,
        /// Bytes there are.
        length: usize,
        /// Bytes there must be.
        needed: usize,
    },
}

impl Control {
    /// Reads a message of type 1 to 6; `None` for other messages.
    ///
    /// Forgiven: a Set Peer Bandwidth without limit type is dynamic (what Adobe Media Server sends), a user control event without its
    /// fields, or with a part of one, has 0 in their place.
    ///
    /// # Errors
    /// The payload ends before the one field that the message is about.
    pub fn parse(message: &Message) -> Option<Result<Self, ControlError>> {
        let payload = &message.payload;
        let field = || {
            let bytes = payload
                .first_chunk::<4>()
                .ok_or_else(|| too_short(message, 4))?;
            Ok(u32::from_be_bytes(*bytes))
        };
        Some(match message.kind {
            MessageType::SET_CHUNK_SIZE => field().map(Self::SetChunkSize),
            MessageType::ABORT => field().map(|chunk_stream| Self::Abort { chunk_stream }),
            MessageType::ACKNOWLEDGEMENT => field().map(Self::Acknowledgement),
            MessageType::USER_CONTROL => UserControl::parse(payload)
                .map(Self::UserControl)
                .ok_or_else(|| too_short(message, 2)),
            MessageType::WINDOW_ACK_SIZE => field().map(Self::WindowAckSize),
            MessageType::SET_PEER_BANDWIDTH => field().map(|size| Self::SetPeerBandwidth {
                size,
                limit: payload.get(4).map_or(BandwidthLimit::Dynamic, |&limit| {
                    BandwidthLimit::from_wire(limit)
                }),
            }),
            _ => return None,
        })
    }

    /// The message, with timestamp 0 on message stream 0. Write it on [`CONTROL_CHUNK_STREAM`](crate::chunk::CONTROL_CHUNK_STREAM).
    #[must_use]
    pub fn to_message(&self) -> Message {
        let (kind, payload) = match self {
            Self::SetChunkSize(size) => (MessageType::SET_CHUNK_SIZE, one_field(*size)),
            Self::Abort { chunk_stream } => (MessageType::ABORT, one_field(*chunk_stream)),
            Self::Acknowledgement(received) => (MessageType::ACKNOWLEDGEMENT, one_field(*received)),
            Self::UserControl(event) => (MessageType::USER_CONTROL, event.to_payload()),
            Self::WindowAckSize(size) => (MessageType::WINDOW_ACK_SIZE, one_field(*size)),
            Self::SetPeerBandwidth { size, limit } => {
                let mut payload = BytesMut::with_capacity(5);
                payload.put_u32(*size);
                payload.put_u8(limit.to_wire());
                (MessageType::SET_PEER_BANDWIDTH, payload.freeze())
            }
        };
        Message {
            kind,
            timestamp: 0,
            stream_id: 0,
            payload,
        }
    }
}

impl From<UserControl> for Control {
    fn from(event: UserControl) -> Self {
        Self::UserControl(event)
    }
}

impl UserControl {
    /// Reads the payload of a user control message; `None` if it has no event type.
    fn parse(payload: &Bytes) -> Option<Self> {
        let event = u16::from_be_bytes(*payload.first_chunk()?);
        let data = payload.slice(2..);
        let first = lenient_field(&data, 0);
        Some(match event {
            0 => Self::StreamBegin { stream_id: first },
            1 => Self::StreamEof { stream_id: first },
            2 => Self::StreamDry { stream_id: first },
            3 => Self::SetBufferLength {
                stream_id: first,
                length: lenient_field(&data, 4),
            },
            4 => Self::StreamIsRecorded { stream_id: first },
            6 => Self::PingRequest { timestamp: first },
            7 => Self::PingResponse { timestamp: first },
            26 => Self::SwfVerificationRequest,
            27 => Self::SwfVerificationResponse(data),
            31 => Self::BufferEmpty { stream_id: first },
            32 => Self::BufferReady { stream_id: first },
            _ => Self::Unknown { event, data },
        })
    }

    /// The event type on the wire.
    #[must_use]
    pub fn event_type(&self) -> u16 {
        match self {
            Self::StreamBegin { .. } => 0,
            Self::StreamEof { .. } => 1,
            Self::StreamDry { .. } => 2,
            Self::SetBufferLength { .. } => 3,
            Self::StreamIsRecorded { .. } => 4,
            Self::PingRequest { .. } => 6,
            Self::PingResponse { .. } => 7,
            Self::SwfVerificationRequest => 26,
            Self::SwfVerificationResponse(_) => 27,
            Self::BufferEmpty { .. } => 31,
            Self::BufferReady { .. } => 32,
            Self::Unknown { event, .. } => *event,
        }
    }

    fn to_payload(&self) -> Bytes {
        let mut payload = BytesMut::with_capacity(10);
        payload.put_u16(self.event_type());
        match self {
            Self::StreamBegin { stream_id }
            | Self::StreamEof { stream_id }
            | Self::StreamDry { stream_id }
            | Self::StreamIsRecorded { stream_id }
            | Self::BufferEmpty { stream_id }
            | Self::BufferReady { stream_id } => payload.put_u32(*stream_id),
            Self::SetBufferLength { stream_id, length } => {
                payload.put_u32(*stream_id);
                payload.put_u32(*length);
            }
            Self::PingRequest { timestamp } | Self::PingResponse { timestamp } => {
                payload.put_u32(*timestamp);
            }
            Self::SwfVerificationRequest => {}
            Self::SwfVerificationResponse(data) | Self::Unknown { data, .. } => {
                payload.put_slice(data);
            }
        }
        payload.freeze()
    }
}

fn too_short(message: &Message, needed: usize) -> ControlError {
    ControlError::TooShort {
        kind: message.kind,
        length: message.payload.len(),
        needed,
    }
}

fn one_field(value: u32) -> Bytes {
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// The 32-bit field at `start`, or 0 where the data ends before it does.
fn lenient_field(data: &[u8], start: usize) -> u32 {
    data.get(start..)
        .and_then(|data| data.first_chunk())
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, payload: &'static [u8]) -> Message {
        Message {
            kind: MessageType(kind),
            timestamp: 0,
            stream_id: 0,
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn wire_forms() {
        let cases: [(u8, &'static [u8], Control); 19] = [
            (1, &[0, 0, 0x10, 0], Control::SetChunkSize(4096)),
            (2, &[0, 0, 0, 6], Control::Abort { chunk_stream: 6 }),
            (3, &[0xFF, 0, 0, 1], Control::Acknowledgement(0xFF00_0001)),
            (5, &[0, 0x26, 0x25, 0xA0], Control::WindowAckSize(2_500_000)),
            (
                6,
                &[0, 0x26, 0x25, 0xA0, 2],
                Control::SetPeerBandwidth {
                    size: 2_500_000,
                    limit: BandwidthLimit::Dynamic,
                },
            ),
            (
                6,
                &[0, 0, 0, 1, 9],
                Control::SetPeerBandwidth {
                    size: 1,
                    limit: BandwidthLimit::Unknown(9),
                },
            ),
            (
                4,
                &[0, 0, 0, 0, 0, 1],
                UserControl::StreamBegin { stream_id: 1 }.into(),
            ),
            (
                4,
                &[0, 1, 0, 0, 0, 1],
                UserControl::StreamEof { stream_id: 1 }.into(),
            ),
            (
                4,
                &[0, 2, 0, 0, 0, 1],
                UserControl::StreamDry { stream_id: 1 }.into(),
            ),
            (
                4,
                &[0, 3, 0, 0, 0, 1, 0, 0, 0x0B, 0xB8],
                UserControl::SetBufferLength {
                    stream_id: 1,
                    length: 3000,
                }
                .into(),
            ),
            (
                4,
                &[0, 4, 0, 0, 0, 1],
                UserControl::StreamIsRecorded { stream_id: 1 }.into(),
            ),
            (
                4,
                &[0, 6, 0, 0, 0x0D, 0x0F],
                UserControl::PingRequest { timestamp: 0x0D0F }.into(),
            ),
            (
                4,
                &[0, 7, 0, 0, 0x0D, 0x0F],
                UserControl::PingResponse { timestamp: 0x0D0F }.into(),
            ),
            (4, &[0, 26], UserControl::SwfVerificationRequest.into()),
            (
                4,
                &[0, 27, 1, 1, 5],
                UserControl::SwfVerificationResponse(Bytes::from_static(&[1, 1, 5])).into(),
            ),
            (
                4,
                &[0, 31, 0, 0, 0, 1],
                UserControl::BufferEmpty { stream_id: 1 }.into(),
            ),
            (
                4,
                &[0, 32, 0, 0, 0, 1],
                UserControl::BufferReady { stream_id: 1 }.into(),
            ),
            (
                4,
                &[0, 5, 7],
                UserControl::Unknown {
                    event: 5,
                    data: Bytes::from_static(&[7]),
                }
                .into(),
            ),
            (
                4,
                &[0x12, 0x34],
                UserControl::Unknown {
                    event: 0x1234,
                    data: Bytes::new(),
                }
                .into(),
            ),
        ];
        for (kind, payload, control) in cases {
            let message = message(kind, payload);
            assert_eq!(Control::parse(&message), Some(Ok(control.clone())));
            assert_eq!(control.to_message(), message);
        }
    }

    #[test]
    fn short_messages_that_are_understood() {
        for (kind, payload, control) in [
            (
                6,
                &[0, 0, 1, 0][..],
                Control::SetPeerBandwidth {
                    size: 256,
                    limit: BandwidthLimit::Dynamic,
                },
            ),
            (4, &[0, 0], UserControl::StreamBegin { stream_id: 0 }.into()),
            (4, &[0, 6], UserControl::PingRequest { timestamp: 0 }.into()),
            (
                4,
                &[0, 3, 0, 0, 0, 1],
                UserControl::SetBufferLength {
                    stream_id: 1,
                    length: 0,
                }
                .into(),
            ),
            (
                4,
                &[0, 3, 0, 0, 0, 1, 0xFF],
                UserControl::SetBufferLength {
                    stream_id: 1,
                    length: 0,
                }
                .into(),
            ),
        ] {
            assert_eq!(Control::parse(&message(kind, payload)), Some(Ok(control)));
        }
    }

    #[test]
    fn bytes_after_the_fields_are_ignored() {
        assert_eq!(
            Control::parse(&message(5, &[0, 0, 0, 9, 1, 2, 3])),
            Some(Ok(Control::WindowAckSize(9)))
        );
        assert_eq!(
            Control::parse(&message(4, &[0, 1, 0, 0, 0, 9, 1])),
            Some(Ok(UserControl::StreamEof { stream_id: 9 }.into()))
        );
    }

    #[test]
    fn too_short_is_an_error_and_other_types_are_none() {
        for kind in [1, 2, 3, 5, 6] {
            assert_eq!(
                Control::parse(&message(kind, &[0, 0, 1])),
                Some(Err(ControlError::TooShort {
                    kind: MessageType(kind),
                    length: 3,
                    needed: 4
                }))
            );
        }
        assert_eq!(
            Control::parse(&message(4, &[0])),
            Some(Err(ControlError::TooShort {
                kind: MessageType::USER_CONTROL,
                length: 1,
                needed: 2
            }))
        );
        for kind in [0, 7, 8, 9, 18, 20, 255] {
            assert_eq!(Control::parse(&message(kind, &[0; 8])), None);
        }
    }
}
