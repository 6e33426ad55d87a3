//! Publishers and viewers that record every frame with its digest and its time, on the client role of `headwater-rtmp`.
//!
//! They run on the tests' own runtime; the test asks and waits from outside. Time is measured from one moment for all of a
//! process, so that a stamp of the publisher can be compared with an arrival at a viewer.

mod connection;
mod publisher;
mod viewer;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use headwater_media::frame::FrameKind;

pub(crate) use connection::{ClientError, Connection, Wishes};
pub(crate) use publisher::{Publisher, Sent, message, sent, stamp};
pub(crate) use viewer::{Received, Viewer};

use super::media::Hash;

/// Time since the first question for it.
pub(crate) fn clock() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// What makes a frame this frame and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameId {
    pub(crate) kind: FrameKind,
    /// Its number among those of its kind.
    pub(crate) number: u64,
    pub(crate) hash: Hash,
}
