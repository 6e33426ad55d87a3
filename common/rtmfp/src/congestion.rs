//! How much may be under way, and how fast it is sent: RFC 7016 section 3.5.2.
//!
//! The specification leaves the algorithm open, as long as it is no more aggressive over time than TCP, and asks sessions to give way to
//! what is time-critical in others. Here are two, see [`Algorithm`]; another one is another [`Congestion`].

mod delivery;
pub mod modelled;
mod windowed;

use std::fmt;
use std::time::Duration;

pub use self::delivery::{Delivery, Mark, Sample};
pub use self::modelled::Modelled;
pub use self::windowed::Windowed;

/// What a received packet, in which there were acknowledgements, means for the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    /// When it came.
    pub now: Duration,
    /// Bytes that came to the far end.
    pub acknowledged: usize,
    /// Bytes that count as lost since this packet.
    pub lost: usize,
    /// Whether something was passed over.
    pub negative: bool,
    /// Bytes that were under way before.
    pub outstanding: usize,
    /// Whether they were as many as might be: who does not use the window learns nothing about it.
    pub full: bool,
    /// What the latest of what came says about the way.
    pub sample: Option<Sample>,
    /// Time-critical data were sent in this session a short while ago.
    pub time_critical: bool,
    /// Neither does the far end receive time-critical data from elsewhere, nor is any sent from here: growth may be fast.
    pub fast: bool,
}

impl Feedback {
    /// Whether this session has to give way to what is time-critical in others (section 3.5.2.1).
    #[must_use]
    pub fn gives_way(&self) -> bool {
        !self.fast && !self.time_critical
    }
}

/// Decides how many bytes may be under way.
pub trait Congestion: fmt::Debug + Send {
    /// Bytes that may be under way; more may be sent while fewer are.
    fn window(&self) -> usize;

    /// Bytes each second at which packets leave, where they are paced. Without a rate only the burst is bounded.
    fn rate(&self) -> Option<u64> {
        None
    }

    /// A packet with acknowledgements came.
    fn acknowledged(&mut self, feedback: &Feedback);

    /// No acknowledgement came in time; `loss` where something was under way.
    fn timed_out(&mut self, loss: bool);

    /// The way has changed: begin anew.
    fn path_changed(&mut self);
}

/// Which algorithm it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Sends as fast as packets were seen to arrive, and keeps as much under way as fits into the way itself: [`Modelled`].
    #[default]
    Model,
    /// That of appendix A.2, which takes each loss for congestion: [`Windowed`].
    Window,
}

impl Algorithm {
    /// One for packets of so many bytes.
    #[must_use]
    pub fn begin(self, segment: usize) -> Box<dyn Congestion> {
        match self {
            Self::Model => Box::new(Modelled::new(segment)),
            Self::Window => Box::new(Windowed::new(segment)),
        }
    }
}

/// A window that never changes.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fixed(pub(crate) usize);

#[cfg(test)]
impl Congestion for Fixed {
    fn window(&self) -> usize {
        self.0
    }

    fn acknowledged(&mut self, _feedback: &Feedback) {}

    fn timed_out(&mut self, _loss: bool) {}

    fn path_changed(&mut self) {}
}
