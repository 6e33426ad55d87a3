//! What can be had without a server: floors to compare servers with.
//!
//! - [`Floor`]: the same frames through one bare TCP connection, beside a server, for latency.
//! - [`Sender`]: the same stream to any number of sockets by the cheapest program that can be, for the cost of sending itself. What a
//!   server uses above it is the server's own; below it no server can be that sends as often ([`Flush`]). Over TCP all get the same
//!   bytes; over UDP each gets the packets of a session of RTMFP, encrypted for it ([`FloorProtocol`]).
//!
//! Timers, scheduling and the kernel's own way are in the floors as they are in the servers.

mod crowd;
mod flush;
pub(crate) mod hello;
mod log;
mod outlet;
mod packer;
mod packets;
mod pair;
mod report;
mod sealed;
mod sender;

use std::io;
use std::net::SocketAddr;

use headwater_media::synthetic::SettingsError;

pub use flush::{Flush, FlushError, MAX_INTERVAL};
pub use log::{LOG_BYTES, LOG_TIME};
pub use packer::CHUNK_SIZE;
pub use pair::Floor;
pub use report::SenderReport;
pub use sender::{FloorProtocol, Sender, SenderOptions};

/// Why there is no floor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// No pair of connected sockets.
    #[error("cannot connect a socket pair on the loopback: {0}")]
    Socket(#[from] io::Error),
    /// Nowhere to be reached.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A synthetic stream that there cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}
