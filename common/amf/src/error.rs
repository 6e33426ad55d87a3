//! Why a message was refused, or a value could not be written.

use std::fmt;

use crate::limits::MAX_DEPTH;

/// The two formats, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// AMF 0.
    Amf0,
    /// AMF 3.
    Amf3,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amf0 => "AMF0",
            Self::Amf3 => "AMF3",
        })
    }
}

/// Which of the [`Limits`](crate::Limits) was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limits::depth`](crate::Limits::depth), in levels.
    Depth,
    /// [`Limits::values`](crate::Limits::values), in values.
    Values,
    /// [`Limits::bytes`](crate::Limits::bytes), in bytes.
    Bytes,
    /// The number of compounds that can be told apart in a message with cycles: references of the format have that many numbers.
    References,
}

impl fmt::Display for LimitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Depth => "levels",
            Self::Values => "values",
            Self::Bytes => "bytes of decoded size",
            Self::References => "compounds before a cycle",
        })
    }
}

/// Why bytes are not a message. Offsets count from the start of the input given to the decoder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ends too early, or a length or count points past its end.
    #[error("input ends at byte {offset}: expected {expected}, {missing} bytes are missing")]
    UnexpectedEnd {
        /// Where the thing that does not fit begins.
        offset: usize,
        /// What was expected there.
        expected: &'static str,
        /// At least this many bytes more are needed.
        missing: u64,
    },
    /// A marker that is reserved, unknown or out of place.
    #[error("marker {marker:#04x} at byte {offset}: expected {expected} of {format}")]
    UnexpectedMarker {
        /// Where the marker stands.
        offset: usize,
        /// The marker.
        marker: u8,
        /// The format that is being read.
        format: Format,
        /// What was expected there.
        expected: &'static str,
    },
    /// A reference to something that was not sent before.
    #[error("reference {index} at byte {offset}: expected one of {known} {expected}")]
    UnknownReference {
        /// Where the reference stands.
        offset: usize,
        /// The number it carries.
        index: usize,
        /// How many entries the table has.
        known: usize,
        /// Which table.
        expected: &'static str,
    },
    /// A reference whose marker does not fit what it refers to.
    #[error("reference {index} at byte {offset} leads to marker {found:#04x}: expected {expected}")]
    MismatchedReference {
        /// Where the reference stands.
        offset: usize,
        /// The number it carries.
        index: usize,
        /// The marker of what it refers to.
        found: u8,
        /// What the marker before the reference promised.
        expected: &'static str,
    },
    /// An object that writes itself in a form only its class knows (AMF3, 3.12), and the class is not among those of
    /// [`Externalized`](crate::Externalized).
    #[error("externalizable class {class:?} at byte {offset}: expected one whose form is known")]
    UnknownExternalizable {
        /// Where the object begins.
        offset: usize,
        /// Its class, at most 64 characters of it.
        class: String,
    },
    /// The message is more than the caller wants to hold.
    #[error("more than {maximum} {limit} at byte {offset}")]
    LimitExceeded {
        /// What was being read.
        offset: usize,
        /// The limit that was met.
        limit: LimitKind,
        /// Its value.
        maximum: usize,
    },
}

impl DecodeError {
    /// The byte at which decoding stopped.
    pub const fn offset(&self) -> usize {
        match self {
            Self::UnexpectedEnd { offset, .. }
            | Self::UnexpectedMarker { offset, .. }
            | Self::UnknownReference { offset, .. }
            | Self::MismatchedReference { offset, .. }
            | Self::UnknownExternalizable { offset, .. }
            | Self::LimitExceeded { offset, .. } => *offset,
        }
    }
}

/// Why a value cannot be written. Offsets count from the start of the encoder's output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// More than [`MAX_DEPTH`] levels.
    #[error("value for byte {offset} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Where it would have been written.
        offset: usize,
    },
    /// Something is longer than its length field can say.
    #[error("{what} for byte {offset} is {length} long: expected at most {maximum}")]
    TooLong {
        /// Where it would have been written.
        offset: usize,
        /// What it is.
        what: &'static str,
        /// Its length, in bytes or elements.
        length: usize,
        /// The longest the format allows.
        maximum: usize,
    },
    /// A [`Value::Ancestor`](crate::Value::Ancestor) that points above the value that was given, or at a compound whose number does not fit.
    #[error(
        "ancestor {level} for byte {offset}: expected one of the enclosing compounds within reach of a reference"
    )]
    UnreachableAncestor {
        /// Where it would have been written.
        offset: usize,
        /// The level it names.
        level: u32,
    },
    /// An array property without a name, which AMF3 cannot say (3.11: the empty name ends the list).
    #[error("array property for byte {offset} has no name: expected one in AMF3")]
    EmptyName {
        /// Where it would have been written.
        offset: usize,
    },
    /// An [`Externalized`](crate::Externalized) of a class that decoders do not know.
    #[error("externalizable class {class:?} for byte {offset}: expected one whose form is known")]
    UnknownExternalizable {
        /// Where it would have been written.
        offset: usize,
        /// The class, at most 64 characters of it.
        class: String,
    },
}
