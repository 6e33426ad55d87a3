//! Why a file is not to be had.

use std::io;

use headwater_media::file::FileError;
use object_store::path::Path;

/// Why there are no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreProblem {
    #[error("there is no such file")]
    NotFound,
    #[error("the store refuses: {0}")]
    Denied(String),
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

/// Why a file is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VodError {
    #[error("nothing is stored under this name")]
    NotFound,
    #[error("the file was replaced")]
    Replaced,
    #[error("{path}: {what}")]
    Invalid { path: Path, what: String },
    #[error("{path}: {what}")]
    Unsupported { path: Path, what: String },
    #[error("{0}")]
    Unavailable(String),
}

impl VodError {
    pub(super) fn of(error: FileError, path: &Path) -> Self {
        let path = path.clone();
        match error {
            FileError::Unsupported { what } => Self::Unsupported { path, what },
            FileError::Read(error) => match error.kind() {
                // A file that ends too early is as damaged as any.
                io::ErrorKind::UnexpectedEof => Self::Invalid {
                    path,
                    what: error.to_string(),
                },
                io::ErrorKind::StaleNetworkFileHandle | io::ErrorKind::NotFound => Self::Replaced,
                _ => Self::Unavailable(format!("{path}: {error}")),
            },
            invalid => Self::Invalid {
                path,
                what: invalid.to_string(),
            },
        }
    }
}

impl From<StoreProblem> for VodError {
    fn from(problem: StoreProblem) -> Self {
        match problem {
            StoreProblem::NotFound => Self::NotFound,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

pub(super) fn ended() -> VodError {
    VodError::Unavailable("reading was given up".to_owned())
}

pub(super) fn broken(error: &tokio::task::JoinError) -> VodError {
    if error.is_panic() {
        tracing::error!(%error, "reading a file panicked");
    }
    ended()
}
