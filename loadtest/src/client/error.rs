//! Why a client could not do what it was to do.

use std::io;
use std::time::Duration;

use headwater_rtmp::session::SessionError;
use headwater_rtmp::status::Status;

use super::TrustError;

/// Why a connection is over, or never came to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The name of the host means nothing here.
    #[error("cannot resolve {host}: {message}")]
    Resolve {
        /// The host.
        host: String,
        /// What the operating system said.
        message: String,
    },
    /// No TCP connection.
    #[error("cannot connect to {address}: {message}")]
    Connect {
        /// Host and port.
        address: String,
        /// What kind of failure: refused, unreachable, ...
        kind: io::ErrorKind,
        /// What the operating system said.
        message: String,
    },
    /// The TLS handshake failed.
    #[error("tls with {address}: {message}")]
    Tls {
        /// Host and port.
        address: String,
        /// What is wrong, as rustls tells it.
        message: String,
    },
    /// The certificates to believe cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// It took too long.
    #[error("{what} took longer than {after:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The server refused the connection.
    #[error("rejected: {code}: {description}{}", redirect.as_ref().map(|to| format!(" (redirect to {to})")).unwrap_or_default())]
    Rejected {
        /// `NetConnection.Connect.Rejected` as a rule.
        code: String,
        /// The server's words.
        description: String,
        /// Where the server sends the client instead.
        redirect: Option<String>,
    },
    /// The server refused to publish or to play.
    #[error("refused: {code}: {description}")]
    Refused {
        /// `NetStream.Publish.BadName`, `NetStream.Play.StreamNotFound`, ...
        code: String,
        /// The server's words.
        description: String,
    },
    /// The server sends everything but the answer to this command.
    #[error("the server does not answer {0}")]
    NoAnswer(&'static str),
    /// The protocol went wrong.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The socket failed.
    #[error("connection lost: {message}")]
    Io {
        /// What kind of failure.
        kind: io::ErrorKind,
        /// What the operating system said.
        message: String,
    },
    /// The server closed the connection.
    #[error("closed by the server")]
    Closed,
    /// What is to be published has come to an end or cannot be had.
    #[error("source: {0}")]
    Source(String),
}

impl ClientError {
    /// A failure of a socket that was connected.
    #[must_use]
    pub fn io(error: &io::Error) -> Self {
        match error.kind() {
            // rustls reports a TLS connection that ends without close_notify so.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            kind => Self::Io {
                kind,
                message: error.to_string(),
            },
        }
    }

    pub(crate) fn refused(status: Status) -> Self {
        Self::Refused {
            code: status.code.into_owned(),
            description: status.description,
        }
    }
}
