//! RTMP messages: what the chunk stream carries.
//!
//! Adobe RTMP 1.0, sections 6 and 7.1. A payload is opaque here: [`control`](crate::control), [`aggregate`](crate::aggregate)
//! and the command modules give it meaning.

use std::fmt;

use bytes::Bytes;

/// The longest payload that a message header can state, in bytes: the length field has 24 bits.
pub const MAX_MESSAGE_LENGTH: usize = 0x00FF_FFFF;

/// The message type ID of a message header: one byte, of which any value may come from a peer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(pub u8);

impl MessageType {
    /// Protocol control: the sender's chunks get another maximum size (section 5.4.1).
    pub const SET_CHUNK_SIZE: Self = Self(1);
    /// Protocol control: forget the incomplete message of a chunk stream (section 5.4.2).
    pub const ABORT: Self = Self(2);
    /// Protocol control: bytes received so far (section 5.4.3).
    pub const ACKNOWLEDGEMENT: Self = Self(3);
    /// User control events (section 7.1.7).
    pub const USER_CONTROL: Self = Self(4);
    /// Protocol control: how much may be sent between two acknowledgements (section 5.4.4).
    pub const WINDOW_ACK_SIZE: Self = Self(5);
    /// Protocol control: limit of the receiver's output (section 5.4.5).
    pub const SET_PEER_BANDWIDTH: Self = Self(6);
    /// Audio data (section 7.1.4).
    pub const AUDIO: Self = Self(8);
    /// Video data (section 7.1.5).
    pub const VIDEO: Self = Self(9);
    /// Data message in AMF3 (section 7.1.2).
    pub const DATA_AMF3: Self = Self(15);
    /// Shared object message in AMF3 (section 7.1.3).
    pub const SHARED_OBJECT_AMF3: Self = Self(16);
    /// Command message in AMF3 (section 7.1.1).
    pub const COMMAND_AMF3: Self = Self(17);
    /// Data message in AMF0 (section 7.1.2).
    pub const DATA_AMF0: Self = Self(18);
    /// Shared object message in AMF0 (section 7.1.3).
    pub const SHARED_OBJECT_AMF0: Self = Self(19);
    /// Command message in AMF0 (section 7.1.1).
    pub const COMMAND_AMF0: Self = Self(20);
    /// Several messages in one (section 7.1.6).
    pub const AGGREGATE: Self = Self(22);

    /// Whether the chunk stream layer itself is meant: types 1, 2, 3, 5 and 6.
    #[must_use]
    pub fn is_protocol_control(self) -> bool {
        matches!(self.0, 1..=3 | 5 | 6)
    }

    /// The name of a type that the specification knows.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::SET_CHUNK_SIZE => "set chunk size",
            Self::ABORT => "abort",
            Self::ACKNOWLEDGEMENT => "acknowledgement",
            Self::USER_CONTROL => "user control",
            Self::WINDOW_ACK_SIZE => "window acknowledgement size",
            Self::SET_PEER_BANDWIDTH => "set peer bandwidth",
            Self::AUDIO => "audio",
            Self::VIDEO => "video",
            Self::DATA_AMF3 => "data (AMF3)",
            Self::SHARED_OBJECT_AMF3 => "shared object (AMF3)",
            Self::COMMAND_AMF3 => "command (AMF3)",
            Self::DATA_AMF0 => "data (AMF0)",
            Self::SHARED_OBJECT_AMF0 => "shared object (AMF0)",
            Self::COMMAND_AMF0 => "command (AMF0)",
            Self::AGGREGATE => "aggregate",
            _ => return None,
        })
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageType({}: {self})", self.0)
    }
}

/// One message, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the payload is.
    pub kind: MessageType,
    /// Milliseconds since an epoch that the sender chose. Wraps after 49.7 days.
    pub timestamp: u32,
    /// The message stream: 0 is the NetConnection, others are NetStreams.
    pub stream_id: u32,
    /// The body, of at most [`MAX_MESSAGE_LENGTH`] bytes.
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_and_unknown_ones_are_numbered() {
        assert_eq!(MessageType(8), MessageType::AUDIO);
        assert_eq!(MessageType::COMMAND_AMF0.to_string(), "command (AMF0)");
        assert_eq!(MessageType(77).to_string(), "type 77");
        assert_eq!(format!("{:?}", MessageType::VIDEO), "MessageType(9: video)");
    }

    #[test]
    fn protocol_control_is_what_section_5_4_lists() {
        let control: Vec<u8> = (0..=255)
            .filter(|&kind| MessageType(kind).is_protocol_control())
            .collect();
        assert_eq!(control, [1, 2, 3, 5, 6]);
    }
}
