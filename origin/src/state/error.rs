//! What goes wrong with the state store.

use std::fmt;

use slatedb::{CloseReason, ErrorKind};
use thiserror::Error;

/// Why the state store did not do what it was asked to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum StateError {
    /// Another origin has taken the partition.
    #[error("another origin has taken the partition")]
    Fenced,
    /// The store does not answer, or refuses. It may do so later.
    #[error("the state store is not available: {reason}")]
    Unavailable {
        /// As the store has it.
        reason: String,
    },
    /// Too much was written that is not durable yet.
    #[error("too much was written that is not durable yet")]
    Busy,
    /// A key is empty, longer than [`Batch::MAX_KEY`](super::Batch::MAX_KEY) or reserved, a value too long, or there is more than was asked for.
    #[error("a row is too large, or there are too many")]
    TooLarge,
    /// The origin stops, or has let go of the partition.
    #[error("the state store is closed")]
    Closed,
    /// What is in the store is not what was written there.
    #[error("the state store is corrupt: {reason}")]
    Corrupt {
        /// As the database has it.
        reason: String,
    },
    /// The database has failed for good; opened anew, it may work.
    #[error("the state store failed: {reason}")]
    Failed {
        /// As the database has it.
        reason: String,
    },
}

impl StateError {
    pub(crate) fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable {
            reason: reason.to_string(),
        }
    }

    pub(crate) fn corrupt(reason: impl fmt::Display) -> Self {
        Self::Corrupt {
            reason: reason.to_string(),
        }
    }

    pub(super) fn of_close(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Fenced => Self::Fenced,
            CloseReason::Clean => Self::Closed,
            reason => Self::Failed {
                reason: format!("closed by itself: {reason:?}"),
            },
        }
    }
}

impl From<slatedb::Error> for StateError {
    fn from(error: slatedb::Error) -> Self {
        match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => Self::Fenced,
            ErrorKind::Closed(CloseReason::Clean) => Self::Closed,
            ErrorKind::Unavailable => Self::unavailable(error),
            ErrorKind::Data => Self::corrupt(error),
            _ => Self::Failed {
                reason: error.to_string(),
            },
        }
    }
}
