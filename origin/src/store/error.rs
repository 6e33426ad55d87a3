//! Why a store cannot be used, and why something cannot be read from it.

use std::io;
use std::path::PathBuf;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A folder is not there and cannot be made.
    #[error("the folder {} cannot be made", path.display())]
    Create {
        /// The key that names the folder.
        key: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it cannot be written.
    #[error("the folder {} cannot be written to", path.display())]
    Write {
        /// The key that names the folder.
        key: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the cache.
    #[error("the folder {} is in use by another process", path.display())]
    CacheInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The section says what cannot be.
    #[error("{message}")]
    Section {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The store answers, and refuses to let us write.
    #[error("the store refuses")]
    Refused(#[source] object_store::Error),
    /// The store overwrites what must only be created once.
    #[error(
        "the store cannot create an object only where none is, so two origins could record over each other"
    )]
    NotConditional,
    /// What was recorded and is not in the store yet cannot be read, or written.
    #[error("the journal in {} cannot be used", path.display())]
    Journal {
        /// Its folder, in the data folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What reading needs of the operating system is not to be had.
    #[error("reading cannot be set up")]
    Setup(#[source] io::Error),
}

impl StoreError {
    /// The key of the configuration that has to do with it.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Create { key, .. } | Self::Write { key, .. } => format!("origin.{key}"),
            Self::Section { key, .. } => format!("origin.storage.{key}"),
            Self::CacheInUse { .. } => "origin.storage.cache_dir".to_owned(),
            Self::Journal { .. } => "origin.data_dir".to_owned(),
            Self::Refused(_) | Self::NotConditional | Self::Setup(_) => {
                "origin.storage.url".to_owned()
            }
        }
    }
}

/// Why something cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Nothing is there.
    #[error("not found")]
    NotFound,
    /// It is there, and not for us: no permission, a link, no regular file.
    #[error("denied: {0}")]
    Denied(String),
    /// It is no longer what was opened. It may be opened again.
    #[error("replaced, cut or deleted while it was open")]
    Replaced,
    /// The store is slow, refuses or vanished. It may be there.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ReadError {
    pub(super) fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }
}

/// What [`ReadAt::read_at`] of an [`Opened`] means for the one who asked.
impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied(error.to_string()),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::NotFound
            | io::ErrorKind::StaleNetworkFileHandle => Self::Replaced,
            _ => Self::unavailable(error),
        }
    }
}
