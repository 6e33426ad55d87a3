//! Fragments under way, and what happens to them.

use super::message::MessageId;
use crate::wire::user_data::Part;

/// A fragment that is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(in crate::flow) struct Fragment {
    /// Whose fragment it is; none for one without data, which stands for a gap or for the end.
    pub(in crate::flow) message: Option<MessageId>,
    pub(in crate::flow) offset: u32,
    pub(in crate::flow) length: u16,
    pub(in crate::flow) part: Part,
    pub(in crate::flow) acknowledged: bool,
    pub(in crate::flow) in_flight: bool,
    /// It was sent more than once.
    pub(in crate::flow) again: bool,
    /// It was abandoned when it was sent last.
    pub(in crate::flow) sent_abandoned: bool,
    pub(in crate::flow) negative: u8,
    /// What it took in its packet.
    pub(in crate::flow) size: u16,
    /// Number of its last transmission in the session.
    pub(in crate::flow) transmission: u64,
}

/// What goes into a packet, from flow to flow.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::flow) struct Assembling {
    /// Number of the packet in the session, from 1.
    pub(in crate::flow) packet: u64,
    /// Flow, sequence number and forward number of the chunk before.
    pub(in crate::flow) previous: Option<(u64, u64, u64)>,
}

/// A fragment that was put into a packet.
#[derive(Clone, Copy, Debug)]
pub(in crate::flow) struct Put {
    pub(in crate::flow) sequence: u64,
    pub(in crate::flow) size: usize,
    /// It was sent before.
    pub(in crate::flow) again: bool,
}

/// What an acknowledgement changed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::flow) struct Acknowledged {
    /// Bytes that are not in flight any more.
    pub(in crate::flow) bytes: usize,
    /// The latest transmission that came.
    pub(in crate::flow) transmission: Option<u64>,
}

/// What being passed over means for a transmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::flow) enum Negative {
    /// It is not under way any more.
    Stale,
    /// It may still come.
    Waiting,
    /// It counts as lost, with so many bytes.
    Lost(usize),
}
