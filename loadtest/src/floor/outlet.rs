//! Where a sender's frames go.

use std::fmt::Debug;

use super::SenderReport;
use crate::source::SourceFrame;

/// Puts frames together and sends them to whoever wants them.
pub(super) trait Outlet: Debug + Send {
    /// Puts a frame behind those that wait.
    fn add(&mut self, frame: &SourceFrame);

    /// Whether there was a video frame, a codec header not counting as one.
    fn has_video(&self) -> bool;

    /// Bytes that wait.
    fn pending(&self) -> usize;

    /// Sends what waits, at this time of the harness's clock.
    fn flush(&mut self, now: u64);

    /// Takes those who have come, up to a bound.
    fn accept(&mut self, report: &mut SenderReport);

    fn figures(&self) -> Figures;
}

/// What was done, from the start on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Calls of the system.
    pub(super) sends: u64,
    /// Datagrams, where there are any.
    pub(super) datagrams: u64,
    /// Calls that took less than there was, or nothing.
    pub(super) full: u64,
    pub(super) bytes: u64,
    /// Receivers that went.
    pub(super) left: u64,
    /// Receivers that were given up.
    pub(super) cut_off: u64,
}
