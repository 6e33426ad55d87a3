//! Why a recording ended before its publisher did.

use headwater_proto::v1::RecordState;

use crate::record::vault::{Cause, VaultError};

/// A reason, with what the log is told; for the publisher see [`Failure::told`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the store is too slow: {0} bytes wait for it")]
    TooSlow(usize),
    #[error("all recordings together hold as much in memory as they may")]
    Memory,
    #[error("frames {from} to {to} were gone before they could be stored")]
    Missed { from: u64, to: u64 },
    #[error("the disk is full")]
    DiskFull,
    #[error("less than {0} bytes are free on the disk")]
    LittleSpace(u64),
    #[error("the origin records as many streams as it may")]
    TooMany,
    #[error("the store failed: {0}")]
    Storage(String),
    #[error("another origin has the recording")]
    Fenced,
    #[error("no access: {0}")]
    NoAccess(String),
    #[error("the store gives no access: {0}")]
    Denied(String),
    #[error("the recording is as long as it may be, {0} ms")]
    Duration(u64),
    #[error("the recording is as large as it may be, {0} bytes")]
    Size(u64),
    #[error("the origin is stopping")]
    Stopping,
}

impl Failure {
    /// What the publisher is told of it.
    pub(crate) fn state(&self) -> RecordState {
        match self {
            Self::NoAccess(_) | Self::Denied(_) => RecordState::NoAccess,
            Self::Duration(_) | Self::Size(_) => RecordState::QuotaExceeded,
            _ => RecordState::Failed,
        }
    }

    /// What the publisher reads of it: not what a store says, which has paths and addresses in it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Storage(_) => "the store failed".to_owned(),
            Self::Denied(_) => "the store gives no access".to_owned(),
            _ => self.to_string(),
        }
    }

    /// For the metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::TooSlow(_) => "store_too_slow",
            Self::Memory => "memory",
            Self::Missed { .. } => "frames_missed",
            Self::DiskFull => "disk_full",
            Self::LittleSpace(_) => "little_space",
            Self::TooMany => "too_many",
            Self::Storage(_) => "store",
            Self::Fenced => "fenced",
            Self::NoAccess(_) | Self::Denied(_) => "no_access",
            Self::Duration(_) => "max_duration",
            Self::Size(_) => "max_size",
            Self::Stopping => "stopping",
        }
    }

    /// Whether it is a limit that the operator set for each recording, and nothing is wrong.
    pub(crate) fn is_quota(&self) -> bool {
        matches!(self, Self::Duration(_) | Self::Size(_))
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        match error.cause {
            Cause::Fenced => Self::Fenced,
            Cause::Full => Self::DiskFull,
            Cause::NoAccess => Self::Denied(error.text),
            Cause::NotFound | Cause::Corrupt | Cause::Unavailable => Self::Storage(error.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_are_not_told_where_a_store_is() {
        for (cause, state) in [
            (Cause::Unavailable, RecordState::Failed),
            (Cause::NoAccess, RecordState::NoAccess),
            (Cause::Full, RecordState::Failed),
        ] {
            let text = "cannot open /srv/data/show.flv".to_owned();
            let failure = Failure::from(VaultError { cause, text });
            assert_eq!(failure.state(), state);
            assert!(!failure.told().contains("/srv"), "{}", failure.told());
        }
        let why = Failure::NoAccess("another stream is recorded in the same file".to_owned());
        assert_eq!(why.told(), why.to_string());
    }
}
