//! Why an archive cannot do what it was asked.

use std::error::Error;
use std::io;
use std::time::Duration;

use headwater_media::segment::SegmentError;
use object_store::path::Path;

/// What stores that count space say when there is none left, besides the operating system's own error.
const FULL_TEXTS: [&str; 4] = [
    "QuotaExceeded",
    "StorageFull",
    "InsufficientStorage",
    "507 Insufficient Storage",
];

/// Why an archive cannot do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ArchiveError {
    /// There is no such recording, or no longer.
    #[error("there is no such recording")]
    NotFound,
    /// Another owner goes on with the recording. For good: let go of it.
    #[error("{owner} goes on with the recording, in its term {term}")]
    Fenced {
        /// Node id of the other owner.
        owner: String,
        /// Its term.
        term: u64,
    },
    /// No space, or no more than the store's quota.
    #[error("no space is left: {0}")]
    Full(String),
    /// The store does not let us.
    #[error("access is denied: {0}")]
    Denied(String),
    /// The store does not answer, or cannot now. Whether what was asked for has been done is not known.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored does not make sense.
    #[error("{object}, byte {offset}: {what}")]
    Damaged {
        /// Which object or file.
        object: String,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// As much is held that is not stored yet as may be. Nothing is lost; what was not taken may come again later.
    #[error("{held} bytes wait for the store, at most {limit} may")]
    Behind {
        /// What waits.
        held: usize,
        /// What may wait.
        limit: usize,
    },
    /// The caller broke a rule.
    #[error("{0}")]
    Refused(&'static str),
    /// The recording is open for writing in this process.
    #[error("the recording is being written")]
    Open,
}

impl ArchiveError {
    pub(super) fn store(error: &object_store::Error) -> Self {
        let text = error.to_string();
        match error {
            object_store::Error::NotFound { .. } => Self::NotFound,
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => Self::Denied(text),
            _ => causes(error)
                .find_map(|cause| cause.downcast_ref::<io::Error>())
                .map(io::Error::kind)
                .map_or_else(
                    || {
                        if FULL_TEXTS.iter().any(|full| text.contains(full)) {
                            Self::Full(text.clone())
                        } else {
                            Self::Unavailable(text.clone())
                        }
                    },
                    |kind| Self::of_kind(kind, text.clone()),
                ),
        }
    }

    pub(super) fn file(error: &io::Error) -> Self {
        Self::of_kind(error.kind(), error.to_string())
    }

    pub(super) fn timeout(limit: Duration) -> Self {
        Self::Unavailable(format!("no answer within {limit:?}"))
    }

    pub(super) fn damaged(object: &Path, error: &SegmentError) -> Self {
        Self::Damaged {
            object: object.to_string(),
            offset: error.offset,
            what: error.what,
        }
    }

    fn of_kind(kind: io::ErrorKind, text: String) -> Self {
        match kind {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full(text),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied(text)
            }
            _ => Self::Unavailable(text),
        }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        (*error).source()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn Error + Send + Sync>>) -> object_store::Error {
        object_store::Error::Generic {
            store: "test",
            source: source.into(),
        }
    }

    #[test]
    fn errors_of_a_store_are_told_apart() {
        let io = |kind: io::ErrorKind| generic(io::Error::from(kind));
        for (error, expected) in [
            (io(io::ErrorKind::StorageFull), "full"),
            (io(io::ErrorKind::QuotaExceeded), "full"),
            (io(io::ErrorKind::ReadOnlyFilesystem), "denied"),
            (io(io::ErrorKind::PermissionDenied), "denied"),
            (io(io::ErrorKind::TimedOut), "unavailable"),
            (generic("<Code>XMinioStorageFull</Code>"), "full"),
            (generic("503 Slow Down"), "unavailable"),
            (
                object_store::Error::NotFound {
                    path: "a".into(),
                    source: "gone".into(),
                },
                "not found",
            ),
            (
                object_store::Error::Unauthenticated {
                    path: "a".into(),
                    source: "who".into(),
                },
                "denied",
            ),
        ] {
            let kind = match ArchiveError::store(&error) {
                ArchiveError::Full(_) => "full",
                ArchiveError::Denied(_) => "denied",
                ArchiveError::Unavailable(_) => "unavailable",
                ArchiveError::NotFound => "not found",
                _ => "another",
            };
            assert_eq!(kind, expected, "{error:?}");
        }
    }
}
