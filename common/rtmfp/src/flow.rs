//! Flows: RFC 7016 section 3.6.
//!
//! A flow carries messages in one direction, cut into numbered fragments. [`FlowSet`] holds all flows of one session:
//!
//! ```text
//! packet, decrypted   --> handle_packet   poll_transmit --> chunks for a packet, to be encrypted
//! application         --> open, send, abandon, close, reject, suspend, set_order
//!                         poll_event      --> application
//! the time            --> handle_timeout  poll_timeout  --> when to call it
//! ```
//!
//! After each call that changes something: take the events until there are none, then the packets until there are none, and then ask
//! for the next time. Answer each packet before the next is handled, or each pair: an acknowledgement that stands for many packets makes
//! the far end send in bursts, and its window grow slowly.
//!
//! # What a session does around it
//!
//! - *Packets.* A packet that passes decryption, and whose mode is right, goes to [`FlowSet::handle_packet`] with its header and all its
//!   chunks; those of flows are taken, the session looks at the others itself. [`FlowSet::poll_transmit`] makes chunks, with their types
//!   and lengths, and the [`Header`] before them. A packet without chunks of flows, a ping say, has the header of [`FlowSet::stamp`].
//! - *Size.* The space that is given is what a datagram holds less its session identifier, sequence number, checksum or HMAC, padding, and
//!   at most five bytes of the header. It may change from packet to packet; what was cut for larger ones goes out as it is.
//! - *Whether the far end is there.* [`FlowSet::unanswered_since`] says since when data wait for an acknowledgement. Pings are the
//!   session's; their pace follows [`RoundTrip::timeout`](crate::round_trip::RoundTrip::timeout).
//! - *Mobility.* When another address was verified, or the way is back after an outage, [`FlowSet::path_changed`] measures anew and sends
//!   again what was under way.
//! - *Other sessions.* What is time-critical in one slows the growth of the others: see [`FlowSet::time_critical`] and the two methods
//!   that note it of elsewhere.
//! - *The end.* When the session closes, drop the set.
//!
//! # What the application does with it
//!
//! - One flow for each kind of media of a stream, because priority is that of a flow: audio, video and data; commands have their own.
//! - A live frame is sent with the times by which it is worth something ([`Outgoing`]). When a key frame comes,
//!   [`FlowSet::abandon_before`] gives up what is older. Audio has no such times, and is never given up.
//! - The body of a message is shared: the same [`Bytes`](bytes::Bytes) go to all sessions, and are copied only into packets.
//! - A slow viewer shows in [`FlowSet::send_state`]. [`SendError::Full`] is the last resort: close the session then.
//! - A flow that is [suspended](FlowSet::suspend) fills its window, and then its sender waits.
//!
//! # Where this differs from the letter
//!
//! Fragments get their numbers when they are sent, not when messages are queued: what is abandoned before is one empty fragment. After the
//! burst of section 3.5.2.3 packets leave at the rate of congestion control; where that has none, the burst grows by the packets that an
//! acknowledgement stands for. While there is audio, the last segment of the window is kept for it, and it goes before its time. The message
//! that is being put together does not count against the window, but has a bound of its own, so that a large one is not sent by one block
//! in each round trip.
//!
//! What was passed over counts as lost not only after three acknowledgements, but when something came that was sent an eighth of a round
//! trip later. An acknowledgement that can only be for an earlier transmission passes over nothing. Where all that was sent last was lost,
//! the oldest and the newest of it are sent again before the timeout. The timeout of what is time-critical grows to a second and no further. The receiver
//! acknowledges at once not only a hole, but its end.

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
