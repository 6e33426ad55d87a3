//! A client that uses an object: its place in the log, its dialect and its encoding.

use bytes::Bytes;

use crate::object::{ClientId, Persistence, Version};
use crate::wire::{Encoding, Flags};

/// How a client's own changes are confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Flash Player's: the client has changed its copy already, and is told the names of the slots (event 5).
    #[default]
    Player,
    /// That of proxies and of clients that follow them: the client waits for the value to come back (event 13).
    Proxy,
}

impl Dialect {
    /// That of a client that sends these flags.
    pub const fn of(flags: Flags) -> Self {
        if flags.has(Flags::PROXY) {
            Self::Proxy
        } else {
            Self::Player
        }
    }

    /// The flags of a status that refuses the Use of an object ([`crate::wire::status`]) to a client that sends these flags.
    pub const fn status_flags(flags: Flags) -> Flags {
        match Self::of(flags) {
            Self::Player => Flags(flags.0 & Flags::PERSISTENT),
            Self::Proxy => Flags(Flags::PROXY | Flags::OTHERS),
        }
    }

    /// The persistence that such a client means with these flags; `None`: it does not say.
    pub const fn persistence(flags: Flags) -> Option<Persistence> {
        if flags.has(Flags::PERSISTENT) {
            Some(Persistence::Persistent)
        } else if flags.has(Flags::PROXY) {
            None
        } else {
            Some(Persistence::Temporary)
        }
    }
}

/// A client's place in the log of a mirror. All that an edge keeps for a client of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) client: ClientId,
    /// The entry that it gets next.
    pub(crate) position: u64,
    /// Who says an older version has not read the answer to its Use.
    pub(crate) admitted: Version,
    /// Its requests whose confirmation or refusal it has not got.
    pub(crate) owed: u32,
    pub(crate) dialect: Dialect,
    pub(crate) encoding: Encoding,
}

impl Cursor {
    /// Whose it is.
    pub const fn client(&self) -> ClientId {
        self.client
    }

    /// How its own changes are confirmed.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The type of its messages.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }
}

/// What there is for a client: bodies of messages of its encoding's type.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Served {
    /// It has everything.
    Nothing,
    /// One message. Clients that get the same share its memory.
    One(Bytes),
    /// Several, in order: what there is would be too much for one.
    Several(Vec<Bytes>),
    /// It was so far behind that what may not be left out was dropped: a message sent over the object, or an answer to a request of its
    /// own. The connection has to be closed.
    Lost,
}
