//! Flows: RFC 7016 section 3.6.
//!
//! A flow carries messages in one direction, cut into numbered fragments. [`FlowSet`] holds all flows of one session and is what a
//! session uses; its documentation says how. Inside, [`send`] has what one sending flow does and `receive` one receiving flow.

mod receive;
mod send;
mod set;
#[cfg(test)]
mod simulation;

pub use send::{Body, Head, MessageId, Outgoing};
pub use set::{Config, Counters, Event, FlowSet, Header, OpenError, Opening, SendError, SendState};

/// A flow that this end sends. Numbered from 1 in the order in which they are opened; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SendId(pub u64);

/// A flow that the far end sends. The number is the far end's choice and says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReceiveId(pub u64);

/// In which order messages of a receiving flow are handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// As they were sent; one that is late holds up those behind it.
    #[default]
    InOrder,
    /// As they become whole.
    Network,
}

/// Who goes first: while a flow of greater priority has something to send, none of a lesser one does. Flows of the same priority take
/// turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// What nobody waits for.
    pub const BULK: Self = Self(0);
    /// Data messages and shared objects.
    pub const DATA: Self = Self(1);
    /// Video.
    pub const VIDEO: Self = Self(2);
    /// Audio: little, and a hole in it is heard.
    pub const AUDIO: Self = Self(3);
    /// Commands and user control.
    pub const CONTROL: Self = Self(4);
}
