//! What the owner of an object and its mirrors tell each other: operations, updates, states, refusals.
//!
//! These are the types of the inter-node contract without its encoding: the shells on both sides translate field by field.

mod name;
mod state;

use std::fmt;
use std::sync::Arc;

pub use name::{MAX_NAME_BYTES, NameError, ObjectName};
pub use state::{Assembly, AssemblyError, State};

use crate::value::{Arguments, SlotValue};

/// Counts the changes of an object. Clients see the low 32 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Of an object that nothing was done to, and of a mirror that knows nothing.
    pub const NONE: Self = Self(0);

    /// What clients see.
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The newest version up to this one that a client would see as `low`.
    #[must_use]
    pub const fn reaching_back_to(self, low: u32) -> Self {
        let behind = self.low().wrapping_sub(low);
        Self(self.0.saturating_sub(behind as u64))
    }

    pub(crate) const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An owner's tenure: greater than any before it. 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Names an edge's process: random at each of its starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeIncarnation(pub u64);

/// Names a client among those of its edge's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Which request of which edge. Numbers count from 1 for each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// Whose request.
    pub edge: EdgeIncarnation,
    /// Its number.
    pub number: u64,
}

/// The name of a slot. May be empty; has no other bound than the owner's limit.
pub type SlotName = Arc<str>;

/// Whether an object outlives its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Persistence {
    /// Goes with its last user.
    Temporary,
    /// Kept in the store.
    Persistent,
}

/// One thing that is done to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Gives a slot a value, which is neither `null` nor `undefined`.
    Set {
        /// The slot.
        name: SlotName,
        /// The value.
        value: SlotValue,
    },
    /// Removes a slot.
    Remove {
        /// The slot.
        name: SlotName,
    },
    /// Removes all slots.
    Clear,
    /// Goes to every user, the sender too. Kept nowhere.
    Send {
        /// A handler's name and its arguments.
        arguments: Arguments,
    },
}

impl Operation {
    /// Whether it changes nothing, and is only heard.
    pub const fn is_send(&self) -> bool {
        matches!(self, Self::Send { .. })
    }

    /// A set, or a removal where the value is `null` or `undefined`: that is how clients of all kinds remove.
    pub fn set_or_remove(name: SlotName, value: SlotValue) -> Self {
        if value.is_nullish() {
            Self::Remove { name }
        } else {
            Self::Set { name, value }
        }
    }

    /// What holding it costs, in bytes.
    pub fn cost(&self) -> usize {
        /// About what the operation itself and its allocations take.
        const EACH: usize = 96;
        EACH + match self {
            Self::Set { name, value } => name.len() + value.as_bytes().len(),
            Self::Remove { name } => name.len(),
            Self::Clear => 0,
            Self::Send { arguments } => arguments.as_bytes().len(),
        }
    }
}

/// What one request has changed, for every mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The object's version with it: one more than before, unless it is repeated.
    pub version: Version,
    /// Whose request it was; `None`: the server's own.
    pub request: Option<RequestId>,
    /// What it has changed, in order. Without what changed nothing, so that it may be empty.
    pub operations: Arc<[Operation]>,
    /// The request was applied before, by an owner whose update may have reached nobody: this is what it has sent, for those who have not
    /// heard of it. It changes nothing, and has the version that the object has now.
    pub is_repeated: bool,
}

/// A slot of a [`State`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: SlotName,
    /// Its value.
    pub value: SlotValue,
    /// The object's version when it was set.
    pub version: Version,
}

/// A slot that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedSlot {
    /// Its name.
    pub name: SlotName,
    /// The object's version when it was removed.
    pub version: Version,
}

/// How far an edge's requests were applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppliedRequests {
    /// Whose requests.
    pub edge: EdgeIncarnation,
    /// The last one. All up to it are done.
    pub number: u64,
}

/// Why a request was not applied, or an object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The client may not write it.
    #[error("no write access")]
    NoWriteAccess,
    /// The client may not read it.
    #[error("no read access")]
    NoReadAccess,
    /// It is temporary and was to be persistent, or the other way round.
    #[error("the object exists with the other persistence")]
    BadPersistence,
    /// More slots than an object may have.
    #[error("more than {maximum} slots")]
    TooManySlots {
        /// The limit.
        maximum: usize,
    },
    /// The name of a slot is too long.
    #[error("slot name of {length} bytes: expected at most {maximum}")]
    SlotNameTooLong {
        /// Its length.
        length: usize,
        /// The limit.
        maximum: usize,
    },
    /// A value, or what is sent, is too large.
    #[error("value of {length} bytes: expected at most {maximum}")]
    ValueTooLarge {
        /// Its length.
        length: usize,
        /// The limit.
        maximum: usize,
    },
    /// The object would become too large.
    #[error("object of {length} bytes: expected at most {maximum}")]
    ObjectTooLarge {
        /// The size it would have.
        length: usize,
        /// The limit.
        maximum: usize,
    },
    /// Too many requests of this edge wait for their answer: the owner is away or slow.
    #[error("too many requests wait for the owner of the object")]
    Busy,
    /// Anything else, as the owner says it: a status code, and a description for the log.
    #[error("{code}: {description}")]
    Other {
        /// Code of the status.
        code: Arc<str>,
        /// What it means, for people.
        description: Arc<str>,
    },
}

impl Refusal {
    /// The code of the status that the client gets. The first three are Adobe's, who knows no limits.
    pub fn code(&self) -> &str {
        match self {
            Self::NoWriteAccess => "SharedObject.NoWriteAccess",
            Self::NoReadAccess => "SharedObject.NoReadAccess",
            Self::BadPersistence => "SharedObject.BadPersistence",
            Self::TooManySlots { .. } => "SharedObject.TooManySlots",
            Self::SlotNameTooLong { .. } => "SharedObject.SlotNameTooLong",
            Self::ValueTooLarge { .. } => "SharedObject.ValueTooLarge",
            Self::ObjectTooLarge { .. } => "SharedObject.ObjectTooLarge",
            Self::Busy => "SharedObject.Busy",
            Self::Other { code, .. } => code,
        }
    }

    /// The refusal that another node has described.
    pub fn from_code(code: &str, description: &str) -> Self {
        match code {
            "SharedObject.NoWriteAccess" => Self::NoWriteAccess,
            "SharedObject.NoReadAccess" => Self::NoReadAccess,
            "SharedObject.BadPersistence" => Self::BadPersistence,
            _ => Self::Other {
                code: code.into(),
                description: description.into(),
            },
        }
    }
}
