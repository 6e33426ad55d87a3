//! The bodies of shared object messages: type 19, and type 16, which is a zero byte before the same.
//!
//! *RTMP 1.0*, 7.1.4, says little; the events and their numbers are those that clients and servers agree on. A body is
//!
//! ```text
//! name: length u16, UTF-8 | version u32 | flags u32, u32 | events: { type u8, length u32, data }
//! ```
//!
//! The decoder takes both directions, so that it serves servers, and clients of tests. It knows event types 1 to 14 without 12 (a
//! key and a number, which nobody needs) and skips the others. It is lenient where clients differ: an event may hold several pairs
//! of a key and a value; a last key without a value asks for its removal; bytes after what an event needs are left alone.
//!
//! The encoder writes one event for each slot, because some clients read only the first pair of an event.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

use headwater_amf::DecodeError;

pub use decode::{DecodeLimits, decode, decode_amf3};
pub(crate) use encode::EVENT_BYTES;
pub use encode::{Writer, encode, status};

use crate::object::{NameError, ObjectName, Operation, SlotName};
use crate::value::{Arguments, SlotValue};

/// The two types of shared object messages, which have the same events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Type 19. Values in AMF0 alone.
    #[default]
    Amf0,
    /// Type 16: a zero byte before the body of type 19, and values may switch to AMF3.
    Amf3,
}

impl Encoding {
    /// The type of the RTMP message.
    pub const fn message_type(self) -> u8 {
        match self {
            Self::Amf0 => 19,
            Self::Amf3 => 16,
        }
    }

    /// What a client of that `objectEncoding` is sent: 3 is AMF3.
    pub const fn of_object_encoding(encoding: u32) -> Self {
        match encoding {
            3 => Self::Amf3,
            _ => Self::Amf0,
        }
    }
}

/// The first word of flags; the second is always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// A client says that the object is persistent; a server, that it is.
    pub const PERSISTENT: u32 = 2;
    /// The dialect of proxies: from a client, that it speaks it; from a server, that the message answers the client's own.
    pub const PROXY: u32 = 16;
    /// In that dialect: what others did.
    pub const OTHERS: u32 = 32;

    /// Whether all of these bits are set.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// A shared object message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which object.
    pub name: ObjectName,
    /// Low 32 bits of the version that a server has, or that a client has seen.
    pub version: u32,
    /// The flags.
    pub flags: Flags,
    /// The events, in order.
    pub events: Vec<Event>,
}

impl Message {
    /// What the events of a client ask to be done to the object, in order.
    pub fn operations(&self) -> Vec<Operation> {
        self.events.iter().filter_map(Event::operation).collect()
    }
}

/// An event. Several pairs or keys in one event of the wire are several of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// 1, from a client: wants to use the object.
    Use,
    /// 2, from a client: wants it no more.
    Release,
    /// 3, from a client: wants a slot to have this value; `null` and `undefined` ask for its removal.
    RequestChange {
        /// The slot.
        name: SlotName,
        /// The value.
        value: SlotValue,
    },
    /// 4, from a server: a slot has this value now.
    Change {
        /// The slot.
        name: SlotName,
        /// The value.
        value: SlotValue,
    },
    /// 5, from a server: the client's change of this slot was made.
    Success {
        /// The slot.
        name: SlotName,
    },
    /// 6, both ways: a handler's name and its arguments.
    Send {
        /// The values.
        arguments: Arguments,
    },
    /// 7, from a server.
    Status {
        /// Such as `SharedObject.NoWriteAccess`.
        code: String,
        /// `error`, `status` or `warning`.
        level: String,
    },
    /// 8, from a server: there are no slots any more.
    Clear,
    /// 9, from a server: the slot is gone.
    Remove {
        /// The slot.
        name: SlotName,
    },
    /// 10, from a client: wants the slot to go.
    RequestRemove {
        /// The slot.
        name: SlotName,
    },
    /// 11, from a server: the client uses the object now.
    UseSuccess,
    /// 13, from a server in the dialect of proxies: the client's change was made.
    ChangeEcho {
        /// The slot.
        name: SlotName,
        /// The value.
        value: SlotValue,
    },
    /// 14, from a client: wants all slots to go.
    RequestClear,
}

impl Event {
    /// What it asks to be done to the object, if it is a client's and asks for anything.
    pub fn operation(&self) -> Option<Operation> {
        Some(match self {
            Self::RequestChange { name, value } => {
                Operation::set_or_remove(name.clone(), value.clone())
            }
            Self::RequestRemove { name } => Operation::Remove { name: name.clone() },
            Self::RequestClear => Operation::Clear,
            Self::Send { arguments } => Operation::Send {
                arguments: arguments.clone(),
            },
            _ => return None,
        })
    }
}

/// Why a body is no shared object message. Offsets count from its first byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It ends too early, or a length points past its end, or past that of the event.
    #[error("message ends at byte {offset}: expected {expected}, {missing} bytes are missing")]
    UnexpectedEnd {
        /// Where what does not fit begins.
        offset: usize,
        /// What was expected there.
        expected: &'static str,
        /// At least so many bytes more are needed.
        missing: usize,
    },
    /// A body of type 16 does not begin with zero.
    #[error("byte 0 is {found:#04x}: expected 0 before a body of type 16")]
    UnknownFormat {
        /// What it begins with.
        found: u8,
    },
    /// The name is none for an object.
    #[error("name at byte {offset}: {error}")]
    Name {
        /// Where it begins.
        offset: usize,
        /// What is wrong.
        error: NameError,
    },
    /// The name of a slot, or a text, is not UTF-8.
    #[error("{what} at byte {offset} is not UTF-8")]
    NotUtf8 {
        /// The first byte that is not.
        offset: usize,
        /// What it was to be.
        what: &'static str,
    },
    /// A value cannot be decoded; `offset` is where, the error's own counts from the value.
    #[error("value around byte {offset}: {error}")]
    Value {
        /// Where decoding stopped.
        offset: usize,
        /// Why.
        error: DecodeError,
    },
    /// A value has no canonical form.
    #[error("value at byte {offset} cannot be written again")]
    Unwritable {
        /// Where it begins.
        offset: usize,
    },
    /// More events, pairs and keys than the caller wants.
    #[error("more than {maximum} events at byte {offset}")]
    TooManyEvents {
        /// Where the first one too many begins.
        offset: usize,
        /// The limit.
        maximum: usize,
    },
}

impl WireError {
    /// The byte at which decoding stopped.
    pub const fn offset(&self) -> usize {
        match self {
            Self::UnexpectedEnd { offset, .. }
            | Self::Name { offset, .. }
            | Self::NotUtf8 { offset, .. }
            | Self::Value { offset, .. }
            | Self::Unwritable { offset }
            | Self::TooManyEvents { offset, .. } => *offset,
            Self::UnknownFormat { .. } => 0,
        }
    }
}

/// Numbers of the events.
mod kind {
    pub(super) const USE: u8 = 1;
    pub(super) const RELEASE: u8 = 2;
    pub(super) const REQUEST_CHANGE: u8 = 3;
    pub(super) const CHANGE: u8 = 4;
    pub(super) const SUCCESS: u8 = 5;
    pub(super) const SEND: u8 = 6;
    pub(super) const STATUS: u8 = 7;
    pub(super) const CLEAR: u8 = 8;
    pub(super) const REMOVE: u8 = 9;
    pub(super) const REQUEST_REMOVE: u8 = 10;
    pub(super) const USE_SUCCESS: u8 = 11;
    pub(super) const CHANGE_ECHO: u8 = 13;
    pub(super) const REQUEST_CLEAR: u8 = 14;
}
